package dispatch

import (
	"context"
	"math"

	"edged/core/protocol/backend"
	"edged/core/serve/languages"
)

// Defaults are the parameters of requests that do not say otherwise.
type Defaults struct {
	Sampling  backend.Sampling // its Seed and LogitBias are not used: a missing seed is drawn
	MaxTokens int              // 0: until the context is full
	Adapter   string           // of requests that name none; "": the bare model

	Thinking       string // ThinkingOn, ThinkingOff; "": as the template does it
	ThinkingBudget int    // tokens, of requests that think and name no budget; 0: any number
}

// check refuses what is out of range or not served, naming the field. It needs no model.
func (r *Request) check(ctx context.Context) *Error {
	if r.ID == "" {
		return fail(CodeInvalidRequest, "id: is missing")
	}
	if r.Kind > Rank {
		return fail(CodeInternal, "kind %d is not known", r.Kind)
	}
	if r.Priority < MinPriority || r.Priority > MaxPriority {
		return fail(CodeInvalidRequest, "priority: %d is outside %d to %d", r.Priority, MinPriority, MaxPriority)
	}
	if r.Deadline < 0 || r.Deadline > MaxWait {
		return fail(CodeInvalidRequest, "deadline_ms: %d is outside 0 to %d", r.Deadline.Milliseconds(), MaxWait.Milliseconds())
	}
	if len(r.Adapters) > MaxAdapters {
		return fail(CodeInvalidRequest, "adapter: %d are more than %d", len(r.Adapters), MaxAdapters)
	}
	if r.Kind == Embed && len(r.Adapters) > 0 {
		return fail(CodeUnsupported, "adapter: embeddings are those of the model without adapters")
	}
	if r.Kind == Rank && len(r.Adapters) > 0 {
		return fail(CodeUnsupported, "adapter: documents are ranked by the model without adapters")
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
	return r.checkConstraint(ctx)
}

func (r *Request) checkInput() *Error {
	if r.Kind == Rank {
		return r.checkRank()
	}
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
	case r.Kind != Embed && (r.Task != "" || r.Whole || r.Dims != 0 || r.Packed):
		return fail(CodeInvalidRequest, "dimensions: only an embedding has them, and a task")
	case r.Dims < 0 || r.Dims > MaxDims:
		return fail(CodeInvalidRequest, "dimensions: %d is outside 1 to %d", r.Dims, MaxDims)
	case len(r.Task) > MaxTask:
		return fail(CodeInvalidRequest, "task: has %d bytes, more than %d", len(r.Task), MaxTask)
	case r.Query != "" || r.Instruct != "" || r.Best != 0:
		return fail(CodeInvalidRequest, "query: only a ranking takes one")
	case r.Raw && (r.Kind != Generate || len(r.Tools) > 0 || len(r.Vars) > 0):
		return fail(CodeInvalidRequest, "prompt: a prompt that is taken as it is has no template, which tools and template variables are for")
	case r.translates() && (r.Kind != Generate || r.Prompt == ""):
		return fail(CodeInvalidRequest, "target_lang: only a prompt is translated")
	case given > 1:
		return fail(CodeInvalidRequest, "prompt: the request gives its input in more than one way")
	case given == 0:
		return fail(CodeInvalidRequest, "prompt: is missing")
	case len(r.IDs) > 0 && r.Options.Thinking == ThinkingOn:
		return fail(CodeInvalidRequest, "thinking: a prompt of token ids asks for no thoughts: send messages")
	case len(r.Texts) > MaxTexts:
		return fail(CodeInvalidRequest, "input: %d texts are more than %d", len(r.Texts), MaxTexts)
	}
	if len(r.IDs) > MaxIDs {
		return fail(CodeInvalidRequest, "ids: %d are more than %d", len(r.IDs), MaxIDs)
	}
	for _, id := range r.IDs {
		if id < 0 {
			return fail(CodeInvalidRequest, "ids: %d is negative", id)
		}
	}
	return nil
}

func (r *Request) checkRank() *Error {
	switch {
	case r.Task != "" || r.Whole || r.Dims != 0 || r.Packed:
		return fail(CodeInvalidRequest, "dimensions: only an embedding has them, and a task")
	case r.Prompt != "" || r.Raw || r.translates() || len(r.Chat) > 0 || len(r.IDs) > 0 || len(r.Tools) > 0 || len(r.Vars) > 0:
		return fail(CodeInvalidRequest, "prompt: a ranking takes a query and documents")
	case r.Query == "":
		return fail(CodeInvalidRequest, "query: is missing")
	case len(r.Texts) == 0:
		return fail(CodeInvalidRequest, "documents: is missing")
	case len(r.Texts) > MaxTexts:
		return fail(CodeInvalidRequest, "documents: %d are more than %d", len(r.Texts), MaxTexts)
	case len(r.Instruct) > MaxInstruct:
		return fail(CodeInvalidRequest, "instruct: has %d bytes, more than %d", len(r.Instruct), MaxInstruct)
	case r.Best < 0:
		return fail(CodeInvalidRequest, "top_n: %d is less than 1", r.Best)
	}
	return nil
}

