// Package thinking knows how models write what they think before they answer: the marks around a thought, by
// family, the variables with which chat templates switch it on and off, and how to split a text into thought
// and answer while it is generated.
//
// It must not know requests, tokens or the backend. A Splitter belongs to one answer; everything else may be
// called concurrently.
package thinking
