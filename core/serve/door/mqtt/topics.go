package mqtt

import (
	"strings"

	"edged/core/config"
	"edged/core/serve/door/wildcard"
)

// The levels of edged's topics below BASE/NODE/.
const (
	levelAsk          = "ask"
	levelAnswer       = "answer"
	levelRequest      = "request"
	levelResponse     = "response"
	levelCancel       = "cancel"
	levelEmbed        = "embed"
	levelScore        = "score"
	levelRerank       = "rerank"
	levelErrors       = "errors"
	levelAvailability = "availability"
	levelStatus       = "status"
	levelAdapters     = "adapters"
	levelModels       = "models"
	levelStats        = "stats"
	levelProbe        = "probe"

	// Of a group.
	levelLog     = "log"
	levelMembers = "members"
	levelNode    = "node"
)

// groupLevels are the kinds of requests that a group takes.
var groupLevels = []string{levelAsk, levelRequest, levelEmbed, levelScore, levelRerank} //nolint:gochecknoglobals // a table

// defaultBase begins every topic where the configuration names no other base.
const defaultBase = "edged"

// Topics are the topics of one node, and of the group that it shares requests with.
type Topics struct {
	Base  string // "": edged
	Node  string // for a client also "@" and the name of a group: its topics of requests and answers are a node's
	Group string // "": none
}

// TopicsOf are the topics of the node that a configuration describes, as its clients know them: without its group.
func TopicsOf(c *config.Config) Topics { return Topics{Base: c.MQTT.Base, Node: c.Node.Name} }

func (t Topics) base() string {
	if t.Base == "" {
		return defaultBase
	}
	return t.Base
}

// Unique is the node's name, with its base where that is not the usual one: what two nodes on one broker do not share.
func (t Topics) Unique() string {
	if t.base() == defaultBase {
		return t.Node
	}
	return t.Node + "@" + t.base()
}

// ClientID is the client id of the node. Another base is another client, since two nodes of the same name may
// differ by it.
func (t Topics) ClientID() string { return "edged-" + t.Unique() }

// Root is BASE/NODE, which every topic of the node begins with.
func (t Topics) Root() string { return t.root("") }

// root is BASE/NODE, or BASE/@GROUP where group is not "". '@' is no character of a name, so the two cannot meet.
func (t Topics) root(group string) string {
	if group != "" {
		return t.base() + "/@" + group
	}
	return t.base() + "/" + t.Node
}

// Request returns the topic on which a client publishes requests; client "" is the form without one.
func (t Topics) Request(client string) string {
	return join(t.root(""), levelRequest, client)
}

// Cancel returns the topic on which a client publishes the id of a request that it cancels.
func (t Topics) Cancel(client string) string {
	return join(t.root(""), levelCancel, client)
}

// Response returns the topic of the events of a request.
func (t Topics) Response(client, id string) string { return t.response("", client, id) }

func (t Topics) response(group, client, id string) string {
	return join(join(t.root(group), levelResponse, client), id)
}

// Ask returns the topic on which a client publishes a plain prompt; tag "" is the form without one.
func (t Topics) Ask(tag string) string { return join(t.root(""), levelAsk, tag) }

// Default returns the topic that sets the default adapter, on nodes that are announced to Home Assistant.
func (t Topics) Default() string { return join(t.root(""), "default_adapter") }

// Answer returns the topic of the plain answers to asks; tag "" is the form without one.
func (t Topics) Answer(tag string) string { return t.groupAnswer("", tag) }

func (t Topics) groupAnswer(group, tag string) string { return join(t.root(group), levelAnswer, tag) }

// Errors returns the topic of complaints that have no response topic: about what a client published, or with
// client "" about what came on a topic without one.
func (t Topics) Errors(client string) string { return t.groupErrors("", client) }

func (t Topics) groupErrors(group, client string) string {
	return join(t.root(group), levelErrors, client)
}

// Availability holds "online" or "offline".
func (t Topics) Availability() string { return join(t.root(""), levelAvailability) }

// Status holds a Status.
func (t Topics) Status() string { return join(t.root(""), levelStatus) }

// Adapter holds an Adapter; name "+" is the filter for all.
func (t Topics) Adapter(name string) string { return join(t.root(""), levelAdapters, name) }

// Model holds a Model; name "+" is the filter for all.
func (t Topics) Model(name string) string { return join(t.root(""), levelModels, name) }

// Members holds what a node of the group tells of itself, where Node is "@" and a group's name; node "+" is
// the filter for all.
func (t Topics) Members(node string) string { return join(t.root(""), levelMembers, node) }

// Stats carries Stats.
func (t Topics) Stats() string { return join(t.root(""), levelStats) }

// probe is below what a node publishes to see what the broker makes of it. who is one of the clients that do
// so at the same time.
func (t Topics) probe(who, what string) string { return join(t.root(""), levelProbe, who, what) }

