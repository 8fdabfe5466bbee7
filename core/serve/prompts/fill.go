package prompts

import (
	"bytes"
	"encoding/json"
	"reflect"
	"slices"
	"strings"

	"edged/core/serve/dispatch"
	"edged/core/serve/door/fields"
)

// input is the variable that a request's plain prompt fills.
const input = "input"

// message is one that a preset makes.
type message struct {
	Role      string `json:"role"`
	Content   string `json:"content"`
	Reasoning string `json:"reasoning_content,omitempty"`
}

// values reads what a request fills variables with: texts, numbers and truths.
func (p *Preset) values(raw []byte) (map[string]string, *fields.Error) {
	values := map[string]string{}
	if len(raw) == 0 {
		return values, nil
	}
	err := fields.Object(raw, func(key string, raw []byte) *fields.Error {
		if !slices.ContainsFunc(p.Variables, func(v Variable) bool { return v.Name == key }) {
			return fields.Bad(fields.Short(key), "is no variable of this prompt, which has: %s", p.names())
		}
		switch {
		case raw[0] == '"':
			values[key] = fields.Unquote(raw)
		case raw[0] == '{' || raw[0] == '[' || string(raw) == "null":
			return fields.Bad(key, "wants a text, not %s", fields.KindOf(raw))
		default:
			values[key] = string(raw)
		}
		return nil
	})
	if err != nil {
		return nil, err.In("prompt_vars")
	}
	return values, nil
}

func (p *Preset) names() string {
	if len(p.Variables) == 0 {
		return "none"
	}
	names := make([]string, len(p.Variables))
	for i, v := range p.Variables {
		names[i] = v.Name
	}
	return strings.Join(names, ", ")
}

// Fill makes a request one that asks what the preset asks. vars is an object of its variables. What the
// request says itself wins: its messages, or its prompt where no variable "input" takes that, stand in the
// place of the preset's question, and its options and adapters in the place of the preset's.
func (p *Preset) Fill(req *dispatch.Request, vars []byte) *fields.Error {
	if req.Kind != dispatch.Generate || req.Raw || len(req.IDs) > 0 {
		return fields.Bad("prompt_name", "is for conversations")
	}
	if req.Options.Source != "" || req.Options.Target != "" {
		return fields.Bad(
			"prompt_name",
			"makes a conversation, and only a plain prompt is translated: leave it out, or source_lang and target_lang",
		)
	}
	values, err := p.values(vars)
	if err != nil {
		return err
	}
	if _, given := values[input]; !given && req.Prompt != "" &&
		slices.ContainsFunc(p.Variables, func(v Variable) bool { return v.Name == input }) {
		values[input], req.Prompt = req.Prompt, ""
	}
	missing := func(name string) *fields.Error {
		return fields.Bad("prompt_vars", "%s is missing; the prompt's variables are: %s", name, p.names())
	}
	var out []any
	size := 0
	add := func(m message) {
		size += len(m.Content) + len(m.Reasoning)
		out = append(out, m)
	}
	asked, system, err := requestMessages(req)
	if err != nil {
		return err
	}
	if p.system != nil {
		text, lacks := p.fill(p.system, values)
		if lacks != "" {
			return missing(lacks)
		}
		if system != "" { // two system messages are one too many for some templates
			text += "\n\n" + system
		}
		system = text
	}
	if system != "" {
		add(message{Role: "system", Content: system})
	}
	for _, e := range p.examples {
		add(message{Role: "user", Content: e.user})
		m := message{Role: "assistant", Content: e.answer, Reasoning: e.reasoning}
		if mark := p.options.AnswerAfter; mark != "" {
			m.Content, m.Reasoning = strings.TrimLeft(e.reasoning+"\n"+mark+" "+e.answer, "\n"), ""
		}
		add(m)
	}
	switch {
	case len(asked) > 0:
		for _, m := range asked {
			size += len(m)
			out = append(out, m)
		}
	case p.user == nil:
		return fields.Bad("messages", "is missing: this prompt has no question of its own")
	default:
		text, lacks := p.fill(p.user, values)
		if lacks != "" {
			return missing(lacks)
		}
		add(message{Role: "user", Content: text})
	}
	if size > maxFilled {
		return fields.Bad("prompt_vars", "the filled prompt has more than %d bytes", maxFilled)
	}
	var chat bytes.Buffer
	enc := json.NewEncoder(&chat)
	enc.SetEscapeHTML(false)
	if enc.Encode(out) != nil { // texts and JSON that was read: cannot happen
		return fields.Bad("prompt_vars", "cannot be written as messages")
	}
	req.Chat, req.Prompt = bytes.TrimSpace(chat.Bytes()), ""
	p.lay(&req.Options)
	if req.Adapters == nil && p.adapters != nil {
		req.Adapters = slices.Clone(p.adapters)
	}
	return nil
}

// requestMessages are those of the request itself, and the text of a system message at their beginning apart.
func requestMessages(req *dispatch.Request) (asked []json.RawMessage, system string, err *fields.Error) {
	if req.Prompt != "" {
		text, err := fields.Encode(req.Prompt)
		if err != nil {
			return nil, "", fields.Bad("prompt", "cannot be written as a message")
		}
		return []json.RawMessage{json.RawMessage(`{"role":"user","content":` + string(text) + `}`)}, "", nil
	}
	if len(req.Chat) == 0 {
		return nil, "", nil
	}
	if json.Unmarshal(req.Chat, &asked) != nil {
		return nil, "", fields.Bad("messages", "is not a list of messages")
	}
	var first struct{ Role, Content string }
	if len(asked) > 0 && json.Unmarshal(asked[0], &first) == nil && first.Role == "system" {
		return asked[1:], first.Content, nil
	}
	return asked, "", nil
}

// lay puts the preset's options where a request says nothing. What one of them says of the answer's form, of
// its thoughts or of choices, it says whole.
func (p *Preset) lay(o *dispatch.Options) {
	from := p.options
	if len(o.ResponseFormat) > 0 || o.Grammar != "" {
		from.ResponseFormat, from.Grammar = nil, ""
	}
	if o.Thinking != "" {
		from.Thinking, from.ThinkingBudget, from.Effort = "", 0, ""
	}
	if o.N > 0 || o.BestOf > 0 {
		from.N, from.BestOf = 0, 0
	}
	to, given := reflect.ValueOf(o).Elem(), reflect.ValueOf(from)
	for i := range to.NumField() {
		if to.Field(i).IsZero() {
			to.Field(i).Set(given.Field(i))
		}
	}
}
