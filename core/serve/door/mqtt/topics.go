package mqtt

import (
	"strings"

	"edged/core/config"
)

// The levels of edged's topics below edged/NODE/.
const (
	levelAsk          = "ask"
	levelAnswer       = "answer"
	levelRequest      = "request"
	levelResponse     = "response"
	levelCancel       = "cancel"
	levelEmbed        = "embed"
	levelScore        = "score"
	levelErrors       = "errors"
	levelAvailability = "availability"
	levelStatus       = "status"
	levelAdapters     = "adapters"
	levelStats        = "stats"
)

// prefix begins every topic of every node.
const prefix = "edged/"

// Topics are the topics of one node, and of the group that it shares requests with.
type Topics struct {
	Node  string
	Group string // "": none
}

// root is edged/NODE, or edged/@GROUP where group is set. '@' is no character of a name, so the two cannot meet.
func (t Topics) root(group bool) string {
	if group {
		return prefix + "@" + t.Group
	}
	return prefix + t.Node
}

// Request is where a client publishes requests; client "" is the form without one.
func (t Topics) Request(client string) string {
	return join(t.root(false), levelRequest, client)
}

// Cancel is where a client publishes the id of a request that it no longer wants.
func (t Topics) Cancel(client string) string {
	return join(t.root(false), levelCancel, client)
}

// Response is where the events of a request go.
func (t Topics) Response(client, id string) string { return t.response(false, client, id) }

func (t Topics) response(group bool, client, id string) string {
	return join(join(t.root(group), levelResponse, client), id)
}

// Ask is where a client publishes a plain prompt; tag "" is the form without one.
func (t Topics) Ask(tag string) string { return join(t.root(false), levelAsk, tag) }

// Default is where another default adapter is named, on nodes that Home Assistant is told of.
func (t Topics) Default() string { return join(t.root(false), "default_adapter") }

// Answer is where the plain answers to asks go; tag "" is the form without one.
func (t Topics) Answer(tag string) string { return join(t.root(false), levelAnswer, tag) }

// Errors is where complaints go that have no response topic: about what a client published, or with client "" about what came
// on a topic without one.
func (t Topics) Errors(client string) string { return join(t.root(false), levelErrors, client) }

// Availability holds "online" or "offline".
func (t Topics) Availability() string { return join(t.root(false), levelAvailability) }

// Status holds a Status.
func (t Topics) Status() string { return join(t.root(false), levelStatus) }

// Adapter holds an Adapter; name "+" is the filter for all.
func (t Topics) Adapter(name string) string { return join(t.root(false), levelAdapters, name) }

// Stats carries Stats.
func (t Topics) Stats() string { return join(t.root(false), levelStats) }

// Filters are the subscriptions that a node needs, with their QoS. '#' takes a level's plain form too, and topics with
// levels too many, so that these are told so. Cancels come at QoS 0: an in-flight window that is full of requests must
// not hold them back.
func (t Topics) Filters() map[string]byte {
	root := t.root(false)
	f := map[string]byte{
		root + "/" + levelAsk + "/#":     1,
		root + "/" + levelRequest + "/#": 1,
		root + "/" + levelEmbed + "/#":   1,
		root + "/" + levelScore + "/#":   1,
		root + "/" + levelCancel + "/#":  0,
	}
	if t.Group != "" {
		root = t.root(true)
		f["$share/"+t.Group+"/"+root+"/"+levelRequest+"/#"] = 1
		f[root+"/"+levelCancel+"/#"] = 0
	}
	return f
}

// input is what a topic that a client published on means.
type input struct {
	level string // levelAsk, levelRequest, levelEmbed, levelScore or levelCancel
	name  string // CLIENT, or TAG of an ask; "": none
	group bool   // on the group's topics
}

// parse reads the topic of an incoming message. The problem names what is wrong with it; ok is false for topics that
// are no input of this node.
func (t Topics) parse(topic string) (in input, problem string, ok bool) {
	rest, ok := strings.CutPrefix(topic, t.root(false)+"/")
	if !ok && t.Group != "" {
		rest, ok = strings.CutPrefix(topic, t.root(true)+"/")
		in.group = ok
	}
	if !ok {
		return input{}, "", false
	}
	level, name, named := strings.Cut(rest, "/")
	switch level {
	case levelRequest, levelCancel:
	case levelAsk, levelEmbed, levelScore:
		if in.group {
			return input{}, "", false
		}
	default:
		return input{}, "", false
	}
	in.level, in.name = level, name
	if named && !config.ValidName(name) {
		what := "CLIENT"
		if level == levelAsk {
			what = "TAG"
		}
		return in, "the last level of the topic, " + what + ", must match [A-Za-z0-9._-]{1,64}", true
	}
	return in, "", true
}

// join puts levels together and leaves out empty ones at the end.
func join(levels ...string) string {
	for len(levels) > 0 && levels[len(levels)-1] == "" {
		levels = levels[:len(levels)-1]
	}
	return strings.Join(levels, "/")
}

// matches reports whether a topic matches a valid filter (MQTT 3.1.1, section 4.7).
func matches(filter, topic string) bool {
	for {
		f, restF, moreF := strings.Cut(filter, "/")
		if f == "#" {
			return true
		}
		t, restT, moreT := strings.Cut(topic, "/")
		if f != "+" && f != t {
			return false
		}
		if !moreF || !moreT {
			// "a/#" matches "a" too.
			return moreF == moreT || moreF && restF == "#"
		}
		filter, topic = restF, restT
	}
}

// replyTo says what is wrong with a topic that a request wants its answers on; "": nothing. Wildcards matter most: a
// broker drops the connection of who publishes on one, and the client library would publish it again for ever.
func replyTo(topic string, allowed []string) string {
	switch {
	case topic == "":
		return "is empty"
	case len(topic) > 1024:
		return "is longer than 1024 bytes"
	case strings.ContainsAny(topic, "+#"):
		return "holds a wildcard, '+' or '#'"
	case strings.ContainsFunc(topic, func(r rune) bool { return r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 }):
		return "holds a control character"
	case strings.HasPrefix(topic, "$"):
		return "begins with '$', as the broker's own topics do"
	}
	if rest, ok := strings.CutPrefix(topic, prefix); ok {
		// Other nodes' inputs too: two nodes that answer each other would never stop.
		if _, rest, ok = strings.Cut(rest, "/"); ok {
			if level, _, _ := strings.Cut(rest, "/"); level != levelResponse && level != levelAnswer {
				return "is a topic of edged's own; below " + prefix + " only response and answer topics can be named"
			}
		}
	}
	for _, f := range allowed {
		if matches(f, topic) {
			return ""
		}
	}
	if len(allowed) == 0 {
		return "is not allowed: mqtt.reply_to_allow is empty on this node"
	}
	return "matches none of mqtt.reply_to_allow"
}
