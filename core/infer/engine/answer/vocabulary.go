package answer

import (
	"fmt"
	"slices"

	"edged/core/infer/grammar/gbnf"
	"edged/core/protocol"
	"edged/core/protocol/backend"
)

// Vocabulary is how tokens are written, which of them are never text, and which end a generation. It is
// immutable, but for what was found out for grammars and thoughts, which has locks of its own. Pieces stand
// in one string of bytes: 152k slices would cost 4 MB of heap for 1 MB of text.
type Vocabulary struct {
	blob     []byte
	ends     []uint32 // (pieces) end of each piece in blob
	control  []uint64 // bitset: pieces that are never text
	eog      []int32  // sorted
	limit    int      // ids from here on are never sampled
	grammars grammars
	masks    masks
}

// NewVocabulary packs v for a model with that many embedding rows; ids from the smaller of both numbers on
// are never drawn. extra are end-of-generation ids that the model's own files name: some name <|eot_id|> in
// generation_config.json only.
func NewVocabulary(v backend.Vocabulary, rows int, extra []int32) (*Vocabulary, error) {
	if len(v.Pieces) == 0 {
		return nil, fmt.Errorf("engine: vocabulary: %w: it holds no pieces", protocol.ErrInvalid)
	}
	if len(v.Control) != 0 && len(v.Control) != len(v.Pieces) {
		return nil, fmt.Errorf("engine: vocabulary: %w: %d control flags for %d pieces", protocol.ErrInvalid, len(v.Control), len(v.Pieces))
	}
	size := 0
	for _, p := range v.Pieces {
		size += len(p)
	}
	if size > 1<<30 {
		return nil, fmt.Errorf("engine: vocabulary: %w: pieces of %d bytes", protocol.ErrInvalid, size)
	}
	out := &Vocabulary{
		blob:    make([]byte, 0, size),
		ends:    make([]uint32, len(v.Pieces)),
		control: make([]uint64, (len(v.Pieces)+63)/64),
		limit:   min(len(v.Pieces), rows),
	}
	for i, p := range v.Pieces {
		out.blob = append(out.blob, p...)
		out.ends[i] = uint32(len(out.blob))
		if len(v.Control) > 0 && v.Control[i] {
			out.control[i>>6] |= 1 << (i & 63)
		}
	}
	for _, id := range slices.Concat(v.EOG, extra) {
		if id >= 0 {
			out.eog = append(out.eog, id)
		}
	}
	slices.Sort(out.eog)
	out.eog = slices.Compact(out.eog)
	return out, nil
}

// piece is the text of a token: none for control tokens and for ids without a piece.
func (v *Vocabulary) piece(id int32) []byte {
	if v.isControl(id) {
		return nil
	}
	return v.raw(id)
}

// Written is a token as grammars know it: a control token is no text, and has a name there.
func (v *Vocabulary) Written(id int32) []byte {
	if v.isControl(id) {
		return gbnf.TokenPiece(v.raw(id))
	}
	return v.raw(id)
}

// isControl reports whether a token is never text.
func (v *Vocabulary) isControl(id int32) bool {
	return id >= 0 && int(id) < len(v.ends) && v.control[id>>6]>>(uint(id)&63)&1 != 0
}

// raw is how a token is written, also one that is never text.
func (v *Vocabulary) raw(id int32) []byte {
	if id < 0 || int(id) >= len(v.ends) {
		return nil
	}
	lo := uint32(0)
	if id > 0 {
		lo = v.ends[id-1]
	}
	return v.blob[lo:v.ends[id]]
}

// IsEOG reports whether a token ends the generation.
func (v *Vocabulary) IsEOG(id int32) bool {
	_, found := slices.BinarySearch(v.eog, id)
	return found
}

// Limit is the number of ids that may be drawn: those from it on have no piece, or no row of logits.
func (v *Vocabulary) Limit() int { return v.limit }

// Len is the number of pieces.
func (v *Vocabulary) Len() int { return len(v.ends) }

// EOG lists the ids that end a generation, in order. It is not to be written to.
func (v *Vocabulary) EOG() []int32 { return v.eog }
