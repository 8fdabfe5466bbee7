package model

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"unicode/utf8"

	"edged/plugins/tokenizer-bpe/bpe/vocab"
)

// MaxSearchedToken bounds a token that the search tries at every place of a text: published ones have at most 48 bytes.
const MaxSearchedToken = 1024

// UnknownPenalty is the cost of an unknown character beyond that of the least likely token. Source: SentencePiece,
// src/unigram_model.cc, kUnkPenalty.
const UnknownPenalty = 10

// Unigram is SentencePiece's unigram model: it covers a text with the tokens whose scores have the greatest
// sum. The search is Viterbi's over places of the text; of equal sums the one found first counts, as in the
// reference libraries.
type Unigram struct {
	trie            *vocab.Trie  // token ids by their texts
	score           []float64    // by id
	control         []bool       // by id: tokens that a strict search must not choose
	unknown         int32        // -1: the model has none
	SinglePrecision bool         // sums are rounded to single precision, as SentencePiece has them
	UnknownScore    float64      // the score of an unknown character
	bytes           [256]int32   // tokens of bytes, for unknown characters; -1: none
	lookup          *vocab.Index // ids by text, for runs of unknown characters
	ids             []int32      // by place in lookup
	byteFallback    bool         // a run of unknown characters goes through the byte tokens, if all its bytes have one
	noUnk           error        // what to say where an unknown character meets a model without an unknown token
}

// NewUnigram builds the model of a list of tokens. Of equal texts the last is found, as in the reference library.
func NewUnigram(text []string, score []float64, unknown int32, control []bool) (*Unigram, error) {
	m := &Unigram{
		score:   score,
		control: control,
		unknown: unknown,
		noUnk:   errors.New("the model has no unknown token, and the text has a character that it does not know"),
	}
	least := math.Inf(1)
	values := make([]int32, len(text))
	for id, s := range text {
		if len(s) > MaxSearchedToken {
			return nil, fmt.Errorf("token %d has %d bytes: at most %d are supported in a Unigram model", id, len(s), MaxSearchedToken)
		}
		values[id] = int32(id)
		least = min(least, score[id])
	}
	m.UnknownScore = least - UnknownPenalty
	m.trie = vocab.NewTrie(text, values)
	last := slices.Clone(text)
	slices.Reverse(last)
	m.lookup = vocab.NewIndex(last)
	m.ids = make([]int32, len(last))
	for i := range last {
		m.ids[i] = int32(len(text) - 1 - i)
		if last[i] != "" {
			m.lookup.Add(int32(i))
		}
	}
	for b := range m.bytes {
		m.bytes[b] = -1
	}
	return m, nil
}

// find returns the id of a text.
func (m *Unigram) find(s string) (int32, bool) {
	i, ok := m.lookup.Find(s)
	if !ok {
		return -1, false
	}
	return m.ids[i], true
}

// UseByteTokens sets the tokens of bytes.
func (m *Unigram) UseByteTokens() {
	m.byteFallback = true
	for b := range m.bytes {
		if id, ok := m.find(fmt.Sprintf("<0x%02X>", b)); ok {
			m.bytes[b] = id
		}
	}
}

// lattice is the scratch of the search: the best way to each place.
type lattice struct {
	best []float64
	from []int32 // where the last token of that way starts; -1: there is none yet
	id   []int32
	way  []int32 // ends of tokens, backwards
}

func (l *lattice) reset(n int) {
	l.best = slices.Grow(l.best[:0], n)[:n]
	l.from = slices.Grow(l.from[:0], n)[:n]
	l.id = slices.Grow(l.id[:0], n)[:n]
	for i := range l.from {
		l.from[i] = -1
	}
	l.best[0] = 0
	l.way = l.way[:0]
}

func (l *lattice) release() {
	if cap(l.best) > 1<<16 {
		*l = lattice{}
	}
}

func (m *Unigram) cacheable(strict bool) bool { return !strict }

func (m *Unigram) word(w *Scratch, s string) error {
	return m.Walk(w, s, func(id int32, text string) {
		if id == m.unknown {
			m.unknownRun(w, text)
		} else {
			w.Out = append(w.Out, id)
		}
	})
}

// Walk calls f with the tokens of s and their texts; a run of unknown characters is one.
func (m *Unigram) Walk(w *Scratch, s string, f func(id int32, text string)) error {
	if len(s) >= math.MaxInt32/4 {
		return fmt.Errorf("a text of %d bytes is too long", len(s))
	}
	if err := m.search(w, s); err != nil {
		return err
	}
	// The way is known from its end.
	l := &w.lattice
	for at := int32(len(s)); at > 0; at = l.from[at] {
		l.way = append(l.way, at)
	}
	from := int32(0)
	for i := len(l.way) - 1; i >= 0; i-- {
		end := l.way[i]
		if m.unknown >= 0 && l.id[end] == m.unknown {
			for i > 0 && l.id[l.way[i-1]] == m.unknown {
				i--
			}
			end = l.way[i]
		}
		f(l.id[end], s[from:end])
		from = end
	}
	return nil
}

// search fills the lattice.
func (m *Unigram) search(w *Scratch, s string) error {
	l := &w.lattice
	l.reset(len(s) + 1)
	for at := 0; at < len(s); {
		_, size := utf8.DecodeRuneInString(s[at:])
		here := l.best[at]
		single := false
		i := at + 1
		for node := m.trie.Start(s[at]); node >= 0; i++ {
			if id := m.trie.Value(node); id >= 0 && !(w.Strict && m.control[id]) {
				if i == at+size {
					single = true
				}
				sum := here + m.score[id]
				if m.SinglePrecision {
					sum = float64(float32(sum))
				}
				if l.from[i] < 0 || sum > l.best[i] {
					l.best[i], l.from[i], l.id[i] = sum, int32(at), id
				}
			}
			if i == len(s) {
				break
			}
			node = m.trie.Step(node, s[i])
		}
		if !single {
			if m.unknown < 0 {
				return m.noUnk
			}
			sum := here + m.UnknownScore
			if m.SinglePrecision {
				sum = float64(float32(sum))
			}
			if l.from[at+size] < 0 || sum > l.best[at+size] {
				l.best[at+size], l.from[at+size], l.id[at+size] = sum, int32(at), m.unknown
			}
		}
		at += size
	}
	return nil
}

// unknownRun writes a run of unknown characters.
func (m *Unigram) unknownRun(w *Scratch, s string) {
	if id, ok := m.find(s); ok && !(w.Strict && m.control[id] && id != m.unknown) {
		w.Out = append(w.Out, id)
		return
	}
	if m.byteFallback {
		start := len(w.Out)
		for _, b := range []byte(s) {
			if m.bytes[b] < 0 {
				w.Out = append(w.Out[:start], m.unknown)
				return
			}
			w.Out = append(w.Out, m.bytes[b])
		}
		return
	}
	w.Out = append(w.Out, m.unknown)
}
