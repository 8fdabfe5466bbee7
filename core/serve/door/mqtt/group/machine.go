package group

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Machine is one node's part in a group.
type Machine struct {
	c      Config
	now    time.Duration
	ticked time.Duration
	out    []Decision

	self  Member
	peers map[string]*peer // the other nodes
	list  []*peer          // in the order of their names

	connected bool
	echoed    bool // what this node tells of itself came back on this connection
	asked     bool // Listen was decided on this connection
	standing  bool // there was no free seat
	restated  time.Duration
	listening bool
	synced    bool // it knows what the group knows
	hello     hello
	held      time.Duration // since when it sits there alone and holds its ends back; none: it does not
	gap       time.Duration // when it began to listen without what was before

	records  map[Key]*record
	open     map[Key]*record
	ended    []*record // in the order of their ends
	bytes    int
	load     map[string]int
	running  map[Key]int     // what this node runs, and as which term
	finished map[Key]*Entry  // its ends that are not decided
	quiet    map[Key]bool    // of those: nobody waits for them
	merging  bool            // hello was said once more, at the desk
	met      map[string]bool // lives of nodes for which it was
	later    []*Request      // that were heard once more while it was not synced
}

const maxLater = 256

// hello is where the question stands what was before.
type hello struct {
	nonce int
	heard bool // it has come back
	at    time.Duration
	tries int
	told  map[Key]telling // by the answer that is coming
	got   map[string]int  // records of it, by the node that tells them: two may, where neither knows of the other
}

// telling is what an answer to hello said of a request.
type telling uint8

const (
	toldOpen  telling = 1
	toldEnded telling = 2
)

// peer is another node.
type peer struct {
	Member

	present  bool // it tells what it is
	online   bool
	left     bool // it has said farewell
	gone     time.Duration
	reported bool // its absence was dealt with
}

func (p *peer) live() bool { return p.present && p.online }

// deals reports whether a node deals requests out.
func (p *peer) deals() bool { return p.live() && p.Desk && p.State != StateLeaving }

// record is what is known of one request.
type record struct {
	Request

	done     bool
	refused  bool // of a done one
	outcome  []byte
	by       string // who has ended it
	at       time.Duration
	base     int // terms up to this belong to an earlier request of the same id
	term     int
	worker   string
	life     string // of the worker
	accepted bool
	claimed  time.Duration // when the claim was heard
	need     time.Duration // since when nobody has it; none: somebody has
	wrote    int           // the term that this node has claimed, and which has not come back
	wroteAt  time.Duration
	counts   string              // the node whose load it is a part of
	declined map[string]declined // by node
	slow     map[string]bool     // nodes that said nothing to their claim
	backlog  bool                // heard on this connection before the group's answer to hello began
	fresh    bool                // heard on this connection while not synced
	size     int
}

type declined struct{ outcome []byte }

const none = time.Duration(-1)

// New returns a Machine that is not connected.
func New(c Config) *Machine {
	if c.Takeover <= 0 {
		c.Takeover = 10 * time.Second
	}
	if c.Window <= 0 {
		c.Window = 10 * time.Minute
	}
	if c.Desk <= 0 {
		c.Desk = 5
	}
	if c.Entries <= 0 {
		c.Entries = 4096
	}
	if c.Bytes <= 0 {
		c.Bytes = 8 << 20
	}
	if c.Pack <= 0 {
		c.Pack = 32 << 10
	}
	return &Machine{
		c: c, self: Member{Node: c.Node, State: StateWaiting, Incarnation: c.Incarnation, Since: c.Since},
		peers: map[string]*peer{}, records: map[Key]*record{}, open: map[Key]*record{}, load: map[string]int{},
		held: none, running: map[Key]int{}, finished: map[Key]*Entry{}, quiet: map[Key]bool{},
	}
}

// The times within takeover. A step is more than a broker's round trip. From a death that the broker tells, the others wait patience
// for a quick return; a claim that is not answered for as long counts as lost. Together with a step for each dealer that is gone
// too they stay within takeover.
func (m *Machine) step() time.Duration     { return m.c.Takeover / 10 }
func (m *Machine) patience() time.Duration { return m.c.Takeover / 4 }

