package decoders

import (
	"encoding/json"
	"fmt"
	"math"

	"edged/core/model/arch"
	"edged/core/model/arch/family"
	"edged/core/model/arch/keys"
)

// gemma4 is Gemma 4, its text part (Gemma Team 2026): gemma3 with a second size of heads in the layers
// without a window, where only a quarter of a head turns, scores that are not scaled and values that are
// normalised. The small ones (E2B, E4B) have a table of rows for every layer, and their last layers read the
// keys and values of the last layer before that is of their own kind. The larger ones can do without attn_v
// in the layers without a window, and one has experts beside the network of every layer. Norms are stored as
// they are, with their 1.
func gemma4() family.Family {
	return family.Family{
		Names:   []string{"gemma4", "gemma4_text", "gemma4_unified", "gemma4_unified_text"},
		GGUF:    "gemma4",
		Modules: gemma4Modules(),
		Spec: func(k *keys.Keys) arch.Spec {
			gemma4Defaults(k)
			d := gemmaDims(k)
			layers := k.LayerCount(d.Layers)
			s := k.DecoderSpec(&d, arch.RMS("output_norm", d.Eps), true)
			s.Embed.Scale = float32(math.Sqrt(float64(d.Width)))
			s.Embed.PerLayer = perLayerRows(k, layers, d.Eps)
			s.Head.Cap = softCap(k, "final_logit_softcapping|final_logit_softcapping", 30)
			act := k.ActOf("|hidden_activation", arch.GELUTanh)
			sliding := k.Sliding(layers, keys.EveryNth(6))
			if !k.IsGGUF() && layers > 0 { // transformers forces it
				sliding[layers-1] = false
			}
			from := sharers(k, sliding)
			heads := gemma4Heads(k, &d, sliding)
			hidden := gemma4Hidden(k, from)
			experts := gemma4Experts(k, act)
			for i := range layers {
				a := heads[i]
				if a.From = from[i]; a.From > 0 {
					a.KeyValue, a.ValueEps = false, 0
				}
				ffn := arch.Sub{
					Pre:  arch.RMS("ffn_norm", d.Eps),
					Op:   arch.GLU{Hidden: hidden[i], Act: act},
					Post: arch.RMS("post_ffw_norm", d.Eps),
				}
				layer := arch.Layer{{Pre: arch.RMS("attn_norm", d.Eps), Op: a, Post: arch.RMS("post_attention_norm", d.Eps)}, ffn}
				if experts.Experts > 0 {
					experts.Router.Eps = d.Eps
					layer[1].Post = arch.RMS("post_ffw_norm_1", d.Eps)
					layer = append(layer, arch.Sub{
						Pre: arch.RMS(
							"pre_ffw_norm_2",
							d.Eps,
						),
						Op:    experts,
						Post:  arch.RMS("post_ffw_norm_2", d.Eps),
						Wire:  arch.Parallel,
						Joint: ffn.Post,
					})
				}
				if s.Embed.PerLayer.Width > 0 {
					layer = append(layer, arch.Sub{Op: arch.PerLayer{Act: act}, Post: arch.RMS("post_norm", d.Eps)})
				}
				if !k.IsGGUF() || k.HasTensor(arch.LayerName(i, "layer_output_scale.weight")) {
					layer[len(layer)-1].After = arch.Norm{Kind: arch.Factor, Name: "layer_output_scale"}
				}
				s.Add(layer...)
			}
			if !k.IsGGUF() {
				s.Fixes = []arch.Fix{
					arch.Stack{Of: "blk.N.ffn_gate_up_exps", Into: []string{"blk.N.ffn_gate.E", "blk.N.ffn_up.E"}},
					arch.Stack{Of: "blk.N.ffn_down_exps", Into: []string{"blk.N.ffn_down.E"}},
				}
			}
			return s
		},
	}
}

// gemma4Modules are the names of Gemma 4's modules.
func gemma4Modules() family.Modules {
	return perLayerModules().With(
		".layer_scalar", "layer_output_scale",
		".post_feedforward_layernorm_1", "post_ffw_norm_1",
		".pre_feedforward_layernorm_2", "pre_ffw_norm_2",
		".post_feedforward_layernorm_2", "post_ffw_norm_2",
		".router.proj", "ffn_gate_inp",
		".router.scale", "ffn_gate_inp.scale",
		".router.per_expert_scale", "ffn_down_exps.scale",
		".experts.gate_up_proj", "ffn_gate_up_exps",
		".experts.down_proj", "ffn_down_exps",
	)
}

