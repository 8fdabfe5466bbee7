// Package chat turns a conversation into the text that a model was trained to see, by the model's own Jinja
// template, as Hugging Face's transformers 5.24 renders it: package jinja is the language, and this one shows
// the template what transformers shows it (see Input).
//
// A template comes with a model and is untrusted code: it reaches neither files nor network, and its steps,
// its depth, its memory, its output and its time are bounded. The package knows no tokenizer: what of the
// text is a control token is decided by its caller. A Template may render concurrently.
package chat

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"edged/core/chat/jinja"
	"edged/core/chat/jinja/value"
	"edged/core/chat/jinja/variables"
)

// Bounds of a template and of one rendering. The largest template among 94 public ones has 30 kB; rendering a
// conversation of 200 messages (41 kB) by one of 78 takes 101,000 steps and 1 MB at most, and some look at
// every message for each.
const (
	MaxSource = 512 << 10 // bytes of a template
	MaxOutput = 16 << 20  // bytes of a rendered text
	maxTime   = 10 * time.Second

	// A rendering may take so much, and more for every byte of what it is given.
	baseSteps    = 1_500_000
	stepsPerByte = 16
	baseBytes    = 24 << 20
	bytesPerByte = 64
	maxBytes     = 512 << 20
)

// ErrRunaway is returned when a template does not end within its bounds.
var ErrRunaway = value.ErrRunaway

// RaisedError is a refusal by the template itself, through raise_exception: the conversation has a form that the model
// was not trained on.
type RaisedError struct{ Message string }

// Error is the template's own sentence.
func (e *RaisedError) Error() string {
	return "the model's chat template refuses this conversation: " + e.Message
}

// Input holds the data that a template is rendered with. JSON values keep the order of their keys, since
// templates print them.
//
// As in transformers, tools and documents are always defined (None where there are none), keys of a message whose value
// is null are not there, and reasoning that a message has as reasoning_content, thinking or reasoning is seen under the
// first two names. A template that fails over a None of these, as some for tool use do, is rendered once more without
// them: that is how it was tried when it was written.
type Input struct {
	Messages            json.RawMessage // array of objects
	Tools               json.RawMessage // array; nil: none
	Variables           json.RawMessage // object of any other variables; nil: none. They win over all other fields.
	BOS, EOS            string          // bos_token, eos_token
	AddGenerationPrompt bool
	Now                 time.Time // what strftime_now formats; zero: the present
}

// Template is a compiled chat template.
type Template struct{ compiled *jinja.Template }

// Compile parses a template. The error names the line where the parser stopped.
func Compile(source string) (*Template, error) {
	if len(source) > MaxSource {
		return nil, fmt.Errorf("chat: the template has %d bytes, more than the %d that are allowed", len(source), MaxSource)
	}
	compiled, err := jinja.Compile(source)
	if err != nil {
		return nil, fmt.Errorf("chat: the template cannot be parsed: %w", err)
	}
	return &Template{compiled: compiled}, nil
}

// Render writes the conversation as the model would see it. It returns a *RaisedError where the template
// refuses the conversation, ErrRunaway (wrapped) where it exceeds its bounds, and ctx's error where that
// ended first. Nothing runs on behind it.
func (t *Template) Render(ctx context.Context, in Input) (string, error) {
	text, _, err := t.RenderMarked(ctx, in)
	return text, err
}

// RenderMarked is Render, and tells at which bytes of the text, ascending, another prompt that begins alike
// may go on otherwise: where the template came to a next message, and before the time of day that it wrote.
// Where a template shows neither there are none.
func (t *Template) RenderMarked(ctx context.Context, in Input) (text string, borders []int, err error) {
	text, borders, err = t.render(ctx, in, true)
	if failed, ok := errors.AsType[*value.Error](err); ok && failed.Kind == "TypeError" && len(in.Tools) == 0 {
		if text, borders, err := t.render(ctx, in, false); err == nil {
			return text, borders, nil
		}
	}
	return text, borders, err
}

