package encoders

import (
	"edged/core/model/arch"
	"edged/core/model/arch/family"
	"edged/core/model/arch/keys"
)

// nomicbert is nomic-embed-text v1 and v1.5 (Nussbaum et al. 2024): BERT with a rotation in place of learned
// positions and a gated network, without biases but those of norms. Published folders use GPT-2's names of
// settings.
func nomicbert() family.Family {
	return family.Family{
		Names: []string{"nomic_bert", "nomic-bert"},
		GGUF:  "nomic-bert",
		Modules: family.ModulesOf(
			"model.embeddings.word_embeddings", "token_embd",
			"model.embeddings.token_type_embeddings", "token_types",
			"model.emb_ln", "token_embd_norm",
			"model.encoder.layers.N.attn.Wqkv", "blk.N.attn_qkv",
			"model.encoder.layers.N.attn.out_proj", "blk.N.attn_output",
			"model.encoder.layers.N.norm1", "blk.N.attn_output_norm",
			"model.encoder.layers.N.mlp.fc11", "blk.N.ffn_up",
			"model.encoder.layers.N.mlp.fc12", "blk.N.ffn_gate",
			"model.encoder.layers.N.mlp.fc2", "blk.N.ffn_down",
			"model.encoder.layers.N.norm2", "blk.N.layer_output_norm",
		),
		Ignored: []string{"embeddings.position_ids"},
		Spec: func(k *keys.Keys) arch.Spec {
			d, eps := k.Decoder(), k.LNEps(1e-12)
			switch act := k.String("|activation_function"); act {
			case "", "swiglu":
				k.ActOf("|hidden_act", arch.SiLU)
			default:
				k.Unsupported("activation_function %q with this family", act)
			}
			for _, key := range []string{"prenorm", "rotary_emb_interleaved", "parallel_block", "use_rms_norm"} {
				if k.Bool("|"+key, false) {
					k.Unsupported("%s is true", key)
				}
			}
			if f := k.FloatOr("|rotary_scaling_factor", 1); f != 1 {
				k.Unsupported("rotary_scaling_factor %g", f)
			}
			if k.IntOr("moe_every_n_layers|moe_every_n_layers", 0) > 0 {
				k.Unsupported("%s: layers of experts", k.Say("moe_every_n_layers|moe_every_n_layers"))
			}
			s := k.EncoderSpec(&d)
			s.Embed.Norm = arch.LN("token_embd_norm", eps, arch.Optional)
			s.Fixes = []arch.Fix{family.SplitQKV(1)}
			a := d.Attention(
				k.Rope(
					keys.RopeOf{
						HeadDim: d.HeadDim,
						Theta:   1000,
						Partial: k.FloatOr("|rotary_emb_fraction", 1),
						Base:    "rope.freq_base|rotary_emb_base|rope_theta",
					},
				),
			)
			a.Both = true
			ffn := arch.GLU{Hidden: d.FFN}
			for range k.LayerCount(d.Layers) {
				s.Add(
					arch.Sub{Op: a, After: arch.LN("attn_output_norm", eps, arch.Optional)},
					arch.Sub{Op: ffn, After: arch.LN("layer_output_norm", eps, arch.Optional)},
				)
			}
			return s
		},
	}
}
