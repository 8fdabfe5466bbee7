package dispatch

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"edged/core/protocol/backend"
	"edged/core/serve/dispatch/thinking"
)

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
			if strings.Trim(thought, thinking.Blanks) != "hm, well" || said != "Yes." || id == "died" && attempt != 2 {
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
