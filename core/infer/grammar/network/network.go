package network

// Network is a grammar's rules over bytes. It is not changed once it is made.
type Network struct {
	Nodes []Node
	Rules []Rule
	Root  int32 // rule
	Alive []bool
	Class [256]uint8 // bytes that no edge tells apart are of one class
	Least []byte     // of each class: one of its bytes
}

// Node is a place in a rule.
type Node struct {
	Edges []Edge
	Eps   []int32
	Calls []Call
	End   bool // of its rule; it has nothing else then
}

// Edge is passed by one byte of lo to hi.
type Edge struct {
	To     int32
	Lo, Hi byte
}

// Call is passed by a text of a rule.
type Call struct{ Rule, Back int32 }

// Rule is the places between which its texts lead.
type Rule struct {
	name       string
	Start, end int32
}
