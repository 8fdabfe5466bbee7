package recurrent

import (
	"edged/core/model/arch"
	"edged/core/model/arch/families/mixtures"
	"edged/core/model/arch/family"
	"edged/core/model/arch/keys"
)

// kimilinear is Kimi Linear (Kimi Team 2025): three layers of four are delta nets that decay by key channel,
// the fourth is latent attention without positions, and experts are chosen as DeepSeek-V3 does. Folders only.
func kimilinear() family.Family {
	return family.Family{
		Names: []string{"kimi_linear"},
		Modules: family.DecoderModules().With(family.LatentModules()...).With(
			".self_attn.q_conv1d", arch.DeltaConvs[0],
			".self_attn.k_conv1d", arch.DeltaConvs[1],
			".self_attn.v_conv1d", arch.DeltaConvs[2],
			".self_attn.b_proj", "ssm_beta",
			".self_attn.f_a_proj", "ssm_f_a",
			".self_attn.f_b_proj", "ssm_f_b",
			".self_attn.g_a_proj", "ssm_g_a",
			".self_attn.g_b_proj", "ssm_g_b",
			".self_attn.dt_bias", "ssm_dt.bias",
			".self_attn.A_log", "ssm_a",
			".self_attn.o_norm", "ssm_norm",
			".block_sparse_moe.gate_proj", "ffn_gate", // of a dense layer, as transformers 5 writes it
			".block_sparse_moe.up_proj", "ffn_up",
			".block_sparse_moe.down_proj", "ffn_down",
			".block_sparse_moe.gate", "ffn_gate_inp",
			".block_sparse_moe.gate.e_score_correction_bias", "exp_probs_b.bias",
			".block_sparse_moe.experts.E.w1", "ffn_gate.E",
			".block_sparse_moe.experts.E.w2", "ffn_down.E",
			".block_sparse_moe.experts.E.w3", "ffn_up.E",
			".block_sparse_moe.shared_experts.gate_proj", "ffn_gate_shexp",
			".block_sparse_moe.shared_experts.up_proj", "ffn_up_shexp",
			".block_sparse_moe.shared_experts.down_proj", "ffn_down_shexp",
		),
		Spec: func(k *keys.Keys) arch.Spec {
			k.Defaults(map[string]any{
				"num_experts_per_tok": int64(
					k.IntOr("|num_experts_per_token", 8),
				),
				"n_shared_experts":        int64(k.IntOr("|num_shared_experts", 1)),
				"n_group":                 int64(k.IntOr("|num_expert_group", 1)),
				"norm_topk_prob":          k.Bool("|moe_renormalize", true),
				"max_position_embeddings": int64(k.IntOr("|model_max_length", 1<<20)),
				"routed_scaling_factor":   2.446,
			})
			d, eps := k.Decoder(), k.RMSEps()
			heads, dim := k.IntOr(
				"|linear_num_heads|linear_attn_config.num_heads",
				32,
			), k.IntOr(
				"|linear_head_dim|linear_attn_config.head_dim",
				128,
			)
			delta := arch.Delta{
				KeyHeads: heads, Heads: heads, KeyDim: dim, ValueDim: dim, Rank: dim, Logs: true, Eps: eps,
				Kernel: k.IntOr("|linear_conv_kernel_dim|linear_attn_config.short_conv_kernel_size", 4),
			}
			delta.Apart = convolutions(k, &delta)
			a := arch.Latent{
				Heads: d.Heads, QRank: k.IntOr("|q_lora_rank", 0), KVRank: k.Int("|kv_lora_rank"), NopeDim: k.Int("|qk_nope_head_dim"),
				RopeDim: k.Int("|qk_rope_head_dim"), ValueDim: k.Int("|v_head_dim"), Eps: 1e-6, // a constant of the class
			}
			s := k.DecoderSpec(&d, arch.RMS("output_norm", eps), false)
			s.Fixes = []arch.Fix{arch.Expand{
				Of: "blk.N.attn_kv_b", IntoKeys: "blk.N.attn_k_b.E", IntoValues: "blk.N.attn_v_b.E",
				Heads: a.Heads, Keys: a.NopeDim, Values: a.ValueDim,
			}}
			for i, recurrent := range kimiLayers(k, k.LayerCount(d.Layers)) {
				var mixer arch.Op = a
				if recurrent {
					mixer = delta
				}
				s.Add(
					arch.Sub{Pre: arch.RMS("attn_norm", eps), Op: mixer},
					arch.Sub{Pre: arch.RMS("ffn_norm", eps), Op: mixtures.DeepseekNetwork(k, &d, i)},
				)
			}
			return s
		},
	}
}

// kimiLayers says which layers have a state: layer_types, or as published the layers that linear_attn_config
// lists, counted from 1.
func kimiLayers(k *keys.Keys, layers int) []bool {
	if k.Has("|layer_types") || !k.Has("|linear_attn_config.kda_layers") {
		return recurrentLayers(k, layers)
	}
	out := make([]bool, layers)
	for _, n := range k.Floats("|linear_attn_config.kda_layers") {
		if i := int(n) - 1; i >= 0 && i < layers {
			out[i] = true
		}
	}
	return out
}
