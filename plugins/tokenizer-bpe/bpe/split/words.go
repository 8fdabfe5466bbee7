package split

// The published patterns of this file, as tokenizer.json and the papers give them.
const (
	// PatternGPT2 is GPT-2's, and with it MPT's, OLMo's, GPT-NeoX's and, after other stages, Falcon's and StarCoder's.
	PatternGPT2 = `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`
	// PatternLlama3 is Llama 3's (and cl100k's without possessive quantifiers).
	PatternLlama3 = `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
	// PatternQwen2 is Qwen 2's, 2.5's and 3's.
	PatternQwen2 = `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
	// PatternQwen35 is Qwen 3.5's: marks join the letters before them.
	PatternQwen35 = `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
)

// GPT2 splits by PatternGPT2.
type GPT2 struct{ C *Classes }

// Split implements Splitter.
func (g GPT2) Split(s string, to Sink, _ *Budget) error {
	for len(s) > 0 {
		n := g.next(s)
		to.Word(s[:n])
		s = s[n:]
	}
	return nil
}

func (g GPT2) next(s string) int {
	if s[0] == '\'' {
		if n := contraction(s); n > 0 {
			return n
		}
	}
	i := 0
	c, n := g.C.at(s, 0)
	if s[0] == ' ' {
		if c2, n2 := g.C.at(s, 1); n2 > 0 && c2&space == 0 {
			i, c, n = 1, c2, n2
		}
	}
	switch {
	case c&letter != 0:
		return g.C.run(s, i+n, letter)
	case c&number != 0:
		return g.C.run(s, i+n, number)
	case c&space == 0:
		return g.C.runNot(s, i+n, letter|number|space)
	}
	return g.C.spaces(s)
}

// Modern splits by PatternLlama3 and its relatives: Qwen 2 (MaxDigits 1), Qwen 3.5 (MaxDigits 1, Marks).
type Modern struct {
	C         *Classes
	MaxDigits int  // longest run of digits that stays one word; 0: any
	Marks     bool // combining marks count as letters
	// LongS makes the contraction 's accept U+017F, which full case folding equals with s: Oniguruma, and with it
	// Hugging Face, does so, llama.cpp does not.
	LongS bool
}

// Split implements Splitter.
func (m Modern) Split(s string, to Sink, _ *Budget) error {
	for len(s) > 0 {
		n := m.next(s)
		to.Word(s[:n])
		s = s[n:]
	}
	return nil
}

func (m Modern) next(s string) int {
	if s[0] == '\'' {
		if n := contractionFold(s, m.LongS); n > 0 {
			return n
		}
	}
	letters := letter
	if m.Marks {
		letters |= mark
	}
	c, n := m.C.at(s, 0)
	switch {
	case c&letters != 0:
		return m.C.run(s, n, letters)
	case c&number != 0:
		return m.digits(s, n)
	case s[0] != '\r' && s[0] != '\n':
		// One character of any other kind joins the letters after it.
		if c2, n2 := m.C.at(s, n); c2&letters != 0 {
			return m.C.run(s, n+n2, letters)
		}
	}
	i := 0
	if s[0] == ' ' {
		if c2, n2 := m.C.at(s, 1); n2 > 0 && c2&(space|number) == 0 {
			i, c, n = 1, c2, n2
		}
	}
	if c&space == 0 {
		return newlines(s, m.C.runNot(s, i+n, letters|number|space))
	}
	return m.C.spacesAndLines(s)
}

// digits returns the end of a run of digits whose first ends at i.
func (m Modern) digits(s string, i int) int {
	if m.MaxDigits == 0 {
		return m.C.run(s, i, number)
	}
	for range m.MaxDigits - 1 {
		c, n := m.C.at(s, i)
		if c&number == 0 {
			break
		}
		i += n
	}
	return i
}

// contraction matches 's|'t|'re|'ve|'m|'ll|'d at the start of s, which starts with an apostrophe; 0: none.
func contraction(s string) int {
	if len(s) < 2 {
		return 0
	}
	switch s[1] {
	case 's', 't', 'm', 'd':
		return 2
	}
	if len(s) < 3 {
		return 0
	}
	switch s[1:3] {
	case "re", "ve", "ll":
		return 3
	}
	return 0
}

// contractionFold is contraction in either case.
func contractionFold(s string, longS bool) int {
	if len(s) < 2 {
		return 0
	}
	switch s[1] | 0x20 {
	case 's', 't', 'm', 'd':
		return 2
	}
	if len(s) < 3 {
		return 0
	}
	if longS && s[1:3] == "\u017f" {
		return 3
	}
	a, b := s[1]|0x20, s[2]|0x20
	if (a == 'r' || a == 'v') && b == 'e' || a == 'l' && b == 'l' {
		return 3
	}
	return 0
}

// spaces matches \s+(?!\S)|\s+ at the start of s, which starts with white space: a run before other text
// leaves its last character to that text.
func (t *Classes) spaces(s string) int {
	last, i := 0, 0
	for {
		c, n := t.at(s, i)
		if c&space == 0 {
			break
		}
		last = i
		i += n
	}
	if i < len(s) && last > 0 {
		return last
	}
	return i
}

// spacesAndLines matches \s*[\r\n]+|\s+(?!\S)|\s+: a run that holds line ends goes up to the last of them.
func (t *Classes) spacesAndLines(s string) int {
	last, line, i := 0, 0, 0
	for {
		c, n := t.at(s, i)
		if c&space == 0 {
			break
		}
		last = i
		i += n
		if s[last] == '\n' || s[last] == '\r' {
			line = i
		}
	}
	switch {
	case line > 0:
		return line
	case i < len(s) && last > 0:
		return last
	default:
		return i
	}
}

// newlines returns the end of the run of line ends at s[i].
func newlines(s string, i int) int {
	for i < len(s) && (s[i] == '\n' || s[i] == '\r') {
		i++
	}
	return i
}

// Lines splits into runs of line feeds and runs of anything else: [^\n]+|[\n]+. Gemma 4 merges within whole lines.
type Lines struct{}

// Split implements Splitter.
func (Lines) Split(s string, to Sink, _ *Budget) error {
	for len(s) > 0 {
		i, feed := 1, s[0] == '\n'
		for i < len(s) && (s[i] == '\n') == feed {
			i++
		}
		to.Word(s[:i])
		s = s[i:]
	}
	return nil
}
