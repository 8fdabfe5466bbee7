package dispatch

import (
	"encoding/json"
	"testing"
)

func TestTextsOfCalls(t *testing.T) {
	tools := json.RawMessage(`[{"type":"function","function":{"name":"say","parameters":{"type":"object","properties":{
		"text":{"type":"string"},"times":{"type":"integer"}}}}},{"name":"bare","parameters":{"properties":{"x":{"type":"string"}}}}]`)
	for _, c := range []struct{ name, args, want string }{
		{"say", `{"times":12,"text":12}`, `{"times":12,"text":"12"}`},
		{"say", `{"text":true}`, `{"text":"true"}`},
		{"say", `{"text": [1, "a"]}`, `{"text":"[1, \"a\"]"}`},
		{"say", `{"text": "a <b>", "times": "x"}`, `{"text": "a <b>", "times": "x"}`},
		{"bare", `{"x":1.50}`, `{"x":"1.50"}`},
		{"other", `{"text":12}`, `{"text":12}`},
	} {
		if got := string(asTexts(tools, c.name, json.RawMessage(c.args))); got != c.want {
			t.Errorf("%s %s: %s", c.name, c.args, got)
		}
	}
	if got := string(asTexts(nil, "say", json.RawMessage(`{}`))); got != "{}" {
		t.Error(got)
	}
}
