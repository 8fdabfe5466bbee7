package decoders

import (
	"edged/core/model/arch"
	"edged/core/model/arch/family"
	"edged/core/model/arch/keys"
)

// opt is OPT (Zhang et al. 2022): learned positions that begin at row 2, LayerNorm before each half (behind
// the sum in the 350M, whose embedding is narrower than its layers), a ReLU network. Folders only.
func opt() family.Family {
	return family.Family{
		Names: []string{"opt"},
		Modules: family.ModulesOf(
			"model.decoder.embed_tokens", "token_embd",
			"model.decoder.embed_positions", "position_embd",
			"model.decoder.final_layer_norm", "output_norm",
			"lm_head", "output",
			"model.decoder.project_in", arch.EmbedProj,
			"model.decoder.project_out", arch.HeadProj,
			"model.decoder.layers.N.self_attn_layer_norm", "blk.N.attn_norm",
			"model.decoder.layers.N.self_attn.q_proj", "blk.N.attn_q",
			"model.decoder.layers.N.self_attn.k_proj", "blk.N.attn_k",
			"model.decoder.layers.N.self_attn.v_proj", "blk.N.attn_v",
			"model.decoder.layers.N.self_attn.out_proj", "blk.N.attn_output",
			"model.decoder.layers.N.final_layer_norm", "blk.N.ffn_norm",
			"model.decoder.layers.N.fc1", "blk.N.ffn_up",
			"model.decoder.layers.N.fc2", "blk.N.ffn_down",
		),
		Spec: func(k *keys.Keys) arch.Spec {
			d := k.Decoder()
			const eps = 1e-5
			norm := func(name string) arch.Norm {
				if !k.Bool("|layer_norm_elementwise_affine", true) {
					return arch.LN("", eps, arch.Absent)
				}
				return arch.LN(name, eps, arch.Optional)
			}
			s := k.DecoderSpec(&d, norm("output_norm"), true)
			if s.Embed.Width = k.IntOr("|word_embed_proj_dim", d.Width); s.Embed.Width == d.Width {
				s.Embed.Width = 0
			}
			s.Embed.Positions, s.Embed.Offset = d.Context+2, 2
			a := d.Attention(nil)
			ffn := arch.MLP{Hidden: d.FFN, Act: k.Act("|activation_function", arch.ReLU)}
			before := k.Bool("|do_layer_norm_before", true)
			if !before || k.Bool("|_remove_final_layer_norm", false) {
				s.Norm = arch.Norm{}
			}
			for range k.LayerCount(d.Layers) {
				attn, net := arch.Sub{Op: a}, arch.Sub{Op: ffn}
				if before {
					attn.Pre, net.Pre = norm("attn_norm"), norm("ffn_norm")
				} else {
					attn.After, net.After = norm("attn_norm"), norm("ffn_norm")
				}
				s.Add(attn, net)
			}
			return s
		},
	}
}
