// Package group decides what a node of a group does: which of the nodes takes a request, what becomes of it
// when that one goes away, and which answer is the request's one answer. docs/fleet.md states what it
// guarantees, docs/adr/0017-groups.md why it is so.
//
// The nodes keep a common log: one topic that every node at the desk is subscribed to, and that the broker
// puts into one order. A node acts on what came back to it from there and never on what it has only written:
// nodes that heard the same log have the same state, and the first entry that ends a request is its end, even
// if another node has computed it too.
//
// A Machine is a pure state machine: events and the time go in, decisions come out. It must not know MQTT,
// topics or payloads, starts no goroutine, looks at no clock and locks nothing: Step must be called from one
// goroutine at a time.
package group

import (
	"hash/fnv"
	"time"
)

// Key names a request within its group.
type Key struct{ Client, ID string }

// Request is a request as the members see it, with the client's message, which they carry and do not read.
type Request struct {
	Key

	Hash     [32]byte // the same key with another hash is a conflict
	Once     bool     // its id is made of its bytes: when it has ended, the same bytes are asked anew
	Level    string   // what is asked for
	Adapters []string // that it names
	Message  []byte
}

// Member is a node's description of itself.
type Member struct {
	Node        string   `json:"node"`
	State       string   `json:"state"`           // StateReady, StateWaiting or StateLeaving
	Incarnation string   `json:"incarnation"`     // of its process
	Connection  int      `json:"connection"`      // of that process, from 1
	Since       int64    `json:"since"`           // Unix milliseconds, of the start: who is there for longer sits at the desk
	Desk        bool     `json:"desk"`            // it knows what the group knows: it deals requests out
	Knows       int      `json:"knows"`           // KnowsAll, KnowsMuch or KnowsNothing
	Alone       bool     `json:"alone,omitempty"` // it sat down there, and nobody told it what was before
	Epoch       string   `json:"epoch,omitempty"` // of the log: since somebody sat down there alone
	Log         int      `json:"log,omitempty"`   // how many entries of that epoch it knows the meaning of
	Model       string   `json:"model,omitempty"`
	Levels      []string `json:"levels"`
	Adapters    []string `json:"adapters"`
	Running     int      `json:"running"` // requests at the same time
	Queue       int      `json:"queue"`   // and how many may wait
}

// States of a member.
const (
	StateReady   = "ready"
	StateWaiting = "waiting" // it serves nothing now
	StateLeaving = "leaving" // it takes nothing new
)

// How much of what the group knows a member remembers.
const (
	KnowsNothing = 0 // its process has just begun
	KnowsMuch    = 1 // it has sat at the desk, and missed something since
	KnowsAll     = 2 // it sits there, or did when its last connection ended
)

// Codes of refusals that a Machine decides by itself; the members' own are passed on.
const (
	CodeConflict    = "id_conflict"
	CodeFull        = "queue_full"
	CodeAdapter     = "adapter_not_found"
	CodeUnavailable = "backend_unavailable"
)

// Config configures a Machine. Zero durations and bounds stand for the defaults that are named.
type Config struct {
	Node        string
	Incarnation string        // unique for each process
	Since       int64         // see Member
	Takeover    time.Duration // within which the work of a dead member is taken over; default 10 s
	Window      time.Duration // for which an answer is remembered; default 10 min
	Desk        int           // seats at the desk; default 5
	Entries     int           // requests that are remembered; default 4096
	Bytes       int           // of them and of their answers; default 8 MiB
	Pack        int           // bytes of records that a node tells a newcomer in one message; default 32 KiB. A larger record goes alone
}

// Event is something that a Machine is told.
type Event interface{ event() }

