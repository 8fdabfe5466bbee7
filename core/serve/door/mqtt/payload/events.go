// Package payload has the JSON forms of what a node publishes over MQTT: the events of requests, complaints,
// its state, and its figures. docs/mqtt.schema.json describes them. They are part of the first version of the
// API: fields are added, never renamed.
//
// It must not know topics, nor how a message gets to its broker.
package payload

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"time"

	"edged/core/protocol/backend"
	"edged/core/serve/dispatch"
	"edged/core/serve/door/fields"
)

// Event is one event of a request: exactly one of Stage, Delta and Done is set.
type Event struct {
	ID      string          `json:"id"`
	Attempt int             `json:"attempt"`        // from 1
	Seq     int             `json:"seq"`            // from 0 within the attempt
	User    json.RawMessage `json:"user,omitempty"` // the request's own "user"

	Stage    string `json:"stage,omitempty"`     // "accepted", "loading", "prefill"
	Position *int   `json:"position,omitempty"`  // accepted: requests before it
	Stored   bool   `json:"stored,omitempty"`    // accepted: a repeat, whose stored answer follows
	Waits    string `json:"waits_for,omitempty"` // loading: the name of the model that is being loaded
	DoneOf   *Of    `json:"-"`                   // prefill: see encode

	Delta string `json:"delta,omitempty"` // new text
	// Reasoning is the model's thought before its answer: new text of it, or in the last event all of it.
	Reasoning string `json:"reasoning,omitempty"`
	Index     *int   `json:"index,omitempty"` // of the choice, when there are several

	Done bool `json:"done,omitempty"` // the last event
	*Result
	Error *Error `json:"error,omitempty"`
}

// Of is progress: Done of Of tokens of the prompt.
type Of struct{ Done, Of int }

// Result is the content of an answer.
type Result struct {
	Text       *string    `json:"text,omitempty"` // nil where nothing was generated (embed, score, rerank)
	Finish     string     `json:"finish_reason,omitempty"`
	ToolCalls  []ToolCall `json:"tool_calls,omitempty"`
	Logprobs   []Logprob  `json:"logprobs,omitempty"`
	Choices    []Choice   `json:"choices,omitempty"`    // n > 1: all, the first of them above too
	Embeddings []Vector   `json:"embeddings,omitempty"` // embed: one for each text
	Scores     []float32  `json:"scores,omitempty"`     // score: ln p of each token after the first
	Results    []Ranked   `json:"results,omitempty"`    // rerank: the best first

	Dropped  int           `json:"dropped_messages,omitempty"` // that context_policy left out
	Usage    Usage         `json:"usage"`
	Timings  Timings       `json:"timings"`
	Model    string        `json:"model"`
	Adapters []AdapterUsed `json:"adapters"`
	Seed     *uint64       `json:"seed,omitempty"` // nil where nothing was generated
	Node     string        `json:"node"`
}

// Vector is a text's vector, in JSON a list of numbers or base64 of their float32s, little-endian.
type Vector struct {
	Values []float32
	Packed bool
}

// MarshalJSON writes it.
func (v Vector) MarshalJSON() ([]byte, error) {
	if v.Packed {
		return json.Marshal(fields.Packed(v.Values))
	}
	return json.Marshal(v.Values)
}

// UnmarshalJSON reads either form.
func (v *Vector) UnmarshalJSON(data []byte) error {
	if !bytes.HasPrefix(data, []byte(`"`)) {
		v.Packed = false
		return json.Unmarshal(data, &v.Values)
	}
	var raw []byte // encoding/json reads base64
	if err := json.Unmarshal(data, &raw); err != nil {
		return err
	}
	if len(raw)%4 != 0 {
		return fmt.Errorf("mqtt: a vector of %d bytes is no list of float32", len(raw))
	}
	v.Packed, v.Values = true, make([]float32, len(raw)/4)
	for i := range v.Values {
		v.Values[i] = math.Float32frombits(binary.LittleEndian.Uint32(raw[4*i:]))
	}
	return nil
}

// Ranked is how well a document fits a query.
type Ranked struct {
	Index int     `json:"index"` // of the document, from 0
	Score float32 `json:"score"` // the logit after the function that the model's files name
	Logit float32 `json:"logit"`
}

// Choice is one of several answers.
type Choice struct {
	Index     int        `json:"index"`
	Text      string     `json:"text"`
	Reasoning string     `json:"reasoning,omitempty"`
	Finish    string     `json:"finish_reason"`
	ToolCalls []ToolCall `json:"tool_calls,omitempty"`
	Logprobs  []Logprob  `json:"logprobs,omitempty"`
}

// ToolCall is a call that the model wants made, in the form that OpenAI-style clients know.
type ToolCall struct {
	ID       string `json:"id"`
	Type     string `json:"type"` // "function"
	Function struct {
		Name      string `json:"name"`
		Arguments string `json:"arguments"` // JSON
	} `json:"function"`
}

// Logprob is the raw log-softmax of one token.
type Logprob struct {
	ID      int32     `json:"id"`
	Logprob float32   `json:"logprob"`
	Top     []Logprob `json:"top,omitempty"`
}

