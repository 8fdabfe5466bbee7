package weights_test

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"edged/core/model/safetensors"
	"edged/core/model/weights"
	"edged/quant"
	"edged/test/oracle"
	"edged/test/race"
)

// fourbit lists the reference folders of a quantised kind, without those whose architecture is not known.
func fourbit(t *testing.T) []string {
	t.Helper()
	cases, err := filepath.Glob(filepath.Join(oracle.Dir(t), "fourbit", "*", "case.json"))
	if err != nil || len(cases) == 0 {
		t.Fatal(err, len(cases))
	}
	var dirs []string
	for _, c := range cases {
		dir := filepath.Dir(c)
		m, err := weights.OpenHeaders(filepath.Join(dir, "hf"))
		switch {
		case err == nil:
			dirs = append(dirs, dir)
			if err := m.Close(); err != nil {
				t.Error(err)
			}
		default:
			t.Error(err)
		}
	}
	return dirs
}

// TestDequantFolders holds every quantised tensor to sums and values, and one of each folder wholly, to the bits that the
// library gives that wrote it.
func TestDequantFolders(t *testing.T) {
	for _, dir := range fourbit(t) {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			var want struct {
				Matrix, Layout string
				Weights        map[string]struct {
					Sum, Sumsq  float64
					First, Last []float32
				}
			}
			readOracle(t, filepath.Join(dir, "oracle", "dequant.json"), &want)
			m, err := weights.Open(filepath.Join(dir, "hf"))
			if err != nil {
				t.Fatal(err)
			}
			defer m.Close()
			for hf, w := range want.Weights {
				y := decodeModule(t, m, hf)
				var sum, sumsq float64
				for _, v := range y {
					sum += float64(v)
					sumsq += float64(v) * float64(v)
				}
				if !slices.Equal(y[:8], w.First) || !slices.Equal(y[len(y)-8:], w.Last) {
					t.Fatalf("%s: %v … %v; want %v … %v", hf, y[:8], y[len(y)-8:], w.First, w.Last)
				}
				if math.Abs(sum-w.Sum) > 1e-9*sumsq || math.Abs(sumsq-w.Sumsq) > 1e-9*sumsq {
					t.Errorf("%s: sums %v, %v; want %v, %v", hf, sum, sumsq, w.Sum, w.Sumsq)
				}
			}
			if got, want := decodeModule(t, m, want.Matrix), npy(t, filepath.Join(dir, "oracle", "dequant.npy")); !slices.Equal(got, want) {
				t.Errorf("the values of a whole matrix differ")
			}
		})
	}
}

// decodeModule decodes a module: a matrix, or all experts as (experts, inputs, outputs), gate and up alternating.
func decodeModule(t *testing.T, m *weights.Model, module string) []float32 {
	t.Helper()
	prefix, which, experts := strings.Cut(module, ".mlp.experts.")
	if !experts {
		x := m.Matrix(canonical(t, module))
		if x == nil {
			t.Fatalf("%s: no matrix", module)
		}
		return decode(x)
	}
	names := map[string][]string{"gate_up_proj": {"ffn_gate", "ffn_up"}, "down_proj": {"ffn_down"}}[which]
	var out []float32
	for e := 0; ; e++ {
		var parts []*quant.Matrix
		for _, n := range names {
			parts = append(parts, m.Matrix(fmt.Sprintf("blk.%s.%s.%d.weight", prefix[len("model.layers."):], n, e)))
		}
		if parts[0] == nil {
			return out
		}
		rows, cols := parts[0].Rows*len(parts), parts[0].Cols
		all := make([]float32, rows*cols)
		for i, x := range parts {
			for r, y := 0, decode(x); r < x.Rows; r++ {
				for c := range cols {
					all[c*rows+r*len(parts)+i] = y[r*cols+c]
				}
			}
		}
		out = append(out, all...)
	}
}

// canonical is the name here of a module of a Llama-like folder.
func canonical(t *testing.T, module string) string {
	t.Helper()
	parts := strings.Split(module, ".")
	if len(parts) != 5 || parts[1] != "layers" {
		t.Fatalf("module %q", module)
	}
	names := map[string]string{
		"q_proj": "attn_q", "k_proj": "attn_k", "v_proj": "attn_v", "o_proj": "attn_output", "gate_proj": "ffn_gate", "up_proj": "ffn_up", "down_proj": "ffn_down",
	}
	return "blk." + parts[2] + "." + names[parts[4]] + ".weight"
}

// npy reads a file of float32.
func npy(t *testing.T, path string) []float32 {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	data = data[10+int(binary.LittleEndian.Uint16(data[8:])):]
	x := make([]float32, len(data)/4)
	quant.Decode(quant.F32, x, data)
	return x
}

// TestPackedPlans: headers alone tell the sizes and formats that opening gives.
func TestPackedPlans(t *testing.T) {
	for _, dir := range fourbit(t) {
		open, err := weights.Open(filepath.Join(dir, "hf"))
		if err != nil {
			t.Fatal(err)
		}
		heads, err := weights.OpenHeaders(filepath.Join(dir, "hf"))
		if err != nil {
			t.Fatal(err)
		}
		if a, b := open.Figures(), heads.Figures(); a != b {
			t.Errorf("%s: opened %+v, planned %+v", filepath.Base(dir), a, b)
		}
		for _, a := range open.Products() {
			if b := heads.Matrix(a.Name); a.Format != b.Format {
				t.Errorf("%s: %s is %s, planned %s", filepath.Base(dir), a.Name, a.Format, b.Format)
			}
		}
		if err := errors.Join(open.Close(), heads.Close()); err != nil {
			t.Error(err)
		}
	}
}

