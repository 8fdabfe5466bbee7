package group

import (
	"maps"
	"slices"
	"time"
)

// What becomes of a request: it is heard, claimed for a node, accepted or passed on, and ended by the first
// entry of the log that says so.

// rank is which of those who deal requests out comes before this node for a key: 0: none; -1: it deals none.
func (m *Machine) rank(k Key) int {
	if !m.synced || m.self.State == StateLeaving {
		return -1
	}
	mine, n := score(m.c.Node, k), 0
	for _, p := range m.list {
		if p.deals() && score(p.Node, k) > mine {
			n++
		}
	}
	return n
}

// heard takes a request that a client has published.
func (m *Machine) heard(q *Request) {
	r := m.records[q.Key]
	if r == nil || r.done && (r.refused || r.Once) {
		m.begin(r, q)
		return
	}
	switch {
	case !m.synced:
		if len(m.later) < maxLater {
			m.later = append(m.later, q)
		}
	case r.Hash != q.Hash:
		if m.rank(q.Key) == 0 {
			m.do(TurnAway{*q, CodeConflict})
		}
	case r.done:
		m.repeat(r)
	default:
		if r.Message == nil { // it was known by its claim alone
			r.Message = q.Message
			m.size(r)
			if r.worker == m.c.Node && r.life == m.c.Incarnation {
				m.run(r.Request, r.term)
				return
			}
		}
		if term, ok := m.running[q.Key]; ok {
			m.do(Run{r.Request, term})
		}
	}
}

// begin takes a request that is new, or new under an id that was free again.
func (m *Machine) begin(old *record, q *Request) {
	r := &record{Request: *q, need: m.now, lost: none, fresh: !m.synced}
	if old != nil {
		r.base, r.term = old.term, old.term
		m.forget(old)
	} else if len(m.open) >= m.c.Entries {
		if m.rank(q.Key) == 0 {
			m.do(TurnAway{*q, CodeFull})
		}
		return
	}
	m.records[q.Key], m.open[q.Key] = r, r
	m.size(r)
	m.consider(r)
}

// repeat answers a request that has ended once more.
func (m *Machine) repeat(r *record) {
	if m.rank(r.Key) == 0 {
		m.do(Publish{Key: r.Key, Outcome: r.outcome, Stored: true})
	}
}

// told takes an entry.
func (m *Machine) told(e *Entry, direct bool) {
	if direct {
		switch e.Type {
		case Give:
			m.give(e)
		case Pack:
			for _, r := range unpack(e.Body) {
				r.Nonce = e.Nonce
				m.record(&r)
			}
		case End:
			if m.asked && e.Nonce == m.hello.nonce {
				m.compare(e.Heard)
			}
			switch {
			case !m.asked || e.Nonce != m.hello.nonce:
			case m.hello.got[e.From] != e.Count && m.hello.tries < maxTries:
				m.sayHello() // some of it was lost on the way
			case m.hello.got[e.From] != e.Count && !m.synced: // trySync goes by what there is
			case !m.synced:
				m.self.Epoch, m.self.Log = e.Epoch, e.Log+m.since
				m.sync(true, e.Whole)
			case m.merging:
				if p := m.peers[e.From]; p != nil && before(&p.Member, &m.self) { // of two who tell each other what they know
					m.self.Epoch, m.self.Log = e.Epoch, e.Log+m.since
				}
				m.merging, m.held = false, none
				m.remind()
				m.decide()
			}
		case Noted:
			if f := m.finished[e.key()]; f != nil && f.Term <= e.Term {
				m.settle(e.key())
			}
		case Over:
			m.over(e)
		case Ask:
			if r := m.records[e.key()]; r != nil && r.done && m.synced {
				m.do(Send{e.From, m.ending(r)})
			}
		case Hello, Claim, Accept, Pass, Done: // of the log
		case Record: // in a pack
		}
		return
	}
	if !m.listening {
		return
	}
	m.note(e)
	defer m.again()
	switch e.Type {
	case Hello:
		m.greet(e)
	case Claim:
		m.claim(e)
	case Accept:
		m.accept(e)
	case Pass:
		m.pass(e)
	case Done:
		m.done(e)
	case Give, Record, Pack, End, Noted, Over, Ask:
	}
}

// accept notes that a node runs a request, also where it says so late and another was given it meanwhile: its
// client was told.
func (m *Machine) accept(e *Entry) {
	r := m.records[e.key()]
	if r == nil || r.done || e.Term <= r.base {
		return
	}
	r.give(e.From, true)
	if r.term == e.Term && r.worker == e.From {
		r.accepted, r.lost = true, none
	}
}

