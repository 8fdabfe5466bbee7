package decoders

import (
	"edged/core/model/arch"
	"edged/core/model/arch/family"
	"edged/core/model/arch/keys"
)

// stablelm is StableLM 2 and 3B (Stability AI 2023): llama with LayerNorm and a quarter of each head turned;
// in some sizes attention and network beside each other, reading one norm. A file shows that by having no
// second norm.
func stablelm() family.Family {
	return family.Family{
		Names: []string{"stablelm"},
		Modules: family.DecoderModules().With(
			".self_attn.q_layernorm.norms.E", "attn_q_norm.E",
			".self_attn.k_layernorm.norms.E", "attn_k_norm.E",
		),
		Spec: func(k *keys.Keys) arch.Spec {
			d, eps := k.Decoder(), k.LNEps(1e-5)
			s := k.DecoderSpec(&d, arch.LN("output_norm", eps, arch.Required), false)
			s.Fixes = []arch.Fix{arch.Join{Of: "blk.N.attn_q_norm"}, arch.Join{Of: "blk.N.attn_k_norm"}}
			a := d.Attention(k.Rope(keys.RopeOf{HeadDim: d.HeadDim, Partial: 0.25}))
			a.QKVBias = k.RequiredIf("|use_qkv_bias")
			if k.Bool("|qk_layernorm", k.HasTensor("blk.0.attn_q_norm.weight")) {
				a.QKNorm = arch.QKNorm{Of: arch.EachHead, Kind: arch.LayerNorm, Eps: eps}
			}
			net := arch.Sub{Pre: arch.LN("ffn_norm", eps, arch.Required), Op: arch.GLU{Hidden: d.FFN, Act: k.ActOf("|hidden_act", arch.SiLU)}}
			parallel := k.Bool("|use_parallel_residual", false)
			if k.IsGGUF() {
				parallel = !k.HasTensor("blk.0.ffn_norm.weight")
			}
			if parallel {
				net.Pre, net.Wire = arch.Norm{}, arch.Shared
			}
			for range k.LayerCount(d.Layers) {
				s.Add(arch.Sub{Pre: arch.LN("attn_norm", eps, arch.Required), Op: a}, net)
			}
			return s
		},
	}
}
