package http

import (
	"bytes"
	"encoding/json"
	"math"
	"slices"

	"edged/core/serve/dispatch"
	"edged/core/serve/door/fields"
)

// responsesAsked is a request to /v1/responses, read. What the answer repeats of it is kept as it came.
type responsesAsked struct {
	asked

	echo map[string]json.RawMessage
}

// repeated are the fields that an answer repeats, with what stands there where the request does not have them.
var repeated = []struct{ key, value string }{ //nolint:gochecknoglobals // a table
	{"instructions", "null"},
	{"max_output_tokens", "null"},
	{"metadata", "{}"},
	{"parallel_tool_calls", "true"},
	{"temperature", "null"},
	{"text", `{"format":{"type":"text"}}`},
	{"tool_choice", `"auto"`},
	{"tools", "[]"},
	{"top_p", "null"},
	{"truncation", `"disabled"`},
	{"user", "null"},
}

// responsesBody reads the body of a response.
func (d *Door) responsesBody(body []byte) (*responsesAsked, *dispatch.Error) {
	dr, echo := newDraft(dispatch.Generate, "resp_"), map[string]json.RawMessage{}
	var instructions []byte
	items := &itemWriter{}
	err := dr.read(body, func(key string, raw []byte) (known bool, err *fields.Error) {
		for _, r := range repeated {
			if r.key == key {
				echo[key] = raw
			}
		}
		switch key {
		case "input":
			err = items.read(raw)
		case "instructions":
			_, err = fields.Text(raw, math.MaxInt32)
			instructions = raw
		case "text":
			err = dr.textFormat(raw)
		case "tools":
			var nested []byte
			if nested, err = nestedTools(raw); err == nil {
				dr.req.Tools, err = fields.Tools(nested)
			}
		case "store": // clients send true where nothing is said; what is not here cannot be asked for later
			_, err = fields.Bool(raw)
		case "truncation":
			var word string
			if word, err = fields.Text(raw, 64); err == nil && word == "auto" {
				dr.req.Options.ContextPolicy = dispatch.PolicyKeepSystem
			}
		case "reasoning":
			err = dr.reasoning(raw)
		case "prompt":
			err = dr.promptObject(raw)
		case "include":
			if !isEmptyList(raw) {
				err = fields.Bad("", "nothing of it can be served")
			}
		case "background":
			var on bool
			if on, err = fields.Bool(raw); on {
				err = fields.Bad("", "a request lives as long as its connection")
			}
		case "messages", "max_tokens", "max_completion_tokens", "response_format", "n", "best_of", "logprobs", "top_logprobs":
			return false, nil // of the other paths
		default:
			return dr.conversation(key, raw)
		}
		return true, err
	})
	switch {
	case err != nil:
	case dr.given["input"] || instructions != nil:
		dr.req.Chat, err = items.messages(instructions)
	case dr.preset.Name == "":
		err = fields.Bad("input", "is missing")
	}
	if err == nil && !dr.given["input"] && dr.preset.Name == "" {
		err = fields.Bad("input", "is missing")
	}
	if err != nil {
		return nil, invalid(err)
	}
	dr.settleThinking()
	if err := dr.preset.Fill(d.o.Prompts, dr.req); err != nil {
		return nil, invalid(err)
	}
	dropDefaults(dr.req)
	if err := dr.resolve(d); err != nil {
		return nil, err
	}
	return &responsesAsked{dr.asked, echo}, nil
}

// promptObject reads a prompt with a name as OpenAI has it: {"id": NAME, "variables": {…}}.
func (d *draft) promptObject(raw []byte) *fields.Error {
	err := fields.Object(raw, func(key string, raw []byte) (err *fields.Error) {
		switch {
		case isNull(raw):
			return nil
		case key == "id":
			_, err = d.preset.Field("prompt_name", raw)
		case key == "variables":
			_, err = d.preset.Field("prompt_vars", raw)
		default:
			return fields.Bad(clip(key), "is not served")
		}
		if err != nil {
			return err.In(key)
		}
		return nil
	})
	if err == nil && d.preset.Name == "" {
		err = fields.Bad("id", "is missing")
	}
	return err
}

