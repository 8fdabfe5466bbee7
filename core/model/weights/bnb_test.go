package weights_test

import (
	"encoding/binary"
	"encoding/json"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"edged/core/model/arch"
	"edged/core/model/safetensors"
	"edged/core/model/weights"
	"edged/quant"
)

// bnbTensors quantises nothing: it draws codes and scales, and returns the tensors of one weight with the values that they
// stand for.
func bnbTensors(rng *rand.Rand, name, kind string, rows, cols int, nested bool) ([]safetensors.Tensor, []float32) {
	const block, nestedBlock = 64, 256
	n := rows * cols
	code := quant.NF4Code()
	if kind == "fp4" {
		code = quant.FP4Code()
	}
	f32 := func(x []float32) []byte {
		var b []byte
		for _, v := range x {
			b = binary.LittleEndian.AppendUint32(b, math.Float32bits(v))
		}
		return b
	}
	random := func(n int) []float32 {
		x := make([]float32, n)
		for i := range x {
			x[i] = rng.Float32() + 0.1
		}
		return x
	}
	blocks := (n + block - 1) / block
	absmax := random(blocks)
	state := map[string]any{"quant_type": kind, "blocksize": block, "dtype": "float16", "shape": []int{rows, cols}}
	out := []safetensors.Tensor{{Name: name + ".quant_map", DType: safetensors.F32, Shape: []int64{16}, Data: f32(code[:])}}
	if nested {
		table, scales, offset := random(256), random((blocks+nestedBlock-1)/nestedBlock), float32(0.25)
		q := make([]byte, blocks)
		for i := range q {
			q[i] = byte(rng.Uint32())
			absmax[i] = float32(table[q[i]]*scales[i/nestedBlock]) + offset
		}
		state["nested_blocksize"], state["nested_dtype"], state["nested_offset"] = nestedBlock, "float32", offset
		out = append(
			out,
			safetensors.Tensor{Name: name + ".absmax", DType: safetensors.U8, Shape: []int64{int64(blocks)}, Data: q},
			safetensors.Tensor{Name: name + ".nested_absmax", DType: safetensors.F32, Shape: []int64{int64(len(scales))}, Data: f32(scales)},
			safetensors.Tensor{Name: name + ".nested_quant_map", DType: safetensors.F32, Shape: []int64{256}, Data: f32(table)},
		)
	} else {
		out = append(out, safetensors.Tensor{Name: name + ".absmax", DType: safetensors.F32, Shape: []int64{int64(blocks)}, Data: f32(absmax)})
	}
	text, err := json.Marshal(state)
	if err != nil {
		panic(err)
	}
	data := make([]byte, (n+1)/2)
	values := make([]float32, n)
	for i := range values {
		q := byte(rng.Uint32() & 15)
		data[i/2] |= q << (4 * (1 - i%2))
		values[i] = code[q] * absmax[i/block]
	}
	return append(
		out,
		safetensors.Tensor{Name: name + ".quant_state.bitsandbytes__" + kind, DType: safetensors.U8, Shape: []int64{int64(len(text))}, Data: text},
		safetensors.Tensor{Name: name, DType: safetensors.U8, Shape: []int64{int64(len(data)), 1}, Data: data},
	), values
}

// replaceTensors rewrites the folder's weights with some tensors put in the place of others.
func replaceTensors(tb testing.TB, dir string, drop string, add []safetensors.Tensor) {
	tb.Helper()
	path := filepath.Join(dir, "model.safetensors")
	data, err := os.ReadFile(path)
	if err != nil {
		tb.Fatal(err)
	}
	f, err := safetensors.Parse(path, data)
	if err != nil {
		tb.Fatal(err)
	}
	var all []safetensors.Tensor
	for _, x := range f.Tensors() {
		if x.Name != drop {
			all = append(all, x)
		}
	}
	if err := safetensors.WriteFile(path, append(all, add...), nil); err != nil {
		tb.Fatal(err)
	}
}