// The events.
type (
	// Offer tells what the node itself serves: State, Model, Levels, Adapters, Running and Queue.
	Offer struct{ Member Member }
	// Connected says that a connection stands, and that what members tell of themselves comes.
	Connected struct{}
	// Lost says that the connection has ended.
	Lost struct{}
	// Listening says that requests and the log come from now on. Resumed: and so does what was published
	// since the last connection ended.
	Listening struct{ Resumed bool }
	// Heard is a request that a client has published.
	Heard struct{ Request Request }
	// Told is an entry of the log, or one that was sent to this node alone.
	Told struct {
		Entry  Entry
		Direct bool
	}
	// Present is a node's description of itself; nil: it has left.
	Present struct {
		Node   string
		Member *Member
	}
	// Online is the retained availability of a node.
	Online struct {
		Node   string
		Online bool
	}
	// Took says that this node has accepted what Run asked for.
	Took struct {
		Key  Key
		Term int
	}
	// Declined says that it has not, and that another may.
	Declined struct {
		Key    Key
		Term   int
		Code   string
		Reason []byte // why: Refuse passes it on, for the sentence that tells the client that no node takes the request
	}
	// Ended is the end of what this node ran, or of what it was running in an earlier life (term 0).
	Ended struct {
		Key     Key
		Hash    [32]byte
		Term    int
		Once    bool
		Refused bool // it may be asked again under the same id
		Outcome []byte
	}
	// Leave says that the node takes nothing new.
	Leave struct{}
	// Tick says that time has passed.
	Tick struct{}
)

func (Offer) event()     {}
func (Connected) event() {}
func (Lost) event()      {}
func (Listening) event() {}
func (Heard) event()     {}
func (Told) event()      {}
func (Present) event()   {}
func (Online) event()    {}
func (Took) event()      {}
func (Declined) event()  {}
func (Ended) event()     {}
func (Leave) event()     {}
func (Tick) event()      {}

// Decision is something to be done, in the order of the decisions.
type Decision interface{ decision() }

// The decisions.
type (
	// Announce has the node tell everybody, and who comes later, what this node is.
	Announce struct{ Member Member }
	// Listen has it subscribe to the requests and the log, and say Listening.
	Listen struct{}
	// Write an entry into the log. What could not be written when the connection ends is dropped.
	Write struct{ Entry Entry }
	// Send an entry to one node. The same holds.
	Send struct {
		To    string
		Entry Entry
	}
	// Run a request here: Took, Declined or Ended follows. Where it runs already, or has been answered, that is joined.
	Run struct {
		Request Request
		Term    int
	}
	// Publish the end of a request to its client. Own: this node has computed it. Stored: a repeat is answered.
	Publish struct {
		Key         Key
		Outcome     []byte
		Own, Stored bool
	}
	// Settle says that the end which this node reported is decided, and nobody waits for it here any more.
	Settle struct{ Key Key }
	// Stop computing a request: another's answer was first.
	Stop struct{ Key Key }
	// TurnAway has it tell the client of a request that it is not taken, beside the request that has its id.
	TurnAway struct {
		Request Request
		Code    string
	}
	// Refuse has it end a request with an error of this code, for the reason that a node gave which has
	// declined it; nil: none has. Ended follows: refused where Lost is empty, and else as the request's one
	// end.
	Refuse struct {
		Request Request
		Term    int
		Code    string
		Reason  []byte
		Lost    []string // nodes that are gone and have accepted the request, or may have
	}
	// Clear what a node that is gone has told of itself.
	Clear struct{ Node string }
)

func (Announce) decision() {}
func (Listen) decision()   {}
func (Write) decision()    {}
func (Send) decision()     {}
func (Run) decision()      {}
func (Publish) decision()  {}
func (Settle) decision()   {}
func (Stop) decision()     {}
func (TurnAway) decision() {}
func (Refuse) decision()   {}
func (Clear) decision()    {}

// score orders the nodes for a key, for each key in another way (rendezvous hashing): the load spreads, and a
// node that goes changes the order of nobody else.
func score(node string, k Key) uint64 {
	h := fnv.New64a()
	for _, s := range []string{node, k.Client, k.ID} {
		_, _ = h.Write([]byte(s)) // it never fails
		_, _ = h.Write([]byte{0})
	}
	// FNV alone leaves the high bits of short texts alike.
	x := h.Sum64()
	x = (x ^ x>>33) * 0xff51afd7ed558ccd
	x = (x ^ x>>33) * 0xc4ceb9fe1a85ec53
	return x ^ x>>33
}
