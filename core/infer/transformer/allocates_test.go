package transformer_test

import (
	"os"
	"path/filepath"
	"testing"

	"edged/core/infer/transformer"
	"edged/core/infer/transformer/transformertest"
	"edged/core/model/arch"
	"edged/core/model/weights"
	"edged/plugins/backend-generic/x86"
	"edged/quant/kernel"
	"edged/test/oracle"
)

// TestFamiliesAllocateNothing: the steady state of every family that is served, encoders among them, with an adapter on all linear
// layers of a row and none on another.
func TestFamiliesAllocateNothing(t *testing.T) {
	seen := map[string]bool{}
	for _, dir := range []string{"families", "encoders"} {
		entries, err := os.ReadDir(filepath.Join(oracle.Dir(t), dir))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			w, err := weights.Open(filepath.Join(oracle.Dir(t), dir, e.Name(), "hf"))
			if err != nil {
				continue // TestFamilies and TestEncoders know which are served
			}
			defer w.Close()
			if w.Spec.Kind == arch.EncoderDecoder { // no adapters yet, and a text at a time
				continue
			}
			if seen[w.Spec.Family] { // one of each is enough
				continue
			}
			seen[w.Spec.Family] = true
			t.Run(e.Name(), func(t *testing.T) { allocatesNothing(t, w) })
		}
	}
	if len(seen) < 30 || !seen["bert"] || !seen["deepseek2"] {
		t.Errorf("only %d families were opened", len(seen))
	}
}

func allocatesNothing(t *testing.T, w *weights.Model) {
	t.Helper()
	m, err := transformer.New(w, transformer.Options{Kernels: x86.Best(), KV: kernel.KVF16, Context: 40, KVPages: 4, MaxRows: 24, ThreadsPrefill: 2})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	shapes := map[string][2]int{}
	for _, name := range w.Names() {
		if x := w.Tensor(name); x.Role == arch.Product || x.Role == arch.Expert {
			shapes[name] = [2]int{x.Rows, x.Cols}
		}
	}
	a, err := m.LoadAdapter(transformertest.RandomAdapter(1, 4, shapes))
	if err != nil {
		t.Fatal(err)
	}
	one, two := m.NewSeq(), m.NewSeq()
	with, sum, logits := []transformer.Use{{Adapter: a, Scale: 1}}, make([]float32, w.Spec.Width), make([]float32, w.Spec.Vocab)
	var rows []transformer.Row
	for i := range 24 {
		r := transformer.Row{Seq: one, Token: int32(7 * i % w.Spec.Vocab)}
		if i >= 12 {
			r.Seq, r.Adapters = two, with
		}
		if i == 5 || i == 23 {
			if r.Sum = sum; w.Spec.Kind == arch.Decoder {
				r.Sum, r.Logits = nil, logits
			}
		}
		rows = append(rows, r)
	}
	// The counter is the whole process's, and the runtime allocates where a busy machine makes it start a thread: over ten
	// passes that is less than one for each, and what the pass itself allocates is not.
	if n := testing.AllocsPerRun(10, func() {
		if err := m.Forward(rows); err != nil {
			t.Fatal(err)
		}
		one.Truncate(0)
		two.Truncate(0)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
