package answer

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"

	"edged/core/infer/grammar"
	"edged/core/infer/sample"
	"edged/core/protocol"
	"edged/core/protocol/backend"
)

// maxMark bounds the marks of a thought, bytes.
const maxMark = 256

// thought follows a choice's reasoning, by the bytes of its tokens: it stands first in the text, between the
// marks of the request's Thinking, or from the beginning on where the prompt ends within one. It counts the
// budget, and forces the closing mark where that is spent. All is a function of the tokens so far, so that
// another attempt, a draft or a batch changes nothing.
type thought struct {
	t      *backend.Thinking
	state  thoughtState
	tail   []byte  // what may be a part of a mark; behind the last thought: what came with the mark's last token
	budget int     // tokens of thought
	spent  int     // of them
	due    []int32 // what is decoded next, whatever the model thinks of it
	once   bool    // no second thought begins

	from, to int // places of the ids that were decoded in the place of an end
}

type thoughtState uint8

const (
	mayThink      thoughtState = iota // nothing but blanks came, or what stands between two thoughts
	thinks                            // between the marks
	behindThought                     // the rest
)

// thoughtBlanks may stand around a thought.
const thoughtBlanks = " \t\r\n"

// think checks what the request says of thinking and starts a thought in each choice.
func (a *Answers) think() error {
	t := a.Req.Thinking
	if t == nil {
		return nil
	}
	refuse := func(format string, args ...any) error {
		return fmt.Errorf("engine: %w: thinking: %s", protocol.ErrInvalid, fmt.Sprintf(format, args...))
	}
	switch {
	case t.Open == "" || t.Close == "":
		return refuse("it names no marks")
	case max(len(t.Open), len(t.Close), len(t.Again)) > maxMark:
		return refuse("a mark has more than %d bytes", maxMark)
	case t.Budget < 0:
		return refuse("the budget is negative")
	case t.Begun && t.Never:
		return refuse("the prompt ends within a thought, and none may begin")
	case !t.Begun && a.afterThinking != nil:
		return refuse("an answer that is held to a form thinks only where the prompt ends within a thought")
	case (t.Budget > 0 || t.Must || a.afterThinking != nil) && len(t.CloseIDs) == 0:
		return refuse("no ids are given that end a thought")
	}
	for _, ids := range [][]int32{t.CloseIDs, t.ThenIDs} {
		if err := CheckIDs("thinking", ids, a.Vocab.limit); err != nil {
			return err
		}
	}
	for _, c := range a.Choices {
		c.thought = &thought{t: t, once: a.afterThinking != nil}
		if t.Begun {
			c.thought.state = thinks
		}
	}
	return a.fitThoughts()
}

// fitThoughts sets the budgets of thoughts. Where a grammar constrains the answer behind the thought, the
// shortest text of it must find room: the thought is closed where just that and the closing mark, which may
// have begun in other tokens, fit.
func (a *Answers) fitThoughts() error {
	if a.Req.Thinking == nil {
		return nil
	}
	t := a.Req.Thinking
	budget := t.Budget
	if budget == 0 {
		budget = math.MaxInt
	}
	if a.afterThinking != nil {
		room := a.Limit - len(t.CloseIDs) - len(t.ThenIDs) - len(t.Close)
		m, err := a.afterThinking.Start(room)
		if err != nil {
			return a.startError(err)
		}
		budget = min(budget, room-m.Least())
	}
	for _, c := range a.Choices {
		c.thought.budget = budget
		c.thought.spend()
	}
	return nil
}

// spend has the mark decoded where the budget is spent. A mark that has begun is waited for.
func (h *thought) spend() {
	if h.state == thinks && h.spent >= h.budget && len(h.due) == 0 && beginsMark(h.tail, h.t.Close) == 0 {
		h.due = h.t.CloseIDs
	}
}

// decided is the token that comes next whatever the model thinks of it; false: it is to be drawn.
func (h *thought) decided() (int32, bool) {
	if h == nil || len(h.due) == 0 {
		return 0, false
	}
	return h.due[0], true
}

// closes has the mark decoded where an answer would end within a thought that must have its end, and reports
// whether it does.
//
// That the answer would have ended here is nothing that its ids tell. So they are given out all together:
// another attempt then has none of them, and draws the end again, or all.
func (c *Choice) closes() bool {
	h := c.thought
	if h == nil || h.state != thinks || !h.once && !h.t.Must {
		return false
	}
	h.due, h.from, h.to = h.t.CloseIDs, len(c.IDs), len(c.IDs)+len(h.t.CloseIDs)
	return true
}

// whole is how many of n ids may be given out: not a part of those that closes had decoded.
func (h *thought) whole(n int) int {
	if h != nil && n > h.from && n < h.to {
		return h.from
	}
	return n
}

// thinking reports whether what comes next is thought.
func (c *Choice) thinking() bool { return c.thought != nil && c.thought.state == thinks }

