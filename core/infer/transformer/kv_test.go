package transformer

import (
	"cmp"
	"errors"
	"math"
	"slices"
	"testing"

	"edged/core/model/arch"
	"edged/core/model/lora"
	"edged/quant"
	"edged/quant/kernel"
)

// feed appends ids to seq and returns the last logits.
func feed(t *testing.T, m *Model, seq *Seq, ids ...int32) []float32 {
	t.Helper()
	logits := make([]float32, m.Info().VocabRows)
	for i, id := range ids {
		r := Row{Seq: seq, Token: id}
		if i == len(ids)-1 {
			r.Logits = logits
		}
		if err := m.Forward([]Row{r}); err != nil {
			t.Fatal(err)
		}
	}
	return logits
}

func TestForkAndTruncate(t *testing.T) {
	m := newMemory("llama", tiny("llama")).open(t, Options{Context: 128, KVPages: 12})
	a, ids := m.NewSeq(), randomIDs(100, 70, 1)
	feed(t, m, a, ids[:40]...)
	if a.Len() != 40 || a.Pages() != 2 || m.Cache().FreePages() != 10 {
		t.Fatalf("length %d, %d pages, %d free", a.Len(), a.Pages(), m.Cache().FreePages())
	}
	b := a.Fork()
	if b.Len() != 40 || m.Cache().FreePages() != 10 {
		t.Fatalf("a fork takes pages: %d free", m.Cache().FreePages())
	}
	// Both write to the partly filled page: the first gets a copy, the second keeps the original.
	la := feed(t, m, a, ids[50:60]...)
	if m.Cache().FreePages() != 9 || a.Pages() != 2 {
		t.Fatalf("%d free after the first write to a shared page", m.Cache().FreePages())
	}
	lb := feed(t, m, b, ids[60:70]...)
	if m.Cache().FreePages() != 9 {
		t.Fatalf("%d free after the second write", m.Cache().FreePages())
	}
	check := func(name string, got []float32, ids []int32) {
		t.Helper()
		c := m.NewSeq()
		defer c.Free()
		if want := feed(t, m, c, ids...); !slices.Equal(got, want) {
			t.Errorf("%s: other logits than without a fork", name)
		}
	}
	check("original", la, slices.Concat(ids[:40], ids[50:60]))
	check("fork", lb, slices.Concat(ids[:40], ids[60:70]))

	// Back into the page that is shared, then on with something else: the other sequence must not notice.
	b.Truncate(10)
	if b.Len() != 10 || b.Pages() != 1 || m.Cache().FreePages() != 10 {
		t.Fatalf("length %d, %d pages, %d free after Truncate", b.Len(), b.Pages(), m.Cache().FreePages())
	}
	check("cut back", feed(t, m, b, ids[70:75]...), slices.Concat(ids[:10], ids[70:75]))
	check("untouched", feed(t, m, a, ids[80]), slices.Concat(ids[:40], ids[50:60], ids[80:81]))

	a.Truncate(1000)
	a.Truncate(51)
	if a.Len() != 51 {
		t.Fatalf("length %d", a.Len())
	}
	a.Truncate(-1)
	if a.Len() != 0 || a.Pages() != 0 {
		t.Fatalf("length %d, %d pages", a.Len(), a.Pages())
	}
	a.Free()
	a.Free()
	b.Free()
	if f := b.Fork(); f.Len() != 0 {
		t.Fatal("fork of a freed sequence")
	}
	if m.Cache().FreePages() != m.Cache().TotalPages() {
		t.Fatalf("%d of %d pages free at the end", m.Cache().FreePages(), m.Cache().TotalPages())
	}
}

func TestNoPagesChangesNothing(t *testing.T) {
	m := newMemory("llama", tiny("llama")).open(t, Options{Context: 256, KVPages: 3, MaxRows: 128})
	a, b := m.NewSeq(), m.NewSeq()
	defer a.Free()
	defer b.Free()
	ids := randomIDs(128, 70, 2)
	feed(t, m, a, ids[:33]...)
	var rows []Row
	for _, id := range ids[:20] {
		rows = append(rows, Row{Seq: a, Token: id})
	}
	for _, id := range ids[:33] {
		rows = append(rows, Row{Seq: b, Token: id})
	}
	if err := m.Forward(rows); !errors.Is(err, ErrNoPages) {
		t.Fatalf("error %v, want ErrNoPages", err)
	}
	if a.Len() != 33 || b.Len() != 0 || m.Cache().FreePages() != 1 {
		t.Fatalf("lengths %d and %d, %d pages free", a.Len(), b.Len(), m.Cache().FreePages())
	}
	// What fits still runs, and gives what it would have given.
	got := feed(t, m, a, ids[33:64]...)
	a.Truncate(0)
	if want := feed(t, m, a, ids[:64]...); !slices.Equal(got, want) {
		t.Error("other logits after a refused batch")
	}
	// A shared page that has to be copied counts.
	a.Truncate(40)
	f := a.Fork()
	defer f.Free()
	feed(t, m, b, ids[0])
	if err := m.Forward([]Row{{Seq: f, Token: 1}}); !errors.Is(err, ErrNoPages) {
		t.Fatalf("error %v, want ErrNoPages", err)
	}
	if m.Cache().FreePages() != 0 || f.Len() != 40 {
		t.Fatalf("%d pages free, length %d", m.Cache().FreePages(), f.Len())
	}
}

