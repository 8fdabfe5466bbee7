package dispatch

import "strings"

// thoughtMarks are what families write before and behind what they think.
func thoughtMarks() [][2]string {
	return [][2]string{
		{"<think>", "</think>"},
		{"[THINK]", "[/THINK]"},
		{"<|channel>thought", "<channel|>"},
		{"<|START_THINKING|>", "<|END_THINKING|>"},
		{"<seed:think>", "</seed:think>"},
		{"<mm:think>", "</mm:think>"},
		{"<think:opensource>", "</think:opensource>"},
		{"<thought>", "</thought>"},
		{"<|channel|>analysis<|message|>", "<|end|>"},
		{"<|open|>think<|sep|>", "<|close|>think<|sep|>"},
	}
}

// answerMarks are what families write before what they say.
func answerMarks() []string {
	return []string{
		"<|start|>assistant<|channel|>final<|message|>", "<|channel|>final<|message|>", "<|open|>response<|sep|>",
		"<|start|>assistant<|channel|>commentary<|message|>", "<|channel|>commentary<|message|>", // what stands before a call
		"<|start|>assistant", // and what a call goes on from
	}
}

// moreThought is what gpt-oss writes before a further thought.
const moreThought = "<|start|>assistant<|channel|>analysis<|message|>"

// openThought is the mark that closes the thought which a prompt ends within; "": it ends within none.
func openThought(prompt string) string {
	prompt = strings.TrimRight(prompt, " \t\r\n")
	// Apriel's begins like any text, so that only what its template wrote tells it.
	for _, m := range append(thoughtMarks(), apriel()) {
		if strings.HasSuffix(prompt, m[0]) {
			return m[1]
		}
	}
	return ""
}

const blanks = " \t\r\n"

// thoughts tells what a model thinks from what it says, piece by piece: a thought is what stands first in an answer, between
// the marks of a family, or from its beginning on where the prompt ended within one. How the text is cut makes no difference.
type thoughts struct {
	state thoughtState
	end   string // of the thought
	held  string
}

type thoughtState uint8

const (
	mayThink   thoughtState = iota // nothing but blanks came
	thinks                         // between the marks
	hasThought                     // behind them, and nothing but blanks came
	says                           // the rest
)

// newThoughts begins an answer. end is that of openThought.
func newThoughts(end string) *thoughts {
	t := &thoughts{end: end}
	if end != "" {
		t.state = thinks
	}
	return t
}

// thinking reports whether what comes next is thought, as far as is known.
func (t *thoughts) thinking() bool { return t.state == thinks }

// write takes a piece of the text. What may be a part of a mark, and blanks around a thought, wait for more.
func (t *thoughts) write(text string) (thought, said string) {
	t.held += text
	for {
		switch t.state {
		case mayThink:
			rest := strings.TrimLeft(t.held, blanks)
			if rest == "" {
				return thought, said
			}
			waits := false
			for _, m := range thoughtMarks() {
				if after, ok := strings.CutPrefix(rest, m[0]); ok {
					t.state, t.end, t.held = thinks, m[1], after
					break
				}
				if after, ok := strings.CutPrefix(rest, m[1]); ok { // of a thought that never began: there is none
					t.state, t.held = hasThought, after
					break
				}
				waits = waits || strings.HasPrefix(m[0], rest) || strings.HasPrefix(m[1], rest)
			}
			if t.state != mayThink {
				continue
			}
			if waits || t.answers(rest) {
				return thought, said
			}
			t.state = says
		case thinks:
			inner, after, closed := strings.Cut(t.held, t.end)
			if !closed {
				n := len(t.held) - begins(t.held, t.end)
				show := strings.TrimRight(t.held[:n], blanks)
				t.held = t.held[len(show):]
				return thought + show, said
			}
			thought += strings.TrimRight(inner, blanks)
			t.state, t.held = hasThought, after
		case hasThought:
			t.held = strings.TrimLeft(t.held, blanks)
			if after, ok := strings.CutPrefix(t.held, moreThought); ok {
				t.state, t.end, t.held = thinks, "<|end|>", "\n"+after
				continue
			}
			if t.held == "" || strings.HasPrefix(moreThought, t.held) || t.answers(t.held) {
				return thought, said
			}
			t.state = says
		case says:
			said += t.held
			t.held = ""
			return thought, said
		}
	}
}

// answers takes the mark off that stands before what is said, and reports whether more of the text is needed to tell.
func (t *thoughts) answers(rest string) (waits bool) {
	for _, m := range answerMarks() { // those that begin others come behind them
		if after, ok := strings.CutPrefix(rest, m); ok && !waits {
			t.held = after
			return false
		}
		waits = waits || strings.HasPrefix(m, rest)
	}
	return waits
}

// close ends the text and returns what waited.
func (t *thoughts) close() (thought, said string) {
	held := t.held
	t.held = ""
	switch t.state {
	case thinks:
		return held, ""
	case hasThought:
		return "", ""
	}
	t.state = says
	return "", held
}

// begins is how many bytes at the end of a text may begin a mark.
func begins(text, mark string) int {
	for n := min(len(mark)-1, len(text)); n > 0; n-- {
		if strings.HasSuffix(text, mark[:n]) {
			return n
		}
	}
	return 0
}

// split takes a whole answer apart.
func splitThoughts(end, text string) (thought, said string) {
	t := newThoughts(end)
	thought, said = t.write(text)
	more, rest := t.close()
	return strings.Trim(thought+more, blanks), said + rest
}
