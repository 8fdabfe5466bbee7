package vocab

import "slices"

// Trie finds all texts of a list that a text starts with, byte by byte: Start, then Step for each following
// byte; Value says whether one of the texts ends there. The children of a node lie side by side, sorted by
// their byte: a node takes 12 bytes, and building is one pass over the sorted texts, whatever a file puts in
// them.
type Trie struct {
	nodes []trieNode
	root  [256]int32 // the node of each first byte; -1: none
}

// trieNode is the node of a byte: its children and the value of the text that ends at it.
type trieNode struct {
	first int32  // its first child
	value int32  // of the text that ends here; -1: none
	count uint16 // of its children
	b     byte
}

// NewTrie builds the trie of texts with their values; of equal texts the last counts. Empty texts are left out.
func NewTrie(texts []string, values []int32) *Trie {
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
	t := &Trie{}
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

// Start is the node for the first byte of a text; -1 where no text of the list starts with it.
func (t *Trie) Start(b byte) int32 { return t.root[b] }

// Value is the value of the text that ends at a node; -1 where none does.
func (t *Trie) Value(node int32) int32 { return t.nodes[node].value }

// Step is the node for the byte b after a node; -1 where no text of the list goes on with it.
func (t *Trie) Step(node int32, b byte) int32 {
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

// Longest returns the longest text of the trie that s starts with, and its length; 0 for none.
func (t *Trie) Longest(s string) (value int32, n int) {
	node := t.Start(s[0])
	for i := 1; node >= 0; i++ {
		if v := t.Value(node); v >= 0 {
			value, n = v, i
		}
		if i == len(s) {
			break
		}
		node = t.Step(node, s[i])
	}
	return value, n
}
