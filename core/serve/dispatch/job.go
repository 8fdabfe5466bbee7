package dispatch

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"

	"edged/core/protocol"
	"edged/core/protocol/backend"
	"edged/core/serve/dispatch/schedule"
	"edged/core/serve/inbox"
)

// job is one accepted request on its way. Fields of the first group never change; those of the second belong to
// Dispatcher.mu; those of the third to the job's goroutine.
type job struct {
	req  *Request
	rec  *record
	key  inbox.Key
	lane *lane // of its model

	sinks          []Sink
	cancel         context.CancelCauseFunc
	cancelledEarly bool           // cancelled before its goroutine started
	entry          schedule.Entry // of the lane's scheduler
	crashedAt      int            // generated tokens when the backend died under it

	lease       Lease // of its model; nil: it waits for it
	encoded     bool  // prompt, or lists, and grammar are there
	pins        []Adapter
	failed      *Error // what ends it at once
	attempt     int
	encodeTries int // processes in a row that ended before they had encoded it, this one included; 0: it is encoded
	seq         int
	prompt      []int32             // ids
	borders     []int32             // of them, see backend.Request; nil: not told
	first       []int32             // what the answer has to begin with
	calls       string              // grammar of a tool call, as the tokenizer has it; "": none
	grammar     string              // grammar of the answers; "": free
	mark        string              // what a call begins with, where tools are offered; "": not known
	splits      bool                // thoughts are told apart from the answer
	opened      string              // what closes the thought that the prompt ends within; "": it ends within none
	thinking    *backend.Thinking   // what the backend holds thoughts to; nil: nothing
	thought     int                 // tokens that came as thought, over all attempts
	lists       [][]int32           // Embed and Rank: ids of each text, or of each pair
	model       backend.ModelInfo   // Embed, Rank and translations: for which the texts are encoded
	rank        backend.RankRequest // Rank
	messages    json.RawMessage     // what shorten left of the conversation; nil: all of it
	dropped     int                 // messages that it left out
	started     time.Time           // first place in the backend; zero: not yet
	firstAt     time.Time           // first token; zero: not yet
	generated   []int32             // of the only choice, over all attempts
	texts       []strings.Builder
}

// clearedAfter is how many tokens beyond its crash a suspect must get before others run beside it again: enough for the
// one that crashed to come by, few enough that not everybody waits for a long answer.
const clearedAfter = 8

func newJob(rec *record, sink Sink) *job {
	req := rec.Request
	return &job{
		req: req, rec: rec, key: inbox.Key{Client: req.Client, ID: req.ID},
		sinks: []Sink{sink}, attempt: 1,
		cancel: func(error) {},
		texts:  make([]strings.Builder, req.choices()),
		entry: schedule.Entry{
			Client:   req.Client,
			Plain:    req.Plain,
			Priority: req.Priority,
			Admitted: time.Now(),
			Choices:  max(req.choices(), req.Options.BestOf),
		},
	}
}

// choices is how many answers a request wants.
func (r *Request) choices() int { return max(r.Options.N, 1) }

// resumable tells whether another attempt may go on with what an earlier one generated. Several choices, and choices
// with log-probabilities, are computed anew, which gives the same.
func (r *Request) resumable() bool {
	return r.Kind == Generate && r.choices() == 1 && r.Options.BestOf <= 1 && !r.Options.Logprobs
}

// release ends the pins.
func (j *job) release() {
	for _, p := range j.pins {
		p.Release()
	}
	j.pins = nil
}

// serve is the goroutine of a job: it says that the request is accepted, runs it, and sends its one last event.
func (d *Dispatcher) serve(ctx context.Context, j *job, position int) {
	defer j.release()
	if d.o.Prompts {
		d.log.DebugContext(
			ctx,
			"prompt",
			"request_id",
			j.key.ID,
			"client",
			j.key.Client,
			"prompt",
			j.req.Prompt,
			"messages",
			string(j.req.Chat),
		)
	}
	d.emit(j, Event{Accepted: &Accepted{Position: position}})
	last, err := d.run(ctx, j)
	if err != nil {
		last = d.lastWithoutAnswer(j, err)
	}
	if last == nil { // a durable inbox keeps it for the next start
		d.mu.Lock()
		d.admission.remove(j)
		d.mu.Unlock()
		return
	}
	d.finish(ctx, j, last)
}

