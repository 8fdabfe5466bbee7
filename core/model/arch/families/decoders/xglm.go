package decoders

import (
	"math"

	"edged/core/model/arch"
	"edged/core/model/arch/family"
	"edged/core/model/arch/keys"
)

// xglm is XGLM (Lin et al. 2021): sinusoidal positions that begin at row 2, embeddings scaled by √width,
// LayerNorm before each half, a GELU network, biases everywhere. Folders only.
func xglm() family.Family {
	return family.Family{
		Names: []string{"xglm"},
		Modules: family.ModulesOf(
			"model.embed_tokens", "token_embd",
			"model.layer_norm", "output_norm",
			"lm_head", "output",
			"model.layers.N.self_attn_layer_norm", "blk.N.attn_norm",
			"model.layers.N.self_attn.q_proj", "blk.N.attn_q",
			"model.layers.N.self_attn.k_proj", "blk.N.attn_k",
			"model.layers.N.self_attn.v_proj", "blk.N.attn_v",
			"model.layers.N.self_attn.out_proj", "blk.N.attn_output",
			"model.layers.N.final_layer_norm", "blk.N.ffn_norm",
			"model.layers.N.fc1", "blk.N.ffn_up",
			"model.layers.N.fc2", "blk.N.ffn_down",
		),
		Ignored: []string{".embed_positions.weights"},
		Spec: func(k *keys.Keys) arch.Spec {
			k.Defaults(map[string]any{"num_attention_heads": int64(k.Int("|attention_heads"))})
			s := scaledDecoder(k, "|activation_function")
			s.Embed.Waves = arch.Waves{Rows: s.Context + 2, Last: true}
			return s
		},
	}
}

// biogpt is BioGPT (Luo et al. 2022): xglm with learned positions. Folders only.
func biogpt() family.Family {
	return family.Family{
		Names: []string{"biogpt"},
		Base:  "biogpt.",
		Modules: family.ModulesOf(
			"biogpt.embed_tokens", "token_embd",
			"biogpt.embed_positions", "position_embd",
			"biogpt.layer_norm", "output_norm",
			"output_projection", "output",
			"biogpt.layers.N.self_attn_layer_norm", "blk.N.attn_norm",
			"biogpt.layers.N.self_attn.q_proj", "blk.N.attn_q",
			"biogpt.layers.N.self_attn.k_proj", "blk.N.attn_k",
			"biogpt.layers.N.self_attn.v_proj", "blk.N.attn_v",
			"biogpt.layers.N.self_attn.out_proj", "blk.N.attn_output",
			"biogpt.layers.N.final_layer_norm", "blk.N.ffn_norm",
			"biogpt.layers.N.fc1", "blk.N.ffn_up",
			"biogpt.layers.N.fc2", "blk.N.ffn_down",
		),
		Spec: func(k *keys.Keys) arch.Spec {
			s := scaledDecoder(k, "|hidden_act")
			s.Embed.Positions = s.Context + 2
			return s
		},
	}
}

// scaledDecoder returns the common part of XGLM and BioGPT; both name a scale of the embedding that is √width
// where they do not say, and have norms of the library's usual epsilon whatever a folder says.
func scaledDecoder(k *keys.Keys, act string) arch.Spec {
	d := k.Decoder()
	const eps = 1e-5
	s := k.DecoderSpec(&d, arch.LN("output_norm", eps, arch.Required), true)
	s.Embed.Offset = 2
	if k.Bool("|scale_embedding", true) {
		s.Embed.Scale = float32(math.Sqrt(float64(max(d.Width, 0))))
	}
	if k.Bool("|add_cross_attention", false) {
		k.Unsupported("add_cross_attention")
	}
	a := d.Attention(nil)
	a.QKVBias, a.OutBias = arch.Required, arch.Required
	ffn := arch.MLP{Hidden: d.FFN, Act: k.Act(act, arch.GELUErf), Bias: arch.Required}
	for range k.LayerCount(d.Layers) {
		s.Add(arch.Sub{Pre: arch.LN("attn_norm", eps, arch.Required), Op: a}, arch.Sub{Pre: arch.LN("ffn_norm", eps, arch.Required), Op: ffn})
	}
	return s
}
