package dispatch

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"edged/core/infer/grammar"
	"edged/core/protocol"
)

// constraint is the text of the grammar that the options hold answers to, and the field that asks for it; ""
// where answers are free. The text was not parsed: grammar.Parse tells whether it is one.
func (o *Options) constraint() (text, field string, _ *Error) {
	text, field = o.Grammar, "grammar"
	if len(o.ResponseFormat) > 0 {
		format, err := grammar.Format(o.ResponseFormat)
		switch {
		case err != nil:
			return "", "", constraintError("response_format", err)
		case format != "" && text != "":
			return "", "", fail(CodeInvalidRequest, "grammar: cannot stand beside a response_format")
		case format != "":
			text, field = format, "response_format"
		}
	}
	return text, field, nil
}

// CheckConstraint returns an error for a response_format or a grammar that no request could be answered in.
// One that takes long to parse counts as right here; requests with it may fail.
func (o *Options) CheckConstraint(ctx context.Context) *Error {
	text, field, err := o.constraint()
	if err != nil || text == "" {
		return err
	}
	if _, err := grammar.ParseQuick(ctx, text); err != nil && !errors.Is(err, grammar.ErrEffort) {
		return constraintError(field, err)
	}
	return nil
}

func constraintError(field string, err error) *Error {
	if errors.Is(err, grammar.ErrUnsupported) {
		return fail(CodeUnsupported, "%s: %v", field, err)
	}
	return fail(CodeInvalidRequest, "%s: %v", field, err)
}

// toolChoice is a parsed tool_choice.
type toolChoice struct {
	call bool   // the answer must be a call
	name string // of this tool; "": of any
	none bool   // the model is not shown the tools
}

// toolChoice reads tool_choice: "auto", "none", "required", or {"type":"function","function":{"name":…}}.
func (o *Options) toolChoice() (toolChoice, *Error) {
	if len(o.ToolChoice) == 0 {
		return toolChoice{}, nil
	}
	var word string
	if json.Unmarshal(o.ToolChoice, &word) == nil {
		switch word {
		case "auto":
			return toolChoice{}, nil
		case "none":
			return toolChoice{none: true}, nil
		case "required":
			return toolChoice{call: true}, nil
		}
		return toolChoice{}, fail(CodeInvalidRequest, "tool_choice: %q is none of \"auto\", \"none\", \"required\"", word)
	}
	var one struct {
		Type     string `json:"type"`
		Name     string `json:"name"`
		Function struct {
			Name string `json:"name"`
		} `json:"function"`
	}
	if err := json.Unmarshal(o.ToolChoice, &one); err != nil || one.Type != "function" || one.Name+one.Function.Name == "" {
		return toolChoice{}, fail(CodeInvalidRequest, `tool_choice: want {"type":"function","function":{"name":…}}`)
	}
	return toolChoice{call: true, name: one.Name + one.Function.Name}, nil
}

// offered are the tools that the model is shown: of a call that must be of one tool, only that.
func (r *Request) offered() (json.RawMessage, *Error) {
	d, err := r.Options.toolChoice()
	if err != nil || d.none || len(r.Tools) == 0 {
		return nil, err
	}
	if d.name == "" {
		return r.Tools, nil
	}
	var tools []json.RawMessage
	if json.Unmarshal(r.Tools, &tools) == nil {
		for _, raw := range tools {
			var t struct {
				Name     string `json:"name"`
				Function struct {
					Name string `json:"name"`
				} `json:"function"`
			}
			if json.Unmarshal(raw, &t) == nil && (t.Name == d.name || t.Function.Name == d.name) {
				return json.RawMessage("[" + string(raw) + "]"), nil
			}
		}
	}
	return nil, fail(CodeInvalidRequest, "tool_choice: there is no tool %q", d.name)
}

// checkConstraint returns an error for a grammar, response_format or tool_choice that cannot be served. It
// runs where requests are admitted, one after the other, so a grammar that takes long to parse is left to
// constrain.
func (r *Request) checkConstraint(ctx context.Context) *Error {
	if err := r.Options.CheckConstraint(ctx); err != nil {
		return err
	}
	text, _, err := r.Options.constraint()
	if err != nil {
		return err
	}
	d, err := r.Options.toolChoice()
	switch {
	case err != nil:
		return err
	case len(r.Options.ToolChoice) > 0 && !d.none && len(r.Tools) == 0:
		return fail(CodeInvalidRequest, "tool_choice: needs tools")
	case d.call && text != "":
		return fail(CodeInvalidRequest, "tool_choice: a call cannot be demanded beside a response_format or a grammar")
	}
	_, err = r.offered()
	return err
}

// constrain parses the grammar of a job's answers. One that takes long is parsed in one of a few places for
// that, without the job's place in the scheduler, so that neither admission nor prompts nor other requests
// wait for it.
func (d *Dispatcher) constrain(ctx context.Context, j *job) error {
	if err := j.constrain(ctx, grammar.ParseQuick); !errors.Is(err, grammar.ErrEffort) {
		return err
	}
	d.yield(j)
	if err := d.parsing.Enter(ctx, j.key.Client); err != nil {
		return err
	}
	err := j.constrain(ctx, grammar.Parse)
	d.parsing.Leave(j.key.Client)
	if errors.Is(err, grammar.ErrEffort) {
		err = j.tooSlow(err)
	}
	if err == nil {
		d.mu.Lock()
		d.enqueue(j)
		d.mu.Unlock()
	}
	return err
}

// constrain sets j.grammar: what the request asks for, or the call that tool_choice demands, as the model's
// template has it in j.calls. The error is grammar.ErrEffort where read gives up.
func (j *job) constrain(ctx context.Context, read func(ctx context.Context, text string) (*grammar.Grammar, error)) error {
	text, field, failed := j.req.Options.constraint()
	if failed != nil {
		return failed
	}
	d, failed := j.req.Options.toolChoice()
	if failed != nil {
		return failed
	}
	j.mark, _ = grammar.Mark(j.calls)
	switch {
	case d.call:
		text, field = grammar.Whole(j.calls), "tools"
		if _, more := grammar.Shown(text); !more {
			return fmt.Errorf("dispatch: %w: tool_choice: nobody knows how this model writes calls", protocol.ErrUnsupported)
		}
	case text == "":
		// A call that the model begins by itself is constrained where it can be told by its beginning, and
		// where the tools' schemas are served: they may describe what only the caller checks.
		j.grammar = grammar.ShownOnly(j.calls) // the marks of calls and thoughts are read in any case
		if d.none || !grammar.IsAfter(j.calls) {
			return nil
		}
		text, field = j.calls, ""
	}
	if field != "" && (j.thinking == nil || !j.thinking.Begun) { // the grammar is that of the whole answer, which has no place for a thought
		j.splits, j.thinking = false, nil
	}
	_, err := read(ctx, text)
	switch why := ended(ctx, err); {
	case why != nil:
		return why
	case err == nil:
		j.grammar = text
	case errors.Is(err, grammar.ErrEffort):
		return err
	case field != "":
		return constraintError(field, err)
	}
	return nil
}

// tooSlow is the error for a grammar that cannot be parsed with all the steps that are allowed; nil where it
// is that of calls which the model may begin by itself: those are not constrained then.
func (j *job) tooSlow(err error) error {
	text, field, failed := j.req.Options.constraint()
	d, wrong := j.req.Options.toolChoice()
	switch {
	case failed != nil:
		return failed
	case wrong != nil:
		return wrong
	case d.call:
		return constraintError("tools", err)
	case text == "":
		return nil
	}
	return constraintError(field, err)
}
