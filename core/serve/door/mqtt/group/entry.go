package group

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
)

// Type says what an entry means.
type Type string

// The types. Hello to Done stand in the log, the others are sent to one node.
const (
	Hello  Type = "hello"  // From listens from here on, and wants to know what was before
	Claim  Type = "claim"  // From has Worker run the request, as term Term
	Accept Type = "accept" // From runs it
	Pass   Type = "pass"   // From does not, another may; Body is why
	Done   Type = "done"   // From has ended it; Body is the outcome

	Give   Type = "give"   // to a worker that does not sit at the desk: Body is the message
	Record Type = "record" // what is known of one request; Body is the message, or the outcome. It travels in a pack
	Pack   Type = "pack"   // to one that said hello: Body is some records, as pack writes them
	End    Type = "end"    // that was all: Count records
	Noted  Type = "noted"  // to a worker that does not sit at the desk: the end that it has told is decided
	// Over is sent to a worker that is back: the request that it had has ended while it was away. With
	// Worker, which has ended it, and Body, the outcome, it goes to one at the desk that has missed the end.
	Over Type = "over"
	// Ask is sent to one at the desk: From has heard nothing of the request for long. Over is the answer,
	// where it has ended.
	Ask Type = "ask"
)

// Entry is a message between the nodes of a group. It is written as one line of JSON, and the body behind it as it is.
type Entry struct {
	Type        Type     `json:"type"`
	From        string   `json:"from"`
	Incarnation string   `json:"incarnation,omitempty"` // of From; of a claim or a record: of Worker
	Client      string   `json:"client,omitempty"`
	ID          string   `json:"id,omitempty"`
	Hash        Hash     `json:"hash,omitzero"`
	Term        int      `json:"term,omitempty"`
	Worker      string   `json:"worker,omitempty"`
	Code        string   `json:"code,omitempty"`
	Level       string   `json:"level,omitempty"`
	Adapters    []string `json:"adapters,omitempty"`
	Once        bool     `json:"once,omitempty"`
	Refused     bool     `json:"refused,omitempty"`
	Accepted    bool     `json:"accepted,omitempty"` // of a record
	Ended       bool     `json:"ended,omitempty"`    // likewise
	Base        int      `json:"base,omitempty"`     // likewise
	Had         []string `json:"had,omitempty"`      // likewise: nodes that have accepted it, or may have
	Nonce       int      `json:"nonce,omitempty"`    // of a hello and the answers to it
	Whole       bool     `json:"whole,omitempty"`    // of an end: From has missed nothing for a while
	Count       int      `json:"count,omitempty"`    // of an end: the records before it
	Epoch       string   `json:"epoch,omitempty"`    // of an end: see Member, where the hello stands
	Log         int      `json:"log,omitempty"`      // likewise
	Life        string   `json:"life,omitempty"`     // of an entry of the log: From's process, in which
	Line        int      `json:"line,omitempty"`     // this is its connection, from 1, on which
	Seq         int      `json:"seq,omitempty"`      // this is the entry's number, from 1; 0: it has none
	Heard       []Mark   `json:"heard,omitempty"`    // of an end: how far From has heard others, where the hello stands
	Body        []byte   `json:"-"`
}

// Mark is a place in what a node writes into the log.
type Mark struct {
	From string `json:"from"`
	Life string `json:"life"`
	Line int    `json:"line"`
	Seq  int    `json:"seq"`
}

// Hash is written in hexadecimal digits.
type Hash [32]byte

// MarshalText writes the digits.
func (h Hash) MarshalText() ([]byte, error) { return fmt.Appendf(nil, "%x", h[:]), nil }

// UnmarshalText reads them.
func (h *Hash) UnmarshalText(text []byte) error {
	var b []byte
	if n, err := fmt.Sscanf(string(text), "%x", &b); n != 1 || err != nil || len(b) != len(h) {
		return errors.New("group: a hash has 64 hexadecimal digits")
	}
	copy(h[:], b)
	return nil
}

func (e *Entry) key() Key { return Key{e.Client, e.ID} }

// Encode writes an entry.
func (e *Entry) Encode() ([]byte, error) {
	head, err := json.Marshal(e)
	if err != nil {
		return nil, fmt.Errorf("group: an entry: %w", err)
	}
	return append(append(head, '\n'), e.Body...), nil
}

// maxHead bounds the line of an entry.
const maxHead = 16 << 10

// DecodeEntry reads what Encode wrote. What another member may have written besides is an error; fields that
// are not known are passed over.
func DecodeEntry(data []byte) (Entry, error) {
	var e Entry
	head, body, found := bytes.Cut(data, []byte("\n"))
	if !found || len(head) > maxHead {
		return e, errors.New("group: an entry begins with a line of JSON")
	}
	if err := json.Unmarshal(head, &e); err != nil {
		return e, fmt.Errorf("group: an entry: %w", err)
	}
	switch e.Type {
	case Hello, End, Claim, Accept, Pass, Done, Give, Record, Pack, Noted, Over, Ask:
	default:
		return e, fmt.Errorf("group: an entry of the unknown type %.32q", string(e.Type))
	}
	if e.From == "" || e.Term < 0 || e.Type != Hello && e.Type != End && e.Type != Pack && e.ID == "" {
		return e, errors.New("group: an entry lacks its sender or its request")
	}
	e.Body = body
	return e, nil
}

// appendRecord adds a record to the body of a pack: its length, and what Encode writes.
func appendRecord(body []byte, e *Entry) ([]byte, error) {
	data, err := e.Encode()
	if err != nil {
		return body, err
	}
	return append(binary.AppendUvarint(body, uint64(len(data))), data...), nil
}

// unpack reads the records of a pack's body. What another member may have written besides ends it.
func unpack(body []byte) (records []Entry) {
	for len(body) > 0 {
		n, size := binary.Uvarint(body)
		if size <= 0 || n > uint64(len(body)-size) {
			return records
		}
		e, err := DecodeEntry(body[size : size+int(n)])
		if err != nil || e.Type != Record {
			return records
		}
		records, body = append(records, e), body[size+int(n):]
	}
	return records
}
