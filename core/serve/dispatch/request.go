// Package dispatch takes requests from a door (MQTT today), admits, queues and runs them on a backend, and gives every
// accepted request exactly one last event: fairness between clients, deadlines, cancel, another attempt after a crash.
//
// It must not know MQTT, topics or payload formats: a door turns its messages into Requests and gets Events back.
package dispatch

import (
	"context"
	"encoding/json"
	"time"

	"edged/core/protocol/backend"
	"edged/core/serve/dispatch/thinking"
)

// Request is one admitted piece of work. A door fills it; dispatch never changes it after Submit. The journal
// keeps it under the names of its tags: stored.go says what may be changed.
type Request struct {
	Door     string          `json:"Door,omitempty"`     // "mqtt"; with Reply it says where events go, also after a restart
	Reply    string          `json:"Reply,omitempty"`    // the door's own address of the answer (for MQTT: a topic)
	Plain    bool            `json:"Plain,omitempty"`    // the door wants the text only (ROOT/ask)
	Fleeting bool            `json:"Fleeting,omitempty"` // nobody waits for the answer longer than a connection lives: it is not journalled
	Client   string          `json:"Client,omitempty"`   // fairness and dedupe key; "" for none
	ID       string          `json:"ID"`                 // unique per Client
	Hash     [32]byte        `json:"-"`                  // of the payload: the same ID with another Hash is an id conflict
	Kind     Kind            `json:"Kind,omitempty"`
	Model    string          `json:"Model,omitempty"`    // "": the default one
	Prompt   string          `json:"Prompt,omitempty"`   // the text; of a Generate the one message of a user, where the model has a template
	Raw      bool            `json:"Raw,omitempty"`      // Generate: Prompt is what the model reads, also where it has a template
	Chat     json.RawMessage `json:"Chat,omitempty"`     // Generate: messages (array); nil where Prompt is set
	Tools    json.RawMessage `json:"Tools,omitempty"`    // nil: none
	Vars     json.RawMessage `json:"Vars,omitempty"`     // template variables (object); nil: none
	IDs      []int32         `json:"IDs,omitempty"`      // Generate and Score: ids instead of a text; nil: none
	Texts    []string        `json:"Texts,omitempty"`    // Embed: several texts; nil: Prompt. Rank: the documents
	Query    string          `json:"Query,omitempty"`    // Rank: what the documents are to fit
	Instruct string          `json:"Instruct,omitempty"` // Rank: what a decoder is told of what fits; "": what it was trained with
	Best     int             `json:"Best,omitempty"`     // Rank: how many of the best are wanted; 0: all
	Task     string          `json:"Task,omitempty"`     // Embed: of the texts, by a name that the model's files have a prompt for; "": their default
	Whole    bool            `json:"Whole,omitempty"`    // Embed: a text that is too long is refused, and not cut
	Dims     int             `json:"Dims,omitempty"`     // Embed: vectors are cut to so many values and scaled to length 1 anew; 0: whole
	Packed   bool            `json:"Packed,omitempty"`   // Embed: the door writes vectors as base64
	Options  Options         `json:"Options"`
	Adapters []AdapterRef    `json:"Adapters"` // nil: the default adapter; empty and not nil: none
	Stream   bool            `json:"Stream,omitempty"`
	LastOnly bool            `json:"LastOnly,omitempty"` // the door publishes the last event alone
	Echo     json.RawMessage `json:"Echo,omitempty"`     // the client's own value, which the door puts into each event; nil: none
	Pieces   bool            `json:"Pieces,omitempty"`   // log-probabilities come with the bytes of their tokens
	Deadline time.Duration   `json:"Deadline,omitempty"` // 0: the configured one; counts running time from admission
	Priority int             `json:"Priority,omitempty"` // higher first, -10 to 10
}

// Kind is the kind of a request: a completion, an embedding and so on.
type Kind uint8

// The kinds.
const (
	Generate Kind = iota
	Embed
	Score
	Rank
)

// AdapterRef names an adapter.
type AdapterRef struct {
	Name  string  `json:"Name"`
	Scale float32 `json:"Scale"`
}

// Options are the generation parameters of a request. A nil pointer means the configured default.
type Options struct {
	MaxTokens        *int              `json:"MaxTokens,omitempty"`
	Temperature      *float32          `json:"Temperature,omitempty"`
	TopK             *int              `json:"TopK,omitempty"`
	TopP             *float32          `json:"TopP,omitempty"`
	MinP             *float32          `json:"MinP,omitempty"`
	TypicalP         *float32          `json:"TypicalP,omitempty"`
	RepeatPenalty    *float32          `json:"RepeatPenalty,omitempty"`
	PresencePenalty  *float32          `json:"PresencePenalty,omitempty"`
	FrequencyPenalty *float32          `json:"FrequencyPenalty,omitempty"`
	LogitBias        map[int32]float32 `json:"LogitBias,omitempty"`
	Seed             *uint64           `json:"Seed,omitempty"`
	Stop             []string          `json:"Stop,omitempty"`
	StopIDs          []int32           `json:"StopIDs,omitempty"`
	IgnoreEOS        bool              `json:"IgnoreEOS,omitempty"`
	N                int               `json:"N,omitempty"`
	BestOf           int               `json:"BestOf,omitempty"`
	Logprobs         bool              `json:"Logprobs,omitempty"`
	TopLogprobs      int               `json:"TopLogprobs,omitempty"`
	ResponseFormat   json.RawMessage   `json:"ResponseFormat,omitempty"`
	Grammar          string            `json:"Grammar,omitempty"`
	Source           string            `json:"Source,omitempty"` // language of the prompt, by the model's code for it; "": as its files say
	Target           string            `json:"Target,omitempty"` // language of the answer, the same
	ToolChoice       json.RawMessage   `json:"ToolChoice,omitempty"`
	Thinking         string            `json:"Thinking,omitempty"`       // ThinkingOn, ThinkingOff; "": the default
	ThinkingBudget   int               `json:"ThinkingBudget,omitempty"` // with ThinkingOn: tokens that may be thought; 0: the default
	Effort           string            `json:"Effort,omitempty"`         // a level such as "low", where the template has levels; "": its own
	AnswerAfter      string            `json:"AnswerAfter,omitempty"`    // the mark behind which the answer stands: what comes before it is thought; "": none
	ContextPolicy    string            `json:"ContextPolicy,omitempty"`  // where the prompt is too long: PolicyError (""), PolicyKeepSystem
}

