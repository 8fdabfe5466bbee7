package broker

import (
	"slices"
	"strings"
	"time"

	"edged/core/serve/door/wildcard"
)

// target is a client that a message is for, with what its subscriptions that match make of it together.
type target struct {
	session     *session
	qos         byte
	asPublished bool
	identifiers []int
}

// routed is the outcome of a message: how many clients got it, and whether one that should have had no room.
type routed struct {
	got     int
	full    bool
	visited int
}

// publish keeps a retained message and gives a message to all who asked for it.
func (b *Broker) publish(m *message) routed {
	b.numbers++
	m.number = b.numbers
	if m.mortal {
		m.expires = time.Now().Add(time.Duration(m.lives) * time.Second)
	}
	var out routed
	if need := m.size(); m.refs == 0 && !b.room(need, b.sessions[m.from]) {
		b.warn("embedded broker is full and drops a message", "client", m.from, "bytes", need)
		out.full = true
		return out
	}
	b.hold(m)
	defer b.release(m)
	if m.retain && !b.keep(m) {
		out.full = true
	}
	b.targets = b.targets[:0]
	var groups []*group
	out.visited = b.tree.match(m.topic, func(n *node) {
		for s, sub := range n.subs {
			b.aim(s, sub, m)
		}
		for _, g := range n.groups {
			groups = append(groups, g)
		}
	})
	for i := range b.targets {
		t := &b.targets[i]
		out.note(b.put(t.session, m, min(t.qos, m.qos), m.retain && t.asPublished, t.identifiers))
		t.session = nil
	}
	for _, g := range groups {
		out.note(b.putShared(g, m))
	}
	return out
}

func (r *routed) note(got bool) {
	if got {
		r.got++
	} else {
		r.full = true
	}
}

// aim adds a subscription to the targets of the message that is being routed.
func (b *Broker) aim(s *session, sub *subscription, m *message) {
	if sub.noLocal && s.id == m.from {
		return
	}
	if s.mark != m.number {
		s.mark, s.target = m.number, len(b.targets)
		b.targets = append(b.targets, target{session: s})
	}
	t := &b.targets[s.target]
	t.qos = max(t.qos, sub.qos)
	t.asPublished = t.asPublished || sub.asPublished
	if sub.identifier > 0 {
		t.identifiers = append(t.identifiers, sub.identifier)
	}
}

// putShared gives a message to one of a group: in turn, those who are connected first.
func (b *Broker) putShared(g *group, m *message) bool {
	members := slices.Clone(g.members)
	for _, connected := range []bool{true, false} {
		for i := range members {
			k := (g.next + i) % len(members)
			sub := members[k]
			if (sub.session.conn != nil) != connected {
				continue
			}
			var identifiers []int
			if sub.identifier > 0 {
				identifiers = []int{sub.identifier}
			}
			if b.put(sub.session, m, min(sub.qos, m.qos), false, identifiers) {
				g.next = k + 1
				return true
			}
		}
	}
	return false
}

// keep keeps a retained message, or with an empty one lets go of what there is. Where there is no room for
// it, it is not kept: what was there before goes all the same, since it is no longer true.
func (b *Broker) keep(m *message) bool {
	old := b.retained[m.topic]
	if old != nil {
		b.unkeep(old)
	}
	if len(m.payload) == 0 {
		return true
	}
	size := m.size()
	mine := b.owners[m.from]
	if mine.n >= b.o.MaxRetained/4 || mine.bytes+size > b.o.MaxMemory/8 {
		b.warn("embedded broker does not keep a retained message: its client has too many", "client", m.from, "retained", mine.n)
		return false
	}
	for len(b.retained) >= b.o.MaxRetained || b.kept+size > b.o.MaxMemory/2 {
		// The client that has most gives way to one that has less.
		var most string
		var theirs share
		for id, s := range b.owners {
			if s.bytes+s.n*messageOverhead > theirs.bytes+theirs.n*messageOverhead {
				most, theirs = id, s
			}
		}
		if most == m.from || theirs.n <= mine.n+1 && theirs.bytes <= mine.bytes+size {
			b.warn("embedded broker does not keep a retained message: there are too many", "client", m.from, "retained", len(b.retained))
			return false
		}
		var oldest *message
		for _, r := range b.retained {
			if r.from == most && (oldest == nil || r.number < oldest.number) {
				oldest = r
			}
		}
		b.unkeep(oldest)
	}
	b.hold(m)
	b.kept += size
	b.retained[m.topic] = m
	b.owners[m.from] = share{mine.n + 1, mine.bytes + size}
	if m.mortal {
		b.mortal++
	}
	return true
}

func (b *Broker) unkeep(m *message) {
	s := b.owners[m.from]
	s.n--
	s.bytes -= m.size()
	if s.n == 0 {
		delete(b.owners, m.from)
	} else {
		b.owners[m.from] = s
	}
	b.kept -= m.size()
	if m.mortal {
		b.mortal--
	}
	delete(b.retained, m.topic)
	b.release(m)
}

// subscribe takes up one filter of a SUBSCRIBE. It returns its reason code of MQTT 5, and the subscription
// where what is retained is to be sent.
func (b *Broker) subscribe(s *session, a asked, identifier int) (byte, *subscription) {
	group, rest, ok := splitShare(a.filter)
	levels := strings.Count(rest, "/") + 1
	switch {
	case !ok || !validFilter(rest):
		return byte(reasonFilter), nil
	case group != "" && a.noLocal:
		return byte(reasonProtocol), nil
	case len(a.filter) > maxTopic || levels > b.o.MaxLevels:
		b.warn("embedded broker refuses a subscription: its filter is too long", "client", s.id, "levels", levels)
		return byte(reasonFilter), nil
	}
	sub := &subscription{asked: a, session: s, group: group, rest: rest, identifier: identifier}
	sub.bytes = subscriptionOverhead + 2*len(a.filter) + levels*levelOverhead
	old := s.subs[a.filter]
	if old == nil {
		if len(s.subs) >= b.o.MaxSubscriptions || s.held+sub.bytes > b.o.MaxClientMemory || !b.room(sub.bytes, s) || s.gone {
			b.warn("embedded broker refuses a subscription: its client has too many", "client", s.id, "subscriptions", len(s.subs))
			return byte(reasonQuota), nil
		}
	} else {
		b.unsubscribe(old)
	}
	s.subs[a.filter] = sub
	s.held += sub.bytes
	b.held += sub.bytes
	b.tree.add(sub)
	if group == "" && (a.retainHandling == 0 || a.retainHandling == 1 && old == nil) {
		return a.qos, sub
	}
	return a.qos, nil
}

func (b *Broker) unsubscribe(sub *subscription) {
	s := sub.session
	b.tree.remove(sub)
	delete(s.subs, sub.filter)
	s.held -= sub.bytes
	b.held -= sub.bytes
}

// putRetained gives a client what is retained on the topics of a new subscription, in the order in which it came.
func (b *Broker) putRetained(sub *subscription) {
	s := sub.session
	var found []*message
	if !wild(sub.rest) {
		if m := b.retained[sub.rest]; m != nil {
			found = append(found, m)
		}
	} else {
		for topic, m := range b.retained {
			if wildcard.Match(sub.rest, topic) {
				found = append(found, m)
			}
		}
		slices.SortFunc(found, func(x, y *message) int { return int(x.number) - int(y.number) }) //nolint:gosec // a count
	}
	var identifiers []int
	if sub.identifier > 0 {
		identifiers = []int{sub.identifier}
	}
	for _, m := range found {
		b.put(s, m, min(sub.qos, m.qos), true, identifiers)
	}
}
