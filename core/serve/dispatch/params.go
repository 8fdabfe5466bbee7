package dispatch

import (
	"context"
	"math"

	"edged/core/protocol/backend"
)

// Bounds of what a request may ask for; beyond them it is refused by name.
const (
	maxChoices     = 16
	maxTopLogprobs = 20
	maxStops       = 16
	maxStopBytes   = 1024
	maxStopIDs     = 256
	maxLogitBias   = 1024
	maxAdapters    = 8
	maxTexts       = 256
)

// Defaults are the parameters of requests that do not say otherwise.
type Defaults struct {
	Sampling  backend.Sampling // its Seed and LogitBias are not used: a missing seed is drawn
	MaxTokens int              // 0: until the context is full
	Adapter   string           // of requests that name none; "": the bare model
}

// check refuses what is out of range or not served, naming the field. It needs no model.
func (r *Request) check(ctx context.Context) *Error {
	if r.ID == "" {
		return fail(CodeInvalidRequest, "id: is missing")
	}
	if r.Kind > Score {
		return fail(CodeInternal, "kind %d is not known", r.Kind)
	}
	if r.Priority < MinPriority || r.Priority > MaxPriority {
		return fail(CodeInvalidRequest, "priority: %d is outside %d to %d", r.Priority, MinPriority, MaxPriority)
	}
	if r.Deadline < 0 {
		return fail(CodeInvalidRequest, "deadline_ms: is negative")
	}
	if len(r.Adapters) > maxAdapters {
		return fail(CodeInvalidRequest, "adapter: %d are more than %d", len(r.Adapters), maxAdapters)
	}
	if r.Kind == Embed && len(r.Adapters) > 0 {
		return fail(CodeUnsupported, "adapter: embeddings are those of the model without adapters")
	}
	for _, a := range r.Adapters {
		if !finite(a.Scale) {
			return fail(CodeInvalidRequest, "adapter: the scale of %q is not a finite number", a.Name)
		}
	}
	if err := r.checkInput(); err != nil {
		return err
	}
	if err := r.Options.check(); err != nil {
		return err
	}
	return r.checkForm(ctx)
}

func (r *Request) checkInput() *Error {
	given := 0
	for _, there := range []bool{r.Prompt != "", len(r.Chat) > 0, len(r.IDs) > 0, len(r.Texts) > 0} {
		if there {
			given++
		}
	}
	switch {
	case r.Kind != Generate && len(r.Chat) > 0:
		return fail(CodeInvalidRequest, "messages: only a generation takes them")
	case r.Kind != Embed && len(r.Texts) > 0:
		return fail(CodeInvalidRequest, "texts: only an embedding takes them")
	case r.Raw && (r.Kind != Generate || len(r.Tools) > 0 || len(r.Vars) > 0):
		return fail(CodeInvalidRequest, "prompt: a prompt that is taken as it is has no template, which tools and template variables are for")
	case given > 1:
		return fail(CodeInvalidRequest, "prompt: the request gives its input in more than one way")
	case given == 0:
		return fail(CodeInvalidRequest, "prompt: is missing")
	case len(r.Texts) > maxTexts:
		return fail(CodeInvalidRequest, "input: %d texts are more than %d", len(r.Texts), maxTexts)
	}
	for _, id := range r.IDs {
		if id < 0 {
			return fail(CodeInvalidRequest, "ids: %d is negative", id)
		}
	}
	return nil
}