// Usage counts tokens.
type Usage struct {
	Prompt     int `json:"prompt_tokens"`
	Cached     int `json:"cached_tokens"`
	Completion int `json:"completion_tokens"`
	Virtual    int `json:"virtual_tokens,omitempty"`   // of the prompt's: those of soft prompts
	Reasoning  int `json:"reasoning_tokens,omitempty"` // of the completion's: those of what was thought
}

// Timings are durations in milliseconds, and tokens a second.
type Timings struct {
	Queue      float64 `json:"queue_ms"`
	FirstToken float64 `json:"first_token_ms"` // from admission
	Prefill    float64 `json:"prefill_ms"`
	Decode     float64 `json:"decode_ms"`
	PrefillTPS float64 `json:"prefill_tps"`
	DecodeTPS  float64 `json:"decode_tps"`
}

// AdapterUsed names the bytes that answered.
type AdapterUsed struct {
	Name   string  `json:"name"`
	SHA256 string  `json:"sha256"`
	Scale  float32 `json:"scale"`
}

// Error is why there is no answer.
type Error struct {
	Code    dispatch.Code `json:"code"`
	Message string        `json:"message"`
	RetryMS int64         `json:"retry_after_ms,omitempty"` // queue_full: when to try again
}

// Complaint is a message on ROOT/errors.
type Complaint struct {
	Topic string          `json:"topic"`          // that the message came on
	ID    string          `json:"id,omitempty"`   // where it could be read
	User  json.RawMessage `json:"user,omitempty"` // likewise
	Error Error           `json:"error"`
}

// encode writes the event. Prefill progress counts tokens in "read": a number in "done" would be taken for the last event by clients that
// ask `if (e.done)`.
func (e Event) encode() ([]byte, error) {
	if e.DoneOf == nil {
		type plain Event
		return fields.Encode(plain(e))
	}
	return fields.Encode(struct {
		ID      string          `json:"id"`
		Attempt int             `json:"attempt"`
		Seq     int             `json:"seq"`
		User    json.RawMessage `json:"user,omitempty"`
		Stage   string          `json:"stage"`
		Read    int             `json:"read"`
		Of      int             `json:"of"`
	}{e.ID, e.Attempt, e.Seq, e.User, e.Stage, e.DoneOf.Done, e.DoneOf.Of})
}

// UnmarshalJSON reads an event, an older node's too, whose progress stands in "done".
func (e *Event) UnmarshalJSON(data []byte) error {
	var stage struct {
		Stage string          `json:"stage"`
		Done  json.RawMessage `json:"done"`
		Read  int             `json:"read"`
		Of    int             `json:"of"`
	}
	if err := json.Unmarshal(data, &stage); err != nil {
		return err
	}
	type plain Event
	if stage.Stage != stagePrefill {
		return json.Unmarshal(data, (*plain)(e))
	}
	head := struct {
		ID      string          `json:"id"`
		Attempt int             `json:"attempt"`
		Seq     int             `json:"seq"`
		User    json.RawMessage `json:"user"`
	}{}
	if err := json.Unmarshal(data, &head); err != nil {
		return err
	}
	of := &Of{Done: stage.Read, Of: stage.Of}
	if len(stage.Done) > 0 {
		if err := json.Unmarshal(stage.Done, &of.Done); err != nil {
			return err
		}
	}
	*e = Event{ID: head.ID, Attempt: head.Attempt, Seq: head.Seq, User: head.User, Stage: stage.Stage, DoneOf: of}
	return nil
}

// The stages.
const (
	stageAccepted = "accepted"
	stageLoading  = "loading"
	stagePrefill  = "prefill"
)

// EventOf turns dispatch's event of a request into the published form.
func EventOf(req *dispatch.Request, ev dispatch.Event) Event {
	e := Event{ID: req.ID, Attempt: max(ev.Attempt, 1), Seq: ev.Seq, User: req.Echo}
	switch {
	case ev.Accepted != nil:
		e.Stage, e.Position, e.Stored = stageAccepted, &ev.Accepted.Position, ev.Accepted.Stored
	case ev.Loading != nil:
		e.Stage, e.Waits = stageLoading, ev.Loading.Model
	case ev.Prefill != nil:
		e.Stage, e.DoneOf = stagePrefill, &Of{ev.Prefill.Done, ev.Prefill.Of}
	case ev.Delta != nil:
		e.Delta, e.Reasoning = ev.Delta.Text, ev.Delta.Thought
		if req.Options.N > 1 {
			e.Index = &ev.Delta.Index
		}
	case ev.Last != nil && ev.Last.Error != nil:
		e.Done, e.Error = true, ErrorOf(ev.Last.Error)
	case ev.Last != nil:
		e.Done, e.Result = true, resultOf(req, ev.Last)
		if len(ev.Last.Thoughts) > 0 {
			e.Reasoning = ev.Last.Thoughts[0]
		}
	}
	return e
}

// ErrorOf is an error as it is published.
func ErrorOf(err *dispatch.Error) *Error {
	return &Error{Code: err.Code, Message: err.Message, RetryMS: err.Retry.Milliseconds()}
}

