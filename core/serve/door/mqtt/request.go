package mqtt

import (
	"crypto/sha256"
	"encoding/binary"
	"math"
	"slices"
	"time"

	"edged/core/config"
	"edged/core/serve/dispatch"
)

// Bounds of what a request may hold, beside mqtt.max_payload. docs/mqtt.md lists them.
const (
	maxMessages  = 1024
	maxParts     = 256
	maxTools     = 128
	maxToolCalls = 64
	maxAdapters  = 8
	maxStops     = 16
	maxStopBytes = 1024
	maxStopIDs   = 256
	maxLogitBias = 1024
	maxChoices   = 16
	maxTop       = 20
	maxGrammar   = 64 << 10
	maxInputs    = 256
	maxIDs       = 1 << 16
	maxDeadline  = 7 * 24 * time.Hour
)

// limits are the settings that the parser needs.
type limits struct {
	replyToAllow []string
}

// problem is a request that was not taken: what is said, and where.
type problem struct {
	err   *dispatch.Error
	id    string // "": none that can be used
	reply string // response topic; "": the errors topic
}

// draft is a request while its fields are read.
type draft struct {
	req     *dispatch.Request
	id      string
	replyTo string
	given   map[string]bool
}

// parseRequest turns the payload of a request, an embed or a score into a Request. Its problem names the field, and the
// response topic if the id could be read.
func (t Topics) parseRequest(in input, topic string, payload []byte, l limits) (*dispatch.Request, *problem) {
	d := &draft{req: &dispatch.Request{Door: DoorName, Client: in.name, Kind: kindOfLevel(in.level)}, given: map[string]bool{}}
	err := checkJSON(payload)
	if err == nil {
		// First the id: with it, everything that is wrong with the rest can be said where the client listens.
		d.findID(payload)
		err = object(payload, d.field)
	}
	if err == nil {
		err = d.complete()
	}
	if err == nil && d.replyTo != "" {
		if why := replyTo(d.replyTo, l.replyToAllow); why != "" {
			err = bad("reply_to", "%s", why)
		}
	}
	if err != nil {
		p := &problem{err: &dispatch.Error{Code: dispatch.CodeInvalidRequest, Message: err.Error()}, id: d.id}
		if d.id != "" {
			p.reply = t.response(in.group, in.name, d.id)
		}
		return nil, p
	}
	d.req.ID = d.id
	d.req.Hash = hashOf(topic, payload)
	d.req.Reply = d.replyTo
	if d.replyTo == "" {
		d.req.Reply = t.response(in.group, in.name, d.id)
	}
	return d.req, nil
}

// hashOf is what makes a repeat a repeat: the same bytes on the same topic.
func hashOf(topic string, payload []byte) [32]byte {
	h := sha256.New()
	h.Write(binary.BigEndian.AppendUint32(nil, uint32(len(topic)))) //nolint:gosec // a topic has at most 65535 bytes
	h.Write([]byte(topic))
	h.Write(payload)
	return [32]byte(h.Sum(nil))
}

func kindOfLevel(level string) dispatch.Kind {
	switch level {
	case levelEmbed:
		return dispatch.Embed
	case levelScore:
		return dispatch.Score
	}
	return dispatch.Generate
}

// findID reads the id alone, if it can be used.
func (d *draft) findID(payload []byte) {
	_ = object(payload, func(key string, raw []byte) *fieldError {
		if key == "id" && raw[0] == '"' {
			if id := unquote(raw); config.ValidName(id) {
				d.id = id
			}
		}
		return nil
	})
}

// field reads one field.
func (d *draft) field(key string, raw []byte) *fieldError {
	d.given[key] = true
	var known bool
	var err *fieldError
	switch d.req.Kind {
	case dispatch.Embed:
		known, err = d.embedField(key, raw)
	case dispatch.Score:
		known, err = d.scoreField(key, raw)
	default:
		known, err = d.generateField(key, raw)
		if !known {
			known, err = d.optionField(key, raw)
		}
	}
	if !known {
		known, err = d.commonField(key, raw)
	}
	if !known {
		return bad(short(key), "is not a field of this request")
	}
	if err != nil {
		return err.in(key)
	}
	return nil
}

// commonField reads what every kind of request has.
func (d *draft) commonField(key string, raw []byte) (known bool, err *fieldError) {
	switch key {
	case "id":
		if _, err = textField(raw, math.MaxInt32); err == nil && d.id == "" {
			err = bad("", "must match [A-Za-z0-9._-]{1,64}")
		}
	case "adapter":
		d.req.Adapters, err = adapterField(raw)
	case "deadline_ms":
		var n int64
		n, err = intField(raw, 1, maxDeadline.Milliseconds())
		d.req.Deadline = time.Duration(n) * time.Millisecond
	case "priority":
		var n int64
		n, err = intField(raw, dispatch.MinPriority, dispatch.MaxPriority)
		d.req.Priority = int(n)
	case "reply_to":
		d.replyTo, err = textField(raw, math.MaxInt32)
		if err == nil && d.replyTo == "" {
			err = bad("", "is empty")
		}
	default:
		return false, nil
	}
	return true, err
}

