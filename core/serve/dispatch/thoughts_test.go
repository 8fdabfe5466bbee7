package dispatch

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"edged/core/protocol/backend"
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
		end := openThought(c.prompt)
		if thought, said := splitThoughts(end, c.text); thought != c.thought || said != c.said {
			t.Errorf("%q: thought %q, said %q", c.text, thought, said)
		}
		th := newThoughts(end)
		var thought, said strings.Builder
		for i := range len(c.text) {
			a, b := th.write(c.text[i : i+1])
			thought.WriteString(a)
			said.WriteString(b)
		}
		a, b := th.close()
		if got := thought.String() + a; strings.Trim(got, blanks) != c.thought || said.String()+b != c.said {
			t.Errorf("%q byte by byte: thought %q, said %q", c.text, got, said.String()+b)
		}
	}
}

// TestThoughtsOfAnswers: what is thought comes apart, with its own deltas and count, and the same after the backend died
// within it. Held answers have none.
func TestThoughtsOfAnswers(t *testing.T) {
	const says = "<think>\nhm, well\n</think>\n\nYes."
	in(t, func(_ *Config, p *plugins) {
		p.template, p.says = "x", says
		p.killer = func(life uint64, req backend.Request, step int) bool {
			return life == 1 && req.ID == "died" && step == 12
		}
	}, func(b *bench) {
		t := b.t
		for _, id := range []string{"plain", "died"} {
			b.submit(t, with(ask(id, "x"), func(r *Request) { r.Stream, r.Options.MaxTokens = true, new(len(says)) }))
			time.Sleep(time.Minute)
			synctest.Wait()
			last := b.s.last(t, id)
			if last.Error != nil || last.Choices[0].Text != "Yes." || len(last.Thoughts) != 1 || last.Thoughts[0] != "hm, well" {
				t.Fatalf("%s: %+v", id, last)
			}
			if want := len(says) - len("\n\nYes."); last.Thought < want-len("<think") || last.Thought > want {
				t.Errorf("%s: %d tokens of thought, want %d", id, last.Thought, want)
			}
			attempt, thought, said := 0, "", ""
			for _, ev := range b.s.events[id] {
				if ev.Attempt != attempt {
					attempt, thought, said = ev.Attempt, "", ""
				}
				if ev.Delta != nil {
					thought, said = thought+ev.Delta.Thought, said+ev.Delta.Text
				}
			}
			if strings.Trim(thought, blanks) != "hm, well" || said != "Yes." || id == "died" && attempt != 2 {
				t.Errorf("%s: attempt %d: thought %q, said %q", id, attempt, thought, said)
			}
		}
		b.submit(t, with(ask("held", "x"), func(r *Request) {
			r.Options.Grammar, r.Options.MaxTokens = `root ::= .*`, new(len(says))
		}))
		time.Sleep(time.Minute)
		synctest.Wait()
		if last := b.s.last(t, "held"); last.Thoughts != nil || last.Choices[0].Text != says {
			t.Errorf("%+v", last)
		}
	})
}