// Whether a model thinks before it answers.
const (
	ThinkingOn  = thinking.On
	ThinkingOff = thinking.Off
)

// What is done about a conversation that is too long for the context.
const (
	PolicyError      = "error"
	PolicyKeepSystem = "keep_system" // the oldest turns are left out, system messages and the last question stay
)

// Event is a step of a request's answer, which a door publishes. Exactly one of Accepted, Loading, Prefill,
// Delta and Last is set.
type Event struct {
	Attempt  int // from 1
	Seq      int // from 0 within the attempt
	Accepted *Accepted
	Loading  *Loading
	Prefill  *backend.Prefill
	Delta    *Delta
	Last     *Last
}

// Accepted means that the request is journalled.
type Accepted struct {
	Position int  // requests before it
	Stored   bool // it was answered before: the last event, which follows, is the stored one
}

// Loading means that the request waits until its model is loaded.
type Loading struct {
	Model string // its name
}

// Delta is new text of one choice.
type Delta struct {
	Index   int
	Text    string
	Thought string // new text of what the model thinks before it answers
	Mark    string // where tools are offered: what a call of this model begins with, in a text that is free otherwise; "": not known
}

// Last is the one last event: an answer or an error.
type Last struct {
	Error    *Error           `json:"Error"`  // nil: an answer
	Finish   string           `json:"Finish"` // "stop", "length", "cancelled"
	Choices  []backend.Choice `json:"Choices"`
	Usage    backend.Usage    `json:"Usage"`
	Timings  Timings          `json:"Timings"`
	Model    string           `json:"Model"`
	Adapters []UsedAdapter    `json:"Adapters"`
	Seed     uint64           `json:"Seed"`
	Node     string           `json:"Node"`
	Logprobs bool             `json:"Logprobs"`
	Dropped  int              `json:"Dropped"`            // messages that PolicyKeepSystem left out
	Thoughts []string         `json:"Thoughts,omitempty"` // per choice: what the model thought; nil: nothing
	Thought  int              `json:"Thought,omitempty"`  // tokens of that
	Tools    [][]ToolCall     `json:"Tools"`              // per choice; nil: none
	Beside   []string         `json:"Beside"`             // per choice: the text without its calls; nil where Tools is
	Pieces   map[int32][]byte `json:"Pieces,omitempty"`   // Request.Pieces: the bytes of each token that Logprobs name
	Vectors  [][]float32      `json:"Vectors"`            // Embed
	Scores   []float32        `json:"Scores"`             // Score
	Ranks    []Ranked         `json:"Ranks,omitempty"`    // Rank: the best first
}

// Ranked is how well a document fits the query.
type Ranked struct {
	Index int     `json:"Index"` // in Request.Texts
	Score float32 `json:"Score"` // the logit after the function that the model's files name
	Logit float32 `json:"Logit"` // as the model's head gives it
}

// ToolCall is one parsed call in an answer.
type ToolCall struct {
	Name      string          `json:"Name"`
	Arguments json.RawMessage `json:"Arguments"`
}

// UsedAdapter says which bytes answered.
type UsedAdapter struct {
	Name   string  `json:"Name"`
	SHA256 string  `json:"SHA256"`
	Scale  float32 `json:"Scale"`
}

// Timings are durations of a whole request; FirstToken counts from admission.
type Timings struct {
	Queue         time.Duration `json:"Queue"`
	FirstToken    time.Duration `json:"FirstToken"`
	Prefill       time.Duration `json:"Prefill"`
	Decode        time.Duration `json:"Decode"`
	PrefillTokens int           `json:"PrefillTokens"`
	DecodeTokens  int           `json:"DecodeTokens"`
}

// Error is a failure that a client sees.
type Error struct {
	Code    Code          `json:"Code"`
	Message string        `json:"Message"`
	Retry   time.Duration `json:"Retry"` // queue_full: when to try again; 0: no hint
}

// Code is one of the closed, documented list of error codes.
type Code string

// The codes.
const (
	CodeInvalidRequest     Code = "invalid_request"
	CodeAdapterNotFound    Code = "adapter_not_found"
	CodeModelNotFound      Code = "model_not_found"
	CodePromptNotFound     Code = "prompt_not_found"
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

// Error makes *Error an error.
func (e *Error) Error() string { return string(e.Code) + ": " + e.Message }

// Submitter is the part of the dispatcher that a door uses. *Dispatcher implements it.
type Submitter interface {
	// Submit admits a request, after which the sink gets exactly one last event, or returns an *Error. When it has returned nil,
	// the request is journalled, unless it is fleeting.
	Submit(ctx context.Context, req *Request, sink Sink) error
	// Cancel ends a request and reports whether it was known.
	Cancel(client, id string) bool
}

// Sink receives the events of a request, in order, from one goroutine per request. It must not block for long: a door
// that cannot deliver drops deltas, never the last event. Sinks are compared: they are pointers.
type Sink interface {
	Event(req *Request, ev Event)
}
