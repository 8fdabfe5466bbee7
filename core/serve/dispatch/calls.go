package dispatch

import (
	"bytes"
	"encoding/json"
)

// asTexts makes texts of those arguments that a tool describes as texts and a model has written as something else. Families
// that write a text between tags write 12 and true like the number and the truth.
func asTexts(tools json.RawMessage, name string, args json.RawMessage) json.RawMessage {
	type function struct {
		Name       string `json:"name"`
		Parameters struct {
			Properties map[string]struct {
				Type json.RawMessage `json:"type"`
			} `json:"properties"`
		} `json:"parameters"`
	}
	var list []json.RawMessage
	if json.Unmarshal(tools, &list) != nil {
		return args
	}
	for _, raw := range list {
		var t struct {
			function
			Function *function `json:"function"`
		}
		if json.Unmarshal(raw, &t) != nil {
			continue
		}
		if t.Function != nil {
			t.function = *t.Function
		}
		if t.Name != name {
			continue
		}
		return replaced(args, func(key string, v json.RawMessage) json.RawMessage {
			if v[0] == '"' || string(t.Parameters.Properties[key].Type) != `"string"` {
				return v
			}
			text, err := json.Marshal(string(v))
			if err != nil {
				return v
			}
			return text
		})
	}
	return args
}

// replaced is an object with other values; the keys keep their order. It is the same where nothing is replaced.
func replaced(obj json.RawMessage, by func(key string, v json.RawMessage) json.RawMessage) json.RawMessage {
	dec := json.NewDecoder(bytes.NewReader(obj))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return obj
	}
	out := []byte{'{'}
	changed := false
	for dec.More() {
		t, err := dec.Token()
		key, ok := t.(string)
		if err != nil || !ok {
			return obj
		}
		var v json.RawMessage
		if dec.Decode(&v) != nil {
			return obj
		}
		with := by(key, v)
		changed = changed || !bytes.Equal(with, v)
		name, err := json.Marshal(key)
		if err != nil {
			return obj
		}
		if len(out) > 1 {
			out = append(out, ',')
		}
		out = append(append(append(out, name...), ':'), with...)
	}
	if !changed {
		return obj
	}
	return append(out, '}')
}
