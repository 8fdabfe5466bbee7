// Package groupsim runs the nodes of a group, a broker and clients in simulated time: one goroutine, one
// source of chance, no clock. Two runs with the same settings are the same run.
//
// The broker does what MQTT promises: it puts what it gets into one order, delivers to each client in that
// order, publishes the will of a client whose connection ends, and may forget everything when it is
// restarted.
package groupsim

import (
	"container/heap"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"edged/core/serve/door/mqtt/group"
)

// Settings of a run.
type Settings struct {
	Nodes    int
	Seed     uint64
	Takeover time.Duration
	Desk     int
	Running  int           // requests that a node computes at the same time
	Queue    int           // and that wait there
	Compute  time.Duration // of a request, on average
	Sessions bool          // the broker keeps what comes for a node that is away, until it is restarted
	Forgets  bool          // a restart of the broker loses retained messages
	Window   time.Duration
}

// Counts counts the events of a run.
type Counts struct {
	Requests   int // that clients have published, repeats included
	Writes     int // entries of the log
	Sends      int // entries for one node
	Announces  int
	Deliveries int // to nodes, of all of these and of requests
	Computed   int // ends of computations
	Published  int // last events
	Stopped    int // decisions to stop a computation
	Dropped    int // requests and entries of the log that the broker did not bring to a node
	Takeovers  []time.Duration
}

// Net is a running simulation.
type Net struct {
	Counts

	S     Settings
	now   time.Duration
	queue events
	seq   int
	rng   *rand.Rand

	nodes  []*Node
	up     bool
	kept   map[string]group.Member
	online map[string]bool

	// Answers are the outcomes that reached the client of each request, in order.
	Answers map[group.Key][]string
	// Accepted are the requests whose clients were told so.
	Accepted map[group.Key]bool
	// Last are the outcomes that reached the client of a request after it was told that it is accepted.
	Last map[group.Key][]string
	// Refused counts refusals beside the answers: conflicts, and what was turned away.
	Refused map[group.Key]int
	first   map[group.Key]time.Duration // answer
	asked   map[group.Key]time.Duration
	died    map[group.Key]time.Duration // when the node went away that had it
}

// Node is one node, through its lives.
type Node struct {
	Name string

	net     *Net
	m       *group.Machine
	life    int
	conn    int // of all lives; even: none
	alive   bool
	leaving bool
	wakes   int           // steps that were taken
	upTo    time.Duration // the latest arrival at the broker
	downTo  time.Duration // and here
	seq     int           // of the latest entry on this connection
	slow    time.Duration // until when the broker drops what it would bring
	listens bool          // the session's subscription
	session []func()
	jobs    map[group.Key]*job
	journal map[group.Key]group.Ended // accepted and not settled; of one that is computed without an Outcome
	waiting []group.Key
	pending []group.Publish // ends that the broker has not got yet
	busy    int
}

type job struct {
	request group.Request
	term    int
	text    string // once it has ended
}

type event struct {
	at  time.Duration
	seq int
	do  func()
}

type events []event

func (q events) Len() int { return len(q) }
func (q events) Less(i, j int) bool {
	return q[i].at < q[j].at || q[i].at == q[j].at && q[i].seq < q[j].seq
}
func (q events) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *events) Push(x any)   { *q = append(*q, x.(event)) } //nolint:forcetypeassert // by heap alone
func (q *events) Pop() any {
	old := *q
	e := old[len(old)-1]
	*q = old[:len(old)-1]
	return e
}

// New returns a network whose broker runs and whose nodes do not.
func New(s Settings) *Net {
	n := &Net{
		S:        s,
		rng:      rand.New(rand.NewPCG(s.Seed, 1)),
		up:       true,
		kept:     map[string]group.Member{},
		online:   map[string]bool{}, //nolint:gosec // to be repeatable
		Answers:  map[group.Key][]string{},
		Accepted: map[group.Key]bool{},
		Last:     map[group.Key][]string{},
		Refused:  map[group.Key]int{},
		first:    map[group.Key]time.Duration{},
		asked:    map[group.Key]time.Duration{},
		died:     map[group.Key]time.Duration{},
	}
	for i := range s.Nodes {
		n.nodes = append(n.nodes, &Node{Name: fmt.Sprintf("n%d", i), net: n, journal: map[group.Key]group.Ended{}})
	}
	return n
}

