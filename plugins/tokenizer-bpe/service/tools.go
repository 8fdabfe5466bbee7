package service

import (
	"bytes"
	"context"
	"encoding/json"
	"strings"

	"edged/core/protocol/tokenizer"
)

// ParseTools finds the calls in what a model wrote, in the forms of the families:
//
//	Hermes, Qwen   <tool_call>{"name": …, "arguments": {…}}</tool_call>, any number, between other text
//	Mistral        [TOOL_CALLS] [{"name": …, "arguments": {…}}, …] or [TOOL_CALLS]name[ARGS]{…}; the mark is a control
//	               token and may have been left out
//	Llama 3        {"name": …, "parameters": {…}} as the whole text, several apart by ";" or a line end
//	others         marks of their own around JSON, tags or Python's calls: see forms
//
// A marked call without arguments, or with null or an empty text for them, has none: {}. What cannot be read
// stays text. What a model thought, up to </think>, is never a call.
func (s *Service) ParseTools(_ context.Context, text string) (tokenizer.ToolText, error) {
	if len(text) > MaxText {
		return tokenizer.ToolText{}, invalidf("tokenizer: the text has %d bytes: at most %d are taken", len(text), MaxText)
	}
	thought, said := "", text
	if i := strings.LastIndex(text, thinkEnd); i >= 0 {
		thought, said = text[:i+len(thinkEnd)], text[i+len(thinkEnd):]
	}
	for _, parse := range []func(string) (string, []tokenizer.ToolCall){marked, mistral, harmony, functions, fenced, bare, python} {
		if rest, calls := parse(said); len(calls) > 0 {
			return tokenizer.ToolText{Text: thought + rest, Calls: calls}, nil
		}
	}
	return tokenizer.ToolText{Text: text}, nil
}

const (
	thinkEnd  = "</think>"
	callStart = "<tool_call>"
	callEnd   = "</tool_call>"
	callsMark = "[TOOL_CALLS]"
	argsMark  = "[ARGS]"
	pythonTag = "<|python_tag|>"
)

// mistral reads a list of calls.
func mistral(text string) (string, []tokenizer.ToolCall) {
	before, after, marked := strings.Cut(text, callsMark)
	if !marked {
		before, after = "", text
	}
	after = strings.TrimSpace(after)
	if marked && !strings.HasPrefix(after, "[") {
		return strings.TrimSpace(before), named(after)
	}
	var list []json.RawMessage
	if json.Unmarshal([]byte(after), &list) != nil || len(list) == 0 {
		return text, nil
	}
	var calls []tokenizer.ToolCall
	for _, raw := range list {
		call, ok := readCall(raw, marked)
		if !ok {
			return text, nil
		}
		calls = append(calls, call)
	}
	return strings.TrimSpace(before), calls
}

// named reads name[ARGS]{…}, any number.
func named(text string) []tokenizer.ToolCall {
	var calls []tokenizer.ToolCall
	for part := range strings.SplitSeq(text, callsMark) {
		name, args, ok := strings.Cut(part, argsMark)
		name, _, _ = strings.Cut(name, "[CALL_ID]")
		name = strings.TrimSpace(name)
		raw, isObject := arguments(json.RawMessage(strings.TrimSpace(args)))
		if !ok || !isObject || name == "" {
			return nil
		}
		calls = append(calls, tokenizer.ToolCall{Name: name, Arguments: raw})
	}
	return calls
}

// bare reads a text that is nothing but calls, perhaps with the end of a mark that was not begun.
func bare(text string) (string, []tokenizer.ToolCall) {
	body := strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(text), pythonTag))
	body = strings.TrimSpace(strings.TrimSuffix(body, callEnd))
	var calls []tokenizer.ToolCall
	for body != "" {
		dec := json.NewDecoder(strings.NewReader(body))
		var raw json.RawMessage
		if dec.Decode(&raw) != nil {
			return text, nil
		}
		call, ok := readCall(raw, false)
		if !ok {
			return text, nil
		}
		calls = append(calls, call)
		body = strings.TrimLeft(body[dec.InputOffset():], "; \t\r\n")
	}
	return "", calls
}

// readCall reads one call. Nothing but a name and arguments may be in it: other objects are answers. Where a
// mark says that it is a call, the arguments may be missing.
func readCall(raw []byte, marked bool) (tokenizer.ToolCall, bool) {
	fields, err := object(bytes.TrimSpace(raw))
	if err != nil {
		return tokenizer.ToolCall{}, false
	}
	var call tokenizer.ToolCall
	for _, f := range fields {
		switch f.key {
		case "name":
			if json.Unmarshal(f.value, &call.Name) != nil {
				return call, false
			}
		case "arguments", "parameters":
			args, ok := arguments(f.value)
			if !ok || call.Arguments != nil {
				return call, false
			}
			call.Arguments = args
		case "id", "type":
		case "function": // as the request's own history has it
			inner, ok := readCall(f.value, marked)
			if !ok || call.Name != "" || call.Arguments != nil {
				return call, false
			}
			call = inner
		default:
			return call, false
		}
	}
	if call.Arguments == nil && marked {
		call.Arguments = json.RawMessage("{}")
	}
	return call, call.Name != "" && call.Arguments != nil
}

// arguments returns an object, also one that is written in a string; null and an empty text are an empty one.
func arguments(raw json.RawMessage) (json.RawMessage, bool) {
	var inner string
	if isNull(raw) || json.Unmarshal(raw, &inner) == nil && strings.TrimSpace(inner) == "" {
		return json.RawMessage("{}"), true
	}
	if json.Unmarshal(raw, &inner) == nil {
		raw = json.RawMessage(inner)
	}
	var b bytes.Buffer
	if json.Compact(&b, raw) != nil || b.Len() == 0 || b.Bytes()[0] != '{' {
		return nil, false
	}
	return b.Bytes(), true
}
