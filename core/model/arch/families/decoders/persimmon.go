package decoders

import (
	"edged/core/model/arch"
	"edged/core/model/arch/family"
	"edged/core/model/arch/keys"
)

// persimmon is Persimmon (Adept 2023): LayerNorm, biases everywhere, a LayerNorm over each query and key
// head, half of each head turned, and a network of two matrices with ReLU² between them. A folder holds q, k
// and v of one head after the other. Folders only.
func persimmon() family.Family {
	return family.Family{
		Names: []string{"persimmon"},
		Modules: family.DecoderModules().With(
			"model.final_layernorm", "output_norm",
			".self_attn.query_key_value", "attn_qkv",
			".self_attn.dense", "attn_output",
			".self_attn.q_layernorm", "attn_q_norm",
			".self_attn.k_layernorm", "attn_k_norm",
			".mlp.dense_h_to_4h", "ffn_up",
			".mlp.dense_4h_to_h", "ffn_down",
		),
		Spec: func(k *keys.Keys) arch.Spec {
			d, eps := k.Decoder(), k.LNEps(1e-5)
			s := k.DecoderSpec(&d, arch.LN("output_norm", eps, arch.Required), false)
			s.Fixes = []arch.Fix{family.SplitQKV(d.Heads)}
			a := d.Attention(k.Rope(keys.RopeOf{HeadDim: d.HeadDim, Partial: 0.5, Theta: 25000}))
			a.QKVBias, a.OutBias = arch.Required, arch.Required
			if k.Bool("|qk_layernorm", true) {
				a.QKNorm = arch.QKNorm{Of: arch.PerHead, Kind: arch.LayerNorm, Eps: eps, Biased: true}
			}
			ffn := arch.MLP{Hidden: d.FFN, Act: k.Act("|hidden_act", arch.ReLUSquared), Bias: arch.Required}
			for range k.LayerCount(d.Layers) {
				s.Add(arch.Sub{Pre: arch.LN("attn_norm", eps, arch.Required), Op: a}, arch.Sub{Pre: arch.LN("ffn_norm", eps, arch.Required), Op: ffn})
			}
			return s
		},
	}
}
