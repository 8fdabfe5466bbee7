package dispatch

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"edged/core/protocol/backend"
	"edged/core/protocol/tokenizer"
)

// thoughtForm is how a family writes thoughts.
type thoughtForm struct {
	open, close string // as backend.Thinking has them
	again       string
	begin       string // put behind a prompt that is to end within a thought
	then        string // what stands between the closing mark and the answer
	calls       string // likewise, where the answer may be a call
	skip        string // put behind a prompt where nothing is to be thought and nothing called; "": the mark is kept from being drawn
}

// thoughtFormOf is the form of the family that a chat template belongs to; nil: its thoughts are not known.
func thoughtFormOf(template string) *thoughtForm {
	if strings.Contains(template, "<|channel|>analysis") { // gpt-oss, whose answers are messages
		const final = "<|channel|>final<|message|>"
		return &thoughtForm{
			open: "<|channel|>analysis", close: "<|end|>", again: "<|start|>assistant", begin: "<|channel|>analysis<|message|>",
			then: "<|start|>assistant" + final, calls: "<|start|>assistant", skip: final,
		}
	}
	for _, m := range append(thoughtMarks(), apriel()) {
		if m[0] == moreChannel || !strings.Contains(template, m[0]) && !strings.Contains(template, m[1]) {
			continue
		}
		f := &thoughtForm{open: m[0], close: m[1], begin: m[0]}
		// Templates write line ends as \n within their texts.
		for _, blank := range []string{`\n`, "\n", `' ~ '\n`} {
			if strings.Contains(template, m[0]+blank) {
				f.begin = m[0] + "\n"
			}
			if f.then == "" && strings.Contains(template, m[1]+blank) {
				f.then = "\n"
			}
			if strings.Contains(template, m[1]+blank+`\n`) || strings.Contains(template, m[1]+blank+"\n") {
				f.then = "\n\n"
			}
		}
		f.calls = f.then
		return f
	}
	return nil
}

// moreChannel is the mark of gpt-oss, whose form is its own.
const moreChannel = "<|channel|>analysis<|message|>"

// apriel's mark begins like any text, so that only what its template wrote tells it.
func apriel() [2]string { return [2]string{"Here are my reasoning steps:", "[BEGIN FINAL RESPONSE]"} }

// thinkVariables are the switches that templates have.
func thinkVariables() []string { return []string{"enable_thinking", "thinking"} }

// wish is what a request, or the node's settings, say about thinking.
type wish struct {
	mode   string // ThinkingOn, ThinkingOff; "": as the template does it
	budget int    // tokens; 0: any number
	asked  bool   // the request itself asks for thoughts
	effort string // a level that templates know; "": theirs
}

// wish lays what the request says over the defaults. A switch among its template variables counts where it says nothing else.
func (r *Request) wish(d *Defaults) wish {
	o := &r.Options
	w := wish{mode: o.Thinking, budget: o.ThinkingBudget, effort: o.Effort}
	w.asked = w.mode == ThinkingOn
	if w.mode == "" {
		var vars map[string]json.RawMessage
		_ = json.Unmarshal(r.Vars, &vars) // what is none is refused elsewhere
		for _, name := range thinkVariables() {
			switch string(vars[name]) {
			case "true":
				w.mode = ThinkingOn
			case "false":
				w.mode = ThinkingOff
			}
		}
	}
	if w.mode == "" {
		w.mode = d.Thinking
	}
	if w.budget == 0 {
		w.budget = d.ThinkingBudget
	}
	if w.mode != ThinkingOn {
		w.budget = 0
	}
	if o.AnswerAfter != "" { // the chain of thought takes the place of the family's own
		w = wish{mode: ThinkingOff, budget: w.budget, effort: w.effort}
	}
	return w
}