// give notes that a node has a request, or may have it.
func (r *record) give(node string, accepted bool) {
	if r.had == nil {
		r.had = map[string]bool{}
	}
	r.had[node] = r.had[node] || accepted
}

// hadBut reports whether a node other than this one has accepted a request, or may have.
func (r *record) hadBut(node string) bool {
	_, has := r.had[node]
	return len(r.had) > 1 || len(r.had) == 1 && !has
}

// claim has a node run a request. The first one of a term counts.
func (m *Machine) claim(e *Entry) {
	k := e.key()
	r := m.records[k]
	if r == nil {
		if len(m.open) >= 2*m.c.Entries {
			return // no group has so many
		}
		r = &record{
			Request: Request{Key: k, Hash: e.Hash, Once: e.Once, Level: e.Level, Adapters: e.Adapters}, need: none, lost: none, fresh: !m.synced,
		}
		m.records[k], m.open[k] = r, r
	}
	if r.done && e.Term > r.term && (r.refused || r.Once) {
		// Asked anew, and heard of from the one who claims it first.
		q := r.Request
		q.Message = nil
		m.begin(r, &q)
		r = m.records[k]
	}
	if r.done {
		m.correct(r, e.From)
	}
	if r.done || e.Term <= r.term {
		return
	}
	r.term, r.worker, r.life, r.accepted, r.claimed, r.need, r.wrote = e.Term, e.Worker, e.Incarnation, false, m.now, none, 0
	r.asks = 0
	r.give(e.Worker, false)
	m.count(r, e.Worker)
	if e.Worker == m.c.Node {
		if e.Incarnation == m.c.Incarnation && r.Message != nil {
			m.run(r.Request, r.term)
		}
		return
	}
	if p := m.peers[e.Worker]; e.From == m.c.Node && r.Message != nil && (p == nil || !p.Desk || r.slow[e.Worker]) {
		m.do(Send{e.Worker, Entry{
			Type: Give, From: m.c.Node, Incarnation: m.c.Incarnation, Client: k.Client, ID: k.ID, Hash: r.Hash, Term: r.term, Once: r.Once,
			Level: r.Level, Adapters: r.Adapters, Body: r.Message,
		}})
	}
}

func (m *Machine) give(e *Entry) {
	m.run(Request{Key: e.key(), Hash: e.Hash, Once: e.Once, Level: e.Level, Adapters: e.Adapters, Message: e.Body}, e.Term)
}

// run runs a request here, once for each term.
func (m *Machine) run(q Request, term int) {
	if m.running[q.Key] >= term || m.finished[q.Key] != nil && m.finished[q.Key].Term >= term {
		return
	}
	m.running[q.Key] = term
	m.do(Run{q, term})
}

func (m *Machine) pass(e *Entry) {
	r := m.records[e.key()]
	if r == nil || r.done || r.term != e.Term || r.worker != e.From {
		return
	}
	if r.declined == nil {
		r.declined = map[string]declined{}
	}
	r.declined[e.From] = declined{e.Code, e.Body}
	if !r.had[e.From] {
		delete(r.had, e.From)
	}
	r.worker = ""
	m.count(r, "")
	m.consider(r)
}

// end takes what this node has computed.
func (m *Machine) end(e Ended) {
	delete(m.running, e.Key)
	entry := &Entry{
		Type: Done, From: m.c.Node, Incarnation: m.c.Incarnation, Client: e.Key.Client, ID: e.Key.ID, Hash: e.Hash, Term: e.Term,
		Once: e.Once, Refused: e.Refused, Body: e.Outcome,
	}
	if r := m.records[e.Key]; r != nil && r.done && m.synced && !m.counts(r, entry) {
		m.settle(e.Key)
		return
	}
	m.finished[e.Key] = entry
	if m.synced && m.held == none || !m.asked {
		m.write(*entry)
	}
}

// settle forgets an end of this node that is decided, and that it has not to tell.
func (m *Machine) settle(k Key) {
	delete(m.finished, k)
	delete(m.quiet, k)
	m.do(Settle{k})
}

// counts reports whether an entry may end a request: an ended one is not ended again, and an earlier one of
// the same id is another.
func (m *Machine) counts(r *record, e *Entry) bool {
	return (!r.done || r.refused && !e.Refused) && (e.Term > r.base || r.base == 0)
}

