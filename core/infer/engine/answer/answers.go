package answer

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"edged/core/infer/grammar"
	"edged/core/infer/sample"
	"edged/core/infer/text"
	"edged/core/protocol"
	"edged/core/protocol/backend"
)

// Bounds of one request, beyond those that the context sets.
const (
	// MaxTop is how many alternatives of a token may be asked for.
	MaxTop      = 1024
	maxChoices  = 64
	maxAdapters = 64
	maxPin      = 256 // bytes of a name
)

// Answers are the choices of one request and the rules that all of them follow. Fields but Choices are fixed
// when it is made, and what Prepend changes, before the first token is drawn.
type Answers struct {
	Req     backend.Request // Sampling and text are taken from here
	Params  sample.Params   // of Req.Sampling
	Vocab   *Vocabulary
	Limit   int  // tokens that a choice may have
	Virtual int  // the first tokens of Req.PromptIDs: those of soft prompts
	Best    bool // more choices are drawn than are answered: they are ranked
	Decided int  // tokens that grammar or thought decided before one was drawn
	Choices []*Choice
	Times   Times

	answered int                // choices that are in the last event
	lazy     *grammar.Automaton // starts behind its trigger, in an answer that is free otherwise; nil: none
	shown    map[int32]bool     // control tokens that are a part of the text
	// What constrains the answer behind a thought; nil: nothing, or the answer is constrained from its beginning on.
	afterThinking *grammar.Automaton
}

// Times are those of a request's life; zero: not yet.
type Times struct {
	Arrived, Started time.Time
	First            time.Time // when its first token was drawn
}

// New checks a request and makes its answers, with GeneratedIDs replayed and what the grammar decides taken.
// rows is the number of rows of the model's embedding matrix, context that of the positions of a sequence.
// Errors wrap protocol.ErrInvalid, protocol.ErrContextLength or protocol.ErrUnsupported.
func New(ctx context.Context, req backend.Request, v *Vocabulary, rows, context int) (*Answers, error) {
	refuse := func(format string, args ...any) (*Answers, error) {
		return nil, fmt.Errorf("engine: %w: %s", protocol.ErrInvalid, fmt.Sprintf(format, args...))
	}
	n, best := max(req.N, 1), max(req.BestOf, req.N, 1)
	switch {
	case len(req.PromptIDs) == 0:
		return refuse("prompt: it holds no tokens")
	case req.N < 0 || req.BestOf < 0:
		return refuse("n: it is negative")
	case req.BestOf > 0 && req.BestOf < n:
		return refuse("best_of: %d is below n, which is %d", req.BestOf, n)
	case best > maxChoices:
		return refuse("best_of: %d choices are more than %d", best, maxChoices)
	case best > 1 && len(req.GeneratedIDs) > 0:
		return refuse("generated_ids: they belong to a request with one choice, and this one has %d", best)
	case req.MaxTokens < 0:
		return refuse("max_tokens: it is negative")
	case req.TopLogprobs < 0 || req.TopLogprobs > MaxTop:
		return refuse("top_logprobs: want 0 to %d", MaxTop)
	case len(req.Pin) > maxPin:
		return refuse("pin: a name of %d bytes is longer than %d", len(req.Pin), maxPin)
	case len(req.Adapters) > maxAdapters:
		return refuse("adapters: %d are more than %d", len(req.Adapters), maxAdapters)
	case req.Grammar != "" && len(req.ForcedIDs) > 0:
		return refuse("forced_ids: they cannot stand beside a grammar")
	}
	for _, part := range []struct {
		name  string
		ids   []int32
		limit int
	}{{"prompt", req.PromptIDs, rows}, {"generated_ids", req.GeneratedIDs, rows}, {"forced_ids", req.ForcedIDs, rows}} {
		if err := CheckIDs(part.name, part.ids, part.limit); err != nil {
			return nil, err
		}
	}
	if err := CheckScales(req.Adapters); err != nil {
		return nil, err
	}
	if len(req.PromptIDs) >= context {
		return nil, fmt.Errorf("engine: %w: the prompt has %d tokens, and with at least one for the answer the context holds %d",
			protocol.ErrContextLength, len(req.PromptIDs), context)
	}
	a := &Answers{
		Req:      req,
		Params:   SamplingParams(req.Sampling),
		Vocab:    v,
		Limit:    context - len(req.PromptIDs),
		Best:     best > n,
		answered: n,
		Times:    Times{Arrived: time.Now()},
	}
	if req.MaxTokens > 0 {
		a.Limit = min(a.Limit, req.MaxTokens)
	}
	if err := a.Params.Validate(rows); err != nil {
		return nil, fmt.Errorf("engine: %w: %w", protocol.ErrInvalid, err)
	}
	for i := range best {
		t, err := text.New(req.Stop)
		if err != nil {
			return nil, fmt.Errorf("engine: %w: %w", protocol.ErrInvalid, err)
		}
		a.Choices = append(a.Choices, &Choice{Of: a, Index: i, text: t})
	}
	if req.Grammar != "" {
		if err := a.constrain(ctx); err != nil {
			return nil, err
		}
	}
	if err := a.think(); err != nil {
		return nil, err
	}
	if len(req.GeneratedIDs) > 0 {
		if err := a.Choices[0].replay(req.GeneratedIDs); err != nil {
			return refuse("generated_ids: %v", err)
		}
	}
	for _, c := range a.Choices {
		n, err := c.acceptDecided()
		if err != nil {
			return nil, err
		}
		a.Decided += n
	}
	return a, nil
}

