package bpe

import (
	"errors"
	"fmt"
	"hash/maphash"
)

// Limits of what is read from a file. The largest published vocabulary has 262 208 tokens.
const (
	maxTokens      = 1 << 21
	maxTokenLength = 1 << 16
	maxAddedLength = 256 // tokens that are searched for at every place of a text
)

// blank is how SentencePiece writes a space.
const blank = "\u2581"

// kind is what a vocabulary says of a token; the values are GGUF's tokenizer.ggml.token_type.
type kind uint8

const (
	undefined   kind = iota
	normal           // text
	unknown          // stands for what has no token
	control          // never text: begin, end, turns
	userDefined      // found in any text before it is cut into words
	unused           // a reserved place
	byteToken        // <0x00> to <0xFF>
)

// special reports whether tokens of the kind are what only a template may write.
func (k kind) special() bool { return k == control || k == unknown }

// vocabulary is the list of tokens: what each is written as in the file, what it means and how it ranks.
type vocabulary struct {
	text  []string // by id
	kind  []kind
	score []float32 // SentencePiece only
	index *index    // over text
	// longest is the length of the longest token that the index holds.
	longest int
}

// newVocabulary takes over text and kinds. Tokens that hide says true of cannot be found by their text: control tokens,
// which no typed text may become.
func newVocabulary(text []string, kinds []kind, hide func(id int) bool) (*vocabulary, error) {
	if len(text) == 0 {
		return nil, errors.New("the vocabulary is empty")
	}
	if len(text) > maxTokens {
		return nil, fmt.Errorf("the vocabulary has %d tokens: at most %d are supported", len(text), maxTokens)
	}
	v := &vocabulary{text: text, kind: kinds, index: newIndex(text)}
	for id, s := range text {
		if len(s) > maxTokenLength {
			return nil, fmt.Errorf("token %d has %d bytes: at most %d are supported", id, len(s), maxTokenLength)
		}
		if s == "" || hide(id) {
			continue
		}
		v.longest = max(v.longest, len(s))
		v.index.add(int32(id))
	}
	return v, nil
}

// lookup finds the token that is written as s.
func (v *vocabulary) lookup(s string) (int32, bool) {
	if len(s) > v.longest {
		return -1, false
	}
	return v.index.find(s)
}

// byteTokens finds the tokens of single bytes: <0x0A>, or else the byte as a text of its own; -1 where there is none.
func byteTokens(v *vocabulary) (ids [256]int32) {
	for b := range ids {
		ids[b] = -1
		if id, ok := v.lookup(fmt.Sprintf("<0x%02X>", b)); ok {
			ids[b] = id
		} else if id, ok := v.lookup(string([]byte{byte(b)})); ok {
			ids[b] = id
		}
	}
	return ids
}

// namedBytes finds the tokens <0x00> to <0xFF>; -1 where there is none.
func namedBytes(v *vocabulary) (ids [256]int32) {
	for b := range ids {
		ids[b] = -1
		if id, ok := v.lookup(fmt.Sprintf("<0x%02X>", b)); ok {
			ids[b] = id
		}
	}
	return ids
}

// index maps texts to their places in a list: open addressing over 4-byte slots, since a map of 260 000 strings takes six
// times the memory. Its hash has a seed per process: no file can make it slow.
type index struct {
	text  []string
	slots []int32 // place + 1; 0: free
	mask  uint64
	seed  maphash.Seed
}

// newIndex makes an index over a list in which no text can be found yet: see add.
func newIndex(text []string) *index {
	size := 8
	for size < 2*len(text) {
		size *= 2
	}
	return &index{text: text, slots: make([]int32, size), mask: uint64(size - 1), seed: maphash.MakeSeed()}
}

// indexAll makes an index in which all texts but empty ones can be found; of equal texts the first counts.
func indexAll(text []string) *index {
	x := newIndex(text)
	for i, s := range text {
		if s != "" {
			x.add(int32(i))
		}
	}
	return x
}

// add makes text[i] findable; of equal texts the first counts.
func (x *index) add(i int32) {
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

func (x *index) find(s string) (int32, bool) {
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