// TestPackedMutations damages a folder of each kind in its structure: one sentence each, or a model that is whole.
func TestPackedMutations(t *testing.T) {
	race.SkipArithmetic(t)
	for _, dir := range fourbit(t) {
		t.Run(filepath.Base(dir), func(t *testing.T) { mutate(t, filepath.Join(dir, "hf")) })
	}
}

func mutate(t *testing.T, dir string) {
	folder, err := safetensors.OpenFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer folder.Close()
	var names []string // parts of one module, and what bitsandbytes has beside it
	for _, n := range folder.Names() {
		if strings.Contains(n, "layers.1.self_attn.q_proj.") || strings.Contains(n, "layers.1.mlp.down_proj.") || strings.Contains(n, "layers.1.mlp.experts.") {
			names = append(names, n)
		}
	}
	config, err := os.ReadFile(filepath.Join(dir, "config.json"))
	if err != nil {
		t.Fatal(err)
	}
	try := func(what string, config []byte, mustFail bool, change func(x *safetensors.Tensor) bool) {
		out := t.TempDir()
		var list []safetensors.Tensor
		for _, n := range folder.Names() {
			x := *folder.Tensor(n)
			x.Shape = slices.Clone(x.Shape)
			if change == nil || change(&x) {
				list = append(list, x)
			}
		}
		if err := safetensors.WriteFile(filepath.Join(out, "model.safetensors"), list, map[string]string{"format": "pt"}); err != nil {
			return // no such file can be written
		}
		if err := os.WriteFile(filepath.Join(out, "config.json"), config, 0o600); err != nil {
			t.Fatal(err)
		}
		m, err := weights.Open(out)
		if err == nil {
			for _, x := range m.Products() { // nothing reads past an end
				row := make([]float32, x.Cols)
				quant.Row(row, x, 0)
				quant.Row(row, x, x.Rows-1)
			}
			if err := m.Close(); err != nil {
				t.Error(err)
			}
			if mustFail {
				t.Errorf("%s: opened", what)
			}
			return
		}
		if text := err.Error(); !strings.HasPrefix(text, "weights: ") || strings.Contains(text, "\n") || len(text) > 900 {
			t.Errorf("%s: %q is not one sentence", what, text)
		}
	}
	for _, n := range names {
		try("without "+n, config, false, func(x *safetensors.Tensor) bool { return x.Name != n })
		of := func(f func(x *safetensors.Tensor)) func(x *safetensors.Tensor) bool {
			return func(x *safetensors.Tensor) bool {
				if x.Name == n {
					f(x)
				}
				return true
			}
		}
		try("turned "+n, config, false, of(func(x *safetensors.Tensor) { slices.Reverse(x.Shape) }))
		try("flat "+n, config, false, of(func(x *safetensors.Tensor) { x.Shape = []int64{x.Elements()} }))
		try("halved "+n, config, false, of(func(x *safetensors.Tensor) {
			if len(x.Shape) > 0 && x.Shape[0]%2 == 0 {
				x.Shape[0] /= 2
				x.Data = x.Data[:len(x.Data)/2]
			}
		}))
		try("empty "+n, config, false, of(func(x *safetensors.Tensor) { x.Shape, x.Data = []int64{0}, nil }))
		try("of another type "+n, config, false, of(func(x *safetensors.Tensor) {
			types := map[safetensors.DType]safetensors.DType{
				safetensors.I32: safetensors.F32, safetensors.F32: safetensors.I32, safetensors.F16: safetensors.BF16,
				safetensors.BF16: safetensors.F16, safetensors.U8: safetensors.I8, safetensors.I8: safetensors.U8, safetensors.I64: safetensors.F64, safetensors.F8E4M3: safetensors.F8E5M2,
			}
			x.DType = types[x.DType]
		}))
		try("all ones "+n, config, false, of(func(x *safetensors.Tensor) {
			x.Data = slices.Repeat([]byte{0xff}, len(x.Data))
		}))
		try("all zeros "+n, config, false, of(func(x *safetensors.Tensor) { x.Data = make([]byte, len(x.Data)) }))
	}
	var object map[string]any
	if err := json.Unmarshal(config, &object); err != nil {
		t.Fatal(err)
	}
	q, _ := object["quantization_config"].(map[string]any)
	for key, value := range map[string]any{"bits": 3, "group_size": 48, "quant_method": "quip", "checkpoint_format": "marlin", "version": "gemv", "format": "marlin-24", "weight_block_size": []int{7, 0}} {
		old, had := q[key]
		q[key] = value
		changed, err := json.Marshal(object)
		if err != nil {
			t.Fatal(err)
		}
		try(fmt.Sprintf("%s %v", key, value), changed, key == "quant_method", nil)
		if delete(q, key); had {
			q[key] = old
		}
	}
	for _, value := range []any{7, "x", []int{1}, map[string]any{"quant_method": []int{1}}} {
		object["quantization_config"] = value
		changed, err := json.Marshal(object)
		if err != nil {
			t.Fatal(err)
		}
		try(fmt.Sprintf("quantization_config %v", value), changed, false, nil)
	}
}
