package vocab

import (
	"errors"
	"fmt"
	"hash/maphash"
	"unicode/utf8"
)

// Limits of what is read from a file. The largest published vocabulary has 262 208 tokens.
const (
	MaxTokens      = 1 << 21
	maxTokenLength = 1 << 16
	MaxAddedLength = 256 // tokens that are searched for at every place of a text
)

// Blank is how SentencePiece writes a space.
const Blank = "\u2581"

// Type is the type of a token; the values are those of GGUF's tokenizer.ggml.token_type.
type Type uint8

// The types of tokens.
const (
	Undefined   Type = iota
	Normal           // text
	Unknown          // stands for what has no token
	Control          // never text: begin, end, turns
	UserDefined      // found in any text before it is cut into words
	Unused           // a reserved place
	Byte             // <0x00> to <0xFF>
)

// IsSpecial reports whether tokens of the type must not come from typed text: control tokens and the unknown token.
func (k Type) IsSpecial() bool { return k == Control || k == Unknown }

// Vocabulary is the list of a model's tokens. A token's id is its place in the list. Tokens can be found by
// their text but for those that are hidden: control tokens, and added tokens that the model itself does not
// know.
type Vocabulary struct {
	Text   []string // by id
	Types  []Type
	Scores []float32 // SentencePiece only
	index  *Index    // over text
	// longest is the length of the longest token that the index holds.
	longest int
}

// New makes a vocabulary of the texts and types of all tokens, which it takes over. Tokens for which hide is
// true cannot be found by their text. An empty list, one of more than MaxTokens tokens or one with a token of
// more than 64 KiB is an error.
func New(text []string, types []Type, hide func(id int) bool) (*Vocabulary, error) {
	if len(text) == 0 {
		return nil, errors.New("the vocabulary is empty")
	}
	if len(text) > MaxTokens {
		return nil, fmt.Errorf("the vocabulary has %d tokens: at most %d are supported", len(text), MaxTokens)
	}
	v := &Vocabulary{Text: text, Types: types, index: NewIndex(text)}
	for id, s := range text {
		if len(s) > maxTokenLength {
			return nil, fmt.Errorf("token %d has %d bytes: at most %d are supported", id, len(s), maxTokenLength)
		}
		if s == "" || hide(id) {
			continue
		}
		v.longest = max(v.longest, len(s))
		v.index.Add(int32(id))
	}
	return v, nil
}

// Lookup returns the id of the token that is written as s, unless it is hidden.
func (v *Vocabulary) Lookup(s string) (int32, bool) {
	if len(s) > v.longest {
		return -1, false
	}
	return v.index.Find(s)
}

// ByteTokens returns the ids of the tokens of single bytes: <0x0A>, or else the byte as a text of its own; -1
// where there is none.
func ByteTokens(v *Vocabulary) (ids [256]int32) {
	for b := range ids {
		ids[b] = -1
		if id, ok := v.Lookup(fmt.Sprintf("<0x%02X>", b)); ok {
			ids[b] = id
		} else if id, ok := v.Lookup(string([]byte{byte(b)})); ok {
			ids[b] = id
		}
	}
	return ids
}

// NamedBytes returns the ids of the tokens <0x00> to <0xFF>; -1 where there is none.
func NamedBytes(v *Vocabulary) (ids [256]int32) {
	for b := range ids {
		ids[b] = -1
		if id, ok := v.Lookup(fmt.Sprintf("<0x%02X>", b)); ok {
			ids[b] = id
		}
	}
	return ids
}

// Index maps texts to their places in a list. It uses open addressing over 4-byte slots: a map of 260 000
// strings takes six times the memory. Its hash has a seed per process, so that no file can be made that
// collides.
type Index struct {
	text  []string
	slots []int32 // place + 1; 0: free
	mask  uint64
	seed  maphash.Seed
}

// NewIndex makes an index over a list. It finds no text until Add has been called for its place.
func NewIndex(text []string) *Index {
	size := 8
	for size < 2*len(text) {
		size *= 2
	}
	return &Index{text: text, slots: make([]int32, size), mask: uint64(size - 1), seed: maphash.MakeSeed()}
}

// IndexAll makes an index in which all texts but empty ones can be found; of equal texts the first counts.
func IndexAll(text []string) *Index {
	x := NewIndex(text)
	for i, s := range text {
		if s != "" {
			x.Add(int32(i))
		}
	}
	return x
}

// Add lets Find find the text at place i; of equal texts the one that is added first counts.
func (x *Index) Add(i int32) {
	s := x.text[i]
	for h := maphash.String(x.seed, s); ; h++ {
		slot := &x.slots[h&x.mask]
		if *slot == 0 {
			*slot = i + 1
			return
		}
		if x.text[*slot-1] == s {
			return
		}
	}
}

// Find returns the place of a text in the list.
func (x *Index) Find(s string) (place int32, ok bool) {
	for h := maphash.String(x.seed, s); ; h++ {
		slot := x.slots[h&x.mask]
		if slot == 0 {
			return -1, false
		}
		if x.text[slot-1] == s {
			return slot - 1, true
		}
	}
}

// CharLength is how many bytes the UTF-8 character has that starts with b, as far as b alone tells; a byte
// within a character counts as one. SentencePiece cuts texts so, also where they are not valid UTF-8.
func CharLength(b byte) int {
	switch {
	case b < 0xC0:
		return 1
	case b < 0xE0:
		return 2
	case b < 0xF0:
		return 3
	default:
		return utf8.UTFMax
	}
}

// MaxMerges bounds the list of merges; Gemma's has 514 906.
const MaxMerges = 1 << 22
