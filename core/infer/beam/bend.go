package beam

import (
	"math"
	"slices"
)

// Bend changes the logits (or log-probabilities) of the token behind ids, which are a sequence's without its
// start token, as the settings ask, in transformers' order. The error is sample.ErrLogits: nothing is left.
func (s *Settings) Bend(x []float32, ids []int32) error {
	all := append([]int32{s.Start}, ids...)
	penalize(x, s.Text, 1/s.EncoderRepetition)
	penalize(x, all, s.Repetition)
	banRepeats(x, all, all, s.NoRepeat)
	banRepeats(x, s.Text, all, s.EncoderNoRepeat)
	s.banWords(x, all)
	if len(all) < s.MinLength || len(ids) < s.MinNew {
		ban(x, s.EOS)
	}
	if s.ForcedBOS >= 0 && len(all) == 1 {
		only(x, []int32{s.ForcedBOS})
	}
	if s.ForcedEOS != nil && len(all) == s.Max-1 {
		only(x, s.ForcedEOS)
	}
	ban(x, s.Suppress)
	begin := 1
	if s.ForcedBOS >= 0 {
		begin = 2
	}
	if len(all) == begin {
		ban(x, s.BeginSuppress)
	}
	if s.Renormalize {
		return logSoftmax(x)
	}
	return nil
}

var never = float32(math.Inf(-1)) //nolint:gochecknoglobals // a constant

// ban forbids tokens.
func ban(x []float32, ids []int32) {
	for _, id := range ids {
		if id >= 0 && int(id) < len(x) {
			x[id] = never
		}
	}
}

// only forbids all others.
func only(x []float32, ids []int32) {
	for i := range x {
		x[i] = never
	}
	for _, id := range ids {
		if id >= 0 && int(id) < len(x) {
			x[id] = 0
		}
	}
}

// penalize makes tokens that occur in ids less likely by a factor above 1.
func penalize(x []float32, ids []int32, factor float64) {
	if factor == 1 {
		return
	}
	f := float32(factor)
	for i, id := range ids {
		switch {
		case id < 0 || int(id) >= len(x) || slices.Contains(ids[:i], id):
		case x[id] < 0:
			x[id] *= f
		default:
			x[id] /= f
		}
	}
}

// banRepeats forbids what would complete an n-gram of text at the end of all.
func banRepeats(x []float32, text, all []int32, n int) {
	if n < 1 || len(all)+1 < n {
		return
	}
	last := all[len(all)-(n-1):]
	for i := 0; i+n <= len(text); i++ {
		if slices.Equal(text[i:i+n-1], last) {
			ban(x, text[i+n-1:i+n])
		}
	}
}

// banWords forbids the last token of each bad word whose others stand at the end of all.
func (s *Settings) banWords(x []float32, all []int32) {
	for _, word := range s.BadWords {
		n := len(word) - 1
		switch {
		case n == 0 && slices.Contains(s.EOS, word[0]), n > len(all):
		case slices.Equal(word[:n], all[len(all)-n:]):
			ban(x, word[n:])
		}
	}
}
