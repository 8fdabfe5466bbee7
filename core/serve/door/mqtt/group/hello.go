package group

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// How a node that begins to listen is told what the others know, and what it does where nobody answers.

// meet has two nodes that sat down at the same time, untold both, tell each other what they know.
func (m *Machine) meet(p *peer) {
	life := p.Node + " " + p.Incarnation + " " + strconv.Itoa(p.Connection)
	if m.synced && m.self.Alone && p.deals() && p.Alone && !m.met[life] {
		m.met[life] = true
		m.merging = true
		m.sayHello()
	}
}

func (m *Machine) sayHello() {
	m.hello = hello{nonce: m.hello.nonce + 1, at: m.now, tries: m.hello.tries + 1, told: map[Key]telling{}, got: map[string]int{}}
	m.write(Entry{Type: Hello, Nonce: m.hello.nonce})
}

// greet answers a node that has begun to listen with this node's state, which follows from the log up to here.
func (m *Machine) greet(e *Entry) {
	if e.From == m.c.Node {
		if e.Incarnation == m.c.Incarnation && e.Nonce == m.hello.nonce {
			m.hello.heard, m.hello.at = true, m.now
			m.marks, m.gapped, m.since = map[string]mark{}, false, 0 // what was before is told
			for _, r := range m.open {
				r.backlog = r.backlog || r.fresh
			}
		}
		return
	}
	if !m.synced {
		return
	}
	for _, p := range m.list {
		if p.deals() && p.Node != e.From && before(&p.Member, &m.self) {
			return // it answers
		}
	}
	pack := Entry{Type: Pack, From: m.c.Node, Incarnation: m.c.Incarnation, Nonce: e.Nonce}
	count := 0
	for _, k := range slices.SortedFunc(maps.Keys(m.records), compareKeys) {
		before := len(pack.Body)
		body, err := appendRecord(pack.Body, m.describe(m.records[k]))
		if err != nil {
			continue
		}
		if before > 0 && len(body) > m.c.Pack {
			full := pack
			full.Body = body[:before:before]
			m.do(Send{e.From, full})
			body = slices.Clone(body[before:])
		}
		pack.Body = body
		count++
	}
	if len(pack.Body) > 0 {
		m.do(Send{e.From, pack})
	}
	m.do(Send{e.From, Entry{
		Type: End, From: m.c.Node, Incarnation: m.c.Incarnation, Nonce: e.Nonce, Count: count, Whole: m.now-m.gap >= m.c.Takeover,
		Heard: m.places(), Epoch: m.self.Epoch, Log: m.self.Log,
	}})
}

// describe returns the state of a request as an entry.
func (m *Machine) describe(r *record) *Entry {
	t := &Entry{
		Type: Record, From: m.c.Node, Incarnation: r.life, Client: r.Client, ID: r.ID, Hash: r.Hash, Term: r.term, Base: r.base,
		Worker: r.worker, Level: r.Level, Adapters: r.Adapters, Once: r.Once, Refused: r.refused, Accepted: r.accepted, Ended: r.done,
		Had: slices.Sorted(maps.Keys(r.had)), Body: r.Message,
	}
	if r.done {
		t.Body, t.Worker = r.outcome, r.by
	}
	return t
}

func compareKeys(a, b Key) int {
	if c := strings.Compare(a.Client, b.Client); c != 0 {
		return c
	}
	return strings.Compare(a.ID, b.ID)
}

// record takes one piece of the answer to hello. What was heard since then is newer, but for the end of a
// request: the first one counts.
func (m *Machine) record(e *Entry) {
	if m.synced && !m.merging || !m.asked || e.Nonce != m.hello.nonce {
		return
	}
	k := e.key()
	m.hello.got[e.From]++
	m.hello.told[k], m.hello.at = toldOpen, m.now
	if e.Ended {
		m.hello.told[k] = toldEnded
	}
	r := m.records[k]
	if r != nil && r.base > e.Base && e.Term <= r.base {
		return // asked anew since. A later term is of this request, though its sender does not know the one before
	}
	if r != nil && r.done && (r.refused || r.Once) && !e.Ended && e.Base >= r.term && e.Term > r.term {
		m.forget(r) // it was asked anew while this node was away
		r = nil
	}
	if r == nil {
		r = &record{
			Request: Request{Key: k, Hash: e.Hash, Once: e.Once, Level: e.Level, Adapters: e.Adapters}, need: none, lost: none, base: e.Base,
		}
		m.records[k] = r
		if !e.Ended {
			m.open[k] = r
		}
	}
	for _, node := range e.Had {
		r.give(node, true)
	}
	if e.Ended {
		if m.merging {
			m.merge(r, e)
			return
		}
		if _, runs := m.running[k]; runs && !e.Refused {
			m.do(Stop{k})
		}
		if r.done && !r.refused && e.Refused {
			delete(m.hello.told, k) // the nodes that refused it did not know
			return
		}
		if r.done {
			r.by, r.refused, r.outcome = e.Worker, e.Refused, e.Body
			m.size(r)
		} else if r.term <= e.Term || e.Term == 0 || !(r.Once || e.Refused) {
			m.conclude(r, e.Worker, e.Refused, e.Body)
		}
		r.term = max(r.term, e.Term)
		return
	}
	if r.done {
		return
	}
	if r.Message == nil && len(e.Body) > 0 {
		r.Message = e.Body
		m.size(r)
	}
	if e.Term > r.term {
		r.term, r.worker, r.life, r.accepted, r.claimed = e.Term, e.Worker, e.Incarnation, e.Accepted, m.now
		m.count(r, e.Worker)
	}
}

