package service

import (
	"encoding/json"
	"path/filepath"
	"testing"

	"edged/core/protocol/tokenizer"
	"edged/test/oracle"
)

// TestOwnAnswers: a call whose arguments are text, as edged writes them, is shown like the object that the text is of.
func TestOwnAnswers(t *testing.T) {
	const template = `{% for m in messages %}{{ m.role }}:{% for c in m.tool_calls or [] %}{{ c.function.arguments | tojson }}{% endfor %}{{ m.content }};{% endfor %}`
	for name, c := range map[string]struct{ arguments, want string }{
		"text":              {`"{\"room\":\"hall\",\"pct\":10.0}"`, `{"room": "hall", "pct": 10.0}`},
		"object":            {`{"room":"hall","pct":10.0}`, `{"room": "hall", "pct": 10.0}`},
		"empty":             {`"{}"`, `{}`},
		"somebody else's":   {`"{\"room\": \"hall\"}"`, `"{\"room\": \"hall\"}"`},
		"no object":         {`"[1]"`, `"[1]"`},
		"not even JSON":     {`"{room"`, `"{room"`},
		"not a text at all": {`7`, `7`},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := newService(t).Render(t.Context(), tokenizer.Chat{
				Template: template, NoPrompt: true,
				Messages: json.RawMessage(`[{"role":"assistant","content":null,"tool_calls":[{"id":"1","type":"function","function":{"name":"f","arguments":` + c.arguments + `}}]}]`),
			})
			if want := "assistant:" + c.want + ";"; err != nil || got != want {
				t.Errorf("got %q, %v; want %q", got, err, want)
			}
		})
	}
}

// TestNoCalls: what is no list of calls stays what it is.
func TestNoCalls(t *testing.T) {
	for calls, want := range map[string]string{`null`: "undefined", `[]`: "[]", `7`: "7", `[null]`: "[null]"} {
		got, err := newService(t).Render(t.Context(), tokenizer.Chat{
			Template: `{{ messages[0].tool_calls | tojson if messages[0].tool_calls is defined else 'undefined' }}`,
			Messages: json.RawMessage(`[{"role":"assistant","content":"x","tool_calls":` + calls + `}]`),
		})
		if err != nil || got != want {
			t.Errorf("%s gives %q, %v; want %q", calls, got, err, want)
		}
	}
}

// TestReportedHistories renders the reported conversations.
func TestReportedHistories(t *testing.T) {
	dir := oracle.Dir(t)
	read := func(parts ...string) []byte { return oracle.Read(t, filepath.Dir(dir), parts...) }
	render := func(template, talk []byte) string {
		var in struct{ Messages, Tools json.RawMessage }
		if err := json.Unmarshal(talk, &in); err != nil {
			t.Fatal(err)
		}
		out, err := newService(t).Render(t.Context(), tokenizer.Chat{Template: string(template), Messages: in.Messages, Tools: in.Tools})
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	qwen := read("oracle", "chat", "templates", "Qwen-Qwen2.5-7B-Instruct.jinja")
	if text, object := render(qwen, read("cases", "D2", "rt-text.json")), render(qwen, read("cases", "D2", "rt-object.json")); text != object {
		t.Errorf("%q\nis not\n%q", text, object)
	}
	const want = "<|im_start|>user\nLights?<|im_end|>\n<|im_start|>assistant\n<think>the hall is dark</think>\nOff.<|im_end|>\n" +
		"<|im_start|>user\nThanks.<|im_end|>\n<|im_start|>assistant\nGladly.<|im_end|>\n<|im_start|>user\nBye<|im_end|>\n"
	if got := render(read("cases", "D5", "template.jinja"), read("cases", "D5", "talk.json")); got != want {
		t.Errorf("%q\nis not\n%q", got, want)
	}
}