// embedField reads what an embed has: texts.
func (d *draft) embedField(key string, raw []byte) (known bool, err *fieldError) {
	if key != "input" {
		return false, nil
	}
	d.req.Texts, err = textsField(raw, maxInputs, 1, math.MaxInt32)
	if err == nil && len(d.req.Texts) == 0 {
		err = bad("", "holds no text")
	}
	return true, err
}

// scoreField reads what a score has: a text or token ids.
func (d *draft) scoreField(key string, raw []byte) (known bool, err *fieldError) {
	switch key {
	case "prompt":
		d.req.Prompt, err = promptField(raw)
	case "ids":
		d.req.IDs, err = idsField(raw, maxIDs)
		if err == nil && len(d.req.IDs) == 0 {
			err = bad("", "holds no token")
		}
	default:
		return false, nil
	}
	return true, err
}

func promptField(raw []byte) (string, *fieldError) {
	s, err := textField(raw, math.MaxInt32)
	if err == nil && s == "" {
		err = bad("", "is empty")
	}
	return s, err
}

// generateField reads what a generation is asked about.
func (d *draft) generateField(key string, raw []byte) (known bool, err *fieldError) {
	switch key {
	case "messages":
		d.req.Chat, err = messagesField(raw)
	case "prompt":
		d.req.Prompt, err = promptField(raw)
	case "tools":
		d.req.Tools, err = toolsField(raw)
	case "template_vars":
		d.req.Vars, err = varsField(raw)
	case "stream":
		d.req.Stream, err = boolField(raw)
	default:
		return false, nil
	}
	return true, err
}

// optionField reads how it is to be generated.
func (d *draft) optionField(key string, raw []byte) (known bool, err *fieldError) {
	o := &d.req.Options
	switch key {
	case "max_tokens":
		o.MaxTokens, err = number(intField(raw, 1, 1<<22))
	case "temperature":
		o.Temperature, err = pointer(floatField(raw, 0, 100))
	case "top_k":
		o.TopK, err = number(intField(raw, 0, 1<<30))
	case "top_p":
		o.TopP, err = pointer(floatField(raw, 0, 1))
	case "min_p":
		o.MinP, err = pointer(floatField(raw, 0, 1))
	case "typical_p":
		o.TypicalP, err = pointer(floatField(raw, 0, 1))
	case "repeat_penalty":
		o.RepeatPenalty, err = pointer(floatField(raw, 0, 100))
	case "presence_penalty":
		o.PresencePenalty, err = pointer(floatField(raw, -100, 100))
	case "frequency_penalty":
		o.FrequencyPenalty, err = pointer(floatField(raw, -100, 100))
	case "logit_bias":
		o.LogitBias, err = biasField(raw)
	case "seed":
		o.Seed, err = pointer(seedField(raw))
	case "stop":
		o.Stop, err = textsField(raw, maxStops, 1, maxStopBytes)
	case "stop_ids":
		o.StopIDs, err = idsField(raw, maxStopIDs)
	case "context_policy":
		o.ContextPolicy, err = textField(raw, 64)
		if p := o.ContextPolicy; err == nil && p != dispatch.PolicyError && p != dispatch.PolicyKeepSystem {
			err = bad("", "%q is neither %q nor %q", short(p), dispatch.PolicyError, dispatch.PolicyKeepSystem)
		}
	case "ignore_eos":
		o.IgnoreEOS, err = boolField(raw)
	case "n":
		var n int64
		n, err = intField(raw, 1, maxChoices)
		o.N = int(n)
	case "best_of":
		var n int64
		n, err = intField(raw, 1, maxChoices)
		o.BestOf = int(n)
	case "logprobs":
		o.Logprobs, err = boolField(raw)
	case "top_logprobs":
		var n int64
		n, err = intField(raw, 0, maxTop)
		o.TopLogprobs = int(n)
	case "response_format":
		var format []byte
		format, err = objectField(raw)
		o.ResponseFormat = slices.Clone(format)
	case "grammar":
		o.Grammar, err = textField(raw, maxGrammar)
	case "tool_choice":
		o.ToolChoice, err = choiceField(raw)
	default:
		return false, nil
	}
	return true, err
}

func number(n int64, err *fieldError) (*int, *fieldError) {
	i := int(n)
	return &i, err
}

func pointer[T any](v T, err *fieldError) (*T, *fieldError) { return &v, err }

