// Package dispatch takes requests from a door (MQTT today), admits, queues and runs them on a backend, and gives every
// accepted request exactly one last event: fairness between clients, deadlines, cancel, another attempt after a crash.
//
// It must not know MQTT, topics or payload formats: a door turns its messages into Requests and gets Events back.
package dispatch

import (
	"encoding/json"
	"time"

	"edged/core/protocol/backend"
)

// Request is one admitted piece of work. A door fills it; dispatch never changes it after Submit.
type Request struct {
	Door     string   // "mqtt"; with Reply it says where events go, also after a restart
	Reply    string   // the door's own address of the answer (for MQTT: a topic)
	Plain    bool     // the door wants the text only (ROOT/ask)
	Client   string   // fairness and dedupe key; "" for none
	ID       string   // unique per Client
	Hash     [32]byte // of the payload: the same ID with another Hash is an id conflict
	Kind     Kind
	Prompt   string          // Generate without a template, Embed and Score: the text
	Chat     json.RawMessage // Generate: messages (array); nil where Prompt is set
	Tools    json.RawMessage // nil: none
	Vars     json.RawMessage // template variables (object); nil: none
	IDs      []int32         // Score: ids instead of a text; nil: none
	Texts    []string        // Embed: several texts; nil: Prompt
	Options  Options
	Adapters []AdapterRef // nil: the default adapter; empty and not nil: none
	Stream   bool
	Deadline time.Duration // 0: none; counts running time from admission
	Priority int           // higher first
}

// Kind is what a request asks for.
type Kind uint8

// The kinds.
const (
	Generate Kind = iota
	Embed
	Score
)

// AdapterRef names an adapter.
type AdapterRef struct {
	Name  string
	Scale float32
}

// Options are the generation parameters of a request. A nil pointer means the configured default.
type Options struct {
	MaxTokens        *int
	Temperature      *float32
	TopK             *int
	TopP             *float32
	MinP             *float32
	TypicalP         *float32
	RepeatPenalty    *float32
	PresencePenalty  *float32
	FrequencyPenalty *float32
	LogitBias        map[int32]float32
	Seed             *uint64
	Stop             []string
	StopIDs          []int32
	IgnoreEOS        bool
	N, BestOf        int
	Logprobs         bool
	TopLogprobs      int
	ResponseFormat   json.RawMessage
	Grammar          string
	ToolChoice       json.RawMessage
}

// Event is what a door publishes. Exactly one of Accepted, Prefill, Delta and Last is set.
type Event struct {
	Attempt  int // from 1
	Seq      int // from 0 within the attempt
	Accepted *Accepted
	Prefill  *backend.Prefill
	Delta    *Delta
	Last     *Last
}

// Accepted means that the request is journalled.
type Accepted struct{ Position int } // requests before it

// Delta is new text of one choice.
type Delta struct {
	Index int
	Text  string
}

// Last is the one last event: an answer or an error.
type Last struct {
	Error    *Error // nil: an answer
	Finish   string // "stop", "length", "cancelled"
	Choices  []backend.Choice
	Usage    backend.Usage
	Timings  Timings
	Model    string
	Adapters []UsedAdapter
	Seed     uint64
	Node     string
	Logprobs bool
	Tools    [][]ToolCall // per choice; nil: none
	Vectors  [][]float32  // Embed
	Scores   []float32    // Score
}

// ToolCall is one parsed call in an answer.
type ToolCall struct {
	Name      string
	Arguments json.RawMessage
}

// UsedAdapter says which bytes answered.
type UsedAdapter struct {
	Name   string
	SHA256 string
	Scale  float32
}

// Timings are durations of a whole request; FirstToken counts from admission.
type Timings struct {
	Queue, FirstToken, Prefill, Decode time.Duration
	PrefillTokens, DecodeTokens        int
}

// Error is a failure that a client sees.
type Error struct {
	Code    Code
	Message string
	Retry   time.Duration // queue_full: when to try again; 0: no hint
}

// Code is one of the closed, documented list of error codes.
type Code string

// The codes.
const (
	CodeInvalidRequest     Code = "invalid_request"
	CodeAdapterNotFound    Code = "adapter_not_found"
	CodeContextLength      Code = "context_length_exceeded"
	CodeQueueFull          Code = "queue_full"
	CodeDeadline           Code = "deadline_exceeded"
	CodeIDConflict         Code = "id_conflict"
	CodeBackendUnavailable Code = "backend_unavailable"
	CodeQuarantined        Code = "quarantined"
	CodeStorage            Code = "storage_unavailable"
	CodeUnsupported        Code = "unsupported"
	CodeTooLarge           Code = "answer_too_large"
	CodeShuttingDown       Code = "shutting_down"
	CodeInternal           Code = "internal"
)

// Sink receives the events of a request, in order, from one goroutine per request. It must not block for long: a door
// that cannot deliver drops deltas, never the last event.
type Sink interface {
	Event(req *Request, ev Event)
}
