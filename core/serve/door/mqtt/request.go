package mqtt

import (
	"crypto/sha256"
	"encoding/binary"
	"math"
	"slices"
	"strconv"
	"time"

	"edged/core/config"
	"edged/core/serve/dispatch"
	"edged/core/serve/door/fields"
)

// maxUser bounds what a client may have brought back in each event.
const maxUser = 1 << 10

// limits are the settings that the parser needs.
type limits struct {
	replyToAllow []string
	once         bool           // the message names a response topic: its sender wants one message, where it does not say otherwise
	drawn        string         // the id of a request that brings none; "": one by chance
	prompts      fields.Prompts // nil: there are none
}

// problem is a request that was not taken: what is said, and where.
type problem struct {
	err   *dispatch.Error
	id    string // "": none that can be used
	user  []byte // the request's own "user"; nil: none
	reply string // response topic; "": the errors topic
}

// draft is a request while its fields are read.
type draft struct {
	req     *dispatch.Request
	id      string
	replyTo string
	drawn   string // see limits
	given   map[string]bool
	prompt  fields.PromptAsk
}

// parseRequest turns the payload of a request, an embed, a score or a rerank into a Request. Its problem
// names the field, and the response topic if the id could be read.
func (t Topics) parseRequest(in input, topic string, payload []byte, l limits) (*dispatch.Request, *problem) {
	d := &draft{req: &dispatch.Request{Door: DoorName, Client: in.name, Kind: kindOfLevel(in.level)}, given: map[string]bool{}, drawn: l.drawn}
	err := fields.Check(payload)
	if err == nil {
		// First the id: with it, everything that is wrong with the rest can be said where the client listens.
		d.findID(payload)
		err = fields.Object(payload, d.field)
	}
	if err == nil {
		err = d.complete()
	}
	if err == nil {
		err = d.prompt.Fill(l.prompts, d.req)
	}
	if err == nil && d.replyTo != "" {
		if why := t.replyTo(d.replyTo, l.replyToAllow); why != "" {
			err = fields.Bad("reply_to", "%s", why)
		}
	}
	if err != nil {
		p := &problem{err: &dispatch.Error{Code: err.Code(), Message: err.Error()}, id: d.id, user: d.req.Echo}
		if d.id != "" {
			p.reply = t.response(in.group, in.name, d.id)
		}
		return nil, p
	}
	d.req.LastOnly = d.req.LastOnly || l.once && !d.req.Stream && !d.given["events"]
	d.req.ID = d.id
	d.req.Hash = hashOf(topic, payload)
	d.req.Reply = d.replyTo
	if d.replyTo == "" {
		d.req.Reply = t.response(in.group, in.name, d.id)
	}
	return d.req, nil
}

// hashOf returns the hash by which a repeated request is recognised: that of its topic and bytes.
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
	case levelRerank:
		return dispatch.Rank
	}
	return dispatch.Generate
}

// findID reads the id alone, if it can be used.
func (d *draft) findID(payload []byte) {
	_ = fields.Object(payload, func(key string, raw []byte) *fields.Error {
		switch key {
		case "id":
			if id, ok := idText(raw); ok {
				d.id = id
			}
		case "user":
			d.req.Echo, _ = userField(raw)
		}
		return nil
	})
}

// idText reads an id: a text that may stand in a topic, or a whole number, which is taken as its text.
func idText(raw []byte) (string, bool) {
	text := ""
	switch {
	case raw[0] == '"':
		text = fields.Unquote(raw)
	case fields.IsNumber(raw):
		n, err := fields.Int(raw, math.MinInt64, math.MaxInt64)
		if err != nil {
			return "", false
		}
		text = strconv.FormatInt(n, 10)
	}
	return text, config.ValidName(text)
}

// userField takes any value, which comes back in each event of the request.
func userField(raw []byte) ([]byte, *fields.Error) {
	if len(raw) > maxUser {
		return nil, fields.Bad("", "has %d bytes, more than %d", len(raw), maxUser)
	}
	return slices.Clone(raw), nil
}

