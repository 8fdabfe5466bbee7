package toolargs

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestTextsOfCalls(t *testing.T) {
	tools := json.RawMessage(`[{"type":"function","function":{"name":"say","parameters":{"type":"object","properties":{
		"text":{"type":"string"},"times":{"type":"integer"},"maybe":{"anyOf":[{"type":"string"},{"type":"null"}]},"either":{"type":["string","integer"]},
		"code":{"$ref":"#/$defs/Code"},"choice":{"enum":["1","on"]},"any":true,"list":{"type":"array"}},"$defs":{"Code":{"type":"string","pattern":"[0-9]+"}}}}},{"name":"bare","parameters":{"properties":{"x":{"type":"string"}}}}]`)
	for _, c := range []struct{ name, args, want string }{
		{"say", `{"times":12,"text":12}`, `{"times":12,"text":"12"}`},
		{"say", `{"text":true}`, `{"text":"true"}`},
		{"say", `{"text":[1, "a"]}`, `{"text":"[1, \"a\"]"}`},
		{"say", "{\"text\":{\n  \"a\": 1\n}\n,\"times\":1}", `{"text":"{\n  \"a\": 1\n}\n","times":1}`},
		{"say", "{\"list\":[ 1,\n 2 ]\n}", `{"list":[1,2]}`},
		{"say", `{"text": "a <b>", "times": "x"}`, `{"text":"a <b>","times":"x"}`},
		{"say", `{"maybe":12,"either":12,"code":12,"choice":1,"any":12}`, `{"maybe":"12","either":12,"code":"12","choice":"1","any":12}`},
		{"say", `{"maybe":null,"code":true,"choice":2}`, `{"maybe":null,"code":"true","choice":2}`},
		{"bare", `{"x":1.50}`, `{"x":"1.50"}`},
		{"other", `{"text":12}`, `{"text":12}`},
	} {
		if got := string(AsTexts(tools, c.name, json.RawMessage(c.args))); got != c.want {
			t.Errorf("%s %s: %s", c.name, c.args, got)
		}
	}
	if got := string(AsTexts(nil, "say", json.RawMessage(`{}`))); got != "{}" {
		t.Error(got)
	}
}

// TestTextsOfHostileTools: schemas that lead to themselves many times over are looked at for a bounded number of steps.
func TestTextsOfHostileTools(t *testing.T) {
	again := strings.TrimSuffix(strings.Repeat(`{"$ref":"#/$defs/A"},`, 20), ",")
	for _, a := range []string{
		`{"allOf":[` + again + `]}`, `{"anyOf":[` + again + `],"allOf":[{"type":"null"}]}`, `{"oneOf":[` + again + `],"allOf":[{"type":"string"}]}`,
	} {
		tools := json.RawMessage(`[{"name":"f","parameters":{"properties":{"x":{"$ref":"#/$defs/A"}},"$defs":{"A":` + a + `}}}]`)
		look := &kindCheck{root: new(schema)}
		if err := json.Unmarshal(tools[len(`[{"name":"f","parameters":`):len(tools)-2], look.root); err != nil {
			t.Fatal(err)
		}
		look.takes(look.root.Properties["x"], json.RawMessage("1"), 0)
		if look.steps > maxKindSteps+1000 {
			t.Errorf("%d steps", look.steps)
		}
		if got := AsTexts(tools, "f", json.RawMessage(`{"x":1}`)); len(got) == 0 {
			t.Error("nothing")
		}
	}
}