func TestForwardRefuses(t *testing.T) {
	s := newMemory("llama", tiny("llama"))
	m, other := s.open(t, Options{Context: 40, MaxRows: 50, KVPages: 9}), s.open(t, Options{Context: 40})
	seq, freed, foreign := m.NewSeq(), m.NewSeq(), other.NewSeq()
	defer seq.Free()
	freed.Free()
	feed(t, m, seq, 1, 2, 3)
	logits := make([]float32, 70)
	closed, err := m.LoadAdapter(&lora.Adapter{})
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	strange, err := other.LoadAdapter(&lora.Adapter{})
	if err != nil {
		t.Fatal(err)
	}
	open, err := m.LoadAdapter(&lora.Adapter{})
	if err != nil {
		t.Fatal(err)
	}
	second := m.NewSeq()
	for want, rows := range map[string][]Row{
		"row 0: token -1":            {{Seq: seq, Token: -1}},
		"row 1: token 70":            {{Seq: seq, Token: 69}, {Seq: seq, Token: 70}},
		"was freed":                  {{Seq: freed}},
		"row 0: its sequence":        {{}},
		"another model":              {{Seq: foreign}},
		"41 positions of at most 40": slices.Repeat([]Row{{Seq: seq}}, 38),
		"at most 50":                 slices.Repeat([]Row{{Seq: seq}}, 51),
		"room for 3":                 {{Seq: seq, Logits: logits[:3]}},
		"not consecutive":            {{Seq: seq}, {Seq: second}, {Seq: seq}},
		"a closed adapter":           {{Seq: seq, Adapters: []Use{{Adapter: closed, Scale: 1}}}},
		"adapter of another":         {{Seq: seq, Adapters: []Use{{Adapter: strange, Scale: 1}}}},
		"is not a number":            {{Seq: seq, Adapters: []Use{{Adapter: open, Scale: float32(math.NaN())}}}},
		"row 1: a closed":            {{Seq: seq, Adapters: []Use{{Adapter: open, Scale: 1}}}, {Seq: seq, Adapters: []Use{{}}}},
		"context length exceed":      slices.Repeat([]Row{{Seq: second}}, 41),
	} {
		wantError(t, m.Forward(rows), want)
		if seq.Len() != 3 || second.Len() != 0 || m.Cache().FreePages() != 8 {
			t.Fatalf("%s: lengths %d and %d, %d pages free", want, seq.Len(), second.Len(), m.Cache().FreePages())
		}
	}
	if err := m.Forward(nil); err != nil {
		t.Error(err)
	}
	if err := m.Forward(slices.Repeat([]Row{{Seq: seq}}, 38)); !errors.Is(err, ErrContext) {
		t.Errorf("error %v, want ErrContext", err)
	}
	// An adapter without any module changes nothing.
	with := make([]float32, 70)
	if err := m.Forward([]Row{{Seq: seq, Token: 5, Logits: logits}}); err != nil {
		t.Fatal(err)
	}
	seq.Truncate(3)
	if err := m.Forward([]Row{{Seq: seq, Token: 5, Logits: with, Adapters: []Use{{Adapter: open, Scale: 1}}}}); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(logits, with) {
		t.Error("an empty adapter changes the logits")
	}
}

func TestClosedModelRefuses(t *testing.T) {
	s := newMemory("llama", tiny("llama"))
	m, err := newModel(s, s.h.spec(s.arch), Options{Kernels: kernel.Portable{}, Context: 32})
	if err != nil {
		t.Fatal(err)
	}
	seq := m.NewSeq()
	if err := errors.Join(m.Close(), m.Close()); err != nil {
		t.Fatal(err)
	}
	wantError(t, m.Forward([]Row{{Seq: seq}}), "closed")
}

