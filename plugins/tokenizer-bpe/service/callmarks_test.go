package service

import (
	"bufio"
	"bytes"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"edged/core/chat"
	"edged/test/oracle"
)

// TestCallsOfFamilies takes the calls back that each public template writes into a history, in the form in which its
// model writes them, and renders them once more: the text is the same.
func TestCallsOfFamilies(t *testing.T) {
	dir := filepath.Join(oracle.Dir(t), "text", "chat")
	file := oracle.Read(t, dir, "cases.jsonl")
	scanner := bufio.NewScanner(bytes.NewReader(file))
	scanner.Buffer(nil, 1<<20)
	read := 0
	compiled := map[string]*chat.Template{}
	for scanner.Scan() {
		var c struct {
			Template, Case string
			Variables      map[string]json.RawMessage
			Text           *string
		}
		if err := json.Unmarshal(scanner.Bytes(), &c); err != nil {
			t.Fatal(err)
		}
		switch c.Case {
		case "tool_result", "tool_parallel", "args_nested", "args_numbers", "args_quotes", "args_empty", "dict_method_names", "call_with_text", "reasoning_and_call":
		default:
			continue
		}
		tmpl := compiled[c.Template]
		if tmpl == nil {
			source, err := os.ReadFile(filepath.Join(dir, "templates", c.Template+".jinja"))
			if err != nil {
				continue
			}
			if tmpl, err = chat.Compile(string(source)); err != nil {
				t.Error(err)
				continue
			}
			compiled[c.Template] = tmpl
		}
		var messages []map[string]json.RawMessage
		if err := json.Unmarshal(c.Variables["messages"], &messages); err != nil {
			t.Fatal(err)
		}
		at := -1
		for i, m := range messages {
			if m["tool_calls"] != nil {
				at = i
				break
			}
		}
		if at < 0 {
			continue
		}
		render := func(messages []map[string]json.RawMessage, prompt bool) string {
			vars := map[string]any{}
			for k, v := range c.Variables {
				vars[k] = v
			}
			vars["messages"], vars["add_generation_prompt"] = messages, prompt
			raw, err := json.Marshal(vars)
			if err != nil {
				t.Fatal(err)
			}
			out, err := tmpl.Render(t.Context(), chat.Input{Variables: raw, Now: time.Unix(1767322800, 0).UTC()})
			if err != nil {
				return ""
			}
			return out
		}
		before, whole := render(messages[:at], true), render(messages[:at+1], false)
		var want []struct {
			Function struct {
				Name      string
				Arguments json.RawMessage
			}
		}
		if err := json.Unmarshal(messages[at]["tool_calls"], &want); err != nil {
			t.Fatal(err)
		}
		same := 0
		for same < min(len(before), len(whole)) && before[same] == whole[same] {
			same++
		}
		if i := strings.LastIndexByte(whole[:same], '<'); i >= 0 && !strings.Contains(whole[i:same], ">") {
			same = i // both go on with a tag
		}
		answer := whole[same:]
		if before == "" || whole == "" || !strings.Contains(answer, want[0].Function.Name) {
			continue // a template that refuses, or does not write calls of a history
		}
		for _, end := range []string{"<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<|end_of_text|>", "</s>", "<|end|>", "<｜end▁of▁sentence｜>", "[e~[", "<turn|>", "<|eot|>", "<|endoftext|>", "<seed:eos>", "<|end_of_role|>"} {
			if i := strings.LastIndex(answer, end); i > strings.LastIndex(answer, want[len(want)-1].Function.Name) {
				answer = answer[:i]
			}
		}
		out, err := newService(t).ParseTools(t.Context(), answer)
		if err != nil {
			t.Fatal(err)
		}
		if len(out.Calls) == 0 {
			t.Errorf("%s/%s: no call in %.300q", c.Template, c.Case, answer)
			continue
		}
		// What was read, as edged publishes it and a client sends it back.
		var calls []any
		for i, call := range out.Calls {
			entry := map[string]any{}
			var original []map[string]json.RawMessage
			if err := json.Unmarshal(messages[at]["tool_calls"], &original); err != nil {
				t.Fatal(err)
			}
			if i < len(original) {
				for k, v := range original[i] {
					entry[k] = v
				}
			}
			entry["function"] = json.RawMessage(`{"name":` + string(quote(call.Name)) + `,"arguments":` + string(call.Arguments) + `}`)
			calls = append(calls, entry)
		}
		raw, err := json.Marshal(calls)
		if err != nil {
			t.Fatal(err)
		}
		again := map[string]json.RawMessage{}
		maps.Copy(again, messages[at])
		again["tool_calls"] = raw
		if got := render(append(append([]map[string]json.RawMessage(nil), messages[:at]...), again), false); got != whole {
			t.Errorf("%s/%s: %.400q\n became  %s\n renders %.400q", c.Template, c.Case, answer, raw, got[min(same, len(got)):])
			continue
		}
		read++
	}
	if read < 200 {
		t.Errorf("only %d answers", read)
	}
}
