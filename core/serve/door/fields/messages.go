package fields

import (
	"bytes"
	"fmt"
	"math"
	"strings"

	"edged/core/serve/dispatch"
)

// message is one message of a conversation while it is read.
type message struct {
	role     string
	fields   []messageField // in their order, without volatile
	content  int            // index of content in fields; -1: none
	text     string         // of content, without what is volatile
	whole    string         // of content, with it
	volatile []string       // taken out
	dropped  bool           // nothing but volatile text
}

// messageField is a field as it came.
type messageField struct {
	key string
	raw []byte
}

// Parts and messages are joined with these. Both are part of the API: a change would change every prompt.
const (
	partSeparator     = "\n"   // between the parts of a message, and between volatile texts
	volatileSeparator = "\n\n" // between the volatile texts and the text of the last user message
)

// Messages reads the messages, applies the rule about volatile text, and returns the messages as the model's
// template gets them: every content is one text, the arguments of a call are an object also where they came
// as its text, and every other field is as it came and where it came. What an answer of other servers has and
// says nothing (null, an empty list of calls or annotations, an empty refusal) is left out, so that it can be
// sent back as it came.
//
// The rule: what is marked volatile (parts, or whole messages, of system and user messages) is taken out of
// its place, joined in its order with line ends, and put, with an empty line after it, before the text of the
// last user message that has any other text. A message that loses all its text is left out; no role changes.
// Where there is no such user message, everything stays in its place. So the beginning of a conversation
// stays the same from one request to the next, and what was computed for it can be used again, although
// clocks and sensors go on.
func Messages(raw []byte) ([]byte, *Error) {
	var messages []message
	err := Array(raw, func(i int, raw []byte) *Error {
		if i >= dispatch.MaxMessages {
			return Bad("", "more than %d messages are too many", dispatch.MaxMessages)
		}
		m, err := readMessage(raw)
		messages = append(messages, m)
		return err
	})
	if err != nil {
		return nil, err
	}
	if len(messages) == 0 {
		return nil, Bad("", "holds no message")
	}
	moveVolatile(messages)
	return writeMessages(messages), nil
}

// readMessage reads one message.
func readMessage(raw []byte) (message, *Error) {
	m := message{content: -1}
	whole := false
	var contentRaw []byte
	err := Object(raw, func(key string, raw []byte) (err *Error) {
		if saysNothing(key, raw) {
			return nil
		}
		switch key {
		case "role":
			m.role, err = roleField(raw)
		case "content":
			m.content, contentRaw = len(m.fields), raw
		case "volatile":
			whole, err = Bool(raw)
			if err != nil {
				return err.In(key)
			}
			return nil // not the template's
		case "tool_call_id":
			raw = idText(raw)
			_, err = Text(raw, math.MaxInt32)
		case "name", "reasoning_content", "reasoning", "thinking":
			_, err = Text(raw, math.MaxInt32)
		case "tool_calls":
			raw, err = callsField(raw)
		default:
			return Bad(Short(key), "is not a field of a message")
		}
		m.fields = append(m.fields, messageField{key, raw})
		if err != nil {
			return err.In(key)
		}
		return nil
	})
	if err != nil {
		return m, err
	}
	if m.role == "" {
		return m, Bad("role", "is missing")
	}
	if m.content >= 0 {
		if err := m.readContent(contentRaw, whole); err != nil {
			return m, err.In("content")
		}
	} else if m.role != "assistant" {
		return m, Bad("content", "is missing")
	}
	if (whole || len(m.volatile) > 0) && m.role != "system" && m.role != "developer" && m.role != "user" {
		return m, Bad("volatile", "is for system and user messages, not for role %q", m.role)
	}
	return m, nil
}

func roleField(raw []byte) (string, *Error) {
	s, err := Text(raw, math.MaxInt32)
	if err != nil {
		return "", err
	}
	switch s {
	case "system", "developer", "user", "assistant", "tool":
		return s, nil
	}
	return "", Bad("", "%q is none of \"system\", \"developer\", \"user\", \"assistant\", \"tool\"", Short(s))
}

// saysNothing reports fields that are in a message's history although they are not used. Its role is always looked at.
func saysNothing(key string, raw []byte) bool {
	switch string(bytes.Join(bytes.Fields(raw), nil)) {
	case "null":
		return key != "role"
	case "[]":
		return key == "tool_calls" || key == "annotations"
	case `""`:
		return key == "refusal"
	}
	return false
}

// callsField checks the tool calls of an assistant's message, which the model's template prints. Arguments
// that are the text of an object become that object, and none at all an empty one; nulls leave, since
// templates test whether a field is there, and so does the index that a stream counts calls by.
func callsField(raw []byte) ([]byte, *Error) {
	var out bytes.Buffer
	out.WriteByte('[')
	err := Array(raw, func(i int, raw []byte) *Error {
		if i >= dispatch.MaxToolCalls {
			return Bad("", "more than %d calls are too many", dispatch.MaxToolCalls)
		}
		if i > 0 {
			out.WriteByte(',')
		}
		return writeCall(&out, raw)
	})
	out.WriteByte(']')
	return out.Bytes(), err
}

