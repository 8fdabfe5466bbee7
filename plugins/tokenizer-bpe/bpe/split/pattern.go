package split

import (
	"errors"
	"fmt"
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

// ErrPattern is a pattern that cannot be used, or that took too long on a text.
var ErrPattern = errors.New("pattern")

// Pattern isolates the matches of a regular expression: the fallback for pre-tokenizers that have no splitter written by
// hand, about twenty times slower.
type Pattern struct{ re *regexp2.Regexp }

// Compile translates a pattern of Oniguruma's Ruby syntax, which Hugging Face's tokenizers use. What has no counterpart is
// refused.
func Compile(pattern string) (*Pattern, error) { return compile(pattern, hfChanges()) }

// compileLlama is Compile with the sets of characters that llama.cpp has: those of Unicode 15.1.
func compileLlama(pattern string) (*Pattern, error) {
	ideographs := []span{{0x2EBF0, 0x2EE5D}}
	return compile(pattern, map[string]change{
		"L": {add: ideographs}, "Lo": {add: ideographs}, "word": {add: ideographs}, "alpha": {add: ideographs}, "S": {add: []span{{0x2FFC, 0x2FFF}, {0x31EF, 0x31EF}}},
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
	last := -1 // where the match before ended
	err := p.re.FindRunesMatches(runes, 0, func(m regexp2.MatchView) bool {
		i, n, ok := m.GroupRange(0)
		if ok && (n > 0 || i != last) { // an empty match right behind another does not count
			from := advance(i)
			match(from, advance(i+n))
			last = i + n
		}
		return true
	})
	if err != nil {
		return fmt.Errorf("%w %q on a text of %d bytes: %w", ErrPattern, p.re.String(), len(s), err)
	}
	end()
	return nil
}
