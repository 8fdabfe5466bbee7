package families

import (
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"edged/core/model/arch"
	"edged/core/model/arch/keys"
)

// TestNoNamesElsewhere: what a family is stands in this package alone. A string that is a family's name anywhere else in what the
// backends are made of would be a branch on it.
func TestNoNamesElsewhere(t *testing.T) {
	var names []string
	for _, f := range families() {
		names = append(names, f.Names...)
	}
	root := filepath.Join("..", "..", "..", "..")
	files := 0
	for _, dir := range []string{"cmd", "core", "plugins/backend-neon", "plugins/backend-generic"} {
		err := filepath.WalkDir(filepath.Join(root, dir), func(path string, e fs.DirEntry, err error) error {
			switch {
			case err != nil:
				return err
			case e.IsDir() && strings.HasSuffix(path, "test"):
				return fs.SkipDir // packages that tests share
			case e.IsDir() && (path == filepath.Join(root, "core", "model", "arch", "families") || path == filepath.Join(root, "core", "model", "quantize")):
				return fs.SkipDir // quantize repeats llama-quantize's choices, which go by name
			case e.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go"):
				return nil
			}
			files++
			set := token.NewFileSet()
			f, err := parser.ParseFile(set, path, nil, 0)
			if err != nil {
				return err
			}
			ast.Inspect(f, func(n ast.Node) bool {
				if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
					if s, err := strconv.Unquote(lit.Value); err == nil && slices.Contains(names, s) {
						t.Errorf("%s names a family: %q", set.Position(lit.Pos()), s)
					}
				}
				return true
			})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if files < 100 {
		t.Errorf("only %d files were read", files)
	}
}

// TestFamilies holds the table together: names are unique, and every name of a stored architecture is in it.
func TestFamilies(t *testing.T) {
	seen := map[string]bool{}
	for _, f := range families() {
		for _, name := range f.Names {
			if seen[name] {
				t.Errorf("%s stands twice", name)
			}
			seen[name] = true
		}
		if len(f.Modules) == 0 || f.Spec == nil {
			t.Errorf("%s has no modules or cannot be read", f.Names[0])
		}
	}
	if Find("none") != nil || Stored("none") != "none" || Stored("mixtral") != "llama" {
		t.Error("names are not found as they should be")
	}
}

// TestReadAtRandom reads every family from metadata of random kinds and sizes: nothing panics, and what is accepted is within bounds.
func TestReadAtRandom(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 5))
	sound := map[string]any{
		"hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "intermediate_size": 96, "vocab_size": 40,
		"max_position_embeddings": 128, "rms_norm_eps": 1e-5, "rope_theta": 1e4, "n_embd": 64, "n_layer": 3, "n_head": 4, "n_positions": 128, "n_inner": 96, "d_model": 64,
		"n_heads": 4, "n_layers": 3, "max_seq_len": 128, "ffn_dim": 96, "ffn_hidden_size": 96, "sliding_window": 16, "layer_norm_eps": 1e-5,
		"embedding_length": 64, "block_count": 3, "context_length": 128, "feed_forward_length": 96, "attention.head_count": 4, "attention.head_count_kv": 2,
		"attention.layer_norm_rms_epsilon": 1e-5, "attention.layer_norm_epsilon": 1e-5, "attention.sliding_window": 16,
		"num_experts": 8, "num_local_experts": 8, "n_routed_experts": 8, "moe_num_experts": 8, "num_experts_per_tok": 2, "moe_k": 2, "moe_intermediate_size": 32,
		"expert_count": 8, "expert_used_count": 2, "expert_feed_forward_length": 32, "n_group": 2, "topk_group": 1, "expert_group_count": 2, "expert_group_used_count": 1,
		"kv_lora_rank": 32, "qk_nope_head_dim": 16, "qk_rope_head_dim": 8, "v_head_dim": 16, "q_lora_rank": 24, "attention.kv_lora_rank": 32,
		"attention.q_lora_rank": 24, "attention.key_length_mla": 24, "attention.value_length_mla": 16, "rope.dimension_count": 8,
		"linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 16, "linear_value_head_dim": 8, "linear_conv_kernel_dim": 4,
		"num_heads": 4, "num_layers": 3, "d_kv": 16, "d_ff": 96, "encoder_layers": 3, "decoder_layers": 2, "encoder_attention_heads": 4,
		"decoder_attention_heads": 4, "encoder_ffn_dim": 96, "decoder_ffn_dim": 96, "attention.key_length": 16, "attention.relative_buckets_count": 8,
		"ssm.time_step_rank": 4, "ssm.state_size": 16, "ssm.inner_size": 64, "ssm.group_count": 2, "ssm.conv_kernel": 4, "state_size": 16, "n_groups": 2,
		"mamba_n_heads": 4, "mamba_num_heads": 4, "mamba_d_state": 16, "ssm_state_size": 16, "mamba_head_dim": 16, "mamba_d_head": 16, "mamba_n_groups": 2,
		"hidden_size_per_layer_input": 8, "embedding_length_per_layer_input": 8, "num_kv_shared_layers": 0, "attention.key_length_swa": 16,
		"attention_heads": 4, "attention_layers": []any{"global", "local", "global"},
	}
	odd := []string{
		"layer_types", "rope_scaling", "rope_parameters", "hidden_act", "hidden_activation", "activation_function", "no_rope_layers", "layer_rope_theta",
		"partial_rotary_factor", "attention_bias", "logit_scale", "logits_scaling", "query_pre_attn_scalar", "expert_count", "attn_config", "expansion_ratio",
		"sliding_window_pattern", "attention.sliding_window_pattern", "rope.dimension_count", "rope.scaling.type", "rope.scaling.factor", "attention.rope_pattern",
		"attention.value_length", "attention.key_length", "xielu.alpha_p", "alibi", "new_decoder_architecture", "num_kv_heads", "word_embed_proj_dim",
		"no_rope_layer_interval", "scale_depth", "dim_model_base", "final_logit_softcapping", "rotary_dim", "num_local_experts", "num_experts_per_tok",
		"feed_forward_proj", "relative_attention_num_buckets", "relative_attention_max_distance", "num_decoder_layers", "decoder_block_count", "pad_token_id",
		"time_step_limit", "mamba_d_head", "mamba_expand", "ssm.time_step_rank", "ssm.inner_size", "ssm.group_count", "ssm.conv_kernel", "conv_kernel",
		"scale_embedding", "scale_decoder_outputs", "decoder_vocab_size", "full_attention_interval", "num_kv_shared_layers", "global_head_dim", "per_layer_config",
		"activation_sparsity_pattern", "attention.shared_kv_layers", "enable_moe_block", "altup_num_inputs", "attention_k_eq_v", "attention.recurrent_layers", "nextn_predict_layers",
		"attention_layers", "attention_types", "window_size", "multi_query",
	}
	values := func(gguf bool) any {
		all := []any{int64(0), int64(-1), int64(1), int64(2), int64(3), int64(1 << 30), int64(1 << 50), 0.5, -1.0, 1e30, math.NaN(), true, false, "gelu", "yarn", "longrope", "nonsense", nil}
		if gguf {
			all = append(all, []int64{1, 0, 1}, []int64{}, []bool{true, false, true}, []float64{1}, []string{"x"}, uint64(1<<63))
		} else {
			all = append(all, []any{json.Number("1"), json.Number("0"), json.Number("1")}, []any{"sliding_attention", "full_attention", "full_attention"}, []any{},
				json.Number("3"), map[string]any{"rope_type": "yarn", "factor": json.Number("2")}, map[string]any{"__float__": "Infinity"},
				map[string]any{"type": "longrope", "short_factor": []any{json.Number("1")}, "long_factor": []any{json.Number("1")}},
				map[string]any{"type": "dynamic", "alpha": json.Number("3")}, map[string]any{"full_attention": map[string]any{}, "sliding_attention": nil})
		}
		return all[rng.IntN(len(all))]
	}
	opened := 0
	for _, f := range families() {
		before := opened
		for range 600 {
			gguf := rng.IntN(2) == 0
			said := map[string]any{}
			for name, v := range sound {
				switch v := v.(type) {
				case int:
					said[name] = int64(v)
				default:
					said[name] = v
				}
			}
			for range rng.IntN(4) {
				name := odd[rng.IntN(len(odd))]
				if rng.IntN(3) == 0 {
					names := slices.Sorted(maps.Keys(sound))
					name = names[rng.IntN(len(names))]
				}
				said[name] = values(gguf)
			}
			some := rng.IntN(2) == 0
			shape := func(name string) []int {
				switch {
				case name == arch.PerLayerName:
					return []int{40, 3 * 8}
				case some:
					return []int{40, 64}
				}
				return nil
			}
			k := keys.Config(said, shape)
			if gguf {
				k = keys.GGUF("x", func(key string) (any, bool) {
					v, ok := said[strings.TrimPrefix(key, "x.")]
					return v, ok && v != nil
				}, shape)
			}
			k.SetVocab(40)
			s, err := f.Read(k)
			if err != nil {
				if !errors.Is(err, arch.ErrInvalid) && !errors.Is(err, arch.ErrUnsupported) || strings.Contains(err.Error(), "\n") {
					t.Errorf("%s: %v", f.Names[0], err)
				}
				continue
			}
			opened++
			n := 0
			if err := arch.Tensors(s, func(arch.Tensor) error { n++; return nil }); err != nil || n == 0 || len(s.Layers) > arch.MaxLayers {
				t.Errorf("%s: %d tensors of %d layers, %v", f.Names[0], n, len(s.Layers), err)
			}
		}
		if opened == before && f.Settings == nil { // no settings are drawn that stand in tensors
			t.Errorf("%s: none was accepted: the test does not test", f.Names[0])
		}
	}
	if opened < 2000 {
		t.Errorf("only %d were accepted: the test does not test", opened)
	}
}
