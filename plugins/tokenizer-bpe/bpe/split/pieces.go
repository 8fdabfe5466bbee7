package split

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// Behavior says what becomes of the matches of a delimiter; the names are Hugging Face's.
type Behavior string

// The behaviours.
const (
	Isolated           Behavior = "Isolated"           // a match is a word
	Removed            Behavior = "Removed"            // a match is dropped
	Contiguous         Behavior = "Contiguous"         // adjoining matches are one word
	MergedWithPrevious Behavior = "MergedWithPrevious" // a match ends the word before it
	MergedWithNext     Behavior = "MergedWithNext"     // a match starts the word after it
)

// finder finds delimiters: it calls match for each in order. Delimiters do not overlap.
type finder interface {
	find(s string, b *Budget, match func(from, end int)) error
}

// Delimited cuts a text at delimiters.
type Delimited struct {
	finder   finder
	behavior Behavior
	invert   bool // what lies between delimiters counts as the delimiter
}

// piece is a part of a text.
type piece struct {
	from, to int
	match    bool
}

// Split implements Splitter.
func (d *Delimited) Split(s string, to Sink, b *Budget) error {
	var pieces []piece
	done := 0
	err := d.finder.find(s, b, func(from, end int) {
		if done < from {
			pieces = append(pieces, piece{done, from, d.invert})
		}
		pieces = append(pieces, piece{from, end, !d.invert}) // an empty match counts for what merges
		done = end
	})
	if err != nil {
		return err
	}
	if done < len(s) {
		pieces = append(pieces, piece{done, len(s), d.invert})
	}
	for _, p := range d.join(pieces) {
		if p.from < p.to && (d.behavior != Removed || !p.match) {
			to.Word(s[p.from:p.to])
		}
	}
	return nil
}

// join applies the behaviour, in place.
func (d *Delimited) join(p []piece) []piece {
	out := p[:0]
	switch d.behavior {
	case Contiguous:
		for _, x := range p {
			if n := len(out); n > 0 && out[n-1].match == x.match {
				out[n-1].to = x.to
			} else {
				out = append(out, x)
			}
		}
	case MergedWithPrevious:
		last := false
		for _, x := range p {
			if n := len(out); x.match && !last && n > 0 {
				out[n-1].to = x.to
			} else {
				out = append(out, x)
			}
			last = x.match
		}
	case MergedWithNext:
		for i := 0; i < len(p); i++ {
			x := p[i]
			// Of several matches in a row the last joins what follows.
			if x.match && i+1 < len(p) && !p[i+1].match {
				x.to = p[i+1].to
				i++
			}
			out = append(out, x)
		}
	default:
		return p
	}
	return out
}

// charFinder finds single characters.
type charFinder func(r rune) bool

func (f charFinder) find(s string, _ *Budget, match func(from, end int)) error {
	for i, r := range s {
		if f(r) {
			match(i, i+utf8.RuneLen(r))
		}
	}
	return nil
}

// literal finds a text.
type literal string

func (l literal) find(s string, _ *Budget, match func(from, end int)) error {
	if l == "" {
		return nil
	}
	for at := 0; ; {
		i := strings.Index(s[at:], string(l))
		if i < 0 {
			return nil
		}
		match(at+i, at+i+len(l))
		at += i + len(l)
	}
}

// At cuts at a text.
func At(text string, b Behavior, invert bool) (Splitter, error) {
	return delimited(literal(text), b, invert)
}

// AtChars cuts at characters.
func AtChars(is func(r rune) bool, b Behavior) (Splitter, error) {
	return delimited(charFinder(is), b, false)
}

// AtPattern cuts at the matches of a regular expression of Oniguruma's Ruby syntax. Published patterns run as splitters
// written by hand.
func AtPattern(pattern string, b Behavior, invert bool, c *Classes) (Splitter, error) {
	if known := knownPattern(pattern, c); known != nil && known.applies(b, invert) {
		return known.splitter, nil
	}
	p, err := Compile(pattern)
	if err != nil {
		return nil, err
	}
	if b == Isolated {
		return p, nil
	}
	return delimited(p, b, invert)
}

func delimited(f finder, b Behavior, invert bool) (Splitter, error) {
	switch b {
	case Isolated, Removed, Contiguous, MergedWithPrevious, MergedWithNext:
		return &Delimited{finder: f, behavior: b, invert: invert}, nil
	}
	return nil, fmt.Errorf("split behaviour %q is unknown", b)
}

// known is a published pattern's splitter.
type known struct {
	splitter Splitter
	total    bool // the pattern matches all of any text: dropping what lies between matches drops nothing
}

