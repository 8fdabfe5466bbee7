package bpe

import "fmt"

// wordLevel knows whole words only.
type wordLevel struct {
	vocab   *vocabulary
	unknown int32 // -1: there is none
	// control are the words that are control tokens: a plain text may have them, as in the library, a conversation not.
	control map[string]int32
}

func newWordLevel(v *vocabulary, own []string, unknown int32) *wordLevel {
	m := &wordLevel{vocab: v, unknown: unknown, control: map[string]int32{}}
	for id, s := range own {
		if v.kind[id] == control && s != "" {
			m.control[s] = int32(id)
		}
	}
	return m
}

func (m *wordLevel) cacheable(_ bool) bool { return false } // finding it again costs as much

func (m *wordLevel) word(w *work, s string) error {
	id, ok := m.vocab.lookup(s)
	if !ok && !w.strict {
		id, ok = m.control[s]
	}
	if !ok {
		if id = m.unknown; id < 0 {
			return fmt.Errorf("the model has no unknown token and does not know the word %.60q", s)
		}
	}
	w.out = append(w.out, id)
	return nil
}
