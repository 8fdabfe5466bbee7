package quantize_test

import (
	"errors"
	"math"
	"path/filepath"
	"testing"

	"edged/core/model/gguf"
	"edged/core/model/quantize"
	"edged/quant"
)

// TestActivationFiles: what is gathered is written in both formats and read again; files of both give the same weights, those of
// the matrix that was never written; an expert that was never asked weighs all columns alike.
func TestActivationFiles(t *testing.T) {
	src := small(t, "llama")
	a := &quantize.Activations{Dataset: "text.txt", ChunkSize: 64}
	sums := func(n int, f float32) []float32 {
		x := make([]float32, n)
		for i := range x {
			x[i] = f * float32(1+i%7)
		}
		return x
	}
	for range 2 {
		a.Chunks++
		for _, err := range []error{
			a.Add("blk.0.attn_v.weight", sums(256, 0.5), []int64{64}),
			a.Add("blk.1.attn_v.weight", sums(256, 3), []int64{64}),
			a.Add("blk.0.ffn_down_exps.weight", sums(1024, 2), []int64{64, 32}), // of three
			a.Add("blk.7.attn_v.weight", sums(256, 1), []int64{64}),             // of no layer
			a.Add("blk.0.odd.weight", sums(95, 1), []int64{64}),                 // of another width
		} {
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	if n, err := a.Fit(src); err != nil || n != 3 {
		t.Fatalf("%d tensors fit, %v", n, err)
	}
	dir := t.TempDir()
	got := map[string]string{}
	for _, name := range []string{"", "m.gguf", "m.dat"} {
		imp := a.Importance("m")
		if name != "" {
			path := filepath.Join(dir, name)
			if err := a.WriteFile(path); err != nil {
				t.Fatal(err)
			}
			var err error
			if imp, err = quantize.ReadImportance(path); err != nil {
				t.Fatal(err)
			}
			if imp.Chunks != 2 || imp.Dataset != "text.txt" {
				t.Errorf("%s: %d chunks of %q", name, imp.Chunks, imp.Dataset)
			}
		}
		dst := filepath.Join(dir, "dst.gguf")
		if _, err := quantize.File(t.Context(), dst, src, quantize.Options{Mixture: mixture(t, "Q4_0"), Importance: imp}); err != nil {
			t.Fatal(err)
		}
		got[name] = digest(t, dst)
	}
	if got[""] != got["m.gguf"] || got[""] != got["m.dat"] {
		t.Errorf("digests %v differ", got)
	}
	f, err := gguf.Open(filepath.Join(dir, "m.gguf"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	counts := make([]float32, 3)
	quant.Decode(quant.F32, counts, f.Tensor("blk.0.ffn_down_exps.weight.counts").Data)
	if counts[0] != 128 || counts[1] != 64 || counts[2] != 0 {
		t.Errorf("counts %v", counts)
	}
	for what, err := range map[string]error{
		"no counts":     a.Add("x", sums(4, 1), nil),
		"another width": a.Add("blk.0.attn_v.weight", sums(128, 1), []int64{1}),
		"not a number":  a.Add("x", []float32{float32(math.NaN())}, []int64{1}),
		"nothing":       (&quantize.Activations{}).WriteFile(filepath.Join(dir, "none.gguf")),
	} {
		if !errors.Is(err, quantize.ErrImportance) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// TestDivergence holds the figures to their definitions, over three tokens.
func TestDivergence(t *testing.T) {
	d := &quantize.Divergence{}
	ln := func(p ...float64) []float32 {
		out := make([]float32, len(p))
		for i, x := range p {
			out[i] = float32(math.Log(x) + 5) // logits are right up to a constant
		}
		return out
	}
	if err := d.Add(ln(0.5, 0.25, 0.25), ln(0.25, 0.5, 0.25), 0); err != nil {
		t.Fatal(err)
	}
	if err := d.Add(ln(0.5, 0.25, 0.25), ln(0.5, 0.25, 0.25), 1); err != nil {
		t.Fatal(err)
	}
	near := func(what string, got, want float64) {
		t.Helper()
		if math.Abs(got-want) > 1e-6 {
			t.Errorf("%s is %v, want %v", what, got, want)
		}
	}
	first, second := d.Perplexities()
	near("the source's perplexity", first, math.Sqrt(2*4))
	near("the perplexity", second, math.Sqrt(4*4))
	mean, deviation := d.KL()
	kl := 0.5*math.Ln2 - 0.25*math.Ln2
	near("the divergence", mean, kl/2)
	near("its error", deviation, kl/2)
	near("the largest", d.MaxKL, kl)
	near("the share of equal tops", d.Same(), 0.5)
	near("the change of probability", d.Delta(), 0.25/math.Sqrt2)
	if err := d.Add(ln(0.5, 0.5), ln(0.5, 0.25, 0.25), 0); !errors.Is(err, quantize.ErrUnsupported) {
		t.Errorf("other vocabularies: %v", err)
	}
	if err := d.Add([]float32{float32(math.Inf(1)), 0}, []float32{0, 0}, 0); !errors.Is(err, quantize.ErrUnsupported) {
		t.Errorf("an infinite logit: %v", err)
	}
}
