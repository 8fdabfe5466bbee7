package split

import "unicode/utf8"

// The published patterns of this file.
const (
	// PatternO200k is GPT-4o's, and with it Llama 4's and Phi-4-mini's.
	PatternO200k = `[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?` +
		`|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?` +
		`|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+`
	// PatternTekken is Mistral's since Nemo.
	PatternTekken = `[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+` +
		`|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*` +
		`|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+`
)

// Cased splits by PatternO200k and PatternTekken: a word is capitals and then small letters, each of which
// may be missing, so that camelCase is two.
type Cased struct {
	C            *Classes
	MaxDigits    int
	Contractions bool // 's and its like end a word
	LongS        bool // see Modern
	// Loose is llama.cpp's reading: letters above ASCII count as capital and as small, and marks as neither.
	Loose bool
}

// Split implements Splitter.
func (k Cased) Split(s string, to Sink, _ *Budget) error {
	for len(s) > 0 {
		n := k.next(s)
		to.Word(s[:n])
		s = s[n:]
	}
	return nil
}

// of reports whether the character at s[i] may stand among the capitals, among the small letters, and its length.
func (k Cased) of(s string, i int) (head, tail bool, n int) {
	c, n := k.C.at(s, i)
	switch {
	case !k.Loose && c&mark != 0:
		return true, true, n
	case c&letter == 0:
		return false, false, n
	case k.Loose && s[i] >= utf8.RuneSelf:
		return true, true, n
	}
	return c&lower == 0, c&upper == 0, n
}

func (k Cased) next(s string) int {
	c, n := k.C.at(s, 0)
	// One character that is no letter, digit or line end may stand before a word.
	lead := 0
	if c&(letter|number) == 0 && s[0] != '\r' && s[0] != '\n' {
		lead = n
	}
	for _, word := range []func(s string, i int) int{k.withTail, k.headOnly} {
		for _, from := range [2]int{lead, 0} {
			if end := word(s, from); end > 0 {
				return k.contracted(s, end)
			}
			if lead == 0 {
				break
			}
		}
	}
	if c&number != 0 {
		return Modern{C: k.C, MaxDigits: k.MaxDigits}.digits(s, n)
	}
	i := 0
	if s[0] == ' ' {
		if c2, n2 := k.C.at(s, 1); n2 > 0 && c2&(space|number|letter) == 0 {
			i, c, n = 1, c2, n2
		}
	}
	if c&space != 0 {
		return k.C.spacesAndLines(s)
	}
	i = k.C.runNot(s, i+n, letter|number|space)
	for i < len(s) && (s[i] == '\n' || s[i] == '\r' || s[i] == '/') {
		i++
	}
	return i
}

// withTail matches capitals* small+ at s[i] and returns its end, 0 for none. As many capitals as possible
// come first; where no small letter follows them, the last of them that is small as well is the one.
func (k Cased) withTail(s string, i int) int {
	end := 0
	for {
		head, tail, n := k.of(s, i)
		if !head {
			if !tail {
				return end
			}
			break
		}
		i += n
		if tail {
			end = i
		}
	}
	for {
		_, tail, n := k.of(s, i)
		if !tail {
			return i
		}
		i += n
	}
}

// headOnly matches capitals+ at s[i], which no small letter follows.
func (k Cased) headOnly(s string, i int) int {
	from := i
	for {
		head, _, n := k.of(s, i)
		if !head {
			break
		}
		i += n
	}
	if i == from {
		return 0
	}
	return i
}

// contracted extends a word that ends at end by a contraction.
func (k Cased) contracted(s string, end int) int {
	if k.Contractions && end < len(s) && s[end] == '\'' {
		return end + contractionFold(s[end:], k.LongS)
	}
	return end
}
