// Package split cuts a text into the words that byte-level BPE merges within: the pre-tokenizers.
//
// Each published pattern that a model of some reach uses has a splitter written by hand (one pass, no allocation, no
// backtracking that a text could provoke); package regexp2 runs the patterns that are not known, and is what the tests
// compare the hand-written ones with. A model's pre-tokenizer is a chain: each stage cuts further what the stage before
// left.
//
// The package must not know what a token is. Splitters are immutable and may be used concurrently; texts are
// valid UTF-8.
package split

// Sink takes the words of a text in order. They are slices of the text, never empty, and joined are the text.
type Sink interface {
	Word(w string)
}

// Splitter cuts a text into words.
type Splitter interface {
	// Split hands each word of s to the sink. The error is a pattern's that took too long; splitters written by hand
	// return none and need no budget.
	Split(s string, to Sink, b *Budget) error
}

// Chain applies its stages one after the other: each cuts the words that the one before made.
type Chain []Splitter

// Split implements Splitter.
func (c Chain) Split(s string, to Sink, b *Budget) error {
	switch len(c) {
	case 0:
		if s != "" {
			to.Word(s)
		}
		return nil
	case 1:
		return c[0].Split(s, to, b)
	}
	links := make([]link, len(c)-1)
	for i := len(links) - 1; i >= 0; i-- {
		links[i] = link{next: c[i+1], to: to, budget: b}
		to = &links[i]
	}
	err := c[0].Split(s, to, b)
	for i := range links {
		if err == nil {
			err = links[i].err
		}
	}
	return err
}

// link is the sink of one stage and the source of the next.
type link struct {
	next   Splitter
	to     Sink
	budget *Budget
	err    error
}

func (l *link) Word(w string) {
	if l.err == nil {
		l.err = l.next.Split(w, l.to, l.budget)
	}
}
