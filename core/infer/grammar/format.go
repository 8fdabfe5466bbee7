package grammar

import (
	"fmt"
	"strings"

	"edged/core/infer/grammar/expression"
	"edged/core/infer/grammar/jsonvalue"
)

// maxChoices bounds a list of choices.
const maxChoices = 1024

// Format is the text of the grammar that a response format asks for, as OpenAI-style clients write it; "" for
// free text:
//
//	{"type": "text"}
//	{"type": "json_object"}
//	{"type": "json_schema", "json_schema": {"schema": {…}}}      or {"type": "json_schema", "schema": {…}}
//	{"type": "regex", "pattern": "…"}
//	{"type": "choice", "choices": ["…", …]}
//
// The errors are ErrSyntax and ErrUnsupported; Parse has those of the schema and the pattern.
func Format(raw []byte) (string, error) {
	v, err := jsonvalue.Read(raw)
	if err != nil || v.Kind != 'o' || v.Get("type") == nil || v.Get("type").Kind != 's' {
		return "", expression.Syntaxf("it is not an object with a type")
	}
	kind := v.Get("type").Text
	fields := map[string][]string{
		"text": {}, "json_object": {}, "json_schema": {"json_schema", "schema"}, "regex": {"pattern"}, "choice": {"choices"},
	}
	known, ok := fields[kind]
	if !ok {
		return "", expression.Unsupportedf("type %s: there are text, json_object, json_schema, regex and choice", expression.Excerpt(kind))
	}
	for _, k := range v.Keys {
		if k != "type" && !strings.Contains(" "+strings.Join(known, " ")+" ", " "+k+" ") {
			return "", expression.Syntaxf("%s is not a field of type %s", expression.Excerpt(k), kind)
		}
	}
	switch kind {
	case "json_object":
		return Schema([]byte(`{"type":"object"}`)), nil
	case "json_schema":
		return schemaFormat(v)
	case "regex":
		p := v.Get("pattern")
		if p == nil || p.Kind != 's' {
			return "", expression.Syntaxf("pattern: want a text")
		}
		return Regex(p.Text), nil
	case "choice":
		return choiceFormat(v.Get("choices"))
	}
	return "", nil
}

func schemaFormat(v *jsonvalue.Value) (string, error) {
	schema, inner := v.Get("schema"), v.Get("json_schema")
	if inner != nil {
		for _, k := range inner.Keys {
			switch k {
			case "name", "description", "strict", "schema":
			default:
				return "", expression.Syntaxf("json_schema: %s is not a field of it", expression.Excerpt(k))
			}
		}
		if schema != nil {
			return "", expression.Syntaxf("schema: it cannot stand beside json_schema")
		}
		schema = inner.Get("schema")
	}
	if schema == nil {
		return "", expression.Syntaxf("json_schema.schema: is missing")
	}
	return Schema([]byte(schema.String())), nil
}

func choiceFormat(v *jsonvalue.Value) (string, error) {
	if v == nil || v.Kind != 'a' || len(v.Items) == 0 {
		return "", expression.Syntaxf("choices: want a list of texts")
	}
	if len(v.Items) > maxChoices {
		return "", fmt.Errorf("%w: choices: %d are more than %d", ErrTooLarge, len(v.Items), maxChoices)
	}
	all := make([]string, 0, len(v.Items))
	for i, it := range v.Items {
		if it.Kind != 's' || it.Text == "" {
			return "", expression.Syntaxf("choices[%d]: want a text that is not empty", i)
		}
		all = append(all, it.Text)
	}
	return Choices(all), nil
}