// done ends a request, where it is the first entry that does so.
func (m *Machine) done(e *Entry) {
	k := e.key()
	r := m.records[k]
	if r == nil {
		r = &record{Request: Request{Key: k, Hash: e.Hash, Once: e.Once}, need: none, lost: none}
		m.records[k] = r
	}
	own := e.From == m.c.Node
	if !own && m.rank(k) == 0 && !m.publishes(e.From) {
		if r.done && r.by == e.From {
			m.do(Publish{Key: k, Outcome: r.outcome}) // it has sat at the desk, and left it before it could
		}
		defer m.do(Send{e.From, Entry{Type: Noted, From: m.c.Node, Incarnation: m.c.Incarnation, Client: k.Client, ID: k.ID, Term: e.Term}})
	}
	if !m.counts(r, e) {
		if own && m.finished[k] != nil && m.finished[k].Term == e.Term && !(r.done && r.by == e.From) {
			m.settle(k)
		}
		if !own && r.by != e.From {
			m.correct(r, e.From)
		}
		return
	}
	// What one node has accepted another cannot refuse: its client may have been told, and the first one may
	// go on from its journal.
	m.conclude(r, e.From, e.Refused && !r.hadBut(e.From), e.Body)
	r.term = max(r.term, e.Term)
	switch {
	case own:
		if m.synced {
			m.deliver(r)
		}
		return
	case m.rank(k) == 0 && !m.publishes(e.From):
		m.do(Publish{Key: k, Outcome: r.outcome})
	}
	if _, runs := m.running[k]; runs {
		m.do(Stop{k})
	}
}

// publishes reports whether a node tells the client itself what it has ended: at the desk it hears that its end counts.
func (m *Machine) publishes(node string) bool {
	p := m.peers[node]
	return p != nil && p.live() && p.Desk
}

// deliver publishes what this node has ended.
func (m *Machine) deliver(r *record) {
	if m.finished[r.Key] == nil {
		return
	}
	delete(m.finished, r.Key)
	if !m.quiet[r.Key] {
		m.do(Publish{Key: r.Key, Outcome: r.outcome, Own: true})
	}
	delete(m.quiet, r.Key)
}

// conclude notes the end of a request.
func (m *Machine) conclude(r *record, by string, refused bool, outcome []byte) {
	r.done, r.by, r.refused, r.outcome, r.at = true, by, refused, outcome, m.now
	r.Message, r.declined, r.slow, r.wrote, r.need = nil, nil, nil, 0, none
	m.count(r, "")
	delete(m.open, r.Key)
	m.ended = append(m.ended, r)
	m.size(r)
	m.evict()
}

// count makes a request a part of a node's load; "": of nobody's.
func (m *Machine) count(r *record, node string) {
	if r.counts != "" {
		if m.load[r.counts]--; m.load[r.counts] <= 0 {
			delete(m.load, r.counts)
		}
	}
	if r.counts = node; node != "" {
		m.load[node]++
	}
}

func (m *Machine) size(r *record) {
	m.bytes -= r.size
	r.size = len(r.Message) + len(r.outcome)
	m.bytes += r.size
}

func (m *Machine) forget(r *record) {
	m.count(r, "")
	m.bytes -= r.size
	r.size = 0
	delete(m.open, r.Key)
	if m.records[r.Key] == r {
		delete(m.records, r.Key)
	}
}

// evict forgets what has ended long ago, and the oldest where there is too much.
func (m *Machine) evict() {
	n := 0
	for n < len(m.ended) {
		r := m.ended[n]
		stale := m.records[r.Key] != r
		if !stale && m.now-r.at < m.c.Window && len(m.records) <= m.c.Entries && m.bytes <= m.c.Bytes {
			break
		}
		if !stale {
			m.forget(r)
		}
		m.ended[n] = nil
		n++
	}
	m.ended = m.ended[n:]
}

// work looks after everything that nobody has.
func (m *Machine) work() {
	if !m.synced || m.self.State == StateLeaving || len(m.open) == 0 {
		return
	}
	for _, k := range slices.SortedFunc(maps.Keys(m.open), compareKeys) {
		if r := m.open[k]; r != nil {
			m.consider(r)
		}
	}
}