// reasoning reads how much the model is to think.
func (d *draft) reasoning(raw []byte) *fields.Error {
	return fields.Object(raw, func(key string, raw []byte) *fields.Error {
		switch {
		case isNull(raw):
			return nil
		case key == "effort":
			if err := fields.Effort(&d.req.Options, raw); err != nil {
				return err.In(key)
			}
			return nil
		}
		return fields.Bad(clip(key), "is not served")
	})
}

// textFormat reads what the answer is held to. The form of chat completions is one object deeper.
func (d *draft) textFormat(raw []byte) *fields.Error {
	return fields.Object(raw, func(key string, raw []byte) *fields.Error {
		switch {
		case isNull(raw):
			return nil
		case key != "format":
			return fields.Bad(clip(key), "is not served")
		}
		kind, inner := "", []byte{'{'}
		err := fields.Object(raw, func(key string, raw []byte) (err *fields.Error) {
			switch {
			case isNull(raw):
			case key == "type":
				if kind, err = fields.Text(raw, 64); err != nil {
					return err.In(key)
				}
			default:
				if len(inner) > 1 {
					inner = append(inner, ',')
				}
				inner = append(inner, jsonOf(key)...)
				inner = append(inner, ':')
				inner = append(inner, raw...)
			}
			return nil
		})
		if err != nil {
			return err.In(key)
		}
		format := []byte(`{"type":` + string(jsonOf(kind)))
		if kind == "json_schema" {
			format = append(format, `,"json_schema":`...)
			format = append(format, inner...)
			format = append(format, '}')
		}
		format = append(format, '}')
		d.req.Options.ResponseFormat = format
		return nil
	})
}

// nestedTools rewrites tools into the form of chat completions, which is one object deeper.
func nestedTools(raw []byte) ([]byte, *fields.Error) {
	out := []byte{'['}
	err := fields.Array(raw, func(i int, raw []byte) *fields.Error {
		if i > 0 {
			out = append(out, ',')
		}
		kind, inner := "", []byte{'{'}
		err := fields.Object(raw, func(key string, raw []byte) (err *fields.Error) {
			switch {
			case key == "type":
				if kind, err = fields.Text(raw, 256); err != nil {
					return err.In(key)
				}
			case !isNull(raw) && key != "strict":
				if len(inner) > 1 {
					inner = append(inner, ',')
				}
				inner = append(inner, jsonOf(key)...)
				inner = append(inner, ':')
				inner = append(inner, raw...)
			}
			return nil
		})
		if err == nil && kind != "function" {
			err = fields.Bad("type", "%q is not served, only \"function\"", clip(kind))
		}
		out = append(append(append(out, `{"type":"function","function":`...), inner...), '}', '}')
		return err
	})
	return append(out, ']'), err
}

// itemWriter turns input items into messages. Calls that follow each other are of one message.
type itemWriter struct {
	out   bytes.Buffer
	calls int // of the message that is open
	count int
}

// next closes what is open and begins another message.
func (w *itemWriter) next() {
	if w.calls > 0 {
		w.out.WriteString("]}")
		w.calls = 0
	}
	if w.count > 0 {
		w.out.WriteByte(',')
	}
	w.count++
}

// read reads a text, or a list of items.
func (w *itemWriter) read(raw []byte) *fields.Error {
	if raw[0] == '"' {
		w.next()
		w.out.WriteString(`{"role":"user","content":` + string(raw) + `}`)
		return nil
	}
	return fields.Array(raw, func(_ int, raw []byte) *fields.Error { return w.item(raw) })
}

