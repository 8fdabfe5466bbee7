package grammar

import (
	"fmt"
	"strings"
)

// maxChoices bounds a list of choices.
const maxChoices = 1024

// Format is the text of the grammar that a response format asks for, as OpenAI-style clients write it; "" for free text:
//
//	{"type": "text"}
//	{"type": "json_object"}
//	{"type": "json_schema", "json_schema": {"schema": {…}}}      or {"type": "json_schema", "schema": {…}}
//	{"type": "regex", "pattern": "…"}
//	{"type": "choice", "choices": ["…", …]}
//
// The errors are ErrSyntax and ErrUnsupported; Parse has those of the schema and the pattern.
func Format(raw []byte) (string, error) {
	v, err := readValue(raw)
	if err != nil || v.kind != 'o' || v.get("type") == nil || v.get("type").kind != 's' {
		return "", wrong("it is not an object with a type")
	}
	kind := v.get("type").text
	fields := map[string][]string{
		"text": {}, "json_object": {}, "json_schema": {"json_schema", "schema"}, "regex": {"pattern"}, "choice": {"choices"},
	}
	known, ok := fields[kind]
	if !ok {
		return "", unsupported("type %s: there are text, json_object, json_schema, regex and choice", short(kind))
	}
	for _, k := range v.keys {
		if k != "type" && !strings.Contains(" "+strings.Join(known, " ")+" ", " "+k+" ") {
			return "", wrong("%s is not a field of type %s", short(k), kind)
		}
	}
	switch kind {
	case "json_object":
		return Schema([]byte(`{"type":"object"}`)), nil
	case "json_schema":
		return schemaFormat(v)
	case "regex":
		p := v.get("pattern")
		if p == nil || p.kind != 's' {
			return "", wrong("pattern: want a text")
		}
		return Regex(p.text), nil
	case "choice":
		return choiceFormat(v.get("choices"))
	}
	return "", nil
}

func schemaFormat(v *value) (string, error) {
	schema, inner := v.get("schema"), v.get("json_schema")
	if inner != nil {
		for _, k := range inner.keys {
			switch k {
			case "name", "description", "strict", "schema":
			default:
				return "", wrong("json_schema: %s is not a field of it", short(k))
			}
		}
		if schema != nil {
			return "", wrong("schema: it cannot stand beside json_schema")
		}
		schema = inner.get("schema")
	}
	if schema == nil {
		return "", wrong("json_schema.schema: is missing")
	}
	return Schema([]byte(schema.String())), nil
}

func choiceFormat(v *value) (string, error) {
	if v == nil || v.kind != 'a' || len(v.items) == 0 {
		return "", wrong("choices: want a list of texts")
	}
	if len(v.items) > maxChoices {
		return "", fmt.Errorf("%w: choices: %d are more than %d", ErrTooLarge, len(v.items), maxChoices)
	}
	all := make([]string, 0, len(v.items))
	for i, it := range v.items {
		if it.kind != 's' || it.text == "" {
			return "", wrong("choices[%d]: want a text that is not empty", i)
		}
		all = append(all, it.text)
	}
	return Choices(all), nil
}
