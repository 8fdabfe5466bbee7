package tokenizerjson

import (
	"errors"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// scanner reads the two huge parts of a tokenizer.json, vocabulary and merges, without an allocation per string:
// encoding/json takes 150 bytes for each. It runs on JSON that encoding/json found valid, and keeps all strings in one.
type scanner struct {
	data []byte
	pos  int
	text []byte // all strings so far
}

var errShape = errors.New("is not of the expected form")

func (s *scanner) space() {
	for s.pos < len(s.data) {
		switch s.data[s.pos] {
		case ' ', '\t', '\n', '\r':
			s.pos++
		default:
			return
		}
	}
}

// next takes the character c if it comes next.
func (s *scanner) next(c byte) bool {
	s.space()
	if s.pos < len(s.data) && s.data[s.pos] == c {
		s.pos++
		return true
	}
	return false
}

// str reads a string and returns where it lies in s.text.
func (s *scanner) str() (from, to int, err error) {
	if !s.next('"') {
		return 0, 0, errShape
	}
	from = len(s.text)
	for s.pos < len(s.data) {
		c := s.data[s.pos]
		s.pos++
		switch c {
		case '"':
			return from, len(s.text), nil
		case '\\':
			s.escape()
		default:
			s.text = append(s.text, c)
		}
	}
	return 0, 0, errShape
}

func (s *scanner) escape() {
	if s.pos >= len(s.data) {
		return
	}
	c := s.data[s.pos]
	s.pos++
	switch c {
	case 'b':
		c = '\b'
	case 'f':
		c = '\f'
	case 'n':
		c = '\n'
	case 'r':
		c = '\r'
	case 't':
		c = '\t'
	case 'u':
		r := s.hex4()
		if utf16.IsSurrogate(r) {
			second := rune(utf8.RuneError)
			if s.pos+1 < len(s.data) && s.data[s.pos] == '\\' && s.data[s.pos+1] == 'u' {
				at := s.pos
				s.pos += 2
				second = s.hex4()
				if utf16.DecodeRune(r, second) == utf8.RuneError {
					s.pos = at
				}
			}
			r = utf16.DecodeRune(r, second)
		}
		s.text = utf8.AppendRune(s.text, r)
		return
	}
	s.text = append(s.text, c)
}

func (s *scanner) hex4() rune {
	end := min(s.pos+4, len(s.data))
	n, err := strconv.ParseUint(string(s.data[s.pos:end]), 16, 32)
	s.pos = end
	if err != nil {
		return utf8.RuneError
	}
	return rune(n)
}

func (s *scanner) integer() (int64, error) {
	s.space()
	from := s.pos
	for s.pos < len(s.data) && (s.data[s.pos] == '-' || s.data[s.pos] >= '0' && s.data[s.pos] <= '9') {
		s.pos++
	}
	n, err := strconv.ParseInt(string(s.data[from:s.pos]), 10, 64)
	if err != nil {
		return 0, errShape
	}
	return n, nil
}

// float reads a finite number.
func (s *scanner) float() (float64, error) {
	s.space()
	from := s.pos
	for s.pos < len(s.data) && (s.data[s.pos] >= '0' && s.data[s.pos] <= '9' || strings.IndexByte("+-.eE", s.data[s.pos]) >= 0) {
		s.pos++
	}
	x, err := strconv.ParseFloat(string(s.data[from:s.pos]), 64)
	if err != nil {
		return 0, errShape
	}
	return x, nil
}