// follow takes a token that was accepted, and reports whether the last thought is over and nothing more of it is due.
func (h *thought) follow(id int32, piece []byte) (over bool) {
	ours := len(h.due) > 0 && h.due[0] == id
	if ours {
		h.due = h.due[1:]
	} else {
		h.due = nil
	}
	if h.state == behindThought {
		return len(h.due) == 0
	}
	if h.state == thinks {
		h.spent++
	}
	h.write(piece)
	h.spend()
	if h.state != behindThought {
		return false
	}
	if h.once && !ours && len(h.tail) == 0 { // the model closed it itself: the answer stands where the family has it
		h.due = h.t.ThenIDs
	}
	return len(h.due) == 0
}

// write takes the bytes of a token.
func (h *thought) write(piece []byte) {
	h.tail = append(h.tail, piece...)
	for h.state == mayThink || h.state == thinks {
		if h.state == thinks {
			i := bytes.Index(h.tail, []byte(h.t.Close))
			if i < 0 {
				h.tail = h.tail[max(0, len(h.tail)-len(h.t.Close)+1):]
				return
			}
			h.tail = h.tail[i+len(h.t.Close):]
			h.state = mayThink
			if h.once || h.t.Again == "" {
				h.state = behindThought
			}
			continue
		}
		rest, waits := h.t.Opens(h.tail)
		switch {
		case rest != nil:
			h.state, h.tail = thinks, rest
		case waits:
			h.tail = bytes.TrimLeft(h.tail, thoughtBlanks)
			return
		default:
			h.state, h.tail = behindThought, nil
		}
	}
}

// followThought takes a token that was accepted, and starts the grammar of the answer where the last thought
// ended with it.
func (c *Choice) followThought(id int32) error {
	over := c.thought.follow(id, c.Of.Vocab.raw(id))
	if !over || c.Of.afterThinking == nil || c.matcher != nil {
		return nil
	}
	var err error
	if c.matcher, err = c.Of.afterThinking.Start(c.Of.Limit - len(c.IDs)); err != nil {
		return grammarError(err)
	}
	return nil
}

// thoughtMask returns the tokens that may be drawn here; nil: all. A thought that must not begin is kept from
// it where its mark would be complete. Where an answer with a form is to follow, nothing but blanks comes
// with the mark that ends a thought.
func (c *Choice) thoughtMask() sample.Mask {
	h, v := c.thought, c.Of.Vocab
	switch {
	case h == nil:
		return nil
	case h.state == mayThink && (h.t.Never || h.spent >= h.budget):
		return v.without("open", h.t.Open+"\x00"+h.t.Again, h.tail, func(text []byte) bool {
			rest, _ := h.t.Opens(text)
			return rest != nil
		})
	case h.state == thinks && h.once:
		tail := h.tail[len(h.tail)-beginsMark(h.tail, h.t.Close):]
		return v.without("close", h.t.Close, tail, func(text []byte) bool {
			_, rest, closes := bytes.Cut(text, []byte(h.t.Close))
			return closes && len(bytes.Trim(rest, thoughtBlanks)) > 0
		})
	}
	return nil
}

// masks caches the masks that thoughtMask made for a vocabulary, by what it looked for.
type masks struct {
	mu   sync.Mutex
	made map[string]sample.Mask
}

// maxMasks bounds them. A model has one or two.
const maxMasks = 8

// without is a mask of all tokens but those that forbidden names; it is given what each would make of the
// tail. Looking at a whole vocabulary takes milliseconds, so the mask of no tail, which is that of almost
// every step, is kept under its key.
func (v *Vocabulary) without(what, key string, tail []byte, forbidden func(text []byte) bool) sample.Mask {
	key = what + "\x00" + key
	if len(tail) == 0 {
		v.masks.mu.Lock()
		defer v.masks.mu.Unlock()
		if m := v.masks.made[key]; m != nil {
			return m
		}
	}
	m := make(sample.Mask, (v.limit+63)/64)
	text := append([]byte(nil), tail...)
	for id := range int32(v.limit) { //nolint:gosec // ids are 32 bits wide
		text = append(text[:len(tail)], v.raw(id)...)
		if !forbidden(text) {
			m[id>>6] |= 1 << (id & 63)
		}
	}
	if len(tail) == 0 {
		if len(v.masks.made) >= maxMasks {
			clear(v.masks.made)
		}
		if v.masks.made == nil {
			v.masks.made = map[string]sample.Mask{}
		}
		v.masks.made[key] = m
	}
	return m
}

// beginsMark is how many bytes at the end of a text may begin a mark.
func beginsMark(text []byte, mark string) int {
	for n := min(len(mark)-1, len(text)); n > 0; n-- {
		if strings.HasPrefix(mark, string(text[len(text)-n:])) {
			return n
		}
	}
	return 0
}

// startError is the error of a grammar for whose shortest text there is no room.
func (a *Answers) startError(err error) error {
	switch {
	case errors.Is(err, grammar.ErrTooShort) && (a.Req.MaxTokens == 0 || a.Limit < a.Req.MaxTokens):
		return fmt.Errorf("engine: %w: %w in the context", protocol.ErrContextLength, err)
	case errors.Is(err, grammar.ErrTooShort):
		return fmt.Errorf("engine: %w: max_tokens: %w", protocol.ErrInvalid, err)
	}
	return grammarError(err)
}