// run takes a job through its attempts. While it waits for a place its prompt is encoded.
func (d *Dispatcher) run(ctx context.Context, j *job) (*Last, error) {
	defer d.yield(j)
	if j.failed != nil {
		return nil, j.failed
	}
	defer j.releaseModel()
	for {
		err := d.turn(ctx, j)
		if j.encodeTries > 0 && (j.encoded || errors.Is(err, errShutdown)) {
			j.encodeTries = 0 // an end that was asked for says nothing about the request
			d.journalAttempt(ctx, j)
		}
		if err != nil {
			return nil, err
		}
		last, err := d.try(ctx, j)
		if err == nil {
			if w, ok := j.lease.(Witness); ok {
				w.BackendAnswered()
			}
			return last, nil
		}
		if why := ended(ctx, err); why != nil {
			return nil, why
		}
		if !errors.Is(err, protocol.ErrPluginDied) {
			return nil, err
		}
		d.died(j)
		d.log.WarnContext(ctx, "the backend died under a request", "request_id", j.key.ID, "client", j.key.Client,
			"attempt", j.attempt, "tokens", len(j.generated), "err", err)
		switch {
		case j.entry.DeathsAlone() >= d.limits.LoneCrashes:
			return nil, fail(
				CodeQuarantined,
				"the backend died %d times while this request ran alone, which is not tried again: %v",
				j.entry.DeathsAlone(),
				err,
			)
		case j.attempt >= d.limits.Attempts:
			return nil, fail(CodeBackendUnavailable, "the backend died during each of %d attempts: %v", j.attempt, err)
		}
		j.attempt++
		j.seq = 0
		d.requeue(j)
	}
}

// try makes one attempt in the current life of the backend.
func (d *Dispatcher) try(ctx context.Context, j *job) (*Last, error) {
	life, err := d.backend(ctx, j)
	if err != nil {
		return nil, err
	}
	if j.started.IsZero() {
		j.started = time.Now()
	}
	if err := j.fits(life.Info); err != nil {
		if err = d.shorten(ctx, j, life.Info, err); err != nil {
			return nil, err
		}
	}
	if !j.req.Fleeting {
		if err := d.o.Inbox.Attempt(j.key, note{Attempt: j.attempt, Prompt: j.prompt}.encode()); err != nil {
			d.log.WarnContext(ctx, "an attempt was not journalled", "request_id", j.key.ID, "err", err)
		}
	}
	uses := make([]backend.AdapterUse, len(j.pins))
	for i, p := range j.pins {
		id, err := p.Use(ctx, life)
		if err != nil {
			return nil, err
		}
		uses[i] = backend.AdapterUse{ID: id, Scale: j.rec.Adapters[i].Scale}
	}
	switch j.req.Kind {
	case Score:
		return d.score(ctx, j, life, uses)
	case Embed:
		return d.embed(ctx, j, life)
	case Rank:
		return d.ranked(ctx, j, life)
	default:
		return d.generate(ctx, j, life, uses)
	}
}

// backend enters a job into the backend's current life.
func (d *Dispatcher) backend(ctx context.Context, j *job) (BackendLife, error) {
	for {
		life, err := j.lease.Backend(ctx, d.deadBackend(j))
		if err != nil {
			return life, asUnavailable(err)
		}
		if d.enter(j, life.Life) {
			return life, nil
		}
	}
}

// tokenizer returns the current life of a job's tokenizer.
func (d *Dispatcher) tokenizer(ctx context.Context, j *job) (TokenizerLife, error) {
	d.mu.Lock()
	after := j.lane.deadTokenizer
	d.mu.Unlock()
	life, err := j.lease.Tokenizer(ctx, after)
	if err != nil {
		return life, asUnavailable(err)
	}
	return life, nil
}

// tokenizerDied records that a life of a job's tokenizer is dead.
func (d *Dispatcher) tokenizerDied(j *job, life uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	j.lane.deadTokenizer = max(j.lane.deadTokenizer, life)
}

// asUnavailable says that a plugin is not there. It did not die under this request.
func asUnavailable(err error) error {
	return fail(CodeBackendUnavailable, "%v", err)
}

// fits refuses a prompt that leaves no room for an answer.
func (j *job) fits(m backend.ModelInfo) error {
	room := m.Context
	if j.req.Kind == Generate || j.req.Kind == Rank && m.Kind != "encoder" {
		room-- // at least one token of answer
	}
	if room <= 0 {
		return nil // a backend that does not tell; it will refuse by itself
	}
	for _, ids := range append(j.lists, j.prompt) {
		if len(ids) > room {
			return fail(CodeContextLength, "the prompt has %d tokens and the context is %d", len(ids), m.Context)
		}
	}
	for _, id := range j.req.IDs {
		if m.VocabRows > 0 && int(id) >= m.VocabRows {
			return fail(CodeInvalidRequest, "ids: %d is not below the model's %d tokens", id, m.VocabRows)
		}
	}
	return nil
}

