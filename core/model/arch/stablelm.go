package arch

// stablelm is StableLM 2 and 3B (Stability AI 2023): llama with LayerNorm and a quarter of each head turned; in some sizes
// attention and network beside each other, reading one norm. A file shows that by having no second norm.
func stablelm() Family {
	return Family{
		Names: []string{"stablelm"},
		Modules: decoderModules().With(
			".self_attn.q_layernorm.norms.E", "attn_q_norm.E",
			".self_attn.k_layernorm.norms.E", "attn_k_norm.E",
		),
		read: func(k *Keys) Spec {
			d, eps := k.Decoder(), k.LNEps(1e-5)
			s := k.decoderSpec(&d, LN("output_norm", eps, Required), false)
			s.Fixes = []Fix{Join{Of: "blk.N.attn_q_norm"}, Join{Of: "blk.N.attn_k_norm"}}
			a := d.attention(k.Rope(RopeOf{HeadDim: d.HeadDim, Partial: 0.25}))
			a.QKVBias = k.given("|use_qkv_bias")
			if k.Bool("|qk_layernorm", k.HasTensor("blk.0.attn_q_norm.weight")) {
				a.QKNorm = QKNorm{Of: EachHead, Kind: LayerNorm, Eps: eps}
			}
			net := Sub{Pre: LN("ffn_norm", eps, Required), Op: GLU{Hidden: d.FFN, Act: k.ActOf("|hidden_act", SiLU)}}
			parallel := k.Bool("|use_parallel_residual", false)
			if k.IsGGUF() {
				parallel = !k.HasTensor("blk.0.ffn_norm.weight")
			}
			if parallel {
				net.Pre, net.Wire = Norm{}, Shared
			}
			for range k.layers(d.Layers) {
				s.Add(Sub{Pre: LN("attn_norm", eps, Required), Op: a}, net)
			}
			return s
		},
	}
}