// item reads one item. Its fields may come in any order, so that they are gathered first.
func (w *itemWriter) item(raw []byte) *fields.Error {
	kind, got := "message", map[string][]byte{}
	err := fields.Object(raw, func(key string, raw []byte) (err *fields.Error) {
		switch {
		case isNull(raw):
		case key == "type":
			if kind, err = fields.Text(raw, 256); err != nil {
				return err.In(key)
			}
		default:
			got[key] = raw
		}
		return nil
	})
	if err != nil {
		return err
	}
	known := map[string][]string{
		"message":              {"role", "content", "id", "status", "phase"},
		"function_call":        {"call_id", "name", "arguments", "id", "status"},
		"function_call_output": {"call_id", "output", "id", "status"},
	}[kind]
	if known == nil {
		return fields.Bad("type", "%q is not served", clip(kind))
	}
	for key := range got {
		if !slices.Contains(known, key) {
			return fields.Bad(clip(key), "is not a field of a %s", kind)
		}
	}
	need := known[:2]
	if kind == "function_call" {
		need = known[:3]
	}
	for _, key := range need {
		if got[key] == nil {
			return fields.Bad(key, "is missing")
		}
	}
	switch kind {
	case "function_call":
		return w.call(got)
	case "function_call_output":
		content, err := parts(got["output"])
		if err != nil {
			return err.In("output")
		}
		w.next()
		w.out.WriteString(`{"role":"tool","tool_call_id":` + string(got["call_id"]) + `,"content":` + string(content) + `}`)
		return nil
	}
	content, err := parts(got["content"])
	if err != nil {
		return err.In("content")
	}
	w.next()
	w.out.WriteString(`{"role":` + string(got["role"]) + `,"content":` + string(content) + `}`)
	return nil
}

// call adds a call to the message that is open, or begins one.
func (w *itemWriter) call(got map[string][]byte) *fields.Error {
	for _, key := range []string{"call_id", "name", "arguments"} {
		if _, err := fields.Text(got[key], math.MaxInt32); err != nil {
			return err.In(key)
		}
	}
	if w.calls == 0 {
		w.next()
		w.out.WriteString(`{"role":"assistant","content":"","tool_calls":[`)
	} else {
		w.out.WriteByte(',')
	}
	w.calls++
	w.out.WriteString(`{"id":` + string(got["call_id"]) + `,"type":"function","function":{"name":` + string(got["name"]) + `,"arguments":` + string(fields.Arguments(got["arguments"])) + `}}`)
	return nil
}

// parts rewrites the content of an item: its parts have types of their own here.
func parts(raw []byte) ([]byte, *fields.Error) {
	if raw[0] != '[' {
		return raw, nil
	}
	out := []byte{'['}
	err := fields.Array(raw, func(i int, raw []byte) *fields.Error {
		if i > 0 {
			out = append(out, ',')
		}
		kind, text := "", []byte(nil)
		if err := fields.Object(raw, func(key string, raw []byte) (err *fields.Error) {
			switch key {
			case "type":
				kind, err = fields.Text(raw, 256)
			case "text":
				_, err = fields.Text(raw, math.MaxInt32)
				text = raw
			case "annotations", "logprobs":
				if !isNull(raw) && !isEmptyList(raw) {
					err = fields.Bad("", "is not served")
				}
			default:
				err = fields.Bad("", "is not a field of a text part")
			}
			if err != nil {
				return err.In(clip(key))
			}
			return nil
		}); err != nil {
			return err
		}
		switch kind {
		case "input_text", "output_text", "text":
		default:
			return fields.Bad("type", "%q is not served, only texts", clip(kind))
		}
		if text == nil {
			return fields.Bad("text", "is missing")
		}
		out = append(append(append(out, `{"type":"text","text":`...), text...), '}')
		return nil
	})
	return append(out, ']'), err
}

// messages is the conversation, with the instructions before it.
func (w *itemWriter) messages(instructions []byte) ([]byte, *fields.Error) {
	if w.calls > 0 {
		w.out.WriteString("]}")
	}
	if w.count == 0 {
		return nil, fields.Bad("input", "is empty")
	}
	whole := []byte{'['}
	if instructions != nil {
		whole = append(append(append(whole, `{"role":"system","content":`...), instructions...), '}', ',')
	}
	whole = append(append(whole, w.out.Bytes()...), ']')
	list, err := fields.Messages(whole)
	if err != nil {
		return nil, err.In("input")
	}
	return list, nil
}
