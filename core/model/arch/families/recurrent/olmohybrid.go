package recurrent

import (
	"edged/core/model/arch"
	"edged/core/model/arch/family"
	"edged/core/model/arch/keys"
)

// olmohybrid is OLMo Hybrid (OLMo Team 2026): three layers of four are gated delta nets whose corrections may
// be twice as large, behind norms, and the fourth is OLMo 2's, with norms behind its halves, mostly without
// positions. Folders only.
func olmohybrid() family.Family {
	return family.Family{
		Names: []string{"olmo_hybrid"},
		// A norm stands before the network of a layer with a delta net, and behind the attention of the
		// others; folders have both names for both: transformers 5.24 writes the second as the first.
		Modules: family.DecoderModules().With(
			".attention_layer_norm", "attn_norm",
			".feedforward_layer_norm", "post_attention_norm",
			".input_layernorm", "attn_norm",
			".post_attention_layernorm", "post_attention_norm",
			".post_feedforward_layernorm", "post_ffw_norm",
			".linear_attn.q_proj", "attn_q",
			".linear_attn.k_proj", "attn_k",
			".linear_attn.v_proj", "attn_v",
			".linear_attn.g_proj", "attn_gate",
			".linear_attn.b_proj", "ssm_beta",
			".linear_attn.a_proj", "ssm_alpha",
			".linear_attn.q_conv1d", arch.DeltaConvs[0],
			".linear_attn.k_conv1d", arch.DeltaConvs[1],
			".linear_attn.v_conv1d", arch.DeltaConvs[2],
			".linear_attn.dt_bias", "ssm_dt.bias",
			".linear_attn.A_log", "ssm_a",
			".linear_attn.o_norm", "ssm_norm",
			".linear_attn.o_proj", "ssm_out",
		),
		Spec: func(k *keys.Keys) arch.Spec {
			d, eps := k.Decoder(), k.RMSEps()
			keyHeads := k.IntOr("|linear_num_key_heads", d.Heads)
			delta := arch.Delta{
				KeyHeads: keyHeads,
				Heads:    k.IntOr("|linear_num_value_heads", d.Heads),
				KeyDim:   k.IntOr("|linear_key_head_dim", 3*d.Width/max(4*keyHeads, 1)),
				Kernel:   k.IntOr("|linear_conv_kernel_dim", 4),
				Logs:     true,
				Eps:      1e-5,
				Doubled:  k.Bool("|linear_allow_neg_eigval", true),
			}
			delta.ValueDim = k.IntOr("|linear_value_head_dim", 2*delta.KeyDim)
			delta.Apart = convolutions(k, &delta)
			a, bias := d.Attention(nil), k.RequiredIf("|attention_bias")
			if k.Has("|rope_parameters.rope_theta|rope_theta") {
				a.Position = k.Rope(keys.RopeOf{HeadDim: d.HeadDim})
			}
			a.QKNorm, a.QKVBias, a.OutBias = arch.QKNorm{Of: arch.WholeRow, Kind: arch.RMSNorm, Eps: eps}, bias, bias
			ffn := arch.GLU{Hidden: d.FFN, Act: k.ActOf("|hidden_act", arch.SiLU)}
			s := k.DecoderSpec(&d, arch.RMS("output_norm", eps), false)
			for _, recurrent := range recurrentLayers(k, k.LayerCount(d.Layers)) {
				if recurrent {
					s.Add(
						arch.Sub{Pre: arch.RMS("attn_norm", eps), Op: delta},
						arch.Sub{Pre: arch.RMS("post_attention_norm", eps), Op: ffn},
					)
				} else {
					s.Add(
						arch.Sub{Op: a, Post: arch.RMS("post_attention_norm", eps)},
						arch.Sub{Op: ffn, Post: arch.RMS("post_ffw_norm", eps)},
					)
				}
			}
			return s
		},
	}
}

// convolutions are the channels of a delta net's three convolutions, as the first layer that has them stores them.
func convolutions(k *keys.Keys, d *arch.Delta) [3]int {
	out := [3]int{d.KeyHeads * d.KeyDim, d.KeyHeads * d.KeyDim, d.Heads * d.ValueDim}
	for layer := range 8 {
		found := 0
		for i, name := range arch.DeltaConvs {
			if shape := k.Shape(arch.LayerName(layer, name+".weight")); len(shape) > 1 {
				out[i] = shape[0]
				found++
			}
		}
		if found == len(out) {
			break
		}
	}
	return out
}
