package weights_test

import (
	"errors"
	"io/fs"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"edged/core/model/arch"
	"edged/core/model/safetensors"
	"edged/core/model/weights"
)

// TestConfigHF opens folders of edited configurations: what is read, and what is refused in which words.
func TestConfigHF(t *testing.T) {
	type obj = map[string]any
	for _, c := range []struct {
		name   string
		arch   string
		edit   func(m *tinyModel)
		want   string             // part of the error; "": opens
		check  func(h hyper) bool // of what opens, by its first layer
		last   int                // window of the last layer
		towers int
	}{
		{name: "llama", check: func(h hyper) bool {
			return h.Heads == 4 && h.KVHeads == 2 && h.HeadDim == 16 && h.RopeDim == 16 && !h.Tied && !h.Interleaved &&
				h.VocabRows == tinyVocab && h.BOS == 1 && h.EOS == 2 && cmp.Equal(h.EOG, []int32{2, 3}) && h.Window == 0
		}},
		{name: "window of llama", edit: func(m *tinyModel) { m.Config["sliding_window"] = 32 }, check: func(h hyper) bool { return h.Window == 0 }},
		{name: "window of mistral", arch: "mistral", edit: func(m *tinyModel) { m.Config["sliding_window"] = 32 }, check: func(h hyper) bool { return h.Window == 32 }},
		{name: "null window", arch: "mistral", edit: func(m *tinyModel) { m.Config["sliding_window"] = nil }, check: func(h hyper) bool { return h.Window == 0 }},
		{name: "qwen2 window off", arch: "qwen2", edit: func(m *tinyModel) { m.Config["sliding_window"] = 32 }, check: func(h hyper) bool { return h.Window == 0 }},
		{name: "qwen2 window on", arch: "qwen2", edit: func(m *tinyModel) {
			m.Config["sliding_window"], m.Config["use_sliding_window"], m.Config["max_window_layers"] = 32, true, 0
		}, check: func(h hyper) bool { return h.Window == 32 }},
		{name: "qwen2 window in some", arch: "qwen2", edit: func(m *tinyModel) {
			m.Config["sliding_window"], m.Config["use_sliding_window"], m.Config["max_window_layers"] = 32, true, 1
		}, check: func(h hyper) bool { return h.Window == 0 }, last: 32},
		{name: "layer types", arch: "qwen3", edit: func(m *tinyModel) {
			m.Config["sliding_window"], m.Config["layer_types"] = 32, []string{"full_attention", "sliding_attention"}
		}, check: func(h hyper) bool { return h.Window == 0 }, last: 32},
		{name: "other layer types", arch: "qwen3", edit: func(m *tinyModel) { m.Config["layer_types"] = []string{"linear_attention", "full_attention"} }, want: "linear_attention"},
		{name: "qwen3", arch: "qwen3", check: func(h hyper) bool { return h.HeadDim == 16 }},
		{
			name: "qwen3 without norms", arch: "qwen3", edit: func(m *tinyModel) { delete(m.Tensors, "model.layers.1.self_attn.k_norm.weight") },
			want: "model.layers.1.self_attn.k_norm.weight (blk.1.attn_k_norm.weight) is missing",
		},
		{name: "qwen2 without bias", arch: "qwen2", edit: func(m *tinyModel) { delete(m.Tensors, "model.layers.0.self_attn.v_proj.bias") }, want: "v_proj.bias"},
		{name: "llama with a bias", edit: func(m *tinyModel) { m.Tensors["model.layers.0.self_attn.o_proj.bias"] = []int64{tinyWidth} }},
		{name: "llama must have a bias", edit: func(m *tinyModel) { m.Config["mlp_bias"] = true }, want: "mlp.gate_proj.bias"},
		{name: "tied", edit: func(m *tinyModel) { m.Config["tie_word_embeddings"] = true; delete(m.Tensors, "lm_head.weight") }, check: func(h hyper) bool { return h.Tied }},
		{name: "tied with a head of its own", edit: func(m *tinyModel) { m.Config["tie_word_embeddings"] = true }, check: func(h hyper) bool { return !h.Tied }},
		{name: "untied without head", edit: func(m *tinyModel) { delete(m.Tensors, "lm_head.weight") }, want: "lm_head.weight (output.weight) is missing"},
		{name: "base model names", edit: func(m *tinyModel) {
			for name, shape := range m.Tensors {
				if rest, ok := strings.CutPrefix(name, "model."); ok {
					delete(m.Tensors, name)
					m.Tensors[rest] = shape
				}
			}
		}},
		{name: "a part of a model that sees", arch: "mistral", edit: func(m *tinyModel) {
			text := maps.Clone(m.Config)
			m.Config = obj{"model_type": "mistral3", "text_config": text, "vision_config": obj{"hidden_size": 8}, "eos_token_id": 2}
			for _, name := range slices.Collect(maps.Keys(m.Tensors)) {
				m.Tensors["language_model."+name] = m.Tensors[name]
				delete(m.Tensors, name)
			}
			m.Tensors["vision_tower.patch_conv.weight"], m.Tensors["multi_modal_projector.linear_1.weight"] = []int64{2, 3, 4, 4}, []int64{8, 8}
		}, check: func(h hyper) bool { return h.FFN == tinyFFN && !h.Tied }, towers: 2},
		{name: "eyes without a text part", edit: func(m *tinyModel) { m.Tensors["vision_tower.patch_conv.weight"] = []int64{8} }, want: "vision_tower.patch_conv.weight is none"},
		{name: "old inverse frequencies", edit: func(m *tinyModel) { m.Tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = []int64{8} }},
		{name: "head_dim computed", edit: func(m *tinyModel) { delete(m.Config, "head_dim") }, check: func(h hyper) bool { return h.HeadDim == 16 }},
		{name: "eos alone", edit: func(m *tinyModel) { m.Config["eos_token_id"] = 9; m.Config["bos_token_id"] = nil }, check: func(h hyper) bool {
			return h.EOS == 9 && h.BOS == -1 && cmp.Equal(h.EOG, []int32{9})
		}},

		{name: "linear", edit: func(m *tinyModel) { m.Config["rope_scaling"] = obj{"type": "linear", "factor": 4.0} }, check: func(h hyper) bool {
			return h.RopeScaling.Kind == "linear" && h.RopeScaling.Factor == 4 && h.Context == tinyContext
		}},
		{name: "llama3", edit: func(m *tinyModel) {
			m.Config["rope_scaling"] = obj{"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64}
		}, check: func(h hyper) bool {
			s := h.RopeScaling
			return s.Kind == "llama3" && s.Factor == 8 && s.LowFreq == 1 && s.HighFreq == 4 && s.Original == 64
		}},
		{name: "yarn", arch: "qwen2", edit: func(m *tinyModel) {
			m.Config["rope_scaling"] = obj{"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 128}
		}, check: func(h hyper) bool {
			s := h.RopeScaling
			return s.Kind == "yarn" && s.Factor == 4 && s.BetaFast == 32 && s.BetaSlow == 1 && s.Amplitude == 0 && s.Original == 128 && h.Context == 512
		}},
		{name: "rope_parameters", edit: func(m *tinyModel) {
			delete(m.Config, "rope_theta")
			m.Config["rope_parameters"] = obj{"rope_type": "yarn", "factor": 2.0, "rope_theta": 5e5, "attention_factor": 1.5, "beta_fast": 16.0, "beta_slow": 2.0}
		}, check: func(h hyper) bool {
			s := h.RopeScaling
			return h.RopeTheta == 5e5 && s.Kind == "yarn" && s.Amplitude == 1.5 && s.BetaFast == 16 && s.BetaSlow == 2 && s.Original == tinyContext && h.Context == tinyContext
		}},
		{name: "default rope", edit: func(m *tinyModel) {
			m.Config["rope_scaling"] = nil
			m.Config["rope_parameters"] = obj{"rope_type": "default", "rope_theta": 5e5}
		}, check: func(h hyper) bool { return h.RopeTheta == 5e5 && h.RopeScaling.Kind == "" }},
		{name: "partial rotary", edit: func(m *tinyModel) { m.Config["partial_rotary_factor"] = 0.5 }, check: func(h hyper) bool { return h.RopeDim == 8 }},
		{name: "dynamic", edit: func(m *tinyModel) { m.Config["rope_scaling"] = obj{"type": "dynamic", "factor": 4.0} }, check: func(h hyper) bool {
			return h.RopeScaling.Kind == "dynamic" && h.RopeScaling.Original == tinyContext && h.Context == 4*tinyContext
		}},
		{name: "another scaling", edit: func(m *tinyModel) { m.Config["rope_scaling"] = obj{"type": "ntk", "factor": 4.0} }, want: `"ntk"`},
		{name: "longrope without factors", edit: func(m *tinyModel) { m.Config["rope_scaling"] = obj{"type": "longrope"} }, want: "short_factor or long_factor is missing"},
		{name: "per layer", edit: func(m *tinyModel) { m.Config["rope_parameters"] = obj{"full_attention": obj{}} }, want: "each kind of layer"},
		{name: "no factor", edit: func(m *tinyModel) { m.Config["rope_scaling"] = obj{"type": "linear"} }, want: "factor is missing"},
		{name: "small factor", edit: func(m *tinyModel) { m.Config["rope_scaling"] = obj{"type": "linear", "factor": 0.5} }, want: "factor is 0.5"},
		{name: "scaling is text", edit: func(m *tinyModel) { m.Config["rope_scaling"] = "linear" }, want: "rope_scaling"},
		{name: "llama3 without frequencies", edit: func(m *tinyModel) { m.Config["rope_scaling"] = obj{"type": "llama3", "factor": 4.0} }, want: "frequency factors"},
		{name: "mscale", edit: func(m *tinyModel) { m.Config["rope_scaling"] = obj{"type": "yarn", "factor": 4.0, "mscale": -1.0} }, want: "mscale"},
		{name: "base 0", edit: func(m *tinyModel) { m.Config["rope_theta"] = 0.0 }, want: "RoPE base is 0"},

		{name: "no model_type", edit: func(m *tinyModel) { delete(m.Config, "model_type") }, want: "no model_type"},
		{name: "another architecture", edit: func(m *tinyModel) { m.Config["model_type"] = "tomorrow" }, want: `"tomorrow"; the supported ones are llama, mistral, qwen2, qwen3, gpt2, mixtral`},
		{name: "quip", edit: func(m *tinyModel) { m.Config["quantization_config"] = obj{"quant_method": "quip"} }, want: `"quip"`},
		{name: "gptq of 3 bits", edit: func(m *tinyModel) { m.Config["quantization_config"] = obj{"quant_method": "gptq", "bits": 3} }, want: "GPTQ with 3 bits"},
		{name: "awq for one kernel", edit: func(m *tinyModel) { m.Config["quantization_config"] = obj{"quant_method": "awq", "version": "gemv"} }, want: `"gemv"`},
		{name: "gelu", edit: func(m *tinyModel) { m.Config["hidden_act"] = "gelu" }, want: `"gelu"`},
		{name: "no layers", edit: func(m *tinyModel) { m.Config["num_hidden_layers"] = 0 }, want: "number of layers is 0"},
		{name: "negative layers", edit: func(m *tinyModel) { m.Config["num_hidden_layers"] = -1 }, want: "number of layers is -1"},
		{name: "million layers", edit: func(m *tinyModel) { m.Config["num_hidden_layers"] = 1 << 20 }, want: "number of layers"},
		{name: "a layer more", edit: func(m *tinyModel) { m.Config["num_hidden_layers"] = 3 }, want: "model.layers.2.input_layernorm.weight (blk.2.attn_norm.weight) is missing"},
		{name: "a layer fewer", edit: func(m *tinyModel) { m.Config["num_hidden_layers"] = 1 }, want: "none that a llama model of 1 layers has"},
		{name: "missing width", edit: func(m *tinyModel) { delete(m.Config, "hidden_size") }, want: "hidden_size is missing"},
		{name: "other width", edit: func(m *tinyModel) { m.Config["hidden_size"] = 128 }, want: "has shape (40, 64), but the hyper-parameters ask for (40, 128)"},
		{name: "width is text", edit: func(m *tinyModel) { m.Config["hidden_size"] = "64" }, want: "hidden_size"},
		{name: "width is huge", edit: func(m *tinyModel) { m.Config["hidden_size"] = 1e30 }, want: "hidden_size"},
		{name: "odd heads", edit: func(m *tinyModel) { m.Config["num_attention_heads"] = 3 }, want: "3 attention heads"},
		{name: "no kv heads", edit: func(m *tinyModel) { m.Config["num_key_value_heads"] = 0 }, want: "key/value heads is 0"},
		{name: "no heads", edit: func(m *tinyModel) { m.Config["num_attention_heads"] = 0; delete(m.Config, "head_dim") }, want: "hidden_size 64 is no multiple"},
		{name: "odd head", edit: func(m *tinyModel) { m.Config["head_dim"] = 15 }, want: "even number"},
		{name: "epsilon 0", edit: func(m *tinyModel) { m.Config["rms_norm_eps"] = 0.0 }, want: "epsilon"},
		{name: "vocab", edit: func(m *tinyModel) { m.Config["vocab_size"] = 41 }, want: "vocab_size 41, but tensor model.embed_tokens.weight (token_embd.weight) has 40 rows"},
		{name: "unknown tensor", edit: func(m *tinyModel) { m.Tensors["model.layers.0.mlp.router.weight"] = []int64{4} }, want: "tensor model.layers.0.mlp.router.weight is none"},
		{name: "vector for matrix", edit: func(m *tinyModel) { m.Tensors["model.layers.0.mlp.up_proj.weight"] = []int64{96} }, want: "(96)"},
		{name: "three dimensions", edit: func(m *tinyModel) { m.Tensors["model.layers.0.mlp.up_proj.weight"] = []int64{96, 8, 8} }, want: "[96 8 8]"},
		{name: "no rows", edit: func(m *tinyModel) { m.Tensors["model.embed_tokens.weight"] = []int64{0, 64} }, want: "embedding rows is 0"},
		{name: "experts in llama", edit: func(m *tinyModel) {
			m.Tensors["model.layers.0.block_sparse_moe.gate.weight"] = []int64{8, 64}
		}, want: "block_sparse_moe.gate.weight"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := tiny(or(c.arch, "llama"))
			if c.edit != nil {
				c.edit(m)
			}
			dir := m.WriteHF(t)
			w, err := weights.Open(dir)
			if c.want != "" {
				if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), dir) ||
					!errors.Is(err, weights.ErrInvalid) && !errors.Is(err, weights.ErrUnsupported) || strings.Contains(err.Error(), "\n") {
					t.Fatalf("%v, want %q", err, c.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer w.Close()
			if c.check != nil && !c.check(hyperOf(w)) {
				t.Errorf("%+v", hyperOf(w))
			}
			if len(w.Towers()) != c.towers {
				t.Errorf("passed over: %v", w.Towers())
			}
			if a := w.Spec.Layers[len(w.Spec.Layers)-1][0].Op.(arch.Attention); c.last != 0 && a.Window != c.last {
				t.Errorf("the last layer's window is %d", a.Window)
			}
			if w.Matrix("output.weight") == nil || w.Matrix("blk.1.ffn_down.weight").Rows != tinyWidth {
				t.Error("matrices are missing")
			}
		})
	}
}

// TestConfigGGUF does the same for GGUF metadata.
func TestConfigGGUF(t *testing.T) {
	for _, c := range []struct {
		name  string
		arch  string
		edit  func(m *tinyModel)
		want  string
		check func(h hyper) bool
	}{
		{name: "llama", check: func(h hyper) bool {
			return h.Interleaved && h.RopeDim == 16 && h.HeadDim == 16 && !h.Tied && h.BOS == -1 && h.EOS == 2 && cmp.Equal(h.EOG, []int32{2, 3})
		}},
		{name: "qwen3", arch: "qwen3", check: func(h hyper) bool { return !h.Interleaved }},
		{name: "qwen2", arch: "qwen2", check: func(h hyper) bool { return !h.Interleaved }},
		{name: "mistral", arch: "mistral", edit: func(m *tinyModel) { m.Keys["mistral.attention.sliding_window"] = uint32(32) }, check: func(h hyper) bool { return h.Interleaved && h.Window == 32 }},
		{name: "tied", edit: func(m *tinyModel) { delete(m.GGUF, "output.weight") }, check: func(h hyper) bool { return h.Tied }},
		{name: "defaults", edit: func(m *tinyModel) {
			delete(m.Keys, "llama.attention.head_count_kv")
			delete(m.Keys, "llama.rope.freq_base")
			for _, n := range []string{"0", "1"} {
				m.GGUF["blk."+n+".attn_k.weight"] = []int64{64, 64}
				m.GGUF["blk."+n+".attn_v.weight"] = []int64{64, 64}
			}
		}, check: func(h hyper) bool { return h.KVHeads == 4 && h.RopeTheta == 10000 }},
		{name: "heads by layer", edit: func(m *tinyModel) { m.Keys["llama.attention.head_count_kv"] = []uint32{2, 2} }, check: func(h hyper) bool { return h.KVHeads == 2 }},
		{name: "uneven heads by layer", edit: func(m *tinyModel) { m.Keys["llama.attention.head_count_kv"] = []uint32{2, 4} }, want: "different sizes"},
		{name: "linear", edit: func(m *tinyModel) {
			m.Keys["llama.rope.scaling.type"], m.Keys["llama.rope.scaling.factor"] = "linear", float32(4)
		}, check: func(h hyper) bool { return h.RopeScaling.Kind == "linear" && h.RopeScaling.Factor == 4 }},
		{name: "old linear", edit: func(m *tinyModel) { m.Keys["llama.rope.scale_linear"] = float32(4) }, check: func(h hyper) bool { return h.RopeScaling.Kind == "linear" && h.RopeScaling.Factor == 4 }},
		{name: "factor without a type", edit: func(m *tinyModel) { m.Keys["llama.rope.scaling.factor"] = float32(4) }, check: func(h hyper) bool { return h.RopeScaling.Kind == "linear" && h.RopeScaling.Factor == 4 }},
		{name: "factor 0", edit: func(m *tinyModel) {
			m.Keys["llama.rope.scaling.type"], m.Keys["llama.rope.scaling.factor"] = "linear", float32(0)
		}, check: func(h hyper) bool { return h.RopeScaling.Kind == "" }},
		{name: "factor 0 without a type", edit: func(m *tinyModel) { m.Keys["llama.rope.scaling.factor"] = float32(0) }, check: func(h hyper) bool { return h.RopeScaling.Kind == "" }},
		{name: "linear without a factor", edit: func(m *tinyModel) { m.Keys["llama.rope.scaling.type"] = "linear" }, check: func(h hyper) bool { return h.RopeScaling.Kind == "" }},
		{name: "yarn with factor 0", edit: func(m *tinyModel) {
			m.Keys["llama.rope.scaling.type"], m.Keys["llama.rope.scaling.factor"] = "yarn", float32(0)
		}, check: func(h hyper) bool { return h.RopeScaling.Kind == "yarn" && h.RopeScaling.Factor == 1 }},
		{name: "no scaling", edit: func(m *tinyModel) { m.Keys["llama.rope.scaling.type"] = "none" }, check: func(h hyper) bool { return h.RopeScaling.Kind == "" }},
		{name: "yarn", edit: func(m *tinyModel) {
			m.Keys["llama.rope.scaling.type"], m.Keys["llama.rope.scaling.factor"] = "yarn", float32(4)
			m.Keys["llama.rope.scaling.original_context_length"] = uint32(32)
			m.Keys["llama.rope.scaling.attn_factor"] = float32(2)
		}, check: func(h hyper) bool {
			s := h.RopeScaling
			return s.Kind == "yarn" && s.Original == 32 && math.Abs(s.Amplitude-2*(1+0.1*math.Log(4))) < 1e-9 && s.BetaFast == 32 && s.BetaSlow == 1
		}},
		{name: "longrope", edit: func(m *tinyModel) { m.Keys["llama.rope.scaling.type"] = "longrope" }, want: `"longrope"`},
		{name: "frequency factors", edit: func(m *tinyModel) { m.GGUF["rope_freqs.weight"] = []int64{8} }, want: "value"}, // noise: some are negative
		{name: "too few frequency factors", edit: func(m *tinyModel) { m.GGUF["rope_freqs.weight"] = []int64{7} }, want: "has 7 values"},
		{name: "a matrix of frequency factors", edit: func(m *tinyModel) { m.GGUF["rope_freqs.weight"] = []int64{8, 2} }, want: "want one row"},
		{name: "value length", edit: func(m *tinyModel) { m.Keys["llama.attention.value_length"] = uint32(32) }, want: "keys of 16 and values of 32"},
		{name: "no architecture", edit: func(m *tinyModel) { delete(m.Keys, "general.architecture") }, want: "general.architecture"},
		{name: "another architecture", edit: func(m *tinyModel) { m.Keys["general.architecture"] = "tomorrow" }, want: `"tomorrow"; the supported ones are`},
		{name: "an adapter", edit: func(m *tinyModel) { m.Keys["general.type"] = "adapter" }, want: `"adapter"`},
		{name: "a vocabulary", edit: func(m *tinyModel) { m.GGUF = nil }, want: "it is a vocabulary"},
		{name: "missing key", edit: func(m *tinyModel) { delete(m.Keys, "llama.block_count") }, want: `"llama.block_count": missing`},
		{name: "missing tensor", edit: func(m *tinyModel) { delete(m.GGUF, "blk.1.ffn_up.weight") }, want: "tensor blk.1.ffn_up.weight is missing"},
		{name: "no embedding", edit: func(m *tinyModel) { delete(m.GGUF, "token_embd.weight") }, want: "token_embd.weight is missing"},
		{name: "text for number", edit: func(m *tinyModel) { m.Keys["llama.block_count"] = "two" }, want: "wrong type"},
		{name: "huge number", edit: func(m *tinyModel) { m.Keys["llama.block_count"] = uint64(1 << 40) }, want: "out of range"},
		{name: "huge layers", edit: func(m *tinyModel) { m.Keys["llama.block_count"] = uint32(1 << 30) }, want: "number of layers"},
		{name: "NaN epsilon", edit: func(m *tinyModel) { m.Keys["llama.attention.layer_norm_rms_epsilon"] = float32(math.NaN()) }, want: "epsilon"},
		{name: "other width", edit: func(m *tinyModel) { m.Keys["llama.embedding_length"] = uint32(128) }, want: "ask for (40, 128)"},
		{name: "experts without stacks", edit: func(m *tinyModel) {
			m.Keys["llama.expert_count"], m.Keys["llama.expert_used_count"] = uint32(8), uint32(2)
		}, want: "blk.0.ffn_gate_inp.weight is missing"},
		{name: "too many used", edit: func(m *tinyModel) {
			m.Keys["llama.expert_count"], m.Keys["llama.expert_used_count"] = uint32(8), uint32(9)
		}, want: "9 of 8 experts"},
		{name: "experts in qwen2", arch: "qwen2", edit: func(m *tinyModel) { m.Keys["qwen2.expert_count"] = uint32(8) }, want: "qwen2 with 8 experts"},
		{name: "a stack in a dense model", edit: func(m *tinyModel) { m.GGUF["blk.0.ffn_up_exps.weight"] = []int64{64, 96, 2} }, want: "ffn_up.0.weight is none"},
		{name: "four dimensions", edit: func(m *tinyModel) { m.GGUF["blk.0.ffn_up.weight"] = []int64{8, 8, 48, 2} }, want: "4 dimensions"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := tiny(or(c.arch, "llama"))
			c0 := c.edit
			if c0 != nil {
				c0(m)
			}
			path := m.WriteGGUF(t)
			w, err := weights.Open(path)
			if c.want != "" {
				if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), path) || strings.Contains(err.Error(), "\n") {
					t.Fatalf("%v, want %q", err, c.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer w.Close()
			if c.check != nil && !c.check(hyperOf(w)) {
				t.Errorf("%+v", hyperOf(w))
			}
		})
	}
}

func TestGPT2Folder(t *testing.T) {
	m := tinyGPT2()
	w := open(t, m.WriteHF(t))
	if len(w.Names()) != 3+1+16 || hyperOf(w).FFN != 4*tinyWidth || !hyperOf(w).Tied {
		t.Errorf("%d tensors %v, %+v", len(w.Names()), w.Names(), hyperOf(w))
	}
	for config, want := range map[string]any{"activation_function": "relu", "scale_attn_by_inverse_layer_idx": true, "n_head": 5, "n_inner": 100} {
		m := tinyGPT2()
		m.Config[config] = want
		if _, err := weights.Open(m.WriteHF(t)); err == nil {
			t.Errorf("%s %v was accepted", config, want)
		}
	}
	m.Tensors["h.0.attn.c_attn.weight"] = []int64{tinyWidth, 3*tinyWidth + 1}
	if _, err := weights.Open(m.WriteHF(t)); err == nil || !strings.Contains(err.Error(), "has 193 rows, but its parts take 192") {
		t.Errorf("193 columns: %v", err)
	}
}

func TestOpenPaths(t *testing.T) {
	dir := tiny("llama").WriteHF(t)
	for _, name := range []string{"", "config.json", "model.safetensors"} {
		open(t, filepath.Join(dir, name))
	}
	for path, kind := range map[string]error{filepath.Join(dir, "none.gguf"): fs.ErrNotExist, t.TempDir(): fs.ErrNotExist} {
		if _, err := weights.Open(path); !errors.Is(err, kind) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", path, err)
		}
	}
	if err := os.Remove(filepath.Join(dir, "model.safetensors")); err != nil {
		t.Fatal(err)
	}
	if _, err := weights.Open(dir); err == nil || !strings.Contains(err.Error(), "neither model.safetensors nor") {
		t.Errorf("without weights: %v", err)
	}
	other := filepath.Join(t.TempDir(), "model.bin")
	if err := os.WriteFile(other, []byte("PK\x03\x04 a pickle, zipped"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := weights.Open(other); err == nil || !strings.Contains(err.Error(), "not with GGUF") {
		t.Errorf("another file: %v", err)
	}
}

// TestMisaligned opens a folder whose tensors start at odd addresses.
func TestMisaligned(t *testing.T) {
	m := tiny("llama")
	m.DType = safetensors.F32
	dir := m.WriteHF(t)
	path := filepath.Join(dir, "model.safetensors")
	f, err := safetensors.OpenFile(path)
	if err != nil {
		t.Fatal(err)
	}
	tensors := append([]safetensors.Tensor{{Name: "model.layers.0.self_attn.rotary_emb.inv_freq", DType: safetensors.U8, Shape: []int64{1}, Data: []byte{1}}}, f.Tensors()...)
	want := open(t, dir)
	odd := filepath.Join(t.TempDir(), "model.safetensors")
	if err := safetensors.WriteFile(odd, tensors, nil); err != nil {
		t.Fatal(err)
	}
	config, err := os.ReadFile(filepath.Join(dir, "config.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(filepath.Dir(odd), "config.json"), config, 0o600); err != nil {
		t.Fatal(err)
	}
	got := open(t, filepath.Dir(odd))
	for _, name := range want.Names() {
		x, y := want.Matrix(name), got.Matrix(name)
		if x != nil && !equal(decode(x), decode(y)) {
			t.Errorf("%s differs", name)
		}
	}
	if got.Figures().Derived == 0 || want.Figures().Derived != 0 {
		t.Errorf("derived %d and %d", got.Figures().Derived, want.Figures().Derived)
	}
}
