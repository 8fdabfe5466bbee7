package transformer

import (
	"fmt"
	"math"
	"path/filepath"
	"testing"

	"edged/core/model/lora"
	"edged/core/model/weights"
	"edged/plugins/backend-generic/x86"
	"edged/quant"
	"edged/quant/kernel"
	"edged/test/oracle"
)

// ofFile is a model's tensors as the reference takes them.
func ofFile(t *testing.T, w *weights.Model) *memory {
	t.Helper()
	if h := hyperOf(w.Spec); h.RopeScaling.Kind != "" || h.RopeScaling.Factors != nil {
		t.Fatal("the reference's angles are plain")
	}
	s := &memory{arch: w.Spec.Family, h: hyperOf(w.Spec), m: map[string]*quant.Matrix{}, v: map[string][]float32{}}
	for _, name := range append(w.Names(), "output.weight") {
		if m := w.Matrix(name); m != nil {
			s.m[name] = m
			continue
		}
		v, err := w.Vector(name)
		if err != nil {
			t.Fatal(err)
		}
		s.v[name] = v
	}
	return s
}

// TestAdaptersOnEveryBase: every adapter of the reference folders on NF4, Q4_0 and 16-bit bases, at scale 1, at 0.5 and two at
// once, against weights merged in float64. The references that came with them cover a part of this (TestOracleAdapters,
// TestOracleNF4, TestOracleDemo); this one trusts the same merging as they do and nothing of the forward pass.
func TestAdaptersOnEveryBase(t *testing.T) {
	dir, demo := oracle.Dir(t), oracle.Demo(t)
	for _, c := range []struct {
		base     string
		adapters []string
	}{
		{filepath.Join(dir, "nf4/llama-tied-nf4-dq"), []string{filepath.Join(dir, "lora/llama-tied/loraA"), filepath.Join(dir, "lora/llama-tied/loraB-rs")}},
		{filepath.Join(dir, "models/llama-tied/llama-tied-Q4_0.gguf"), []string{filepath.Join(dir, "lora/llama-tied/loraA.gguf"), filepath.Join(dir, "lora/llama-tied/loraB-rs")}},
		{filepath.Join(dir, "models/llama-tied/llama-tied-F16.gguf"), []string{filepath.Join(dir, "lora/llama-tied/loraA"), filepath.Join(dir, "lora/llama-tied/loraB-rs.gguf")}},
		{filepath.Join(dir, "models/qwen2/qwen2-Q4_0.gguf"), []string{filepath.Join(dir, "lora/qwen2/loraA"), filepath.Join(dir, "lora/qwen2/loraB-attn")}},
		{filepath.Join(dir, "models/qwen2/qwen2-F16.gguf"), []string{filepath.Join(dir, "lora/qwen2/loraA.gguf"), filepath.Join(dir, "lora/qwen2/loraB-attn")}},
		{filepath.Join(demo, "hf-nf4"), demoAdapters(demo)},
		{filepath.Join(demo, "gguf/hearth-4m-q4_0.gguf"), demoAdapters(demo)},
		{filepath.Join(demo, "hf-f16"), demoAdapters(demo)},
	} {
		w, err := weights.Open(c.base)
		if err != nil {
			t.Fatal(err)
		}
		defer w.Close()
		s := ofFile(t, w)
		m, err := New(w, Options{Kernels: x86.Best(), Precision: kernel.Exact, ThreadsPrefill: 1, ThreadsDecode: 1, Context: 64, MaxRows: 32})
		if err != nil {
			t.Fatal(err)
		}
		defer m.Close()
		var files []*lora.Adapter
		var bound []*Adapter
		for _, path := range c.adapters {
			a, err := lora.Open(path, w)
			if err != nil {
				t.Fatal(err)
			}
			defer a.Close()
			b, err := m.LoadAdapter(a)
			if err != nil {
				t.Fatal(err)
			}
			defer b.Close()
			files, bound = append(files, a), append(bound, b)
		}
		n := len(files)
		type use struct {
			i     int
			scale float32
		}
		cases := [][]use{{{0, 1}, {n - 1, 0.5}}}
		for i := range files {
			cases = append(cases, []use{{i, 1}}, []use{{i, 0.5}})
		}
		ids := randomIDs(5, s.h.VocabRows, 9)
		for _, uses := range cases {
			t.Run(fmt.Sprint(filepath.Base(c.base), uses), func(t *testing.T) {
				var applied []scaled
				var with []Use
				for _, u := range uses {
					applied, with = append(applied, scaled{files[u.i], u.scale}), append(with, Use{Adapter: bound[u.i], Scale: u.scale})
				}
				want := s.merge(applied).logits(nil, ids)
				got, seq := (&runner{t: t, m: m, uses: with}).logits(ids)
				defer seq.Free()
				worst := 0.0
				for p := range want {
					for i, x := range want[p] {
						worst = max(worst, math.Abs(float64(got[p*s.h.VocabRows+i])-x))
					}
				}
				t.Logf("largest error %.2g", worst)
				if !(worst <= 2e-3) {
					t.Errorf("largest error %g", worst)
				}
			})
		}
	}
}

func demoAdapters(demo string) []string {
	return []string{
		filepath.Join(demo, "adapters/pirate"), filepath.Join(demo, "adapters/deutsch.gguf"), filepath.Join(demo, "adapters/json"),
	}
}
