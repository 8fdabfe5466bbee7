package split

import (
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/dlclark/regexp2/v2"
)

const (
	// patternTime bounds one search: a tokenizer.json is not trusted, and its pattern may backtrack for ever.
	patternTime = 2 * time.Second
	// patternLength bounds a pattern; the longest published one has about 800 bytes.
	patternLength = 16 << 10
)

// newLetters are the letters that Unicode 15.1 has and package unicode has not.
const newLetters = "\U0002EBF0-\U0002EE5D"

// ErrPattern is a pattern that cannot be used, or that took too long on a text.
var ErrPattern = errors.New("pattern")

// Pattern isolates the matches of a regular expression: the fallback for pre-tokenizers that have no splitter written by
// hand, about twenty times slower.
type Pattern struct{ re *regexp2.Regexp }

// Compile translates a pattern of Oniguruma's Ruby syntax, which Hugging Face's tokenizers use. What has no counterpart is
// refused.
func Compile(pattern string) (*Pattern, error) {
	if len(pattern) > patternLength {
		return nil, fmt.Errorf("%w of %d bytes is too long: at most %d", ErrPattern, len(pattern), patternLength)
	}
	if !utf8.ValidString(pattern) {
		return nil, fmt.Errorf("%w %q is not valid UTF-8", ErrPattern, pattern)
	}
	translated, err := translate(pattern)
	if err != nil {
		return nil, err
	}
	re, err := regexp2.Compile(translated, regexp2.Multiline)
	if err != nil {
		return nil, fmt.Errorf("%w %q: %w", ErrPattern, pattern, err)
	}
	re.MatchTimeout = patternTime
	return &Pattern{re: re}, nil
}

// Split implements Splitter.
func (p *Pattern) Split(s string, to Sink) error {
	start := 0
	return p.Matches(s, func(from, end int) {
		if start < from {
			to.Word(s[start:from])
		}
		if from < end {
			to.Word(s[from:end])
		}
		start = end
	}, func() {
		if start < len(s) {
			to.Word(s[start:])
		}
	})
}

// Matches calls match for the byte range of each match in order, and end after the last.
func (p *Pattern) Matches(s string, match func(from, end int), end func()) error {
	runes := []rune(s)
	at, offset := 0, 0 // a character and its byte
	advance := func(to int) int {
		for at < to {
			offset += utf8.RuneLen(runes[at])
			at++
		}
		return offset
	}
	err := p.re.FindRunesMatches(runes, 0, func(m regexp2.MatchView) bool {
		i, n, ok := m.GroupRange(0)
		if ok {
			from := advance(i)
			match(from, advance(i+n))
		}
		return true
	})
	if err != nil {
		return fmt.Errorf("%w %q on a text of %d bytes: %w", ErrPattern, p.re.String(), len(s), err)
	}
	end()
	return nil
}

// translate turns possessive quantifiers, which regexp2 does not know, into atomic groups, brings letters to Unicode 15.1
// as Classes has them, and refuses intersections of classes, which regexp2 would read as two ampersands.
func translate(p string) (string, error) {
	var out strings.Builder
	atom := -1       // where the last atom starts in out
	var groups []int // starts of open groups in out
	for i := 0; i < len(p); {
		switch c := p[i]; c {
		case '\\':
			n := escapeLength(p[i:])
			atom = out.Len()
			switch e := p[i : i+n]; e {
			case `\p{L}`, `\p{Lo}`:
				out.WriteString("[" + e + newLetters + "]")
			case `\P{L}`, `\P{Lo}`:
				out.WriteString(`[^\p` + e[2:] + newLetters + "]")
			default:
				out.WriteString(e)
			}
			i += n
		case '[':
			n, err := classLength(p[i:])
			if err != nil {
				return "", err
			}
			atom = out.Len()
			class := p[i : i+n]
			for _, name := range []string{`\p{L}`, `\p{Lo}`} {
				class = strings.Replace(class, name, name+newLetters, 1)
			}
			out.WriteString(class)
			i += n
		case '(':
			groups = append(groups, out.Len())
			out.WriteByte(c)
			atom = -1
			i++
		case ')':
			if len(groups) > 0 {
				atom = groups[len(groups)-1]
				groups = groups[:len(groups)-1]
			}
			out.WriteByte(c)
			i++
		case '?', '*', '+':
			if i+1 < len(p) && p[i+1] == '+' && atom >= 0 {
				body := out.String()
				out.Reset()
				out.WriteString(body[:atom] + "(?>" + body[atom:] + string(c) + ")")
				atom = -1
				i += 2
				continue
			}
			out.WriteByte(c)
			i++
			if i < len(p) && p[i] == '?' {
				out.WriteByte('?')
				i++
			}
			atom = -1
		case '|':
			out.WriteByte(c)
			atom = -1
			i++
		default:
			_, n := utf8.DecodeRuneInString(p[i:])
			atom = out.Len()
			out.WriteString(p[i : i+n])
			i += n
		}
	}
	return out.String(), nil
}

// escapeLength is the length of the escape at the start of p.
func escapeLength(p string) int {
	if len(p) >= 3 && (p[1] == 'p' || p[1] == 'P') && p[2] == '{' {
		if end := strings.IndexByte(p, '}'); end > 0 {
			return end + 1
		}
	}
	if len(p) < 2 {
		return len(p)
	}
	_, n := utf8.DecodeRuneInString(p[1:])
	return 1 + n
}

// classLength is the length of the bracketed class at the start of p.
func classLength(p string) (int, error) {
	i := 1
	if i < len(p) && p[i] == '^' {
		i++
	}
	for first := true; i < len(p); first = false {
		switch {
		case p[i] == '\\':
			i += escapeLength(p[i:])
		case p[i] == ']' && !first:
			return i + 1, nil
		case p[i] == '[' && !strings.HasPrefix(p[i:], "[:"):
			return 0, fmt.Errorf("%w has a class within a class, which is not supported: %q", ErrPattern, p)
		case strings.HasPrefix(p[i:], "&&"):
			return 0, fmt.Errorf("%w has an intersection of classes, which is not supported: %q", ErrPattern, p)
		default:
			i++
		}
	}
	return 0, fmt.Errorf("%w has a class that does not end: %q", ErrPattern, p)
}
