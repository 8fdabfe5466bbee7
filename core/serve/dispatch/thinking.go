package dispatch

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"edged/core/protocol/backend"
	"edged/core/protocol/tokenizer"
	"edged/core/serve/dispatch/thinking"
)

// thinkingSetting lays what the request says over the defaults. A switch among its template variables counts
// where it says nothing else.
func (r *Request) thinkingSetting(d *Defaults) thinking.Setting {
	o := &r.Options
	w := thinking.Setting{Mode: o.Thinking, Budget: o.ThinkingBudget, Effort: o.Effort}
	w.Asked = w.Mode == ThinkingOn
	if w.Mode == "" {
		var vars map[string]json.RawMessage
		_ = json.Unmarshal(r.Vars, &vars) // what is none is refused elsewhere
		for _, name := range thinking.Variables() {
			switch string(vars[name]) {
			case "true":
				w.Mode = ThinkingOn
			case "false":
				w.Mode = ThinkingOff
			}
		}
	}
	if w.Mode == "" {
		w.Mode = d.Thinking
	}
	if w.Budget == 0 {
		w.Budget = d.ThinkingBudget
	}
	if w.Mode != ThinkingOn {
		w.Budget = 0
	}
	if o.AnswerAfter != "" { // the chain of thought takes the place of the family's own
		w = thinking.Setting{Mode: ThinkingOff, Budget: w.Budget, Effort: w.Effort}
	}
	return w
}

// think plans what the model thinks before it answers, behind the prompt that its template made: the prompt
// is made to end within a thought or behind one, and the backend is told how long it may be.
func (j *job) think(ctx context.Context, life TokenizerLife, w thinking.Setting, prompt string) error {
	template := life.Info.ChatTemplate
	f := thinking.MarksOf(template)
	held, calls := j.wholeConstrained(), j.req.offersTools()
	if mark := j.req.Options.AnswerAfter; mark != "" {
		return j.chain(ctx, life, w, mark)
	}
	switch {
	case w.Asked && !thinking.Supported(template):
		return fail(
			CodeUnsupported,
			"thinking: this model does not think: its chat template has neither marks of thoughts nor a switch for them",
		)
	case f == nil && w.Asked && j.req.Options.ThinkingBudget > 0:
		return fail(CodeUnsupported, "thinking: nobody knows how this model ends a thought, which a budget needs: ask for \"on\"")
	case f == nil && w.Asked && held:
		return fail(
			CodeUnsupported,
			"thinking: nobody knows how this model ends a thought, behind which an answer with a form would begin: ask for \"off\"",
		)
	case f == nil || w.Mode == "":
		return nil
	}
	t := &backend.Thinking{Open: f.Open, Close: f.Close, Again: f.Again, Begun: j.opened != ""}
	then := f.Then
	if calls {
		then = f.ThenCall
	}
	end := f.Close + then
	var behind string // of the prompt
	switch {
	case w.Mode == ThinkingOff && t.Begun:
		behind, t.Begun = end, false
	case w.Mode == ThinkingOff && f.Skip != "" && !calls && strings.HasSuffix(strings.TrimSpace(prompt), f.Again):
		behind = f.Skip
	case w.Mode == ThinkingOn && held && !t.Begun:
		behind, t.Begun = f.Begin, true
	}
	if behind != "" {
		ids, err := marks(ctx, life, behind, strings.HasPrefix(behind, f.Close))
		if err != nil {
			return err
		}
		j.prompt = append(slices.Clip(j.prompt), ids...)
		if j.opened = ""; t.Begun {
			j.opened = f.Close
		}
	}
	t.Never = w.Mode == ThinkingOff
	if w.Mode == ThinkingOn && (w.Budget > 0 || held) {
		var err error
		if t.CloseIDs, err = marks(ctx, life, end, true); err != nil {
			return err
		}
		if t.ThenIDs, err = marks(ctx, life, then, false); err != nil {
			return err
		}
		t.Budget = w.Budget
	}
	j.thinking = t
	return nil
}

// chain plans a chain of thought that a prompt asks for in its own words: all that comes before the mark is
// thought, on a model of any family.
func (j *job) chain(ctx context.Context, life TokenizerLife, w thinking.Setting, mark string) error {
	if j.opened != "" { // the family's own thought
		ids, err := marks(ctx, life, j.opened+"\n\n", true)
		if err != nil {
			return err
		}
		j.prompt = append(slices.Clip(j.prompt), ids...)
	}
	j.opened = mark
	j.thinking = &backend.Thinking{Open: mark, Close: mark, Begun: true, Must: true, Budget: w.Budget}
	var err error
	j.thinking.CloseIDs, err = marks(ctx, life, mark, true)
	return err
}

// wholeConstrained reports whether a grammar constrains the whole answer, as one of a demanded call does.
func (j *job) wholeConstrained() bool {
	text, _, err := j.req.Options.constraint()
	d, wrong := j.req.Options.toolChoice()
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
