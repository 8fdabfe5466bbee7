package bpe

import "slices"

// prefixTrie finds all texts of a list that a text starts with. The children of a node lie side by side, sorted by their
// byte: a node takes 12 bytes, and building is one pass over the sorted texts, whatever a file puts in them.
type prefixTrie struct {
	nodes []trieNode
	root  [256]int32 // the node of each first byte; -1: none
}

// trieNode is what follows a byte.
type trieNode struct {
	first int32  // its first child
	value int32  // of the text that ends here; -1: none
	count uint16 // of its children
	b     byte
}

// newPrefixTrie builds the trie of texts with their values; of equal texts the last counts. Empty texts are left out.
func newPrefixTrie(texts []string, values []int32) *prefixTrie {
	order := make([]int32, 0, len(texts))
	for i, s := range texts {
		if s != "" {
			order = append(order, int32(i))
		}
	}
	slices.SortStableFunc(order, func(a, b int32) int {
		if texts[a] < texts[b] {
			return -1
		}
		if texts[a] > texts[b] {
			return 1
		}
		return 0
	})
	t := &prefixTrie{}
	for i := range t.root {
		t.root[i] = -1
	}
	// Breadth first: the texts of a node are a range of the sorted list.
	type span struct{ lo, hi, node, depth int32 }
	queue := []span{{0, int32(len(order)), -1, 0}}
	for len(queue) > 0 {
		s := queue[0]
		queue = queue[1:]
		lo := s.lo
		for lo < s.hi && int32(len(texts[order[lo]])) == s.depth {
			t.nodes[s.node].value = values[order[lo]]
			lo++
		}
		if s.node >= 0 {
			t.nodes[s.node].first = int32(len(t.nodes))
		}
		for lo < s.hi {
			b := texts[order[lo]][s.depth]
			end := lo + 1
			for end < s.hi && texts[order[end]][s.depth] == b {
				end++
			}
			n := int32(len(t.nodes))
			t.nodes = append(t.nodes, trieNode{value: -1, b: b})
			if s.node >= 0 {
				t.nodes[s.node].count++
			} else {
				t.root[b] = n
			}
			queue = append(queue, span{lo, end, n, s.depth + 1})
			lo = end
		}
	}
	return t
}

// start is the node of a text's first byte; -1: no text starts so.
func (t *prefixTrie) start(b byte) int32 { return t.root[b] }

// value is the value of the text that ends at a node; -1: none does.
func (t *prefixTrie) value(node int32) int32 { return t.nodes[node].value }

// step follows a byte from a node; -1: no text goes on so.
func (t *prefixTrie) step(node int32, b byte) int32 {
	n := &t.nodes[node]
	lo, hi := n.first, n.first+int32(n.count)
	if n.count <= 8 {
		for ; lo < hi; lo++ {
			if t.nodes[lo].b == b {
				return lo
			}
		}
		return -1
	}
	for lo < hi {
		mid := int32(uint32(lo+hi) >> 1)
		switch c := t.nodes[mid].b; {
		case c == b:
			return mid
		case c < b:
			lo = mid + 1
		default:
			hi = mid
		}
	}
	return -1
}

// longest returns the longest text of the trie that s starts with, and its length; 0 for none.
func (t *prefixTrie) longest(s string) (value int32, n int) {
	node := t.start(s[0])
	for i := 1; node >= 0; i++ {
		if v := t.value(node); v >= 0 {
			value, n = v, i
		}
		if i == len(s) {
			break
		}
		node = t.step(node, s[i])
	}
	return value, n
}
