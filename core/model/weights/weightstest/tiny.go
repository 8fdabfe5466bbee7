// Package weightstest writes small models of random weights in either container, for tests of what reads them.
//
// It is no part of what runs.
package weightstest

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

// A Model is a model of random weights that tests write in either container.
type Model struct {
	Config  map[string]any     // config.json
	Keys    map[string]any     // GGUF metadata
	Tensors map[string][]int64 // Hugging Face name → shape
	GGUF    map[string][]int64 // GGUF name → dims
	DType   safetensors.DType

	Positive string // GGUF tensor whose values are made positive
}

// Sizes of the models that Tiny makes.
const (
	Width   = 64
	FFN     = 96
	Vocab   = 40
	Layers  = 2
	Heads   = 4
	KV      = 2
	HeadDim = 16
	Context = 128
)

// Tiny makes a small model of one architecture.
func Tiny(arch string) *Model {
	const q, kv = Heads * HeadDim, KV * HeadDim
	m := &Model{
		DType: safetensors.BF16,
		Config: map[string]any{
			"model_type": arch, "hidden_size": Width, "num_hidden_layers": Layers, "num_attention_heads": Heads,
			"num_key_value_heads": KV, "head_dim": HeadDim, "intermediate_size": FFN, "vocab_size": Vocab,
			"max_position_embeddings": Context, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "hidden_act": "silu",
			"bos_token_id": 1, "eos_token_id": []int{2, 3}, "tie_word_embeddings": false,
		},
		Keys: map[string]any{
			"general.architecture": arch, arch + ".embedding_length": uint32(Width), arch + ".block_count": uint32(Layers),
			arch + ".attention.head_count": uint32(Heads), arch + ".attention.head_count_kv": uint32(KV),
			arch + ".feed_forward_length": uint32(FFN), arch + ".context_length": uint32(Context),
			arch + ".attention.layer_norm_rms_epsilon": float32(1e-5), arch + ".rope.freq_base": float32(10000),
			"tokenizer.ggml.eos_token_id": uint32(2), "tokenizer.ggml.eot_token_id": uint32(3),
		},
		Tensors: map[string][]int64{
			"model.embed_tokens.weight": {Vocab, Width}, "model.norm.weight": {Width}, "lm_head.weight": {Vocab, Width},
		},
		GGUF: map[string][]int64{
			"token_embd.weight": {Width, Vocab}, "output_norm.weight": {Width}, "output.weight": {Width, Vocab},
		},
	}
	for n := range Layers {
		hf, gg := fmt.Sprintf("model.layers.%d.", n), fmt.Sprintf("blk.%d.", n)
		add := func(a, b string, shape ...int64) {
			m.Tensors[hf+a] = shape
			reversed := slices.Clone(shape)
			slices.Reverse(reversed)
			m.GGUF[gg+b] = reversed
		}
		add("input_layernorm.weight", "attn_norm.weight", Width)
		add("post_attention_layernorm.weight", "ffn_norm.weight", Width)
		add("self_attn.q_proj.weight", "attn_q.weight", q, Width)
		add("self_attn.k_proj.weight", "attn_k.weight", kv, Width)
		add("self_attn.v_proj.weight", "attn_v.weight", kv, Width)
		add("self_attn.o_proj.weight", "attn_output.weight", Width, q)
		add("mlp.gate_proj.weight", "ffn_gate.weight", FFN, Width)
		add("mlp.up_proj.weight", "ffn_up.weight", FFN, Width)
		add("mlp.down_proj.weight", "ffn_down.weight", Width, FFN)
		switch arch {
		case "qwen2":
			add("self_attn.q_proj.bias", "attn_q.bias", q)
			add("self_attn.k_proj.bias", "attn_k.bias", kv)
			add("self_attn.v_proj.bias", "attn_v.bias", kv)
		case "qwen3":
			add("self_attn.q_norm.weight", "attn_q_norm.weight", HeadDim)
			add("self_attn.k_norm.weight", "attn_k_norm.weight", HeadDim)
		}
	}
	return m
}

// TinyGPT2 makes a small GPT-2, as a folder only.
func TinyGPT2() *Model {
	m := &Model{
		DType: safetensors.F16,
		Config: map[string]any{
			"model_type": "gpt2", "n_embd": Width, "n_layer": 1, "n_head": Heads, "n_positions": Context, "vocab_size": Vocab,
			"activation_function": "gelu_new", "layer_norm_epsilon": 1e-5,
		},
		Tensors: map[string][]int64{
			"wte.weight": {Vocab, Width}, "wpe.weight": {Context, Width}, "ln_f.weight": {Width}, "ln_f.bias": {Width},
			"h.0.attn.bias": {1, 1, 8, 8}, "h.0.attn.masked_bias": {},
		},
	}
	for name, shape := range map[string][]int64{
		"ln_1": {Width}, "ln_2": {Width}, "attn.c_attn": {Width, 3 * Width}, "attn.c_proj": {Width, Width},
		"mlp.c_fc": {Width, 4 * Width}, "mlp.c_proj": {4 * Width, Width},
	} {
		m.Tensors["h.0."+name+".weight"] = shape
		m.Tensors["h.0."+name+".bias"] = shape[len(shape)-1:]
	}
	return m
}

// WriteHF writes the model into a new folder.
func (m *Model) WriteHF(tb testing.TB) string {
	tb.Helper()
	dir := tb.TempDir()
	text, err := json.Marshal(m.Config)
	if err != nil {
		tb.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "config.json"), text, 0o600); err != nil {
		tb.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(7, 7))
	var tensors []safetensors.Tensor
	for _, name := range slices.Sorted(maps.Keys(m.Tensors)) {
		x := safetensors.Tensor{Name: name, DType: m.DType, Shape: m.Tensors[name]}
		x.Data = Noise(rng, x.Elements(), map[safetensors.DType]quant.Format{
			safetensors.BF16: quant.BF16, safetensors.F16: quant.F16, safetensors.F32: quant.F32,
		}[m.DType])
		tensors = append(tensors, x)
	}
	if err := safetensors.WriteFile(filepath.Join(dir, "model.safetensors"), tensors, nil); err != nil {
		tb.Fatal(err)
	}
	return dir
}

// WriteGGUF writes the model into a new file.
func (m *Model) WriteGGUF(tb testing.TB) string {
	tb.Helper()
	var w gguf.Writer
	for _, k := range slices.Sorted(maps.Keys(m.Keys)) {
		w.Put(k, m.Keys[k])
	}
	rng := rand.New(rand.NewPCG(7, 7))
	for _, name := range slices.Sorted(maps.Keys(m.GGUF)) {
		n := int64(1)
		for _, d := range m.GGUF[name] {
			n *= d
		}
		data := Noise(rng, n, quant.F16)
		for i := 1; name == m.Positive && i < len(data); i += 2 {
			data[i] &= 0x7f
		}
		w.Add(name, quant.F16, m.GGUF[name], data)
	}
	path := filepath.Join(tb.TempDir(), "model.gguf")
	if err := w.WriteFile(path); err != nil {
		tb.Fatal(err)
	}
	return path
}

// Noise returns n values in [-1, 1) in format f.
func Noise(rng *rand.Rand, n int64, f quant.Format) []byte {
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
