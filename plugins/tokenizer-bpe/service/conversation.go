package service

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"edged/core/chat"
	"edged/core/infer/grammar"
	"edged/core/protocol"
	"edged/core/protocol/tokenizer"
)

// roles that a message may have. Templates write a role between control tokens, some as a part of one ('<|' + role +
// '|>'), so it must not be typed text.
func roles() []string {
	return []string{"system", "user", "assistant", "tool", "developer", "function", "ipython"}
}

// tokenVariables are the template variables that hold the model's own tokens.
func tokenVariables() []string { return []string{"bos_token", "eos_token", "unk_token", "pad_token"} }

// EncodeChat renders a conversation and encodes it.
//
// The text of every control token is broken in all that was typed (messages, tools and variables, keys
// included) before the template sees it, and put together again after the control tokens of the rendered text
// were found: so they are where the template wrote them and nowhere else. Templates that look for ordinary
// text, </think> for instance, find it. A BOS that the model wants and the template did not write is put
// before; one that it wrote is not doubled. With chat.Plain nothing is broken.
//
// ChatIDs.Grammar is that of an answer that is nothing but calls, where tools are offered: see callGrammar.
func (s *Service) EncodeChat(ctx context.Context, c tokenizer.Chat) (tokenizer.ChatIDs, error) {
	m, err := s.current()
	if err != nil {
		return tokenizer.ChatIDs{}, err
	}
	text, places, err := s.render(ctx, m, c)
	if err != nil {
		return tokenizer.ChatIDs{}, err
	}
	if err := ctx.Err(); err != nil {
		return tokenizer.ChatIDs{}, err
	}
	ids, counts, err := m.tok.EncodeMarked(text, !c.Plain, withClock(text, places))
	if err != nil {
		return tokenizer.ChatIDs{}, invalid(err)
	}
	if !c.Plain {
		text = m.tok.Unguard(text)
	}
	source := c.Template
	if source == "" {
		source = m.choose(c).source
	}
	calls, err := callGrammar(source, c.Tools, m.controls)
	return tokenizer.ChatIDs{
		IDs:     ids,
		Text:    text,
		Borders: borders(counts, len(ids)),
		Grammar: grammar.Show(m.controls.thoughts(source), calls),
	}, err
}

// Render gives the text that EncodeChat encodes. Without a model it takes chat.Template, and then nothing is a control
// token.
func (s *Service) Render(ctx context.Context, c tokenizer.Chat) (string, error) {
	m := s.loaded.Load()
	if m == nil && c.Template == "" {
		return "", fmt.Errorf("tokenizer: %w, and no template is given", protocol.ErrNotLoaded)
	}
	text, _, err := s.render(ctx, m, c)
	if err != nil || m == nil || c.Plain {
		return text, err
	}
	return m.tok.Unguard(text), nil
}

// render returns the rendered text, in which typed text is guarded unless chat.Plain is set or m is nil, and
// its borders as chat.Template.RenderMarked has them.
func (s *Service) render(ctx context.Context, m *model, c tokenizer.Chat) (string, []int, error) {
	if n := len(c.Messages) + len(c.Tools) + len(c.Variables); n > MaxText {
		return "", nil, invalidf("tokenizer: the conversation has %d bytes: at most %d are taken", n, MaxText)
	}
	t, err := s.template(m, c)
	if err != nil {
		return "", nil, err
	}
	guard := func(text string) string { return text }
	if m != nil && !c.Plain {
		guard = m.tok.Guard
	}
	in := chat.Input{AddGenerationPrompt: !c.NoPrompt}
	if in.Messages, err = messages(c.Messages, guard, c.Plain); err != nil {
		return "", nil, err
	}
	if in.Tools, err = guardJSON(c.Tools, guard); err != nil {
		return "", nil, invalidf("tokenizer: tools: %w", err)
	}
	if err := variables(&in, c.Variables, m, guard); err != nil {
		return "", nil, err
	}
	text, places, err := t.RenderMarked(ctx, in)
	if err == nil || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return text, places, err
	}
	return "", nil, invalid(unguarded(err, m))
}

// unguarded takes the guard out of a template's sentence, which may quote typed text.
func unguarded(err error, m *model) error {
	if m == nil {
		return err
	}
	if clean := m.tok.Unguard(err.Error()); clean != err.Error() {
		return errors.New(clean)
	}
	return err
}