func (o *Options) check() *Error {
	if n := o.MaxTokens; n != nil && (*n < 1 || *n > MaxTokens) {
		return fail(CodeInvalidRequest, "max_tokens: %d is outside 1 to %d", *n, MaxTokens)
	}
	if n := o.TopK; n != nil && (*n < 0 || *n > MaxTopK) {
		return fail(CodeInvalidRequest, "top_k: %d is outside 0 to %d", *n, MaxTopK)
	}
	if len(o.Grammar) > MaxGrammar {
		return fail(CodeInvalidRequest, "grammar: has %d bytes, more than %d", len(o.Grammar), MaxGrammar)
	}
	for _, f := range []struct {
		name  string
		value *float32
	}{
		{"temperature", o.Temperature},
		{"top_p", o.TopP},
		{"min_p", o.MinP},
		{"typical_p", o.TypicalP},
		{"repeat_penalty", o.RepeatPenalty},
		{"presence_penalty", o.PresencePenalty},
		{"frequency_penalty", o.FrequencyPenalty},
	} {
		if r := Ranges[f.name]; f.value != nil && !r.holds(*f.value) {
			return fail(CodeInvalidRequest, "%s: %v is outside %v to %v", f.name, *f.value, r.Least, r.Most)
		}
	}
	if len(o.LogitBias) > MaxLogitBias {
		return fail(CodeInvalidRequest, "logit_bias: %d entries are more than %d", len(o.LogitBias), MaxLogitBias)
	}
	for id, b := range o.LogitBias {
		if id < 0 || !finite(b) {
			return fail(CodeInvalidRequest, "logit_bias: the entry of token %d cannot be used", id)
		}
	}
	if err := o.checkStops(); err != nil {
		return err
	}
	if o.N < 0 || o.N > MaxChoices {
		return fail(CodeInvalidRequest, "n: %d is outside 1 to %d", o.N, MaxChoices)
	}
	if o.BestOf != 0 && (o.BestOf < max(o.N, 1) || o.BestOf > MaxChoices) {
		return fail(CodeInvalidRequest, "best_of: %d is outside n to %d", o.BestOf, MaxChoices)
	}
	if o.TopLogprobs < 0 || o.TopLogprobs > MaxTopLogprobs {
		return fail(CodeInvalidRequest, "top_logprobs: %d is outside 0 to %d", o.TopLogprobs, MaxTopLogprobs)
	}
	if o.TopLogprobs > 0 && !o.Logprobs {
		return fail(CodeInvalidRequest, "top_logprobs: needs logprobs")
	}
	if n := len(o.AnswerAfter); n > MaxStopBytes {
		return fail(CodeInvalidRequest, "answer_after: has %d bytes, more than %d", n, MaxStopBytes)
	}
	if t := o.Thinking; t != "" && t != ThinkingOn && t != ThinkingOff {
		return fail(CodeInvalidRequest, "thinking: %q is neither %q nor %q", t, ThinkingOn, ThinkingOff)
	}
	if n := o.ThinkingBudget; n < 0 || n > MaxTokens || n > 0 && o.Thinking != ThinkingOn {
		return fail(CodeInvalidRequest, "thinking: a budget of %d is outside 1 to %d, or the model is not to think", n, MaxTokens)
	}
	if most := languages.MaxName; len(o.Source) > most || len(o.Target) > most {
		return fail(CodeInvalidRequest, "target_lang: a language's name has at most %d bytes", most)
	}
	if p := o.ContextPolicy; p != "" && p != PolicyError && p != PolicyKeepSystem {
		return fail(CodeInvalidRequest, "context_policy: %q is neither %q nor %q", p, PolicyError, PolicyKeepSystem)
	}
	return nil
}

// translates tells whether a request names languages.
func (r *Request) translates() bool { return r.Options.Source != "" || r.Options.Target != "" }

func (o *Options) checkStops() *Error {
	if len(o.Stop) > MaxStops {
		return fail(CodeInvalidRequest, "stop: %d texts are more than %d", len(o.Stop), MaxStops)
	}
	for _, s := range o.Stop {
		if s == "" || len(s) > MaxStopBytes {
			return fail(CodeInvalidRequest, "stop: a text has %d bytes, outside 1 to %d", len(s), MaxStopBytes)
		}
	}
	if len(o.StopIDs) > MaxStopIDs {
		return fail(CodeInvalidRequest, "stop_ids: %d are more than %d", len(o.StopIDs), MaxStopIDs)
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
