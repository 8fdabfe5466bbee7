package feedforward

import (
	"slices"
	"testing"

	"edged/core/infer/transformer/batch"
	"edged/core/model/arch"
)

// TestGroupsBelowZero: an expert of a group that was not chosen is never taken, also where a correction has made scores of the chosen
// one negative.
func TestGroupsBelowZero(t *testing.T) {
	l := &Experts{
		how:       arch.Router{Kind: arch.Sigmoid, Groups: 2, UsedGroups: 1, BestOfGroup: 2, Normalise: true},
		corrected: []float32{0, 0, -0.6, 0, 0, 0},
	}
	logits := []float32{2, 1, 0, -1, -1, 0} // group 0: 0.88, 0.73 and 0.5 - 0.6
	picked := make([]batch.Pick, 3)
	l.choose(picked, logits, make([]float32, len(logits)))
	var got []int
	for _, p := range picked {
		got = append(got, p.Expert)
	}
	if want := []int{0, 1, 2}; !slices.Equal(got, want) {
		t.Errorf("experts %v are chosen, want %v", got, want)
	}
}
