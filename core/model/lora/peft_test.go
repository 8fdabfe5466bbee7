package lora_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"edged/core/model/digest"
	"edged/core/model/gguf"
	"edged/core/model/lora"
	"edged/core/model/safetensors"
	"edged/core/model/weights/weightstest"
	"edged/quant"
)

// A tinyAdapter is a PEFT folder that tests edit before they write it.
type tinyAdapter struct {
	config  map[string]any
	tensors map[string][]int64
	dtype   safetensors.DType
	values  map[string][]byte // data that is not to be random
}

const pre = "base_model.model."

// tinyLoRA changes q and down of both layers of tiny("llama"), with rank 4 and alpha 8.
func tinyLoRA() *tinyAdapter {
	a := &tinyAdapter{
		dtype: safetensors.F32,
		config: map[string]any{
			"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": []string{"q_proj", "down_proj"}, "bias": "none",
			"base_model_name_or_path": "somebody/tiny", "modules_to_save": nil, "rank_pattern": map[string]int{}, "init_lora_weights": true,
		},
		tensors: map[string][]int64{},
		values:  map[string][]byte{},
	}
	for n := range tinyLayers {
		a.module(fmt.Sprintf("model.layers.%d.self_attn.q_proj", n), 4, tinyHeads*tinyHeadDim, tinyWidth)
		a.module(fmt.Sprintf("model.layers.%d.mlp.down_proj", n), 4, tinyWidth, tinyFFN)
	}
	return a
}

func (a *tinyAdapter) module(name string, r, out, in int64) {
	a.tensors[pre+name+".lora_A.weight"] = []int64{r, in}
	a.tensors[pre+name+".lora_B.weight"] = []int64{out, r}
}

func (a *tinyAdapter) write(tb testing.TB) string {
	tb.Helper()
	dir := tb.TempDir()
	text, err := json.Marshal(a.config)
	if err != nil {
		tb.Fatal(err)
	}
	write(tb, filepath.Join(dir, "adapter_config.json"), text)
	rng := rand.New(rand.NewPCG(8, 8))
	var tensors []safetensors.Tensor
	for _, name := range slices.Sorted(maps.Keys(a.tensors)) {
		x := safetensors.Tensor{Name: name, DType: a.dtype, Shape: a.tensors[name], Data: a.values[name]}
		if x.Data == nil {
			x.Data = weightstest.Noise(rng, x.Elements(), quant.F32)[:x.Elements()*x.DType.Size()]
		}
		tensors = append(tensors, x)
	}
	if err := safetensors.WriteFile(filepath.Join(dir, "adapter_model.safetensors"), tensors, nil); err != nil {
		tb.Fatal(err)
	}
	return dir
}

// noted reports whether one of an adapter's notes holds a text.
func noted(a *lora.Adapter, text string) bool {
	return slices.ContainsFunc(a.Notes, func(note string) bool { return strings.Contains(note, text) })
}