// render renders once, with or without a None for what is not given.
func (t *Template) render(ctx context.Context, in Input, none bool) (string, []int, error) {
	vars, err := in.values(none)
	if err != nil {
		return "", nil, err
	}
	now := time.Now
	if !in.Now.IsZero() {
		now = func() time.Time { return in.Now }
	}
	size := int64(len(in.Messages) + len(in.Tools) + len(in.Variables))
	limited, cancel := context.WithTimeout(ctx, maxTime)
	defer cancel()
	marks := &jinja.Marks{}
	marks.Of, _ = vars.Get("messages")
	text, err := t.compiled.Render(limited, jinja.Input{Variables: vars, Now: now, Marks: marks, Limits: jinja.Limits{
		Steps:  baseSteps + stepsPerByte*size,
		Bytes:  min(baseBytes+bytesPerByte*size, maxBytes),
		Output: MaxOutput,
	}})
	if err == nil {
		return text, bordersOf(text, marks), nil
	}
	if raised, ok := errors.AsType[*value.RaisedError](err); ok {
		return "", nil, &RaisedError{raised.Message}
	}
	switch {
	case errors.Is(err, ErrRunaway):
		return "", nil, fmt.Errorf("chat: %w", err)
	case ctx.Err() != nil:
		return "", nil, ctx.Err()
	case errors.Is(err, context.DeadlineExceeded):
		return "", nil, fmt.Errorf("chat: %w: it ran for %v", ErrRunaway, maxTime)
	}
	return "", nil, fmt.Errorf("chat: the template failed: %w", err)
}

// bordersOf lists the borders of a rendered text.
func bordersOf(text string, marks *jinja.Marks) []int {
	out := marks.Turns
	for _, shown := range marks.Times {
		if at := strings.Index(text, shown); shown != "" && at > 0 {
			out = append(out, at)
		}
	}
	slices.Sort(out)
	out = slices.Compact(out)
	for len(out) > 0 && out[0] == 0 {
		out = out[1:]
	}
	return out
}

// values converts the input to template variables.
func (in *Input) values(none bool) (*variables.Object, error) {
	vars := &variables.Object{}
	vars.Set("bos_token", variables.Text(in.BOS))
	vars.Set("eos_token", variables.Text(in.EOS))
	vars.Set("add_generation_prompt", variables.Bool(in.AddGenerationPrompt))
	if none {
		vars.Set("tools", variables.None())
		vars.Set("documents", variables.None())
	}
	for _, list := range []struct {
		name string
		raw  json.RawMessage
	}{{"messages", in.Messages}, {"tools", in.Tools}} {
		if len(list.raw) == 0 {
			continue
		}
		v, err := variables.FromJSON(list.raw)
		if err != nil {
			return nil, fmt.Errorf("chat: %s: %w", list.name, err)
		}
		if _, ok := v.Items(); !ok && !v.IsNone() {
			return nil, fmt.Errorf("chat: %s: want an array", list.name)
		}
		if !v.IsNone() {
			vars.Set(list.name, v)
		}
	}
	if len(in.Variables) > 0 {
		v, err := variables.FromJSON(in.Variables)
		if err != nil {
			return nil, fmt.Errorf("chat: variables: %w", err)
		}
		given, ok := v.Object()
		if !ok {
			return nil, errors.New("chat: variables: want an object")
		}
		given.All(vars.Set)
	}
	if messages, ok := vars.Get("messages"); ok {
		vars.Set("messages", shown(messages))
	}
	return vars, nil
}

// reasoningNames are the keys that a message's reasoning may have. Templates read the first, some the second.
func reasoningNames() []string { return []string{"reasoning_content", "thinking", "reasoning"} }

// shown makes of messages what transformers shows of them.
func shown(messages variables.Value) variables.Value {
	list, ok := messages.Items()
	if !ok {
		return messages
	}
	for i, m := range list {
		if fields, ok := m.Object(); ok {
			list[i] = variables.Dict(message(fields))
		}
	}
	return variables.List(list)
}

func message(fields *variables.Object) *variables.Object {
	out := &variables.Object{}
	var reasoning variables.Value
	found := false
	for _, name := range reasoningNames() {
		if v, ok := fields.Get(name); ok && !v.IsNone() {
			reasoning, found = v, true
			out.Set("thinking", v) // the first key, whatever it has of its own
			break
		}
	}
	fields.All(func(key string, v variables.Value) {
		if !v.IsNone() {
			out.Set(key, v)
		}
	})
	if found {
		out.Set("reasoning_content", reasoning)
	}
	return out
}
