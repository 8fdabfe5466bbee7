package transformer

import (
	"math"
	"slices"
	"testing"

	"edged/quant"
	"edged/quant/kernel"
)

// TestHiddenStates: the hidden states that are summed are those that the logits are computed from, bit for bit the same in one batch,
// in pieces, and beside other rows, whose logits do not change.
func TestHiddenStates(t *testing.T) {
	memory := newMemory("llama", tiny("llama"))
	m := memory.open(t, Options{Context: 128, KVPages: 12, MaxRows: 80, Precision: kernel.Exact, KV: kernel.KVF32})
	width, vocab := m.Info().Width, m.Info().VocabRows
	ids := randomIDs(vocab, 50, 1)

	sum := func(cuts ...int) []float32 {
		t.Helper()
		s, out := m.NewSeq(), make([]float32, width)
		defer s.Free()
		for len(ids[s.Len():]) > 0 {
			n := len(ids) - s.Len()
			if len(cuts) > 0 {
				n, cuts = cuts[0], cuts[1:]
			}
			var rows []Row
			for _, id := range ids[s.Len() : s.Len()+n] {
				rows = append(rows, Row{Seq: s, Token: id, Sum: out})
			}
			if err := m.Forward(rows); err != nil {
				t.Fatal(err)
			}
		}
		return out
	}
	whole := sum()
	if !slices.Equal(whole, sum(1, 31, 3)) {
		t.Error("in pieces the sum is another one")
	}

	// Beside a sequence that wants logits, some of it in the same rows.
	a, b := m.NewSeq(), m.NewSeq()
	defer a.Free()
	defer b.Free()
	alone := slices.Clone(feed(t, m, b, ids[:5]...))
	b.Truncate(4)
	beside, logits, both := make([]float32, width), make([]float32, vocab), make([]float32, width)
	var rows []Row
	for _, id := range ids {
		rows = append(rows, Row{Seq: a, Token: id, Sum: beside})
	}
	rows = append(rows, Row{Seq: b, Token: ids[4], Logits: logits, Sum: both})
	if err := m.Forward(rows); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(whole, beside) {
		t.Error("beside other rows the sum is another one")
	}
	if !slices.Equal(alone, logits) {
		t.Error("beside rows that are summed the logits are others")
	}

	// The logits of a row are its hidden state times the head.
	head := memory.Matrix("output.weight")
	if head == nil {
		head = memory.Matrix("token_embd.weight")
	}
	row := make([]float32, width)
	for i := range vocab {
		quant.Row(row, head, i)
		dot := 0.0
		for k, w := range row {
			dot += float64(w) * float64(both[k])
		}
		if math.Abs(dot-float64(logits[i])) > 1e-4*(1+math.Abs(dot)) {
			t.Fatalf("logit %d is %v, the hidden state gives %v", i, logits[i], dot)
		}
	}
	if err := m.Forward([]Row{{Seq: b, Token: 1, Sum: make([]float32, width+1)}}); err == nil {
		t.Error("a sum of another width was taken")
	}
}