// NewKnown returns answers with one choice whose tokens are known already, so that nothing is drawn: a list
// that is scored, or, without ids, a prompt whose hidden states are wanted.
func NewKnown(req backend.Request, ids []int32) *Answers {
	a := &Answers{Req: req, Times: Times{Arrived: time.Now()}}
	c := &Choice{Of: a, IDs: ids}
	if req.Logprobs {
		c.Logprobs = make([]backend.TokenLogprob, 0, len(ids))
	}
	a.Choices = []*Choice{c}
	return a
}

// Prepend puts n virtual tokens of soft prompts before the prompt: the ids -1, -2, …, which the model looks
// up in the adapters. They take positions of the context, which has so many, and so shorten what may be
// answered.
func (a *Answers) Prepend(n, context int) error {
	a.PrependIDs(n)
	a.Limit = min(a.Limit, context-len(a.Req.PromptIDs))
	if err := a.fitThoughts(); err != nil {
		return fmt.Errorf("%w beside the virtual tokens of soft prompts", err)
	}
	for _, c := range a.Choices {
		if c.matcher != nil && c.Finish == "" {
			if err := c.matcher.Shorten(a.Limit - len(c.IDs)); err != nil {
				return fmt.Errorf("engine: %w: %w beside the virtual tokens of soft prompts", protocol.ErrContextLength, err)
			}
		}
		if c.Finish == "" && len(c.IDs) >= a.Limit { // what an earlier attempt generated fills the context
			c.End(backend.FinishLength)
		}
	}
	return nil
}

// PrependIDs is Prepend where nothing is drawn.
func (a *Answers) PrependIDs(n int) {
	ids := make([]int32, 0, n+len(a.Req.PromptIDs))
	for i := range n {
		ids = append(ids, int32(-1-i))
	}
	a.Req.PromptIDs, a.Virtual = append(ids, a.Req.PromptIDs...), n
}

// Last makes the last event, the best choices first where they are ranked. What the caller knows of the
// prefix cache is missing.
func (a *Answers) Last() backend.Event {
	ev := backend.Event{Done: true, Usage: backend.Usage{PromptTokens: len(a.Req.PromptIDs), VirtualTokens: a.Virtual}}
	for _, c := range a.Choices {
		ev.Usage.CompletionTokens += c.Steps
	}
	answers := slices.Clone(a.Choices)
	if a.Best {
		slices.SortStableFunc(answers, func(x, y *Choice) int { return cmp.Compare(y.mean(), x.mean()) })
		answers = answers[:a.answered]
	}
	for i, c := range answers {
		out := backend.Choice{Index: i, IDs: c.IDs, Finish: c.Finish, End: c.Ender, Score: c.Score}
		if c.text != nil {
			out.Text = c.text.Text()
		}
		if a.Req.Logprobs {
			out.Logprobs = c.Logprobs
		}
		ev.Choices = append(ev.Choices, out)
	}
	now, t := time.Now(), a.Times
	if !t.Started.IsZero() {
		ev.Timings.Queue = t.Started.Sub(t.Arrived)
	}
	if !t.First.IsZero() {
		ev.Timings.FirstToken = t.First.Sub(t.Arrived)
		ev.Timings.Prefill = t.First.Sub(t.Started)
		ev.Timings.Decode = now.Sub(t.First)
	}
	return ev
}

// CheckIDs refuses a list with an id that is none of so many rows; name is the field's.
func CheckIDs(name string, ids []int32, rows int) error {
	for i, id := range ids {
		if id < 0 || int(id) >= rows {
			return fmt.Errorf("engine: %w: %s: token %d at %d is outside the model's %d", protocol.ErrInvalid, name, id, i, rows)
		}
	}
	return nil
}

// CheckScales refuses scales of adapters that are no numbers.
func CheckScales(uses []backend.AdapterUse) error {
	for _, u := range uses {
		if u.Scale-u.Scale != 0 {
			return fmt.Errorf("engine: %w: adapter %s: scale %v is not a number", protocol.ErrInvalid, u.ID, u.Scale)
		}
	}
	return nil
}

// SamplingParams are the settings of a request as package sample takes them.
func SamplingParams(s backend.Sampling) sample.Params {
	p := sample.Params{
		Temperature: s.Temperature, TopK: s.TopK, TopP: s.TopP, MinP: s.MinP, TypicalP: s.TypicalP,
		RepeatPenalty: s.RepeatPenalty, PresencePenalty: s.PresencePenalty, FrequencyPenalty: s.FrequencyPenalty,
		PenaltyLastN: s.PenaltyLastN, Seed: s.Seed,
	}
	for id, v := range s.LogitBias {
		p.Bias = append(p.Bias, sample.Bias{ID: id, Value: v})
	}
	slices.SortFunc(p.Bias, func(a, b sample.Bias) int { return cmp.Compare(a.ID, b.ID) })
	return p
}

// BadLogits is the error of logits, scores or vectors that are no numbers: the weights or an adapter's are damaged.
func BadLogits(err error) error {
	return fmt.Errorf("engine: %w: model or adapter: %w", protocol.ErrModel, err)
}