// consider claims a request for a node where nobody has it and it is this node's turn to do so.
func (m *Machine) consider(r *record) {
	if !m.synced || r.done {
		return
	}
	if !m.unheld(r) {
		r.need = none
		if r.accepted {
			r.lost = none
		}
		m.inquire(r)
		return
	}
	if r.need == none {
		r.need = m.now
	}
	if r.lost == none && len(r.had) > 0 {
		r.lost = m.now
	}
	rank := m.rank(r.Key)
	if rank < 0 || m.now-r.need < time.Duration(rank)*m.step() {
		return
	}
	if r.wrote > r.term && m.now-r.wroteAt < m.step() {
		return // its claim is under way
	}
	m.assign(r)
}

// unheld reports whether nobody runs a request.
func (m *Machine) unheld(r *record) bool {
	if r.worker == "" {
		return true
	}
	if r.worker == m.c.Node {
		if r.life != m.c.Incarnation {
			return true
		}
	} else {
		p := m.peers[r.worker]
		switch {
		case p == nil:
			return m.now-r.claimed >= m.patience()
		case p.present && p.Incarnation != r.life || p.left:
			return true
		case !p.live():
			return m.now-p.gone >= m.patience()
		}
	}
	if !r.accepted && m.now-r.claimed >= m.patience() {
		if r.slow == nil {
			r.slow = map[string]bool{}
		}
		r.slow[r.worker] = true
		return true
	}
	return false
}

// assign claims a request for the node that has the least to do of those that can serve it.
func (m *Machine) assign(r *record) {
	if r.Message == nil { // known by its claim alone: a node that has the message deals with it
		if m.now-r.need >= m.c.Takeover {
			m.forget(r)
		}
		return
	}
	var best, slow *Member
	var least float64
	var ready, serves, full bool
	try := func(w *Member) {
		if w.State != StateReady {
			return
		}
		ready = true
		if !w.serves(r) {
			return
		}
		serves = true
		if _, no := r.declined[w.Node]; no {
			return
		}
		if r.slow[w.Node] {
			slow = w
			return
		}
		n := m.load[w.Node]
		if n >= w.Running+w.Queue {
			full = true
			return
		}
		load := float64(n) / float64(max(w.Running, 1))
		if best == nil || load < least || load == least && score(w.Node, r.Key) > score(best.Node, r.Key) {
			best, least = w, load
		}
	}
	try(&m.self)
	for _, p := range m.list {
		if p.live() {
			try(&p.Member)
		}
	}
	if best == nil {
		best = slow // it may only be slow, and nobody else can
	}
	if best != nil {
		r.wrote, r.wroteAt = r.term+1, m.now
		m.count(r, best.Node)
		m.write(Entry{
			Type: Claim, Incarnation: best.Incarnation, Client: r.Client, ID: r.ID, Hash: r.Hash, Term: r.term + 1, Worker: best.Node,
			Level: r.Level, Adapters: r.Adapters, Once: r.Once,
		})
		return
	}
	if m.awaits(r) {
		return
	}
	refuse := Refuse{Request: r.Request, Term: r.term + 1, Lost: slices.Sorted(maps.Keys(r.had))}
	switch {
	case full:
		refuse.Code = CodeFull
	case len(r.declined) > 0:
		d := r.declined[slices.Min(slices.Collect(maps.Keys(r.declined)))]
		refuse.Code, refuse.Reason = d.code, d.reason
	case ready && !serves && len(r.Adapters) > 0:
		refuse.Code = CodeAdapter
	case m.now-r.need < m.c.Takeover/2:
		return // somebody may come
	default:
		refuse.Code = CodeUnavailable
	}
	r.wrote, r.wroteAt = r.term+1, m.now
	m.do(refuse)
}

// awaits reports whether a request that no node takes now is left to one that had it: one that is away may
// come back soon, as after a crash, and one that is back goes on from its journal, whatever it says of its
// room.
func (m *Machine) awaits(r *record) bool {
	if len(r.had) == 0 {
		return false
	}
	if m.now-r.lost < m.c.Takeover/2 {
		return true
	}
	for node := range r.had {
		p := m.peers[node]
		_, no := r.declined[node]
		if p != nil && p.live() && !no && (p.State == StateWaiting || p.State == StateReady && p.serves(r)) {
			return true
		}
	}
	return false
}

// serves reports whether a node has what a request needs.
func (w *Member) serves(r *record) bool {
	if len(w.Levels) > 0 && r.Level != "" && !slices.Contains(w.Levels, r.Level) {
		return false
	}
	for _, a := range r.Adapters {
		if !slices.Contains(w.Adapters, a) {
			return false
		}
	}
	return true
}
