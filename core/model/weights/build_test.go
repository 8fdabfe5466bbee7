package weights_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"edged/core/model/gguf"
	"edged/core/model/safetensors"
	"edged/quant"
)

// A tinyModel is a model of random weights that tests write in either container.
type tinyModel struct {
	config  map[string]any     // config.json
	keys    map[string]any     // GGUF metadata
	tensors map[string][]int64 // Hugging Face name → shape
	gguf    map[string][]int64 // GGUF name → dims
	dtype   safetensors.DType

	positive string // GGUF tensor whose values are made positive
}

const (
	tinyWidth, tinyFFN, tinyVocab, tinyLayers   = 64, 96, 40, 2
	tinyHeads, tinyKV, tinyHeadDim, tinyContext = 4, 2, 16, 128
)

// tiny makes a small model of one architecture.
func tiny(arch string) *tinyModel {
	const q, kv = tinyHeads * tinyHeadDim, tinyKV * tinyHeadDim
	m := &tinyModel{
		dtype: safetensors.BF16,
		config: map[string]any{
			"model_type": arch, "hidden_size": tinyWidth, "num_hidden_layers": tinyLayers, "num_attention_heads": tinyHeads,
			"num_key_value_heads": tinyKV, "head_dim": tinyHeadDim, "intermediate_size": tinyFFN, "vocab_size": tinyVocab,
			"max_position_embeddings": tinyContext, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "hidden_act": "silu",
			"bos_token_id": 1, "eos_token_id": []int{2, 3}, "tie_word_embeddings": false,
		},
		keys: map[string]any{
			"general.architecture": arch, arch + ".embedding_length": uint32(tinyWidth), arch + ".block_count": uint32(tinyLayers),
			arch + ".attention.head_count": uint32(tinyHeads), arch + ".attention.head_count_kv": uint32(tinyKV),
			arch + ".feed_forward_length": uint32(tinyFFN), arch + ".context_length": uint32(tinyContext),
			arch + ".attention.layer_norm_rms_epsilon": float32(1e-5), arch + ".rope.freq_base": float32(10000),
			"tokenizer.ggml.eos_token_id": uint32(2), "tokenizer.ggml.eot_token_id": uint32(3),
		},
		tensors: map[string][]int64{
			"model.embed_tokens.weight": {tinyVocab, tinyWidth}, "model.norm.weight": {tinyWidth}, "lm_head.weight": {tinyVocab, tinyWidth},
		},
		gguf: map[string][]int64{
			"token_embd.weight": {tinyWidth, tinyVocab}, "output_norm.weight": {tinyWidth}, "output.weight": {tinyWidth, tinyVocab},
		},
	}
	for n := range tinyLayers {
		hf, gg := fmt.Sprintf("model.layers.%d.", n), fmt.Sprintf("blk.%d.", n)
		add := func(a, b string, shape ...int64) {
			m.tensors[hf+a] = shape
			reversed := slices.Clone(shape)
			slices.Reverse(reversed)
			m.gguf[gg+b] = reversed
		}
		add("input_layernorm.weight", "attn_norm.weight", tinyWidth)
		add("post_attention_layernorm.weight", "ffn_norm.weight", tinyWidth)
		add("self_attn.q_proj.weight", "attn_q.weight", q, tinyWidth)
		add("self_attn.k_proj.weight", "attn_k.weight", kv, tinyWidth)
		add("self_attn.v_proj.weight", "attn_v.weight", kv, tinyWidth)
		add("self_attn.o_proj.weight", "attn_output.weight", tinyWidth, q)
		add("mlp.gate_proj.weight", "ffn_gate.weight", tinyFFN, tinyWidth)
		add("mlp.up_proj.weight", "ffn_up.weight", tinyFFN, tinyWidth)
		add("mlp.down_proj.weight", "ffn_down.weight", tinyWidth, tinyFFN)
		switch arch {
		case "qwen2":
			add("self_attn.q_proj.bias", "attn_q.bias", q)
			add("self_attn.k_proj.bias", "attn_k.bias", kv)
			add("self_attn.v_proj.bias", "attn_v.bias", kv)
		case "qwen3":
			add("self_attn.q_norm.weight", "attn_q_norm.weight", tinyHeadDim)
			add("self_attn.k_norm.weight", "attn_k_norm.weight", tinyHeadDim)
		}
	}
	return m
}