// variables adds the variables that a template asks for whether, and how much, to think. What the request says itself stays.
func (w *wish) variables(vars json.RawMessage, template string) json.RawMessage {
	if w.mode == "" {
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
	for _, name := range thinkVariables() {
		add(name, strconv.FormatBool(w.mode == ThinkingOn))
	}
	if effort := w.level(template); effort != "" && strings.Contains(template, "reasoning_effort") {
		add("reasoning_effort", `"`+effort+`"`)
	}
	if strings.Contains(template, "thinking_budget") && (w.mode == ThinkingOff || w.budget > 0) {
		add("thinking_budget", strconv.Itoa(w.budget))
	}
	switch {
	case len(out) == 1:
		return vars
	case len(there) == 0:
		return append(out, '}')
	}
	return append(append(out, ','), bytes.TrimPrefix(bytes.TrimSpace(vars), []byte("{"))...)
}

// level is the effort as a template names it: one that it does not know would be written into its prompt as it is.
func (w *wish) level(template string) string {
	names := func(word string) bool {
		return strings.Contains(template, `"`+word+`"`) || strings.Contains(template, `'`+word+`'`)
	}
	switch {
	case w.mode == ThinkingOff && names("none"):
		return "none"
	case w.mode == ThinkingOff:
		return "low"
	case w.effort == "minimal" && !names("minimal"):
		return "low"
	case w.effort == "xhigh" && !names("xhigh"):
		return "high"
	}
	return w.effort
}

// canThink tells whether a template lets a model think: it has marks that are known, or a switch.
func canThink(template string) bool {
	if thoughtFormOf(template) != nil {
		return true
	}
	for _, name := range append(thinkVariables(), "reasoning_effort") {
		if strings.Contains(template, name) {
			return true
		}
	}
	return false
}

// think plans what the model thinks before it answers, behind the prompt that its template made: the prompt is made to end
// within a thought or behind one, and the backend is told what to hold. held: the whole answer has a form.
func (j *job) think(ctx context.Context, life TokenizerLife, w wish, prompt string) error {
	template := life.Info.ChatTemplate
	f := thoughtFormOf(template)
	held, calls := j.heldWhole(), j.req.offersTools()
	if mark := j.req.Options.AnswerAfter; mark != "" {
		return j.chain(ctx, life, w, mark)
	}
	switch {
	case w.asked && !canThink(template):
		return fail(CodeUnsupported, "thinking: this model does not think: its chat template has neither marks of thoughts nor a switch for them")
	case f == nil && w.asked && j.req.Options.ThinkingBudget > 0:
		return fail(CodeUnsupported, "thinking: nobody knows how this model ends a thought, which a budget needs: ask for \"on\"")
	case f == nil && w.asked && held:
		return fail(CodeUnsupported, "thinking: nobody knows how this model ends a thought, behind which an answer with a form would begin: ask for \"off\"")
	case f == nil || w.mode == "":
		return nil
	}
	t := &backend.Thinking{Open: f.open, Close: f.close, Again: f.again, Begun: j.opened != ""}
	then := f.then
	if calls {
		then = f.calls
	}
	end := f.close + then
	var behind string // of the prompt
	switch {
	case w.mode == ThinkingOff && t.Begun:
		behind, t.Begun = end, false
	case w.mode == ThinkingOff && f.skip != "" && !calls && strings.HasSuffix(strings.TrimSpace(prompt), f.again):
		behind = f.skip
	case w.mode == ThinkingOn && held && !t.Begun:
		behind, t.Begun = f.begin, true
	}
	if behind != "" {
		ids, err := marks(ctx, life, behind, strings.HasPrefix(behind, f.close))
		if err != nil {
			return err
		}
		j.prompt = append(slices.Clip(j.prompt), ids...)
		if j.opened = ""; t.Begun {
			j.opened = f.close
		}
	}
	t.Never = w.mode == ThinkingOff
	if w.mode == ThinkingOn && (w.budget > 0 || held) {
		var err error
		if t.CloseIDs, err = marks(ctx, life, end, true); err != nil {
			return err
		}
		if t.ThenIDs, err = marks(ctx, life, then, false); err != nil {
			return err
		}
		t.Budget = w.budget
	}
	j.thinking = t
	return nil
}

// chain plans a chain of thought that a prompt asks for in its own words: all that comes before the mark is thought, on a model
// of any family.
func (j *job) chain(ctx context.Context, life TokenizerLife, w wish, mark string) error {
	if j.opened != "" { // the family's own thought
		ids, err := marks(ctx, life, j.opened+"\n\n", true)
		if err != nil {
			return err
		}
		j.prompt = append(slices.Clip(j.prompt), ids...)
	}
	j.opened = mark
	j.thinking = &backend.Thinking{Open: mark, Close: mark, Begun: true, Must: true, Budget: w.budget}
	var err error
	j.thinking.CloseIDs, err = marks(ctx, life, mark, true)
	return err
}

// heldWhole tells whether a form holds the whole answer, or a call is demanded, which is one.
func (j *job) heldWhole() bool {
	text, _, err := j.req.Options.form()
	d, wrong := j.req.Options.demand()
	return err == nil && wrong == nil && (text != "" || d.call)
}

// marks are the ids of a text that stands around a thought, as a template would have written it. With line it stands on
// a line of its own, unless the tokenizer puts something before a line end.
func marks(ctx context.Context, life TokenizerLife, text string, line bool) ([]int32, error) {
	if text == "" {
		return nil, nil
	}
	flags := tokenizer.Flags{ParseSpecial: true}
	for _, try := range []string{"\n" + text, text} {
		if !line && try != text {
			continue
		}
		lists, err := life.Tokenizer.Encode(ctx, []string{try}, flags)
		if err != nil {
			return nil, err
		}
		if len(lists) != 1 {
			return nil, fmt.Errorf("dispatch: the tokenizer gave %d lists for one text", len(lists))
		}
		if try == text {
			return lists[0], nil
		}
		if back, err := life.Tokenizer.Decode(ctx, lists[0], true); err == nil && string(back) == try {
			return lists[0], nil
		}
	}
	return nil, nil
}
