package http

import (
	"bytes"
	"math"

	"edged/core/serve/door/fields"
)

// messages rewrites a conversation from the form that clients send to the one that every door has: nulls and empty lists
// leave, since templates test whether a field is there; the arguments of calls become objects, which is what templates
// write as JSON; and fields of an answer that clients send back as they got it, and that say nothing, leave too.
//
// What it lets pass fields.Messages checks.
func messages(raw []byte, ollama bool) ([]byte, *fields.Error) {
	var out bytes.Buffer
	out.WriteByte('[')
	err := fields.Array(raw, func(i int, raw []byte) *fields.Error {
		if i > 0 {
			out.WriteByte(',')
		}
		return message(&out, raw, ollama)
	})
	out.WriteByte(']')
	return out.Bytes(), err
}

func message(out *bytes.Buffer, raw []byte, ollama bool) *fields.Error {
	calls, content, role := false, false, ""
	out.WriteByte('{')
	first := true
	put := func(key string, value []byte) {
		if !first {
			out.WriteByte(',')
		}
		first = false
		out.Write(jsonOf(key))
		out.WriteByte(':')
		out.Write(value)
	}
	err := fields.Object(raw, func(key string, raw []byte) (err *fields.Error) {
		if isNull(raw) {
			return nil
		}
		switch key {
		case "role":
			if role, err = fields.Text(raw, 64); err == nil && role == "function" {
				err = fields.Bad("", `"function" is not served; answer a call with role "tool"`)
			}
		case "content":
			content = true
		case "tool_calls":
			if isEmptyList(raw) {
				return nil
			}
			calls = true
			raw, err = toolCalls(raw)
		case "reasoning", "thinking":
			key = "reasoning_content"
		case "tool_name":
			if ollama {
				key = "name"
			}
		case "images":
			if !ollama {
				break
			}
			if !isEmptyList(raw) {
				return fields.Bad(key, "this model reads text only")
			}
			return nil
		case "annotations":
			if isEmptyList(raw) {
				return nil
			}
		case "refusal":
			if string(raw) == `""` {
				return nil
			}
		}
		if err != nil {
			return err.In(key)
		}
		put(key, raw)
		return nil
	})
	if err == nil && calls && !content {
		put("content", []byte(`""`)) // templates join it to other text
	}
	if err == nil && role == "assistant" && !content && !calls {
		put("content", []byte(`""`))
	}
	out.WriteByte('}')
	return err
}

// toolCalls rewrites the calls of a message: an id and a type where there are, and arguments as an object.
func toolCalls(raw []byte) ([]byte, *fields.Error) {
	var out bytes.Buffer
	out.WriteByte('[')
	err := fields.Array(raw, func(i int, raw []byte) *fields.Error {
		if i > 0 {
			out.WriteByte(',')
		}
		out.WriteByte('{')
		first, function := true, false
		err := fields.Object(raw, func(key string, raw []byte) (err *fields.Error) {
			switch {
			case isNull(raw) || key == "index":
				return nil
			case key == "function":
				function = true
				raw, err = function1(raw)
			case key == "type":
				var kind string
				if kind, err = fields.Text(raw, 64); err == nil && kind != "function" {
					err = fields.Bad("", "%q is not served, only \"function\"", clip(kind))
				}
			}
			if err != nil {
				return err.In(key)
			}
			if !first {
				out.WriteByte(',')
			}
			first = false
			out.Write(jsonOf(key))
			out.WriteByte(':')
			out.Write(raw)
			return nil
		})
		if err == nil && !function {
			err = fields.Bad("function", "is missing")
		}
		out.WriteByte('}')
		return err
	})
	out.WriteByte(']')
	return out.Bytes(), err
}

// function1 rewrites the function of one call.
func function1(raw []byte) ([]byte, *fields.Error) {
	var out bytes.Buffer
	out.WriteByte('{')
	first, name := true, false
	err := fields.Object(raw, func(key string, raw []byte) (err *fields.Error) {
		switch {
		case isNull(raw) || key == "index":
			return nil
		case key == "name":
			name = true
			_, err = fields.Text(raw, math.MaxInt32)
		case key == "arguments":
			raw = objectOf(raw)
		}
		if err != nil {
			return err.In(key)
		}
		if !first {
			out.WriteByte(',')
		}
		first = false
		out.Write(jsonOf(key))
		out.WriteByte(':')
		out.Write(raw)
		return nil
	})
	if err == nil && !name {
		err = fields.Bad("name", "is missing")
	}
	out.WriteByte('}')
	return out.Bytes(), err
}

// objectOf takes an object out of the text that holds it; what holds none stays as it is.
func objectOf(raw []byte) []byte {
	if raw[0] != '"' {
		return raw
	}
	text := []byte(fields.Unquote(raw))
	if len(bytes.TrimSpace(text)) == 0 {
		return []byte("{}")
	}
	if fields.Check(text) == nil && bytes.TrimSpace(text)[0] == '{' {
		return bytes.TrimSpace(text)
	}
	return raw
}