// merge takes an end that another node knows, while this one sits at the desk itself.
func (m *Machine) merge(r *record, e *Entry) {
	if e.Refused || !m.counts(r, e) && !(e.Term == 0 && !r.done) {
		return
	}
	asked := r.Message != nil
	m.conclude(r, e.Worker, false, e.Body)
	r.term = max(r.term, e.Term)
	if asked && m.rank(r.Key) == 0 {
		m.do(Publish{Key: r.Key, Outcome: r.outcome, Stored: true})
	}
	if _, runs := m.running[r.Key]; runs {
		m.do(Stop{r.Key})
	}
}

// sync sits at the desk from now on. answered: somebody has told what was before; whole: and has missed nothing.
func (m *Machine) sync(answered, whole bool) {
	for _, r := range m.records {
		if whole && !r.done && r.backlog && m.hello.told[r.Key] == 0 {
			m.forget(r) // the others have heard it too, and are done with it
		}
	}
	m.synced, m.self.Desk, m.self.Knows = true, true, KnowsAll
	m.hello.tries = 0
	m.self.Alone = !answered
	if !answered { // others who do the same come to know something else
		m.self.Epoch = m.c.Node + " " + m.c.Incarnation + " " + strconv.Itoa(m.self.Connection) + " " + strconv.Itoa(m.hello.nonce)
		m.self.Log = m.since
	}
	m.announce()
	for _, p := range m.list {
		m.meet(p)
	}
	if answered {
		m.remind()
	}
	m.held = none
	if !answered && slices.ContainsFunc(m.list, (*peer).live) {
		m.held = m.now // what others know of the ends of this node's requests comes first
	}
	m.decide()
	for _, k := range slices.SortedFunc(maps.Keys(m.records), compareKeys) {
		r := m.records[k]
		r.fresh, r.backlog = false, false
		if !r.done {
			r.claimed, r.need, r.lost = m.now, none, none
		}
	}
	for _, r := range m.recent() {
		if r.by != m.c.Node && !m.publishes(r.by) && m.rank(r.Key) == 0 {
			m.do(Publish{Key: r.Key, Outcome: r.outcome})
		}
	}
	later := m.later
	m.later = nil
	for _, q := range later {
		m.heard(q)
	}
	m.work()
}

// decide tells the ends of this node that are not decided, once it knows what the group does.
func (m *Machine) decide() {
	if m.held != none && m.now-m.held < m.step()*3/2 {
		return
	}
	m.held = none
	for _, k := range slices.SortedFunc(maps.Keys(m.finished), compareKeys) {
		e, r := m.finished[k], m.records[k]
		switch {
		case r != nil && r.done && r.by == m.c.Node:
			m.deliver(r)
		case r != nil && r.done:
			m.settle(k)
		default:
			m.write(*e)
		}
	}
}

// remind tells the others of ends that they do not know: they were away when those came, or have begun anew
// since. Whether such an end counts is decided once more, by the log: others may have come to another
// meanwhile.
func (m *Machine) remind() {
	for _, r := range slices.Clone(m.ended) {
		if m.records[r.Key] != r || !r.done || m.hello.told[r.Key] == toldEnded || r.refused || r.Once {
			continue
		}
		m.finished[r.Key] = &Entry{
			Type: Done, From: m.c.Node, Incarnation: m.c.Incarnation, Client: r.Client, ID: r.ID, Hash: r.Hash, Term: r.term, Body: r.outcome,
		}
		if m.hello.told[r.Key] == 0 {
			m.quiet[r.Key] = true // nobody waits for it
		}
		again := &record{Request: r.Request, base: r.base, term: r.term, need: none, lost: none, had: r.had}
		m.forget(r)
		m.records[r.Key], m.open[r.Key] = again, again
	}
}

// maxTries is how often a node asks what was before while others are there who should know.
const maxTries = 4

// trySync asks once more where nobody has answered hello, and at last goes by what this node knows itself.
// One that has begun its life just now knows nothing, and gives those time that may come back and do.
func (m *Machine) trySync() {
	if !m.hello.heard || m.now-m.hello.at < m.step() {
		return
	}
	wait, seniors := m.step(), 0
	if m.self.Knows < KnowsAll {
		wait = m.patience()
	}
	for _, p := range m.list {
		if p.deals() && m.hello.tries < maxTries {
			m.sayHello()
			return
		}
		switch {
		case p.present && p.Knows == m.self.Knows && further(&p.Member, &m.self) && m.mayAnswer(p):
			wait = max(wait, m.c.Takeover/2)
		case p.present && p.Knows > m.self.Knows && m.mayAnswer(p):
			// One that knows nothing waits for longer than one that waits for a third itself, and knows much.
			wait = max(wait, m.c.Takeover/2+time.Duration(p.Knows-m.self.Knows-1)*m.patience())
		case m.self.Knows == p.Knows && p.live() && before(&p.Member, &m.self) && !further(&m.self, &p.Member):
			seniors++
		}
	}
	// One after the other, so that each is told what those before it know.
	if m.now-m.hello.at < wait+time.Duration(min(seniors, 3))*m.step()/2 {
		return
	}
	m.sync(false, false) // nobody knows more
}

// further reports whether one node knows more of the same log than another: its connection ended later.
func further(a, b *Member) bool { return a.Epoch != "" && a.Epoch == b.Epoch && a.Log > b.Log }

// mayAnswer reports whether a node has a seat at the desk, or comes before this one where seats are given.
func (m *Machine) mayAnswer(p *peer) bool {
	if p.Desk || before(&p.Member, &m.self) {
		return true
	}
	seniors := 0
	for _, o := range m.list {
		if o != p && o.live() && o.State != StateLeaving && before(&o.Member, &p.Member) {
			seniors++
		}
	}
	return seniors+1 < m.c.Desk // this node is one of them
}
