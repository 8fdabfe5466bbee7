package thinking

import "strings"

// thoughtMarks returns the opening and closing marks of thoughts of all families.
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

// answerMarks returns the marks that families write before the answer.
func answerMarks() []string {
	return []string{
		"<|start|>assistant<|channel|>final<|message|>", "<|channel|>final<|message|>", "<|open|>response<|sep|>",
		"<|start|>assistant<|channel|>commentary<|message|>", "<|channel|>commentary<|message|>", // what stands before a call
		"<|start|>assistant", // and what a call goes on from
	}
}

// moreThought is the mark that gpt-oss writes before a further thought.
const moreThought = "<|start|>assistant<|channel|>analysis<|message|>"

// CloseMark is the closing mark of the thought within which a prompt ends; "" where it ends within none.
func CloseMark(prompt string) string {
	prompt = strings.TrimRight(prompt, " \t\r\n")
	for _, m := range append(thoughtMarks(), apriel()) {
		if strings.HasSuffix(prompt, m[0]) {
			return m[1]
		}
	}
	return ""
}

// Blanks is the white space that is dropped around a thought.
const Blanks = " \t\r\n"

// Splitter splits an answer into thought and text while it is generated, piece by piece. A thought is the
// text at the beginning of an answer, between the marks of any family, or from the beginning on where the
// prompt ended within a thought. Where the text is cut into pieces makes no difference.
type Splitter struct {
	state   thoughtState
	end     string // of the thought
	pending string
}

type thoughtState uint8

const (
	mayThink   thoughtState = iota // nothing but blanks came
	thinks                         // between the marks
	hasThought                     // behind them, and nothing but blanks came
	says                           // the rest
)

// NewSplitter makes the Splitter of one answer. end is CloseMark's result for its prompt.
func NewSplitter(end string) *Splitter {
	t := &Splitter{end: end}
	if end != "" {
		t.state = thinks
	}
	return t
}

// Thinking reports whether what comes next is thought, as far as the text so far tells.
func (t *Splitter) Thinking() bool { return t.state == thinks }

// Write takes the next piece of the answer, and returns what of it and of earlier ones is now known to be
// thought or text. What may become a mark, and blanks around a thought, are returned later or dropped.
func (t *Splitter) Write(text string) (thought, said string) {
	t.pending += text
	for {
		switch t.state {
		case mayThink:
			rest := strings.TrimLeft(t.pending, Blanks)
			if rest == "" {
				return thought, said
			}
			waits := false
			for _, m := range thoughtMarks() {
				if after, ok := strings.CutPrefix(rest, m[0]); ok {
					t.state, t.end, t.pending = thinks, m[1], after
					break
				}
				if after, ok := strings.CutPrefix(rest, m[1]); ok { // of a thought that never began: there is none
					t.state, t.pending = hasThought, after
					break
				}
				waits = waits || strings.HasPrefix(m[0], rest) || strings.HasPrefix(m[1], rest)
			}
			if t.state != mayThink {
				continue
			}
			if waits || t.cutAnswerMark(rest) {
				return thought, said
			}
			t.state = says
		case thinks:
			inner, after, closed := strings.Cut(t.pending, t.end)
			if !closed {
				n := len(t.pending) - begins(t.pending, t.end)
				show := strings.TrimRight(t.pending[:n], Blanks)
				t.pending = t.pending[len(show):]
				return thought + show, said
			}
			thought += strings.TrimRight(inner, Blanks)
			t.state, t.pending = hasThought, after
		case hasThought:
			t.pending = strings.TrimLeft(t.pending, Blanks)
			if after, ok := strings.CutPrefix(t.pending, moreThought); ok {
				t.state, t.end, t.pending = thinks, "<|end|>", "\n"+after
				continue
			}
			if t.pending == "" || strings.HasPrefix(moreThought, t.pending) || t.cutAnswerMark(t.pending) {
				return thought, said
			}
			t.state = says
		case says:
			said += t.pending
			t.pending = ""
			return thought, said
		}
	}
}

// cutAnswerMark drops the mark that stands before the answer's text, and reports whether more of the text is
// needed to tell.
func (t *Splitter) cutAnswerMark(rest string) (waits bool) {
	for _, m := range answerMarks() { // those that begin others come behind them
		if after, ok := strings.CutPrefix(rest, m); ok && !waits {
			t.pending = after
			return false
		}
		waits = waits || strings.HasPrefix(m, rest)
	}
	return waits
}

// Close ends the answer and returns the rest.
func (t *Splitter) Close() (thought, said string) {
	held := t.pending
	t.pending = ""
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

// Split splits a whole answer.
func Split(end, text string) (thought, said string) {
	t := NewSplitter(end)
	thought, said = t.Write(text)
	more, rest := t.Close()
	return strings.Trim(thought+more, Blanks), said + rest
}
