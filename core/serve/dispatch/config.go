package dispatch

import (
	"log/slog"
	"time"

	"edged/core/serve/inbox"
)

// Config configures a Dispatcher.
type Config struct {
	Models     Models // nil: one, whose plugins are the next two
	Backends   Backends
	Tokenizers Tokenizers
	Adapters   Adapters    // nil: there are none
	Inbox      inbox.Store // nil: one in memory with default limits
	Defaults   Defaults
	Limits     Limits
	Node       string // named in last events
	Prompts    bool   // prompts and answers are logged, at debug level
	Log        *slog.Logger
}

// Limits bound a Dispatcher. Zero values are the defaults that are named at each field.
type Limits struct {
	Running     int           // requests in the backend at once; default 4
	Queued      int           // waiting requests; default 64
	PerClient   int           // of one client, waiting and running; default 16
	Ageing      time.Duration // waiting raises a priority by one level each; default 10 s
	Coalesce    time.Duration // between two deltas of a request; default 50 ms
	Deadline    time.Duration // of requests that name none; 0: none
	MaxDeadline time.Duration // a request's own deadline is cut to this; 0: not cut
	Grace       time.Duration // accepted requests may go on for so long after Run's ctx ended; 0: not at all
	Remember    time.Duration // a cancel that overtakes its request; default 10 s
	LoneCrashes int           // the backend died so often while a request ran alone: it is quarantined; default 3
	Attempts    int           // of one request, whatever ran beside it; default 20
	AnswerBytes int           // of a last event as it is stored; default 4 MiB
}

func (l Limits) withDefaults() Limits {
	for _, f := range []struct {
		field *int
		value int
	}{
		{&l.Running, 4},
		{&l.Queued, 64},
		{&l.PerClient, 16},
		{&l.LoneCrashes, 3},
		{&l.Attempts, 20},
		{&l.AnswerBytes, 4 << 20},
	} {
		if *f.field <= 0 {
			*f.field = f.value
		}
	}
	for _, f := range []struct {
		field *time.Duration
		value time.Duration
	}{
		{&l.Ageing, 10 * time.Second},
		{&l.Coalesce, 50 * time.Millisecond},
		{&l.Remember, 10 * time.Second},
	} {
		if *f.field <= 0 {
			*f.field = f.value
		}
	}
	return l
}