func (o *Options) check() *Error {
	if o.MaxTokens != nil && *o.MaxTokens < 1 {
		return fail(CodeInvalidRequest, "max_tokens: %d is below 1", *o.MaxTokens)
	}
	if o.TopK != nil && *o.TopK < 0 {
		return fail(CodeInvalidRequest, "top_k: %d is below 0", *o.TopK)
	}
	for _, f := range []struct {
		name        string
		value       *float32
		least, most float32
	}{
		{"temperature", o.Temperature, 0, 100},
		{"top_p", o.TopP, 0, 1},
		{"min_p", o.MinP, 0, 1},
		{"typical_p", o.TypicalP, 0, 1},
		{"repeat_penalty", o.RepeatPenalty, 0, 100},
		{"presence_penalty", o.PresencePenalty, -100, 100},
		{"frequency_penalty", o.FrequencyPenalty, -100, 100},
	} {
		if f.value == nil {
			continue
		}
		if v := *f.value; !finite(v) || v < f.least || v > f.most {
			return fail(CodeInvalidRequest, "%s: %v is outside %v to %v", f.name, v, f.least, f.most)
		}
	}
	if len(o.LogitBias) > maxLogitBias {
		return fail(CodeInvalidRequest, "logit_bias: %d entries are more than %d", len(o.LogitBias), maxLogitBias)
	}
	for id, b := range o.LogitBias {
		if id < 0 || !finite(b) {
			return fail(CodeInvalidRequest, "logit_bias: the entry of token %d cannot be used", id)
		}
	}
	if err := o.checkStops(); err != nil {
		return err
	}
	if o.N < 0 || o.N > maxChoices {
		return fail(CodeInvalidRequest, "n: %d is outside 1 to %d", o.N, maxChoices)
	}
	if o.BestOf != 0 && (o.BestOf < max(o.N, 1) || o.BestOf > maxChoices) {
		return fail(CodeInvalidRequest, "best_of: %d is outside n to %d", o.BestOf, maxChoices)
	}
	if o.TopLogprobs < 0 || o.TopLogprobs > maxTopLogprobs {
		return fail(CodeInvalidRequest, "top_logprobs: %d is outside 0 to %d", o.TopLogprobs, maxTopLogprobs)
	}
	if o.TopLogprobs > 0 && !o.Logprobs {
		return fail(CodeInvalidRequest, "top_logprobs: needs logprobs")
	}
	if p := o.ContextPolicy; p != "" && p != PolicyError && p != PolicyKeepSystem {
		return fail(CodeInvalidRequest, "context_policy: %q is neither %q nor %q", p, PolicyError, PolicyKeepSystem)
	}
	return nil
}

func (o *Options) checkStops() *Error {
	if len(o.Stop) > maxStops {
		return fail(CodeInvalidRequest, "stop: %d texts are more than %d", len(o.Stop), maxStops)
	}
	for _, s := range o.Stop {
		if s == "" || len(s) > maxStopBytes {
			return fail(CodeInvalidRequest, "stop: a text has %d bytes, outside 1 to %d", len(s), maxStopBytes)
		}
	}
	if len(o.StopIDs) > maxStopIDs {
		return fail(CodeInvalidRequest, "stop_ids: %d are more than %d", len(o.StopIDs), maxStopIDs)
	}
	return nil
}

// offersTools tells whether the model is shown the request's tools.
func (r *Request) offersTools() bool {
	tools, err := r.offered()
	return err == nil && len(tools) > 0
}

// sampling lays the request's parameters over the defaults.
func (o *Options) sampling(d backend.Sampling, seed uint64) backend.Sampling {
	s := d
	s.Seed, s.LogitBias = seed, o.LogitBias
	set(&s.Temperature, o.Temperature)
	set(&s.TopK, o.TopK)
	set(&s.TopP, o.TopP)
	set(&s.MinP, o.MinP)
	set(&s.TypicalP, o.TypicalP)
	set(&s.RepeatPenalty, o.RepeatPenalty)
	set(&s.PresencePenalty, o.PresencePenalty)
	set(&s.FrequencyPenalty, o.FrequencyPenalty)
	return s
}

func set[T any](dst, src *T) {
	if src != nil {
		*dst = *src
	}
}

func finite(f float32) bool { return !math.IsNaN(float64(f)) && !math.IsInf(float64(f), 0) }
