// Package chat turns a conversation into the text that a model was trained to see, by the model's own Jinja template, as
// Hugging Face renders it: trim_blocks, lstrip_blocks, loop controls, raise_exception, strftime_now and a tojson that
// writes what Python's json.dumps(ensure_ascii=False) writes.
//
// A template comes with a model and is untrusted code: it reaches neither files nor network, and its steps, its depth,
// its memory and its output are bounded. The package knows no tokenizer: what of the text is a control token is decided
// by its caller. A Template may render concurrently.
package chat

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/ardanlabs/jinja"
)

// Bounds of a template and of one rendering. The largest template among 70 public ones has 30 kB.
const (
	MaxSource = 512 << 10 // bytes of a template
	MaxOutput = 16 << 20  // bytes of a rendered text
	maxSteps  = 1_000_000 // loop turns, assignments and macro calls of one rendering
	maxDepth  = 200       // macro calls inside each other
	maxRange  = 100_000   // elements of one range()
	maxHeap   = 512 << 20 // bytes by which the heap may grow during one rendering
	maxTime   = 10 * time.Second
)

// ErrRunaway is returned when a template does not end within its bounds.
var ErrRunaway = errors.New("the chat template does not end within its bounds")

// RaisedError is a refusal by the template itself, through raise_exception: the conversation has a form that the model
// was not trained on.
type RaisedError struct{ Message string }

// Error is the template's own sentence.
func (e *RaisedError) Error() string {
	return "the model's chat template refuses this conversation: " + e.Message
}

// Input is what a template sees. JSON values keep the order of their keys, since templates print them.
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
func Compile(source string) (t *Template, err error) {
	if len(source) > MaxSource {
		return nil, fmt.Errorf("chat: the template has %d bytes, more than the %d that are allowed", len(source), MaxSource)
	}
	defer func() {
		if r := recover(); r != nil {
			t, err = nil, fmt.Errorf("chat: the template cannot be parsed: %v", r)
		}
	}()
	instrumented, err := instrument(source)
	if err != nil {
		return nil, fmt.Errorf("chat: the template cannot be parsed: %w", err)
	}
	compiled, err := jinja.Compile(instrumented)
	if err != nil {
		return nil, fmt.Errorf("chat: the template cannot be parsed: %w", err)
	}
	return &Template{compiled: compiled}, nil
}

// Render writes the conversation as the model would see it. It returns a *RaisedError where the template refuses the
// conversation, ErrRunaway (wrapped) where it exceeds its bounds, and ctx's error where that ended first.
func (t *Template) Render(ctx context.Context, in Input) (string, error) {
	vars, err := in.values()
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, maxTime)
	defer cancel()
	m := newMeter(ctx)
	m.bind(vars, in.Now)

	type result struct {
		text string
		err  error
	}
	// The library has no way to interrupt one expression; what does not come back is left behind, and the process that
	// renders (the tokenizer plugin) can be killed.
	done := make(chan result, 1)
	go func() {
		defer func() {
			if r := recover(); r != nil {
				done <- result{err: fmt.Errorf("chat: the template failed: %v", r)}
			}
		}()
		text, err := t.compiled.RenderValues(vars)
		done <- result{text, err}
	}()
	select {
	case r := <-done:
		return finish(r.text, r.err, m)
	case <-ctx.Done():
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return "", fmt.Errorf("chat: %w: it ran for %v", ErrRunaway, maxTime)
		}
		return "", ctx.Err()
	}
}

func finish(text string, err error, m *meter) (string, error) {
	switch {
	case m.stopped != nil:
		return "", fmt.Errorf("chat: %w", m.stopped)
	case err != nil:
		if raised, ok := errors.AsType[*RaisedError](err); ok {
			return "", raised
		}
		if m.raised != nil { // the library may have wrapped it as text
			return "", m.raised
		}
		return "", fmt.Errorf("chat: the template failed: %w", err)
	case len(text) > MaxOutput:
		return "", fmt.Errorf("chat: %w: it wrote %d bytes, more than the %d that are allowed", ErrRunaway, len(text), MaxOutput)
	}
	return text, nil
}

// values converts the input to template variables.
func (in *Input) values() (map[string]jinja.Value, error) {
	vars := map[string]jinja.Value{
		"bos_token":             jinja.NewString(in.BOS),
		"eos_token":             jinja.NewString(in.EOS),
		"add_generation_prompt": jinja.NewBool(in.AddGenerationPrompt),
	}
	for name, raw := range map[string]json.RawMessage{"messages": in.Messages, "tools": in.Tools} {
		if len(raw) == 0 {
			continue
		}
		v, err := decode(raw)
		if err != nil {
			return nil, fmt.Errorf("chat: %s: %w", name, err)
		}
		if !v.IsList() && !v.IsNone() {
			return nil, fmt.Errorf("chat: %s: want an array", name)
		}
		if !v.IsNone() {
			vars[name] = v
		}
	}
	if len(in.Variables) > 0 {
		v, err := decode(in.Variables)
		if err != nil {
			return nil, fmt.Errorf("chat: variables: %w", err)
		}
		if !v.IsDict() {
			return nil, errors.New("chat: variables: want an object")
		}
		d := v.AsDict()
		for _, key := range d.Keys {
			if len(key) > 1 && key[:2] == "__" { // names of the engine and of the meter
				return nil, fmt.Errorf("chat: variables: the name %q is reserved", key)
			}
			vars[key] = d.Data[key]
		}
	}
	return vars, nil
}