// Synced reports whether the node sits at the desk.
func (m *Machine) Synced() bool { return m.synced }

// Seated reports whether the node has what it needs of its group: it sits at the desk, or others do.
func (m *Machine) Seated() bool { return m.synced || m.connected && m.echoed && !m.asked }

// Members are the nodes that are there, in the order of their names.
func (m *Machine) Members() []Member {
	out := []Member{m.self}
	for _, p := range m.list {
		if p.live() {
			out = append(out, p.Member)
		}
	}
	slices.SortFunc(out, func(a, b Member) int { return strings.Compare(a.Node, b.Node) })
	return out
}

// Pending is how many ends of this node are not decided. While it and another node, which did not hear of each other before, tell each other
// what they know, there may be one more.
func (m *Machine) Pending() int {
	n := len(m.finished)
	if m.merging {
		n++
	}
	return n
}

// Open is how many requests have not ended, as far as this node knows.
func (m *Machine) Open() int { return len(m.open) }

// Next is when the Machine wants a Tick, from now; 0: it wants none.
func (m *Machine) Next() time.Duration {
	switch {
	case !m.connected:
		return 0
	case len(m.open) > 0 || m.asked && !m.synced || m.held != none:
		return m.step() / 4
	case m.standing && len(m.finished) > 0:
		return m.patience()
	}
	for _, p := range m.list {
		if !p.live() && !p.reported {
			return m.step()
		}
	}
	if len(m.ended) > 0 {
		return m.c.Takeover
	}
	return 0
}

// Step takes an event. now counts from any beginning and never goes back.
func (m *Machine) Step(now time.Duration, e Event) []Decision {
	m.now, m.out = now, nil
	switch e := e.(type) {
	case Offer:
		m.offer(e.Member)
	case Connected:
		m.connect()
	case Lost:
		if !m.synced { // it misses what the others did meanwhile
			m.self.Knows = min(m.self.Knows, KnowsMuch)
		}
		m.connected, m.listening, m.synced, m.self.Desk, m.self.Alone = false, false, false, false, false
	case Listening:
		if m.connected && m.asked && !m.listening {
			m.listening = true
			if !e.Resumed {
				m.gap = now
			}
			m.sayHello()
		}
	case Heard:
		if !m.standing { // else a session of an earlier life brings it
			m.heard(&e.Request)
		}
	case Told:
		m.told(&e.Entry, e.Direct)
	case Present:
		m.present(e.Node, e.Member)
	case Online:
		m.online(e.Node, e.Online)
	case Took:
		m.write(Entry{Type: Accept, Client: e.Key.Client, ID: e.Key.ID, Term: e.Term})
	case Declined:
		delete(m.running, e.Key)
		m.write(Entry{Type: Pass, Client: e.Key.Client, ID: e.Key.ID, Term: e.Term, Code: e.Code, Body: e.Outcome})
	case Ended:
		m.end(e)
	case Leave:
		if m.self.State != StateLeaving {
			m.self.State = StateLeaving
			m.announce()
		}
	case Tick:
	}
	if _, ticks := e.(Tick); m.connected && (ticks || now-m.ticked >= m.step()/4) {
		m.ticked = now
		m.tick()
	}
	out := m.out
	m.out = nil
	return out
}

func (m *Machine) do(d Decision) { m.out = append(m.out, d) }

func (m *Machine) write(e Entry) {
	if !m.connected {
		return
	}
	e.From = m.c.Node
	if e.Incarnation == "" {
		e.Incarnation = m.c.Incarnation
	}
	m.do(Write{e})
}

func (m *Machine) announce() {
	if m.connected {
		m.do(Announce{m.self})
	}
}

func (m *Machine) offer(o Member) {
	was := m.self
	m.self.Model, m.self.Levels, m.self.Adapters = o.Model, o.Levels, o.Adapters
	m.self.Running, m.self.Queue = o.Running, o.Queue
	if m.self.State != StateLeaving {
		m.self.State = o.State
	}
	if was.State != m.self.State || was.Model != m.self.Model || was.Running != m.self.Running || was.Queue != m.self.Queue ||
		!slices.Equal(was.Levels, m.self.Levels) || !slices.Equal(was.Adapters, m.self.Adapters) {
		m.announce()
	}
}

