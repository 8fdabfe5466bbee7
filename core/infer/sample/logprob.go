package sample

import (
	"cmp"
	"fmt"
	"math"
	"slices"
)

// Alternative is one likely token of a step.
type Alternative struct {
	ID      int32
	Logprob float32
}

// LogNorm is ln Σ exp(logits), which turns a logit into a log-probability. It runs over all rows, surplus
// ones included: a log-probability is that of the model, whatever is sampled from. The error is ErrLogits.
func LogNorm(logits []float32) (float64, error) {
	top := math.Inf(-1)
	for i, l := range logits {
		if !(l <= math.MaxFloat32) {
			return 0, fmt.Errorf("%w: token %d has %v", ErrLogits, i, l)
		}
		top = max(top, float64(l))
	}
	if math.IsInf(top, -1) {
		return 0, fmt.Errorf("%w: all are -Inf", ErrLogits)
	}
	total := 0.0
	for _, l := range logits {
		total += exp(float64(l) - top)
	}
	return top + log(total), nil
}

// Logprob is the log-softmax of one logit, given LogNorm of its row.
func Logprob(logit float32, norm float64) float32 { return float32(float64(logit) - norm) }

// Probability is e^logprob of one.
func Probability(logprob float32) float32 { return float32(exp(float64(min(logprob, 0)))) }

// Top appends the n most likely ids below limit to dst: by log-probability, then by id.
func (s *Sampler) Top(dst []Alternative, logits []float32, limit, n int, norm float64) []Alternative {
	peaks := s.scan(&Step{Logits: logits, Limit: limit})
	s.cands = largest(s.cands[:0], logits[:limit], peaks, nil, min(n, limit))
	slices.SortFunc(s.cands, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(b.logit, a.logit), cmp.Compare(a.id, b.id))
	})
	for _, c := range s.cands {
		dst = append(dst, Alternative{ID: c.id, Logprob: Logprob(c.logit, norm)})
	}
	return dst
}
