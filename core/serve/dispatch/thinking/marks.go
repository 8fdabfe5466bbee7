package thinking

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
)

// Whether a model thinks before it answers.
const (
	On  = "on"
	Off = "off"
)

// Marks are the texts with which a family's models begin and end a thought.
type Marks struct {
	Open, Close string // around a thought, as in backend.Thinking
	Again       string // what stands before a further thought, as in backend.Thinking; "": there is one at most
	Begin       string // what a prompt ends with, for the model to go on within a thought
	Then        string // what stands between the closing mark and the answer
	ThenCall    string // the same, where the answer may be a call
	// Skip is the text at the end of a prompt that makes the model answer without a thought or a call; "":
	// there is no such text, and only forbidding the opening mark keeps the model from thinking.
	Skip string
}

// MarksOf are the marks of the family that a chat template belongs to; nil where they are not known.
func MarksOf(template string) *Marks {
	if strings.Contains(template, "<|channel|>analysis") { // gpt-oss, whose answers are messages
		const final = "<|channel|>final<|message|>"
		return &Marks{
			Open: "<|channel|>analysis", Close: "<|end|>", Again: "<|start|>assistant", Begin: "<|channel|>analysis<|message|>",
			Then: "<|start|>assistant" + final, ThenCall: "<|start|>assistant", Skip: final,
		}
	}
	for _, m := range append(thoughtMarks(), apriel()) {
		if m[0] == moreChannel || !strings.Contains(template, m[0]) && !strings.Contains(template, m[1]) {
			continue
		}
		f := &Marks{Open: m[0], Close: m[1], Begin: m[0]}
		// Templates write line ends as \n within their texts.
		for _, blank := range []string{`\n`, "\n", `' ~ '\n`} {
			if strings.Contains(template, m[0]+blank) {
				f.Begin = m[0] + "\n"
			}
			if f.Then == "" && strings.Contains(template, m[1]+blank) {
				f.Then = "\n"
			}
			if strings.Contains(template, m[1]+blank+`\n`) || strings.Contains(template, m[1]+blank+"\n") {
				f.Then = "\n\n"
			}
		}
		f.ThenCall = f.Then
		return f
	}
	return nil
}

// moreChannel is the opening mark of gpt-oss, whose marks are built by themselves above.
const moreChannel = "<|channel|>analysis<|message|>"

// apriel are Apriel's marks. The opening one could stand in any answer, so it counts only at the end of a
// prompt, where the template wrote it.
func apriel() [2]string { return [2]string{"Here are my reasoning steps:", "[BEGIN FINAL RESPONSE]"} }

// Variables are the names of the template variables that switch thinking on and off.
func Variables() []string { return []string{"enable_thinking", "thinking"} }

// Setting is the thinking that a request or the node's configuration asks for.
type Setting struct {
	Mode   string // On, Off; "": as the template does it
	Budget int    // tokens; 0: any number
	Asked  bool   // the request itself asks for thoughts
	Effort string // a level that templates know; "": theirs
}

// AddTo adds to a request's template variables those by which the template is told whether to think, and how
// much. Variables that the request has already stay as they are.
func (w *Setting) AddTo(vars json.RawMessage, template string) json.RawMessage {
	if w.Mode == "" {
		return vars
	}
	var there map[string]json.RawMessage
	if len(vars) > 0 && json.Unmarshal(vars, &there) != nil {
		return vars // refused behind this
	}
	out := []byte{'{'}
	add := func(name, value string) {
		if _, given := there[name]; given {
			return
		}
		if len(out) > 1 {
			out = append(out, ',')
		}
		out = fmt.Appendf(out, "%q:%s", name, value)
	}
	for _, name := range Variables() {
		add(name, strconv.FormatBool(w.Mode == On))
	}
	if effort := w.effortFor(template); effort != "" && strings.Contains(template, "reasoning_effort") {
		add("reasoning_effort", `"`+effort+`"`)
	}
	if strings.Contains(template, "thinking_budget") && (w.Mode == Off || w.Budget > 0) {
		add("thinking_budget", strconv.Itoa(w.Budget))
	}
	switch {
	case len(out) == 1:
		return vars
	case len(there) == 0:
		return append(out, '}')
	}
	return append(append(out, ','), bytes.TrimPrefix(bytes.TrimSpace(vars), []byte("{"))...)
}

// effortFor is the effort as a template names it: one that it does not know would be written into its prompt as it is.
func (w *Setting) effortFor(template string) string {
	names := func(word string) bool {
		return strings.Contains(template, `"`+word+`"`) || strings.Contains(template, `'`+word+`'`)
	}
	switch {
	case w.Mode == Off && names("none"):
		return "none"
	case w.Mode == Off:
		return "low"
	case w.Effort == "minimal" && !names("minimal"):
		return "low"
	case w.Effort == "xhigh" && !names("xhigh"):
		return "high"
	}
	return w.Effort
}

// Supported reports whether a chat template is one of a model that thinks: it has marks that are known, or a variable that switches
// thinking.
func Supported(template string) bool {
	if MarksOf(template) != nil {
		return true
	}
	for _, name := range append(Variables(), "reasoning_effort") {
		if strings.Contains(template, name) {
			return true
		}
	}
	return false
}
