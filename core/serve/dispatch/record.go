package dispatch

import (
	"encoding/json"
	"fmt"
	"time"

	"edged/core/serve/inbox"
)

// record is the journalled form of a request: all that makes another attempt the same request.
type record struct {
	Request  *Request
	Seed     uint64
	Now      time.Time // what a template prints as the date
	Deadline time.Duration
	Adapters []UsedAdapter `json:",omitempty"` // pinned

	model string // that answered; not journalled
}

func (r *record) encode(k inbox.Key) (inbox.Record, error) {
	data, err := json.Marshal(r)
	if err != nil {
		return inbox.Record{}, err
	}
	return inbox.Record{Key: k, Hash: r.Request.Hash, Data: data}, nil
}

func decodeRecord(in inbox.Record) (*record, error) {
	r := &record{}
	if err := json.Unmarshal(in.Data, r); err != nil {
		return nil, fmt.Errorf("dispatch: journalled request %q: %w", in.ID, err)
	}
	if r.Request == nil {
		return nil, fmt.Errorf("dispatch: journalled request %q: is empty", in.ID)
	}
	r.Request.Hash, r.Request.Client, r.Request.ID = in.Hash, in.Client, in.ID
	return r, nil
}

// note is what is journalled of an attempt.
type note struct {
	Attempt int
	Prompt  []int32
	// Taken is how many processes in a row took the request up and were gone before its input was encoded.
	Taken int `json:",omitempty"`
}

func (n note) encode() []byte {
	data, err := json.Marshal(n)
	if err != nil {
		return nil // integers alone: cannot happen
	}
	return data
}

// decodeNote reads a note; without one the request was accepted as attempt 1 and never started.
func decodeNote(data []byte) note {
	n := note{}
	if json.Unmarshal(data, &n) != nil || n.Attempt < 1 {
		return note{Attempt: 1}
	}
	return n
}

// encodeEvent is the stored form of a last event.
func encodeEvent(ev Event) ([]byte, error) { return json.Marshal(ev) }

func decodeEvent(data []byte) (Event, error) {
	var ev Event
	err := json.Unmarshal(data, &ev)
	if err == nil && ev.Last == nil {
		err = fmt.Errorf("dispatch: a stored event of %d bytes is not a last one", len(data))
	}
	return ev, err
}
