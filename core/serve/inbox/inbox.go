// Package inbox is the journal of accepted requests and of their last events: what makes `accepted` a promise, a repeat
// of a request an answer instead of a second computation, and a restart a continuation.
//
// It must not know what a request or an event is: both are bytes of its caller's. All methods of a Store may be called
// concurrently; what they take is theirs afterwards, what they return is read-only.
package inbox

import (
	"context"
	"errors"
	"time"
)

// Sentinel errors of a Store.
var (
	// ErrFull means that the bounds of the store are reached: nothing was accepted.
	ErrFull = errors.New("inbox: full")
	// ErrExists means that the key is already there: Lookup tells in which state.
	ErrExists = errors.New("inbox: the key is already there")
	// ErrUnknown means that no request of that key is there.
	ErrUnknown = errors.New("inbox: no such request")
	// ErrClosed means that the store was closed.
	ErrClosed = errors.New("inbox: closed")
)

// Key names a request: an id is unique for one client.
type Key struct{ Client, ID string }

// Record is an accepted request.
type Record struct {
	Key
	Hash [32]byte // of the payload: the same key with another hash is a conflict
	Data []byte   // all that is needed to run the request again
}

// Status is the state of a key in a store.
type Status uint8

// The states of a key. Conflict is the answer to a lookup with another hash than the stored one.
const (
	Unknown Status = iota
	Running
	Finished
	Conflict
)

// String names a status for messages.
func (s Status) String() string {
	switch s {
	case Running:
		return "running"
	case Finished:
		return "finished"
	case Conflict:
		return "conflict"
	default:
		return "unknown"
	}
}

// Found is the answer to a lookup.
type Found struct {
	Status Status
	Last   []byte // Finished: the stored last event
}

// Pending is an accepted request that has no last event yet.
type Pending struct {
	Record
	Attempt []byte // the latest note of Attempt; nil: it never started
}

// Ended is a finished request whose last event nobody has acknowledged.
type Ended struct {
	Record
	Last []byte
}

// Store keeps accepted requests until their last event was published and the dedupe window is over. A request is
// accepted once, then noted at each attempt, then finished once, then published.
type Store interface {
	// Accept stores a request; when it returns nil, the request is as durable as the store is. ErrExists: the key is
	// known. ErrFull: the bounds are reached. Any other error: the medium does not take it.
	Accept(ctx context.Context, r Record) error
	// Attempt notes what another attempt needs; a later note replaces an earlier one. ErrUnknown: not running.
	Attempt(k Key, note []byte) error
	// Finish stores the one last event. ErrUnknown: not running.
	Finish(k Key, last []byte) error
	// Published says that somebody acknowledged the last event. It is kept for repeats until the window ends.
	Published(k Key) error
	// Lookup tells what is known of a key.
	Lookup(k Key, hash [32]byte) Found
	// Unfinished returns the requests without a last event, in the order of their acceptance.
	Unfinished() []Pending
	// Unpublished returns the finished requests that nobody acknowledged, in the order in which they finished. A
	// store that is not durable returns none: who would have forgotten them has forgotten the store too.
	Unpublished() []Ended
	// Durable tells whether requests survive the process.
	Durable() bool
	// Close releases the store. Requests that a durable store holds stay.
	Close() error
}

// Limits bound a store. Zero values are the defaults that are named at each field.
type Limits struct {
	Window  time.Duration // how long a finished request answers repeats, in running time; default 10 minutes
	Entries int           // requests, running and finished; default 4096
	Bytes   int64         // of requests and last events together; default 8 MiB
}

func (l Limits) withDefaults() Limits {
	if l.Window <= 0 {
		l.Window = 10 * time.Minute
	}
	if l.Entries <= 0 {
		l.Entries = 4096
	}
	if l.Bytes <= 0 {
		l.Bytes = 8 << 20
	}
	return l
}