// Filters are the subscriptions that a node needs, with their QoS, but for the one that it shares with its
// group. '#' takes a level's plain form too, and topics with levels too many, so that these are told so.
// Cancels come at QoS 0: an in-flight window that is full of requests must not hold them back.
func (t Topics) Filters() map[string]byte {
	root := t.root("")
	f := map[string]byte{
		root + "/" + levelAsk + "/#":     1,
		root + "/" + levelRequest + "/#": 1,
		root + "/" + levelEmbed + "/#":   1,
		root + "/" + levelScore + "/#":   1,
		t.rerank():                       1,
		root + "/" + levelCancel + "/#":  0,
	}
	if t.Group != "" {
		root := t.root(t.Group)
		f[root+"/"+levelCancel+"/#"] = 0
		f[root+"/"+levelMembers+"/+"] = 1
		f[root+"/"+levelNode+"/"+t.Node] = 1
		f[t.base()+"/+/"+levelAvailability] = 1
	}
	return f
}

// rerank is the filter that access lists of edged 0.1 do not know.
func (t Topics) rerank() string { return t.root("") + "/" + levelRerank + "/#" }

// log returns the topic of the log, which the nodes at the desk of the group write and read in one order.
func (t Topics) log() string { return join(t.root(t.Group), levelLog) }

// inbox returns the topic on which the nodes of the group write to one of them.
func (t Topics) inbox(node string) string { return join(t.root(t.Group), levelNode, node) }

// member holds, retained, what a node of the group tells of itself.
func (t Topics) member(node string) string { return join(t.root(t.Group), levelMembers, node) }

// memberOf is the node whose topic of the group's members a topic is.
func (t Topics) memberOf(topic string) (node string, ok bool) {
	node, ok = strings.CutPrefix(topic, t.member("")+"/")
	return node, ok && config.ValidName(node)
}

// availabilityOf is the node whose availability a topic holds.
func (t Topics) availabilityOf(topic string) (node string, ok bool) {
	rest, ok := strings.CutPrefix(topic, t.base()+"/")
	if !ok {
		return "", false
	}
	node, ok = strings.CutSuffix(rest, "/"+levelAvailability)
	return node, ok && config.ValidName(node)
}

// desk are the subscriptions of a node that sits at the group's desk.
func (t Topics) desk() map[string]byte {
	f := map[string]byte{t.log(): 1}
	for _, level := range groupLevels {
		f[t.root(t.Group)+"/"+level+"/#"] = 1
	}
	return f
}

// sharedOnce are the filters that earlier versions shared a group by. Sessions may still hold them.
func (t Topics) sharedOnce(group string) []string {
	filter := "/" + t.root(group) + "/" + levelRequest + "/#"
	return []string{"$share/edged-" + group + filter, "$share/" + group + filter}
}

// leave are the filters to unsubscribe from so that nothing of a group comes any more, but for the
// availability of nodes.
func (t Topics) leave(group string) []string {
	g := Topics{Base: t.Base, Node: t.Node, Group: group}
	out := g.sharedOnce(group)
	for f := range g.desk() {
		out = append(out, f)
	}
	root := t.root(group)
	return append(out, root+"/"+levelCancel+"/#", root+"/"+levelMembers+"/+", root+"/"+levelNode+"/"+t.Node)
}

// input is a parsed topic that a client published on.
type input struct {
	level string // levelAsk, levelRequest, levelEmbed, levelScore, levelRerank or levelCancel
	name  string // CLIENT, or TAG of an ask; "": none
	group string // on the topics of this group; "": on the node's own
}

// parse reads the topic of an incoming message. The problem names what is wrong with it; ok is false for
// topics that are no input of this node. The topics of every group are: what a broker delivers on those of
// another group than the node's was dealt to it by a subscription of an earlier start, and nobody else gets
// it.
func (t Topics) parse(topic string) (in input, problem string, ok bool) {
	rest, ok := strings.CutPrefix(topic, t.root("")+"/")
	if !ok {
		if rest, ok = strings.CutPrefix(topic, t.base()+"/@"); ok {
			in.group, rest, ok = strings.Cut(rest, "/")
		}
		if !ok || !config.ValidName(in.group) {
			return input{}, "", false
		}
	}
	level, name, named := strings.Cut(rest, "/")
	switch level {
	case levelRequest, levelCancel, levelAsk, levelEmbed, levelScore, levelRerank:
	default:
		return input{}, "", false
	}
	in.level, in.name = level, name
	if named && !config.ValidName(name) {
		what := "CLIENT"
		if level == levelAsk {
			what = "TAG"
		}
		return in, "the last level of the topic, " + what + ", must match " + config.NamePattern, true
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

// replyTo says what is wrong with a topic that a request wants its answers on; "": nothing. Wildcards matter most: a
// broker drops the connection of who publishes on one, and the client library would publish it again for ever.
func (t Topics) replyTo(topic string, allowed []string) string {
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
	for _, base := range []string{t.base(), defaultBase} {
		// Other nodes' inputs too: two nodes that answer each other would never stop.
		if rest, ok := strings.CutPrefix(topic, base+"/"); ok {
			if _, rest, ok = strings.Cut(rest, "/"); ok {
				if level, _, _ := strings.Cut(rest, "/"); level != levelResponse && level != levelAnswer {
					return "is a topic of edged's own; below " + base + "/ only response and answer topics can be named"
				}
			}
		}
	}
	for _, f := range allowed {
		if wildcard.Match(f, topic) {
			return ""
		}
	}
	if len(allowed) == 0 {
		return "is not allowed: mqtt.reply_to_allow is empty on this node"
	}
	return "matches none of mqtt.reply_to_allow"
}