func TestPEFT(t *testing.T) {
	base := open(t, tiny("llama").WriteHF(t))
	const q0, q1, down = "blk.0.attn_q.weight", "blk.1.attn_q.weight", "blk.0.ffn_down.weight"
	type obj = map[string]any
	for _, c := range []struct {
		name  string
		edit  func(a *tinyAdapter)
		want  string // part of the error; "": opens
		kind  error
		check func(a *lora.Adapter) bool
	}{
		{name: "plain", check: func(a *lora.Adapter) bool {
			return len(a.Mods) == 4 && a.Rank == 4 && a.Mods[q0].Scale == 2 && cmp.Equal(a.Targets, []string{"down_proj", "q_proj"}) &&
				a.Bytes == 2*4*4*(64+64+96+64) && a.Mods[q0].A.Cols == 64 && a.Mods[down].A.Cols == 96
		}},
		{name: "rslora", edit: func(a *tinyAdapter) { a.config["use_rslora"] = true }, check: func(a *lora.Adapter) bool { return a.Mods[q0].Scale == 4 }},
		{name: "half floats", edit: func(a *tinyAdapter) {
			a.dtype = safetensors.BF16
			for name, shape := range a.tensors {
				a.values[name] = weightstest.Noise(rand.New(rand.NewPCG(1, 1)), shape[0]*shape[1], quant.BF16)
			}
		}, check: func(a *lora.Adapter) bool { return a.Mods[q0].A.Format == quant.BF16 }},
		{name: "adapter name in tensors", edit: func(a *tinyAdapter) {
			for name, shape := range maps.Clone(a.tensors) {
				delete(a.tensors, name)
				a.tensors[strings.TrimSuffix(name, "weight")+"default.weight"] = shape
			}
		}},
		{name: "alpha pattern", edit: func(a *tinyAdapter) {
			a.config["alpha_pattern"] = obj{"q_proj": 16, "layers.1.mlp.down_proj": 4, "proj": 100, "1.mlp.down_proj.x": 100}
		}, check: func(a *lora.Adapter) bool {
			return a.Mods[q0].Scale == 4 && a.Mods[down].Scale == 2 && a.Mods["blk.1.ffn_down.weight"].Scale == 1
		}},
		{name: "rank pattern", edit: func(a *tinyAdapter) {
			a.config["rank_pattern"] = obj{`model\.layers\.0\.self_attn\.q_proj`: 2}
			a.module("model.layers.0.self_attn.q_proj", 2, 64, 64)
		}, check: func(a *lora.Adapter) bool { return a.Mods[q0].Scale == 4 && a.Mods[q1].Scale == 2 && a.Rank == 4 }},
		{name: "expression", edit: func(a *tinyAdapter) { a.config["target_modules"] = `.*\.(q_proj|down_proj)` }},
		{name: "Python's expression", edit: func(a *tinyAdapter) { a.config["target_modules"] = `.*(?<!x)_proj` }},
		{name: "all-linear", edit: func(a *tinyAdapter) { a.config["target_modules"] = "all-linear" }},
		{name: "full names", edit: func(a *tinyAdapter) {
			a.config["target_modules"] = []string{"self_attn.q_proj", "model.layers.0.mlp.down_proj", "model.layers.1.mlp.down_proj"}
		}},
		{name: "some layers", edit: func(a *tinyAdapter) { a.config["layers_to_transform"] = []int{0, 1} }},
		{name: "output head", edit: func(a *tinyAdapter) {
			a.module("lm_head", 4, tinyVocab, tinyWidth)
			a.config["target_modules"] = []string{"q_proj", "down_proj", "lm_head"}
		}, check: func(a *lora.Adapter) bool { return a.Mods["output.weight"] != nil }},
		{name: "negative alpha", edit: func(a *tinyAdapter) { a.config["lora_alpha"] = -8 }, check: func(a *lora.Adapter) bool { return a.Mods[q0].Scale == -2 }},

		{name: "another kind", edit: func(a *tinyAdapter) { a.config["peft_type"] = "NEW" }, want: `"NEW"; the supported ones are LORA, PROMPT_TUNING, P_TUNING, CPT, PREFIX_TUNING, ADAPTION_PROMPT, LN_TUNING, TRAINABLE_TOKENS, ADALORA, BEFT, BOFT, C3A, DEFT, DELORA, FOURIERFT, FROD, GLORA, GRALORA, HIRA, HRA, IA3, LOHA, LOKR, MISS, OFT, OSF, PEANUT, PVERA, RANDLORA, ROAD, SHIRA, SUPERTUNING, TINYLORA, UNILORA, VBLORA, VERA, WAVEFT; merge it into the model with PEFT's merge_and_unload (its tensor base_model.model.model.layers.0.mlp.down_proj.lora_A.weight is [4 96], the model's blk.0.ffn_down.weight is (64, 96))`, kind: lora.ErrUnsupported},
		{name: "a kind with a reason", edit: func(a *tinyAdapter) { a.config["peft_type"] = "POLY" }, want: `peft_type "POLY": it needs the number of a task with each request; merge it into the model (its tensor`, kind: lora.ErrUnsupported},
		{name: "IA3 tensors", edit: func(a *tinyAdapter) {
			a.config["peft_type"] = "IA3"
			a.tensors[pre+"model.layers.1.mlp.down_proj.ia3_l"] = []int64{1, 96}
		}, want: "tensor base_model.model.model.layers.0.mlp.down_proj.lora_A.weight [4 96]: none of those that a IA3 adapter has", kind: lora.ErrUnsupported},
		{name: "bottleneck", edit: func(a *tinyAdapter) { a.config["peft_type"] = "ADAPTION_PROMPT" }, want: "none of those that a ADAPTION_PROMPT adapter has", kind: lora.ErrUnsupported},
		{name: "activated by a text", edit: func(a *tinyAdapter) { a.config["alora_invocation_tokens"] = "x" }, want: "alora_invocation_tokens", kind: lora.ErrInvalid},
		{name: "KaSA", edit: func(a *tinyAdapter) { a.config["kasa_config"] = obj{"beta": 1} }, want: "has no lora_diag", kind: lora.ErrInvalid},
		{name: "KaSA and DoRA", edit: func(a *tinyAdapter) { a.config["kasa_config"], a.config["use_dora"] = obj{"beta": 1}, true }, want: "kasa_config beside", kind: lora.ErrUnsupported},
		{name: "arrow", edit: func(a *tinyAdapter) { a.config["arrow_config"] = obj{"top_k": 3} }, want: "arrow_config", kind: lora.ErrUnsupported},
		{name: "bias", edit: func(a *tinyAdapter) { a.config["bias"] = "some" }, want: `bias "some"`, kind: lora.ErrUnsupported},
		{name: "bias of the base", edit: func(a *tinyAdapter) {
			a.config["bias"] = "lora_only"
			a.tensors[pre+"model.layers.0.self_attn.q_proj.base_layer.bias"] = []int64{64}
		}, want: "the model's bias of blk.0.attn_q.weight has 0", kind: lora.ErrMismatch},
		{name: "bias without LoRA", edit: func(a *tinyAdapter) {
			a.config["bias"] = "all"
			a.tensors[pre+"model.layers.0.self_attn.v_proj.base_layer.bias"] = []int64{64}
		}, want: "the trained bias of a module without LoRA", kind: lora.ErrUnsupported},
		{name: "biases", edit: func(a *tinyAdapter) {
			a.config["lora_bias"], a.config["target_modules"] = true, []string{"q_proj", "down_proj"}
			for name := range maps.Clone(a.tensors) {
				if module, ok := strings.CutSuffix(name, ".lora_B.weight"); ok {
					a.tensors[module+".lora_B.bias"] = []int64{64}
				}
			}
		}, check: func(a *lora.Adapter) bool { return len(a.Mods[q0].Bias) == 64 }},
		{name: "short bias", edit: func(a *tinyAdapter) {
			a.config["lora_bias"] = true
			a.tensors[pre+"model.layers.0.self_attn.q_proj.lora_B.bias"] = []int64{60}
		}, want: "has 60 values, but", kind: lora.ErrInvalid},
		{name: "bias tensor", edit: func(a *tinyAdapter) { a.tensors[pre+"model.layers.0.self_attn.q_proj.bias"] = []int64{64} }, want: "trained bias", kind: lora.ErrUnsupported},
		{name: "no bias", edit: func(a *tinyAdapter) { a.config["lora_bias"] = true }, want: "has no lora_B.bias, but lora_bias", kind: lora.ErrInvalid},
		{name: "saved modules", edit: func(a *tinyAdapter) { a.config["modules_to_save"] = []string{"lm_head"} }, want: `["lm_head"], but the file has no weight`, kind: lora.ErrInvalid},
		{name: "saved head", edit: func(a *tinyAdapter) {
			a.config["modules_to_save"] = []string{"lm_head"}
			a.tensors[pre+"lm_head.weight"] = []int64{tinyVocab, tinyWidth}
		}, check: func(a *lora.Adapter) bool {
			return a.Mods["output.weight"].A == nil && a.Mods["output.weight"].B.Cols == tinyWidth
		}},
		{name: "saved norm", edit: func(a *tinyAdapter) { a.config["modules_to_save"] = []string{"norm"} }, want: `["norm"], but the file has no weight`, kind: lora.ErrInvalid},
		{name: "saved module's tensor", edit: func(a *tinyAdapter) {
			a.config["modules_to_save"] = []string{"lm_head"}
			a.tensors[pre+"lm_head.weight"] = []int64{41, 64}
		}, want: "tensor base_model.model.lm_head.weight is (41, 64), the model's output.weight is (40, 64): added tokens", kind: lora.ErrUnsupported},
		{name: "saved tensor", edit: func(a *tinyAdapter) { a.tensors[pre+"lm_head.weight"] = []int64{40, 64} }, want: "base_model.model.lm_head.weight differs from the model's own in row 0", kind: lora.ErrUnsupported},
		{name: "another saved tensor", edit: func(a *tinyAdapter) { a.tensors[pre+"model.layers.0.self_attn.v_proj.weight"] = []int64{32, 64} }, want: "v_proj.weight [32 64] is no lora_A or lora_B weight; whole trained modules are not served, the model's blk.0.attn_v.weight is (32, 64)", kind: lora.ErrUnsupported},
		{name: "added tokens", edit: func(a *tinyAdapter) { a.tensors[pre+"model.embed_tokens.weight"] = []int64{41, 64} }, want: "embed_tokens.weight is (41, 64), the model's token_embd.weight is (40, 64): whole trained modules and added tokens are not served", kind: lora.ErrUnsupported},
		{name: "embedding as module", edit: func(a *tinyAdapter) {
			a.module("model.embed_tokens", 4, 40, 64)
			a.config["target_modules"] = "all-linear"
		}, want: "an embedding has lora_embedding_A", kind: lora.ErrMismatch},
		{name: "loftq", edit: func(a *tinyAdapter) { a.config["loftq_config"] = obj{"loftq_bits": 4} }, want: "LoftQ", kind: lora.ErrUnsupported},
		{name: "pissa", edit: func(a *tinyAdapter) { a.config["init_lora_weights"] = "pissa_niter_16" }, want: "pissa_niter_16", kind: lora.ErrUnsupported},
		{name: "token indices", edit: func(a *tinyAdapter) { a.config["trainable_token_indices"] = []int{1} }, want: "trainable_token_indices", kind: lora.ErrInvalid},
		{name: "trained tokens", edit: func(a *tinyAdapter) {
			a.config["trainable_token_indices"] = obj{"embed_tokens": []int{1, 7}}
			a.tensors[pre+"model.embed_tokens.token_adapter.trainable_tokens_delta"] = []int64{2, 64}
		}, check: func(a *lora.Adapter) bool { return a.Embed != nil && a.Embed.A.Cols == 2 }},
		{name: "trained token outside", edit: func(a *tinyAdapter) {
			a.config["trainable_token_indices"] = []int{4000}
			a.tensors[pre+"model.embed_tokens.token_adapter.trainable_tokens_delta"] = []int64{1, 64}
		}, want: "token 4000 is trained", kind: lora.ErrMismatch},
		{name: "trained token twice", edit: func(a *tinyAdapter) {
			a.config["trainable_token_indices"] = []int{4, 4}
			a.tensors[pre+"model.embed_tokens.token_adapter.trainable_tokens_delta"] = []int64{2, 64}
		}, want: "token 4 is named twice", kind: lora.ErrInvalid},
		{name: "trained tokens of another number", edit: func(a *tinyAdapter) {
			a.config["trainable_token_indices"] = []int{4}
			a.tensors[pre+"model.embed_tokens.token_adapter.trainable_tokens_delta"] = []int64{2, 64}
		}, want: "names 1 tokens for it", kind: lora.ErrInvalid},
		{name: "layer replication", edit: func(a *tinyAdapter) { a.config["layer_replication"] = [][]int{{0, 1}} }, want: "layer_replication", kind: lora.ErrUnsupported},
		{name: "parameters of no experts", edit: func(a *tinyAdapter) {
			a.config["target_parameters"] = []string{"mlp.experts.down_proj"}
			a.module("model.layers.0.mlp.experts", 8, 64, 96)
		}, want: "are of 2 experts of rank 4, which the llama model has not got there", kind: lora.ErrMismatch},
		{name: "parameters that are unknown", edit: func(a *tinyAdapter) {
			a.config["target_parameters"] = []string{"experts.wi"}
			a.module("model.layers.0.mlp.experts", 8, 64, 96)
		}, want: "the served ones are weight, gate_up_proj and down_proj", kind: lora.ErrUnsupported},
		{name: "parameters of half an expert", edit: func(a *tinyAdapter) {
			a.config["target_parameters"] = []string{"experts.down_proj"}
			a.module("model.layers.0.mlp.experts", 6, 64, 96)
		}, want: "a whole number of experts of rank 4", kind: lora.ErrInvalid},
		{name: "other prefix", edit: func(a *tinyAdapter) { a.tensors["model.layers.0.self_attn.q_proj.lora_A.weight"] = []int64{4, 64} }, want: "does not start with", kind: lora.ErrUnsupported},
		{name: "integers", edit: func(a *tinyAdapter) { a.dtype = safetensors.I8 }, want: "is I8", kind: lora.ErrUnsupported},

		{name: "rank 0", edit: func(a *tinyAdapter) { a.config["r"] = 0 }, want: "r is 0", kind: lora.ErrInvalid},
		{name: "rank 2.5", edit: func(a *tinyAdapter) { a.config["r"] = 2.5 }, want: "r is 2.5", kind: lora.ErrInvalid},
		{name: "rank is text", edit: func(a *tinyAdapter) { a.config["r"] = "8" }, want: "r of type", kind: lora.ErrInvalid},
		{name: "another rank", edit: func(a *tinyAdapter) { a.config["r"] = 8 }, want: "gives its module rank 8", kind: lora.ErrInvalid},
		{name: "huge alpha", edit: func(a *tinyAdapter) { a.config["lora_alpha"] = 1e30 }, want: "lora_alpha", kind: lora.ErrInvalid},
		{name: "pattern rank 0", edit: func(a *tinyAdapter) { a.config["rank_pattern"] = obj{"q_proj": 0} }, want: `"q_proj" is 0`, kind: lora.ErrInvalid},
		{name: "pattern of Python", edit: func(a *tinyAdapter) { a.config["alpha_pattern"] = obj{"(?<=x)": 1} }, want: "alpha_pattern", kind: lora.ErrInvalid},
		{name: "long expression", edit: func(a *tinyAdapter) { a.config["target_modules"] = strings.Repeat("(x{1000})", 200) }, want: "expression of 1800 bytes", kind: lora.ErrInvalid},
		{name: "long pattern", edit: func(a *tinyAdapter) {
			a.config["alpha_pattern"] = obj{strings.Repeat("(x{1000})", 200): 1}
		}, want: "longer than 1024", kind: lora.ErrInvalid},
		{name: "pattern list", edit: func(a *tinyAdapter) { a.config["alpha_pattern"] = []int{1} }, want: "want an object", kind: lora.ErrInvalid},
		{name: "targets number", edit: func(a *tinyAdapter) { a.config["target_modules"] = 3 }, want: "target_modules", kind: lora.ErrInvalid},
		{name: "layers text", edit: func(a *tinyAdapter) { a.config["layers_to_transform"] = "all" }, want: "layers_to_transform", kind: lora.ErrInvalid},
		{name: "layer left out", edit: func(a *tinyAdapter) { a.config["layers_to_transform"] = 0 }, check: func(a *lora.Adapter) bool {
			return len(a.Mods) == 2 && a.Mods[q1] == nil && noted(a, "model.layers.1.mlp.down_proj are passed over: layers_to_transform leaves its layer out")
		}},
		{name: "module not targeted", edit: func(a *tinyAdapter) { a.config["target_modules"] = []string{"q_proj"} }, check: func(a *lora.Adapter) bool {
			return len(a.Mods) == 2 && a.Mods[q0] != nil && noted(a, "model.layers.0.mlp.down_proj are passed over: target_modules does not name it")
		}},
		{name: "target without tensors", edit: func(a *tinyAdapter) {
			a.config["target_modules"] = []string{"q_proj", "down_proj", "query_key_value"}
		}, check: func(a *lora.Adapter) bool {
			return len(a.Mods) == 4 && noted(a, `target_modules names "query_key_value", but no tensor belongs to it`)
		}},
		{name: "excluded", edit: func(a *tinyAdapter) { a.config["exclude_modules"] = []string{"layers.0.mlp.down_proj"} }, check: func(a *lora.Adapter) bool {
			return len(a.Mods) == 3 && a.Mods[down] == nil && noted(a, "model.layers.0.mlp.down_proj are passed over: exclude_modules names it")
		}},
		{name: "excluded by Python's expression", edit: func(a *tinyAdapter) { a.config["exclude_modules"] = `(?<!x)lm_head` }, check: func(a *lora.Adapter) bool {
			return len(a.Mods) == 4 && len(a.Notes) == 0
		}},
		{name: "nothing left", edit: func(a *tinyAdapter) { a.config["layers_to_transform"] = 7 }, want: "leave none of its 4 modules, such as model.layers.0.mlp.down_proj", kind: lora.ErrInvalid},
		{name: "block-diagonal", edit: func(a *tinyAdapter) {
			a.config["use_bdlora"] = obj{"nblocks": 2, "target_modules_bd_a": []string{"q_proj"}}
			a.tensors[pre+"model.layers.0.self_attn.q_proj.lora_A.weight"] = []int64{4, 32}
		}, want: "layers.1.self_attn.q_proj: A is (4, 128)", kind: lora.ErrMismatch},
		{name: "blocks that do not divide", edit: func(a *tinyAdapter) {
			a.config["use_bdlora"] = obj{"nblocks": 3, "target_modules_bd_b": []string{"q_proj"}}
		}, want: "is not made of the 3 blocks", kind: lora.ErrInvalid},
		{name: "more blocks than memory", edit: func(a *tinyAdapter) {
			a.config["use_bdlora"] = obj{"nblocks": 1 << 30, "target_modules_bd_b": []string{"q_proj"}}
		}, want: "blocks", kind: lora.ErrInvalid},
		{name: "LoRA-GA", edit: func(a *tinyAdapter) { a.config["init_lora_weights"] = "lora_ga" }, want: "lora_ga", kind: lora.ErrUnsupported},
		{name: "eva", edit: func(a *tinyAdapter) { a.config["init_lora_weights"] = "eva" }},
		{name: "gaussian", edit: func(a *tinyAdapter) { a.config["init_lora_weights"] = "gaussian" }},
		{name: "no B", edit: func(a *tinyAdapter) { delete(a.tensors, pre+"model.layers.0.self_attn.q_proj.lora_B.weight") }, want: "has no B", kind: lora.ErrInvalid},
		{name: "no A", edit: func(a *tinyAdapter) { delete(a.tensors, pre+"model.layers.0.self_attn.q_proj.lora_A.weight") }, want: "has no A", kind: lora.ErrInvalid},
		{name: "two ranks", edit: func(a *tinyAdapter) {
			a.tensors[pre+"model.layers.0.self_attn.q_proj.lora_B.weight"] = []int64{64, 5}
		}, want: "(4, 64) and base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight (64, 5)", kind: lora.ErrInvalid},
		{name: "twice", edit: func(a *tinyAdapter) {
			a.tensors[pre+"model.layers.0.self_attn.q_proj.lora_A.default.weight"] = []int64{4, 64}
		}, want: "twice", kind: lora.ErrInvalid},
		{name: "vector", edit: func(a *tinyAdapter) { a.tensors[pre+"model.layers.0.self_attn.q_proj.lora_A.weight"] = []int64{64} }, want: "[64]", kind: lora.ErrInvalid},
		{name: "no tensors", edit: func(a *tinyAdapter) { a.tensors = nil; a.config["target_modules"] = nil }, want: "no tensors of an adapter", kind: lora.ErrInvalid},
		{name: "NaN", edit: func(a *tinyAdapter) {
			b := make([]byte, 4*4*64)
			copy(b[4*70:], []byte{0, 0, 0xc0, 0x7f})
			a.values[pre+"model.layers.0.self_attn.q_proj.lora_A.weight"] = b
		}, want: "value (1, 6) is NaN", kind: lora.ErrInvalid},
		{name: "infinity", edit: func(a *tinyAdapter) {
			b := make([]byte, 4*4*64)
			copy(b[4*255:], []byte{0, 0, 0x80, 0xff})
			a.values[pre+"model.layers.0.self_attn.q_proj.lora_B.weight"] = b
		}, want: "value (63, 3) is -Inf", kind: lora.ErrInvalid},

		{
			name: "other width", edit: func(a *tinyAdapter) { a.module("model.layers.1.self_attn.q_proj", 4, 64, 128) },
			want: "A is (4, 128) and B is (64, 4), but the model's blk.1.attn_q.weight is (64, 64)", kind: lora.ErrMismatch,
		},
		{
			name: "other height", edit: func(a *tinyAdapter) { a.module("model.layers.1.self_attn.q_proj", 4, 32, 64) },
			want: "B is (32, 4), but the model's blk.1.attn_q.weight is (64, 64)", kind: lora.ErrMismatch,
		},
		{
			name: "more layers", edit: func(a *tinyAdapter) { a.module("model.layers.2.self_attn.q_proj", 4, 64, 64) },
			want: "no tensor blk.2.attn_q.weight", kind: lora.ErrMismatch,
		},
		{name: "unknown module", edit: func(a *tinyAdapter) {
			a.module("model.layers.0.self_attn.qkv_proj", 4, 64, 64)
			a.config["target_modules"] = "all-linear"
		}, want: "model.layers.0.self_attn.qkv_proj is none that the llama model has", kind: lora.ErrMismatch},
		{name: "a norm", edit: func(a *tinyAdapter) {
			a.module("model.norm", 4, 64, 64)
			a.config["target_modules"] = "all-linear"
		}, want: "no tensor output_norm.weight", kind: lora.ErrMismatch},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := tinyLoRA()
			if c.edit != nil {
				c.edit(a)
			}
			dir := a.write(t)
			got, err := lora.Open(dir, base)
			if c.want != "" {
				if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), dir) || !errors.Is(err, c.kind) ||
					strings.Contains(err.Error(), "\n") {
					t.Fatalf("%v, want %q (%v)", err, c.want, c.kind)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer got.Close()
			if c.check != nil && !c.check(got) {
				t.Errorf("%+v", got)
			}
		})
	}
}

