package sentencepiece

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"

	"edged/plugins/tokenizer-bpe/bpe/vocab"
)

// Model holds the contents of a SentencePiece model file. Texts, Scores and Types have an entry for each piece.
type Model struct {
	Texts        []string
	Scores       []float32
	Types        []vocab.Type
	IsBPE        bool // else it is a unigram model
	ByteFallback bool // byte_fallback: characters without a piece are written as bytes
	UnknownID    int64
	BOSID, EOSID int64
	UnknownPiece string // what the unknown piece is written as
	Charsmap     []byte // precompiled_charsmap: see package normalize
	AddPrefix    bool   // add_dummy_prefix
	Squeeze      bool   // remove_extra_whitespaces
	Escape       bool   // escape_whitespaces
}

// MaxPiece bounds a piece, whose parts are all looked for when merges are made.
const MaxPiece = 1024

// Parse reads a model file. Pieces that are not valid UTF-8, have more than MaxPiece bytes or a score that is
// no number are errors.
func Parse(data []byte) (*Model, error) {
	m := &Model{BOSID: 1, EOSID: 2, UnknownPiece: "<unk>", AddPrefix: true, Squeeze: true, Escape: true}
	err := eachField(data, func(n protowire.Number, v uint64, b []byte) error {
		switch n {
		case 1:
			return m.piece(b)
		case 2:
			return eachField(b, m.trainer)
		case 3:
			return eachField(b, m.normalizer)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if len(m.Texts) == 0 {
		return nil, errors.New("it is no SentencePiece model: it has no pieces")
	}
	return m, nil
}

// eachField calls f with every field of a message: v of numbers, b of bytes.
func eachField(data []byte, f func(n protowire.Number, v uint64, b []byte) error) error {
	bad := errors.New("it is no SentencePiece model")
	for len(data) > 0 {
		n, t, size := protowire.ConsumeTag(data)
		if size < 0 {
			return bad
		}
		data = data[size:]
		var v uint64
		var b []byte
		switch t {
		case protowire.VarintType:
			v, size = protowire.ConsumeVarint(data)
		case protowire.Fixed32Type:
			var x uint32
			x, size = protowire.ConsumeFixed32(data)
			v = uint64(x)
		case protowire.Fixed64Type:
			v, size = protowire.ConsumeFixed64(data)
		case protowire.BytesType:
			b, size = protowire.ConsumeBytes(data)
		default:
			return bad
		}
		if size < 0 {
			return bad
		}
		data = data[size:]
		if err := f(n, v, b); err != nil {
			return err
		}
	}
	return nil
}

func (m *Model) piece(data []byte) error {
	text, score, k := "", float32(0), vocab.Normal
	err := eachField(data, func(n protowire.Number, v uint64, b []byte) error {
		switch n {
		case 1:
			text = string(b)
		case 2:
			score = math.Float32frombits(uint32(v))
		case 3:
			if v >= 1 && v <= 6 {
				k = [...]vocab.Type{0, vocab.Normal, vocab.Unknown, vocab.Control, vocab.UserDefined, vocab.Unused, vocab.Byte}[v]
			}
		}
		return nil
	})
	switch {
	case err != nil:
		return err
	case len(m.Texts) >= vocab.MaxTokens:
		return fmt.Errorf("it has more than the %d pieces that are supported", vocab.MaxTokens)
	case len(text) > MaxPiece:
		return fmt.Errorf("piece %d has %d bytes: at most %d are supported", len(m.Texts), len(text), MaxPiece)
	case !utf8.ValidString(text):
		return fmt.Errorf("piece %d is not valid UTF-8", len(m.Texts))
	case math.IsNaN(float64(score)) || math.IsInf(float64(score), 0):
		return fmt.Errorf("piece %d has a score that is no number", len(m.Texts))
	}
	m.Texts, m.Scores, m.Types = append(m.Texts, text), append(m.Scores, score), append(m.Types, k)
	return nil
}

func (m *Model) trainer(n protowire.Number, v uint64, b []byte) error {
	switch n {
	case 3:
		switch v {
		case 1:
		case 2:
			m.IsBPE = true
		default:
			return errors.New("its model is neither unigram nor BPE")
		}
	case 35:
		m.ByteFallback = v != 0
	case 40:
		m.UnknownID = int64(int32(v))
	case 41:
		m.BOSID = int64(int32(v))
	case 42:
		m.EOSID = int64(int32(v))
	case 45:
		m.UnknownPiece = string(b)
	}
	return nil
}

func (m *Model) normalizer(n protowire.Number, v uint64, b []byte) error {
	switch n {
	case 2:
		m.Charsmap = b
	case 3:
		m.AddPrefix = v != 0
	case 4:
		m.Squeeze = v != 0
	case 5:
		m.Escape = v != 0
	}
	return nil
}

// Merges are the merges of a BPE model: each pair of pieces that joined are a piece, in the order of less.
// Only pieces for which may is true take part.
func (m *Model) Merges(may func(id int) bool, less func(a, b Merge) int) ([][2]string, error) {
	ids := map[string]int{}
	for id, s := range m.Texts {
		if may(id) {
			ids[s] = id
		}
	}
	var list []Merge
	for id, s := range m.Texts {
		if !may(id) || ids[s] != id {
			continue
		}
		for i := range s {
			if i == 0 {
				continue
			}
			l, ok := ids[s[:i]]
			r, ok2 := ids[s[i:]]
			if ok && ok2 {
				list = append(list, Merge{Whole: id, Left: l, Right: r})
			}
			if len(list) > vocab.MaxMerges {
				return nil, fmt.Errorf("its pieces have more than the %d merges that are supported", vocab.MaxMerges)
			}
		}
	}
	slices.SortStableFunc(list, less)
	out := make([][2]string, len(list))
	for i, x := range list {
		out[i] = [2]string{m.Texts[x.Left], m.Texts[x.Right]}
	}
	return out, nil
}

// Merge is a piece and the two that it consists of, by id.
type Merge struct{ Whole, Left, Right int }
