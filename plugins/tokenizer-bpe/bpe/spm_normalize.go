package bpe

import "strings"

// spmNormalizer normalises a text as SentencePiece does, and llama.cpp after it: the longest match of the character map at
// each place, and spaces as blanks.
type spmNormalizer struct {
	charsmap *charsmap   // nil: there is none
	defined  *prefixTrie // user-defined tokens, which stay as they are; nil: there are none
	prefix   bool        // a blank stands before the text
	squeeze  bool        // runs of spaces are one, and those at the ends go
	escape   bool        // spaces become blanks
	// always: where runs are squeezed, a blank stands before the first word even without prefix (llama.cpp).
	always bool
}

func (n *spmNormalizer) normalize(s string) string {
	space := " "
	if n.escape {
		space = blank
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
					if n.prefix && !started || n.squeeze && (started || n.always) {
						b.WriteString(space)
					}
					started = true
				}
				b.WriteByte(s[i])
			case n.squeeze:
				inWord = false
			default:
				inWord = false
				b.WriteString(space)
			}
		}
	}
	for s != "" {
		size := n.keep(s)
		by := s[:size]
		if size == 0 && n.charsmap != nil {
			size, by = n.charsmap.longest(s)
		}
		if size == 0 {
			size = leadLength(s[0])
			size = min(size, len(s))
			by = s[:size]
		}
		put(by)
		s = s[size:]
	}
	return b.String()
}

// keep is the length of what a user-defined token, or its beginning, covers at the start of s.
func (n *spmNormalizer) keep(s string) int {
	if n.defined == nil {
		return 0
	}
	node, size := n.defined.start(s[0]), 0
	for node >= 0 {
		size++
		if size == len(s) {
			break
		}
		node = n.defined.step(node, s[size])
	}
	return size
}
