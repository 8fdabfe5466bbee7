package dispatch

import (
	"encoding/json"
	"errors"
	"fmt"

	"edged/core/infer/grammar"
	"edged/core/protocol"
)

// form is the grammar of the answers that the options ask for; "": they are free. A wrong one is refused here, at
// admission, with the name of the field.
func (o *Options) form() (string, *Error) {
	text, field := o.Grammar, "grammar"
	if len(o.ResponseFormat) > 0 {
		format, err := grammar.Format(o.ResponseFormat)
		switch {
		case err != nil:
			return "", formError("response_format", err)
		case format != "" && text != "":
			return "", fail(CodeInvalidRequest, "grammar: cannot stand beside a response_format")
		case format != "":
			text, field = format, "response_format"
		}
	}
	if text == "" {
		return "", nil
	}
	if _, err := grammar.Parse(text); err != nil {
		return "", formError(field, err)
	}
	return text, nil
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

// checkForm refuses what holds the answer to a form in a way that cannot be served.
func (r *Request) checkForm() *Error {
	text, err := r.Options.form()
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

// hold sets the form of the answers: what the request asks for, or the call that tool_choice demands, as the model's
// template has it.
func (j *job) hold(calls string) error {
	text, err := j.req.Options.form()
	if err != nil {
		return err
	}
	d, err := j.req.Options.demand()
	if err != nil {
		return err
	}
	if j.form = text; !d.call {
		// A call that the model begins by itself is held where it can be told by its beginning, and where the tools'
		// schemas are served: they may describe what only the caller checks.
		if _, err := grammar.Parse(calls); text == "" && !d.none && grammar.IsAfter(calls) && err == nil {
			j.form = calls
		}
		return nil
	}
	calls = grammar.Whole(calls)
	if calls == "" {
		return fmt.Errorf("dispatch: %w: tool_choice: nobody knows how this model writes calls", protocol.ErrUnsupported)
	}
	if _, err := grammar.Parse(calls); err != nil {
		return formError("tools", err)
	}
	j.form = calls
	return nil
}