func TestNewRefuses(t *testing.T) {
	for _, c := range []struct {
		want   string
		arch   string
		o      Options
		change func(s *memory)
	}{
		{want: "q8_0 stores blocks of 32", o: Options{KV: kernel.KVQ8}},
		{want: "exact keeps keys and values in float32", o: Options{Precision: kernel.Exact, KV: kernel.KVF16}},
		{want: "KV type 7", o: Options{KV: 7}},
		{want: "precision 9", o: Options{Precision: 9}},
		{want: "want 1 to", o: Options{Context: -1}},
		{want: "rows in a batch", o: Options{MaxRows: 1 << 20}},
		{want: "negative number of threads", o: Options{ThreadsDecode: -1}},
		{want: "-5 KV pages", o: Options{KVPages: -5}},
		{want: "the model has learned 1200", arch: "gpt2", o: Options{Context: 1201}},
		{want: "blk.1.attn_k.weight: missing", change: func(s *memory) { delete(s.m, "blk.1.attn_k.weight") }},
		{want: "blk.0.ffn_norm.weight: missing", change: func(s *memory) { delete(s.v, "blk.0.ffn_norm.weight") }},
		{want: "blk.0.attn_q.weight: shape (64, 64)", change: func(s *memory) { s.h.Heads = 8 }},
		{want: "blk.0.attn_norm.weight: 64 values", change: func(s *memory) { s.matrix("token_embd.weight", 70, 32, 1); s.h.Width = 32 }},
		{want: "cannot share", change: func(s *memory) { s.h.KVHeads = 3 }},
		{want: "layers is 0", change: func(s *memory) { s.h.Layers = 0 }},
		{want: "epsilon", change: func(s *memory) { s.h.NormEps = float32(math.NaN()) }},
		{want: "heads of 1024", change: func(s *memory) {
			*s = *newMemory("llama", Hyper{Layers: 1, Width: 32, Heads: 1, KVHeads: 1, HeadDim: 1024, FFN: 32, VocabRows: 32, Context: 32, NormEps: 1e-5})
		}},
		{want: "number of experts is 0", arch: "mixtral", change: func(s *memory) { s.h.Experts = 0 }},
		{want: "RoPE scaling", change: func(s *memory) { s.h.RopeScaling.Kind = "su" }},
	} {
		t.Run(c.want, func(t *testing.T) {
			name := cmp.Or(c.arch, "llama")
			s := newMemory(name, tiny(name))
			if c.change != nil {
				c.change(s)
			}
			s.openErr(t, c.o, c.want)
		})
	}
	s := newMemory("llama", tiny("llama"))
	_, err := newModel(s, s.h.spec(s.arch), Options{})
	wantError(t, err, "no kernels given")

	// Check refuses such a Spec; compiling one that nobody has checked is an error too.
	spec := s.h.spec(s.arch)
	for i, layer := range spec.Layers {
		spec.Layers[i] = layer[1:]
	}
	_, err = compile(s, spec, kernel.Portable{})
	wantError(t, err, "without attention")
}

func TestLoadAdapterRefuses(t *testing.T) {
	m := newMemory("llama", tiny("llama")).open(t, Options{Context: 32})
	mat := func(rows, cols int) *quant.Matrix {
		return &quant.Matrix{Format: quant.F32, Rows: rows, Cols: cols, Data: make([]byte, 4*rows*cols)}
	}
	for want, a := range map[string]*lora.Adapter{
		"token_embd.weight: the model has no linear layer": {Mods: map[string]*lora.Delta{"token_embd.weight": {A: mat(4, 64), B: mat(70, 4)}}},
		"blk.7.attn_q.weight":                              {Mods: map[string]*lora.Delta{"blk.7.attn_q.weight": {A: mat(4, 64), B: mat(64, 4)}}},
		"missing":                                          {Mods: map[string]*lora.Delta{"blk.0.attn_q.weight": {A: mat(4, 64)}}},
		"ranks 4 and 5":                                    {Mods: map[string]*lora.Delta{"blk.0.attn_q.weight": {A: mat(4, 64), B: mat(64, 5)}}},
		"ranks 0 and 0":                                    {Mods: map[string]*lora.Delta{"blk.0.attn_q.weight": {A: mat(0, 64), B: mat(64, 0)}}},
		"the model's is (64, 64":                           {Mods: map[string]*lora.Delta{"blk.0.attn_q.weight": {A: mat(4, 32), B: mat(64, 4)}}},
		"scale NaN":                                        {Mods: map[string]*lora.Delta{"blk.0.attn_q.weight": {A: mat(4, 64), B: mat(64, 4), Scale: float32(math.NaN())}}},
	} {
		_, err := m.LoadAdapter(a)
		wantError(t, err, want)
	}
}

