package transformer

import (
	"math"
	"math/rand/v2"
	"testing"

	"edged/core/model/arch"
	"edged/quant"
	"edged/quant/kernel"
)

// latentSpec is one layer of latent attention and a small network.
func latentSpec(a arch.Latent) *arch.Spec {
	a.Eps, a.Position = 1e-6, arch.Rope{Dim: a.RopeDim, Base: 10000}
	s := &arch.Spec{Family: "latent", Width: 32, Vocab: 70, Context: 64, Norm: arch.RMS("output_norm", 1e-6)}
	s.Add(arch.Sub{Pre: arch.RMS("attn_norm", 1e-6), Op: a}, arch.Sub{Pre: arch.RMS("ffn_norm", 1e-6), Op: arch.GLU{Hidden: 32}})
	return s
}

// random makes the tensors that a Spec has.
func random(tb testing.TB, spec *arch.Spec) *memory {
	tb.Helper()
	s := &memory{m: map[string]*quant.Matrix{}, v: map[string][]float32{}, rng: rand.New(rand.NewPCG(3, 3))}
	if err := arch.Tensors(spec, func(t arch.Tensor) error {
		switch {
		case t.Optional:
		case t.Rows > 0:
			s.matrix(t.Name, t.Rows, t.Cols, 1/math.Sqrt(float64(t.Cols)))
		default:
			s.vector(t.Name, t.Cols, 1)
		}
		return nil
	}); err != nil {
		tb.Fatal(err)
	}
	return s
}

// TestLatentSizes: whichever of the sizes of a latent attention is the largest, there is room for it, and both precisions agree.
func TestLatentSizes(t *testing.T) {
	for name, a := range map[string]arch.Latent{
		"queries that do not turn": {Heads: 1, KVRank: 32, NopeDim: 512, RopeDim: 32, ValueDim: 32},
		"queries that do":          {Heads: 1, KVRank: 32, NopeDim: 32, RopeDim: 256, ValueDim: 32},
		"rank of queries":          {Heads: 1, QRank: 512, KVRank: 32, NopeDim: 32, RopeDim: 32, ValueDim: 32},
		"rank of keys":             {Heads: 1, KVRank: 512, NopeDim: 32, RopeDim: 32, ValueDim: 32},
		"values":                   {Heads: 2, KVRank: 32, NopeDim: 32, RopeDim: 32, ValueDim: 512},
		"heads":                    {Heads: 40, KVRank: 32, NopeDim: 32, RopeDim: 32, ValueDim: 32},
	} {
		t.Run(name, func(t *testing.T) {
			spec := latentSpec(a)
			s := random(t, spec).encode(t, quant.Q8_0)
			logits := map[kernel.Precision][]float32{}
			for _, p := range []kernel.Precision{kernel.Exact, kernel.Fast} {
				o := Options{Kernels: kernel.Portable{}, Precision: p, MaxRows: 40}
				if p == kernel.Fast {
					o.KV = kernel.KVQ8
				}
				m, err := newModel(s, spec, o)
				if err != nil {
					t.Fatal(err)
				}
				logits[p] = make([]float32, spec.Vocab)
				seq, rows := m.NewSeq(), make([]Row, 40)
				for i, id := range randomIDs(len(rows), spec.Vocab, 4) {
					rows[i] = Row{Seq: seq, Token: id}
				}
				rows[len(rows)-1].Logits = logits[p]
				if err := m.Forward(rows); err != nil {
					t.Fatal(err)
				}
				if err := m.Close(); err != nil {
					t.Error(err)
				}
			}
			if c := cosine(logits[kernel.Exact], logits[kernel.Fast]); c < 0.99 {
				t.Errorf("the precisions are %g alike", c)
			}
		})
	}
}

func cosine(a, b []float32) float64 {
	dot := func(x, y []float32) float64 {
		sum := 0.0
		for i := range x {
			sum += float64(x[i]) * float64(y[i])
		}
		return sum
	}
	return dot(a, b) / math.Sqrt(dot(a, a)*dot(b, b))
}

// TestLatentRefusals: what the kernels cannot take is refused by the plan, before anything is loaded.
func TestLatentRefusals(t *testing.T) {
	a := arch.Latent{Heads: 1, KVRank: 560, NopeDim: 32, RopeDim: 32, ValueDim: 32}
	_, _, err := PlanMemory(latentSpec(a), Options{})
	wantError(t, err, "layer 0 keeps heads of 592 values")
	a.KVRank, a.RopeDim = 16, 48
	_, _, err = PlanMemory(latentSpec(a), Options{KV: kernel.KVQ8})
	wantError(t, err, "heads have 16")
	if _, _, err = PlanMemory(latentSpec(a), Options{KV: kernel.KVF16}); err != nil {
		t.Error(err)
	}
}
