package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"edged/core/infer/grammar/grammartest"
	"edged/test/oracle"
)

// toolTemplate shows tools and writes calls as Hermes' and Qwen's templates do; the demo model's own knows none.
const toolTemplate = `{% if tools %}<|im_start|>system
Tools: {{ tools | tojson }}. Call them as <tool_call>.<|im_end|>
{% endif %}{% for m in messages %}<|im_start|>{{ m['role'] }}
{% if m['content'] %}{{ m['content'] }}{% endif %}{% for c in m['tool_calls'] or [] %}<tool_call>
{"name": "{{ c['function']['name'] }}", "arguments": {{ c['function']['arguments'] }}}
</tool_call>{% endfor %}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}`

// TestToolCalls: a call that is demanded comes back as tool_calls, valid under its tool's schema, and the conversation goes on with
// the tool's result, which the model is shown.
func TestToolCalls(t *testing.T) {
	model := filepath.Join(t.TempDir(), "model")
	copyTree(t, filepath.Join(oracle.Repo(t), "demo/hf-nf4"), model)
	path := filepath.Join(model, "tokenizer_config.json")
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var config map[string]any
	if err := json.Unmarshal(raw, &config); err != nil {
		t.Fatal(err)
	}
	config["chat_template"] = toolTemplate
	if raw, err = json.Marshal(config); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	s := serve(t, "model.path="+model)

	schemas := map[string]string{
		"light": `{"type":"object","properties":{"room":{"enum":["hall","shed"]},"on":{"type":"boolean"},"level":{"type":"integer","minimum":1,"maximum":9}},"required":["room","on"]}`,
		"note":  `{"type":"object","properties":{"text":{"type":"string","minLength":3,"maxLength":20}},"required":["text"]}`,
	}
	tools := fmt.Sprintf(`[{"type":"function","function":{"name":"light","description":"Switch a light.","parameters":%s}},{"type":"function","function":{"name":"note","parameters":%s}}]`, schemas["light"], schemas["note"])
	type call struct {
		ID       string `json:"id"`
		Type     string `json:"type"`
		Function struct {
			Name      string          `json:"name"`
			Arguments json.RawMessage `json:"arguments"`
		} `json:"function"`
	}
	ask := func(id, more string) (last event, calls []call, rawCalls json.RawMessage) {
		t.Helper()
		s.publish("edged/test/request", fmt.Sprintf(`{"id":%q,"temperature":1.2,"seed":7,"max_tokens":120,"tools":%s,%s}`, id, tools, more))
		topic := "edged/test/response/" + id
		events := s.last(topic)
		last = events[len(events)-1]
		if last.Error != nil {
			t.Fatalf("%s: %+v", id, last.Error)
		}
		var v struct {
			Calls json.RawMessage `json:"tool_calls"`
		}
		for _, p := range s.until(topic, func(string) bool { return true }) {
			if err := json.Unmarshal([]byte(p), &v); err != nil {
				t.Fatal(err)
			}
		}
		if len(v.Calls) > 0 {
			if err := json.Unmarshal(v.Calls, &calls); err != nil {
				t.Fatalf("%s: %s: %v", id, v.Calls, err)
			}
		}
		return last, calls, v.Calls
	}
	valid := func(id string, calls []call) {
		t.Helper()
		if len(calls) == 0 {
			t.Fatalf("%s: no call", id)
		}
		for _, c := range calls {
			arguments := c.Function.Arguments
			var text string
			if json.Unmarshal(arguments, &text) == nil { // clients know them as JSON in a string
				arguments = json.RawMessage(text)
			}
			if err := grammartest.Validate(schemas[c.Function.Name], arguments); err != nil || c.Type != "function" {
				t.Errorf("%s: %+v: %s: %v", id, c, arguments, err)
			}
		}
	}

	const user = `{"role":"user","content":"Turn on the light in the hall."}`
	_, calls, _ := ask("required", `"messages":[`+user+`],"tool_choice":"required"`)
	valid("required", calls)
	_, calls, rawCalls := ask("named", `"messages":[`+user+`],"tool_choice":{"type":"function","function":{"name":"light"}}`)
	valid("named", calls)
	if calls[0].Function.Name != "light" {
		t.Errorf("a call of %s", calls[0].Function.Name)
	}

	// The result is shown to the model: another one makes another prompt.
	conversation := func(result string) string {
		return fmt.Sprintf(`"messages":[%s,{"role":"assistant","content":null,"tool_calls":%s},{"role":"tool","tool_call_id":%q,"content":%q}]`, user, rawCalls, calls[0].ID, result)
	}
	short, none, _ := ask("result", conversation("done")+`,"tool_choice":"none"`)
	long, auto, _ := ask("other-result", conversation(strings.Repeat("The hall light is on. ", 6))+`,"tool_choice":"auto"`)
	if short.Text == "" || long.Text == "" || long.Usage.Prompt <= short.Usage.Prompt {
		t.Errorf("answers to the result: %+v, %+v", short, long)
	}
	if len(none) > 0 {
		t.Errorf("a call that was forbidden: %+v", none)
	}
	if len(auto) > 0 {
		valid("auto", auto)
	}

	// A tool that is not served is refused by name where a call is demanded, and only there.
	bad := `"tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object","properties":{"n":{"type":"integer","divisibleBy":2}}}}}]`
	for id, choice := range map[string]string{"bad-required": "required", "bad-auto": "auto"} {
		s.publish("edged/test/request", fmt.Sprintf(`{"id":%q,"max_tokens":5,"messages":[%s],%s,"tool_choice":%q}`, id, user, bad, choice))
		events := s.last("edged/test/response/" + id)
		failed := events[len(events)-1].Error
		if choice == "auto" && failed != nil || choice == "required" && (failed == nil || failed.Code != "unsupported" || !strings.Contains(failed.Message, "n.divisibleBy")) {
			t.Errorf("%s: %+v", choice, failed)
		}
	}
}
