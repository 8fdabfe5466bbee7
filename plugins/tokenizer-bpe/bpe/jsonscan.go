package bpe

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// jsonScan reads the two huge parts of a tokenizer.json, vocabulary and merges, without an allocation per string:
// encoding/json takes 150 bytes for each. It runs on JSON that encoding/json found valid, and keeps all strings in one.
type jsonScan struct {
	data []byte
	pos  int
	text []byte // all strings so far
}

var errShape = errors.New("is not of the expected form")

func (s *jsonScan) space() {
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
func (s *jsonScan) next(c byte) bool {
	s.space()
	if s.pos < len(s.data) && s.data[s.pos] == c {
		s.pos++
		return true
	}
	return false
}

// str reads a string and returns where it lies in s.text.
func (s *jsonScan) str() (from, to int, err error) {
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

func (s *jsonScan) escape() {
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

func (s *jsonScan) hex4() rune {
	end := min(s.pos+4, len(s.data))
	n, err := strconv.ParseUint(string(s.data[s.pos:end]), 16, 32)
	s.pos = end
	if err != nil {
		return utf8.RuneError
	}
	return rune(n)
}

func (s *jsonScan) integer() (int64, error) {
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
func (s *jsonScan) float() (float64, error) {
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

// hfVocab is the vocabulary of a model: {"text": id}, or a list in Unigram models.
type hfVocab struct {
	list  bool
	text  []string  // by id; "" where there is no token
	score []float64 // by id, of Unigram models
	n     int
}

// UnmarshalJSON implements json.Unmarshaler.
func (v *hfVocab) UnmarshalJSON(data []byte) error {
	if len(data) > 0 && data[0] == '[' {
		v.list = true
		return v.scored(data)
	}
	type entry struct {
		from, to int32
		id       int32
	}
	s := &jsonScan{data: data}
	if !s.next('{') {
		return fmt.Errorf("model.vocab %w: {\"text\": id}", errShape)
	}
	var entries []entry
	top := int64(-1)
	for !s.next('}') {
		from, to, err := s.str()
		if err == nil && !s.next(':') {
			err = errShape
		}
		var id int64
		if err == nil {
			id, err = s.integer()
		}
		if err != nil {
			return fmt.Errorf("model.vocab %w: {\"text\": id}", errShape)
		}
		if id < 0 || id >= maxTokens {
			return fmt.Errorf("model.vocab: %q has the id %d: ids go from 0 to %d", s.text[from:to], id, maxTokens-1)
		}
		entries = append(entries, entry{int32(from), int32(to), int32(id)})
		top = max(top, id)
		s.next(',')
	}
	if top > int64(8*len(entries)+1024) {
		return fmt.Errorf("model.vocab: its %d tokens have ids up to %d: that is too sparse", len(entries), top)
	}
	v.text = make([]string, top+1)
	v.n = len(entries)
	all := string(s.text)
	for _, e := range entries {
		v.text[e.id] = all[e.from:e.to]
	}
	return nil
}

// scored reads the vocabulary of a Unigram model: [["text", score], …].
func (v *hfVocab) scored(data []byte) error {
	s := &jsonScan{data: data}
	s.next('[')
	var ends []int32
	for i := 0; !s.next(']'); i++ {
		bad := func() error { return fmt.Errorf("model.vocab: entry %d %w: [\"text\", score]", i, errShape) }
		if i >= maxTokens {
			return fmt.Errorf("model.vocab has more than the %d entries that are supported", maxTokens)
		}
		if !s.next('[') {
			return bad()
		}
		from, to, err := s.str()
		if err != nil || !s.next(',') {
			return bad()
		}
		score, err := s.float()
		if err != nil || !s.next(']') {
			return bad()
		}
		ends = append(ends, int32(from), int32(to))
		v.score = append(v.score, score)
		s.next(',')
	}
	all := string(s.text)
	v.text = make([]string, len(v.score))
	for i := range v.text {
		v.text[i] = all[ends[2*i]:ends[2*i+1]]
	}
	v.n = len(v.text)
	return nil
}

// hfMerges are the merges of a BPE model: "left right" or ["left", "right"].
type hfMerges struct {
	pairs [][2]string
	ranks []uint32 // nil: the places in the list
}

// UnmarshalJSON implements json.Unmarshaler.
func (m *hfMerges) UnmarshalJSON(data []byte) error {
	if string(data) == "null" {
		return nil
	}
	s := &jsonScan{data: data}
	bad := func(i int) error {
		return fmt.Errorf("model.merges: entry %d %w: \"left right\" or [\"left\", \"right\"]", i, errShape)
	}
	if !s.next('[') {
		return bad(0)
	}
	var ends []int32 // where left starts, left ends, right starts, right ends: four for each
	for i := 0; !s.next(']'); i++ {
		if i >= maxMerges {
			return fmt.Errorf("model.merges has more than the %d entries that are supported", maxMerges)
		}
		if s.next('[') {
			a, b, err := s.str()
			if err != nil || !s.next(',') {
				return bad(i)
			}
			c, d, err := s.str()
			if err != nil || !s.next(']') {
				return bad(i)
			}
			ends = append(ends, int32(a), int32(b), int32(c), int32(d))
		} else {
			from, to, err := s.str()
			if err != nil {
				return bad(i)
			}
			cut := -1
			for k := from; k < to; k++ {
				if s.text[k] == ' ' {
					if cut >= 0 {
						return bad(i)
					}
					cut = k
				}
			}
			if cut < 0 {
				return bad(i)
			}
			ends = append(ends, int32(from), int32(cut), int32(cut+1), int32(to))
		}
		s.next(',')
	}
	all := string(s.text)
	m.pairs = make([][2]string, len(ends)/4)
	for i := range m.pairs {
		e := ends[4*i:]
		m.pairs[i] = [2]string{all[e[0]:e[1]], all[e[2]:e[3]]}
	}
	return nil
}

var (
	_ json.Unmarshaler = (*hfVocab)(nil)
	_ json.Unmarshaler = (*hfMerges)(nil)
)