// gemma4Defaults are those of its classes, of which the unified one has no rows for its layers.
func gemma4Defaults(k *keys.Keys) {
	defaults := map[string]any{
		"num_attention_heads": json.Number("8"), "num_key_value_heads": json.Number("4"), "head_dim": json.Number("256"),
		"max_position_embeddings": json.Number("131072"), "rms_norm_eps": json.Number("1e-6"), "sliding_window": json.Number("512"),
		"hidden_size_per_layer_input": json.Number("256"),
	}
	if kind := k.String("|model_type"); kind == "gemma4_unified" || kind == "gemma4_unified_text" {
		defaults["sliding_window"], defaults["max_position_embeddings"] = json.Number("1024"), json.Number("262144")
		defaults["hidden_size_per_layer_input"] = json.Number("0")
	}
	if !k.Has("|rope_parameters") {
		defaults["rope_parameters"] = map[string]any{
			"full_attention": map[string]any{
				"rope_type":             "proportional",
				"partial_rotary_factor": json.Number("0.25"),
				"rope_theta":            json.Number("1e6"),
			},
			"sliding_attention": map[string]any{"rope_type": "default", "rope_theta": json.Number("1e4")},
		}
	}
	k.Defaults(defaults)
	if k.String("|use_bidirectional_attention") == "all" {
		k.Unsupported("use_bidirectional_attention is \"all\", which makes an encoder of this family")
	}
}

// gemma4Heads are the attentions of all layers: two sizes of heads, each with a rotation of its own.
func gemma4Heads(k *keys.Keys, d *keys.Dims, sliding []bool) []arch.Attention {
	near, full := k.Int("attention.key_length_swa|head_dim"), k.IntOr("attention.key_length|global_head_dim", 512)
	for _, x := range []struct {
		names string
		n     int
	}{{"attention.value_length_swa|", near}, {"attention.value_length|", full}} {
		if v := k.IntOr(x.names, x.n); v != x.n {
			k.Unsupported("keys of %d and values of %d dimensions", x.n, v)
		}
	}
	bias := k.RequiredIf("|attention_bias")
	equal := k.Bool("|attention_k_eq_v", false)
	kvHeads := k.IntsOr("attention.head_count_kv|num_key_value_heads", len(sliding))
	window := k.Int("attention.sliding_window|sliding_window")
	out := make([]arch.Attention, len(sliding))
	if k.Err() != nil || kvHeads == nil {
		k.Missing("attention.head_count_kv|num_key_value_heads")
		return out
	}
	for i := range out {
		a := arch.Attention{
			Heads: d.Heads, KVHeads: kvHeads[i], KeyDim: near, Window: window, Scale: 1, QKVBias: bias, OutBias: bias,
			QKNorm: arch.QKNorm{Of: arch.PerHead, Kind: arch.RMSNorm, Eps: d.Eps}, ValueEps: d.Eps,
		}
		if !sliding[i] {
			a.KeyDim, a.Window = full, 0
			if equal {
				a.KVHeads = k.IntOr("|num_global_key_value_heads", a.KVHeads)
			}
			a.KeyValue = equal || k.IsGGUF() && !k.HasTensor(arch.LayerName(i, "attn_v.weight"))
		}
		if k.Has("|per_layer_config") { // what stands there is all that differs
			at := fmt.Sprintf("|per_layer_config.%d.", i)
			a.KeyDim = k.IntOr(at+"head_dim", near)
			a.KVHeads = k.IntOr(at+"num_key_value_heads", kvHeads[i])
		}
		a.ValueDim = a.KeyDim
		if sliding[i] {
			a.Position = k.Rope(keys.RopeOf{
				HeadDim: a.KeyDim,
				Kind:    "sliding_attention",
				Base:    "rope.freq_base_swa|rope_local_base_freq",
				Count:   "rope.dimension_count_swa|",
				Plain:   true,
			})
		} else {
			a.Position = k.Rope(keys.RopeOf{HeadDim: a.KeyDim, Kind: "full_attention", Theta: 1e6})
		}
		out[i] = a
	}
	return out
}

// gemma4Hidden are the widths of the networks: those of layers that read others' keys and values can be twice as wide.
func gemma4Hidden(k *keys.Keys, from []int) []int {
	out := k.IntsOr("feed_forward_length|intermediate_size", len(from))
	if out == nil {
		k.Missing("feed_forward_length|intermediate_size")
		return make([]int, len(from))
	}
	wide := k.Bool("|use_double_wide_mlp", false)
	for i := range out {
		if wide && from[i] > 0 {
			out[i] *= 2
		}
	}
	return out
}

// gemma4Experts are those beside the network of every layer; none where the model has none.
func gemma4Experts(k *keys.Keys, act arch.Act) arch.MoE {
	if !k.IsGGUF() && !k.Bool("|enable_moe_block", false) || k.IsGGUF() && k.IntOr("expert_count|", 0) == 0 {
		return arch.MoE{}
	}
	return arch.MoE{
		Experts: k.Int("expert_count|num_experts"), Used: k.Int("expert_used_count|top_k_experts"),
		Hidden: k.Int("expert_feed_forward_length|moe_intermediate_size"), Act: act, Scaled: true, Bias: arch.Absent,
		Router: arch.Router{Kind: arch.Softmax, Normalise: true, Bias: arch.Absent},
	}
}