// writeCall writes a call, or the function in it.
func writeCall(out *bytes.Buffer, raw []byte) *Error {
	out.WriteByte('{')
	first := true
	err := Object(raw, func(key string, raw []byte) *Error {
		if key == "arguments" {
			raw = Arguments(raw)
		}
		if string(raw) == "null" || key == "index" {
			return nil
		}
		if key == "id" {
			raw = idText(raw)
		}
		if !first {
			out.WriteByte(',')
		}
		first = false
		out.Write(jsonText(key))
		out.WriteByte(':')
		if key == "function" && raw[0] == '{' {
			return writeCall(out, raw)
		}
		out.Write(raw)
		return nil
	})
	out.WriteByte('}')
	return err
}

// idText is a call's id as a text: there are clients that count.
func idText(raw []byte) []byte {
	if IsNumber(raw) {
		return jsonText(string(raw))
	}
	return raw
}

// Arguments are those of a call as templates want them: an object, also where it came as a text or not at
// all. A text that holds none stays as it is.
func Arguments(raw []byte) []byte {
	if string(raw) == "null" {
		return []byte("{}")
	}
	if raw[0] != '"' {
		return raw
	}
	text := bytes.TrimSpace([]byte(Unquote(raw)))
	switch {
	case len(text) == 0:
		return []byte("{}")
	case text[0] == '{' && Check(text) == nil:
		return text
	}
	return raw
}

// readContent reads a text, or a list of parts, and parts what is volatile from the rest.
func (m *message) readContent(raw []byte, whole bool) *Error {
	var all, kept []string
	keep := func(text string, volatile bool) {
		all = append(all, text)
		if volatile {
			m.volatile = append(m.volatile, text)
		} else {
			kept = append(kept, text)
		}
	}
	switch raw[0] {
	case '"':
		keep(Unquote(raw), whole)
	case '[':
		if err := Array(raw, func(i int, raw []byte) *Error {
			if i >= dispatch.MaxParts {
				return Bad("", "more than %d parts are too many", dispatch.MaxParts)
			}
			text, volatile, err := readPart(raw)
			keep(text, volatile || whole)
			return err
		}); err != nil {
			return err
		}
	default:
		return Bad("", "wants a text or a list of parts, not %s", KindOf(raw))
	}
	m.text, m.whole = strings.Join(kept, partSeparator), strings.Join(all, partSeparator)
	m.dropped = len(kept) == 0 && len(m.volatile) > 0
	return nil
}

// readPart reads one typed part.
func readPart(raw []byte) (text string, volatile bool, err *Error) {
	kind, given := "", false
	err = Object(raw, func(key string, raw []byte) (err *Error) {
		if string(raw) == "null" && key != "type" && key != "text" {
			return nil
		}
		switch key {
		case "type":
			if kind, err = Text(raw, math.MaxInt32); err == nil && kind != "text" {
				err = Bad("", "%q is not served, only \"text\"", Short(kind))
			}
		case "text":
			given = true
			text, err = Text(raw, math.MaxInt32)
		case "volatile":
			volatile, err = Bool(raw)
		default:
			return Bad(Short(key), "is not a field of a text part")
		}
		if err != nil {
			return err.In(key)
		}
		return nil
	})
	switch {
	case err != nil:
	case kind == "":
		err = Bad("type", "is missing")
	case !given:
		err = Bad("text", "is missing")
	}
	return text, volatile, err
}

// moveVolatile applies the rule that Messages documents.
func moveVolatile(messages []message) {
	var texts []string
	target := -1
	for i, m := range messages {
		texts = append(texts, m.volatile...)
		if m.role == "user" && m.text != "" {
			target = i
		}
	}
	if len(texts) == 0 {
		return
	}
	if target >= 0 {
		m := &messages[target]
		m.text = strings.Join(texts, partSeparator) + volatileSeparator + m.text
		return
	}
	for i := range messages { // nothing to move it before
		messages[i].text, messages[i].dropped = messages[i].whole, false
	}
}

// writeMessages writes the messages that are left, with their fields in the order that they came in.
func writeMessages(messages []message) []byte {
	var out bytes.Buffer
	out.WriteByte('[')
	for _, m := range messages {
		if m.dropped {
			continue
		}
		if out.Len() > 1 {
			out.WriteByte(',')
		}
		out.WriteByte('{')
		for i, f := range m.fields {
			if i > 0 {
				out.WriteByte(',')
			}
			raw := f.raw
			if i == m.content {
				raw = jsonText(m.text)
			}
			fmt.Fprintf(&out, "%s:%s", jsonText(f.key), raw)
		}
		out.WriteByte('}')
	}
	out.WriteByte(']')
	return out.Bytes()
}

// jsonText encodes a text.
func jsonText(s string) []byte {
	data, err := Encode(s)
	if err != nil {
		return []byte(`""`) // a text can always be encoded
	}
	return data
}
