package dispatch

import (
	"encoding/json"
	"errors"
	"testing"

	"edged/core/infer/grammar"
	"edged/core/protocol"
)

// TestToolChoice: what is demanded holds the whole answer, and what the model begins by itself only behind its mark, as far as
// the model has one and the tools' schemas are served.
func TestToolChoice(t *testing.T) {
	const calls = "root ::= \"<t>\" call\ncall ::= %json {\"type\":\"object\"}\n"
	marked := grammar.After("<t>", "call", calls)
	tools := json.RawMessage(`[{"type":"function","function":{"name":"light"}}]`)
	for name, c := range map[string]struct {
		choice, format string
		calls          string // of the tokenizer
		tools          json.RawMessage
		want           string
		err            error
	}{
		"auto":                     {choice: `"auto"`, calls: marked, tools: tools, want: marked},
		"no choice":                {calls: marked, tools: tools, want: marked},
		"auto, no mark":            {choice: `"auto"`, calls: calls, tools: tools},
		"auto, unknown form":       {choice: `"auto"`, tools: tools},
		"auto, schema not served":  {choice: `"auto"`, calls: grammar.After("<t>", "root", `root ::= %json {"multipleOf":2}`), tools: tools},
		"auto, a form of its own":  {choice: `"auto"`, format: `{"type":"choice","choices":["a"]}`, calls: marked, tools: tools, want: grammar.Choices([]string{"a"})},
		"none":                     {choice: `"none"`, calls: marked, tools: tools},
		"required":                 {choice: `"required"`, calls: marked, tools: tools, want: calls},
		"required, no mark":        {choice: `"required"`, calls: calls, tools: tools, want: calls},
		"named":                    {choice: `{"type":"function","function":{"name":"light"}}`, calls: marked, tools: tools, want: calls},
		"required, unknown form":   {choice: `"required"`, tools: tools, err: protocol.ErrUnsupported},
		"free":                     {},
		"a form of its own, alone": {format: `{"type":"choice","choices":["a"]}`, want: grammar.Choices([]string{"a"})},
	} {
		t.Run(name, func(t *testing.T) {
			j := &job{req: &Request{Tools: c.tools, Options: Options{ToolChoice: json.RawMessage(c.choice), ResponseFormat: json.RawMessage(c.format)}}}
			if err := j.hold(c.calls); !errors.Is(err, c.err) || j.form != c.want {
				t.Errorf("%q, %v; want %q, %v", j.form, err, c.want, c.err)
			}
		})
	}
}