// connect begins a connection. What others have told holds no longer until they tell it again: this node may have missed their end.
func (m *Machine) connect() {
	m.connected, m.echoed, m.asked, m.standing, m.listening, m.synced = true, false, false, false, false, false
	m.self.Connection++
	m.self.Desk, m.self.Alone, m.merging, m.met = false, false, false, map[string]bool{}
	m.hello = hello{nonce: m.hello.nonce + 1, told: map[Key]telling{}, got: map[string]int{}} // answers to an earlier one count no more
	for _, p := range m.list {
		p.present, p.online, p.left, p.reported, p.gone = false, true, false, false, m.now
	}
	for _, r := range m.open {
		r.fresh, r.backlog, r.wrote = false, false, 0
	}
	m.announce()
}

// maxPeers bounds the nodes that are remembered. Whoever may publish an availability can make names up.
const maxPeers = 4096

func (m *Machine) peer(node string) *peer {
	p := m.peers[node]
	if p == nil && len(m.peers) >= maxPeers {
		return &peer{Member: Member{Node: node}}
	}
	if p == nil {
		// That it is there is believed until the broker says otherwise: what it tells, and what is told of it, come in either order.
		p = &peer{Member: Member{Node: node}, online: true}
		m.peers[node] = p
		at, _ := slices.BinarySearchFunc(m.list, node, func(p *peer, node string) int { return strings.Compare(p.Node, node) })
		m.list = slices.Insert(m.list, at, p)
	}
	return p
}

func (m *Machine) present(node string, who *Member) {
	if node == m.c.Node {
		switch {
		case who != nil && who.Incarnation == m.c.Incarnation && who.Connection == m.self.Connection:
			m.echoed = true
		case m.echoed:
			m.announce() // somebody took it for gone
		}
		m.seat()
		return
	}
	p := m.peer(node)
	if who == nil {
		if p.present {
			p.present, p.left, p.gone, p.reported = false, true, m.now, false
			m.absent(p)
		}
	} else {
		p.Member, p.present, p.left, p.reported = *who, true, false, false
		p.Node = node
		m.meet(p)
	}
	m.seat()
	m.work()
}

// meet has two nodes that sat down at the same time, untold both, tell each other what they know.
func (m *Machine) meet(p *peer) {
	life := p.Node + " " + p.Incarnation + " " + strconv.Itoa(p.Connection)
	if m.synced && m.self.Alone && p.deals() && p.Alone && !m.met[life] {
		m.met[life] = true
		m.merging = true
		m.sayHello()
	}
}

func (m *Machine) online(node string, is bool) {
	if node == m.c.Node {
		return
	}
	p := m.peer(node)
	if p.online == is {
		return
	}
	p.online = is
	if !is {
		p.gone = m.now
		m.absent(p)
	}
	m.seat()
	m.work()
}

// absent deals with the end of a node: what it has ended last may not have reached the clients.
func (m *Machine) absent(p *peer) {
	if p.left {
		p.reported = true
		return
	}
	for _, r := range m.recent() {
		if r.by == p.Node && m.rank(r.Key) == 0 {
			m.do(Publish{Key: r.Key, Outcome: r.outcome})
		}
	}
}

// recent are the requests that have ended so lately that their ends may not have reached the clients.
func (m *Machine) recent() []*record {
	i := len(m.ended)
	for i > 0 && m.now-m.ended[i-1].at <= m.c.Takeover {
		i--
	}
	return slices.DeleteFunc(slices.Clone(m.ended[i:]), func(r *record) bool { return m.records[r.Key] != r })
}

// before orders nodes by how long they are there.
func before(a, b *Member) bool {
	if a.Since != b.Since {
		return a.Since < b.Since
	}
	return a.Node < b.Node
}

// seat sits down at the desk where there is a free seat. Nobody gets up again.
func (m *Machine) seat() {
	if !m.connected || !m.echoed || m.asked {
		return
	}
	seniors := 0
	for _, p := range m.list {
		if p.live() && p.State != StateLeaving && before(&p.Member, &m.self) {
			if seniors++; seniors >= m.c.Desk {
				break
			}
		}
	}
	if seniors < m.c.Desk {
		m.asked, m.standing = true, false
		m.do(Listen{})
		return
	}
	if !m.standing {
		// Who sits at the desk decides about what this node has ended, also about what it could not tell before.
		m.standing = true
		for _, r := range m.open {
			m.forget(r)
		}
		m.restate()
	}
}

