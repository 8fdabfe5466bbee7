package engine

import (
	"errors"
	"math"
	"slices"
	"testing"

	"edged/core/infer/engine/compute"
	"edged/core/protocol"
	"edged/core/protocol/backend"
)

// freed is a sequence that counts how often it is freed.
type freed struct {
	compute.Seq
	times *int
}

func (s freed) Free() { *s.times++ }

// TestProver: proofs take the rows that a batch has left, wait where pages are short, and end accepted or with their own error.
func TestProver(t *testing.T) {
	frees := 0
	var accepted []string
	v := &prover{limit: 10, accept: func(a *adapter) { accepted = append(accepted, a.info.ID) }}
	of := func(id string, tokens int) *proof {
		p := &proof{
			a: &adapter{info: backend.AdapterInfo{ID: id}}, seq: freed{times: &frees},
			tokens: make([]int32, tokens), logits: []float32{1, 2}, done: make(chan error, 1),
		}
		v.proofs = append(v.proofs, p)
		return p
	}
	small, large, broken := of("small", 2), of("large", 9), of("broken", 1)
	broken.logits[1] = float32(math.Inf(1))
	if v.expected() != 2 {
		t.Errorf("%d rows are left free, want 2", v.expected())
	}

	b := &batch{rows: make([]compute.Row, 4)}
	v.addTo(b)
	if len(b.rows) != 7 || v.rows() != 3 || large.rows != 0 {
		t.Fatalf("%d rows, %d of them of proofs; %d of the one that does not fit", len(b.rows), v.rows(), large.rows)
	}
	if b.rows[4].Logits != nil || b.rows[5].Logits == nil || b.rows[6].Logits == nil {
		t.Error("the last row of a proof wants logits, and no other")
	}
	if !v.putOff(false) {
		t.Error("there were proofs in the batch that found no pages")
	}
	b.rows = b.rows[:4]
	if v.addTo(b); len(b.rows) != 4 || v.putOff(false) {
		t.Error("what was put off is in the next batch")
	}
	v.addTo(b)
	v.conclude(nil)
	if err := <-small.done; err != nil || !slices.Equal(accepted, []string{"small"}) {
		t.Errorf("%v, accepted %v", err, accepted)
	}
	if err := <-broken.done; !errors.Is(err, protocol.ErrModel) {
		t.Errorf("logits that are infinite: %v", err)
	}

	b.rows = b.rows[:0]
	if v.addTo(b); len(b.rows) != 9 {
		t.Fatalf("%d rows for the one that is left", len(b.rows))
	}
	if !v.putOff(true) {
		t.Error("the proof was in the batch")
	}
	if err := <-large.done; !errors.Is(err, protocol.ErrNoMemory) {
		t.Errorf("alone in a batch without pages: %v", err)
	}
	v.end(large, nil)
	if len(v.proofs) != 0 || frees != 3 || len(accepted) != 1 {
		t.Errorf("%d proofs are left, %d sequences were freed, accepted %v", len(v.proofs), frees, accepted)
	}
}
