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

// hfWordLevel runs it on a pre-tokenizer's words.
type hfWordLevel struct {
	model *wordLevel
	words hfWords
}

func (m *hfWordLevel) encode(w *work, s string, first, _ bool) error {
	sink := &levelWords{m: m.model, w: w}
	if err := m.words.of(first).Split(s, sink, &w.patterns); err != nil {
		return err
	}
	return sink.err
}

// levelWords encodes word after word.
type levelWords struct {
	m   *wordLevel
	w   *work
	err error
}

// Word implements split.Sink.
func (l *levelWords) Word(s string) {
	id, ok := l.m.vocab.lookup(s)
	if !ok && !l.w.strict {
		id, ok = l.m.control[s]
	}
	if !ok {
		if id = l.m.unknown; id < 0 {
			if l.err == nil {
				l.err = fmt.Errorf("bpe: %w: the model has no unknown token and does not know the word %.60q", ErrText, s)
			}
			return
		}
	}
	l.w.out = append(l.w.out, id)
}
