package transformer

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"edged/core/model/gguf"
	"edged/core/model/safetensors"
	"edged/core/model/weights"
	"edged/quant"
	"edged/test/oracle"
)

// deltaIDs is a prompt of every delta net's reference.
func deltaIDs() []int32 {
	ids := make([]int32, 37)
	for i := range ids {
		ids[i] = int32((i*i*7 + 31*i) % 509)
	}
	return ids
}

// exactLogits are a model's of a prompt.
func exactLogits(t *testing.T, path string) []float32 {
	t.Helper()
	r, _ := openRunner(t, path, precisions()["exact"])
	got, seq := r.logits(deltaIDs())
	seq.Free()
	return got
}

// respelt writes a folder anew, with another configuration and other tensors.
func respelt(t *testing.T, from string, config func(map[string]any), tensors func([]safetensors.Tensor) []safetensors.Tensor) string {
	t.Helper()
	to := t.TempDir()
	var c map[string]any
	readJSON(t, filepath.Join(from, "config.json"), &c)
	config(c)
	text, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(to, "config.json"), text, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := safetensors.OpenFile(filepath.Join(from, "model.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := safetensors.WriteFile(filepath.Join(to, "model.safetensors"), tensors(slices.Clone(f.Tensors())), nil); err != nil {
		t.Fatal(err)
	}
	return to
}

// TestDeltaNetFolders: the settings and tensors that published folders have, where transformers writes others, mean the same.
func TestDeltaNetFolders(t *testing.T) {
	dir := filepath.Join(oracle.Dir(t), "families")
	same := func(x []safetensors.Tensor) []safetensors.Tensor { return x }
	for _, c := range []struct {
		name, folder string
		config       func(map[string]any)
		tensors      func([]safetensors.Tensor) []safetensors.Tensor
	}{
		{"settings as of version 4", "qwen3_next", func(c map[string]any) {
			p := c["rope_parameters"].(map[string]any)
			c["rope_theta"], c["partial_rotary_factor"], c["rope_scaling"] = p["rope_theta"], p["partial_rotary_factor"], nil
			c["full_attention_interval"], c["torch_dtype"] = 4, c["dtype"]
			for _, key := range []string{"rope_parameters", "layer_types", "dtype"} {
				delete(c, key)
			}
		}, same},
		{"a block that guesses", "qwen3_next", func(map[string]any) {}, guessing},
		{"a block that guesses, composite", "qwen3_5_composite", func(map[string]any) {}, guessing},
		{"experts in one tensor", "qwen3_5_moe", func(map[string]any) {}, fuseExperts},
	} {
		t.Run(c.name, func(t *testing.T) {
			from := filepath.Join(dir, c.folder, "hf")
			if !slices.Equal(exactLogits(t, respelt(t, from, c.config, c.tensors)), exactLogits(t, from)) {
				t.Error("another model")
			}
		})
	}
}

// TestDeltaNetRefuses: what a configuration says that no published model does is refused, and not passed over.
func TestDeltaNetRefuses(t *testing.T) {
	from := filepath.Join(oracle.Dir(t), "families", "qwen3_5", "hf")
	for key, value := range map[string]any{"attn_output_gate": false, "linear_num_key_heads": 3, "linear_value_head_dim": 1 << 20, "hidden_act": "relu"} {
		folder := respelt(t, from, func(c map[string]any) { c[key] = value }, func(x []safetensors.Tensor) []safetensors.Tensor { return x })
		m, err := weights.Open(folder)
		if err == nil {
			_ = m.Close()
		}
		if !errors.Is(err, weights.ErrUnsupported) && !errors.Is(err, weights.ErrInvalid) {
			t.Errorf("%s %v: %v", key, value, err)
		}
	}
}

// guessing adds tensors of a multi-token prediction.
func guessing(x []safetensors.Tensor) []safetensors.Tensor {
	for _, name := range []string{"mtp.fc.weight", "mtp.layers.0.self_attn.q_proj.weight", "mtp.norm.weight"} {
		x = append(x, safetensors.Tensor{Name: name, DType: safetensors.BF16, Shape: []int64{4}, Data: make([]byte, 8)})
	}
	return x
}

// fuseExperts puts the matrices of a layer's experts into one tensor each, gates and ups one behind the other.
func fuseExperts(x []safetensors.Tensor) []safetensors.Tensor {
	all := map[string]safetensors.Tensor{}
	for _, one := range x {
		all[one.Name] = one
	}
	var out []safetensors.Tensor
	fused := map[string]*safetensors.Tensor{}
	for _, one := range x {
		layer, part, ok := strings.Cut(one.Name, ".experts.")
		if !ok {
			out = append(out, one)
			continue
		}
		name := layer + ".experts.down_proj"
		data, shape := one.Data, one.Shape
		_, kind, _ := strings.Cut(part, ".")
		switch kind {
		case "up_proj.weight":
			continue
		case "gate_proj.weight":
			name = layer + ".experts.gate_up_proj"
			up := all[strings.Replace(one.Name, "gate_proj", "up_proj", 1)]
			data, shape = slices.Concat(one.Data, up.Data), []int64{2 * one.Shape[0], one.Shape[1]}
		}
		if fused[name] == nil {
			fused[name] = &safetensors.Tensor{Name: name, DType: one.DType, Shape: append([]int64{0}, shape...)}
		}
		fused[name].Shape[0]++
		fused[name].Data = append(fused[name].Data, data...) // experts come in the order of their numbers, of which there are fewer than ten
	}
	for _, one := range fused {
		out = append(out, *one)
	}
	return out
}

// TestDeltaNetFiles: a file with a block that guesses, and one of an earlier converter, which left queries, keys, values and gates
// fused, mean the same as without.
func TestDeltaNetFiles(t *testing.T) {
	dir := filepath.Join(oracle.Dir(t), "families")
	for _, c := range []struct {
		name, file string
		change     func(w *gguf.Writer, f *gguf.File)
	}{
		{"a block that guesses", "qwen3_5/qwen3_5-F16.gguf", func(w *gguf.Writer, f *gguf.File) {
			w.Put("qwen35.block_count", uint32(9))
			w.Put("qwen35.nextn_predict_layers", uint32(1))
			for _, name := range []string{"nextn.eh_proj.weight", "nextn.enorm.weight", "attn_q.weight"} {
				w.Add("blk.8."+name, quant.F32, []int64{4}, make([]byte, 16))
			}
			for _, x := range f.Tensors() {
				w.Add(x.Name, x.Type.Format(), x.Dims, x.Data)
			}
		}},
		{"fused by key head", "qwen3_next/qwen3_next-F16.gguf", func(w *gguf.Writer, f *gguf.File) {
			w.Put("qwen3next.block_count", uint32(8))
			for _, x := range f.Tensors() {
				switch {
				case strings.HasSuffix(x.Name, ".attn_gate.weight"):
				case strings.HasSuffix(x.Name, ".attn_qkv.weight"):
					gate := f.Tensor(strings.Replace(x.Name, "attn_qkv", "attn_gate", 1))
					w.Add(strings.Replace(x.Name, "attn_qkv", "ssm_in", 1), x.Type.Format(), []int64{64, 192}, fuseHeads(x.Data, gate.Data, 2*64))
				default:
					w.Add(x.Name, x.Type.Format(), x.Dims, x.Data)
				}
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			from, to := filepath.Join(dir, filepath.FromSlash(c.file)), filepath.Join(t.TempDir(), "model.gguf")
			f, err := gguf.Open(from)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			var w gguf.Writer
			for _, key := range f.Keys() {
				if !strings.HasSuffix(key, ".block_count") {
					w.Copy(f, key)
				}
			}
			c.change(&w, f)
			if err := w.WriteFile(to); err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(exactLogits(t, to), exactLogits(t, from)) {
				t.Error("another model")
			}
		})
	}
}

// fuseHeads puts rows of size bytes together by key head: of the reference's two, each with 16 queries and keys and 32 values and gates.
func fuseHeads(qkv, gate []byte, size int) []byte {
	var out []byte
	rows := func(from []byte, lo, n int) { out = append(out, from[lo*size:(lo+n)*size]...) }
	for h := range 2 {
		rows(qkv, 16*h, 16)
		rows(qkv, 32+16*h, 16)
		rows(qkv, 64+32*h, 32)
		rows(gate, 32*h, 32)
	}
	return out
}

// TestDeltaNetAdapters: an adapter that PEFT trained on a folder changes a file of the same model in the same way, whose value heads
// may stand in another order.
func TestDeltaNetAdapters(t *testing.T) {
	dir := filepath.Join(oracle.Dir(t), "families")
	for family, modules := range map[string]map[string][2]int{
		"qwen3_5": {
			"linear_attn.in_proj_qkv": {128, 64}, "linear_attn.in_proj_z": {64, 64}, "linear_attn.in_proj_b": {4, 64}, "linear_attn.in_proj_a": {4, 64},
			"linear_attn.out_proj": {64, 64}, "mlp.up_proj": {96, 64},
		},
		"qwen3_5_moe": {"linear_attn.in_proj_qkv": {128, 64}, "linear_attn.in_proj_z": {64, 64}, "linear_attn.out_proj": {64, 64}},
		"qwen3_next":  {"linear_attn.in_proj_qkvz": {192, 64}, "linear_attn.in_proj_ba": {8, 64}, "linear_attn.out_proj": {64, 64}},
	} {
		t.Run(family, func(t *testing.T) {
			adapter := deltaAdapter(t, modules)
			var got [][]float32
			for _, path := range []string{"hf", family + "-F16.gguf"} {
				r, w := openRunner(t, filepath.Join(dir, family, path), precisions()["exact"])
				bare, seq := r.logits(deltaIDs())
				seq.Free()
				r.use(w, adapter, 1)
				changed, seq := r.logits(deltaIDs())
				seq.Free()
				got = append(got, changed)
				if far(bare, changed) < 0.5 {
					t.Errorf("%s: the adapter changes nothing", path)
				}
			}
			if d := far(got[0], got[1]); d > 2e-3 {
				t.Errorf("folder and file are %g apart", d)
			}
			if family != "qwen3_5" {
				return
			}
			file := deltaAdapterFile(t, adapter)
			for i, path := range []string{"hf", family + "-F16.gguf"} {
				r, w := openRunner(t, filepath.Join(dir, family, path), precisions()["exact"])
				r.use(w, file, 1)
				changed, seq := r.logits(deltaIDs())
				seq.Free()
				if d := far(got[i], changed); d > 2e-3 {
					t.Errorf("%s: the adapter as a file is %g apart", path, d)
				}
			}
		})
	}
}

// deltaAdapterFile is what llama.cpp's converter makes of deltaAdapter: of the reference's four value heads 0 and 1 belong to the first
// key head, and the file has them in the order 0 2 1 3.
func deltaAdapterFile(t *testing.T, folder string) string {
	t.Helper()
	f, err := safetensors.OpenFile(filepath.Join(folder, "adapter_model.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	names := map[string]string{
		"in_proj_qkv": "attn_qkv", "in_proj_z": "attn_gate", "in_proj_b": "ssm_beta", "in_proj_a": "ssm_alpha", "out_proj": "ssm_out", "up_proj": "ffn_up", "q_proj": "attn_q",
	}
	tile := func(b []byte) []byte { // four heads
		n := len(b) / 4
		return slices.Concat(b[:n], b[2*n:3*n], b[n:2*n], b[3*n:])
	}
	var w gguf.Writer
	w.Put("general.type", "adapter")
	w.Put("general.architecture", "qwen35")
	w.Put("adapter.type", "lora")
	w.Put("adapter.lora.alpha", float32(8))
	for _, x := range f.Tensors() {
		parts := strings.Split(x.Name, ".") // base_model.model.model.layers.N.PART.MODULE.lora_X.weight
		name, data, rows, cols := names[parts[6]], slices.Clone(x.Data), x.Shape[0], x.Shape[1]
		switch isB := parts[7] == "lora_B"; {
		case isB && name == "attn_qkv":
			data = slices.Concat(data[:4*64*cols], tile(data[4*64*cols:]))
		case isB && slices.Contains([]string{"attn_gate", "ssm_beta", "ssm_alpha"}, name):
			data = tile(data)
		case !isB && name == "ssm_out":
			for r := range rows {
				copy(data[4*r*cols:], tile(data[4*r*cols:4*(r+1)*cols]))
			}
		}
		w.Add("blk."+parts[4]+"."+name+".weight."+strings.ToLower(parts[7]), quant.F32, []int64{cols, rows}, data)
	}
	path := filepath.Join(t.TempDir(), "adapter.gguf")
	if err := w.WriteFile(path); err != nil {
		t.Fatal(err)
	}
	return path
}

// far is the largest distance of two values.
func far(a, b []float32) (d float64) {
	for i := range a {
		d = max(d, math.Abs(float64(a[i]-b[i])))
	}
	return d
}

// deltaAdapter writes a LoRA of random factors on modules of the first two layers, and on the queries and gates of the fourth, which
// attends.
func deltaAdapter(t *testing.T, modules map[string][2]int) string {
	t.Helper()
	const rank = 4
	rng, dir := rand.New(rand.NewPCG(3, 9)), t.TempDir()
	var tensors []safetensors.Tensor
	targets := []string{"q_proj"}
	add := func(module string, shape [2]int) {
		for _, x := range []struct {
			part string
			r, c int
		}{{"lora_A", rank, shape[1]}, {"lora_B", shape[0], rank}} {
			data := make([]byte, 4*x.r*x.c)
			for i := range x.r * x.c {
				binary.LittleEndian.PutUint32(data[4*i:], math.Float32bits((rng.Float32()-0.5)/4))
			}
			tensors = append(tensors, safetensors.Tensor{
				Name: "base_model.model.model.layers." + module + "." + x.part + ".weight", DType: safetensors.F32, Shape: []int64{int64(x.r), int64(x.c)}, Data: data,
			})
		}
	}
	for _, module := range slices.Sorted(maps.Keys(modules)) {
		add("0."+module, modules[module])
		add("1."+module, modules[module])
		_, target, _ := strings.Cut(module, ".")
		targets = append(targets, target)
	}
	add("3.self_attn.q_proj", [2]int{256, 64})
	text, err := json.Marshal(map[string]any{"peft_type": "LORA", "r": rank, "lora_alpha": 8, "target_modules": targets, "task_type": "CAUSAL_LM"})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "adapter_config.json"), text, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := safetensors.WriteFile(filepath.Join(dir, "adapter_model.safetensors"), tensors, nil); err != nil {
		t.Fatal(err)
	}
	return dir
}
