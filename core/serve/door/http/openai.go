package http

import (
	"math"
	"net/http"
	"slices"
	"strings"
	"time"

	"edged/core/serve/dispatch"
	"edged/core/serve/door/fields"
)

// asked is a request in OpenAI's form, read.
type asked struct {
	req     *dispatch.Request
	model   Model
	name    string // of the model, as it was asked for
	stream  bool
	usage   bool // a stream ends with a chunk of usage
	single  bool // no more than one call an answer
	id      string
	created int64
}

// draft is a request while its fields are read.
type draft struct {
	asked

	given  map[string]bool
	preset fields.PromptAsk
	still  bool // the model is not to think, whatever else is said
	looks  bool // the model is only looked at, or loaded, and not asked
}

func newDraft(kind dispatch.Kind, prefix string) *draft {
	return &draft{
		asked: asked{req: &dispatch.Request{Kind: kind}, id: newID(prefix), created: time.Now().Unix()},
		given: map[string]bool{},
	}
}

// read reads a body field by field. A null is a field that is not there: so clients write what they leave out.
func (d *draft) read(body []byte, field func(key string, raw []byte) (known bool, err *fields.Error)) *fields.Error {
	if err := fields.Check(body); err != nil {
		return err
	}
	return fields.Object(body, func(key string, raw []byte) *fields.Error {
		if isNull(raw) {
			return nil
		}
		d.given[key] = true
		known, err := field(key, raw)
		switch {
		case err != nil:
			return err.In(key)
		case !known:
			return fields.Bad(clip(key), "is not a field that this node can serve")
		}
		return nil
	})
}

func isNull(raw []byte) bool { return string(raw) == "null" }

// resolve finds the model, and gives the request what follows from it.
func (d *draft) resolve(door *Door) *dispatch.Error {
	m, err := door.find(d.name)
	if err != nil {
		return err
	}
	d.model = m
	m.use(d.req)
	if d.looks {
		return nil
	}
	return m.fits(d.req.Kind)
}

// silent are fields that say nothing about the answer: who asks, how it is billed, and what is kept where
// nothing is kept. Their values are not looked at.
var silent = []string{ //nolint:gochecknoglobals // a table
	"user", "safety_identifier", "prompt_cache_key", "prompt_cache_retention", "metadata", "service_tier", "cache_prompt",
}

// common reads the fields that all generations have in OpenAI's form.
func (d *draft) common(key string, raw []byte) (known bool, err *fields.Error) {
	if slices.Contains(silent, key) {
		return true, nil
	}
	switch key {
	case "model":
		d.name, err = fields.Text(raw, maxName)
	case "stream":
		d.stream, err = fields.Bool(raw)
		d.req.Stream = d.stream
	case "stream_options":
		err = d.streamOptions(raw)
	case "max_tokens", "max_completion_tokens", "max_output_tokens":
		if raw[0] == '-' { // "as many as there are", for some
			_, err = fields.Int(raw, -2, -1)
			return true, err
		}
		return fields.Option(&d.req.Options, "max_tokens", raw)
	case "seed":
		if raw[0] == '-' { // "any", for some
			_, err = fields.Int(raw, math.MinInt32, -1)
			return true, err
		}
		return fields.Option(&d.req.Options, key, raw)
	case "stop":
		if string(raw) == `""` { // "none", for some
			return true, nil
		}
		return fields.Option(&d.req.Options, key, raw)
	case "repetition_penalty":
		return fields.Option(&d.req.Options, "repeat_penalty", raw)
	case "stop_token_ids":
		return fields.Option(&d.req.Options, "stop_ids", raw)
	case "store":
		var on bool
		if on, err = fields.Bool(raw); on {
			err = fields.Bad("", "nothing is stored here")
		}
	case "adapter":
		d.req.Adapters, err = fields.Adapters(raw)
	case "deadline_ms":
		var n int64
		n, err = fields.Int(raw, 1, dispatch.MaxWait.Milliseconds())
		d.req.Deadline = time.Duration(n) * time.Millisecond
	case "priority":
		var n int64
		n, err = fields.Int(raw, dispatch.MinPriority, dispatch.MaxPriority)
		d.req.Priority = int(n)
	default:
		return fields.Option(&d.req.Options, key, raw)
	}
	return true, err
}

