// Package text turns the bytes of generated tokens into a stream of text: whole UTF-8 sequences only, cut at
// stop strings, and never a byte that might still turn out to be part of one.
//
// It must not know tokens, vocabularies or requests: it is given bytes. A Stream belongs to one goroutine.
//
// Bytes that are not UTF-8 become U+FFFD, one for each maximal subpart of an ill-formed sequence, as The
// Unicode Standard (chapter 3, "U+FFFD Substitution of Maximal Subparts") recommends and as the WHATWG
// decoder does it; Go's own range loop gives one for each byte.
package text

import (
	"errors"
	"fmt"
	"unicode/utf8"
)

// ErrStop means that a stop string can never match.
var ErrStop = errors.New("text: unusable stop string")

// Stream collects text. Its methods are called in the order Write, Delta, Write, Delta, …, Close, Delta.
//
// The text ends before the stop string whose last byte comes first; where several end at the same byte, before the
// longest of them. So where it ends depends on the text alone, never on how tokens cut it.
type Stream struct {
	stops   []matcher
	out     []byte // UTF-8; everything that was decoded, until a stop cuts it
	held    int    // bytes at the end of out that could be the beginning of a stop string
	given   int    // bytes of out that Delta has returned
	stopped bool

	part   [utf8.UTFMax]byte // an unfinished sequence
	nPart  int
	need   int  // bytes that it still lacks
	lo, hi byte // range of the next one
}

// New returns an empty stream that ends at any of the stop strings. They must be valid UTF-8 and not empty,
// otherwise the error is ErrStop.
func New(stops []string) (*Stream, error) {
	s := &Stream{}
	for _, stop := range stops {
		switch {
		case stop == "":
			return nil, fmt.Errorf("%w: it is empty", ErrStop)
		case !utf8.ValidString(stop):
			return nil, fmt.Errorf("%w: %q is not UTF-8", ErrStop, stop)
		}
		s.stops = append(s.stops, newMatcher(stop))
	}
	return s, nil
}

// Write adds the bytes of one token and reports whether a stop string is complete. The text is then final; further
// bytes are ignored.
func (s *Stream) Write(piece []byte) (stopped bool) {
	for _, b := range piece {
		if s.stopped {
			break
		}
		s.decode(b)
	}
	return s.stopped
}

// Close ends the text: an unfinished sequence becomes U+FFFD, and what was held back is text after all.
func (s *Stream) Close() {
	if s.stopped {
		return
	}
	if s.need > 0 {
		s.need = 0
		s.replace()
	}
	s.held = 0
	s.stopped = true
}

// Delta returns the text that became certain since the last call: whole UTF-8 sequences, no part of a stop string.
func (s *Stream) Delta() string { return s.DeltaTo(s.Certain()) }

// DeltaTo is Delta up to byte n of the text, an earlier value of Certain: for a caller that gives text out
// only together with the tokens that it is from.
func (s *Stream) DeltaTo(n int) string {
	n = max(s.given, min(n, s.Certain()))
	d := string(s.out[s.given:n])
	s.given = n
	return d
}

// Text returns the whole text, which is final after a stop or Close. Until then it includes what is held back.
func (s *Stream) Text() string { return string(s.out) }

// Len is the length of the text in bytes, what is held back included. A token whose Len was n when it was written
// contributes to the text from byte n on.
func (s *Stream) Len() int { return len(s.out) }

// Certain is the number of bytes that no stop string can cut away any more.
func (s *Stream) Certain() int { return len(s.out) - s.held }

// Settled reports that nothing is held back and no sequence is unfinished.
func (s *Stream) Settled() bool { return s.held == 0 && s.need == 0 }

// decode takes one byte. The ranges are those of table 3-7 of The Unicode Standard, Well-Formed UTF-8 Byte Sequences.
func (s *Stream) decode(b byte) {
	if s.need > 0 {
		if b >= s.lo && b <= s.hi {
			s.part[s.nPart] = b
			s.nPart++
			s.need--
			s.lo, s.hi = 0x80, 0xBF
			if s.need == 0 {
				s.emit(s.part[:s.nPart])
			}
			return
		}
		s.need = 0 // b is no part of the ill-formed subpart before it: it starts anew
		s.replace()
		if s.stopped {
			return
		}
	}
	s.lo, s.hi = 0x80, 0xBF
	switch {
	case b < 0x80:
	case b >= 0xC2 && b <= 0xDF:
		s.need = 1
	case b >= 0xE0 && b <= 0xEF:
		s.need = 2
		switch b {
		case 0xE0:
			s.lo = 0xA0
		case 0xED:
			s.hi = 0x9F
		}
	case b >= 0xF0 && b <= 0xF4:
		s.need = 3
		switch b {
		case 0xF0:
			s.lo = 0x90
		case 0xF4:
			s.hi = 0x8F
		}
	default:
		s.replace()
		return
	}
	s.part[0], s.nPart = b, 1
	if s.need == 0 {
		s.emit(s.part[:1])
	}
}

func (s *Stream) replace() { s.emit([]byte("\uFFFD")) }

// emit appends one sequence and looks for stop strings byte by byte.
func (s *Stream) emit(seq []byte) {
	if len(s.stops) == 0 {
		s.out = append(s.out, seq...)
		return
	}
	for _, b := range seq {
		s.out = append(s.out, b)
		s.held = 0
		longest := 0
		for i := range s.stops {
			m := &s.stops[i]
			n := m.next(b)
			if n == len(m.stop) {
				longest = max(longest, n)
			}
			s.held = max(s.held, n)
		}
		if longest > 0 {
			s.out = s.out[:len(s.out)-longest]
			s.held, s.need = 0, 0
			s.stopped = true
			return
		}
	}
}

// matcher follows one stop string through the text (Knuth, Morris, Pratt, 1977).
type matcher struct {
	stop string
	fail []int // fail[n]: length of the longest proper prefix that is also a suffix of stop[:n]
	n    int   // length of the longest prefix of stop that the text ends with
}

func newMatcher(stop string) matcher {
	m := matcher{stop: stop, fail: make([]int, len(stop)+1)}
	for i, n := 1, 0; i < len(stop); i++ {
		for n > 0 && stop[i] != stop[n] {
			n = m.fail[n]
		}
		if stop[i] == stop[n] {
			n++
		}
		m.fail[i+1] = n
	}
	return m
}

// next takes a byte of the text and returns the new n. It is not called again after a match.
func (m *matcher) next(b byte) int {
	for m.n > 0 && m.stop[m.n] != b {
		m.n = m.fail[m.n]
	}
	if m.stop[m.n] == b {
		m.n++
	}
	return m.n
}
