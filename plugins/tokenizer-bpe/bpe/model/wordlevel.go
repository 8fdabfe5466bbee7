package model

import (
	"fmt"

	"edged/plugins/tokenizer-bpe/bpe/vocab"
)

// WordLevel knows whole words only.
type WordLevel struct {
	vocab   *vocab.Vocabulary
	unknown int32 // -1: there is none
	// control are the words that are control tokens: a plain text may have them, as in the library, a conversation not.
	control map[string]int32
}

// NewWordLevel makes the model of a vocabulary. own are the texts of the model's own tokens by id, "" for
// those that were added.
func NewWordLevel(v *vocab.Vocabulary, own []string, unknown int32) *WordLevel {
	m := &WordLevel{vocab: v, unknown: unknown, control: map[string]int32{}}
	for id, s := range own {
		if v.Types[id] == vocab.Control && s != "" {
			m.control[s] = int32(id)
		}
	}
	return m
}

func (m *WordLevel) cacheable(_ bool) bool { return false } // finding it again costs as much

func (m *WordLevel) word(w *Scratch, s string) error {
	id, ok := m.vocab.Lookup(s)
	if !ok && !w.Strict {
		id, ok = m.control[s]
	}
	if !ok {
		if id = m.unknown; id < 0 {
			return fmt.Errorf("the model has no unknown token and does not know the word %.60q", s)
		}
	}
	w.Out = append(w.Out, id)
	return nil
}