// tinyGPT2 makes a small GPT-2, as a folder only.
func tinyGPT2() *tinyModel {
	m := &tinyModel{
		dtype: safetensors.F16,
		config: map[string]any{
			"model_type": "gpt2", "n_embd": tinyWidth, "n_layer": 1, "n_head": tinyHeads, "n_positions": tinyContext, "vocab_size": tinyVocab,
			"activation_function": "gelu_new", "layer_norm_epsilon": 1e-5,
		},
		tensors: map[string][]int64{
			"wte.weight": {tinyVocab, tinyWidth}, "wpe.weight": {tinyContext, tinyWidth}, "ln_f.weight": {tinyWidth}, "ln_f.bias": {tinyWidth},
			"h.0.attn.bias": {1, 1, 8, 8}, "h.0.attn.masked_bias": {},
		},
	}
	for name, shape := range map[string][]int64{
		"ln_1": {tinyWidth}, "ln_2": {tinyWidth}, "attn.c_attn": {tinyWidth, 3 * tinyWidth}, "attn.c_proj": {tinyWidth, tinyWidth},
		"mlp.c_fc": {tinyWidth, 4 * tinyWidth}, "mlp.c_proj": {4 * tinyWidth, tinyWidth},
	} {
		m.tensors["h.0."+name+".weight"] = shape
		m.tensors["h.0."+name+".bias"] = shape[len(shape)-1:]
	}
	return m
}

// writeHF writes the model into a new folder.
func (m *tinyModel) writeHF(tb testing.TB) string {
	tb.Helper()
	dir := tb.TempDir()
	text, err := json.Marshal(m.config)
	if err != nil {
		tb.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "config.json"), text, 0o600); err != nil {
		tb.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(7, 7))
	var tensors []safetensors.Tensor
	for _, name := range slices.Sorted(maps.Keys(m.tensors)) {
		x := safetensors.Tensor{Name: name, DType: m.dtype, Shape: m.tensors[name]}
		x.Data = noise(rng, x.Elements(), map[safetensors.DType]quant.Format{
			safetensors.BF16: quant.BF16, safetensors.F16: quant.F16, safetensors.F32: quant.F32,
		}[m.dtype])
		tensors = append(tensors, x)
	}
	if err := safetensors.WriteFile(filepath.Join(dir, "model.safetensors"), tensors, nil); err != nil {
		tb.Fatal(err)
	}
	return dir
}

// writeGGUF writes the model into a new file.
func (m *tinyModel) writeGGUF(tb testing.TB) string {
	tb.Helper()
	var w gguf.Writer
	for _, k := range slices.Sorted(maps.Keys(m.keys)) {
		w.Put(k, m.keys[k])
	}
	rng := rand.New(rand.NewPCG(7, 7))
	for _, name := range slices.Sorted(maps.Keys(m.gguf)) {
		n := int64(1)
		for _, d := range m.gguf[name] {
			n *= d
		}
		data := noise(rng, n, quant.F16)
		for i := 1; name == m.positive && i < len(data); i += 2 {
			data[i] &= 0x7f
		}
		w.Add(name, quant.F16, m.gguf[name], data)
	}
	path := filepath.Join(tb.TempDir(), "model.gguf")
	if err := w.WriteFile(path); err != nil {
		tb.Fatal(err)
	}
	return path
}

// noise returns n values in [-1, 1) in format f.
func noise(rng *rand.Rand, n int64, f quant.Format) []byte {
	x := make([]float32, n)
	for i := range x {
		x[i] = rng.Float32()*2 - 1
	}
	b := make([]byte, f.RowBytes(len(x)))
	if err := quant.Encode(f, b, x); err != nil {
		panic(err)
	}
	return b
}