// eventsField takes "all" or "last".
func eventsField(raw []byte) (last bool, err *fields.Error) {
	text, err := fields.Text(raw, 64)
	if err == nil && text != "all" && text != "last" {
		err = fields.Bad("", "%q is neither \"all\" nor \"last\"", fields.Short(text))
	}
	return text == "last", err
}

// field reads one field. A null asks for nothing.
func (d *draft) field(key string, raw []byte) *fields.Error {
	if string(raw) == "null" && key != "id" {
		return nil // what a client has and does not set: as if it were absent
	}
	d.given[key] = true
	var known bool
	var err *fields.Error
	switch d.req.Kind {
	case dispatch.Embed:
		known, err = d.embedField(key, raw)
	case dispatch.Score:
		known, err = d.scoreField(key, raw)
	case dispatch.Rank:
		known, err = d.rerankField(key, raw)
	default:
		known, err = d.generateField(key, raw)
		if !known {
			known, err = fields.Option(&d.req.Options, key, raw)
		}
	}
	if !known {
		known, err = d.commonField(key, raw)
	}
	if !known {
		return fields.Bad(fields.Short(key), "is not a field of this request")
	}
	if err != nil {
		return err.In(key)
	}
	return nil
}

// commonField reads what every kind of request has.
func (d *draft) commonField(key string, raw []byte) (known bool, err *fields.Error) {
	switch key {
	case "id":
		switch {
		case d.id != "":
		case raw[0] == '"':
			err = fields.Bad("", "must match "+config.NamePattern)
		default:
			err = fields.Bad("", "wants a text or a whole number, not %s", fields.KindOf(raw))
		}
	case "user":
		d.req.Echo, err = userField(raw)
	case "events":
		d.req.LastOnly, err = eventsField(raw)
	case "adapter":
		d.req.Adapters, err = fields.Adapters(raw)
	case "model":
		d.req.Model, err = fields.Text(raw, math.MaxInt32)
		if err == nil && !config.ValidName(d.req.Model) {
			err = fields.Bad("", "%q must match "+config.NamePattern, fields.Short(d.req.Model))
		}
	case "deadline_ms":
		var n int64
		n, err = fields.Int(raw, 1, dispatch.MaxWait.Milliseconds())
		d.req.Deadline = time.Duration(n) * time.Millisecond
	case "priority":
		var n int64
		n, err = fields.Int(raw, dispatch.MinPriority, dispatch.MaxPriority)
		d.req.Priority = int(n)
	case "reply_to":
		d.replyTo, err = fields.Text(raw, math.MaxInt32)
		if err == nil && d.replyTo == "" {
			err = fields.Bad("", "is empty")
		}
	default:
		return false, nil
	}
	return true, err
}

// embedField reads what an embed has: texts, and how their vectors are to be.
func (d *draft) embedField(key string, raw []byte) (known bool, err *fields.Error) {
	if key != "input" {
		return fields.EmbedOption(d.req, key, raw)
	}
	d.req.Texts, err = fields.Texts(raw, dispatch.MaxTexts, 1, math.MaxInt32)
	if err == nil && len(d.req.Texts) == 0 {
		err = fields.Bad("", "holds no text")
	}
	return true, err
}

// scoreField reads what a score has: a text or token ids.
func (d *draft) scoreField(key string, raw []byte) (known bool, err *fields.Error) {
	switch key {
	case "prompt":
		d.req.Prompt, err = promptField(raw)
	case "ids":
		d.req.IDs, err = fields.IDs(raw, dispatch.MaxIDs)
		if err == nil && len(d.req.IDs) == 0 {
			err = fields.Bad("", "holds no token")
		}
	default:
		return false, nil
	}
	return true, err
}

