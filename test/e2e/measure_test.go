package e2e

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"testing"

	"edged/core/model/gguf"
	"edged/quant"
	"edged/test/oracle"
)

// TestImportanceAsLlamaImatrix: the matrix that is measured here is llama-imatrix's of the same text, model and windows, but for
// the rounding of arithmetic that adds in another order.
func TestImportanceAsLlamaImatrix(t *testing.T) {
	want := filepath.Join(oracle.Dir(t), "fourbit/gguf/llama-tied.imatrix.gguf")
	model := filepath.Join(oracle.Dir(t), "models/llama-tied/llama-tied-F16.gguf")
	text := filepath.Join(oracle.Dir(t), "fourbit/gguf/imatrix.txt")
	got := filepath.Join(t.TempDir(), "got.gguf")
	if _, errs, code := edged(t, "imatrix", got, "--model", model, "--file", text, "--window", "128", "--chunks", "12"); code != 0 {
		t.Fatalf("exit %d: %s", code, errs)
	}
	a, b := values(t, want), values(t, got)
	if len(a) != len(b) || len(a) != 28 {
		t.Fatalf("%d tensors, want %d", len(b), len(a))
	}
	for name, x := range a {
		y := b[name]
		if len(x) != len(y) {
			t.Errorf("%s: %d values, want %d", name, len(y), len(x))
			continue
		}
		var off, all float64
		for i := range x {
			off += math.Abs(float64(x[i]) - float64(y[i]))
			all += math.Abs(float64(x[i]))
		}
		if off > all/1000 {
			t.Errorf("%s: the values are off by %.2g of their sum", name, off/all)
		}
	}
}

// values are a GGUF file's tensors, all of which are F32.
func values(t *testing.T, path string) map[string][]float32 {
	t.Helper()
	f, err := gguf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	out := map[string][]float32{}
	for i := range f.Tensors() {
		x := &f.Tensors()[i]
		v := make([]float32, x.Elements())
		quant.Decode(quant.F32, v, x.Data)
		out[x.Name] = v
	}
	return out
}

// TestQuantizeMeasures: a source that is compared with itself is the same, one of 8 bits nearly, and one of 2 bits is not; the
// perplexity of the demo model is what `edged score` says.
func TestQuantizeMeasures(t *testing.T) {
	src := filepath.Join(oracle.Repo(t), "demo/gguf/hearth-4m-q4_0.gguf")
	whole, err := os.ReadFile(filepath.Join(oracle.Dir(t), "fourbit/gguf/imatrix.txt"))
	if err != nil {
		t.Fatal(err)
	}
	text := filepath.Join(t.TempDir(), "text")
	if err := os.WriteFile(text, whole[:3000], 0o600); err != nil {
		t.Fatal(err)
	}
	type verified struct {
		Tokens    int
		SourcePPL float64 `json:"source_ppl"`
		PPL       float64
		KL        float64
		SameTop   float64 `json:"same_top"`
	}
	kl := map[string]float64{}
	for _, kind := range []string{"f32", "q8_0", "q2_k_s"} {
		dst := filepath.Join(t.TempDir(), "dst.gguf")
		out, errs, code := edged(t, "quantize", src, dst, "--requantize", "--type", kind, "--calibrate", text, "--verify", text, "--json")
		if code != 0 {
			t.Fatalf("%s: exit %d: %s", kind, code, errs)
		}
		var got struct{ Verified verified }
		if err := json.Unmarshal([]byte(out), &got); err != nil {
			t.Fatal(err)
		}
		v := got.Verified
		kl[kind] = v.KL
		if v.Tokens < 255 || v.KL < 0 || kind == "f32" && (v.KL > 1e-9 || v.SameTop != 1 || v.PPL != v.SourcePPL) {
			t.Errorf("%s: %+v", kind, v)
		}
		if kind != "f32" {
			continue
		}
		out, errs, code = edged(t, "score", "--model", src, "--file", text, "--precision", "exact", "--context", "512", "--llama-windows", "--json")
		var score struct{ PPL float64 }
		if err := json.Unmarshal([]byte(out), &score); code != 0 || err != nil {
			t.Fatalf("exit %d: %s, %v", code, errs, err)
		}
		if math.Abs(score.PPL-v.PPL) > score.PPL/10000 {
			t.Errorf("perplexity %v, score says %v", v.PPL, score.PPL)
		}
	}
	if !(kl["q8_0"] > 0 && kl["q8_0"] < 0.01 && kl["q2_k_s"] > 10*kl["q8_0"]) {
		t.Errorf("divergences %v", kl)
	}
}
