package bpe

import (
	"strings"

	"edged/plugins/tokenizer-bpe/bpe/split"
)

// perWord encodes each word that a pre-tokenizer cuts a text into by itself.
type perWord struct {
	model wordModel
	start split.Splitter // for the start of a text
	rest  split.Splitter // for what follows an added token
	// blanks writes spaces as blanks before the text is cut.
	blanks bool
	// atBlanks cuts words further at blanks, which is quicker and changes nothing where no merge crosses one: see split.Crosses.
	atBlanks bool
}

// wordModel is a model that encodes words one by one.
type wordModel interface {
	// word appends the ids of a word, which is not empty, to w.out.
	word(w *work, s string) error
	// cacheable reports whether a word has the same ids wherever it stands: see work.strict.
	cacheable(strict bool) bool
}

func (p *perWord) encode(w *work, s string, first, _ bool) error {
	if p.blanks {
		s = strings.ReplaceAll(s, " ", blank)
	}
	words := &wordSink{m: p.model, w: w, cached: p.model.cacheable(w.strict)}
	var sink split.Sink = words
	if p.atBlanks {
		sink = &blankCutter{to: words}
	}
	splitter := p.rest
	if first {
		splitter = p.start
	}
	if err := splitter.Split(s, sink, &w.patterns); err != nil {
		return err
	}
	return words.err
}

// wordSink encodes the words that it is given, those that it has seen before from the cache.
type wordSink struct {
	m      wordModel
	w      *work
	cached bool
	err    error // of the first word that could not be encoded: what follows is left out
}

// Word implements split.Sink.
func (s *wordSink) Word(word string) {
	w := s.w
	if s.cached {
		if ids, ok := w.wordCache.get(word); ok {
			w.out = append(w.out, ids...)
			return
		}
	}
	if s.err != nil {
		return
	}
	start := len(w.out)
	if s.err = s.m.word(w, word); s.err == nil && s.cached {
		w.wordCache.put(word, w.out[start:])
	}
}

// blankCutter cuts words at blanks.
type blankCutter struct{ to split.Sink }

// Word implements split.Sink.
func (c *blankCutter) Word(s string) {
	_ = split.Blanks{}.Split(s, c.to, nil) // it never fails
}
