package weights_test

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"edged/core/model/gguf"
	"edged/core/model/weights"
	"edged/quant"
	"edged/test/oracle"
)

func readOracle(t *testing.T, path string, v any) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, v); err != nil {
		t.Fatal(err)
	}
}

// TestDequantGGUF holds every quantised tensor of every oracle file against sums and values on which gguf-py and libggml
// agree bit for bit.
func TestDequantGGUF(t *testing.T) {
	paths, err := filepath.Glob(filepath.Join(oracle.Dir(t), "models/*/oracle/*.dequant.json"))
	if err != nil || len(paths) == 0 {
		t.Fatal(err, len(paths))
	}
	for _, path := range paths {
		var want struct {
			File    string
			Tensors []struct {
				Name, Type    string
				Ne            []int64
				Sum, Sumsq    float64
				First8, Last8 []float32
			}
		}
		readOracle(t, path, &want)
		t.Run(want.File, func(t *testing.T) {
			f, err := gguf.Open(filepath.Join(filepath.Dir(path), "..", want.File))
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			for _, w := range want.Tensors {
				x := f.Tensor(w.Name)
				if x == nil || x.Type.String() != w.Type {
					t.Fatalf("%s: %+v, want type %s", w.Name, x, w.Type)
				}
				y := make([]float32, x.Elements())
				quant.Decode(x.Type.Format(), y, x.Data)
				var sum, sumsq float64
				for _, v := range y {
					sum += float64(v)
					sumsq += float64(v) * float64(v)
				}
				for i := range 8 {
					if y[i] != w.First8[i] || y[len(y)-8+i] != w.Last8[i] {
						t.Fatalf("%s %s: value %d: %v, %v; want %v, %v", w.Name, w.Type, i, y[i], y[len(y)-8+i], w.First8[i], w.Last8[i])
					}
				}
				// The sums may have been taken in another order.
				if math.Abs(sum-w.Sum) > 1e-9*sumsq || math.Abs(sumsq-w.Sumsq) > 1e-12*sumsq {
					t.Errorf("%s %s: sums %v, %v; want %v, %v", w.Name, w.Type, sum, sumsq, w.Sum, w.Sumsq)
				}
			}
		})
	}
}

func decode(m *quant.Matrix) []float32 {
	out := make([]float32, m.Rows*m.Cols)
	for r := range m.Rows {
		quant.Row(out[r*m.Cols:], m, r)
	}
	return out
}

// TestDequantNF4 holds NF4 with nested scales against the independent decoding of the same file.
func TestDequantNF4(t *testing.T) {
	dir := filepath.Join(oracle.Dir(t), "nf4/llama-tied-nf4-dq")
	m, err := weights.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	var checks map[string]struct {
		Sum, Sumsq float64
		First8     []float32
	}
	readOracle(t, filepath.Join(dir, "oracle/dequant_checks.json"), &checks)
	names := map[string]string{}
	for n, hf := range map[string]string{
		"attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj",
		"ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
	} {
		for _, layer := range []string{"0", "1"} {
			names["model.layers."+layer+"."+hf+".weight"] = "blk." + layer + "." + n + ".weight"
		}
	}
	names["model.embed_tokens.weight"] = "token_embd.weight"
	seen := 0
	for name, want := range checks {
		x := m.Matrix(names[name])
		if x == nil {
			continue
		}
		seen++
		y := decode(x)
		var sum, sumsq float64
		for _, v := range y {
			sum += float64(v)
			sumsq += float64(v) * float64(v)
		}
		for i, w := range want.First8 {
			if math.Abs(float64(y[i]-w)) > 1e-6*math.Abs(float64(w)) {
				t.Errorf("%s: value %d: %v, want %v", name, i, y[i], w)
			}
		}
		if math.Abs(sum-want.Sum) > 1e-6*sumsq || math.Abs(sumsq-want.Sumsq) > 1e-6*sumsq {
			t.Errorf("%s: sums %v, %v; want %v, %v", name, sum, sumsq, want.Sum, want.Sumsq)
		}
	}
	if seen != 15 {
		t.Errorf("%d matrices compared, want 15", seen)
	}
	raw, err := os.ReadFile(filepath.Join(dir, "oracle/dequant.model.layers.0.self_attn.q_proj.weight.npy"))
	if err != nil {
		t.Fatal(err)
	}
	y := decode(m.Matrix("blk.0.attn_q.weight"))
	want := make([]float32, len(y))
	quant.Decode(quant.F32, want, raw[len(raw)-4*len(y):])
	worst, exact := 0.0, 0
	for i := range y {
		if y[i] == want[i] {
			exact++
		}
		worst = max(worst, math.Abs(float64(y[i]-want[i]))/math.Max(math.Abs(float64(want[i])), 1e-12))
	}
	t.Logf("%d of %d values equal, worst relative difference %g", exact, len(y), worst)
	if worst > 1e-6 {
		t.Errorf("worst relative difference %g", worst)
	}
}

// TestSameWeights proves names, splits, transpositions and permutations: the exact values of the Hugging Face folder and
// of the F16 or F32 GGUF file are the same numbers.
func TestSameWeights(t *testing.T) {
	dir := filepath.Join(oracle.Dir(t), "models")
	for name, file := range map[string]string{
		"llama-tied": "llama-tied-F16.gguf", "qwen2": "qwen2-F32.gguf", "gpt2": "gpt2-F16.gguf", "mixtral": "mixtral-F16.gguf",
	} {
		t.Run(name, func(t *testing.T) {
			hf, err := weights.Open(filepath.Join(dir, name, "hf"))
			if err != nil {
				t.Fatal(err)
			}
			defer hf.Close()
			gg, err := weights.Open(filepath.Join(dir, name, file))
			if err != nil {
				t.Fatal(err)
			}
			defer gg.Close()
			if a, b := strings.Join(hf.Names(), " "), strings.Join(gg.Names(), " "); a != b {
				t.Fatalf("names differ:\n%s\n%s", a, b)
			}
			a, b := hyperOf(hf), hyperOf(gg)
			a.Interleaved = b.Interleaved
			if aj, bj := mustJSON(t, a), mustJSON(t, b); aj != bj {
				t.Errorf("hyper-parameters differ:\n%s\n%s", aj, bj)
			}
			for _, n := range hf.Names() {
				x, y := hf.Matrix(n), gg.Matrix(n)
				var xs, ys []float32
				if x == nil {
					if xs, err = hf.Vector(n); err != nil {
						t.Fatal(err)
					}
					if ys, err = gg.Vector(n); err != nil {
						t.Fatal(err)
					}
				} else {
					xs, ys = decode(x), decode(y)
					heads := map[string]int{"attn_q": hyperOf(hf).Heads, "attn_k": hyperOf(hf).KVHeads}[strings.Split(n+"..", ".")[2]]
					if hyperOf(gg).Interleaved && heads > 0 {
						xs = interleave(xs, heads, x.Rows/heads, x.Cols)
					}
				}
				for i := range xs {
					if len(xs) != len(ys) || xs[i] != ys[i] {
						t.Fatalf("%s: %d and %d values, differing at %d", n, len(xs), len(ys), i)
					}
				}
			}
		})
	}
}

// interleave reorders the rows of each head from rotate-half to adjacent pairs, written apart from the code under test.
func interleave(x []float32, heads, headDim, cols int) []float32 {
	out := make([]float32, 0, len(x))
	for h := range heads {
		for i := range headDim / 2 {
			for _, r := range []int{h*headDim + i, h*headDim + headDim/2 + i} {
				out = append(out, x[r*cols:(r+1)*cols]...)
			}
		}
	}
	return out
}

func mustJSON(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
