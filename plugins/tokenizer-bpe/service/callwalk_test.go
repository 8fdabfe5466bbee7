package service

import (
	"encoding/json"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"edged/core/chat"
	"edged/core/infer/grammar"
	"edged/core/infer/grammar/gbnf"
	"edged/test/oracle"
)

// walkTools are tools whose calls say the same in every spelling.
const walkTools = `[
	{"type":"function","function":{"name":"set_light","description":"Switch.","parameters":{"type":"object","properties":{
		"room":{"type":"string","description":"Where."},"on":{"type":"boolean"},"level":{"type":"integer","minimum":1,"maximum":99},
		"mode":{"type":"string","enum":["warm","cold white"]},"lamps":{"type":"array","items":{"type":"string"}}},"required":["room","on"]}}},
	{"type":"function","function":{"name":"get_time","description":"Now.","parameters":{"type":"object","properties":{}}}},
	{"type":"function","function":{"name":"find","description":"Look.","parameters":{"type":"object","properties":{
		"where":{"type":"object","properties":{"floor":{"type":"integer","minimum":0,"maximum":3}},"required":["floor"]}}}}}]`

// walkMarks are what families write with control tokens.
func walkMarks() []string {
	return []string{
		"<|tool_call>", "<tool_call|>", `<|"|>`, "[TOOL_CALLS]", "[ARGS]", "[CALL_ID]", "<|tool_call_start|>", "<|tool_call_end|>",
		"<｜tool▁calls▁begin｜>", "<｜tool▁call▁begin｜>", "<｜tool▁sep｜>", "<｜tool▁call▁end｜>", "<｜tool▁calls▁end｜>", "<|channel|>", "<|message|>",
		"<|START_ACTION|>", "<|END_ACTION|>", "<|tools_prefix|>", "<|tools_suffix|>", "<|tool_call|>", "<|tool_calls_section_begin|>", "<|tool_call_begin|>",
		"<|tool_call_argument_begin|>", "<|tool_call_end|>", "<|tool_calls_section_end|>", "<tool_call>", "</tool_call>", "<|tool_calls|>", "<|calls|>",
	}
}

var ids = regexp.MustCompile(`, "id": "call\d+"}`)

// walk writes a random text of a grammar. marks are control tokens.
func walk(t *testing.T, rng *rand.Rand, text string, marks []string) string {
	t.Helper()
	g, err := grammar.Parse(t.Context(), text)
	if err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	piece := func(id int32) []byte {
		if id < 256 {
			return []byte{byte(id)}
		}
		return gbnf.TokenPiece([]byte(marks[id-256]))
	}
	a, err := g.Bind(grammar.NewVocabulary(256+len(marks), piece))
	if err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	const least = 40
	limit := least + rng.IntN(400)
	m, err := a.Start(limit)
	for err != nil {
		limit += least
		if m, err = a.Start(limit); limit > 4000 {
			t.Fatal(err)
		}
	}
	var out strings.Builder
	for {
		st, err := m.Next()
		if err != nil {
			t.Fatalf("%v behind %q of %s", err, out.String(), text)
		}
		if st.None || st.Ends && rng.IntN(3) == 0 {
			return out.String()
		}
		var all, liked []int32
		for id := range int32(256 + len(marks)) {
			if st.Mask[id>>6]>>(id&63)&1 == 0 {
				continue
			}
			all = append(all, id)
			if id >= 256 || strings.IndexByte("abcdeouE <>&_,{}()=", byte(id)) >= 0 {
				liked = append(liked, id)
			}
		}
		if len(liked) == 0 {
			liked = all
		}
		id := liked[rng.IntN(len(liked))]
		if err := m.Advance(id, piece(id)); err != nil {
			t.Fatal(err)
		}
		if id < 256 {
			out.WriteByte(byte(id))
		} else {
			out.WriteString(marks[id-256])
		}
	}
}

// TestCallsThatTheGrammarLetsThrough walks at random through the grammars of every public template: what comes out is read
// as calls of the tools, with what they must have, and the template writes them into a history as the same text.
func TestCallsThatTheGrammarLetsThrough(t *testing.T) {
	dir := oracle.Path(t, oracle.Dir(t), "text", "chat", "templates")
	files, err := filepath.Glob(filepath.Join(dir, "*.jinja"))
	if err != nil {
		t.Fatal(err)
	}
	tools, _ := json.Marshal(json.RawMessage(walkTools))
	held, again := 0, 0
	for i, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".jinja")
		t.Run(name, func(t *testing.T) {
			source, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			tmpl, err := chat.Compile(string(source))
			if err != nil {
				t.Fatal(err)
			}
			wrote := 0
			for seed := range uint64(8) {
				rng := rand.New(rand.NewPCG(uint64(i), seed))
				var isControl controls
				var marks []string
				if seed%2 == 1 {
					isControl = controls{}
					for _, m := range walkMarks() {
						isControl[m] = true
					}
					marks = walkMarks()
				}
				text, err := callGrammar(string(source), tools, isControl)
				if err != nil {
					t.Fatal(err)
				}
				if text == "" {
					return
				}
				answer := walk(t, rng, grammar.Whole(text), marks)
				got, err := newService(t).ParseTools(t.Context(), answer)
				if err != nil || len(got.Calls) == 0 || strings.TrimSpace(got.Text) != "" {
					t.Fatalf("%q is read as %+v, %v", answer, got, err)
				}
				var calls []any
				for k, call := range got.Calls {
					var args map[string]any
					if json.Unmarshal(call.Arguments, &args) != nil || !slices.Contains([]string{"set_light", "get_time", "find"}, call.Name) {
						t.Fatalf("%q is read as %+v", answer, call)
					}
					if call.Name == "set_light" && (args["room"] == nil || args["on"] == nil) {
						t.Errorf("%q is read as %+v", answer, call)
					}
					calls = append(calls, map[string]any{"id": id(answer, k), "type": "function", "function": json.RawMessage(`{"name":` + string(quote(call.Name)) + `,"arguments":` + string(call.Arguments) + `}`)})
				}
				messages := []any{map[string]any{"role": "user", "content": "Do."}, map[string]any{"role": "assistant", "content": "", "tool_calls": calls}}
				vars, _ := json.Marshal(map[string]any{"messages": messages, "tools": json.RawMessage(tools)})
				history, err := tmpl.Render(t.Context(), chat.Input{Variables: vars, Now: time.Unix(1767322800, 0).UTC()})
				if err != nil || !strings.Contains(history[strings.LastIndex(history, "Do.")+1:], got.Calls[0].Name) {
					continue // a template that refuses, or does not write calls of a history
				}
				if strings.Contains(answer, "<![CDATA[") { // which the template writes where it must only
					continue
				}
				history = ids.ReplaceAllString(history, "}") // of the caller's, which models do not write
				if !strings.Contains(history, answer) {
					t.Errorf("%q is read as %v and written as %q", answer, calls, history[strings.LastIndex(history, "Do.")+3:])
				}
				wrote++
			}
			held++
			if wrote > 0 {
				again++
			}
		})
	}
	if held < 55 || again < 40 {
		t.Errorf("%d templates have a grammar of calls, and %d write calls again", held, again)
	}
}

// id is the id of a call, where the answer has one.
func id(answer string, k int) string {
	for _, mark := range []string{"[CALL_ID]", "<|tool_call:begin|>"} {
		if parts := strings.Split(answer, mark); len(parts) > k+1 {
			return parts[k+1][:9]
		}
	}
	return "call0000" + string(rune('0'+k))
}
