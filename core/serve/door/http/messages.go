package http

import (
	"bytes"
	"math"

	"edged/core/serve/door/fields"
)

// messages rewrites a conversation from the form that these clients send to the one that every door has, and
// refuses what they can send and no other door's clients do. What it lets pass fields.Messages reads, which
// also leaves out what says nothing and makes objects of the arguments of calls.
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
	content, role := false, ""
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
			err = checkCalls(raw)
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
		}
		if err != nil {
			return err.In(key)
		}
		put(key, raw)
		return nil
	})
	if err == nil && role == "assistant" && !content {
		put("content", []byte(`""`)) // templates join it to other text
	}
	out.WriteByte('}')
	return err
}

// checkCalls refuses calls in a history that name no function, or are of another kind.
func checkCalls(raw []byte) *fields.Error {
	return fields.Array(raw, func(_ int, raw []byte) *fields.Error {
		function := false
		err := fields.Object(raw, func(key string, raw []byte) (err *fields.Error) {
			switch {
			case isNull(raw):
			case key == "function":
				function = true
				err = checkFunction(raw)
			case key == "type":
				var kind string
				if kind, err = fields.Text(raw, 64); err == nil && kind != "function" {
					err = fields.Bad("", "%q is not served, only \"function\"", clip(kind))
				}
			}
			if err != nil {
				return err.In(key)
			}
			return nil
		})
		if err == nil && !function {
			err = fields.Bad("function", "is missing")
		}
		return err
	})
}

// checkFunction wants a name.
func checkFunction(raw []byte) *fields.Error {
	named := false
	err := fields.Object(raw, func(key string, raw []byte) *fields.Error {
		if key != "name" || isNull(raw) {
			return nil
		}
		named = true
		if _, err := fields.Text(raw, math.MaxInt32); err != nil {
			return err.In(key)
		}
		return nil
	})
	if err == nil && !named {
		err = fields.Bad("name", "is missing")
	}
	return err
}