// applies reports whether the splitter does what the behaviour asks for.
func (k *known) applies(b Behavior, invert bool) bool {
	return b == Isolated || k.total && b == Removed && invert
}

// knownPattern returns the splitter of a published pattern as Hugging Face runs it; nil: there is none.
func knownPattern(p string, c *Classes) *known {
	total := func(s Splitter) *known { return &known{splitter: s, total: true} }
	runs := func(k kind) *known { return &known{splitter: newRuns(c, k)} }
	switch p {
	case PatternGPT2:
		return total(GPT2{C: c})
	case PatternLlama3:
		return total(Modern{C: c, MaxDigits: 3, LongS: true})
	case PatternQwen2:
		return total(Modern{C: c, MaxDigits: 1, LongS: true})
	case PatternQwen35:
		return total(Modern{C: c, MaxDigits: 1, Marks: true, LongS: true})
	case PatternO200k:
		return total(Cased{C: c, MaxDigits: 3, Contractions: true, LongS: true})
	case PatternTekken:
		return total(Cased{C: c, MaxDigits: 1})
	case `\p{N}`:
		return runs(kind{in: number, most: 1})
	case `\p{N}{1,3}`:
		return runs(kind{in: number, most: 3})
	case `\p{N}+`:
		return runs(kind{in: number})
	case `[0-9][0-9][0-9]`:
		return runs(kind{ascii: "0123456789", least: 3, most: 3})
	case `[\r\n]`, "[\r\n]":
		return runs(kind{ascii: "\r\n", most: 1})
	case `\s?\p{L}+`:
		return runs(kind{in: letter, lead: true})
	case `\s?\p{P}+`:
		return runs(kind{in: punct, lead: true})
	case "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+":
		return runs(kind{spans: []span{{0x0800, 0x9FA5}, {0xAC00, 0xD7FF}}})
	case "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+":
		return runs(kind{spans: []span{{0x3040, 0x30FF}, {0x4E00, 0x9FA5}}})
	}
	return nil
}

// Digits isolates numeric characters, each or in runs.
func Digits(c *Classes, each bool) Splitter {
	k := kind{in: rustNumber}
	if each {
		k.most = 1
	}
	return newRuns(c, k)
}

// Spaces drops white space and keeps what lies between.
func Spaces(c *Classes) Splitter {
	return &Delimited{finder: charFinder(c.IsSpace), behavior: Removed}
}

// BERT drops white space and isolates punctuation characters.
func BERT(c *Classes) Splitter {
	return Chain{Spaces(c), &Delimited{finder: charFinder(func(r rune) bool { return IsPunctuation(c, r) }), behavior: Isolated}}
}

// IsPunctuation is BERT's idea of punctuation: category P of Unicode 8, and every ASCII character that is
// neither letter, digit, space nor control.
func IsPunctuation(c *Classes, r rune) bool { return c.of(r)&bertPunct != 0 }

// Whitespace cuts words of word characters and runs of anything else but white space: the pattern \w+|[^\w\s]+ .
func Whitespace(c *Classes) Splitter { return &wordRuns{c: c} }

type wordRuns struct{ c *Classes }

// Split implements Splitter.
func (w *wordRuns) Split(s string, to Sink, _ *Budget) error {
	for i := 0; i < len(s); {
		class, n := w.c.at(s, i)
		end := i + n
		switch {
		case class&rustWord != 0:
			end = w.c.run(s, end, rustWord)
		case class&space == 0:
			end = w.c.runNot(s, end, rustWord|space)
		default:
			i = end
			continue
		}
		to.Word(s[i:end])
		i = end
	}
	return nil
}

// FixedLength cuts pieces of n characters.
func FixedLength(n int) Splitter { return fixedLength(n) }

type fixedLength int

// Split implements Splitter.
func (n fixedLength) Split(s string, to Sink, _ *Budget) error {
	start, count := 0, 0
	for i := range s {
		if count == int(n) {
			to.Word(s[start:i])
			start, count = i, 0
		}
		count++
	}
	if start < len(s) {
		to.Word(s[start:])
	}
	return nil
}

// NameOf returns llama.cpp's name of a published pattern, "" where it has none.
func NameOf(pattern string) string {
	switch pattern {
	case PatternGPT2:
		return "gpt-2"
	case PatternLlama3:
		return "llama-bpe"
	case PatternQwen2:
		return "qwen2"
	case PatternQwen35:
		return "qwen35"
	case PatternO200k:
		return "gpt-4o"
	case PatternTekken:
		return "tekken"
	}
	return ""
}
