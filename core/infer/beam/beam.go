// Package beam searches for the likeliest answers of an encoder-decoder with several of them at once, and
// bends logits by what a model's generation_config.json asks for, exactly as transformers 5.24 does both
// (GenerationMixin._beam_search, logits_process.py).
//
// It must not know models, batches or text: it is given logits and says which beams to go on with. Nothing
// here is for concurrent use.
package beam

import (
	"math"
	"slices"

	"edged/core/infer/sample"
	"edged/core/model/arch"
)

// Answer is a sequence with its score.
type Answer struct {
	IDs   []int32 // behind the start token; an end token is the last
	Score float32 // sum of log-probabilities over length^penalty
	done  bool
}

// Search is a beam search over one text.
type Search struct {
	s       *Settings
	length  int // of a running sequence, the start token included
	running []Answer
	ended   []Answer
	open    bool // an ended one may still be beaten
	over    bool
	pool    []candidate
}

// candidate is a running sequence with one token more.
type candidate struct {
	from  int
	token int32
	score float32
}

// Settings are those of one search or draw.
type Settings struct {
	arch.Generation
	Text []int32 // the encoder's tokens
	Max  int     // length of a sequence at which it ends, the start token included; above 1
}

// out is added to the score of a beam that does not count.
const out = float32(-1e9)

// New begins a search with s.Beams beams, which stand at the start token.
func New(s *Settings) *Search {
	b := &Search{s: s, length: 1, open: true}
	for i := range s.Beams {
		first := Answer{}
		if i > 0 { // else all beams would hold the same
			first.Score = out
		}
		b.running, b.ended = append(b.running, first), append(b.ended, Answer{Score: out})
	}
	return b
}

// Running are the sequences to go on with: of each the next step wants the logits behind its last token.
func (b *Search) Running() []Answer { return b.running }

// Over reports whether the search has ended.
func (b *Search) Over() bool { return b.over }

// Answers are the best, best first.
func (b *Search) Answers() []Answer { return b.ended }

// Step takes the logits of the running sequences, which it changes, and chooses the next. It returns for each
// of the new running ones which of the old it continues. The error is sample.ErrLogits.
func (b *Search) Step(logits [][]float32) ([]int, error) {
	s, n := b.s, b.s.Beams
	keep := max(2, 1+len(s.EOS)) * n
	b.pool = b.pool[:0]
	for i, row := range logits {
		if err := logSoftmax(row); err != nil {
			return nil, err
		}
		if err := s.Bend(row, b.running[i].IDs); err != nil {
			return nil, err
		}
		for id, lp := range row {
			b.offer(keep, candidate{from: i, token: int32(id), score: lp + b.running[i].Score})
		}
	}
	top := b.pool
	// Those that go on.
	hits := make([]bool, len(top))
	all := true
	next := make([]candidate, len(top))
	for i, c := range top {
		hits[i] = slices.Contains(s.EOS, c.token) || b.length+1 >= s.Max
		all = all && hits[i]
		if next[i] = c; hits[i] {
			next[i].score += out
		}
	}
	slices.SortStableFunc(next, byScore)
	next = next[:min(n, len(next))]
	// Those that have ended: candidates among the first n.
	share := float32(math.Pow(float64(b.length), s.LengthPenalty))
	full := s.Early == arch.EarlyTrue && !slices.ContainsFunc(b.ended, func(a Answer) bool { return !a.done })
	merged := slices.Clone(b.ended)
	for i, c := range top {
		a := Answer{Score: c.score / share, done: hits[i] && i < n}
		for _, no := range []bool{full, !b.open, !a.done} {
			if no {
				a.Score += out
			}
		}
		a.IDs = append(slices.Clone(b.running[c.from].IDs), c.token)
		merged = append(merged, a)
	}
	slices.SortStableFunc(merged, func(x, y Answer) int { return descending(x.Score, y.Score) })
	b.ended = merged[:n]

	parents := make([]int, len(next))
	running := make([]Answer, len(next))
	for i, c := range next {
		parents[i] = c.from
		running[i] = Answer{IDs: append(slices.Clone(b.running[c.from].IDs), c.token), Score: c.score}
	}
	b.running = running
	b.length++
	b.judge(all)
	return parents, nil
}

// judge finds out whether the search goes on.
func (b *Search) judge(stuck bool) {
	s := b.s
	length := b.length - 1
	if s.Early == arch.EarlyNever && s.LengthPenalty > 0 {
		length = s.Max - 1
	}
	best := b.running[0].Score / float32(math.Pow(float64(length), s.LengthPenalty))
	complete, least := true, b.ended[0].Score
	for _, a := range b.ended {
		complete = complete && a.done
		least = min(least, a.Score)
	}
	better := best > least
	if !complete { // a place that nothing has taken counts as out
		better = best > out || better && slices.ContainsFunc(b.ended, func(a Answer) bool { return a.done })
	}
	b.open = b.open && better
	b.over = !b.open || complete && s.Early == arch.EarlyTrue || stuck
}

// offer keeps a candidate where it is among the best, which stay sorted; of equal ones the earlier comes first.
func (b *Search) offer(keep int, c candidate) {
	if len(b.pool) == keep {
		if !(c.score > b.pool[keep-1].score) {
			return
		}
		b.pool = b.pool[:keep-1]
	}
	at, _ := slices.BinarySearchFunc(b.pool, c, func(x, c candidate) int {
		if x.score >= c.score {
			return -1
		}
		return 1
	})
	b.pool = slices.Insert(b.pool, at, c)
}

func byScore(x, y candidate) int { return descending(x.score, y.score) }

func descending(x, y float32) int {
	switch {
	case x > y:
		return -1
	case x < y:
		return 1
	default:
		return 0
	}
}

// logSoftmax makes log-probabilities of logits, some of which may be -Inf. The error is sample.ErrLogits.
func logSoftmax(x []float32) error {
	norm, err := sample.LogNorm(x)
	if err != nil {
		return err
	}
	for i, v := range x {
		x[i] = sample.Logprob(v, norm)
	}
	return nil
}