// restate tells the ends of this node that are not decided, as far as it knows. One that does not sit at the desk hears of it from those who
// do, who may all have been away.
func (m *Machine) restate() {
	m.restated = m.now
	for _, k := range slices.SortedFunc(maps.Keys(m.finished), compareKeys) {
		m.write(*m.finished[k])
	}
}

func (m *Machine) sayHello() {
	m.hello = hello{nonce: m.hello.nonce + 1, at: m.now, tries: m.hello.tries + 1, told: map[Key]telling{}, got: map[string]int{}}
	m.write(Entry{Type: Hello, Nonce: m.hello.nonce})
}

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
	r := &record{Request: *q, need: m.now, fresh: !m.synced}
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
			switch {
			case !m.asked || e.Nonce != m.hello.nonce:
			case m.hello.got[e.From] != e.Count && m.hello.tries < maxTries:
				m.sayHello() // some of it was lost on the way
			case m.hello.got[e.From] != e.Count && !m.synced: // trySync goes by what there is
			case !m.synced:
				m.sync(true, e.Whole)
			case m.merging:
				m.merging, m.held = false, none
				m.remind()
				m.decide()
			}
		case Noted:
			if f := m.finished[e.key()]; f != nil && f.Term <= e.Term {
				m.settle(e.key())
			}
		case Hello, Claim, Accept, Pass, Done: // of the log
		case Record: // in a pack
		}
		return
	}
	if !m.listening {
		return
	}
	switch e.Type {
	case Hello:
		m.greet(e)
	case Claim:
		m.claim(e)
	case Accept:
		if r := m.records[e.key()]; r != nil && !r.done && r.term == e.Term && r.worker == e.From {
			r.accepted = true
		}
	case Pass:
		m.pass(e)
	case Done:
		m.done(e)
	case Give, Record, Pack, End, Noted:
	}
}

