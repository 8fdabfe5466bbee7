package group

import (
	"cmp"
	"slices"
	"time"
)

// What a node does that has missed entries of the log. A broker drops, without a word, what a slow client has
// too much of: mosquitto from 1,000 waiting messages on. So the entries that a node writes on one connection
// are numbered, and who hears a later one before an earlier one asks the others what was before, as a
// newcomer does.

// mark is how far this node has heard another since its hello.
type mark struct {
	Mark

	first int // the first number that was heard
	at    time.Duration
}

// note takes an entry's number, and counts the entry.
func (m *Machine) note(e *Entry) {
	if k := m.marks[e.From]; e.Seq <= 0 || k.Life != e.Life || e.Line > k.Line || e.Line == k.Line && e.Seq > k.Seq {
		m.since++
		if m.synced {
			m.self.Log++
		}
	}
	if e.Seq <= 0 {
		return
	}
	now := mark{Mark: Mark{e.From, e.Life, e.Line, e.Seq}, first: e.Seq, at: m.now}
	k, known := m.marks[e.From]
	switch {
	case !known && len(m.marks) >= maxPeers:
		return
	case !known: // where it was when this node began to listen is told with the answer to hello
	case k.Life == e.Life && k.Line > e.Line, k.Life == e.Life && k.Line == e.Line && k.Seq >= e.Seq:
		return // once more
	case k.Life == e.Life && k.Line == e.Line:
		m.gapped = m.gapped || e.Seq > k.Seq+1
		now.first = k.first
	default: // what it may have written last on its connection before is not known
		m.gapped = m.gapped || e.Seq > 1
	}
	m.marks[e.From] = now
}

// maxMarks bounds the places that are told with an answer to hello.
const maxMarks = 64

// places are the latest places of those that have written lately.
func (m *Machine) places() (out []Mark) {
	var all []mark
	for _, k := range m.marks {
		if m.now-k.at <= 2*m.c.Takeover {
			all = append(all, k)
		}
	}
	slices.SortFunc(all, func(a, b mark) int { return cmp.Or(cmp.Compare(b.at, a.at), cmp.Compare(a.From, b.From)) })
	for _, k := range all[:min(len(all), maxMarks)] {
		out = append(out, k.Mark)
	}
	return out
}

// compare looks whether this node has missed something between its hello, where another had heard these
// places, and what it heard first.
func (m *Machine) compare(places []Mark) {
	for _, p := range places {
		switch k, known := m.marks[p.From]; {
		case !known && len(m.marks) < maxPeers:
			m.marks[p.From] = mark{Mark: p, first: p.Seq, at: m.now}
		case known && k.Life == p.Life && k.Line == p.Line && k.first > p.Seq+1:
			m.gapped = true
		}
	}
}

// helloAgain asks what was before once more where this node's own hello has not come back, or, at the desk,
// the answer to it.
func (m *Machine) helloAgain() {
	if m.now-m.hello.at < m.patience() {
		return
	}
	switch {
	case m.listening && !m.synced && !m.hello.heard:
		m.hello.tries = 0
		m.sayHello()
	case m.merging && m.hello.tries < maxTries:
		m.sayHello()
	case m.merging:
		m.merging = false // nobody is left who knows more
	}
}

// again asks what was before where something was missed, not more often than once in a step: who is slow
// misses more. Until it is told this node does not sit at the desk.
func (m *Machine) again() {
	if !m.gapped || !m.listening || m.hello.tries > 0 && m.now-m.hello.at < m.step() {
		return
	}
	m.gapped = false
	m.gap = m.now
	m.self.Knows = min(m.self.Knows, KnowsMuch)
	m.merging, m.held = false, none
	if m.synced {
		m.synced, m.self.Desk, m.self.Alone = false, false, false
		m.announce()
	}
	for _, r := range m.open {
		r.fresh, r.backlog, r.wrote = false, false, 0
	}
	m.hello.tries = 0
	m.sayHello()
}

// correct tells a node at the desk, which acts as if a request had not ended, that it has: what it has missed
// it may hear of late, or never where nothing more is asked.
func (m *Machine) correct(r *record, node string) {
	p := m.peers[node]
	if p == nil || !p.deals() || r.refused || r.Once || m.rank(r.Key) < 0 {
		return
	}
	mine := score(m.c.Node, r.Key)
	for _, o := range m.list {
		if o != p && o.deals() && score(o.Node, r.Key) > mine {
			return // it does
		}
	}
	m.do(Send{node, m.ending(r)})
}

// ending tells that a request has ended.
func (m *Machine) ending(r *record) Entry {
	return Entry{
		Type: Over, From: m.c.Node, Incarnation: m.c.Incarnation, Client: r.Client, ID: r.ID, Hash: r.Hash, Term: r.term, Once: r.Once,
		Worker: r.by, Refused: r.refused, Body: r.outcome,
	}
}

// inquire asks another of a request that a node runs and of which nothing was heard for long, less and less
// often: its end may have been dropped, and with it all that would have shown the gap.
func (m *Machine) inquire(r *record) {
	if r.worker == m.c.Node || m.now-max(r.claimed, r.asked) < m.c.Takeover<<min(r.asks, 10) {
		return
	}
	r.asks, r.asked = r.asks+1, m.now
	var best *peer
	for _, p := range m.list {
		if p.deals() && (best == nil || score(p.Node, r.Key) > score(best.Node, r.Key)) {
			best = p
		}
	}
	if best != nil {
		m.do(Send{best.Node, Entry{Type: Ask, From: m.c.Node, Incarnation: m.c.Incarnation, Client: r.Client, ID: r.ID, Term: r.term}})
	}
}

// over takes the word of another that a request has ended.
func (m *Machine) over(e *Entry) {
	k := e.key()
	r := m.records[k]
	if e.Worker != "" {
		if !m.synced || r != nil && r.done && r.by == e.Worker {
			return // it is told what was before, or knows
		}
		anew := e.Refused || e.Once // a later term is another request then
		if r != nil && !r.done && r.Hash == e.Hash && (!anew || e.Term >= r.term) {
			m.conclude(r, e.Worker, e.Refused, e.Body)
			r.term = max(r.term, e.Term)
		}
		m.gapped = true
	}
	// Term 0: it runs here from an earlier life, if it does.
	if m.finished[k] == nil && m.running[k] <= max(e.Term, m.termOf(k)) {
		m.do(Stop{k})
	}
}

// termOf is the term of a request that has ended; 0: it has not.
func (m *Machine) termOf(k Key) int {
	if r := m.records[k]; r != nil && r.done && !r.refused && !r.Once {
		return r.term
	}
	return 0
}
