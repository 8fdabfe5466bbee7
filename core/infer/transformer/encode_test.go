package transformer

import (
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"edged/core/model/arch"
	"edged/quant/kernel"
	"edged/test/oracle"
)

// heldElsewhere are embedders and judges made of a decoder, which opens as one, what TestCrossed holds, and heads, see TestHeads.
var heldElsewhere = []string{
	"qwen3-embed", "qwen3-judge", "bart", "flan-t5", "marian", "mt5", "pegasus", "t5",
	"bert-mlm", "modernbert-mlm", "roberta-mlm", "distilbert-mlm", "bert-rank", "modernbert-rank", "xlmr-rank",
}

// encoderCase is the part of enc.json that is compared.
type encoderCase struct {
	Pooling   string   `json:"pooling"`
	Normalize bool     `json:"normalize"`
	Dense     [][2]int `json:"dense"`
	Lists     []struct {
		IDs []int32 `json:"ids"`
	} `json:"lists"`
	Typed *struct {
		IDs   []int32 `json:"ids"`
		Types []int32 `json:"types"`
	} `json:"typed"`
}

// TestEncoders holds every encoder of the shared reference models against transformers' states and sentence-transformers' vectors, in
// both containers.
func TestEncoders(t *testing.T) {
	dir := filepath.Join(oracle.Dir(t), "encoders")
	var all struct {
		Models []struct {
			Name   string `json:"name"`
			Folder string `json:"folder"`
			GGUF   string `json:"gguf"`
			Oracle string `json:"oracle"`
		} `json:"models"`
	}
	readJSON(t, filepath.Join(dir, "families.json"), &all)
	if len(all.Models) == 0 {
		t.Fatal("families.json lists no models")
	}
	for _, m := range all.Models {
		paths := []string{filepath.Join(dir, m.Folder)}
		if m.GGUF != "" {
			paths = append(paths, filepath.Join(dir, m.GGUF))
		}
		for _, path := range paths {
			switch {
			case slices.Contains(heldElsewhere, m.Name):
			default:
				for precision, o := range precisions() {
					t.Run(m.Name+"/"+filepath.Base(path)+"/"+precision, func(t *testing.T) {
						checkEncoder(t, path, filepath.Join(dir, filepath.Dir(m.Oracle)), o)
					})
				}
			}
		}
	}
}

// checkEncoder compares one model file.
func checkEncoder(t *testing.T, path, dir string, o Options) {
	var want encoderCase
	readJSON(t, filepath.Join(dir, "enc.json"), &want)
	o.MaxRows, o.Context = 512, 512
	r, w := openRunner(t, path, o)
	pools := map[string]arch.PoolKind{"mean": arch.PoolMean, "cls": arch.PoolCLS, "lasttoken": arch.PoolLast}
	if p, kind := w.Spec.Pool, pools[want.Pooling]; p.Kind != kind || p.Normalize != want.Normalize {
		t.Errorf("the file's pooling is %+v: want %s, normalised %v", p, want.Pooling, want.Normalize)
	}
	var texts []Text
	width := r.m.Info().Width
	for _, l := range want.Lists {
		texts = append(texts, Text{IDs: l.IDs, States: make([]float32, len(l.IDs)*width)})
	}
	if want.Typed != nil {
		texts = append(texts, Text{IDs: want.Typed.IDs, Types: want.Typed.Types, States: make([]float32, len(want.Typed.IDs)*width)})
	}
	if err := r.m.Encode(texts); err != nil {
		t.Fatal(err)
	}
	limit, cosine := 2e-3, 0.99999
	if o.Precision == kernel.Fast { // keys and values in 16 bits
		limit, cosine = 0.03, 0.9999
	}
	n := len(want.Lists)
	lost := len(want.Dense) > 0 && len(w.Spec.Dense) == 0 // a file that has lost its dense layers gives what it has
	closeTo(t, "states", texts[0].States, readNPY(t, filepath.Join(dir, "hf.hidden.p0.npy")), width, limit, cosine)
	pooled, dense, final := []float32(nil), []float32(nil), []float32(nil)
	for i := range texts[:n] {
		v, err := Pooled(w.Spec.Pool.Kind, texts[i].States, width)
		if err != nil {
			t.Fatal(err)
		}
		pooled = append(pooled, v...)
		if v, err = r.m.Dense(v); err != nil {
			t.Fatal(err)
		}
		dense = append(dense, v...)
		norm := 1.0
		if w.Spec.Pool.Normalize {
			norm = 0
			for _, x := range v {
				norm += float64(x) * float64(x)
			}
			norm = math.Sqrt(norm)
		}
		for _, x := range v {
			final = append(final, float32(float64(x)/norm))
		}
	}
	closeTo(t, "pooled", pooled, readNPY(t, filepath.Join(dir, "hf.pooled.npy")), width, limit, cosine)
	if lost {
		return
	}
	if len(want.Dense) > 0 {
		closeTo(t, "dense", dense, readNPY(t, filepath.Join(dir, "hf.dense.npy")), w.Spec.VectorLen(), limit, cosine)
	}
	width = w.Spec.VectorLen()
	closeTo(t, "final", final, readNPY(t, filepath.Join(dir, "hf.final.npy")), width, limit, cosine)
	if want.Typed != nil {
		closeTo(t, "typed", texts[n].States, readNPY(t, filepath.Join(dir, "hf.typed.npy")), r.m.Info().Width, limit, cosine)
	}

	if strings.HasSuffix(path, ".gguf") {
		return
	}
	// Each text alone, and all of them in another order, give the same bits.
	alone := slices.Clone(texts)
	for i := range alone {
		alone[i].States = make([]float32, len(texts[i].States))
		if err := r.m.Encode(alone[i : i+1]); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(alone[i].States, texts[i].States) {
			t.Errorf("alone text %d has other states than in a batch", i)
		}
	}
	turned := slices.Clone(alone)
	for i := range turned {
		turned[i].States = make([]float32, len(texts[i].States))
	}
	slices.Reverse(turned)
	if err := r.m.Encode(turned); err != nil {
		t.Fatal(err)
	}
	for i := range turned {
		if !slices.Equal(turned[len(turned)-1-i].States, texts[i].States) {
			t.Errorf("in another order text %d has other states", i)
		}
	}
}

// closeTo compares rows of width values.
func closeTo(t *testing.T, what string, got, want []float32, width int, limit, cosine float64) {
	t.Helper()
	if len(got) != len(want) || len(want) == 0 {
		t.Fatalf("%s: %d values, want %d", what, len(got), len(want))
	}
	most, least := 0.0, 1.0
	for at := 0; at < len(want); at += width {
		var gw, g2, w2 float64
		for i := at; i < at+width; i++ {
			g, w := float64(got[i]), float64(want[i])
			if e := math.Abs(g - w); !(e <= most) {
				most = e
			}
			gw, g2, w2 = gw+g*w, g2+g*g, w2+w*w
		}
		if c := gw / math.Sqrt(g2*w2); !(c >= least) {
			least = c
		}
	}
	t.Logf("%s: max abs %.2e, cosine %.7f", what, most, least)
	if !(most <= limit) || !(least >= cosine) {
		t.Errorf("%s: max abs %.2e of at most %.0e, cosine %.7f of at least %g", what, most, limit, least, cosine)
	}
}
