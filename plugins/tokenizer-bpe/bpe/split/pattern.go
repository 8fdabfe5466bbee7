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
	// patternTimePerByte is added to a text's budget for each of its bytes beside patternTime: a hundred times what
	// published patterns need (11 MB/s were measured), since a small board under load is slow.
	patternTimePerByte = 10 * time.Microsecond
	// patternLength bounds a pattern; the longest published one has about 800 bytes.
	patternLength = 16 << 10
)

// ErrPattern is a pattern that cannot be used, or that took too long on a text.
var ErrPattern = errors.New("pattern")

var errBudget = errors.New("the patterns of the tokenizer took too long on this text together")

// Budget is the time that patterns may take on one text, all of them and all of their searches together; what the words
// are used for between them does not count. The zero value has no time left; a nil one has no
// end. One goroutine at a time may use it.
type Budget struct{ left time.Duration }

// NewBudget is a budget for a text of so many bytes.
func NewBudget(bytes int) Budget {
	return Budget{left: patternTime + time.Duration(bytes)*patternTimePerByte}
}

// Pattern isolates the matches of a regular expression: the fallback for pre-tokenizers that have no splitter
// written by hand, about twenty times slower.
type Pattern struct{ re *regexp2.Regexp }

// Compile translates a pattern of Oniguruma's Ruby syntax, which Hugging Face's tokenizers use. What has no
// counterpart is refused.
func Compile(pattern string) (*Pattern, error) { return compile(pattern, hfChanges()) }

// compileLlama is Compile with the sets of characters that llama.cpp has: those of Unicode 15.1.
func compileLlama(pattern string) (*Pattern, error) {
	ideographs := []span{{0x2EBF0, 0x2EE5D}}
	return compile(pattern, map[string]change{
		"L": {
			add: ideographs,
		},
		"Lo":    {add: ideographs},
		"word":  {add: ideographs},
		"alpha": {add: ideographs},
		"S":     {add: []span{{0x2FFC, 0x2FFF}, {0x31EF, 0x31EF}}},
	})
}

func compile(pattern string, changes map[string]change) (*Pattern, error) {
	if len(pattern) > patternLength {
		return nil, fmt.Errorf("%w of %d bytes is too long: at most %d", ErrPattern, len(pattern), patternLength)
	}
	if !utf8.ValidString(pattern) {
		return nil, fmt.Errorf("%w %q is not valid UTF-8", ErrPattern, pattern)
	}
	translated, err := translate(pattern, changes)
	if err != nil {
		return nil, fmt.Errorf("%w %q: %w", ErrPattern, pattern, err)
	}
	re, err := regexp2.Compile(translated, regexp2.Multiline)
	if err != nil {
		return nil, fmt.Errorf("%w %q: %w", ErrPattern, pattern, err)
	}
	re.MatchTimeout = patternTime
	return &Pattern{re: re}, nil
}

// Split implements Splitter.
func (p *Pattern) Split(s string, to Sink, b *Budget) error {
	// The matches are collected first, so that what the sink does is not taken for the pattern's time.
	var matches []piece
	err := p.find(s, b, func(from, end int) { matches = append(matches, piece{from: from, to: end}) })
	if err != nil {
		return err
	}
	start := 0
	for _, m := range matches {
		if start < m.from {
			to.Word(s[start:m.from])
		}
		if m.from < m.to {
			to.Word(s[m.from:m.to])
		}
		start = m.to
	}
	if start < len(s) {
		to.Word(s[start:])
	}
	return nil
}

// Replace puts a text in the place of each match.
func (p *Pattern) Replace(s, by string, b *Budget) (string, error) {
	var out strings.Builder
	done, any := 0, false
	err := p.find(s, b, func(from, end int) {
		out.WriteString(s[done:from])
		out.WriteString(by)
		done, any = end, true
	})
	if err != nil || !any {
		return s, err
	}
	out.WriteString(s[done:])
	return out.String(), nil
}

// find implements finder. It calls match with the byte range of each match in order.
func (p *Pattern) find(s string, b *Budget, match func(from, end int)) error {
	failed := func(why error) error {
		return fmt.Errorf("%w %.200q on a text of %d bytes: %w", ErrPattern, p.re.String(), len(s), why)
	}
	start := time.Now()
	over := func() bool { return b != nil && (b.left <= 0 || time.Since(start) > b.left) }
	if over() {
		return failed(errBudget)
	}
	runes := []rune(s)
	at, offset := 0, 0 // a character and its byte
	advance := func(to int) int {
		for at < to {
			offset += utf8.RuneLen(runes[at])
			at++
		}
		return offset
	}
	last := -1 // where the match before ended
	late := false
	err := p.re.FindRunesMatches(runes, 0, func(m regexp2.MatchView) bool {
		i, n, ok := m.GroupRange(0)
		if ok && (n > 0 || i != last) { // an empty match right behind another does not count
			from := advance(i)
			match(from, advance(i+n))
			last = i + n
		}
		late = over() // the library's own bound is for each search alone
		return !late
	})
	if b != nil {
		b.left -= time.Since(start)
	}
	switch {
	case err != nil:
		return failed(err)
	case late:
		return failed(errBudget)
	}
	return nil
}