func TestAdapterFolder(t *testing.T) {
	dir := tinyLoRA().write(t)
	base := open(t, tiny("llama").WriteHF(t))
	a, err := lora.Open(dir, base)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	}
	// Files that are not served change nothing, those that are do.
	write(t, filepath.Join(dir, "README.md"), []byte("about"))
	hash := func() string {
		t.Helper()
		files, err := lora.Files(dir)
		if err != nil {
			t.Fatal(err)
		}
		sum, err := digest.Files(files)
		if err != nil {
			t.Fatal(err)
		}
		return sum
	}
	if hash() != a.SHA256 {
		t.Error("README.md changed the hash")
	}
	config := filepath.Join(dir, "adapter_config.json")
	write(t, config, append(read(t, config), '\n'))
	if hash() == a.SHA256 {
		t.Error("another configuration has the same hash")
	}
	whole := read(t, filepath.Join(dir, "adapter_model.safetensors"))
	for n := 0; n < len(whole); n += 97 {
		write(t, filepath.Join(dir, "adapter_model.safetensors"), whole[:n])
		if _, err := lora.ReadHeader(dir); err == nil {
			t.Errorf("cut at %d of %d: accepted", n, len(whole))
		}
	}
	empty := t.TempDir()
	if _, err := lora.Open(empty, base); err == nil || !strings.Contains(err.Error(), "adapter_config.json is missing") {
		t.Errorf("empty folder: %v", err)
	}
	write(t, filepath.Join(empty, "adapter_config.json"), []byte("{}"))
	if _, err := lora.Open(empty, base); err == nil || !strings.Contains(err.Error(), "adapter_model.safetensors is missing") {
		t.Errorf("without weights: %v", err)
	}
	write(t, filepath.Join(empty, "adapter_model.bin"), []byte("pickle"))
	if _, err := lora.Open(empty, base); !errors.Is(err, lora.ErrUnsupported) || !strings.Contains(err.Error(), "pickle") {
		t.Errorf("pickle: %v", err)
	}
}