// lastWithoutAnswer is the last event of a job that err ended before its answer was complete; nil where a
// durable inbox has the request and the next process continues it.
func (d *Dispatcher) lastWithoutAnswer(j *job, err error) *Last {
	switch {
	case errors.Is(err, errCancelled):
		last := d.last(j)
		last.Finish, last.Usage = finishCancelled, j.usage()
		if j.req.Kind == Generate {
			for i := range j.texts {
				c := backend.Choice{Index: i, Text: j.texts[i].String(), Finish: backend.FinishReason(finishCancelled)}
				if len(j.texts) == 1 {
					c.IDs = j.generated
				}
				last.Choices = append(last.Choices, c)
			}
		}
		return last
	case errors.Is(err, errShutdown):
		if d.o.Inbox.Durable() && !j.req.Fleeting {
			return nil
		}
		err = fail(CodeShuttingDown, "this node shut down before the answer was complete: ask again")
	case errors.Is(err, errDeadline):
		err = fail(CodeDeadline, "the answer was not complete within %v", j.rec.Deadline)
	}
	return &Last{Error: asError(err), Node: d.o.Node}
}

// last is a last event with all that does not depend on the answer.
func (d *Dispatcher) last(j *job) *Last {
	l := &Last{Adapters: j.rec.Adapters, Seed: j.rec.Seed, Node: d.o.Node, Model: j.rec.answered(), Logprobs: j.req.Options.Logprobs}
	l.Timings.Queue = time.Since(j.entry.Admitted)
	if !j.started.IsZero() {
		l.Timings.Queue = j.started.Sub(j.entry.Admitted)
	}
	if !j.firstAt.IsZero() {
		l.Timings.FirstToken = j.firstAt.Sub(j.entry.Admitted)
	}
	return l
}

// finish stores the last event, then sends it: a repeat that comes between the two joins, one that comes
// later finds it.
func (d *Dispatcher) finish(ctx context.Context, j *job, last *Last) {
	ev := Event{Attempt: j.attempt, Seq: j.seq, Last: last}
	if !j.req.Fleeting {
		d.storeLast(ctx, j, &ev)
		last = ev.Last
	}
	d.mu.Lock()
	sinks := d.admission.remove(j)
	d.count(j, last)
	d.mu.Unlock()
	if last.Error != nil {
		d.log.InfoContext(
			ctx,
			"request failed",
			"request_id",
			j.key.ID,
			"client",
			j.key.Client,
			"code",
			string(last.Error.Code),
			"err",
			last.Error.Message,
		)
	} else {
		d.log.InfoContext(ctx, "request answered", "request_id", j.key.ID, "client", j.key.Client, "finish", last.Finish,
			"prompt_tokens", last.Usage.PromptTokens, "tokens", last.Usage.CompletionTokens,
			"queue", last.Timings.Queue.Round(time.Millisecond), "took", time.Since(j.entry.Admitted).Round(time.Millisecond))
	}
	if d.o.Prompts {
		for _, c := range last.Choices {
			d.log.DebugContext(ctx, "answer", "request_id", j.key.ID, "client", j.key.Client, "index", c.Index, "text", c.Text)
		}
	}
	for _, s := range sinks {
		s.Event(j.req, ev)
	}
}

// storeLast stores a last event in the inbox. One that is too long or cannot be encoded becomes an error.
func (d *Dispatcher) storeLast(ctx context.Context, j *job, ev *Event) {
	data, err := encodeEvent(*ev)
	if err == nil && len(data) > d.limits.AnswerBytes {
		err = fail(CodeTooLarge, "the answer has %d bytes and the limit is %d", len(data), d.limits.AnswerBytes)
	}
	if err != nil {
		ev.Last = &Last{Error: asError(err), Node: d.o.Node}
		data, _ = encodeEvent(*ev) // an error's event holds nothing that could not be encoded
	}
	if err := d.o.Inbox.Finish(j.key, data); err != nil {
		d.log.ErrorContext(ctx, "an answer was not stored", "request_id", j.key.ID, "err", err)
	}
}

// emit sends an event to everybody who waits for the job.
func (d *Dispatcher) emit(j *job, ev Event) {
	ev.Attempt, ev.Seq = j.attempt, j.seq
	j.seq++
	d.mu.Lock()
	sinks := slices.Clip(j.sinks)
	d.mu.Unlock()
	for _, s := range sinks {
		s.Event(j.req, ev)
	}
}