// rerankField reads what a rerank has: a query and documents.
func (d *draft) rerankField(key string, raw []byte) (known bool, err *fields.Error) {
	switch key {
	case "query":
		d.req.Query, err = promptField(raw)
	case "documents":
		d.req.Texts, err = fields.Documents(raw, dispatch.MaxTexts)
	case "instruct":
		d.req.Instruct, err = fields.Text(raw, dispatch.MaxInstruct)
	case "top_n":
		var n int64
		n, err = fields.Int(raw, 1, math.MaxInt32)
		d.req.Best = int(n)
	default:
		return false, nil
	}
	return true, err
}

func promptField(raw []byte) (string, *fields.Error) {
	s, err := fields.Text(raw, math.MaxInt32)
	if err == nil && s == "" {
		err = fields.Bad("", "is empty")
	}
	return s, err
}

// generateField reads what a generation is asked about.
func (d *draft) generateField(key string, raw []byte) (known bool, err *fields.Error) {
	switch key {
	case "messages":
		d.req.Chat, err = fields.Messages(raw)
	case "prompt":
		d.req.Prompt, err = promptField(raw)
	case "tools":
		d.req.Tools, err = fields.Tools(raw)
	case "template_vars":
		d.req.Vars, err = fields.Vars(raw)
	case "stream":
		d.req.Stream, err = fields.Bool(raw)
	default:
		return d.prompt.Field(key, raw)
	}
	return true, err
}

// complete checks what several fields say together.
func (d *draft) complete() *fields.Error {
	if d.id == "" {
		d.id = d.drawn
	}
	if d.id == "" {
		d.id = newID("req-") // its events say which; who wants to repeat a request gives it an id
	}
	if d.req.LastOnly && d.req.Stream {
		return fields.Bad("events", "\"last\" contradicts stream")
	}
	o := &d.req.Options
	inputs := map[dispatch.Kind][]string{
		dispatch.Generate: {"messages", "prompt"}, dispatch.Embed: {"input"}, dispatch.Score: {"prompt", "ids"},
		dispatch.Rank: {"documents"},
	}[d.req.Kind]
	var given []string
	for _, f := range inputs {
		if d.given[f] {
			given = append(given, f)
		}
	}
	switch {
	case d.req.Kind == dispatch.Rank && !d.given["query"]:
		return fields.Bad("query", "is missing")
	case len(given) == 0 && d.prompt.Name == "" && len(inputs) == 2:
		return fields.Bad(inputs[0], "is missing: the request needs %s or %s", inputs[0], inputs[1])
	case len(given) == 0 && d.prompt.Name == "":
		return fields.Bad(inputs[0], "is missing")
	case len(given) == 2:
		return fields.Bad(inputs[1], "cannot stand beside %s", inputs[0])
	case o.BestOf != 0 && o.BestOf < max(o.N, 1):
		return fields.Bad("best_of", "%d is less than n", o.BestOf)
	case o.TopLogprobs > 0 && !o.Logprobs:
		return fields.Bad("top_logprobs", "needs logprobs to be true")
	case d.given["tool_choice"] && !d.given["tools"] && string(o.ToolChoice) != `"none"`:
		return fields.Bad("tool_choice", "needs tools")
	}
	return nil
}

// cancelAll in place of an id means every request: of the CLIENT of the topic, or of all where it has none.
const cancelAll = "*"

// parseCancel reads the id of a cancel: plain, or an object with it.
func parseCancel(payload []byte) (id string, err *fields.Error) {
	if text := string(payload); config.ValidName(text) || text == cancelAll {
		return text, nil
	}
	if err := fields.Check(payload); err != nil {
		return "", fields.Bad("", "a cancel is an id, plain or as {\"id\":…}: %s", err.Error())
	}
	err = fields.Object(payload, func(key string, raw []byte) *fields.Error {
		if key != "id" {
			return fields.Bad(fields.Short(key), "is not a field of a cancel")
		}
		var ok bool
		if id, ok = idText(raw); !ok {
			return fields.Bad("id", "must match "+config.NamePattern)
		}
		return nil
	})
	if err == nil && id == "" {
		err = fields.Bad("id", "is missing")
	}
	return id, err
}