// maxName bounds the name of a model in a request.
const maxName = 256

func (d *draft) streamOptions(raw []byte) *fields.Error {
	return fields.Object(raw, func(key string, raw []byte) (err *fields.Error) {
		if isNull(raw) {
			return nil
		}
		switch key {
		case "include_usage":
			d.usage, err = fields.Bool(raw)
		case "include_obfuscation": // padding against who measures lengths: there is none
			_, err = fields.Bool(raw)
		default:
			return fields.Bad(clip(key), "is not a field of stream_options")
		}
		if err != nil {
			return err.In(key)
		}
		return nil
	})
}

// conversation reads the fields of a conversation that is not one of Ollama's.
func (d *draft) conversation(key string, raw []byte) (known bool, err *fields.Error) {
	switch key {
	case "messages":
		var clean []byte
		if clean, err = messages(raw, false); err == nil {
			d.req.Chat, err = fields.Messages(clean)
		}
	case "tools":
		d.req.Tools, err = tools(raw)
	case "parallel_tool_calls":
		var on bool
		on, err = fields.Bool(raw)
		d.single = !on
	case "template_vars", "chat_template_kwargs":
		d.req.Vars, err = fields.Vars(raw)
	case "modalities":
		var list []string
		if list, err = fields.Texts(raw, 8, 0, 64); err == nil && !slices.Equal(list, []string{"text"}) {
			err = fields.Bad("", "only [\"text\"] is served")
		}
	default:
		if known, err := d.thinkingField(key, raw); known {
			return true, err
		}
		if known, err := d.preset.Field(key, raw); known {
			return true, err
		}
		return d.common(key, raw)
	}
	return true, err
}

// chatBody reads the body of a chat completion.
func (d *Door) chatBody(body []byte) (*asked, *dispatch.Error) {
	dr := newDraft(dispatch.Generate, "chatcmpl-")
	err := dr.read(body, dr.conversation)
	o := &dr.req.Options
	switch {
	case err != nil:
	case len(dr.req.Chat) == 0 && dr.preset.Name == "":
		err = fields.Bad("messages", "is missing")
	case o.TopLogprobs > 0 && !o.Logprobs:
		err = fields.Bad("top_logprobs", "needs logprobs to be true")
	case dr.given["max_tokens"] && dr.given["max_completion_tokens"]:
		err = fields.Bad("max_completion_tokens", "cannot stand beside max_tokens")
	}
	if err != nil {
		return nil, invalid(err)
	}
	dr.req.Pieces = o.Logprobs
	dr.settleThinking()
	if err := dr.preset.Fill(d.o.Prompts, dr.req); err != nil {
		return nil, invalid(err)
	}
	dropDefaults(dr.req)
	if err := dr.resolve(d); err != nil {
		return nil, err
	}
	return &dr.asked, nil
}

// dropDefaults forgets what says in words what is so anyway: clients send "auto" without tools, and a format that is text.
func dropDefaults(req *dispatch.Request) {
	if c := string(req.Options.ToolChoice); c == `"auto"` || c == `"none"` && len(req.Tools) == 0 {
		req.Options.ToolChoice = nil
	}
	if len(req.Options.ResponseFormat) > 0 {
		_ = fields.Object(req.Options.ResponseFormat, func(key string, raw []byte) *fields.Error {
			if key == "type" && string(raw) == `"text"` {
				req.Options.ResponseFormat = nil
			}
			return nil
		})
	}
}

// mayCall tells whether the answer may be a tool call: tools are shown, and no form holds the answer to something else.
func mayCall(req *dispatch.Request) bool {
	o := &req.Options
	return len(req.Tools) > 0 && len(o.ResponseFormat) == 0 && o.Grammar == "" && string(o.ToolChoice) != `"none"`
}

