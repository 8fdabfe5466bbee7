package payload

import (
	"os"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// schema compiles one definition of the published schema.
func schema(tb testing.TB, name string) *jsonschema.Schema {
	tb.Helper()
	const path = "../../../../../docs/mqtt.schema.json"
	text, err := os.ReadFile(path)
	if err != nil {
		tb.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(strings.NewReader(string(text)))
	if err != nil {
		tb.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	if err := c.AddResource("mqtt.schema.json", doc); err != nil {
		tb.Fatal(err)
	}
	s, err := c.Compile("mqtt.schema.json#/$defs/" + name)
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

// valid reports whether the schema accepts a text. What is no JSON is not accepted.
func valid(s *jsonschema.Schema, text string) error {
	v, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
	if err != nil {
		return err
	}
	return s.Validate(v)
}