// Nodes are all nodes.
func (n *Net) Nodes() []*Node { return n.nodes }

// Now is the simulated time.
func (n *Net) Now() time.Duration { return n.now }

// Rand is the run's chance.
func (n *Net) Rand() *rand.Rand { return n.rng }

// After has something done later.
func (n *Net) After(d time.Duration, do func()) { n.at(n.now+d, do) }

func (n *Net) at(t time.Duration, do func()) {
	n.seq++
	heap.Push(&n.queue, event{max(t, n.now), n.seq, do})
}

// Run goes on until a time.
func (n *Net) Run(until time.Duration) {
	for len(n.queue) > 0 && n.queue[0].at <= until {
		e := heap.Pop(&n.queue).(event) //nolint:forcetypeassert // see Push
		n.now = e.at
		e.do()
	}
	n.now = until
}

// between is a duration by chance.
func (n *Net) between(a, b time.Duration) time.Duration {
	return a + time.Duration(n.rng.Int64N(int64(b-a)))
}

// Alive reports whether a node runs and is not leaving.
func (x *Node) Alive() bool { return x.alive && !x.leaving }

// Synced reports whether it sits at the desk.
func (x *Node) Synced() bool { return x.alive && x.m.Synced() }

// Open is how many requests it knows that have not ended.
func (x *Node) Open() int {
	if !x.alive {
		return 0
	}
	return x.m.Open()
}

// Pending is how many ends of it are not decided.
func (x *Node) Pending() int {
	if !x.alive {
		return 0
	}
	return x.m.Pending()
}

// Start begins a life.
func (x *Node) Start() {
	if x.alive {
		return
	}
	x.life++
	x.alive, x.leaving = true, false
	x.jobs, x.waiting, x.pending, x.busy = map[group.Key]*job{}, nil, nil, 0
	x.m = group.New(group.Config{
		Node: x.Name, Incarnation: fmt.Sprintf("%s.%d", x.Name, x.life), Since: int64(x.net.now / time.Millisecond),
		Takeover: x.net.S.Takeover, Desk: x.net.S.Desk, Window: x.net.S.Window,
	})
	x.step(group.Offer{Member: group.Member{State: group.StateReady, Running: x.net.S.Running, Queue: x.net.S.Queue}})
	life := x.life
	for _, k := range sorted(x.journal) { // what was accepted goes on, or is told
		e := x.journal[k]
		j := &job{request: group.Request{Key: k, Hash: e.Hash, Once: e.Once}, text: string(e.Outcome)}
		x.jobs[k] = j
		if j.text == "" {
			x.waiting = append(x.waiting, k)
		} else {
			x.net.After(0, func() {
				if x.life == life && x.alive {
					x.ended(k)
				}
			})
		}
	}
	x.compute()
	x.connect()
}

