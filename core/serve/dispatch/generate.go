package dispatch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"edged/core/protocol"
	"edged/core/protocol/backend"
	"edged/core/serve/dispatch/thinking"
	"edged/core/serve/dispatch/toolargs"
)

// generate runs one attempt of a generation and passes its text on as it comes.
func (d *Dispatcher) generate(ctx context.Context, j *job, life BackendLife, uses []backend.AdapterUse) (*Last, error) {
	o := &j.req.Options
	j.rec.model = life.Info.Name
	req := backend.Request{
		ID:          j.key.ID,
		PromptIDs:   j.prompt,
		Borders:     j.borders,
		ForcedIDs:   j.first,
		Adapters:    uses,
		Sampling:    o.sampling(d.o.Defaults.Sampling, j.rec.Seed),
		MaxTokens:   d.o.Defaults.MaxTokens,
		Stop:        o.Stop,
		StopIDs:     o.StopIDs,
		IgnoreEOS:   o.IgnoreEOS,
		Grammar:     j.grammar,
		N:           o.N,
		BestOf:      o.BestOf,
		Logprobs:    o.Logprobs,
		TopLogprobs: o.TopLogprobs,
		Priority:    j.req.Priority,
		Client:      j.sharer(),
		Thinking:    j.thinking,
		Stream:      true, // also where the client does not want it: the ids so far are what another attempt starts from
	}
	set(&req.MaxTokens, o.MaxTokens)
	if j.req.translates() && o.Temperature == nil {
		req.Sampling.Temperature = 0 // the node's default is for talk: a translation is searched for, as the model's files say
	}
	s := stream{d: d, j: j, shown: j.req.Stream && o.BestOf <= j.req.choices(), pending: make([]pending, len(j.texts))}
	if j.splits {
		for i := range s.pending {
			s.pending[i].split = thinking.NewSplitter(j.opened)
		}
	}
	if j.req.resumable() {
		req.GeneratedIDs = j.generated
		s.carried = len(j.generated)
		s.pending[0].add(j.texts[0].String())
	} else {
		j.generated, j.texts, j.thought = nil, make([]strings.Builder, len(j.texts)), 0
	}

	ctx, stop := context.WithCancel(ctx)
	defer stop()
	events := make(chan backend.Event, 16)
	result := make(chan error, 1)
	go func() {
		defer close(events)
		result <- life.Backend.Generate(ctx, req, func(ev backend.Event) error {
			select {
			case events <- ev:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
	}()
	s.follow(ctx, events)
	err := <-result
	switch {
	case s.done != nil:
		return d.answer(ctx, j, s.done, s.carried)
	case err != nil:
		return nil, err
	default:
		return nil, fmt.Errorf("dispatch: the backend ended %q without a last event", j.key.ID)
	}
}

// sharer is whose share of the backend a request takes: its client's, and that of all together where it was
// asked plainly.
func (j *job) sharer() string {
	if j.req.Plain {
		return "/ask"
	}
	return j.req.Client
}

// stream collects the answer of one attempt.
type stream struct {
	d       *Dispatcher
	j       *job
	shown   bool      // deltas are sent
	carried int       // ids that the attempt started from
	pending []pending // per choice
	sent    time.Time // of the last delta
	timer   <-chan time.Time
	done    *backend.Event
}

// pending is text of one choice that was not sent yet.
type pending struct {
	thought, said strings.Builder
	split         *thinking.Splitter // nil: all of it is said
}

// add takes text, and reports whether some of it was thought.
func (p *pending) add(text string) bool {
	if p.split == nil {
		p.said.WriteString(text)
		return false
	}
	before := p.split.Thinking()
	thought, said := p.split.Write(text)
	p.thought.WriteString(thought)
	p.said.WriteString(said)
	return before || p.split.Thinking() || thought != ""
}

func (p *pending) empty() bool { return p.thought.Len() == 0 && p.said.Len() == 0 }

// follow takes events until there are no more. Deltas leave at most once every Coalesce; the first one leaves at once.
func (s *stream) follow(ctx context.Context, events <-chan backend.Event) {
	s.flush()
	for {
		select {
		case ev, more := <-events:
			if !more {
				for i := range s.pending {
					if p := &s.pending[i]; p.split != nil {
						thought, said := p.split.Close()
						p.thought.WriteString(strings.TrimRight(thought, thinking.Blanks))
						p.said.WriteString(said)
					}
				}
				s.flushAll()
				return
			}
			s.take(ctx, ev)
		case <-s.timer:
			s.timer = nil
			s.flush()
		}
	}
}

func (s *stream) take(ctx context.Context, ev backend.Event) {
	j := s.j
	switch {
	case ev.Done:
		s.complete(ev)
		return
	case ev.Prefill != nil:
		if j.req.Stream {
			s.d.emit(j, Event{Prefill: ev.Prefill})
		}
		return
	case ev.Index < 0 || ev.Index >= len(j.texts):
		return // best_of: a choice beyond n, which may never be seen
	}
	if len(ev.IDs) > 0 && j.firstAt.IsZero() {
		j.firstAt = time.Now()
	}
	if len(j.texts) == 1 {
		j.generated = append(j.generated, ev.IDs...)
	}
	if j.entry.IsSuspect() && len(j.generated) >= j.crashedAt+clearedAfter && ctx.Err() == nil {
		s.d.clear(j)
	}
	if p := &s.pending[ev.Index]; ev.Text != "" {
		j.texts[ev.Index].WriteString(ev.Text)
		if p.add(ev.Text) {
			j.thought += len(ev.IDs)
		}
		s.flush()
	} else if p.split != nil && p.split.Thinking() {
		j.thought += len(ev.IDs)
	}
}

// complete makes the deltas joined the text of the last event, which is the authority.
func (s *stream) complete(ev backend.Event) {
	s.done = &ev
	for _, c := range ev.Choices {
		if c.Index < 0 || c.Index >= len(s.j.texts) {
			continue
		}
		if rest, ok := strings.CutPrefix(c.Text, s.j.texts[c.Index].String()); ok {
			s.pending[c.Index].add(rest)
		}
	}
}

// flush sends what is pending, or sets the timer for it.
func (s *stream) flush() {
	waiting := false
	for i := range s.pending {
		waiting = waiting || !s.pending[i].empty()
	}
	if !waiting || s.timer != nil {
		return
	}
	if wait := s.d.limits.Coalesce - time.Since(s.sent); !s.sent.IsZero() && wait > 0 {
		s.timer = time.After(wait)
		return
	}
	s.flushAll()
}

func (s *stream) flushAll() {
	for i := range s.pending {
		p := &s.pending[i]
		if p.empty() {
			continue
		}
		delta := &Delta{Index: i, Text: p.said.String(), Thought: p.thought.String(), Mark: s.j.mark}
		p.said.Reset()
		p.thought.Reset()
		s.sent = time.Now()
		if s.shown {
			s.d.emit(s.j, Event{Delta: delta})
		}
	}
}

// answer makes the last event of a finished generation.
func (d *Dispatcher) answer(ctx context.Context, j *job, ev *backend.Event, carried int) (*Last, error) {
	if len(ev.Choices) == 0 {
		return nil, fmt.Errorf("dispatch: the backend's last event of %q holds no choice", j.key.ID)
	}
	last := d.last(j)
	last.Choices, last.Usage, last.Dropped = ev.Choices, ev.Usage, j.dropped
	last.Finish = string(ev.Choices[0].Finish)
	last.Timings.Prefill, last.Timings.Decode = ev.Timings.Prefill, ev.Timings.Decode
	last.Timings.PrefillTokens = max(ev.Usage.PromptTokens-ev.Usage.CachedTokens, 0)
	last.Timings.DecodeTokens = max(ev.Usage.CompletionTokens-carried, 0)
	if j.splits {
		last.Thought = j.thought
		for i := range last.Choices {
			c := &last.Choices[i]
			var thought string
			if thought, c.Text = thinking.Split(j.opened, c.Text); thought != "" && last.Thoughts == nil {
				last.Thoughts = make([]string, len(last.Choices))
			}
			if last.Thoughts != nil {
				last.Thoughts[i] = thought
			}
		}
	}
	for i := range last.Choices {
		clampLogprobs(last.Choices[i].Logprobs)
	}
	if j.req.offersTools() {
		tools, beside, err := d.toolCalls(ctx, j, last.Choices)
		if err != nil {
			return nil, err
		}
		last.Tools, last.Beside = tools, beside
	}
	if j.req.Pieces && j.req.Options.Logprobs {
		pieces, err := d.pieces(ctx, j, last.Choices)
		if err != nil {
			return nil, err
		}
		last.Pieces = pieces
	}
	return last, nil
}

// toolCalls finds the calls in each choice; nil where there is none. The texts stay as they were generated.
func (d *Dispatcher) toolCalls(ctx context.Context, j *job, choices []backend.Choice) (calls [][]ToolCall, beside []string, err error) {
	calls, beside = make([][]ToolCall, len(choices)), make([]string, len(choices))
	found := false
	for i, c := range choices {
		for try := 1; ; try++ {
			life, err := d.tokenizer(ctx, j)
			if err != nil {
				return nil, nil, err
			}
			beside[i] = c.Text
			parsed, err := life.Tokenizer.ParseTools(ctx, c.Text)
			switch {
			case err == nil:
				beside[i] = parsed.Text
				for _, t := range parsed.Calls {
					calls[i] = append(calls[i], ToolCall{Name: t.Name, Arguments: toolargs.AsTexts(j.req.Tools, t.Name, t.Arguments)})
					found = true
				}
			case errors.Is(err, protocol.ErrPluginDied):
				d.tokenizerDied(j, life.Life)
				if try < tokenizerTries {
					continue
				}
				return nil, nil, fail(CodeQuarantined, "the tokenizer died %d times over this answer", try)
			case errors.Is(err, protocol.ErrUnsupported):
				// A family whose calls nobody knows how to read: the text says it all.
			default:
				return nil, nil, err
			}
			break
		}
	}
	if !found {
		return nil, nil, nil
	}
	return calls, beside, nil
}

// pieces are the bytes of every token that the choices' log-probabilities name. They come out of the whole
// vocabulary: one call, where a call for each token would be thousands, but one that holds up to 20 MB until
// it is done; so only as many run at once as texts are encoded.
func (d *Dispatcher) pieces(ctx context.Context, j *job, choices []backend.Choice) (map[int32][]byte, error) {
	if err := j.lane.encoding.Enter(ctx, j.key.Client); err != nil {
		return nil, err
	}
	defer j.lane.encoding.Leave(j.key.Client)
	var vocab backend.Vocabulary
	for try := 1; ; try++ {
		life, err := d.tokenizer(ctx, j)
		if err != nil {
			return nil, err
		}
		if vocab, err = life.Tokenizer.Vocabulary(ctx); err == nil {
			break
		}
		if !errors.Is(err, protocol.ErrPluginDied) || try == tokenizerTries {
			return nil, err
		}
		d.tokenizerDied(j, life.Life)
	}
	pieces := map[int32][]byte{}
	add := func(id int32) {
		if _, there := pieces[id]; !there && id >= 0 && int(id) < len(vocab.Pieces) {
			pieces[id] = bytes.Clone(vocab.Pieces[id]) // the vocabulary itself goes
		}
	}
	for _, c := range choices {
		for _, step := range c.Logprobs {
			add(step.ID)
			for _, t := range step.Top {
				add(t.ID)
			}
		}
	}
	return pieces, nil
}

// clampLogprobs keeps log-probabilities within what JSON can say: a token that cannot be sampled has minus infinity.
func clampLogprobs(steps []backend.TokenLogprob) {
	clamp := func(f *float32) {
		if !finite(*f) {
			*f = -math.MaxFloat32
		}
	}
	for i := range steps {
		clamp(&steps[i].Logprob)
		for k := range steps[i].Top {
			clamp(&steps[i].Top[k].Logprob)
		}
	}
}

// score runs one attempt of a Score.
func (d *Dispatcher) score(ctx context.Context, j *job, life BackendLife, uses []backend.AdapterUse) (*Last, error) {
	j.rec.model = life.Info.Name
	began := time.Now()
	results, err := life.Backend.Score(ctx, backend.ScoreRequest{Lists: [][]int32{j.prompt}, Adapters: uses})
	if err != nil {
		return nil, err
	}
	if len(results) != 1 {
		return nil, fmt.Errorf("dispatch: the backend scored %d lists instead of 1", len(results))
	}
	last := d.last(j)
	last.Finish = string(backend.FinishStop)
	last.Scores = results[0].Logprobs
	for i, s := range last.Scores {
		if !finite(s) {
			last.Scores[i] = -math.MaxFloat32
		}
	}
	last.Usage.PromptTokens = len(j.prompt)
	last.Timings.Prefill, last.Timings.PrefillTokens = time.Since(began), len(j.prompt)
	return last, nil
}
