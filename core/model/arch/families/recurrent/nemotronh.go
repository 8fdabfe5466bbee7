package recurrent

import (
	"edged/core/model/arch"
	"edged/core/model/arch/family"
	"edged/core/model/arch/keys"
)

// nemotronh is Nemotron-H and Nemotron 3 Nano (NVIDIA 2025): each layer is one thing, Mamba-2's scan,
// attention without positions, a plain network with squared ReLU, or a mixture of such networks that chooses
// as DeepSeek-V3 does.
func nemotronh() family.Family {
	return family.Family{
		Names: []string{"nemotron_h", "nemotron_h_moe"},
		GGUF:  "nemotron_h",
		Base:  "backbone.",
		Modules: mamba2().Modules.With(
			"backbone.layers.N.mixer.q_proj", "blk.N.attn_q",
			"backbone.layers.N.mixer.k_proj", "blk.N.attn_k",
			"backbone.layers.N.mixer.v_proj", "blk.N.attn_v",
			"backbone.layers.N.mixer.o_proj", "blk.N.attn_output",
			"backbone.layers.N.mixer.up_proj", "blk.N.ffn_up",
			"backbone.layers.N.mixer.down_proj", "blk.N.ffn_down",
			"backbone.layers.N.mixer.gate", "blk.N.ffn_gate_inp",
			"backbone.layers.N.mixer.gate.e_score_correction_bias", "blk.N.exp_probs_b.bias",
			"backbone.layers.N.mixer.experts.E.up_proj", "blk.N.ffn_up.E",
			"backbone.layers.N.mixer.experts.E.down_proj", "blk.N.ffn_down.E",
			"backbone.layers.N.mixer.shared_experts.up_proj", "blk.N.ffn_up_shexp",
			"backbone.layers.N.mixer.shared_experts.down_proj", "blk.N.ffn_down_shexp",
		),
		Spec: func(k *keys.Keys) arch.Spec {
			k.Defaults(map[string]any{
				"mamba_num_heads": int64(
					128,
				),
				"mamba_head_dim": int64(64),
				"ssm_state_size": int64(128),
				"n_groups":       int64(8),
				"head_dim":       int64(128),
				"num_attention_heads": int64(
					32,
				),
				"num_key_value_heads":     int64(8),
				"max_position_embeddings": int64(4096),
				"layer_norm_epsilon":      1e-5,
				"time_step_min":           0.001,
			})
			if k.Has("|moe_latent_size") {
				k.Unsupported("moe_latent_size: experts that work on a narrower row")
			}
			eps := float32(
				k.FloatOr("attention.layer_norm_rms_epsilon|", k.FloatOr("attention.layer_norm_epsilon|layer_norm_epsilon", 1e-5)),
			)
			d := keys.Dims{
				Width: k.Int("embedding_length|hidden_size"), Heads: k.Int("attention.head_count|num_attention_heads"),
				Context: k.Int("context_length|max_position_embeddings"), FFN: k.IntOr("|intermediate_size", 0),
			}
			d.HeadDim = k.HeadDim(d.Width, d.Heads)
			scan, s := mamba2Op(k, d.Width, "|mamba_head_dim", eps), k.DecoderSpec(&d, arch.RMS("output_norm", eps), false)
			if !k.IsGGUF() { // the class passes over time_step_limit
				scan.Least, scan.Most = float32(k.FloatOr("|mamba_dt_min|time_step_min", 0)), 0
				scan.InBias = k.RequiredIf("|use_bias")
				scan.OutBias = scan.InBias
			}
			for i, kind := range nemotronLayers(k) {
				s.Add(arch.Sub{Pre: arch.RMS("attn_norm", eps), Op: nemotronPart(k, &d, scan, i, kind)})
			}
			return s
		},
	}
}

// nemotronLayer is the kind of a layer of Nemotron-H: M a scan, * attention, - a network, E a mixture, as its
// authors abbreviate them.
type nemotronLayer struct {
	kind byte
	size int // key heads of attention, width of a network
}

