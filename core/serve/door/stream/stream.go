// Package stream keeps the events of one request for a door whose client waits on a connection: the text as
// it comes, once, whatever attempts it took, and the last event.
//
// It must not know what a door makes of them. A Veil keeps the text of tool calls out of what a client sees
// of a stream.
package stream

import (
	"strings"
	"sync"

	"edged/core/serve/dispatch"
)

// Sink keeps the events of one request until its connection takes them. What waits is never more than the
// answer's text, and nothing of it is dropped: unlike a broker's clients, who waits here has one try only.
type Sink struct {
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
	said, thought part
}

type part struct {
	all   int             // bytes that came, over all attempts
	now   int             // of the present attempt
	fresh strings.Builder // that nobody has taken
}

// add takes new text of the present attempt.
func (p *part) add(text string) {
	p.now += len(text)
	if more := p.now - p.all; more > 0 {
		p.fresh.WriteString(text[len(text)-more:])
		p.all = p.now
	}
}

func (p *part) take() string {
	text := p.fresh.String()
	p.fresh.Reset()
	return text
}

// New returns a Sink for a request of n choices; 0 is 1.
func New(n int) *Sink {
	return &Sink{wake: make(chan struct{}, 1), attempt: 1, choices: make([]choiceText, max(n, 1))}
}

// Event is dispatch.Sink's. It never blocks.
func (s *Sink) Event(_ *dispatch.Request, ev dispatch.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if ev.Attempt != s.attempt {
		// The backend died and another attempt gives the same text from its beginning.
		s.attempt = ev.Attempt
		for i := range s.choices {
			s.choices[i].said.now, s.choices[i].thought.now = 0, 0
		}
	}
	switch {
	case ev.Prefill != nil:
		s.began = true
	case ev.Delta != nil && ev.Delta.Index >= 0 && ev.Delta.Index < len(s.choices):
		s.choices[ev.Delta.Index].said.add(ev.Delta.Text)
		s.choices[ev.Delta.Index].thought.add(ev.Delta.Thought)
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

// Wake holds a value when something has come since Take.
func (s *Sink) Wake() <-chan struct{} { return s.wake }

// News is the progress since the last call.
type News struct {
	Began    bool     // the backend has begun to read the prompt
	Texts    []string // new, per choice
	Thoughts []string // likewise: what the model thinks before it answers
	Mark     string   // what a call begins with; "": not known
	Last     *dispatch.Last
}

// Take returns the news.
func (s *Sink) Take() News {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := News{Began: s.began, Mark: s.mark, Last: s.last, Texts: make([]string, len(s.choices)), Thoughts: make([]string, len(s.choices))}
	for i := range s.choices {
		n.Texts[i], n.Thoughts[i] = s.choices[i].said.take(), s.choices[i].thought.take()
	}
	return n
}
