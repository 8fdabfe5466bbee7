package model

import (
	"strings"

	"edged/plugins/tokenizer-bpe/bpe/split"
	"edged/plugins/tokenizer-bpe/bpe/vocab"
)

// PerWord is a Model of a pre-tokenizer and a WordModel: it cuts a text into words and encodes each by
// itself. The ids of short words are remembered in the Scratch, since ordinary text repeats its words.
type PerWord struct {
	Model WordModel
	Start split.Splitter // for the start of a text
	Rest  split.Splitter // for what follows an added token
	// Blanks writes spaces as blanks before the text is cut.
	Blanks bool
	// CutAtBlanks cuts words further at blanks, which is quicker and changes nothing where no merge crosses
	// one: see split.Crosses.
	CutAtBlanks bool
}

// WordModel is a model that encodes words one by one.
type WordModel interface {
	// word appends the ids of a word, which is not empty, to w.Out.
	word(w *Scratch, s string) error
	// cacheable reports whether remembering the ids of a word is right, with strict as in Scratch, and worth it.
	cacheable(strict bool) bool
}

// Encode implements Model.
func (p *PerWord) Encode(w *Scratch, s string, first, _ bool) error {
	if p.Blanks {
		s = strings.ReplaceAll(s, " ", vocab.Blank)
	}
	words := &wordSink{m: p.Model, w: w, cached: p.Model.cacheable(w.Strict)}
	var sink split.Sink = words
	if p.CutAtBlanks {
		sink = &blankCutter{to: words}
	}
	splitter := p.Rest
	if first {
		splitter = p.Start
	}
	if err := splitter.Split(s, sink, &w.Patterns); err != nil {
		return err
	}
	return words.err
}

// wordSink encodes the words of one text, in order, to w.Out.
type wordSink struct {
	m      WordModel
	w      *Scratch
	cached bool
	err    error // of the first word that could not be encoded: what follows is left out
}

// Word implements split.Sink.
func (s *wordSink) Word(word string) {
	w := s.w
	if s.cached {
		if ids, ok := w.wordCache.get(word); ok {
			w.Out = append(w.Out, ids...)
			return
		}
	}
	if s.err != nil {
		return
	}
	start := len(w.Out)
	if s.err = s.m.word(w, word); s.err == nil && s.cached {
		w.wordCache.put(word, w.Out[start:])
	}
}

// blankCutter cuts words at blanks.
type blankCutter struct{ to split.Sink }

// Word implements split.Sink.
func (c *blankCutter) Word(s string) {
	_ = split.Blanks{}.Split(s, c.to, nil) // it never fails
}
