package answer

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

// maxGrammars is how many compiled grammars are cached. A house asks for the same few.
const maxGrammars = 8

// grammars are the compiled grammars of a vocabulary that were used last.
type grammars struct {
	mu     sync.Mutex
	pieces *grammar.Vocabulary // nil: no request had a grammar yet
	recent []compiled          // the latest last
}

// compiled is a grammar's text and what it was compiled to, with all that was found out about it since.
type compiled struct {
	text string
	auto *grammar.Automaton
}

// compile returns the automaton of a grammar's text, of the cache where it is there. Parsing runs without the
// lock, since a grammar that is made to be slow may take 200 ms.
func (v *Vocabulary) compile(ctx context.Context, text string) (*grammar.Automaton, error) {
	if auto := v.grammars.find(text); auto != nil {
		return auto, nil
	}
	parsed, err := grammar.Parse(ctx, text)
	if err != nil {
		return nil, grammarError(err)
	}
	auto, err := parsed.Bind(v.grammars.vocabulary(v))
	if err != nil {
		return nil, grammarError(err)
	}
	return v.grammars.add(text, auto), nil
}

// find is a cached automaton; nil: there is none.
func (g *grammars) find(text string) *grammar.Automaton {
	g.mu.Lock()
	defer g.mu.Unlock()
	i := slices.IndexFunc(g.recent, func(c compiled) bool { return c.text == text })
	if i < 0 {
		return nil
	}
	found := g.recent[i]
	g.recent = append(slices.Delete(g.recent, i, i+1), found)
	return found.auto
}

// add caches an automaton, or returns the one that another request compiled from the text meanwhile.
func (g *grammars) add(text string, auto *grammar.Automaton) *grammar.Automaton {
	g.mu.Lock()
	defer g.mu.Unlock()
	if i := slices.IndexFunc(g.recent, func(c compiled) bool { return c.text == text }); i >= 0 {
		return g.recent[i].auto
	}
	if len(g.recent) == maxGrammars {
		g.recent = slices.Delete(g.recent, 0, 1)
	}
	g.recent = append(g.recent, compiled{text, auto})
	return auto
}

// vocabulary indexes the pieces for grammars when the first of them is compiled.
func (g *grammars) vocabulary(v *Vocabulary) *grammar.Vocabulary {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.pieces == nil {
		g.pieces = grammar.NewVocabulary(v.limit, func(id int32) []byte {
			if v.IsEOG(id) {
				return nil // the end is allowed where the text may end, whatever its piece
			}
			return v.Written(id)
		})
	}
	return g.pieces
}

// grammarError is the error of a grammar that a request gives.
func grammarError(err error) error {
	if errors.Is(err, grammar.ErrUnsupported) {
		return fmt.Errorf("engine: %w: %w", protocol.ErrUnsupported, err)
	}
	return fmt.Errorf("engine: %w: %w", protocol.ErrInvalid, err)
}

// constrain compiles the request's grammar and starts it in every choice that it constrains from the first token on.
func (a *Answers) constrain(ctx context.Context) error {
	shown, more := grammar.Shown(a.Req.Grammar)
	a.show(shown)
	if !more && len(shown) > 0 {
		return nil
	}
	auto, err := a.Vocab.compile(ctx, a.Req.Grammar)
	if err != nil {
		return err
	}
	a.show(auto.Tokens())
	if auto.After() != "" {
		a.lazy = auto
		return nil
	}
	if t := a.Req.Thinking; t != nil && !t.Never {
		a.afterThinking = auto
		return nil
	}
	for _, c := range a.Choices {
		if c.matcher, err = auto.Start(a.Limit); err != nil {
			return a.startError(err)
		}
	}
	return nil
}

// show makes control tokens a part of the answers' text.
func (a *Answers) show(texts []string) {
	if len(texts) == 0 {
		return
	}
	if a.shown == nil {
		a.shown = map[int32]bool{}
	}
	v := a.Vocab
	for id := range int32(len(v.ends)) {
		if v.isControl(id) && slices.Contains(texts, string(v.raw(id))) {
			a.shown[id] = true
		}
	}
}

// piece returns the bytes that a token adds to the text.
func (a *Answers) piece(id int32) []byte {
	if a.shown[id] {
		return a.Vocab.raw(id)
	}
	return a.Vocab.piece(id)
}

// watchTrigger looks for the trigger of a lazy grammar in a text that is free so far, and starts the grammar
// behind it; when that is complete, the text is free again. The trigger may end within a token: the rest of
// it is the beginning of the constrained text. A grammar that this rest contradicts, or that does not fit
// into the tokens that are left, is not started.
func (c *Choice) watchTrigger(id int32) {
	v, mark := c.Of.Vocab, c.Of.lazy.After()
	switch {
	case c.matcher != nil:
		if c.matcher.Ended() {
			c.matcher = nil
		}
		return
	case v.isControl(id): // never a part of the text, and a mark for some models
		if c.tail = c.tail[:0]; string(v.raw(id)) == mark {
			c.tail = append(c.tail, mark...)
		}
	default:
		c.tail = append(c.tail, v.piece(id)...)
	}
	for {
		i := bytes.Index(c.tail, []byte(mark))
		if i < 0 {
			c.tail = c.tail[max(0, len(c.tail)-len(mark)+1):]
			return
		}
		c.tail = c.tail[i+len(mark):]
		m, err := c.Of.lazy.Start(c.Of.Limit - len(c.IDs))
		if err == nil && m.Skip(c.tail) == nil && !m.Ended() {
			c.matcher, c.tail = m, nil
			return
		}
	}
}

// grammarMask returns the tokens that the grammar allows at this step. only is the single allowed token, or
// -1 if there are several.
func (c *Choice) grammarMask() (allowed sample.Mask, only int32, err error) {
	st, err := c.matcher.Next()
	if err != nil {
		return nil, -1, grammarError(err)
	}
	if st.Ends && !c.Of.Req.IgnoreEOS {
		for _, id := range c.Of.Vocab.eog {
			if int(id) < c.Of.Vocab.limit {
				st.Mask[id>>6] |= 1 << (id & 63)
			}
		}
	}
	if st.Ends {
		for _, id := range c.Of.Req.StopIDs {
			if int(id) < c.Of.Vocab.limit && id >= 0 && len(c.Of.Vocab.piece(id)) == 0 {
				st.Mask[id>>6] |= 1 << (id & 63)
			}
		}
	}
	return st.Mask, st.Only, nil
}