// TestAdapterFused opens an adapter of GPT-2's c_attn: one A for q, k and v, B cut in three.
func TestAdapterFused(t *testing.T) {
	base := open(t, tinyGPT2().WriteHF(t))
	a := tinyLoRA()
	a.tensors = map[string][]int64{}
	a.config["target_modules"], a.config["fan_in_fan_out"] = []string{"c_attn", "c_fc"}, true
	a.module("transformer.h.0.attn.c_attn", 4, 3*tinyWidth, tinyWidth)
	a.module("transformer.h.0.mlp.c_fc", 4, 4*tinyWidth, tinyWidth)
	dir := a.write(t)
	got, err := lora.Open(dir, base)
	if err != nil {
		t.Fatal(err)
	}
	defer got.Close()
	f, err := safetensors.OpenFile(filepath.Join(dir, "adapter_model.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	want := f.Tensor(pre + "transformer.h.0.attn.c_attn.lora_B.weight").Data
	var joined []byte
	for _, part := range []string{"q", "k", "v"} {
		l := got.Mods["blk.0.attn_"+part+".weight"]
		if l == nil || l.B.Rows != tinyWidth || l.A.Rows != 4 || l.Scale != 2 {
			t.Fatalf("%s: %+v", part, l)
		}
		joined = append(joined, l.B.Data...)
	}
	if string(joined) != string(want) || len(got.Mods) != 4 || !cmp.Equal(got.Targets, []string{"c_attn", "c_fc"}) {
		t.Errorf("%d modules, targets %q, B differs: %v", len(got.Mods), got.Targets, string(joined) != string(want))
	}
	// The same in GGUF.
	var w gguf.Writer
	w.Put("general.architecture", "gpt2")
	w.Put("general.type", "adapter")
	w.Put("adapter.type", "lora")
	w.Put("adapter.lora.alpha", float32(8))
	w.Add("blk.0.attn_qkv.weight.lora_a", quant.F32, []int64{tinyWidth, 4}, f.Tensor(pre+"transformer.h.0.attn.c_attn.lora_A.weight").Data)
	w.Add("blk.0.attn_qkv.weight.lora_b", quant.F32, []int64{4, 3 * tinyWidth}, want)
	path := filepath.Join(t.TempDir(), "a.gguf")
	if err := w.WriteFile(path); err != nil {
		t.Fatal(err)
	}
	gg, err := lora.Open(path, base)
	if err != nil {
		t.Fatal(err)
	}
	defer gg.Close()
	for _, part := range []string{"q", "k", "v"} {
		x, y := got.Mods["blk.0.attn_"+part+".weight"], gg.Mods["blk.0.attn_"+part+".weight"]
		if y == nil || x.Scale != y.Scale || !equal(decode(x.B), decode(y.B)) || !equal(decode(x.A), decode(y.A)) {
			t.Errorf("%s differs in GGUF", part)
		}
	}
	if !cmp.Equal(gg.Targets, []string{"c_attn"}) {
		t.Errorf("targets %q", gg.Targets)
	}
}

func TestAdapterGGUF(t *testing.T) {
	base := open(t, tiny("llama").WriteGGUF(t))
	const a, b = "blk.0.attn_v.weight.lora_a", "blk.0.attn_v.weight.lora_b"
	type tensor struct {
		name   string
		format quant.Format
		dims   []int64
	}
	good := []tensor{{a, quant.F16, []int64{64, 4}}, {b, quant.F16, []int64{4, 32}}}
	keys := map[string]any{"general.architecture": "llama", "general.type": "adapter", "adapter.type": "lora", "adapter.lora.alpha": float32(8)}
	with := func(key string, v any) map[string]any {
		k := maps.Clone(keys)
		if k[key] = v; v == nil {
			delete(k, key)
		}
		return k
	}
	for _, c := range []struct {
		name    string
		keys    map[string]any
		tensors []tensor
		want    string
		scale   float32
	}{
		{"plain", keys, good, "", 2},
		{"no alpha", with("adapter.lora.alpha", nil), good, "", 1},
		{"alpha 0", with("adapter.lora.alpha", float32(0)), good, "", 1},
		{"of a mistral", with("general.architecture", "mistral"), good, "", 2},
		{"NaN alpha", with("adapter.lora.alpha", float32(math.NaN())), good, "alpha is NaN", 0},
		{"alpha text", with("adapter.lora.alpha", "8"), good, "wrong type", 0},
		{"a model", with("general.type", "model"), good, "it is a model", 0},
		{"no type", with("general.type", nil), good, "not adapter", 0},
		{"control vector", with("adapter.type", "control"), good, `"control"`, 0},
		{"other architecture", with("general.architecture", "qwen2"), good, "qwen2, but the model is llama", 0},
		{"no architecture", with("general.architecture", nil), good, "architecture is missing", 0},
		{"no tensors", keys, nil, "no tensors of an adapter", 0},
		{"no b", keys, good[:1], "has no B", 0},
		{"other tensor", keys, append(slices.Clone(good), tensor{"blk.0.attn_q.bias", quant.F32, []int64{64}}), "attn_q.bias is none", 0},
		{"norm", keys, append(slices.Clone(good), tensor{"blk.0.attn_norm.weight", quant.F32, []int64{64}}), "", 2},
		{"other shape", keys, []tensor{{a, quant.F16, []int64{32, 4}}, {b, quant.F16, []int64{4, 32}}}, "A is (4, 32)", 0},
		{"vector", keys, []tensor{{a, quant.F16, []int64{64}}, {b, quant.F16, []int64{4, 32}}}, "want a matrix", 0},
		{"embedding the other way", keys, []tensor{{"token_embd.weight.lora_a", quant.F16, []int64{64, 4}}, {"token_embd.weight.lora_b", quant.F16, []int64{4, 40}}}, "of different ranks", 0},
		{"other embedding", keys, []tensor{{"token_embd.weight.lora_a", quant.F16, []int64{4, 41}}, {"token_embd.weight.lora_b", quant.F16, []int64{4, 64}}}, "A is (41, 4) and B is (64, 4), but the model's token_embd.weight is (40, 64)", 0},
		{"unknown", keys, []tensor{{"blk.7.attn_v.weight.lora_a", quant.F16, []int64{64, 4}}, {"blk.7.attn_v.weight.lora_b", quant.F16, []int64{4, 32}}}, "no tensor blk.7.attn_v.weight", 0},
		{"quantised", keys, []tensor{{a, quant.Q8_0, []int64{64, 4}}, {b, quant.F32, []int64{4, 32}}}, "", 2},
	} {
		var w gguf.Writer
		for _, k := range slices.Sorted(maps.Keys(c.keys)) {
			w.Put(k, c.keys[k])
		}
		for _, x := range c.tensors {
			n := int64(1)
			for _, d := range x.dims {
				n *= d
			}
			w.Add(x.name, x.format, x.dims, weightstest.Noise(rand.New(rand.NewPCG(1, 1)), n, x.format))
		}
		path := filepath.Join(t.TempDir(), "a.gguf")
		if err := w.WriteFile(path); err != nil {
			t.Fatal(err)
		}
		got, err := lora.Open(path, base)
		if c.want != "" {
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), path) {
				t.Errorf("%s: %v, want %q", c.name, err, c.want)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if (c.name == "norm") != noted(got, "blk.0.attn_norm.weight is passed over") {
			t.Errorf("%s: notes %q", c.name, got.Notes)
		}
		if got.Mods["blk.0.attn_v.weight"].Scale != c.scale || len(got.SHA256) != 64 {
			t.Errorf("%s: %+v", c.name, got.Mods["blk.0.attn_v.weight"])
		}
		if err := got.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestAdapterExperts opens adapters of a mixture of experts: a PEFT module for each, a stack in GGUF.
func TestAdapterExperts(t *testing.T) {
	const experts, r = 3, 2
	m := tiny("llama")
	m.Config["model_type"], m.Config["num_local_experts"] = "mixtral", experts
	for n := range tinyLayers {
		p := fmt.Sprintf("model.layers.%d.", n)
		for _, name := range []string{"gate", "up", "down"} {
			delete(m.Tensors, p+"mlp."+name+"_proj.weight")
		}
		m.Tensors[p+"block_sparse_moe.gate.weight"] = []int64{experts, tinyWidth}
		for e := range experts {
			q := fmt.Sprintf("%sblock_sparse_moe.experts.%d.", p, e)
			m.Tensors[q+"w1.weight"], m.Tensors[q+"w3.weight"] = []int64{tinyFFN, tinyWidth}, []int64{tinyFFN, tinyWidth}
			m.Tensors[q+"w2.weight"] = []int64{tinyWidth, tinyFFN}
		}
	}
	base := open(t, m.WriteHF(t))
	a := tinyLoRA()
	a.tensors = map[string][]int64{}
	a.config["target_modules"], a.config["r"] = []string{"w1"}, r
	for e := range experts {
		a.module(fmt.Sprintf("model.layers.1.block_sparse_moe.experts.%d.w1", e), r, tinyFFN, tinyWidth)
	}
	dir := a.write(t)
	peft, err := lora.Open(dir, base)
	if err != nil {
		t.Fatal(err)
	}
	defer peft.Close()
	var w gguf.Writer
	w.Put("general.architecture", "llama")
	w.Put("general.type", "adapter")
	w.Put("adapter.type", "lora")
	w.Put("adapter.lora.alpha", float32(8))
	var as, bs []byte
	for e := range experts {
		l := peft.Mods[fmt.Sprintf("blk.1.ffn_gate.%d.weight", e)]
		if l == nil {
			t.Fatalf("expert %d: %v", e, slices.Sorted(maps.Keys(peft.Mods)))
		}
		as, bs = append(as, l.A.Data...), append(bs, l.B.Data...)
	}
	w.Add("blk.1.ffn_gate_exps.weight.lora_a", quant.F32, []int64{tinyWidth, r, experts}, as)
	w.Add("blk.1.ffn_gate_exps.weight.lora_b", quant.F32, []int64{r, tinyFFN, experts}, bs)
	path := filepath.Join(t.TempDir(), "a.gguf")
	if err := w.WriteFile(path); err != nil {
		t.Fatal(err)
	}
	gg, err := lora.Open(path, base)
	if err != nil {
		t.Fatal(err)
	}
	defer gg.Close()
	if len(gg.Mods) != experts || !cmp.Equal(gg.Targets, peft.Targets) {
		t.Errorf("%d modules, targets %q and %q", len(gg.Mods), gg.Targets, peft.Targets)
	}
	for name, x := range peft.Mods {
		if y := gg.Mods[name]; y == nil || !equal(decode(x.A), decode(y.A)) || !equal(decode(x.B), decode(y.B)) || x.Scale != y.Scale {
			t.Errorf("%s differs", name)
		}
	}
}

// FuzzAdapterConfig opens an adapter of any adapter_config.json: an error or an adapter, in bounded memory.
func FuzzAdapterConfig(f *testing.F) {
	for _, edit := range []func(a *tinyAdapter){
		func(*tinyAdapter) {},
		func(a *tinyAdapter) { a.config["target_modules"] = `.*\.(q|down)_proj` },
		func(a *tinyAdapter) {
			a.config["rank_pattern"], a.config["alpha_pattern"] = map[string]int{"q_proj": 4}, map[string]int{"x.*": 1}
		},
		func(a *tinyAdapter) {
			a.config["layers_to_transform"], a.config["exclude_modules"] = []int{0, 1}, []string{"up_proj"}
		},
	} {
		a := tinyLoRA()
		edit(a)
		f.Add(read(f, filepath.Join(a.write(f), "adapter_config.json")))
	}
	dir := tinyLoRA().write(f)
	base := open(f, tiny("llama").WriteHF(f))
	f.Fuzz(func(t *testing.T, data []byte) {
		write(t, filepath.Join(dir, "adapter_config.json"), data)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		a, err := lora.Open(dir, base)
		runtime.ReadMemStats(&after)
		// A regular expression of n bytes compiles to programs some hundred times as large; RE2 caps their repetition.
		if n := after.TotalAlloc - before.TotalAlloc; n > 2000*uint64(len(data))+8<<20 {
			t.Errorf("%d bytes allocated for a configuration of %d", n, len(data))
		}
		if err != nil {
			if strings.Contains(err.Error(), "\n") || !strings.HasPrefix(err.Error(), "weights: ") {
				t.Errorf("not one sentence: %v", err)
			}
			return
		}
		if len(a.Mods) != 4 {
			t.Errorf("%d modules", len(a.Mods))
		}
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	})
}
