package arch

import (
	"slices"
	"strconv"
)

// Fix is a repair of tensors whose bytes are not what their name promises: one of the structs of this file.
// They say what a Hugging Face folder holds. llama.cpp's converter has made all of them but Splits, which it
// makes one group of where they are not Stored. Patterns are module names with N for the layer and E for the
// expert, without .weight and .bias ("blk.N.attn_qkv").
type Fix interface{ fix() }

// Transpose turns a matrix that is stored (inputs, outputs), as GPT-2's Conv1D does. bitsandbytes turns such a
// matrix before it packs it, so that packed ones stay.
type Transpose struct{ Of []string }

// Split takes matrices apart whose rows (and the values of whose biases) are stored in one. It consists of
// Groups equal groups (0: 1), and in each the parts follow one another, each with its share of its rows: one
// group is [q k v]; with a group for each head it is [q k v] of one head after the other.
type Split struct {
	Of     string
	Into   []string
	Groups int
	Stored bool // llama.cpp's converter leaves the groups as they are
}

// Join makes a matrix of vectors that stand one by one, as Of.0, Of.1 and so on.
type Join struct{ Of string }

// AddOne adds 1 to a vector that is stored as w where 1 + w is meant.
type AddOne struct{ Of []string }

// Stack takes apart what holds the matrices of all experts in one tensor (Experts, rows, columns), and their
// biases in one (Experts, rows). Of several matrices in it the rows follow one another, or alternate.
type Stack struct {
	Of          string
	Into        []string // "blk.N.ffn_gate.E", …
	Alternating bool     // row 0 is the first one's, row 1 the second's, …
	Transposed  bool     // stored (Experts, columns, rows); biases are not
}

// Expand cuts up the matrix that turns a compressed row into the keys and values of all heads: for each head
// Keys rows and then Values rows. Keys become NAME.HEAD (inputs by outputs, for queries), values NAME.HEAD.
type Expand struct {
	Of                   string
	IntoKeys, IntoValues string // "blk.N.attn_k_b.E", "blk.N.attn_v_b.E"
	Heads, Keys, Values  int
}

func (Expand) fix()    {}
func (Transpose) fix() {}
func (Stack) fix()     {}
func (Split) fix()     {}
func (AddOne) fix()    {}
func (Join) fix()      {}

// SplitOf is the Split of a module pattern, nil where there is none.
func (s *Spec) SplitOf(pattern string) *Split {
	for _, f := range s.Fixes {
		if x, ok := f.(Split); ok && x.Of == pattern {
			return &x
		}
	}
	return nil
}

// A Piece is what one matrix gets of a fused one.
type Piece struct {
	Name string // without .weight
	Rows int    // 0: the model has no such matrix
}

// Pieces lists the matrices that split makes of the fused one with these numbers.
func (s *Spec) Pieces(split *Split, numbers []string) []Piece {
	layer := -1
	if len(numbers) > 0 {
		layer, _ = strconv.Atoi(numbers[0]) // a pattern's numbers are digits
	}
	out := make([]Piece, len(split.Into))
	for i, into := range split.Into {
		out[i].Name = JoinNumbers(into, numbers)
	}
	if layer >= len(s.Layers) {
		return out
	}
	_ = LayerTensors(s, layer, func(t Tensor) error {
		for i := range out {
			if t.Name == out[i].Name+".weight" {
				out[i].Rows = t.Rows
			}
		}
		return nil
	})
	return out
}

// JoinOf reports whether a module pattern, ending in ".E", is a row of a Join.
func (s *Spec) JoinOf(pattern string) bool {
	for _, f := range s.Fixes {
		if x, ok := f.(Join); ok && x.Of+".E" == pattern {
			return true
		}
	}
	return false
}

// ExpandOf is the Expand of a module pattern, nil where there is none.
func (s *Spec) ExpandOf(pattern string) *Expand {
	for _, f := range s.Fixes {
		if x, ok := f.(Expand); ok && x.Of == pattern {
			return &x
		}
	}
	return nil
}

// StackOf is the Stack of a module pattern, nil where there is none.
func (s *Spec) StackOf(pattern string) *Stack {
	for _, f := range s.Fixes {
		if x, ok := f.(Stack); ok && x.Of == pattern {
			return &x
		}
	}
	return nil
}

// Transposed reports whether matrices of a module pattern are stored (inputs, outputs).
func (s *Spec) Transposed(pattern string) bool {
	for _, f := range s.Fixes {
		if x, ok := f.(Transpose); ok && contains(x.Of, pattern) {
			return true
		}
	}
	return false
}

// OneAdded reports whether vectors of a module pattern are stored without their 1.
func (s *Spec) OneAdded(pattern string) bool {
	for _, f := range s.Fixes {
		if x, ok := f.(AddOne); ok && contains(x.Of, pattern) {
			return true
		}
	}
	return false
}

func contains(all []string, s string) bool {
	return slices.Contains(all, s)
}
