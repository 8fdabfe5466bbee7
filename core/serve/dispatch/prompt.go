package dispatch

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"time"

	"edged/core/protocol"
	"edged/core/protocol/tokenizer"
	"edged/core/serve/dispatch/thinking"
	"edged/core/serve/languages"
)

// tokenizerTries is how many lives of the tokenizer a request may cost before it is taken for the reason.
const tokenizerTries = 3

// encode fills in the ids of a job's input and the grammar of its answers.
func (d *Dispatcher) encode(ctx context.Context, j *job) error {
	if len(j.req.IDs) > 0 {
		j.prompt = j.req.IDs
		return d.constrain(ctx, j)
	}
	if j.req.Kind == Rank || j.req.Kind == Embed || j.req.translates() {
		// How a text is read, and what is too long, depends on the model. Asked before the place at the
		// tokenizer is taken: it may have to be loaded first.
		life, err := j.lease.Backend(ctx, d.deadBackend(j))
		if why := ended(ctx, err); why != nil {
			return why
		}
		if err != nil {
			return asUnavailable(err)
		}
		j.model = life.Info
	}
	if err := d.tokenize(ctx, j); err != nil {
		return err
	}
	return d.constrain(ctx, j) // the place at the tokenizer is another's by now
}

// tokenize fills in the ids of a job's input when it is its turn.
func (d *Dispatcher) tokenize(ctx context.Context, j *job) error {
	if err := j.lane.encoding.Enter(ctx, j.key.Client); err != nil {
		return err
	}
	defer j.lane.encoding.Leave(j.key.Client)
	for try := 1; ; try++ {
		life, err := d.tokenizer(ctx, j)
		if err == nil {
			d.clock(j, true)
			err = j.encode(ctx, life, &d.o.Defaults)
			d.clock(j, false)
		}
		if why := ended(ctx, err); why != nil {
			return why
		}
		switch {
		case err == nil:
			if w, ok := j.lease.(Witness); ok {
				w.TokenizerAnswered()
			}
			return nil
		case !errors.Is(err, protocol.ErrPluginDied):
			return err
		}
		d.tokenizerDied(j, life.Life)
		if try == tokenizerTries {
			return fail(CodeQuarantined, "the tokenizer died %d times over this request, which is not tried again: %v", try, err)
		}
		d.log.WarnContext(ctx, "the tokenizer died under a request", "request_id", j.key.ID, "client", j.key.Client, "err", err)
	}
}

// clock says that a job's call of the tokenizer begins or has ended.
func (d *Dispatcher) clock(j *job, begins bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if begins {
		j.lane.encodes[j] = time.Now()
	} else {
		delete(j.lane.encodes, j)
	}
}

func (j *job) encode(ctx context.Context, life TokenizerLife, defaults *Defaults) error {
	w := j.req.thinkingSetting(defaults)
	switch {
	case j.req.Kind == Rank:
		return j.encodeRank(ctx, life)
	case j.req.Kind == Embed:
		return j.encodeTexts(ctx, life)
	case j.req.translates():
		in, err := languages.Encode(ctx, life.Tokenizer, &j.model, &life.Info, j.req.Prompt, j.req.Options.Source, j.req.Options.Target)
		j.prompt, j.first = in.IDs, in.First
		return err
	case j.req.Kind == Generate && !j.req.Raw && (len(j.req.Chat) > 0 || life.Info.ChatTemplate != ""):
		chat, err := j.chat(life.Info, w)
		if err != nil {
			return err
		}
		out, err := life.Tokenizer.EncodeChat(ctx, chat)
		if err == nil && len(out.IDs) == 0 {
			err = fail(CodeInvalidRequest, "messages: the chat template made no prompt of them")
		}
		j.prompt, j.borders, j.calls = out.IDs, out.Borders, out.Grammar
		j.splits, j.opened, j.thinking = true, thinking.CloseMark(out.Text), nil
		if err != nil {
			return err
		}
		return j.think(ctx, life, w, out.Text)
	case j.req.Kind == Generate && w.Asked:
		return fail(
			CodeUnsupported,
			"thinking: a prompt that no chat template writes asks for no thoughts: send messages, to a model that has a template",
		)
	default:
		lists, err := life.Tokenizer.Encode(ctx, []string{j.req.Prompt}, tokenizer.Flags{AddSpecial: true})
		if err != nil {
			return err
		}
		if len(lists) != 1 || len(lists[0]) == 0 {
			return fail(CodeInvalidRequest, "prompt: the tokenizer made no token of it")
		}
		j.prompt = lists[0]
		if mark := j.req.Options.AnswerAfter; mark != "" && j.req.Kind == Generate {
			j.splits, j.opened = true, ""
			return j.chain(ctx, life, w, mark)
		}
		return nil
	}
}

// chat is the conversation of a generation: its messages, or its prompt as the one message of a user.
func (j *job) chat(info tokenizer.Info, w thinking.Setting) (tokenizer.Chat, error) {
	c := tokenizer.Chat{Messages: j.req.Chat}
	if j.messages != nil {
		c.Messages = j.messages
	}
	if info.ChatTemplate == "" {
		return c, fail(CodeUnsupported, "messages: this model has no chat template; send a prompt instead")
	}
	if len(c.Messages) == 0 {
		text, err := json.Marshal([]map[string]string{{"role": "user", "content": j.req.Prompt}})
		if err != nil {
			return c, err
		}
		c.Messages = text
	}
	tools, err := j.req.offered()
	if err != nil {
		return c, err
	}
	c.Tools = tools
	vars, failed := withNow(w.AddTo(j.req.Vars, info.ChatTemplate), j.rec.Now)
	c.Variables = vars
	return c, failed
}

// withNow adds the time of admission to the template's variables, so that a template that prints the date
// prints the same at every attempt. The keys keep their order.
func withNow(vars json.RawMessage, now time.Time) (json.RawMessage, error) {
	var there map[string]json.RawMessage
	if len(vars) > 0 {
		if err := json.Unmarshal(vars, &there); err != nil {
			return nil, fail(CodeInvalidRequest, "template_vars: is not an object")
		}
	}
	if _, given := there["now"]; given {
		return vars, nil
	}
	out := []byte(`{"now":"` + now.Format(time.RFC3339) + `"`)
	if len(there) == 0 {
		return append(out, '}'), nil
	}
	return append(append(out, ','), bytes.TrimPrefix(bytes.TrimSpace(vars), []byte("{"))...), nil
}