// choose takes the template for conversations with tools where there is one and there are tools.
func (m *model) choose(c tokenizer.Chat) compiled {
	if m.tools.source != "" && len(c.Tools) > 0 && !isNull(c.Tools) {
		return m.tools
	}
	return m.template
}

func (s *Service) template(m *model, c tokenizer.Chat) (*chat.Template, error) {
	if c.Template != "" {
		return s.given.get(c.Template)
	}
	switch own := m.choose(c); {
	case own.t != nil:
		return own.t, nil
	case own.why != nil:
		return nil, &failure{fmt.Errorf("tokenizer: the model's chat template cannot be used: %w", own.why), protocol.ErrModel}
	}
	return nil, &failure{
		errors.New("tokenizer: this model has no chat template: send a plain prompt, or give a template"),
		protocol.ErrUnsupported,
	}
}

// messages checks the conversation's form and guards all of it but the roles.
func messages(raw json.RawMessage, guard func(string) string, anyRole bool) (json.RawMessage, error) {
	var list []json.RawMessage
	if err := json.Unmarshal(raw, &list); err != nil || list == nil {
		return nil, invalidf("tokenizer: messages is not an array of objects with a role and a content")
	}
	var out bytes.Buffer
	out.WriteByte('[')
	for i, msg := range list {
		fields, err := object(msg)
		if err != nil {
			return nil, invalidf("tokenizer: messages[%d] is not an object with a role and a content", i)
		}
		if i > 0 {
			out.WriteByte(',')
		}
		seen := false
		for j, f := range fields {
			if f.key == "role" {
				seen = true
				var role string
				if err := json.Unmarshal(f.value, &role); err != nil || !anyRole && !slices.Contains(roles(), role) {
					return nil, invalidf(
						"tokenizer: messages[%d].role is %s: it must be one of %s",
						i,
						f.value,
						strings.Join(roles(), ", "),
					)
				}
			} else if f.key == "tool_calls" {
				fields[j] = field{f.key, withObjects(f.value)}
				if fields[j], err = fields[j].guarded(guard); err != nil {
					return nil, invalidf("tokenizer: messages[%d].%s: %w", i, f.key, err)
				}
			} else if fields[j], err = f.guarded(guard); err != nil {
				return nil, invalidf("tokenizer: messages[%d].%s: %w", i, f.key, err)
			}
		}
		if !seen && !anyRole {
			return nil, invalidf("tokenizer: messages[%d] has no role: it must be one of %s", i, strings.Join(roles(), ", "))
		}
		writeObject(&out, fields)
	}
	out.WriteByte(']')
	return out.Bytes(), nil
}

// withObjects puts objects in the place of arguments that are the text of one, as edged itself writes them in
// its answers: templates print arguments as JSON, and would print such a text as a text. One with blanks in
// it was written by somebody else, and is shown as transformers shows it.
func withObjects(calls json.RawMessage) json.RawMessage {
	var list []json.RawMessage
	if json.Unmarshal(calls, &list) != nil || len(list) == 0 {
		return calls
	}
	var out bytes.Buffer
	out.WriteByte('[')
	for i, call := range list {
		if i > 0 {
			out.WriteByte(',')
		}
		fields, err := object(call)
		if err != nil {
			return calls
		}
		for j, f := range fields {
			switch f.key {
			case "arguments":
				fields[j].value = asObject(f.value)
			case "function":
				inner, err := object(f.value)
				if err != nil {
					continue
				}
				for k, g := range inner {
					if g.key == "arguments" {
						inner[k].value = asObject(g.value)
					}
				}
				var b bytes.Buffer
				writeObject(&b, inner)
				fields[j].value = b.Bytes()
			}
		}
		writeObject(&out, fields)
	}
	out.WriteByte(']')
	return out.Bytes()
}

func asObject(raw json.RawMessage) json.RawMessage {
	var text string
	if json.Unmarshal(raw, &text) != nil || !strings.HasPrefix(text, "{") {
		return raw
	}
	var compact bytes.Buffer
	if json.Compact(&compact, []byte(text)) != nil || compact.String() != text {
		return raw
	}
	return json.RawMessage(text)
}

