package thinking

import (
	"strings"
	"testing"
)

// TestThoughts takes answers apart, in one piece and byte by byte.
func TestThoughts(t *testing.T) {
	for _, c := range []struct{ prompt, text, thought, said string }{
		{"", "Hello.", "", "Hello."},
		{"", "<think>\nhm, well\n</think>\n\nHello.\n", "hm, well", "Hello.\n"},
		{"", "<think>\n\n</think>\n\nHello.", "", "Hello."},
		{"…<|im_start|>assistant\n<think>\n", "hm\n</think>\n\nYes", "hm", "Yes"},
		{"…<think>\n", "hm, for ever ", "hm, for ever", ""},
		{"…<think>\n\n</think>\n\n", "Yes", "", "Yes"},
		{"", "\n<thin", "", "\n<thin"},
		{"", "I write <think> in a text </think>.", "", "I write <think> in a text </think>."},
		{"", "<think>a</think>b<think>c</think>", "a", "b<think>c</think>"},
		{"", "<think>a </thin b\n\nc</think>d", "a </thin b\n\nc", "d"},
		{"", "[THINK]a[/THINK]b", "a", "b"},
		{"", "<|channel>thought\na<channel|>b", "a", "b"},
		{"…<|START_THINKING|>", "a<|END_THINKING|>b", "a", "b"},
		{"", "</think>\n\nYes", "", "Yes"},
		{"…<thought>\n", "a\n</thought>\n\nb", "a", "b"},
		{"…<|start|>assistant", "<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>final<|message|>b", "a", "b"},
		{"…<|start|>assistant", "<|channel|>final<|message|>b", "", "b"},
		{"…<|start|>assistant", "<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>analysis<|message|>b<|end|><|start|>assistant<|channel|>final<|message|>c", "a\nb", "c"},
		{"…<|start|>assistant", "<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>commentary<|message|>b", "a", "b"},
		{"…<|start|>assistant", "<|channel|>analysis<|message|>a<|end|><|start|>assistant to=functions.f<|channel|>commentary json<|message|>{}", "a", " to=functions.f<|channel|>commentary json<|message|>{}"},
		{"…<|start|>assistant", "<|channel|>commentary", "", "<|channel|>commentary"},
		{"…Here are my reasoning steps:\n", "a\n[BEGIN FINAL RESPONSE]\nb", "a", "b"},
		{"", "Here are my reasoning steps: a", "", "Here are my reasoning steps: a"},
		{"…<|open|>think<|sep|>", "a<|close|>think<|sep|><|open|>response<|sep|>b", "a", "b"},
		{"", "  ", "", "  "},
		{"", "", "", ""},
	} {
		end := CloseMark(c.prompt)
		if thought, said := Split(end, c.text); thought != c.thought || said != c.said {
			t.Errorf("%q: thought %q, said %q", c.text, thought, said)
		}
		th := NewSplitter(end)
		var thought, said strings.Builder
		for i := range len(c.text) {
			a, b := th.Write(c.text[i : i+1])
			thought.WriteString(a)
			said.WriteString(b)
		}
		a, b := th.Close()
		if got := thought.String() + a; strings.Trim(got, Blanks) != c.thought || said.String()+b != c.said {
			t.Errorf("%q byte by byte: thought %q, said %q", c.text, got, said.String()+b)
		}
	}
}