func sorted(m map[group.Key]group.Ended) []group.Key {
	out := make([]group.Key, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.SortFunc(out, func(a, b group.Key) int { return strings.Compare(a.Client+"/"+a.ID, b.Client+"/"+b.ID) })
	return out
}

// connect tries until the broker is there.
func (x *Node) connect() {
	life := x.life
	x.net.After(x.net.between(50*time.Millisecond, 800*time.Millisecond), func() {
		switch {
		case x.life != life || !x.alive || x.conn%2 == 1:
		case !x.net.up:
			x.connect()
		default:
			x.connected()
		}
	})
}

func (x *Node) connected() {
	x.conn++
	x.seq = 0
	n := x.net
	x.upTo, x.downTo = n.now, n.now
	backlog := x.session
	x.session = nil
	for _, deliver := range backlog {
		x.deliver(deliver)
	}
	n.online[x.Name] = true
	n.tell(func(y *Node) { y.step(group.Online{Node: x.Name, Online: true}) })
	for _, name := range sortedNames(n.kept) {
		m := n.kept[name]
		x.deliver(func() { x.step(group.Present{Node: name, Member: &m}) })
	}
	for _, y := range n.nodes {
		if on, told := n.online[y.Name]; told {
			x.deliver(func() { x.step(group.Online{Node: y.Name, Online: on}) })
		}
	}
	x.step(group.Connected{})
	for _, d := range slices.Clone(x.pending) {
		x.send(d)
	}
}

func sortedNames(m map[string]group.Member) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

// deliver brings something to a node, behind what is on the way.
func (x *Node) deliver(do func()) {
	n, conn := x.net, x.conn
	n.Deliveries++
	x.downTo = max(x.downTo, n.now+n.between(200*time.Microsecond, 30*time.Millisecond))
	n.at(x.downTo, func() {
		if x.conn == conn && x.alive {
			do()
		}
	})
}

// tell brings something to every node that is connected.
func (n *Net) tell(do func(*Node)) {
	for _, x := range n.nodes {
		if x.conn%2 == 1 && x.alive {
			x.deliver(func() { do(x) })
		}
	}
}

// tellDesk brings something to every node that listens, or into its session.
func (n *Net) tellDesk(do func(*Node)) {
	for _, x := range n.nodes {
		switch {
		case !x.listens:
		case x.slow > n.now:
			n.Dropped++
		case x.conn%2 == 1 && x.alive:
			conn, life := x.conn, x.life
			x.deliver(func() { do(x) })
			if n.S.Sessions {
				n.at(x.downTo, func() {
					if (x.conn != conn || x.life != life) && x.listens { // it was not acknowledged
						x.session = append(x.session, func() { do(x) })
					}
				})
			}
		case n.S.Sessions:
			x.session = append(x.session, func() { do(x) })
		}
	}
}

// publish brings something to the broker, behind what is on the way. It is lost with the connection.
func (x *Node) publish(do func()) {
	n, conn := x.net, x.conn
	x.upTo = max(x.upTo, n.now+n.between(200*time.Microsecond, 20*time.Millisecond))
	n.at(x.upTo, func() {
		if x.conn == conn {
			do()
		}
	})
}

// Cut ends a node's connection.
func (x *Node) Cut() {
	if x.conn%2 == 0 {
		return
	}
	x.conn++
	n := x.net
	if n.up {
		n.online[x.Name] = false
		n.tell(func(y *Node) { y.step(group.Online{Node: x.Name}) })
	}
	if !n.S.Sessions {
		x.listens = false
	}
	if x.alive {
		x.step(group.Lost{})
		x.connect()
	}
}

// Slow has the broker drop for a while, without a word, the requests and entries that it would bring to a node.
func (x *Node) Slow(d time.Duration) { x.slow = max(x.slow, x.net.now+d) }

// Kill ends a life at once.
func (x *Node) Kill() {
	if !x.alive {
		return
	}
	for k := range x.jobs {
		x.net.died[k] = x.net.now
	}
	x.alive = false
	x.Cut()
}

// Stop ends a life as SIGTERM does: what runs may end for a while, and what has ended is decided, or is not
// within some seconds.
func (x *Node) Stop(grace time.Duration) {
	if !x.Alive() {
		return
	}
	x.leaving = true
	x.step(group.Leave{})
	x.leave(grace, 30)
}

func (x *Node) leave(grace time.Duration, tries int) {
	life := x.life
	x.net.After(grace, func() {
		switch {
		case x.life != life || !x.alive:
		case x.m.Pending() > 0 && tries > 0:
			x.leave(100*time.Millisecond, tries-1)
		case x.conn%2 == 1:
			conn := x.conn
			x.publish(func() {
				delete(x.net.kept, x.Name)
				x.listens = false
				x.net.tell(func(y *Node) { y.step(group.Present{Node: x.Name}) })
			})
			x.net.at(x.upTo+time.Millisecond, func() {
				switch {
				case x.life != life || !x.alive:
				case x.conn == conn:
					x.Kill()
				default: // its farewell was lost with the connection
					x.leave(100*time.Millisecond, 0)
				}
			})
		default:
			x.Kill()
		}
	})
}

// RestartBroker takes the broker away for a while. What was on the way is lost.
func (n *Net) RestartBroker(away time.Duration) {
	if !n.up {
		return
	}
	n.up = false
	for _, x := range n.nodes {
		x.Cut()
		if n.S.Forgets {
			x.listens, x.session = false, nil
		}
	}
	if n.S.Forgets {
		clear(n.kept)
		clear(n.online)
	}
	n.After(away, func() { n.up = true })
}

// OnlyBy is how the text of a request begins that one node serves alone, whose name follows: the others decline it.
const OnlyBy = "only by "

// Ask publishes a request, and waits with it while there is no broker, or no node that listens or whose
// session keeps it: MQTT drops what nobody is subscribed to.
func (n *Net) Ask(client, id, text string) {
	heard := slices.ContainsFunc(n.nodes, func(x *Node) bool { return x.listens && (n.S.Sessions || x.alive && x.conn%2 == 1) })
	if !n.up || !heard {
		n.After(100*time.Millisecond, func() { n.Ask(client, id, text) })
		return
	}
	n.Requests++
	if !n.S.Sessions || n.S.Forgets { // the broker itself may lose it, so that its client asks until it is accepted
		n.After(3*time.Second, func() {
			if k := (group.Key{Client: client, ID: id}); !n.Accepted[k] && len(n.Answers[k]) == 0 {
				n.Ask(client, id, text)
			}
		})
	}
	q := group.Request{Key: group.Key{Client: client, ID: id}, Hash: sha256.Sum256([]byte(text)), Message: []byte(text)}
	if _, again := n.asked[q.Key]; !again {
		n.asked[q.Key] = n.now
	}
	n.tellDesk(func(x *Node) { x.step(group.Heard{Request: q}) })
}

// step has a node's machine take an event, and does what it decides.
func (x *Node) step(e group.Event) {
	for _, d := range x.m.Step(x.net.now, e) {
		x.do(d)
	}
	x.wakes++
	if next := x.m.Next(); next > 0 {
		wake := x.wakes
		x.net.After(next, func() {
			if x.wakes == wake && x.alive { // nothing has happened since
				x.step(group.Tick{})
			}
		})
	}
}

func (x *Node) do(d group.Decision) {
	n := x.net
	switch d := d.(type) {
	case group.Announce:
		n.Announces++
		x.publish(func() {
			n.kept[x.Name] = d.Member
			n.tell(func(y *Node) { m := d.Member; y.step(group.Present{Node: x.Name, Member: &m}) })
		})
	case group.Clear:
		x.publish(func() {
			delete(n.kept, d.Node)
			n.tell(func(y *Node) { y.step(group.Present{Node: d.Node}) })
		})
	case group.Listen:
		x.publish(func() {
			resumed := x.listens
			x.listens = true
			x.deliver(func() { x.step(group.Listening{Resumed: resumed}) })
		})
	case group.Write:
		n.Writes++
		x.seq++
		e := d.Entry
		e.Life, e.Line, e.Seq = fmt.Sprintf("%s.%d", x.Name, x.life), x.conn, x.seq
		x.publish(func() {
			n.tellDesk(func(y *Node) { y.step(group.Told{Entry: e}) })
		})
	case group.Send:
		n.Sends++
		x.publish(func() {
			for _, y := range n.nodes {
				if y.slow > n.now {
					continue
				}
				if y.Name == d.To && y.alive && y.conn%2 == 1 {
					y.deliver(func() { y.step(group.Told{Entry: d.Entry, Direct: true}) })
				}
			}
		})
	case group.Run:
		x.take(d)
	case group.Publish:
		x.pending = append(x.pending, d)
		x.send(d)
	case group.Settle:
		delete(x.journal, d.Key)
		delete(x.jobs, d.Key)
	case group.Stop:
		n.Stopped++
		x.stop(d.Key)
	case group.TurnAway:
		x.publish(func() { n.Refused[d.Request.Key]++ })
	case group.Refuse:
		text := fmt.Sprintf("error: %s by %s in term %d, lost %v", d.Code, x.Name, d.Term, d.Lost)
		x.step(group.Ended{
			Key: d.Request.Key, Hash: d.Request.Hash, Term: d.Term, Once: d.Request.Once, Refused: len(d.Lost) == 0, Outcome: []byte(text),
		})
	}
}

// send publishes the end of a request to its client. It is kept until the broker has it.
func (x *Node) send(d group.Publish) {
	x.publish(func() {
		x.net.answer(d.Key, string(d.Outcome))
		if i := slices.IndexFunc(x.pending, func(p group.Publish) bool { return p.Key == d.Key && p.Own == d.Own }); i >= 0 {
			x.pending = slices.Delete(x.pending, i, i+1)
		}
		if d.Own {
			delete(x.journal, d.Key)
			delete(x.jobs, d.Key)
		}
	})
}

func (n *Net) answer(k group.Key, text string) {
	n.Published++
	n.Answers[k] = append(n.Answers[k], text)
	if n.Accepted[k] {
		n.Last[k] = append(n.Last[k], text)
	}
	if _, ok := n.first[k]; !ok {
		n.first[k] = n.now
		if died, ok := n.died[k]; ok {
			n.Takeovers = append(n.Takeovers, n.now-died)
		}
	}
}

// Waited is how long a request's client has waited for its answer.
func (n *Net) Waited(k group.Key) (time.Duration, bool) {
	at, ok := n.first[k]
	return at - n.asked[k], ok
}

// take accepts a request: journals it, and says so.
func (x *Node) take(d group.Run) {
	n, k, life := x.net, d.Request.Key, x.life
	if j := x.jobs[k]; j != nil {
		j.term = d.Term
		x.step(group.Took{Key: k, Term: d.Term})
		if j.text != "" {
			x.ended(k)
		}
		return
	}
	if only, ok := strings.CutPrefix(string(d.Request.Message), OnlyBy); ok && only != x.Name {
		x.step(group.Declined{Key: k, Term: d.Term, Code: "model_not_found"})
		return
	}
	if len(x.waiting) >= n.S.Queue+n.S.Running {
		x.step(group.Declined{Key: k, Term: d.Term, Code: group.CodeFull})
		return
	}
	x.jobs[k] = &job{request: d.Request, term: d.Term}
	n.After(n.between(time.Millisecond, 10*time.Millisecond), func() { // an fsync
		if x.life != life || !x.alive || x.jobs[k] == nil {
			return
		}
		x.journal[k] = group.Ended{Key: k, Hash: d.Request.Hash, Once: d.Request.Once}
		x.publish(func() { n.Accepted[k] = true })
		x.step(group.Took{Key: k, Term: d.Term})
		x.waiting = append(x.waiting, k)
		x.compute()
	})
}

// compute takes what waits while there is a free place.
func (x *Node) compute() {
	n, life := x.net, x.life
	for x.busy < n.S.Running && len(x.waiting) > 0 {
		k := x.waiting[0]
		x.waiting = x.waiting[1:]
		j := x.jobs[k]
		if j == nil || j.text != "" {
			continue
		}
		x.busy++
		n.After(n.between(n.S.Compute/2, n.S.Compute*3/2), func() {
			if x.life != life || !x.alive {
				return
			}
			x.busy--
			if j.text != "" { // stopped
				x.compute()
				return
			}
			n.Computed++
			// No two computations give the same text: so it shows where one request is answered by two.
			j.text = fmt.Sprintf("by %s in life %d, computation %d", x.Name, x.life, n.Computed)
			if e, ok := x.journal[k]; ok {
				e.Outcome = []byte(j.text)
				x.journal[k] = e
			}
			x.ended(k)
			x.compute()
		})
	}
}

// stop ends what waits or is computed, as cancelled.
func (x *Node) stop(k group.Key) {
	j := x.jobs[k]
	if e, ok := x.journal[k]; ok && j != nil && j.text == "" {
		j.text = "cancelled by " + x.Name
		e.Outcome = []byte(j.text)
		x.journal[k] = e
		x.net.After(0, func() {
			if x.jobs[k] == j && x.alive {
				x.ended(k)
			}
		})
	}
}

func (x *Node) ended(k group.Key) {
	j := x.jobs[k]
	if j == nil {
		return
	}
	x.step(group.Ended{Key: k, Hash: j.request.Hash, Term: j.term, Once: j.request.Once, Outcome: []byte(j.text)})
}

// Kept are the members' retained messages.
func (n *Net) Kept() map[string]group.Member { return n.kept }

// Finished is when the latest first answer came.
func (n *Net) Finished() time.Duration {
	var out time.Duration
	for _, at := range n.first {
		out = max(out, at)
	}
	return out
}