// completionBody reads the body of a completion of a text as it is.
func (d *Door) completionBody(body []byte) (*asked, *dispatch.Error) {
	dr := newDraft(dispatch.Generate, "cmpl-")
	dr.req.Raw = true
	o := &dr.req.Options
	err := dr.read(body, func(key string, raw []byte) (known bool, err *fields.Error) {
		switch key {
		case "prompt":
			err = dr.prompt(raw)
		case "logprobs":
			if raw[0] == 't' || raw[0] == 'f' {
				return fields.Option(o, key, raw)
			}
			var n int64
			n, err = fields.Int(raw, 0, 20)
			o.Logprobs, o.TopLogprobs = true, int(n)
		case "echo":
			var on bool
			if on, err = fields.Bool(raw); on {
				err = fields.Bad("", "the prompt is not sent back")
			}
		case "suffix":
			var text string
			if text, err = fields.Text(raw, math.MaxInt32); text != "" {
				err = fields.Bad("", "what follows a gap cannot be served")
			}
		case "tool_choice":
			return false, nil
		default:
			return dr.common(key, raw)
		}
		return true, err
	})
	if err == nil && !dr.given["prompt"] {
		err = fields.Bad("prompt", "is missing")
	}
	if err != nil {
		return nil, invalid(err)
	}
	dr.req.Pieces = o.Logprobs
	dr.settleThinking()
	if err := dr.resolve(d); err != nil {
		return nil, err
	}
	return &dr.asked, nil
}

// prompt reads a text, token ids, or a list of one of them.
func (d *draft) prompt(raw []byte) *fields.Error {
	if raw[0] == '[' {
		n := 0
		var first []byte
		if err := fields.Array(raw, func(i int, raw []byte) *fields.Error {
			if i == 0 {
				first = raw
			}
			n++
			return nil
		}); err != nil {
			return err
		}
		switch {
		case n == 0:
			return fields.Bad("", "is empty")
		case first[0] != '"' && first[0] != '[': // ids
			ids, err := fields.IDs(raw, dispatch.MaxIDs)
			d.req.IDs, d.req.Raw = ids, false
			return err
		case n > 1:
			return fields.Bad("", "holds %d prompts, and a request has one: send the others beside it", n)
		case first[0] == '[':
			ids, err := fields.IDs(first, dispatch.MaxIDs)
			d.req.IDs, d.req.Raw = ids, false
			if err == nil && len(ids) == 0 {
				err = fields.Bad("", "is empty")
			}
			return err
		}
		raw = first
	}
	text, err := fields.Text(raw, math.MaxInt32)
	if err == nil && text == "" {
		err = fields.Bad("", "is empty")
	}
	d.req.Prompt = text
	return err
}

// tools reads tools in OpenAI's form.
func tools(raw []byte) ([]byte, *fields.Error) {
	err := fields.Array(raw, func(_ int, raw []byte) *fields.Error {
		kind, function := "function", false
		if err := fields.Object(raw, func(key string, raw []byte) (err *fields.Error) {
			switch key {
			case "type":
				kind, err = fields.Text(raw, 256)
			case "function":
				function = true
				_, err = fields.AnyObject(raw)
			}
			if err != nil {
				return err.In(key)
			}
			return nil
		}); err != nil {
			return err
		}
		switch {
		case kind != "function":
			return fields.Bad("type", "%q is not served, only \"function\"", clip(kind))
		case !function:
			return fields.Bad("function", "is missing")
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return fields.Tools(raw)
}

// jsonOf encodes a text.
func jsonOf(s string) []byte {
	data, err := fields.Encode(s)
	if err != nil {
		return []byte(`""`) // a text can always be encoded
	}
	return data
}

// post reads a body and gives it to what reads it. nil: it was refused.
func post[T any](d *Door, w http.ResponseWriter, r *http.Request, f form, read func([]byte) (*T, *dispatch.Error)) *T {
	body := d.body(w, r, f)
	if body == nil {
		return nil
	}
	v, err := read(body)
	if err != nil {
		refuseError(w, f, err)
		return nil
	}
	return v
}

// isEmptyList tells a list of nothing.
func isEmptyList(raw []byte) bool {
	return raw[0] == '[' && strings.TrimSpace(string(raw[1:len(raw)-1])) == ""
}