func TestBnB(t *testing.T) {
	const name, to = "model.layers.0.mlp.up_proj.weight", "blk.0.ffn_up.weight"
	for _, kind := range []string{"nf4", "fp4"} {
		for _, nested := range []bool{false, true} {
			dir := tiny("llama").WriteHF(t)
			tensors, want := bnbTensors(rand.New(rand.NewPCG(1, 1)), name, kind, tinyFFN, tinyWidth, nested)
			replaceTensors(t, dir, name, tensors)
			m := open(t, dir)
			x := m.Matrix(to)
			if x.Format.String() != kind || x.Rows != tinyFFN || x.Cols != tinyWidth || (x.BnB.AbsmaxQ != nil) != nested {
				t.Errorf("%s nested %v: %s (%d, %d)", kind, nested, x.Format, x.Rows, x.Cols)
			}
			if !equal(decode(x), want) {
				t.Errorf("%s nested %v: values differ", kind, nested)
			}
			if weights.MatrixBytes(x) != int64(len(x.Data)+4*len(x.BnB.Absmax)+len(x.BnB.AbsmaxQ)+4*len(x.BnB.NestedAbsmax)) {
				t.Errorf("%s nested %v: %d bytes", kind, nested, weights.MatrixBytes(x))
			}
			if err := weights.Requantize(m, func(x arch.Tensor) bool { return x.Name == to }, quant.F32); err != nil {
				t.Fatal(err)
			}
			if !equal(decode(m.Matrix(to)), want) {
				t.Errorf("%s nested %v: values differ as F32", kind, nested)
			}
		}
	}
}