// nemotronPart is the operation of a layer.
func nemotronPart(k *keys.Keys, d *keys.Dims, scan arch.Mamba2, layer int, of nemotronLayer) arch.Op {
	switch of.kind {
	case 'M':
		return scan
	case '*':
		return arch.Attention{
			Heads:    d.Heads,
			KVHeads:  of.size,
			KeyDim:   d.HeadDim,
			ValueDim: d.HeadDim,
			QKVBias:  arch.Absent,
			OutBias:  arch.Absent,
		}
	case '-':
		return arch.MLP{Hidden: of.size, Act: k.ActOf("|mlp_hidden_act", arch.ReLUSquared), Bias: k.RequiredIf("|mlp_bias")}
	}
	m := k.Mixture(d, arch.Router{
		Kind: arch.Sigmoid, Corrected: true, Normalise: k.Bool("|norm_topk_prob", true), Add: 1e-20,
		Groups: k.IntOr("expert_group_count|n_group", 1), UsedGroups: k.IntOr("expert_group_used_count|topk_group", 1), BestOfGroup: 2,
		Scale: float32(k.FloatOr("|routed_scaling_factor", 1)),
	})
	m.Plain, m.Act = true, k.ActOf("|mlp_hidden_act", arch.ReLUSquared)
	m.Shared = k.IntOr("expert_shared_feed_forward_length|moe_shared_expert_intermediate_size", 0)
	if shape := k.Shape(arch.LayerName(layer, "ffn_up_shexp.weight")); len(shape) == 2 {
		m.Shared = shape[0]
	}
	return m
}

// nemotronLayers lists the layers. A file says by its numbers of key heads and widths which kind they are, a
// folder by a list or, as it was published first, by a text of one letter for each.
func nemotronLayers(k *keys.Keys) []nemotronLayer {
	if k.IsGGUF() {
		n := k.LayerCount(k.Int("block_count|"))
		heads, widths := k.IntsOr("attention.head_count_kv|", n), k.IntsOr("feed_forward_length|", n)
		if heads == nil || widths == nil {
			k.Missing("feed_forward_length|")
			return nil
		}
		out := make([]nemotronLayer, n)
		for i := range out {
			if shape := k.Shape(arch.LayerName(i, "ffn_up.weight")); len(shape) == 2 {
				widths[i] = shape[0] // beside mixtures the converter writes a 0 for a network
			}
			switch {
			case heads[i] > 0:
				out[i] = nemotronLayer{'*', heads[i]}
			case k.HasTensor(arch.LayerName(i, "ffn_gate_inp.weight")):
				out[i] = nemotronLayer{kind: 'E'}
			case widths[i] > 0:
				out[i] = nemotronLayer{'-', widths[i]}
			default:
				out[i] = nemotronLayer{kind: 'M'}
			}
		}
		return out
	}
	var kinds []byte
	if list := k.Strings("|layers_block_type|layer_types"); list != nil {
		for _, name := range list {
			kind := map[string]byte{"linear_attention": 'M', "mamba": 'M', "full_attention": '*', "attention": '*', "mlp": '-', "moe": 'E'}[name]
			if kind == 0 {
				k.Unsupported("layers_block_type has %q", name)
			}
			kinds = append(kinds, kind)
		}
	} else {
		kinds = []byte(k.String("|hybrid_override_pattern"))
	}
	out := make([]nemotronLayer, k.LayerCount(len(kinds)))
	for i := range out {
		switch out[i].kind = kinds[i]; kinds[i] {
		case '*':
			out[i].size = k.Int("|num_key_value_heads")
		case '-':
			out[i].size = k.Int("|intermediate_size")
		case 'M', 'E':
		default:
			k.Unsupported("hybrid_override_pattern has %q", string(kinds[i:i+1]))
		}
	}
	return out
}
