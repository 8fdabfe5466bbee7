package dispatch

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"edged/core/protocol/backend"
	"edged/core/serve/inbox"
)

// What the journal keeps of a request outlives the build that wrote it. Each value is a line that names its
// format, and JSON:
//
//	edged request 7\n{"Request":{"ID":"r1",…},"Seed":7,…}      record: what makes another attempt the same request
//	edged note 7\n{"Attempt":2,"Prompt":[1,15,…]}              note: how far an attempt came
//	edged answer 7\n{"Attempt":1,"Seq":3,"Last":{…}}           answer: the one last event
//
// A version is a closed set of names, which testdata/format-7.txt lists and a test compares. A build that
// keeps something more, or means something else by a name, writes version 8 and goes on reading those before.
// Version 1 lacked what is told of thoughts, version 2 how much may be thought, version 3 the kind of
// requests that ranks documents and what an embedding asks for beside its texts, version 4 names of models,
// version 5 the languages of a translation, and version 6 the mark behind which an answer stands; they are
// the same else. A version that is not known is refused by its name and left where it is, for the build that
// wrote it; so is a name that no version has. Builds before this rule wrote the same JSON without the line:
// that is read as version 1 whose unknown names are passed over, as those builds did.
const (
	formatRequest = "request"
	formatNote    = "note"
	formatAnswer  = "answer"

	formatVersion = 7
)

// errFormat means that another build wrote a value, in a way that this one does not read.
var errFormat = errors.New("its format is not known to this build: run the build that wrote it, or a newer one")

// seal writes a value behind the line of its format.
func seal(format string, v any) ([]byte, error) {
	var out bytes.Buffer
	fmt.Fprintf(&out, "edged %s %d\n", format, formatVersion)
	data, err := json.Marshal(v)
	out.Write(data)
	return out.Bytes(), err
}

// unseal reads what seal wrote, and what was written before there were versions.
func unseal(format string, data []byte, v any) error {
	if bytes.HasPrefix(data, []byte("{")) {
		return json.Unmarshal(data, v)
	}
	const longest = 64 // of the line: more is no format
	head, body, found := bytes.Cut(data, []byte("\n"))
	if !found || len(head) > longest {
		return fmt.Errorf("%w: it begins with %q", errFormat, data[:min(len(data), longest)])
	}
	version, known := strings.CutPrefix(string(head), "edged "+format+" ")
	if n, err := strconv.Atoi(version); !known || err != nil || n < 1 || n > formatVersion || strconv.Itoa(n) != version {
		return fmt.Errorf("%w: it is %q, and this build reads %q", errFormat, head, fmt.Sprintf("edged %s %d", format, formatVersion))
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		if strings.HasPrefix(err.Error(), "json: unknown field") {
			return fmt.Errorf("%w: %w", errFormat, err)
		}
		return err
	}
	return nil
}

// record is the journalled form of a request: all that makes another attempt the same request.
type record struct {
	Request  *Request      `json:"Request"`
	Model    string        `json:"Model,omitempty"` // resolved
	Seed     uint64        `json:"Seed"`
	Now      time.Time     `json:"Now"` // what a template prints as the date
	Deadline time.Duration `json:"Deadline"`
	Adapters []UsedAdapter `json:"Adapters,omitempty"` // pinned

	model string // that answered; not journalled
}

// answered is the name of the model that answered: the one that it is asked for by, and its files' own where
// it has none. "": none has.
func (r *record) answered() string {
	if r.model == "" || r.Model == "" {
		return r.model
	}
	return r.Model
}

func (r *record) encode(k inbox.Key) (inbox.Record, error) {
	data, err := seal(formatRequest, r)
	if err != nil {
		return inbox.Record{}, err
	}
	return inbox.Record{Key: k, Hash: r.Request.Hash, Data: data}, nil
}

func decodeRecord(in inbox.Record) (*record, error) {
	r := &record{}
	if err := unseal(formatRequest, in.Data, r); err != nil {
		return nil, fmt.Errorf("dispatch: journalled request %q: %w", in.ID, err)
	}
	if r.Request == nil {
		return nil, fmt.Errorf("dispatch: journalled request %q: is empty", in.ID)
	}
	r.Request.Hash, r.Request.Client, r.Request.ID = in.Hash, in.Client, in.ID
	return r, nil
}