// complete checks what several fields say together.
func (d *draft) complete() *fieldError {
	if d.id == "" {
		return bad("id", "is missing")
	}
	o := &d.req.Options
	inputs := map[dispatch.Kind][]string{
		dispatch.Generate: {"messages", "prompt"}, dispatch.Embed: {"input"}, dispatch.Score: {"prompt", "ids"},
	}[d.req.Kind]
	var given []string
	for _, f := range inputs {
		if d.given[f] {
			given = append(given, f)
		}
	}
	switch {
	case len(given) == 0 && len(inputs) == 2:
		return bad(inputs[0], "is missing: the request needs %s or %s", inputs[0], inputs[1])
	case len(given) == 0:
		return bad(inputs[0], "is missing")
	case len(given) == 2:
		return bad(inputs[1], "cannot stand beside %s", inputs[0])
	case o.BestOf != 0 && o.BestOf < max(o.N, 1):
		return bad("best_of", "%d is less than n", o.BestOf)
	case o.TopLogprobs > 0 && !o.Logprobs:
		return bad("top_logprobs", "needs logprobs to be true")
	case d.given["tool_choice"] && !d.given["tools"] && string(o.ToolChoice) != `"none"`:
		return bad("tool_choice", "needs tools")
	}
	return nil
}

// adapterField takes a name, or a list of names with scales; an empty list asks for the bare model.
func adapterField(raw []byte) ([]dispatch.AdapterRef, *fieldError) {
	if raw[0] == '"' {
		name := unquote(raw)
		if !config.ValidName(name) {
			return nil, bad("", "%q must match [A-Za-z0-9._-]{1,64}; an empty list asks for the bare model", short(name))
		}
		return []dispatch.AdapterRef{{Name: name, Scale: 1}}, nil
	}
	refs := []dispatch.AdapterRef{}
	err := array(raw, func(i int, raw []byte) *fieldError {
		if i >= maxAdapters {
			return bad("", "more than %d adapters are too many", maxAdapters)
		}
		ref := dispatch.AdapterRef{Scale: 1}
		err := object(raw, func(key string, raw []byte) (err *fieldError) {
			switch key {
			case "name":
				if ref.Name, err = textField(raw, math.MaxInt32); err == nil && !config.ValidName(ref.Name) {
					err = bad("", "%q must match [A-Za-z0-9._-]{1,64}", short(ref.Name))
				}
			case "scale":
				ref.Scale, err = floatField(raw, -100, 100)
			default:
				return bad(short(key), "is not a field of an adapter")
			}
			if err != nil {
				return err.in(key)
			}
			return nil
		})
		if err == nil && ref.Name == "" {
			err = bad("name", "is missing")
		}
		if err == nil && slices.ContainsFunc(refs, func(r dispatch.AdapterRef) bool { return r.Name == ref.Name }) {
			err = bad("name", "%q is there twice", ref.Name)
		}
		refs = append(refs, ref)
		return err
	})
	return refs, err
}

// toolsField takes a list of objects as they are; the model's template prints them.
func toolsField(raw []byte) ([]byte, *fieldError) {
	n := 0
	err := array(raw, func(i int, raw []byte) *fieldError {
		if n = i + 1; n > maxTools {
			return bad("", "more than %d tools are too many", maxTools)
		}
		_, err := objectField(raw)
		return err
	})
	if err != nil || n == 0 { // no tools are no tools
		return nil, err
	}
	return slices.Clone(raw), nil
}

// varsField takes an object of template variables. What the request has fields for cannot come this way too.
func varsField(raw []byte) ([]byte, *fieldError) {
	err := object(raw, func(key string, _ []byte) *fieldError {
		switch key {
		case "messages", "tools", "add_generation_prompt", "bos_token", "eos_token":
			return bad(key, "is edged's own variable")
		}
		return nil
	})
	return slices.Clone(raw), err
}

// choiceField takes "auto", "none", "required", or an object that names a tool.
func choiceField(raw []byte) ([]byte, *fieldError) {
	switch {
	case raw[0] == '{':
	case raw[0] == '"':
		if s := unquote(raw); s != "auto" && s != "none" && s != "required" {
			return nil, bad("", "%q is none of \"auto\", \"none\", \"required\"", short(s))
		}
		return []byte(`"` + unquote(raw) + `"`), nil
	default:
		return nil, bad("", "wants a text or an object, not %s", kindOf(raw))
	}
	return slices.Clone(raw), nil
}

// parseCancel reads the id of a cancel: plain, or an object with it.
func parseCancel(payload []byte) (id string, err *fieldError) {
	if text := string(payload); config.ValidName(text) {
		return text, nil
	}
	if err := checkJSON(payload); err != nil {
		return "", bad("", "a cancel is an id, plain or as {\"id\":…}: %s", err.Error())
	}
	err = object(payload, func(key string, raw []byte) *fieldError {
		if key != "id" {
			return bad(short(key), "is not a field of a cancel")
		}
		var err *fieldError
		if id, err = textField(raw, math.MaxInt32); err == nil && !config.ValidName(id) {
			err = bad("", "must match [A-Za-z0-9._-]{1,64}")
		}
		if err != nil {
			return err.in("id")
		}
		return nil
	})
	if err == nil && id == "" {
		err = bad("id", "is missing")
	}
	return id, err
}
