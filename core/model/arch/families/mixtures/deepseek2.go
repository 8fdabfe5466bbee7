package mixtures

import (
	"math"

	"edged/core/model/arch"
	"edged/core/model/arch/family"
	"edged/core/model/arch/keys"
)

// deepseek2 is DeepSeek-V2, V3 and R1 and what is built like them (GLM-4.7-Flash): latent attention with a
// compressed cache, and from the first dense layers on a mixture of experts beside shared ones (DeepSeek-AI
// 2024, 2025).
func deepseek2() family.Family {
	return family.Family{
		Names:   []string{"deepseek2", "deepseek_v2", "deepseek_v3", "glm4_moe_lite"},
		GGUF:    "deepseek2",
		Modules: family.DecoderModules().With(family.SharedExpertModules()...).With(family.LatentModules()...),
		Spec: func(k *keys.Keys) arch.Spec {
			eps := k.RMSEps()
			d := keys.Dims{
				Layers: k.Int("block_count|num_hidden_layers") - k.DraftsCounted(), Width: k.Int("embedding_length|hidden_size"),
				Heads: k.Int("attention.head_count|num_attention_heads"), FFN: k.Int("feed_forward_length|intermediate_size"),
				Context: k.Int("context_length|max_position_embeddings"),
			}
			a := latentOp(k, &d, eps)
			s := arch.Spec{
				Width:   d.Width,
				Context: d.Context,
				Drafts:  k.Drafts(),
				Norm:    arch.RMS("output_norm", eps),
				Head:    arch.Head{Tied: k.Tied(false), Bias: arch.Absent},
			}
			s.Fixes = []arch.Fix{arch.Expand{
				Of: "blk.N.attn_kv_b", IntoKeys: "blk.N.attn_k_b.E", IntoValues: "blk.N.attn_v_b.E",
				Heads: a.Heads, Keys: a.NopeDim, Values: a.ValueDim,
			}}
			network := DeepseekNetwork
			if choosesBySoftmax(k) {
				network = deepseekV2Network
			}
			for i := range k.LayerCount(d.Layers) {
				s.Add(arch.Sub{Pre: arch.RMS("attn_norm", eps), Op: a}, arch.Sub{Pre: arch.RMS("ffn_norm", eps), Op: network(k, &d, i)})
			}
			return s
		},
	}
}

// choosesBySoftmax tells V2 from V3. A folder's model_type says it, except that older ones of V2 carry V3's
// fields; a file is V3's where it corrects its choice, also where it was converted from a folder that had
// lost scoring_func.
func choosesBySoftmax(k *keys.Keys) bool {
	if k.IsGGUF() {
		return !k.HasTensor(arch.LayerName(k.LeadingDense(), "exp_probs_b.bias"))
	}
	if f := k.String("|scoring_func"); f != "" {
		return f == "softmax"
	}
	return k.String("|model_type") == "deepseek_v2"
}

// deepseekV2Network is the feed-forward network of a layer of V2: weights are never renormalised.
func deepseekV2Network(k *keys.Keys, d *keys.Dims, layer int) arch.Op {
	if layer < k.LeadingDense() {
		return arch.GLU{Hidden: d.FFN, Act: k.ActOf("|hidden_act", arch.SiLU)}
	}
	how := arch.Router{Kind: arch.Softmax, BestOfGroup: 1, Scale: float32(k.FloatOr("|routed_scaling_factor", 1))}
	if k.IsGGUF() {
		how.BestOfGroup = 2 // as llama.cpp scores groups for every family
	}
	if k.IsGGUF() || k.String("|topk_method") == "group_limited_greedy" {
		how.Groups, how.UsedGroups = k.IntOr("expert_group_count|n_group", 1), k.IntOr("expert_group_used_count|topk_group", 1)
	}
	m := k.Mixture(d, how)
	m.Shared = k.SharedHidden(layer)
	return m
}

// latentOp reads the attention. A file made since llama.cpp computes it by the compressed cache gives the
// sizes of cached rows as key and value length and those of heads under other names; an older one gives those
// of heads.
func latentOp(k *keys.Keys, d *keys.Dims, eps float32) arch.Latent {
	a := arch.Latent{
		Heads: d.Heads, QRank: k.IntOr("attention.q_lora_rank|q_lora_rank", 0), KVRank: k.Int("attention.kv_lora_rank|kv_lora_rank"),
		RopeDim: k.Int("rope.dimension_count|qk_rope_head_dim"), Eps: 1e-6, // a constant of transformers' classes
	}
	if k.IsGGUF() {
		a.Eps = eps
		key := k.IntOr("attention.key_length_mla|", 0)
		if key > 0 {
			a.ValueDim = k.Int("attention.value_length_mla|")
		} else {
			key, a.ValueDim = k.Int("attention.key_length|"), k.Int("attention.value_length|")
		}
		a.NopeDim = key - a.RopeDim
	} else {
		a.NopeDim, a.ValueDim = k.Int("|qk_nope_head_dim"), k.Int("|v_head_dim")
	}
	a.Position = k.Rope(keys.RopeOf{HeadDim: a.RopeDim, Adjacent: k.IsGGUF() || k.Bool("|rope_interleave", true)})
	sharpen(k, &a)
	return a
}

// sharpen scales the scores of a context stretched by YaRN: by the square of 1 + 0.1·mscale_all_dim·ln(factor).
func sharpen(k *keys.Keys, a *arch.Latent) {
	s := &a.Position.Scaling
	if s.Kind != arch.YaRN {
		return
	}
	log := 0.1 * s.MScaleAll
	if k.IsGGUF() {
		log = k.FloatOr("rope.scaling.yarn_log_multiplier|", 0) // holds the 0.1 already
		if log != 0 {
			s.Amplitude = 1 // mscale and mscale_all_dim are equal in all that are published, and the file has one of them
		}
	}
	f := 1 + log*math.Log(max(s.Factor, 1))
	a.Scale = float32(f * f / math.Sqrt(float64(a.NopeDim+a.RopeDim)))
}