// TestForwardAllocatesNothing is about the steady state of every kind of batch.
func TestForwardAllocatesNothing(t *testing.T) {
	for _, arch := range []string{"llama", "gpt2", "mixtral"} {
		for _, threads := range []int{1, 2} {
			s := newMemory(arch, tiny(arch))
			m := s.open(t, Options{Context: 1100, MaxRows: 64, KVPages: 200, ThreadsPrefill: threads})
			a, err := m.LoadAdapter(&lora.Adapter{Mods: map[string]*lora.Delta{"blk.0.attn_q.weight": {
				A: randomMatrix(s.rng, "a", 4, 64, 1), B: randomMatrix(s.rng, "b", 64, 4, 1), Scale: 1,
			}}})
			if err != nil {
				t.Fatal(err)
			}
			one, two := m.NewSeq(), m.NewSeq()
			logits := make([]float32, 70)
			with := []Use{{Adapter: a, Scale: 1}}
			decode := []Row{{Seq: one, Logits: logits}}
			prefill := slices.Repeat([]Row{{Seq: two}}, 40)
			prefill[39].Logits = logits
			mixed := append(slices.Repeat([]Row{{Seq: two, Adapters: with}}, 40), Row{Seq: one, Logits: logits})
			feed(t, m, one, randomIDs(600, 70, 4)...) // two spans
			for name, rows := range map[string][]Row{"decode": decode, "prefill": prefill, "mixed": mixed} {
				n := testing.AllocsPerRun(10, func() {
					if err := m.Forward(rows); err != nil {
						t.Fatal(err)
					}
					two.Truncate(0)
				})
				if n != 0 {
					t.Errorf("%s, %d threads, %s: %v allocations", arch, threads, name, n)
				}
			}
		}
	}
}

func TestPlanMemory(t *testing.T) {
	h := Hyper{ // Llama 3.2 1B
		Layers: 16, Width: 2048, Heads: 32, KVHeads: 8, HeadDim: 64, FFN: 8192, VocabRows: 128256, Context: 131072, NormEps: 1e-5,
	}
	page, scratch, err := PlanMemory(h.spec("llama"), Options{KV: kernel.KVF16, MaxRows: 256, ThreadsPrefill: 2})
	if err != nil {
		t.Fatal(err)
	}
	if want := int64(16 * 8 * 2 * 32 * 64 * 2); page != want {
		t.Errorf("%d bytes a page, want %d", page, want)
	}
	if scratch < 30<<20 || scratch > 150<<20 {
		t.Errorf("%d MB of scratch", scratch>>20)
	}
	if page, _, err = PlanMemory(h.spec("llama"), Options{KV: kernel.KVQ8}); err != nil || page != 16*8*2*32*68 {
		t.Errorf("%d bytes a q8_0 page, error %v", page, err)
	}
	h.HeadDim = 80
	_, _, err = PlanMemory(h.spec("llama"), Options{KV: kernel.KVQ8})
	wantError(t, err, "blocks of 32")
	_, _, err = PlanMemory(&arch.Spec{}, Options{})
	wantError(t, err, "layers")

	// What is planned is what is reserved.
	s := newMemory("mixtral", tiny("mixtral"))
	o := Options{Context: 300, MaxRows: 50, KV: kernel.KVF16}
	page, scratch, err = PlanMemory(s.h.spec(s.arch), o)
	if err != nil {
		t.Fatal(err)
	}
	if i := s.open(t, o).Info(); i.PageBytes != page || i.ScratchBytes != scratch {
		t.Errorf("planned %d and %d, reserved %d and %d", page, scratch, i.PageBytes, i.ScratchBytes)
	}
}

func TestInfo(t *testing.T) {
	s := newMemory("mixtral", tiny("mixtral")).encode(t, quant.Q8_0)
	i := s.open(t, Options{KV: kernel.KVF16, Context: 100, MaxRows: 9, ThreadsPrefill: 1}).Info()
	expert := int64(3 * 64 * 96)
	attention := int64(64*64*2 + 64*32*2)
	want := Info{
		Arch: "mixtral", Format: quant.Q8_0, Layers: 2, Width: 64, VocabRows: 70, Context: 100, TrainContext: 1200, MaxRows: 9,
		KV: kernel.KVF16, ThreadsPrefill: 1, ThreadsDecode: 1, HeadBytes: 70 * 64 / 32 * 34, PageBytes: i.PageBytes, ScratchBytes: i.ScratchBytes,
		Parameters: 2*70*64 + 64 + 2*(2*64+attention+8*64+8*expert),
	}
	want.WeightBytes = want.HeadBytes + 2*(attention+8*64+2*expert)/32*34
	if i != want {
		t.Errorf("%+v\nwant %+v", i, want)
	}
}
