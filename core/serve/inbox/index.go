package inbox

import (
	"container/list"
	"time"
)

// entryOverhead is the memory of an entry besides its payload, in bytes: the struct, its map slot and its list element.
const entryOverhead = 256

// index is the part that every store keeps in memory: which keys there are and in which state. It locks nothing.
type index struct {
	limits   Limits
	entries  map[Key]*entry
	running  *list.List // of *entry, in order of acceptance
	finished *list.List // of *entry, in order of their end
	bytes    int64

	// Of a store on a medium: finished requests whose last event the medium has not taken, and keys that were
	// forgotten although the medium still says that they run. They are written with the next record that the
	// medium takes.
	owed   int
	undone []Key
}

type entry struct {
	Record
	note      []byte
	last      []byte
	ended     time.Time // zero while it runs
	published bool
	place     *list.Element

	owed  bool     // the medium has not taken last
	where *segment // that last was written to
	at    int64    // the segment's size then
}

func newIndex(l Limits) *index {
	return &index{limits: l.withDefaults(), entries: map[Key]*entry{}, running: list.New(), finished: list.New()}
}

func (e *entry) size() int64 {
	return entryOverhead + int64(len(e.Client)+len(e.ID)+len(e.Data)+len(e.note)+len(e.last))
}

// lookup drops what has expired, then tells what is known of k.
func (x *index) lookup(k Key, hash [32]byte) Found {
	x.expire()
	e := x.entries[k]
	switch {
	case e == nil:
		return Found{}
	case e.Hash != hash:
		return Found{Status: Conflict}
	case e.ended.IsZero():
		return Found{Status: Running}
	default:
		return Found{Status: Finished, Last: e.last}
	}
}

// room tells whether a record fits, and makes room by forgetting finished requests before their window ends: those that
// were published first, the oldest first. Running requests are never forgotten.
func (x *index) room(r Record) error {
	x.expire()
	if x.entries[r.Key] != nil {
		return ErrExists
	}
	need := (&entry{Record: r}).size()
	if !x.fits(need) && !x.couldFit(need) {
		return ErrFull // and nobody's answer is forgotten for a request that is refused
	}
	for _, wantPublished := range []bool{true, false} {
		for el := x.finished.Front(); el != nil && !x.fits(need); {
			next := el.Next()
			if e, _ := el.Value.(*entry); e.published || !wantPublished {
				x.forget(e)
			}
			el = next
		}
	}
	if !x.fits(need) {
		return ErrFull
	}
	return nil
}

func (x *index) fits(need int64) bool {
	return len(x.entries) < x.limits.Entries && x.bytes+need <= x.limits.Bytes
}

// couldFit tells whether need would fit beside the running requests alone.
func (x *index) couldFit(need int64) bool {
	for el := x.running.Front(); el != nil; el = el.Next() {
		e, _ := el.Value.(*entry)
		need += e.size()
	}
	return x.running.Len() < x.limits.Entries && need <= x.limits.Bytes
}

// add inserts a record that room has let in.
func (x *index) add(r Record) {
	e := &entry{Record: r}
	e.place = x.running.PushBack(e)
	x.entries[r.Key] = e
	x.bytes += e.size()
}

// attempt replaces the note of a running request.
func (x *index) attempt(k Key, note []byte) error {
	e := x.entries[k]
	if e == nil || !e.ended.IsZero() {
		return ErrUnknown
	}
	x.bytes += int64(len(note) - len(e.note))
	e.note = note
	return nil
}

// finish moves a running request to the finished ones. keepData is for stores that must publish after a restart.
func (x *index) finish(k Key, last []byte, keepData bool) error {
	e := x.entries[k]
	if e == nil || !e.ended.IsZero() {
		return ErrUnknown
	}
	x.bytes -= e.size()
	x.running.Remove(e.place)
	e.note, e.last, e.ended = nil, last, time.Now()
	if !keepData {
		e.Data = nil
	}
	e.place = x.finished.PushBack(e)
	x.bytes += e.size()
	return nil
}

// publish marks a finished request as acknowledged; its data are not needed any more.
func (x *index) publish(k Key) error {
	e := x.entries[k]
	if e == nil || e.ended.IsZero() {
		return ErrUnknown
	}
	x.bytes -= int64(len(e.Data))
	e.Data, e.published = nil, true
	return nil
}

// expire forgets the finished requests whose window is over. time.Since counts running time: a Pi has no clock at boot,
// and a jump of the wall clock must not open or close a window.
func (x *index) expire() {
	for el := x.finished.Front(); el != nil; el = x.finished.Front() {
		e, _ := el.Value.(*entry)
		if time.Since(e.ended) < x.limits.Window {
			return
		}
		x.forget(e)
	}
}

func (x *index) forget(e *entry) {
	if e.owed {
		x.owe(e, false)
		x.undone = append(x.undone, e.Key)
	}
	if e.ended.IsZero() {
		x.running.Remove(e.place)
	} else {
		x.finished.Remove(e.place)
	}
	delete(x.entries, e.Key)
	x.bytes -= e.size()
}

// owe notes whether the medium lacks a last event.
func (x *index) owe(e *entry, owed bool) {
	if e.owed == owed {
		return
	}
	if e.owed = owed; owed {
		x.owed++
	} else {
		x.owed--
	}
}

func (x *index) unfinished() []Pending {
	out := make([]Pending, 0, x.running.Len())
	for el := x.running.Front(); el != nil; el = el.Next() {
		e, _ := el.Value.(*entry)
		out = append(out, Pending{Record: e.Record, Attempt: e.note})
	}
	return out
}

func (x *index) unpublished() []Ended {
	var out []Ended
	for el := x.finished.Front(); el != nil; el = el.Next() {
		if e, _ := el.Value.(*entry); !e.published {
			out = append(out, Ended{Record: e.Record, Last: e.last})
		}
	}
	return out
}
