package decoders

import (
	"edged/core/model/arch"
	"edged/core/model/arch/family"
	"edged/core/model/arch/keys"
)

// phi is Phi-1.5 and Phi-2 (Microsoft 2023): attention and a GELU network beside each other, both reading one
// LayerNorm; a part of each head is turned; biases everywhere, the head's included.
func phi() family.Family {
	return family.Family{
		Names: []string{"phi", "phi2"},
		GGUF:  "phi2",
		Modules: family.DecoderModules().With(
			"model.final_layernorm", "output_norm",
			".self_attn.dense", "attn_output",
			".mlp.fc1", "ffn_up",
			".mlp.fc2", "ffn_down",
			".self_attn.q_layernorm", "attn_q_norm",
			".self_attn.k_layernorm", "attn_k_norm",
		),
		Spec: func(k *keys.Keys) arch.Spec {
			d, eps := k.Decoder(), k.LNEps(1e-5)
			s := k.DecoderSpec(&d, arch.LN("output_norm", eps, arch.Required), false)
			s.Head.Bias, s.Fixes = arch.Required, []arch.Fix{family.SplitQKV(1)}
			a := d.Attention(k.Rope(keys.RopeOf{HeadDim: d.HeadDim, Partial: 0.5}))
			a.QKVBias, a.OutBias = arch.Required, arch.Required
			if k.Bool("|qk_layernorm", false) {
				a.QKNorm = arch.QKNorm{Of: arch.PerHead, Kind: arch.LayerNorm, Eps: eps, Biased: true}
			}
			ffn := arch.MLP{Hidden: d.FFN, Act: k.ActOf("|hidden_act", arch.GELUTanh), Bias: arch.Required}
			for range k.LayerCount(d.Layers) {
				s.Add(arch.Sub{Pre: arch.LN("attn_norm", eps, arch.Required), Op: a}, arch.Sub{Op: ffn, Wire: arch.Shared})
			}
			return s
		},
	}
}