// claim has a node run a request. The first one of a term counts.
func (m *Machine) claim(e *Entry) {
	k := e.key()
	r := m.records[k]
	if r == nil {
		if len(m.open) >= 2*m.c.Entries {
			return // no group has so many
		}
		r = &record{Request: Request{Key: k, Hash: e.Hash, Once: e.Once, Level: e.Level, Adapters: e.Adapters}, need: none, fresh: !m.synced}
		m.records[k], m.open[k] = r, r
	}
	if r.done && e.Term > r.term && (r.refused || r.Once) {
		// Asked anew, and heard of from the one who claims it first.
		q := r.Request
		q.Message = nil
		m.begin(r, &q)
		r = m.records[k]
	}
	if r.done || e.Term <= r.term {
		return
	}
	r.term, r.worker, r.life, r.accepted, r.claimed, r.need, r.wrote = e.Term, e.Worker, e.Incarnation, false, m.now, none, 0
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
	r.declined[e.From] = declined{e.Body}
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

// counts reports whether an entry may end a request: an ended one is not ended again, and an earlier one of the same id is another.
func (m *Machine) counts(r *record, e *Entry) bool {
	return (!r.done || r.refused && !e.Refused) && (e.Term > r.base || r.base == 0)
}

// done ends a request, where it is the first entry that does so.
func (m *Machine) done(e *Entry) {
	k := e.key()
	r := m.records[k]
	if r == nil {
		r = &record{Request: Request{Key: k, Hash: e.Hash, Once: e.Once}, need: none}
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
		return
	}
	m.conclude(r, e.From, e.Refused, e.Body)
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

// greet answers a node that has begun to listen: it is told what this one knows, which is what the log says up to here.
func (m *Machine) greet(e *Entry) {
	if e.From == m.c.Node {
		if e.Incarnation == m.c.Incarnation && e.Nonce == m.hello.nonce {
			m.hello.heard, m.hello.at = true, m.now
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
	}})
}

// describe is what is known of a request, as an entry.
func (m *Machine) describe(r *record) *Entry {
	t := &Entry{
		Type: Record, From: m.c.Node, Incarnation: r.life, Client: r.Client, ID: r.ID, Hash: r.Hash, Term: r.term, Base: r.base,
		Worker: r.worker, Level: r.Level, Adapters: r.Adapters, Once: r.Once, Refused: r.refused, Accepted: r.accepted, Ended: r.done,
		Body: r.Message,
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

// record takes one piece of the answer to hello. What was heard since then is newer, but for the end of a request: the first one counts.
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
	if r != nil && r.base > e.Base {
		return // asked anew since
	}
	if r == nil {
		r = &record{Request: Request{Key: k, Hash: e.Hash, Once: e.Once, Level: e.Level, Adapters: e.Adapters}, need: none, base: e.Base}
		m.records[k] = r
		if !e.Ended {
			m.open[k] = r
		}
	}
	if e.Ended {
		if m.merging {
			m.merge(r, e)
			return
		}
		if r.done && !r.refused && e.Refused {
			delete(m.hello.told, k) // who has refused it did not know
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
			r.claimed, r.need = m.now, none
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

// remind tells the others of ends that they do not know: they were away when those came, or have begun anew since. Whether such an end counts
// is decided once more, by the log: others may have come to another meanwhile.
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
		again := &record{Request: r.Request, base: r.base, term: r.term, need: none}
		m.forget(r)
		m.records[r.Key], m.open[r.Key] = again, again
	}
}

func (m *Machine) tick() {
	if !m.connected {
		return
	}
	m.seat()
	if m.listening && !m.synced {
		m.trySync()
	}
	if m.synced && m.held != none {
		m.decide()
	}
	if m.standing && len(m.finished) > 0 && m.now-m.restated >= m.patience() {
		m.restate()
	}
	for _, p := range m.list {
		if !p.live() && !p.reported && m.now-p.gone >= m.patience() {
			if !p.present { // it did not come back with the connection: nothing told of its end
				p.reported = true
				m.absent(p)
			}
		}
		if m.synced && p.present && !p.online && m.now-p.gone >= m.c.Takeover && m.first() {
			p.reported = true
			m.do(Clear{p.Node})
		}
	}
	m.evict()
	m.work()
}

// first reports whether this node is there for longest of those at the desk.
func (m *Machine) first() bool {
	for _, p := range m.list {
		if p.deals() && before(&p.Member, &m.self) {
			return false
		}
	}
	return true
}

// maxTries is how often a node asks what was before while others are there who should know.
const maxTries = 4

// trySync asks once more where nobody has answered hello, and at last goes by what this node knows itself. One that has begun its life just
// now knows nothing, and gives those time that may come back and do.
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
		case p.present && p.Knows > m.self.Knows && m.mayAnswer(p):
			// One that knows nothing waits for longer than one that waits for a third itself, and knows much.
			wait = max(wait, m.c.Takeover/2+time.Duration(p.Knows-m.self.Knows-1)*m.patience())
		case m.self.Knows == p.Knows && p.live() && before(&p.Member, &m.self):
			seniors++
		}
	}
	// One after the other, so that each is told what those before it know.
	if m.now-m.hello.at < wait+time.Duration(min(seniors, 3))*m.step()/2 {
		return
	}
	m.sync(false, false) // nobody knows more
}

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
		return
	}
	if r.need == none {
		r.need = m.now
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
	if r.Message == nil { // known by its claim alone: whoever has the message deals with it
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
	r.wrote, r.wroteAt = r.term+1, m.now
	var code string
	switch {
	case full:
		code = CodeFull
	case len(r.declined) > 0:
		d := r.declined[slices.Min(slices.Collect(maps.Keys(r.declined)))]
		m.end(Ended{Key: r.Key, Hash: r.Hash, Term: r.term + 1, Once: r.Once, Refused: true, Outcome: d.outcome})
		return
	case ready && !serves && len(r.Adapters) > 0:
		code = CodeAdapter
	case m.now-r.need < m.c.Takeover/2:
		r.wrote = 0
		return // somebody may come
	default:
		code = CodeUnavailable
	}
	m.do(Refuse{r.Request, r.term + 1, code})
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
