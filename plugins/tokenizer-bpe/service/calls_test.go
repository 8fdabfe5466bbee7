package service

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"edged/core/infer/grammar"
	"edged/test/oracle"
)

// follows tells whether a grammar takes a whole text, and whether it then must end.
func follows(t *testing.T, text, answer string) bool {
	t.Helper()
	g, err := grammar.Parse(t.Context(), text)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	v := grammar.NewVocabulary(256, func(id int32) []byte { return []byte{byte(id)} })
	a, err := g.Bind(v)
	if err != nil {
		t.Fatal(err)
	}
	m, err := a.Start(1 << 20)
	if err != nil {
		t.Fatal(err)
	}
	for i := range len(answer) {
		if m.Advance(int32(answer[i]), []byte{answer[i]}) != nil {
			return false
		}
	}
	st, err := m.Next()
	return err == nil && st.Ends
}

// TestCallGrammar: for every family, a call that its grammar allows is one that ParseTools reads.
func TestCallGrammar(t *testing.T) {
	tools := json.RawMessage(`[
		{"type":"function","function":{"name":"light","description":"Switch a light.","parameters":{"type":"object","properties":{"room":{"enum":["hall","shed"]},"on":{"type":"boolean"}},"required":["room","on"]}}},
		{"type":"function","function":{"name":"time"}}]`)
	const light, clock = `{"name": "light", "ARGS": {"room": "shed", "on": true}}`, `{"name": "time", "ARGS": {}}`
	for name, c := range map[string]struct {
		key     string
		yes, no []string
	}{
		"Qwen-Qwen2.5-7B-Instruct":                      {"arguments", []string{"<tool_call>\nℓ\n</tool_call>", "<tool_call>\nℓ\n</tool_call>\n<tool_call>\nτ\n</tool_call>"}, []string{"ℓ", "Sure. <tool_call>\nℓ\n</tool_call>"}},
		"Qwen-Qwen3-0.6B":                               {"arguments", []string{"<tool_call>\nτ\n</tool_call>"}, []string{"τ"}},
		"NousResearch-Hermes-2-Pro-Llama-3-8B-tool_use": {"arguments", []string{"<tool_call>\nτ\n</tool_call>"}, []string{"τ"}},
		"mistralai-Mistral-Nemo-Instruct-2407":          {"arguments", []string{"[TOOL_CALLS][ℓ]", "[TOOL_CALLS][ℓ, τ]"}, []string{"ℓ", "[TOOL_CALLS][]"}},
		"meta-llama-Llama-3.1-8B-Instruct":              {"parameters", []string{"ℓ", "τ"}, []string{"[ℓ]", "ℓ; τ"}},
		"meta-llama-Llama-3.2-3B-Instruct":              {"parameters", []string{"ℓ"}, []string{"[ℓ]"}},
		"ibm-granite-granite-3.3-2B-Instruct":           {"arguments", []string{"<|tool_call|>[ℓ]"}, []string{"ℓ"}},
		"google-gemma-2-2b-it":                          {},
		"microsoft-Phi-3.5-mini-instruct":               {},
	} {
		t.Run(name, func(t *testing.T) {
			template, err := os.ReadFile(filepath.Join(oracle.Dir(t), "chat", "templates", name+".jinja"))
			if err != nil {
				t.Fatal(err)
			}
			text, err := callGrammar(string(template), tools, nil)
			if err != nil || (text == "") != (c.key == "") {
				t.Fatalf("%q, %v", text, err)
			}
			marked := ""
			switch first := strings.Join(c.yes, ""); {
			case strings.HasPrefix(first, callStart):
				marked = callStart
			case strings.HasPrefix(first, callsMark):
				marked = callsMark
			case strings.HasPrefix(first, "<|tool_call|>"):
				marked = "<|tool_call|>"
			}
			if grammar.IsAfter(text) != (marked != "") {
				t.Fatalf("it begins behind the mark %q: %s", marked, text)
			}
			behind := text
			text = grammar.Whole(text)
			write := func(form string) string {
				form = strings.NewReplacer("ℓ", strings.ReplaceAll(light, "ARGS", c.key), "τ", strings.ReplaceAll(clock, "ARGS", c.key)).Replace(form)
				return form
			}
			s := &Service{}
			for _, form := range c.yes {
				answer := write(form)
				if !follows(t, text, answer) {
					t.Errorf("%q is not allowed", answer)
				}
				calls := strings.Count(form, "ℓ") + strings.Count(form, "τ")
				if got, err := s.ParseTools(t.Context(), answer); err != nil || len(got.Calls) != calls || got.Text != "" {
					t.Errorf("%q is read as %+v, %v", answer, got, err)
				}
			}
			if marked != "" { // a call that the model begins by itself
				rest := strings.TrimPrefix(write(c.yes[0]), marked)
				if !follows(t, behind, rest) || strings.Contains(rest, "shed") && follows(t, behind, strings.Replace(rest, "shed", "cellar", 1)) || follows(t, behind, "Sure.") {
					t.Errorf("behind its mark the wrong texts are allowed: %s", behind)
				}
			}
			for _, form := range c.no {
				if follows(t, text, write(form)) {
					t.Errorf("%q is allowed", write(form))
				}
			}
			if len(c.yes) > 0 && follows(t, text, strings.Replace(write(c.yes[0]), "shed", "cellar", 1)) && strings.Contains(c.yes[0], "ℓ") {
				t.Error("a value that the schema does not have is allowed")
			}
		})
	}
	for _, none := range []string{"", "null", "[]"} {
		if text, err := callGrammar("{{ tools }}", json.RawMessage(none), nil); err != nil || text != "" {
			t.Errorf("%s: %q, %v", none, text, err)
		}
	}
}

// TestMarksOfThoughts: of the control tokens around a thought those are a part of the text that the template has.
func TestMarksOfThoughts(t *testing.T) {
	c := controls{"<think>": true, "</think>": true, "<|channel|>": true, "<|message|>": true, "<|end|>": true, "<|start|>": true, "<|im_end|>": true}
	for template, want := range map[string]string{
		"<|im_start|>":              "",
		"a<think>b</think>c":        "<think> </think>",
		"<|message|>a<|end|>":       "",
		"<seed:think></seed:think>": "",
		"<|start|>a<|channel|>analysis<|message|>b<|end|>": "<|start|> <|channel|> <|message|> <|end|>",
	} {
		if got := strings.Join(c.thoughts(template), " "); got != want {
			t.Errorf("%s: %s", template, got)
		}
	}
}
