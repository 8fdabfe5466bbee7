package model

import "edged/plugins/tokenizer-bpe/bpe/split"

// Model turns text between added tokens, after normalisation, into ids.
type Model interface {
	// Encode appends the ids of s, which is not empty, to w.Out. first says that s is at the start of the
	// whole text, afterToken that an added token or the start of the text stands before it. The error says
	// what is wrong with s.
	Encode(w *Scratch, s string, first, afterToken bool) error
}

// Scratch is the memory that one call of a model works in, for reuse by the next call. The zero value is
// ready. A call sets Out, Patterns and Strict, and calls Free when it has taken Out.
type Scratch struct {
	// Out has the ids; models append to it.
	Out []int32
	// Patterns is the budget of steps that the pre-tokenizer's patterns may take on the text.
	Patterns split.Budget
	// Strict forbids models to choose a control token, whatever the text looks like.
	Strict bool

	merger
	wordCache
	lattice lattice
	buf     []byte
}

// Free drops the ids and the memory that only a huge text needs.
func (w *Scratch) Free() {
	w.Out = nil
	w.merger.release()
	w.lattice.release()
	if cap(w.buf) > 1<<18 {
		w.buf = nil
	}
}