func resultOf(req *dispatch.Request, l *dispatch.Last) *Result {
	r := &Result{
		Finish: l.Finish, Scores: l.Scores, Dropped: l.Dropped,
		Usage:   Usage{l.Usage.PromptTokens, l.Usage.CachedTokens, l.Usage.CompletionTokens, l.Usage.VirtualTokens, l.Thought},
		Timings: timingsOf(l.Timings), Model: l.Model, Node: l.Node,
		Adapters: make([]AdapterUsed, len(l.Adapters)),
	}
	for i, a := range l.Adapters {
		r.Adapters[i] = AdapterUsed(a)
	}
	for _, v := range l.Vectors {
		r.Embeddings = append(r.Embeddings, Vector{v, req.Packed})
	}
	for _, x := range l.Ranks {
		r.Results = append(r.Results, Ranked(x))
	}
	if req.Kind != dispatch.Generate {
		return r
	}
	r.Seed, r.Text = &l.Seed, new(string)
	choices := make([]Choice, len(l.Choices))
	for i, c := range l.Choices {
		choices[i] = Choice{Index: c.Index, Text: c.Text, Finish: string(c.Finish)}
		if i < len(l.Thoughts) {
			choices[i].Reasoning = l.Thoughts[i]
		}
		if l.Logprobs {
			choices[i].Logprobs = logprobsOf(c.Logprobs)
		}
		if i < len(l.Tools) {
			choices[i].ToolCalls = callsOf(i, l.Tools[i])
		}
	}
	if len(choices) > 0 {
		first := choices[0]
		r.Text, r.ToolCalls, r.Logprobs = &first.Text, first.ToolCalls, first.Logprobs
	}
	if req.Options.N > 1 {
		r.Choices = choices
	}
	return r
}

func logprobsOf(in []backend.TokenLogprob) []Logprob {
	out := make([]Logprob, len(in))
	for i, t := range in {
		out[i] = Logprob{ID: t.ID, Logprob: t.Logprob}
		for _, a := range t.Top {
			out[i].Top = append(out[i].Top, Logprob{ID: a.ID, Logprob: a.Logprob})
		}
	}
	return out
}

func callsOf(choice int, in []dispatch.ToolCall) []ToolCall {
	var out []ToolCall
	for i, c := range in {
		t := ToolCall{ID: fmt.Sprintf("call_%d_%d", choice, i), Type: "function"}
		t.Function.Name, t.Function.Arguments = c.Name, string(c.Arguments)
		out = append(out, t)
	}
	return out
}

func timingsOf(t dispatch.Timings) Timings {
	out := Timings{
		Queue: ms(t.Queue), FirstToken: ms(t.FirstToken), Prefill: ms(t.Prefill), Decode: ms(t.Decode),
	}
	if t.Prefill > 0 {
		out.PrefillTPS = round(float64(t.PrefillTokens) / t.Prefill.Seconds())
	}
	// The first token comes out of the prefill; the decode time is that of the others.
	if t.Decode > 0 && t.DecodeTokens > 1 {
		out.DecodeTPS = round(float64(t.DecodeTokens-1) / t.Decode.Seconds())
	}
	return out
}

// ms is a duration in milliseconds, to a microsecond.
func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// round keeps two decimals: more would be noise.
func round(f float64) float64 { return math.Round(f*100) / 100 }

// Encode writes an event. What cannot be written, or would be larger than the limit, becomes an error event in its
// place: an answer that a broker refuses would be sent again for ever.
func Encode(e Event, most int) []byte {
	data, err := e.encode()
	switch {
	case err != nil:
		e = Failed(e, dispatch.CodeInternal, "the answer cannot be written as JSON: "+err.Error())
	case len(data) > most:
		e = Failed(e, dispatch.CodeTooLarge, fmt.Sprintf("the answer has %d bytes, and mqtt.max_payload is %d", len(data), most))
	default:
		return data
	}
	data, err = e.encode()
	if err != nil {
		return nil // an error event holds nothing that cannot be written
	}
	return data
}

// Failed is the error event that stands in for another.
func Failed(e Event, code dispatch.Code, message string) Event {
	return Event{ID: e.ID, Attempt: e.Attempt, Seq: e.Seq, User: e.User, Done: true, Error: &Error{Code: code, Message: message}}
}

// PlainText is the answer to an ask.
func PlainText(l *dispatch.Last, most int) []byte {
	if l.Error != nil {
		return PlainError(l.Error)
	}
	if len(l.Choices) == 0 {
		return nil
	}
	text := l.Choices[0].Text
	if len(text) > most {
		return PlainError(&dispatch.Error{
			Code:    dispatch.CodeTooLarge,
			Message: fmt.Sprintf("the answer has %d bytes, and mqtt.max_payload is %d", len(text), most),
		})
	}
	return []byte(text)
}

// PlainError is the answer to an ask that has none.
func PlainError(err *dispatch.Error) []byte {
	return []byte("error: " + string(err.Code) + ": " + err.Message)
}
