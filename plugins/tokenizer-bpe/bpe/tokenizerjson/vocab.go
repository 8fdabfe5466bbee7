package tokenizerjson

import (
	"encoding/json"
	"fmt"

	"edged/plugins/tokenizer-bpe/bpe/vocab"
)

// Vocab is the vocabulary of a model: {"text": id}, or a list in Unigram models.
type Vocab struct {
	IsList bool
	Texts  []string  // by id; "" where there is no token
	Scores []float64 // by id, of Unigram models
	Count  int
}

// UnmarshalJSON implements json.Unmarshaler.
func (v *Vocab) UnmarshalJSON(data []byte) error {
	if len(data) > 0 && data[0] == '[' {
		v.IsList = true
		return v.scored(data)
	}
	type entry struct {
		from, to int32
		id       int32
	}
	s := &scanner{data: data}
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
		if id < 0 || id >= vocab.MaxTokens {
			return fmt.Errorf("model.vocab: %q has the id %d: ids go from 0 to %d", s.text[from:to], id, vocab.MaxTokens-1)
		}
		entries = append(entries, entry{int32(from), int32(to), int32(id)})
		top = max(top, id)
		s.next(',')
	}
	if top > int64(8*len(entries)+1024) {
		return fmt.Errorf("model.vocab: its %d tokens have ids up to %d: that is too sparse", len(entries), top)
	}
	v.Texts = make([]string, top+1)
	v.Count = len(entries)
	all := string(s.text)
	for _, e := range entries {
		v.Texts[e.id] = all[e.from:e.to]
	}
	return nil
}

// scored reads the vocabulary of a Unigram model: [["text", score], …].
func (v *Vocab) scored(data []byte) error {
	s := &scanner{data: data}
	s.next('[')
	var ends []int32
	for i := 0; !s.next(']'); i++ {
		bad := func() error { return fmt.Errorf("model.vocab: entry %d %w: [\"text\", score]", i, errShape) }
		if i >= vocab.MaxTokens {
			return fmt.Errorf("model.vocab has more than the %d entries that are supported", vocab.MaxTokens)
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
		v.Scores = append(v.Scores, score)
		s.next(',')
	}
	all := string(s.text)
	v.Texts = make([]string, len(v.Scores))
	for i := range v.Texts {
		v.Texts[i] = all[ends[2*i]:ends[2*i+1]]
	}
	v.Count = len(v.Texts)
	return nil
}

// Merges are the merges of a BPE model: "left right" or ["left", "right"].
type Merges struct {
	Pairs [][2]string
	Ranks []uint32 // nil: the places in the list
}

// UnmarshalJSON implements json.Unmarshaler.
func (m *Merges) UnmarshalJSON(data []byte) error {
	if string(data) == "null" {
		return nil
	}
	s := &scanner{data: data}
	bad := func(i int) error {
		return fmt.Errorf("model.merges: entry %d %w: \"left right\" or [\"left\", \"right\"]", i, errShape)
	}
	if !s.next('[') {
		return bad(0)
	}
	var ends []int32 // where left starts, left ends, right starts, right ends: four for each
	for i := 0; !s.next(']'); i++ {
		if i >= vocab.MaxMerges {
			return fmt.Errorf("model.merges has more than the %d entries that are supported", vocab.MaxMerges)
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
	m.Pairs = make([][2]string, len(ends)/4)
	for i := range m.Pairs {
		e := ends[4*i:]
		m.Pairs[i] = [2]string{all[e[0]:e[1]], all[e[2]:e[3]]}
	}
	return nil
}

var (
	_ json.Unmarshaler = (*Vocab)(nil)
	_ json.Unmarshaler = (*Merges)(nil)
)
