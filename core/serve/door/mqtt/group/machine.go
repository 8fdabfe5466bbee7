package group

import (
	"maps"
	"slices"
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
	stated   map[Key]bool    // and those that were there when restate looked the last time
	merging  bool            // hello was said once more, at the desk
	met      map[string]bool // lives of nodes for which it was
	later    []*Request      // that were heard once more while it was not synced
	marks    map[string]mark // how far others, and this node, were heard
	gapped   bool            // something was missed
	since    int             // entries of the log that were heard since the hello; while it sits at the desk self.Log counts them too
}

const maxLater = 256

// hello is the progress of a node's question about the state before it began to listen.
type hello struct {
	nonce int
	heard bool // it has come back
	at    time.Duration
	tries int
	told  map[Key]telling // by the answer that is coming
	got   map[string]int  // records of it, by the node that tells them: two may, where neither knows of the other
}

// telling is the state of a request in an answer to hello.
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

// record is the state of one request.
type record struct {
	Request

	done     bool
	refused  bool // of a done one
	outcome  []byte
	by       string // the node that ended it
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
	had      map[string]bool     // nodes that were given it and have not passed it on; true: they have said that they accept it
	lost     time.Duration       // since when nobody has it though one had; none: somebody has, or nobody had
	asks     int                 // how often another was asked what has become of it
	asked    time.Duration       // and when
	counts   string              // the node whose load it is a part of
	declined map[string]declined // by node
	slow     map[string]bool     // nodes that said nothing to their claim
	backlog  bool                // heard on this connection before the group's answer to hello began
	fresh    bool                // heard on this connection while not synced
	size     int
}

type declined struct {
	code   string
	reason []byte
}

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

// The times within takeover. A step is more than a broker's round trip. From a death that the broker tells,
// the others wait patience for a quick return; a claim that is not answered for as long counts as lost.
// Together with a step for each dealer that is gone too they stay within takeover.
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

// Pending is how many ends of this node are not decided. While it and another node, which did not hear of
// each other before, tell each other what they know, there may be one more.
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
	case len(m.finished) > 0 || m.merging:
		return m.patience()
	case m.gapped:
		return m.step()
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
			m.listening, m.gapped, m.marks = true, false, map[string]mark{}
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
		m.write(Entry{Type: Pass, Client: e.Key.Client, ID: e.Key.ID, Term: e.Term, Code: e.Code, Body: e.Reason})
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

// connect begins a connection. What others have told holds no longer until they tell it again: this node may
// have missed their end.
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

// maxPeers bounds the nodes that are remembered. A client that may publish an availability can make names up.
const maxPeers = 4096

func (m *Machine) peer(node string) *peer {
	p := m.peers[node]
	if p == nil && len(m.peers) >= maxPeers {
		return &peer{Member: Member{Node: node}}
	}
	if p == nil {
		// That it is there is believed until the broker says otherwise: what it tells, and what is told of
		// it, come in either order.
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
		again := p.Incarnation != who.Incarnation || p.Connection != who.Connection
		p.Member, p.present, p.left, p.reported = *who, true, false, false
		p.Node = node
		m.meet(p)
		if again {
			m.inform(p)
		}
	}
	m.seat()
	m.work()
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

// inform tells a node that is back of the requests that it had and that have ended meanwhile, so that it does
// not compute them from its journal. One that may be asked anew is left out: it could be the new one that is
// stopped.
func (m *Machine) inform(p *peer) {
	for _, r := range m.ended {
		if _, had := r.had[p.Node]; !had || m.records[r.Key] != r || r.by == p.Node || r.refused || r.Once || m.rank(r.Key) != 0 {
			continue
		}
		m.do(Send{p.Node, Entry{
			Type: Over, From: m.c.Node, Incarnation: m.c.Incarnation, Client: r.Client, ID: r.ID, Term: r.term,
		}})
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
		// The nodes at the desk decide about what this node has ended, also about what it could not tell before.
		m.standing = true
		for _, r := range m.open {
			m.forget(r)
		}
		m.restate()
	}
}

// restate tells the ends of this node that are not decided, as far as it knows. One that does not sit at the
// desk hears of it from those who do, who may all have been away; one that does may have missed what it has
// written itself.
func (m *Machine) restate() {
	for _, k := range slices.SortedFunc(maps.Keys(m.finished), compareKeys) {
		if m.standing || m.stated[k] {
			m.write(*m.finished[k])
		}
	}
	m.restated, m.stated = m.now, map[Key]bool{}
	for k := range m.finished {
		m.stated[k] = true
	}
}

func (m *Machine) tick() {
	if !m.connected {
		return
	}
	m.seat()
	m.again()
	m.helloAgain()
	if m.listening && !m.synced {
		m.trySync()
	}
	if m.synced && m.held != none {
		m.decide()
	}
	if (m.standing || m.synced && m.held == none) && len(m.finished) > 0 && m.now-m.restated >= m.patience() {
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