// TestBnBFused cuts the fused projections of quantised models: where the blocks of scales allow, in place, else with scales of their
// own; and one whose q, k and v stand head by head.
func TestBnBFused(t *testing.T) {
	neox := func() *tinyModel {
		m := tinyGPT2()
		m.Config = map[string]any{
			"model_type": "gpt_neox", "hidden_size": tinyWidth, "num_hidden_layers": 1, "num_attention_heads": tinyHeads, "intermediate_size": tinyFFN,
			"max_position_embeddings": tinyContext, "vocab_size": tinyVocab, "rotary_pct": 0.5, "layer_norm_eps": 1e-5,
		}
		m.Tensors = map[string][]int64{
			"gpt_neox.embed_in.weight": {tinyVocab, tinyWidth}, "embed_out.weight": {tinyVocab, tinyWidth},
			"gpt_neox.layers.0.attention.query_key_value.weight": {3 * tinyWidth, tinyWidth}, "gpt_neox.layers.0.attention.query_key_value.bias": {3 * tinyWidth},
			"gpt_neox.layers.0.attention.dense.weight": {tinyWidth, tinyWidth}, "gpt_neox.layers.0.mlp.dense_h_to_4h.weight": {tinyFFN, tinyWidth},
			"gpt_neox.layers.0.mlp.dense_4h_to_h.weight": {tinyWidth, tinyFFN},
		}
		for _, name := range []string{"final_layer_norm", "layers.0.input_layernorm", "layers.0.post_attention_layernorm"} {
			m.Tensors["gpt_neox."+name+".weight"], m.Tensors["gpt_neox."+name+".bias"] = []int64{tinyWidth}, []int64{tinyWidth}
		}
		return m
	}
	for _, c := range []struct {
		model  *tinyModel
		name   string
		groups int
	}{{tinyGPT2(), "h.0.attn.c_attn.weight", 1}, {neox(), "gpt_neox.layers.0.attention.query_key_value.weight", tinyHeads}} {
		for _, nested := range []bool{false, true} {
			dir := c.model.WriteHF(t)
			tensors, want := bnbTensors(rand.New(rand.NewPCG(1, 1)), c.name, "nf4", 3*tinyWidth, tinyWidth, nested)
			replaceTensors(t, dir, c.name, tensors)
			m := open(t, dir)
			for i, part := range []string{"q", "k", "v"} {
				var rows []float32
				n := tinyWidth * tinyWidth / c.groups
				for g := range c.groups {
					rows = append(rows, want[(3*g+i)*n:(3*g+i+1)*n]...)
				}
				if !equal(decode(m.Matrix("blk.0.attn_"+part+".weight")), rows) {
					t.Errorf("%s nested %v: %s differs", c.name, nested, part)
				}
			}
			headers, err := weights.OpenHeaders(dir)
			if err != nil {
				t.Fatal(err)
			}
			if a, b := m.Figures(), headers.Figures(); a != b {
				t.Errorf("%s nested %v: figures %+v, by headers %+v", c.name, nested, a, b)
			}
			if err := headers.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}

func TestBnBRefuses(t *testing.T) {
	const name = "model.layers.0.mlp.up_proj.weight"
	state := func(text string) func(x *safetensors.Tensor) {
		return func(x *safetensors.Tensor) { x.Data, x.Shape = []byte(text), []int64{int64(len(text))} }
	}
	for _, c := range []struct {
		part string
		edit func(x *safetensors.Tensor) // nil: dropped
		want string
	}{
		{".absmax", nil, ".absmax is missing"},
		{".quant_map", nil, ".quant_map is missing"},
		{".nested_absmax", nil, ".nested_absmax is missing"},
		{".nested_quant_map", nil, ".nested_quant_map is missing"},
		{".quant_state.bitsandbytes__nf4", nil, "is U8"},
		{".absmax", func(x *safetensors.Tensor) { x.Data, x.Shape = x.Data[1:], []int64{95} }, "95 values: want U8 with 96"},
		{".absmax", func(x *safetensors.Tensor) { x.DType = safetensors.I8 }, "I8"},
		{".quant_map", func(x *safetensors.Tensor) { copy(x.Data, []byte{0, 0, 0xc0, 0x7f}) }, "not finite"},
		{"", func(x *safetensors.Tensor) { x.Data, x.Shape = x.Data[1:], []int64{3071, 1} }, "3071 bytes for shape (96, 64): want 3072"},
		{".quant_state.bitsandbytes__nf4", state("{"), "quant state"},
		{".quant_state.bitsandbytes__nf4", state(`{"quant_type":"nf4","blocksize":64,"shape":[96,64]} x`), "text follows"},
		{".quant_state.bitsandbytes__nf4", state(`{"quant_type":"fp4","blocksize":64,"shape":[96,64]}`), "in a tensor named nf4"},
		{".quant_state.bitsandbytes__nf4", state(`{"quant_type":"int8","blocksize":64,"shape":[96,64]}`), `"int8"`},
		{".quant_state.bitsandbytes__nf4", state(`{"quant_type":"nf4","blocksize":0,"shape":[96,64]}`), "blocksize 0"},
		{".quant_state.bitsandbytes__nf4", state(`{"quant_type":"nf4","blocksize":64,"shape":[96]}`), "two sizes"},
		{".quant_state.bitsandbytes__nf4", state(`{"quant_type":"nf4","blocksize":64,"shape":[-96,-64]}`), "(-96, -64)"},
		{".quant_state.bitsandbytes__nf4", state(`{"quant_type":"nf4","blocksize":64,"shape":[9223372036854775807,64]}`), "too large"},
		{".quant_state.bitsandbytes__nf4", state(`{"quant_type":"nf4","blocksize":64,"shape":[96,64],"rotation":1}`), "rotation"},
		{".quant_state.bitsandbytes__nf4", state(`{"quant_type":"nf4","blocksize":64,"shape":[96,64],"nested_blocksize":256}`), "go together"},
		{".quant_state.bitsandbytes__nf4", state(`{"quant_type":"nf4","blocksize":64,"shape":[96,64],"nested_blocksize":0,"nested_offset":0}`), "nested_blocksize 0"},
		{".quant_state.bitsandbytes__nf4", state(`{"quant_type":"nf4","blocksize":64,"shape":[96,64],"nested_blocksize":256,"nested_offset":1e300}`), "no float32"},
		{".quant_state.bitsandbytes__nf4", state(`{"quant_type":"nf4","blocksize":64,"shape":[96,64],"nested_blocksize":256,"nested_offset":0,"nested_dtype":"float16"}`), "float16"},
		{".quant_state.bitsandbytes__nf4", state(`{"quant_type":"nf4","blocksize":64,"shape":[48,128]}`), "want F32"},
		{".quant_state.bitsandbytes__nf4", state(`{"quant_type":"nf4","blocksize":64,"shape":[48,128],"nested_blocksize":256,"nested_offset":0}`), "(48, 128), but"},
	} {
		dir := tiny("llama").WriteHF(t)
		tensors, _ := bnbTensors(rand.New(rand.NewPCG(1, 1)), name, "nf4", tinyFFN, tinyWidth, true)
		var kept []safetensors.Tensor
		for _, x := range tensors {
			if x.Name == name+c.part {
				if c.edit == nil {
					continue
				}
				c.edit(&x)
			}
			kept = append(kept, x)
		}
		replaceTensors(t, dir, name, kept)
		if _, err := weights.Open(dir); err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), dir) {
			t.Errorf("%s: %v, want %q", c.part, err, c.want)
		}
	}
}
