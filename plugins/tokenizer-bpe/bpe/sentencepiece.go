package bpe

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
)

// spmModel is a SentencePiece model file: a protobuf message with these fields.
//
//	1  pieces, each: 1 text, 2 score (float), 3 type (1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte)
//	2  trainer: 3 kind of model (1 unigram, 2 BPE), 35 byte fallback, 40 to 42 ids of unknown, BOS, EOS, 45 to 47 their texts
//	3  normalizer: 2 character map, 3 a blank before the text, 4 runs of spaces are one, 5 spaces become blanks
//
// Source: https://github.com/google/sentencepiece, src/sentencepiece_model.proto.
type spmModel struct {
	text     []string
	score    []float32
	kind     []kind
	bpe      bool
	fallback bool
	unknown  int64
	bos, eos int64
	unkPiece string
	charsmap []byte
	prefix   bool // add_dummy_prefix
	squeeze  bool // remove_extra_whitespaces
	escape   bool // escape_whitespaces
}

// maxSpmPiece bounds a piece, whose parts are all looked for when merges are made.
const maxSpmPiece = 1024

func parseSentencePiece(data []byte) (*spmModel, error) {
	m := &spmModel{bos: 1, eos: 2, unkPiece: "<unk>", prefix: true, squeeze: true, escape: true}
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
	if len(m.text) == 0 {
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

func (m *spmModel) piece(data []byte) error {
	text, score, k := "", float32(0), normal
	err := eachField(data, func(n protowire.Number, v uint64, b []byte) error {
		switch n {
		case 1:
			text = string(b)
		case 2:
			score = math.Float32frombits(uint32(v))
		case 3:
			if v >= 1 && v <= 6 {
				k = [...]kind{0, normal, unknown, control, userDefined, unused, byteToken}[v]
			}
		}
		return nil
	})
	switch {
	case err != nil:
		return err
	case len(m.text) >= maxTokens:
		return fmt.Errorf("it has more than the %d pieces that are supported", maxTokens)
	case len(text) > maxSpmPiece:
		return fmt.Errorf("piece %d has %d bytes: at most %d are supported", len(m.text), len(text), maxSpmPiece)
	case !utf8.ValidString(text):
		return fmt.Errorf("piece %d is not valid UTF-8", len(m.text))
	case math.IsNaN(float64(score)) || math.IsInf(float64(score), 0):
		return fmt.Errorf("piece %d has a score that is no number", len(m.text))
	}
	m.text, m.score, m.kind = append(m.text, text), append(m.score, score), append(m.kind, k)
	return nil
}

func (m *spmModel) trainer(n protowire.Number, v uint64, b []byte) error {
	switch n {
	case 3:
		switch v {
		case 1:
		case 2:
			m.bpe = true
		default:
			return errors.New("its model is neither unigram nor BPE")
		}
	case 35:
		m.fallback = v != 0
	case 40:
		m.unknown = int64(int32(v))
	case 41:
		m.bos = int64(int32(v))
	case 42:
		m.eos = int64(int32(v))
	case 45:
		m.unkPiece = string(b)
	}
	return nil
}

func (m *spmModel) normalizer(n protowire.Number, v uint64, b []byte) error {
	switch n {
	case 2:
		m.charsmap = b
	case 3:
		m.prefix = v != 0
	case 4:
		m.squeeze = v != 0
	case 5:
		m.escape = v != 0
	}
	return nil
}

// precompiledJSON is the character map as a tokenizer.json has it; nil: there is none.
func (m *spmModel) precompiledJSON() any {
	if len(m.charsmap) == 0 {
		return nil
	}
	return object{"type": "Precompiled", "precompiled_charsmap": base64.StdEncoding.EncodeToString(m.charsmap)}
}

// merges makes the merges of a BPE model: each piece of two pieces. rank orders them; only pieces that may says true of
// take part.
func (m *spmModel) merges(may func(id int) bool, less func(a, b spmMerge) int) ([][2]string, error) {
	ids := map[string]int{}
	for id, s := range m.text {
		if may(id) {
			ids[s] = id
		}
	}
	var list []spmMerge
	for id, s := range m.text {
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
				list = append(list, spmMerge{whole: id, left: l, right: r})
			}
			if len(list) > maxMerges {
				return nil, fmt.Errorf("its pieces have more than the %d merges that are supported", maxMerges)
			}
		}
	}
	slices.SortStableFunc(list, less)
	out := make([][2]string, len(list))
	for i, x := range list {
		out[i] = [2]string{m.text[x.left], m.text[x.right]}
	}
	return out, nil
}

