package broker

import "strings"

// validTopic says that a message may have this topic. Lengths and levels are bounded elsewhere.
func validTopic(topic string) bool {
	return topic != "" && !strings.ContainsAny(topic, "+#\x00")
}

// splitShare takes $share/GROUP/ off a filter; group is "" where there is none. ok is false where the form is broken.
func splitShare(filter string) (group, rest string, ok bool) {
	rest, shared := strings.CutPrefix(filter, "$share/")
	if !shared {
		return "", filter, filter != "$share"
	}
	group, rest, ok = strings.Cut(rest, "/")
	return group, rest, ok && group != "" && rest != "" && !strings.ContainsAny(group, "+#")
}

// validFilter says that wildcards stand where they may: + as a whole level, # as the whole last one.
func validFilter(filter string) bool {
	if filter == "" {
		return false
	}
	for level := range strings.SplitSeq(filter, "/") {
		if level != "+" && level != "#" && strings.ContainsAny(level, "+#") {
			return false
		}
	}
	hash := strings.IndexByte(filter, '#')
	return hash < 0 || hash == len(filter)-1
}

// wild says that a filter has wildcards.
func wild(filter string) bool { return strings.ContainsAny(filter, "+#") }

// node is a level of the tree of filters.
type node struct {
	children map[string]*node
	subs     map[*session]*subscription
	groups   map[string]*group
}

// group is those who share a filter, in the order of their subscribing; next is whose turn it is.
type group struct {
	members []*subscription
	next    int
}

func (n *node) empty() bool { return len(n.children)+len(n.subs)+len(n.groups) == 0 }

// tree finds the subscriptions for a topic. Its cost is bounded by the caps on subscriptions and levels.
type tree struct{ root node }

// add puts a subscription in, in place of an earlier one of the same session and filter.
func (t *tree) add(s *subscription) {
	n := &t.root
	for level := range strings.SplitSeq(s.rest, "/") {
		child := n.children[level]
		if child == nil {
			child = &node{}
			if n.children == nil {
				n.children = map[string]*node{}
			}
			n.children[level] = child
		}
		n = child
	}
	if s.group == "" {
		if n.subs == nil {
			n.subs = map[*session]*subscription{}
		}
		n.subs[s.session] = s
		return
	}
	g := n.groups[s.group]
	if g == nil {
		g = &group{}
		if n.groups == nil {
			n.groups = map[string]*group{}
		}
		n.groups[s.group] = g
	}
	for i, m := range g.members {
		if m.session == s.session {
			g.members[i] = s
			return
		}
	}
	g.members = append(g.members, s)
}

// remove takes a subscription out, and the levels that only it had.
func (t *tree) remove(s *subscription) {
	levels := strings.Split(s.rest, "/")
	path := make([]*node, 0, len(levels)+1)
	n := &t.root
	for _, level := range levels {
		path = append(path, n)
		if n = n.children[level]; n == nil {
			return
		}
	}
	if s.group == "" {
		if n.subs[s.session] == s {
			delete(n.subs, s.session)
		}
	} else if g := n.groups[s.group]; g != nil {
		for i, m := range g.members {
			if m == s {
				g.members = append(g.members[:i:i], g.members[i+1:]...)
				break
			}
		}
		if len(g.members) == 0 {
			delete(n.groups, s.group)
		}
	}
	for i := len(levels) - 1; i >= 0 && n.empty(); i-- {
		n = path[i]
		delete(n.children, levels[i])
	}
}

// match calls each for every level that takes a topic, and returns how many it looked at.
func (t *tree) match(topic string, each func(*node)) (visited int) {
	var walk func(n *node, topic string, more, first bool)
	walk = func(n *node, topic string, more, first bool) {
		visited++
		dollar := first && topic[0] == '$'
		if hash := n.children["#"]; hash != nil && !dollar {
			each(hash)
		}
		if !more {
			each(n)
			return
		}
		level, rest, deeper := strings.Cut(topic, "/")
		if child := n.children[level]; child != nil {
			walk(child, rest, deeper, false)
		}
		if plus := n.children["+"]; plus != nil && !dollar {
			walk(plus, rest, deeper, false)
		}
	}
	walk(&t.root, topic, true, true)
	return visited
}
