package dispatch

import "time"

// What a request may ask for at most. This is the only place that says so: the doors refuse by these numbers
// while they read, so that nothing is allocated for more, and Submit refuses by them whatever built the
// request. docs/mqtt.md lists them.
const (
	MaxMessages    = 1024 // of a conversation
	MaxParts       = 256  // of a message's content
	MaxTools       = 128  // that are offered
	MaxToolCalls   = 64   // of a message in the history
	MaxAdapters    = 8
	MaxStops       = 16
	MaxStopBytes   = 1024 // of one stop text
	MaxStopIDs     = 256
	MaxLogitBias   = 1024               // tokens that have a bias
	MaxChoices     = 16                 // n, and best_of
	MaxTopLogprobs = 20                 // alternatives of a token
	MaxGrammar     = 64 << 10           // bytes
	MaxTexts       = 256                // of one embedding or ranking; a door cuts longer lists into several requests
	MaxDims        = 1 << 20            // of a vector: above every model's
	MaxTask        = 256                // bytes of a task's name
	MaxInstruct    = 4 << 10            // bytes of what a decoder is told of what fits
	MaxIDs         = 1 << 16            // of a prompt that is given as token ids
	MaxTokens      = 1 << 22            // max_tokens: above every model's context
	MaxTopK        = 1 << 30            // above every vocabulary
	MinPriority    = -10                // a request's own; the daemon's pinned prefixes go below it
	MaxPriority    = 10                 //
	MaxWait        = 7 * 24 * time.Hour // deadline_ms
)

// Range bounds a number, both ends included.
type Range struct{ Least, Most float32 }

// holds reports whether a number is in the range. NaN is in none.
func (r Range) holds(f float32) bool { return f >= r.Least && f <= r.Most }

// Ranges bound the sampling parameters by their names in a request.
var Ranges = map[string]Range{ //nolint:gochecknoglobals // a table
	"temperature":       {0, 100},
	"top_p":             {0, 1},
	"min_p":             {0, 1},
	"typical_p":         {0, 1},
	"repeat_penalty":    {0, 100},
	"presence_penalty":  {-100, 100},
	"frequency_penalty": {-100, 100},
}
