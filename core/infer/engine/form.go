package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"edged/core/infer/grammar"
	"edged/core/infer/sample"
	"edged/core/protocol"
)

// maxForms is how many grammars are kept with what was found out about them. A house asks for the same few.
const maxForms = 8

// forms are the grammars of a vocabulary that were used last.
type forms struct {
	mu     sync.Mutex
	pieces *grammar.Vocabulary // nil: no request had a grammar yet
	recent []form              // the latest last
}

type form struct {
	text string
	auto *grammar.Automaton
}

// form makes a grammar ready. It runs outside of the loop, since a large one takes milliseconds, and reads outside of the
// lock, since one that is made to be slow may take 200.
func (v *vocabulary) form(ctx context.Context, text string) (*grammar.Automaton, error) {
	if auto := v.forms.find(text); auto != nil {
		return auto, nil
	}
	g, err := grammar.Parse(ctx, text)
	if err != nil {
		return nil, formError(err)
	}
	auto, err := g.Bind(v.forms.vocabulary(v))
	if err != nil {
		return nil, formError(err)
	}
	return v.forms.keep(text, auto), nil
}

// find is a grammar that was used before; nil: there is none.
func (f *forms) find(text string) *grammar.Automaton {
	f.mu.Lock()
	defer f.mu.Unlock()
	i := slices.IndexFunc(f.recent, func(f form) bool { return f.text == text })
	if i < 0 {
		return nil
	}
	found := f.recent[i]
	f.recent = append(slices.Delete(f.recent, i, i+1), found)
	return found.auto
}

// keep remembers a grammar, or returns the one that another request made of the text meanwhile.
func (f *forms) keep(text string, auto *grammar.Automaton) *grammar.Automaton {
	f.mu.Lock()
	defer f.mu.Unlock()
	if i := slices.IndexFunc(f.recent, func(f form) bool { return f.text == text }); i >= 0 {
		return f.recent[i].auto
	}
	if len(f.recent) == maxForms {
		f.recent = slices.Delete(f.recent, 0, 1)
	}
	f.recent = append(f.recent, form{text, auto})
	return auto
}

// vocabulary is what grammars need to know of the pieces, made for the first of them.
func (f *forms) vocabulary(v *vocabulary) *grammar.Vocabulary {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.pieces == nil {
		f.pieces = grammar.NewVocabulary(v.limit, func(id int32) []byte {
			if v.isEOG(id) {
				return nil // the end is allowed where the text may end, whatever its piece
			}
			return v.written(id)
		})
	}
	return f.pieces
}

func formError(err error) error {
	if errors.Is(err, grammar.ErrUnsupported) {
		return fmt.Errorf("engine: %w: %w", protocol.ErrUnsupported, err)
	}
	return fmt.Errorf("engine: %w: %w", protocol.ErrInvalid, err)
}

// hold gives every branch of a new job its place in the grammar.
func (j *job) hold(ctx context.Context) error {
	shown, more := grammar.Shown(j.req.Grammar)
	j.show(shown)
	if !more && len(shown) > 0 {
		return nil
	}
	auto, err := j.vocab.form(ctx, j.req.Grammar)
	if err != nil {
		return err
	}
	j.show(auto.Tokens())
	if auto.After() != "" {
		j.behind = auto
		return nil
	}
	if t := j.req.Thinking; t != nil && !t.Never {
		j.afterThought = auto
		return nil
	}
	for _, b := range j.branches {
		if b.form, err = auto.Start(j.limit); err != nil {
			return j.startError(err)
		}
	}
	return nil
}

// show makes control tokens a part of the answers' text.
func (j *job) show(texts []string) {
	if len(texts) == 0 {
		return
	}
	if j.shown == nil {
		j.shown = map[int32]bool{}
	}
	v := j.vocab
	for id := range int32(len(v.ends)) {
		if v.isControl(id) && slices.Contains(texts, string(v.raw(id))) {
			j.shown[id] = true
		}
	}
}

// piece is what a token adds to the text.
func (j *job) piece(id int32) []byte {
	if j.shown[id] {
		return j.vocab.raw(id)
	}
	return j.vocab.piece(id)
}

// watch looks for the mark in a free text, and has what follows it keep to its form until that is complete. The mark may end
// within a token: the rest of it is the beginning of what follows. A form that this rest contradicts, or that does not fit
// into what may still be written, is let go: the answer is free then, as without one.
func (b *branch) watch(id int32) {
	v, mark := b.job.vocab, b.job.behind.After()
	switch {
	case b.form != nil:
		if b.form.Ended() {
			b.form = nil
		}
		return
	case v.isControl(id): // never a part of the text, and a mark for some models
		if b.tail = b.tail[:0]; string(v.raw(id)) == mark {
			b.tail = append(b.tail, mark...)
		}
	default:
		b.tail = append(b.tail, v.piece(id)...)
	}
	for {
		i := bytes.Index(b.tail, []byte(mark))
		if i < 0 {
			b.tail = b.tail[max(0, len(b.tail)-len(mark)+1):]
			return
		}
		b.tail = b.tail[i+len(mark):]
		m, err := b.job.behind.Start(b.job.limit - len(b.ids))
		if err == nil && m.Skip(b.tail) == nil && !m.Ended() {
			b.form, b.tail = m, nil
			return
		}
	}
}

// mask is what the grammar allows at this step; only is the one token that it allows, -1: there are several.
func (b *branch) mask() (allowed sample.Mask, only int32, err error) {
	st, err := b.form.Next()
	if err != nil {
		return nil, -1, formError(err)
	}
	if st.Ends && !b.job.req.IgnoreEOS {
		for _, id := range b.job.vocab.eog {
			if int(id) < b.job.vocab.limit {
				st.Mask[id>>6] |= 1 << (id & 63)
			}
		}
	}
	if st.Ends {
		for _, id := range b.job.req.StopIDs {
			if int(id) < b.job.vocab.limit && id >= 0 && len(b.job.vocab.piece(id)) == 0 {
				st.Mask[id>>6] |= 1 << (id & 63)
			}
		}
	}
	return st.Mask, st.Only, nil
}
