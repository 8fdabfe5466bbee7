package toolargs

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
)

// AsTexts returns the arguments of a call of the tool called name, with texts in place of those values that
// the tool's schema takes only as texts and the model wrote as something else: families that write arguments
// between tags write the text "12" as 12. The result has no blanks between its values. Arguments of a tool
// that is not in tools stay as they are.
func AsTexts(tools json.RawMessage, name string, args json.RawMessage) json.RawMessage {
	type function struct {
		Name       string          `json:"name"`
		Parameters json.RawMessage `json:"parameters"`
	}
	var list []json.RawMessage
	if json.Unmarshal(tools, &list) != nil {
		return compact(args)
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
		var parameters schema
		if json.Unmarshal(t.Parameters, &parameters) != nil {
			break
		}
		look := &kindCheck{root: &parameters}
		return compact(replaced(args, func(key string, v, written json.RawMessage) json.RawMessage {
			p := look.root.Properties[key]
			if v[0] == '"' || p == nil || look.takes(p, v, 0) {
				return v
			}
			text, err := json.Marshal(string(written))
			if err != nil || !look.takes(p, text, 0) {
				return v
			}
			return text
		}))
	}
	return compact(args)
}

func compact(args json.RawMessage) json.RawMessage {
	var out bytes.Buffer
	if json.Compact(&out, args) != nil {
		return args
	}
	return out.Bytes()
}

// schema holds the types of a tool's parameters.
type schema struct {
	Type        json.RawMessage    `json:"type"`
	Enum        []json.RawMessage  `json:"enum"`
	Const       json.RawMessage    `json:"const"`
	Ref         string             `json:"$ref"`
	AnyOf       []*schema          `json:"anyOf"`
	OneOf       []*schema          `json:"oneOf"`
	AllOf       []*schema          `json:"allOf"`
	Properties  map[string]*schema `json:"properties"`
	Defs        map[string]*schema `json:"$defs"`
	Definitions map[string]*schema `json:"definitions"`
}

// UnmarshalJSON takes a schema that is true or false, or that has something else in the place of a keyword,
// as one that says nothing.
func (s *schema) UnmarshalJSON(raw []byte) error {
	type plain schema
	var p plain
	if json.Unmarshal(raw, &p) != nil {
		p = plain{}
	}
	*s = schema(p)
	return nil
}

// kindCheck looks up what a schema takes. Its steps are bounded: what it does not get to is taken.
type kindCheck struct {
	root  *schema
	steps int
}

// Bounds of one call: how many schemas may lead from one to the next, and how many are looked at.
const (
	maxKindDepth = 16
	maxKindSteps = 10_000
)

// takes reports whether a value may be of that kind, as far as is known.
func (l *kindCheck) takes(s *schema, v json.RawMessage, depth int) bool {
	if l.steps++; s == nil || depth > maxKindDepth || l.steps > maxKindSteps {
		return true
	}
	if s.Ref != "" {
		name, ok := strings.CutPrefix(s.Ref, "#/$defs/")
		to := l.root.Defs[name]
		if !ok {
			name, _ = strings.CutPrefix(s.Ref, "#/definitions/")
			to = l.root.Definitions[name]
		}
		if !l.takes(to, v, depth+1) {
			return false
		}
	}
	values := s.Enum
	if len(s.Const) > 0 {
		values = append(slices.Clone(values), s.Const)
	}
	if len(values) > 0 && !slices.ContainsFunc(values, func(e json.RawMessage) bool { return bytes.Equal(compact(e), compact(v)) }) {
		return false
	}
	if kinds := s.kinds(); len(kinds) > 0 && !slices.ContainsFunc(kinds, func(kind string) bool { return isKind(kind, v) }) {
		return false
	}
	for _, any := range [][]*schema{s.AnyOf, s.OneOf} {
		if len(any) > 0 && !slices.ContainsFunc(any, func(t *schema) bool { return l.takes(t, v, depth+1) }) {
			return false
		}
	}
	return !slices.ContainsFunc(s.AllOf, func(t *schema) bool { return !l.takes(t, v, depth+1) })
}

func (s *schema) kinds() []string {
	var one string
	if json.Unmarshal(s.Type, &one) == nil && one != "" {
		return []string{one}
	}
	var several []string
	if json.Unmarshal(s.Type, &several) != nil {
		return nil
	}
	return several
}

func isKind(kind string, v json.RawMessage) bool {
	switch v[0] {
	case '"':
		return kind == "string"
	case '{':
		return kind == "object"
	case '[':
		return kind == "array"
	case 't', 'f':
		return kind == "boolean"
	case 'n':
		return kind == "null"
	}
	return kind == "number" || kind == "integer" // 1.5 of an integer is the model's fault, and no text
}

// replaced is an object with other values; the keys keep their order. It is the same where nothing is
// replaced. by is given each value, and also as it was written, with the blanks around it.
func replaced(obj json.RawMessage, by func(key string, v, written json.RawMessage) json.RawMessage) json.RawMessage {
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
		begin := dec.InputOffset()
		begin += int64(bytes.IndexByte(obj[begin:], ':')) + 1
		var v json.RawMessage
		if dec.Decode(&v) != nil {
			return obj
		}
		end := dec.InputOffset()
		for end < int64(len(obj)) && strings.IndexByte(" \t\r\n", obj[end]) >= 0 {
			end++
		}
		with := by(key, v, obj[begin:end])
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
