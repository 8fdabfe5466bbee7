package normalize

import (
	"strings"

	"edged/plugins/tokenizer-bpe/bpe/vocab"
)

// SentencePiece normalises a text as SentencePiece does, and llama.cpp after it: the longest match of the
// character map at each place, and spaces as blanks.
type SentencePiece struct {
	Charsmap    *Charsmap   // nil: there is none
	UserDefined *vocab.Trie // user-defined tokens, which stay as they are; nil: there are none
	AddPrefix   bool        // puts a space before the text
	Squeeze     bool        // makes one space of several, and drops those at the ends
	Escape      bool        // writes spaces as blanks
	// AlwaysPrefix puts a space before the text also without AddPrefix, where Squeeze is set: llama.cpp does so.
	AlwaysPrefix bool
}

// Normalize returns s normalised.
func (n *SentencePiece) Normalize(s string) string {
	space := " "
	if n.Escape {
		space = vocab.Blank
	}
	var b strings.Builder
	b.Grow(len(s) + len(s)/4)
	started, inWord := false, false
	put := func(s string) {
		for i := range len(s) {
			switch {
			case s[i] != ' ':
				if !inWord {
					inWord = true
					if n.AddPrefix && !started || n.Squeeze && (started || n.AlwaysPrefix) {
						b.WriteString(space)
					}
					started = true
				}
				b.WriteByte(s[i])
			case n.Squeeze:
				inWord = false
			default:
				inWord = false
				b.WriteString(space)
			}
		}
	}
	for s != "" {
		size := n.userDefinedLength(s)
		by := s[:size]
		if size == 0 && n.Charsmap != nil {
			size, by = n.Charsmap.longest(s)
		}
		if size == 0 {
			size = vocab.CharLength(s[0])
			size = min(size, len(s))
			by = s[:size]
		}
		put(by)
		s = s[size:]
	}
	return b.String()
}

// userDefinedLength is the length of what a user-defined token, or its beginning, covers at the start of s.
func (n *SentencePiece) userDefinedLength(s string) int {
	if n.UserDefined == nil {
		return 0
	}
	node, size := n.UserDefined.Start(s[0]), 0
	for node >= 0 {
		size++
		if size == len(s) {
			break
		}
		node = n.UserDefined.Step(node, s[size])
	}
	return size
}
