package fields

import (
	"fmt"
	"strings"
	"testing"
)

// TestVolatile states the rule case by case.
func TestVolatile(t *testing.T) {
	tests := []struct{ name, messages, want string }{
		{
			"a part of the system message goes before the question",
			`[{"role":"system","content":[{"type":"text","text":"You are a house."},{"type":"text","text":"It is 12:00.","volatile":true}]},{"role":"user","content":"Time?"}]`,
			`[{"role":"system","content":"You are a house."},{"role":"user","content":"It is 12:00.\n\nTime?"}]`,
		},
		{
			"a whole message goes",
			`[{"role":"system","content":"S"},{"role":"system","content":"Kitchen 20","volatile":true},{"role":"user","content":"Q"}]`,
			`[{"role":"system","content":"S"},{"role":"user","content":"Kitchen 20\n\nQ"}]`,
		},
		{
			"several are joined in order, before the last user message only",
			`[{"role":"system","content":"a","volatile":true},{"role":"user","content":"Q1"},{"role":"assistant","content":"A1"},{"role":"user","content":[{"type":"text","text":"b","volatile":true},{"type":"text","text":"Q2"},{"type":"text","text":"c","volatile":true}]}]`,
			`[{"role":"user","content":"Q1"},{"role":"assistant","content":"A1"},{"role":"user","content":"a\nb\nc\n\nQ2"}]`,
		},
		{
			"what comes after the last question goes before it too",
			`[{"role":"user","content":"Q"},{"role":"assistant","content":"A"},{"role":"system","content":"v","volatile":true}]`,
			`[{"role":"user","content":"v\n\nQ"},{"role":"assistant","content":"A"}]`,
		},
		{
			"a user message that is volatile alone is no question",
			`[{"role":"user","content":"Q"},{"role":"user","content":"v","volatile":true}]`,
			`[{"role":"user","content":"v\n\nQ"}]`,
		},
		{
			"without a question everything stays",
			`[{"role":"system","content":[{"type":"text","text":"v","volatile":true},{"type":"text","text":"S"}]},{"role":"user","content":"Q","volatile":true}]`,
			`[{"role":"system","content":"v\nS"},{"role":"user","content":"Q"}]`,
		},
		{
			"false marks nothing, and no mark is left",
			`[{"role":"system","volatile":false,"content":[{"type":"text","text":"S","volatile":false}]},{"role":"user","content":"Q"}]`,
			`[{"role":"system","content":"S"},{"role":"user","content":"Q"}]`,
		},
		{
			"the order of fields stays",
			`[{"content":"Q","name":"n","role":"user"},{"volatile":true,"content":"v","role":"system"}]`,
			`[{"content":"v\n\nQ","name":"n","role":"user"}]`,
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := Messages([]byte(test.messages))
			if err != nil {
				t.Fatal(err)
			}
			if string(got) != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
		})
	}
}

// TestStablePrefix: two requests that differ in a volatile text only have the same beginning.
func TestStablePrefix(t *testing.T) {
	at := func(clock string) string {
		got, err := Messages([]byte(fmt.Sprintf(`[{"role":"system","content":[{"type":"text","text":"It is %s.","volatile":true},{"type":"text","text":"You are a house."}]},{"role":"user","content":"Hello"},{"role":"assistant","content":"Hi"},{"role":"user","content":"Lights?"}]`, clock)))
		if err != nil {
			t.Fatal(err)
		}
		return string(got)
	}
	a, b := at("12:00"), at("13:30")
	common := 0
	for common < len(a) && a[common] == b[common] {
		common++
	}
	if want := strings.LastIndex(a, "It is 1"); common < want {
		t.Errorf("the two part at byte %d, want %d: %s", common, want, a)
	}
}

// TestCalls: calls of a history reach the template as templates want them, whoever wrote them down.
func TestCalls(t *testing.T) {
	for given, want := range map[string]string{
		`{"id":"c","type":"function","function":{"name":"lamp","arguments":"{\"on\":true}"}}`: `{"id":"c","type":"function","function":{"name":"lamp","arguments":{"on":true}}}`,
		`{"index":0,"id":null,"function":{"name":"now","arguments":""}}`:                      `{"function":{"name":"now","arguments":{}}}`,
		`{"function":{"name":"now","arguments":null}}`:                                        `{"function":{"name":"now","arguments":{}}}`,
		`{"name":"flat","arguments":"{}"}`:                                                    `{"name":"flat","arguments":{}}`,
		`{"function":{"name":"odd","arguments":"not JSON"}}`:                                  `{"function":{"name":"odd","arguments":"not JSON"}}`,
	} {
		got, err := Messages([]byte(`[{"role":"assistant","tool_calls":[` + given + `]},{"role":"user","content":"x"}]`))
		if whole := `[{"role":"assistant","tool_calls":[` + want + `]},{"role":"user","content":"x"}]`; err != nil || string(got) != whole {
			t.Errorf("%s: %v, got %s, want %s", given, err, got, whole)
		}
	}
}

// TestHistory: what clients keep of calls is taken as they keep it.
func TestHistory(t *testing.T) {
	for _, c := range []struct{ messages, want string }{
		{
			`[{"role":"assistant","tool_calls":[{"index":0,"id":1,"type":"function","function":{"name":"f","arguments":"{\"a\": 1}","strict":null}}],"refusal":null},{"role":"tool","tool_call_id":1,"content":"x"}]`,
			`[{"role":"assistant","tool_calls":[{"id":"1","type":"function","function":{"name":"f","arguments":{"a": 1}}}]},{"role":"tool","tool_call_id":"1","content":"x"}]`,
		},
		{
			`[{"role":"user","content":[{"type":"text","text":"a","cache_control":null,"annotations":null}]}]`,
			`[{"role":"user","content":"a"}]`,
		},
	} {
		got, err := Messages([]byte(c.messages))
		if err != nil || string(got) != c.want {
			t.Errorf("%s becomes %s, %v", c.messages, got, err)
		}
	}
	if _, err := Messages([]byte(`[{"role":"tool","tool_call_id":true,"content":"x"}]`)); err == nil {
		t.Error("a truth is taken for an id")
	}
}
