package http

import (
	"crypto/rand"
	"encoding/hex"
	"strings"
	"sync"

	"edged/core/serve/dispatch"
)

// sink keeps the events of one request until its connection takes them. What waits is never more than the answer's text,
// and nothing of it is dropped: unlike a broker's clients, who waits here has one try only.
type sink struct {
	wake chan struct{} // holds a value when something has come

	mu      sync.Mutex
	attempt int
	began   bool // the backend has begun to read the prompt
	choices []choiceText
	mark    string
	last    *dispatch.Last
}

// choiceText is the text of one choice as it comes.
type choiceText struct {
	all   int             // bytes that came, over all attempts
	now   int             // of the present attempt
	fresh strings.Builder // that nobody has taken
}

func newSink(n int) *sink {
	return &sink{wake: make(chan struct{}, 1), attempt: 1, choices: make([]choiceText, max(n, 1))}
}

// Event is dispatch.Sink's. It never blocks.
func (s *sink) Event(_ *dispatch.Request, ev dispatch.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if ev.Attempt != s.attempt {
		// The backend died and another attempt gives the same text from its beginning.
		s.attempt = ev.Attempt
		for i := range s.choices {
			s.choices[i].now = 0
		}
	}
	switch {
	case ev.Prefill != nil:
		s.began = true
	case ev.Delta != nil && ev.Delta.Index >= 0 && ev.Delta.Index < len(s.choices):
		c := &s.choices[ev.Delta.Index]
		c.now += len(ev.Delta.Text)
		if more := c.now - c.all; more > 0 {
			c.fresh.WriteString(ev.Delta.Text[len(ev.Delta.Text)-more:])
			c.all = c.now
		}
		s.began, s.mark = true, ev.Delta.Mark
	case ev.Last != nil:
		s.last = ev.Last
	default:
		return
	}
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// news is what has come since it was asked for last.
type news struct {
	began bool
	texts []string // per choice
	mark  string
	last  *dispatch.Last
}

func (s *sink) take() news {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := news{began: s.began, mark: s.mark, last: s.last, texts: make([]string, len(s.choices))}
	for i := range s.choices {
		n.texts[i] = s.choices[i].fresh.String()
		s.choices[i].fresh.Reset()
	}
	return n
}

// newID is an identifier with a prefix, that nobody can guess.
func newID(prefix string) string {
	var b [12]byte
	_, _ = rand.Read(b[:]) // it never fails
	return prefix + hex.EncodeToString(b[:])
}

// newCallID is the identifier of a tool call: nine letters and digits, since there are templates that take no other.
func newCallID() string {
	const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
	var b [9]byte
	_, _ = rand.Read(b[:]) // it never fails
	for i, c := range b {
		b[i] = letters[int(c)%len(letters)]
	}
	return string(b[:])
}
