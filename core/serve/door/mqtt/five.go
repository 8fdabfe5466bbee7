package mqtt

import (
	"encoding/base64"
	"fmt"
	"strings"
	"time"

	"edged/core/config"
	"edged/core/serve/dispatch"
	"edged/core/serve/door/mqtt/link"
)

// maxCorrelation bounds the correlation data that a client may have brought back.
const maxCorrelation = 1 << 10

// Content types of what is published under MQTT 5.
const (
	typeJSON = "application/json"
	typeText = "text/plain; charset=utf-8"
)

// five takes what MQTT 5 tells beside a message into its request: where the answer is wanted, what it is to
// carry, and how long it is wanted at all. Nothing of it becomes a part of the prompt.
func (t Topics) five(in input, req *dispatch.Request, p link.Properties, l limits) *problem {
	why := ""
	switch {
	case len(p.Correlation) > maxCorrelation:
		why = fmt.Sprintf("correlation data: has %d bytes, more than %d", len(p.Correlation), maxCorrelation)
	case p.ResponseTopic == "":
	case req.Reply != t.response(in.group, in.name, req.ID) && !req.Plain && req.Reply != p.ResponseTopic:
		why = "reply_to: is not the message's response topic: leave one of the two out"
	case !t.ownResponse(in, p.ResponseTopic):
		if why = t.replyTo(p.ResponseTopic, l.replyToAllow); why != "" {
			why = "response topic: " + why
		}
	}
	if why != "" {
		return &problem{err: invalid(why), id: req.ID, user: req.Echo, reply: req.Reply}
	}
	if p.ResponseTopic != "" {
		req.Reply = p.ResponseTopic
	}
	req.Reply = address(req.Reply, p.Correlation)
	if p.Expires {
		// Its last second may be over already: then it is told so.
		if left := max(p.Expiry, time.Millisecond); req.Deadline == 0 || left < req.Deadline {
			req.Deadline = left
		}
	}
	return nil
}

// refusal returns the topic on which a message is refused: the response topic that it names, if that is
// allowed, with its correlation data, by which it knows its request. otherwise is the address without these;
// "": none.
func (t Topics) refusal(in input, p link.Properties, allowed []string, otherwise string) string {
	if len(p.Correlation) > maxCorrelation {
		return otherwise
	}
	if p.ResponseTopic != "" && (t.ownResponse(in, p.ResponseTopic) || t.replyTo(p.ResponseTopic, allowed) == "") {
		return address(p.ResponseTopic, p.Correlation)
	}
	if otherwise == "" || strings.Contains(otherwise, "\x00") {
		return otherwise
	}
	return address(otherwise, p.Correlation)
}

// ownResponse reports whether a topic is one of those on which the sender of a message is answered anyhow:
// nobody need allow it.
func (t Topics) ownResponse(in input, topic string) bool {
	if in.level == levelAsk {
		return topic == t.groupAnswer(in.group, in.name)
	}
	id, ok := strings.CutPrefix(topic, join(t.root(in.group), levelResponse, in.name)+"/")
	return ok && config.ValidName(id)
}

// address joins a topic and the correlation data that goes with each event into a request's address, as the
// journal keeps it. No topic holds the NUL between them.
func address(topic string, correlation []byte) string {
	if len(correlation) == 0 {
		return topic
	}
	return topic + "\x00" + base64.RawStdEncoding.EncodeToString(correlation)
}

// told takes an address apart: the topic, and the properties of what is published there.
func told(address string, plain bool) (string, link.Properties) {
	p := link.Properties{ContentType: typeJSON, Text: true}
	if plain {
		p.ContentType = typeText
	}
	topic, text, ok := strings.Cut(address, "\x00")
	if ok {
		p.Correlation, _ = base64.RawStdEncoding.DecodeString(text) // address has written it
	}
	return topic, p
}
