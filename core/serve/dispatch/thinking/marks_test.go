package thinking

import (
	"encoding/json"
	"testing"
)

func TestThinkingVariables(t *testing.T) {
	const effort = `{{ reasoning_effort }} {{ thinking_budget }} "none"`
	for _, c := range []struct {
		vars, template string
		w              Setting
		want           string
	}{
		{"", "", Setting{}, ""},
		{`{"a":1}`, "", Setting{}, `{"a":1}`},
		{"", "", Setting{Mode: On, Budget: 5, Effort: "low"}, `{"enable_thinking":true,"thinking":true}`},
		{`{"a":1}`, "", Setting{Mode: Off}, `{"enable_thinking":false,"thinking":false,"a":1}`},
		{`{"enable_thinking":true}`, "", Setting{Mode: Off}, `{"thinking":false,"enable_thinking":true}`},
		{`{"thinking":1,"enable_thinking":true}`, "", Setting{Mode: Off}, `{"thinking":1,"enable_thinking":true}`},
		{`{ }`, "", Setting{Mode: Off}, `{"enable_thinking":false,"thinking":false}`},
		{"", effort, Setting{Mode: On, Budget: 5, Effort: "minimal"}, `{"enable_thinking":true,"thinking":true,"reasoning_effort":"low","thinking_budget":5}`},
		{"", effort, Setting{Mode: On}, `{"enable_thinking":true,"thinking":true}`},
		{"", effort, Setting{Mode: Off}, `{"enable_thinking":false,"thinking":false,"reasoning_effort":"none","thinking_budget":0}`},
		{"", `{{ reasoning_effort }}`, Setting{Mode: Off}, `{"enable_thinking":false,"thinking":false,"reasoning_effort":"low"}`},
	} {
		if got := string(c.w.AddTo(json.RawMessage(c.vars), c.template)); got != c.want {
			t.Errorf("%s with %+v: %s", c.vars, c.w, got)
		}
	}
}