// spmMerge is a piece and two pieces that it consists of.
type spmMerge struct{ whole, left, right int }

// file puts the model into the form of a tokenizer.json, as transformers 5.24 does: for a class that builds its own parts
// the vocabulary only, in that class's order; without a class all of it.
func (m *spmModel) file(c *folderConfig, spec *classSpec, class string) (*hfFile, error) {
	f := &hfFile{}
	if spec != nil && (spec.model == "BPE") != m.bpe {
		return nil, fmt.Errorf("%s is a class for a %s model, and the SentencePiece model is another", class, spec.model)
	}
	text, score := slices.Clone(m.text), make([]float64, len(m.text))
	for i, s := range m.score {
		score[i] = float64(s)
	}
	if spec != nil {
		var err error
		if text, score, err = m.arranged(c, spec, class, text, score); err != nil {
			return nil, err
		}
		if f.Normalizer, err = json.Marshal(m.precompiledJSON()); err != nil {
			return nil, err
		}
	}
	f.Model = hfModel{Type: "Unigram", Vocab: hfVocab{list: !m.bpe, text: text, score: score, n: len(text)}}
	if m.bpe {
		if err := m.bpeFile(f, spec); err != nil {
			return nil, err
		}
	} else {
		f.Model.UnknownID = &m.unknown
	}
	// Control and user-defined pieces are added tokens.
	var extra []hfAdded
	for id, k := range m.kind {
		if k == control || k == userDefined && spec != nil { // without a class those are cut out as words
			extra = append(extra, hfAdded{Content: m.text[id], Special: k == control})
		}
	}
	switch class {
	case "T5Tokenizer", "LasrTokenizer", "VideoPrismTokenizer", "CodeLlamaTokenizer":
		for _, s := range spec.extra(c) {
			extra = append(extra, hfAdded{Content: s, Special: true})
		}
	}
	if len(c.extra) == 0 {
		c.extra = extra
	}
	if spec == nil {
		return f, m.plainParts(f, c)
	}
	return f, nil
}

// bpeFile sets the merges.
func (m *spmModel) bpeFile(f *hfFile, spec *classSpec) error {
	f.Model.Type = "BPE"
	count := func(id int) int { return utf8.RuneCountInString(m.text[id]) }
	may := func(int) bool { return true }
	less := func(a, b spmMerge) int {
		return cmp.Or(cmp.Compare(a.whole, b.whole), cmp.Compare(count(a.left), count(b.left)))
	}
	if spec == nil {
		may = func(id int) bool { return m.kind[id] == normal }
		less = func(a, b spmMerge) int {
			return cmp.Or(cmp.Compare(m.score[b.whole], m.score[a.whole]), cmp.Compare(a.whole, b.whole),
				cmp.Compare(m.text[a.left], m.text[b.left]), cmp.Compare(m.text[a.right], m.text[b.right]))
		}
	}
	var err error
	f.Model.Merges.pairs, err = m.merges(may, less)
	f.Model.Unknown, f.Model.FuseUnknown, f.Model.ByteFallback = &m.unkPiece, true, m.fallback
	f.Model.IgnoreMerges = slices.Contains(m.kind, userDefined)
	return err
}

