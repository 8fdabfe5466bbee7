package sample

import (
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

func TestPeaks(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 8))
	for n := 1; n < 4*PeakLen; n++ {
		logits := make([]float32, n)
		for i := range logits {
			logits[i] = float32(rng.NormFloat64())
		}
		for i, got := range peaksOf(logits) {
			if want := slices.Max(block(logits, i)); got != want {
				t.Fatalf("block %d of %d logits: %v, want %v", i, n, got, want)
			}
		}
		at := rng.IntN(n)
		for _, bad := range []float32{nan, -nan, inf, math.Float32frombits(0xffc00000)} {
			logits[at] = bad
			if p := peaksOf(logits)[at/PeakLen]; p <= math.MaxFloat32 {
				t.Fatalf("%v at %d of %d logits: the peak is %v", bad, at, n, p)
			}
		}
	}
}

// TestPeaksThatCame holds a step to the same id and error with peaks that came with the logits, wherever the limit lies.
func TestPeaksThatCame(t *testing.T) {
	logits := randomLogits(1000)
	logits[990] = nan
	for _, limit := range []int{1, 63, 64, 65, 640, 959, 960, 961, 990, 991, 1000} {
		for name, p := range map[string]Params{"greedy": {}, "top-k": {Temperature: 1, TopK: 7}, "heavy": heavy(), "all": {Temperature: 1}} {
			var s Sampler
			st := Step{Logits: logits, Limit: limit, Params: &p, Prompt: []int32{0, 5, 5}, Generated: []int32{0, 0}}
			want, wantErr := s.Next(&st)
			st.Peaks = peaksOf(logits)
			got, err := s.Next(&st)
			switch {
			case limit > 990 && (!errors.Is(err, ErrLogits) || !strings.Contains(err.Error(), "token 990")):
				t.Errorf("%s, limit %d: %v, want an error that names token 990", name, limit, err)
			case limit > 990:
			case err != nil || wantErr != nil || got != want:
				t.Errorf("%s, limit %d: got %d (%v), want %d (%v)", name, limit, got, err, want, wantErr)
			}
		}
	}
}