// note is the journal's record of an attempt.
type note struct {
	Attempt int     `json:"Attempt"`
	Prompt  []int32 `json:"Prompt"`
	// Taken is how many processes in a row took the request up and were gone before its input was encoded.
	Taken int `json:"Taken,omitempty"`
}

func (n note) encode() []byte {
	data, err := seal(formatNote, n)
	if err != nil {
		return nil // integers alone: cannot happen
	}
	return data
}

// decodeNote reads a note; without one, or where it says nothing, the request was accepted as attempt 1 and
// never started. The error is errFormat: what another build noted must not be counted as nothing.
func decodeNote(data []byte) (note, error) {
	n := note{}
	var err error
	if len(data) > 0 {
		err = unseal(formatNote, data, &n)
	}
	if errors.Is(err, errFormat) {
		return n, fmt.Errorf("dispatch: the note of an attempt: %w", err)
	}
	if err != nil || n.Attempt < 1 {
		n = note{Attempt: 1}
	}
	return n, nil
}

// storedAnswer is a last event. The backend's own structs are no format: what the journal keeps of them is
// named here, and hides the fields of Last that hold them.
type storedAnswer struct {
	Attempt int         `json:"Attempt"`
	Seq     int         `json:"Seq"`
	Last    *storedLast `json:"Last"`
}

type storedLast struct {
	Last

	Choices []storedChoice `json:"Choices"`
	Usage   storedUsage    `json:"Usage"`
}

type storedChoice struct {
	Index    int                  `json:"Index"`
	IDs      []int32              `json:"IDs"`
	Text     string               `json:"Text"`
	Finish   backend.FinishReason `json:"Finish"`
	Logprobs []storedLogprob      `json:"Logprobs"`
}

type storedLogprob struct {
	ID      int32               `json:"ID"`
	Logprob float32             `json:"Logprob"`
	Top     []storedAlternative `json:"Top"`
}

type storedAlternative struct {
	ID      int32   `json:"ID"`
	Logprob float32 `json:"Logprob"`
}

type storedUsage struct {
	PromptTokens     int `json:"PromptTokens"`
	CachedTokens     int `json:"CachedTokens"`
	CompletionTokens int `json:"CompletionTokens"`
	VirtualTokens    int `json:"VirtualTokens"`
}

// encodeEvent is the stored form of a last event.
func encodeEvent(ev Event) ([]byte, error) {
	last := &storedLast{Last: *ev.Last, Usage: storedUsage(ev.Last.Usage)}
	last.Choices = convert(ev.Last.Choices, func(c backend.Choice) storedChoice {
		return storedChoice{c.Index, c.IDs, c.Text, c.Finish, convert(c.Logprobs, func(l backend.TokenLogprob) storedLogprob {
			return storedLogprob{
				l.ID,
				l.Logprob,
				convert(l.Top, func(a backend.Alternative) storedAlternative { return storedAlternative(a) }),
			}
		})}
	})
	return seal(formatAnswer, storedAnswer{ev.Attempt, ev.Seq, last})
}

func decodeEvent(data []byte) (Event, error) {
	var s storedAnswer
	if err := unseal(formatAnswer, data, &s); err != nil {
		return Event{}, fmt.Errorf("dispatch: a stored answer: %w", err)
	}
	if s.Last == nil {
		return Event{}, fmt.Errorf("dispatch: a stored event of %d bytes is not a last one", len(data))
	}
	last := s.Last.Last
	last.Usage = backend.Usage(s.Last.Usage)
	last.Choices = convert(s.Last.Choices, func(c storedChoice) backend.Choice {
		return backend.Choice{
			Index:  c.Index,
			IDs:    c.IDs,
			Text:   c.Text,
			Finish: c.Finish,
			Logprobs: convert(c.Logprobs, func(l storedLogprob) backend.TokenLogprob {
				return backend.TokenLogprob{
					ID:      l.ID,
					Logprob: l.Logprob,
					Top: convert(l.Top, func(a storedAlternative) backend.Alternative {
						return backend.Alternative(a)
					}),
				}
			}),
		}
	})
	return Event{Attempt: s.Attempt, Seq: s.Seq, Last: &last}, nil
}

// convert maps a list and keeps nil nil.
func convert[A, B any](in []A, f func(A) B) []B {
	if in == nil {
		return nil
	}
	out := make([]B, len(in))
	for i, v := range in {
		out[i] = f(v)
	}
	return out
}
