package dispatch

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"edged/core/infer/grammar"
	"edged/core/protocol"
)

// form is the grammar of the answers that the options ask for, and the field that does; "": they are free. Parse says
// whether it can be read.
func (o *Options) form() (text, field string, _ *Error) {
	text, field = o.Grammar, "grammar"
	if len(o.ResponseFormat) > 0 {
		format, err := grammar.Format(o.ResponseFormat)
		switch {
		case err != nil:
			return "", "", formError("response_format", err)
		case format != "" && text != "":
			return "", "", fail(CodeInvalidRequest, "grammar: cannot stand beside a response_format")
		case format != "":
			text, field = format, "response_format"
		}
	}
	return text, field, nil
}

// CheckForm refuses a response_format or a grammar that no request could be answered in. One that takes long to read is left to
// the requests.
func (o *Options) CheckForm(ctx context.Context) *Error {
	text, field, err := o.form()
	if err != nil || text == "" {
		return err
	}
	if _, err := grammar.ParseQuick(ctx, text); err != nil && !errors.Is(err, grammar.ErrEffort) {
		return formError(field, err)
	}
	return nil
}

func formError(field string, err error) *Error {
	if errors.Is(err, grammar.ErrUnsupported) {
		return fail(CodeUnsupported, "%s: %v", field, err)
	}
	return fail(CodeInvalidRequest, "%s: %v", field, err)
}

// demand is what tool_choice says.
type demand struct {
	call bool   // the answer must be a call
	name string // of this tool; "": of any
	none bool   // the model is not shown the tools
}

// demand reads tool_choice: "auto", "none", "required", or {"type":"function","function":{"name":…}}.
func (o *Options) demand() (demand, *Error) {
	if len(o.ToolChoice) == 0 {
		return demand{}, nil
	}
	var word string
	if json.Unmarshal(o.ToolChoice, &word) == nil {
		switch word {
		case "auto":
			return demand{}, nil
		case "none":
			return demand{none: true}, nil
		case "required":
			return demand{call: true}, nil
		}
		return demand{}, fail(CodeInvalidRequest, "tool_choice: %q is none of \"auto\", \"none\", \"required\"", word)
	}
	var one struct {
		Type     string `json:"type"`
		Name     string `json:"name"`
		Function struct {
			Name string `json:"name"`
		} `json:"function"`
	}
	if err := json.Unmarshal(o.ToolChoice, &one); err != nil || one.Type != "function" || one.Name+one.Function.Name == "" {
		return demand{}, fail(CodeInvalidRequest, `tool_choice: want {"type":"function","function":{"name":…}}`)
	}
	return demand{call: true, name: one.Name + one.Function.Name}, nil
}

// offered are the tools that the model is shown: of a call that must be of one tool, only that.
func (r *Request) offered() (json.RawMessage, *Error) {
	d, err := r.Options.demand()
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

// checkForm refuses what holds the answer to a form in a way that cannot be served. It runs where requests are admitted,
// one after the other: a form that takes long to read is left to hold.
func (r *Request) checkForm(ctx context.Context) *Error {
	if err := r.Options.CheckForm(ctx); err != nil {
		return err
	}
	text, _, err := r.Options.form()
	if err != nil {
		return err
	}
	d, err := r.Options.demand()
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

// hold sets the form of the answers. One that takes long to read waits for a place of its own and gives up the job's
// meanwhile, so that it holds up neither what is admitted, nor prompts, nor what could run.
func (d *Dispatcher) hold(ctx context.Context, j *job) error {
	if err := j.hold(ctx, grammar.ParseQuick); !errors.Is(err, grammar.ErrEffort) {
		return err
	}
	d.yield(j)
	if err := d.forming.enter(ctx, j.key.Client); err != nil {
		return err
	}
	err := j.hold(ctx, grammar.Parse)
	d.forming.leave(j.key.Client)
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

// hold sets the form of the answers: what the request asks for, or the call that tool_choice demands, as the model's
// template has it in j.calls. The error is grammar.ErrEffort where read gives up.
func (j *job) hold(ctx context.Context, read func(ctx context.Context, text string) (*grammar.Grammar, error)) error {
	text, field, failed := j.req.Options.form()
	if failed != nil {
		return failed
	}
	d, failed := j.req.Options.demand()
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
		// A call that the model begins by itself is held where it can be told by its beginning, and where the tools'
		// schemas are served: they may describe what only the caller checks.
		j.form = grammar.ShownOnly(j.calls) // the marks of calls and thoughts are read in any case
		if d.none || !grammar.IsAfter(j.calls) {
			return nil
		}
		text, field = j.calls, ""
	}
	if field != "" && (j.thinking == nil || !j.thinking.Begun) { // the whole answer has a form: there is no room for a thought
		j.splits, j.thinking = false, nil
	}
	_, err := read(ctx, text)
	switch why := ended(ctx, err); {
	case why != nil:
		return why
	case err == nil:
		j.form = text
	case errors.Is(err, grammar.ErrEffort):
		return err
	case field != "":
		return formError(field, err)
	}
	return nil
}

// tooSlow is the error of a form that cannot be read with all the work that is allowed; nil: it is that of calls which
// the model would begin by itself, and those are not held then.
func (j *job) tooSlow(err error) error {
	text, field, failed := j.req.Options.form()
	d, wrong := j.req.Options.demand()
	switch {
	case failed != nil:
		return failed
	case wrong != nil:
		return wrong
	case d.call:
		return formError("tools", err)
	case text == "":
		return nil
	}
	return formError(field, err)
}