// arranged puts the pieces in the order of a class's ids.
func (m *spmModel) arranged(c *folderConfig, spec *classSpec, class string, text []string, score []float64) ([]string, []float64, error) {
	at := func(first []string, skip int, last ...string) ([]string, []float64, error) {
		if len(text) < skip {
			return nil, nil, fmt.Errorf("it has %d pieces, which is too few for %s", len(text), class)
		}
		t := append(slices.Clone(first), text[skip:]...)
		s := append(make([]float64, len(first)), score[skip:]...)
		return append(t, last...), append(s, make([]float64, len(last))...), nil
	}
	word := func(name string) string { return c.tokenText(name, spec) }
	switch class {
	case "XLMRobertaTokenizer":
		return at([]string{word("bos_token"), word("pad_token"), word("eos_token"), word("unk_token")}, 3, word("mask_token"))
	case "CamembertTokenizer":
		t, s, err := at([]string{"<s>NOTUSED", word("pad_token"), "</s>NOTUSED", word("unk_token"), "<unk>NOTUSED"}, 1, word("mask_token"))
		if err == nil {
			s[4] = -100
		}
		return t, s, err
	case "T5Tokenizer", "VideoPrismTokenizer":
		list := sentinels(c)
		slices.Reverse(list)
		return at(nil, 0, list...)
	case "NllbTokenizer":
		t := []string{word("bos_token"), word("pad_token"), word("eos_token"), word("unk_token")}
		for _, s := range text {
			if !slices.Contains(t[:4], s) {
				t = append(t, s)
			}
		}
		return t, make([]float64, len(t)), nil
	case "MBartTokenizer", "MBart50Tokenizer", "PegasusTokenizer":
		return nil, nil, fmt.Errorf("%s arranges its pieces anew: the folder needs a tokenizer.json, which transformers' save_pretrained writes", class)
	}
	return text, score, nil
}

// plainParts are the parts of a folder without a class of its own: what the model file itself says.
func (m *spmModel) plainParts(f *hfFile, c *folderConfig) error {
	legacy := c.flag("legacy", true)
	var norms []any
	if p := m.precompiledJSON(); p != nil {
		norms = append(norms, p)
	}
	if m.squeeze {
		norms = append(norms, replacePattern(`\A +| +\z`, ""), replacePattern(" {2,}", " "))
	}
	if m.escape {
		norms = append(norms, replaceText(" ", blank))
	}
	scheme := "first"
	if legacy {
		scheme = "always"
		if m.prefix {
			norms = append(norms, replacePattern(`\A`+blank, blank+blank))
		}
	}
	var pres []any
	if m.prefix {
		pres = append(pres, metaspace(scheme, false))
	}
	var defined []string
	for id, k := range m.kind {
		if k == userDefined && m.text[id] != "" {
			defined = append(defined, m.text[id])
		}
	}
	if len(defined) > 0 {
		slices.SortStableFunc(defined, func(a, b string) int { return utf8.RuneCountInString(b) - utf8.RuneCountInString(a) })
		for i, s := range defined {
			defined[i] = regexp.QuoteMeta(s)
		}
		pres = append(pres, object{"type": "Split", "pattern": object{"Regex": strings.Join(defined, "|")}, "behavior": "Isolated", "invert": false})
	}
	steps := []any{replaceText(blank, " ")}
	if m.fallback {
		steps = append(steps, ofType("ByteFallback"))
	}
	if m.prefix {
		steps = append(steps, ofType("Fuse"), object{"type": "Strip", "content": " ", "start": 1, "stop": 0})
	} else if m.fallback {
		steps = append(steps, ofType("Fuse"))
	}
	f.Model.ByteFallback = m.fallback
	for _, part := range []struct {
		to  *json.RawMessage
		own any
	}{{&f.Normalizer, normalizers(norms...)}, {&f.PreTokenizer, preTokenizers(pres...)}, {&f.Decoder, decoders(steps...)}} {
		raw, err := json.Marshal(part.own)
		if err != nil {
			return err
		}
		*part.to = raw
	}
	for name, id := range map[string]int64{"bos_token": m.bos, "eos_token": m.eos, "unk_token": m.unknown} {
		if _, given := c.tokens[name]; !given && id >= 0 && id < int64(len(m.text)) {
			c.tokens[name] = &hfAdded{Content: m.text[id], Special: true}
		}
	}
	return nil
}