// variables sets the clock, the model's own tokens and the guarded variables.
func variables(in *chat.Input, raw json.RawMessage, m *model, guard func(string) string) error {
	var fields []field
	if len(raw) > 0 && !isNull(raw) {
		var err error
		if fields, err = object(raw); err != nil {
			return invalidf("tokenizer: the template's variables are not an object")
		}
	}
	var kept []field
	for _, f := range fields {
		switch {
		case f.key == "now":
			now, err := clock(f.value)
			if err != nil {
				return err
			}
			in.Now = now
			continue
		case m != nil && slices.Contains(tokenVariables(), f.key):
			continue // the model's count
		}
		g, err := f.guarded(guard)
		if err != nil {
			return invalidf("tokenizer: variable %s: %w", f.key, err)
		}
		kept = append(kept, g)
	}
	if m != nil {
		in.BOS, in.EOS = m.tok.Text(m.info.BOS), m.tok.Text(m.info.EOS)
		kept = append(kept, text("unk_token", m.tok.Text(m.info.Unknown)), text("pad_token", m.tok.Text(m.info.Pad)))
	}
	if len(kept) == 0 {
		return nil
	}
	var out bytes.Buffer
	writeObject(&out, kept)
	in.Variables = out.Bytes()
	return nil
}

// clock reads RFC 3339, in UTC where no zone is given, or seconds since 1970.
func clock(raw json.RawMessage) (time.Time, error) {
	var t time.Time
	if json.Unmarshal(raw, &t) == nil {
		return t, nil
	}
	var s string
	if json.Unmarshal(raw, &s) == nil {
		if t, err := time.Parse("2006-01-02T15:04:05", s); err == nil {
			return t, nil
		}
	}
	var seconds float64
	if json.Unmarshal(raw, &seconds) == nil && seconds > -1e11 && seconds < 1e12 {
		return time.Unix(int64(seconds), 0).UTC(), nil
	}
	return t, invalidf("tokenizer: variable now is %s: want a time as RFC 3339, or seconds since 1970", raw)
}

// field is a key of an object and its value, in JSON.
type field struct {
	key   string
	value json.RawMessage
}

func text(key, value string) field { return field{key, quote(value)} }

func (f field) guarded(guard func(string) string) (field, error) {
	value, err := guardJSON(f.value, guard)
	return field{guard(f.key), value}, err
}

func isNull(raw json.RawMessage) bool { return string(bytes.TrimSpace(raw)) == "null" }

// object reads an object's fields in their order.
func object(raw json.RawMessage) ([]field, error) {
	dec := json.NewDecoder(bytes.NewReader(raw))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return nil, errors.New("is not an object")
	}
	var out []field
	for dec.More() {
		t, err := dec.Token()
		if err != nil {
			return nil, err
		}
		key, ok := t.(string)
		if !ok {
			return nil, errors.New("is not an object")
		}
		f := field{key: key}
		if err := dec.Decode(&f.value); err != nil {
			return nil, err
		}
		out = append(out, f)
	}
	if _, err := dec.Token(); err != nil {
		return nil, err
	}
	return out, nil
}

func writeObject(out *bytes.Buffer, fields []field) {
	out.WriteByte('{')
	for i, f := range fields {
		if i > 0 {
			out.WriteByte(',')
		}
		out.Write(quote(f.key))
		out.WriteByte(':')
		out.Write(f.value)
	}
	out.WriteByte('}')
}

// guardJSON guards every string of a JSON value, keys included, and leaves the rest as it is written: order,
// numbers and spaces.
func guardJSON(raw json.RawMessage, guard func(string) string) (json.RawMessage, error) {
	if len(raw) == 0 {
		return nil, nil
	}
	if !json.Valid(raw) {
		return nil, errors.New("is not valid JSON")
	}
	var out []byte
	done := 0
	for i := 0; i < len(raw); i++ {
		if raw[i] != '"' {
			continue
		}
		end := i + 1
		for raw[end] != '"' {
			if raw[end] == '\\' {
				end++
			}
			end++
		}
		end++
		var s string
		if err := json.Unmarshal(raw[i:end], &s); err != nil {
			return nil, err
		}
		if g := guard(s); g != s {
			out = append(append(out, raw[done:i]...), quote(g)...)
			done = end
		}
		i = end - 1
	}
	if done == 0 {
		return raw, nil
	}
	return append(out, raw[done:]...), nil
}

// quote writes a string as JSON.
func quote(s string) json.RawMessage {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(s); err != nil {
		return json.RawMessage(`""`) // a string always encodes
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}
