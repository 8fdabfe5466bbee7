package arch

// phimoe is Phi-3.5-MoE (Abdin et al. 2024): LayerNorms and biases throughout, and two experts by a sparse mixer. llama.cpp's files
// of it are computed there as another network (RMS norms, a plain soft-max), so that only the folder is served.
func phimoe() Family {
	return Family{
		Names:   []string{"phimoe"},
		Modules: mixtralModules(),
		read: func(k *Keys) Spec {
			if k.IsGGUF() {
				k.Unsupported("a GGUF file of PhiMoE, which llama.cpp computes as another network than the model: serve the Hugging Face folder")
				return Spec{}
			}
			d := k.Decoder()
			eps := float32(k.Float("|rms_norm_eps"))
			bias := k.given("|attention_bias")
			headBias := Absent
			if k.Bool("|lm_head_bias", false) {
				headBias = Required
			}
			a := Attention{
				Heads: d.Heads, KVHeads: d.KVHeads, KeyDim: d.HeadDim, ValueDim: d.HeadDim, QKVBias: bias, OutBias: bias,
				Position: k.Rope(RopeOf{HeadDim: d.HeadDim}),
			}
			m := k.mixture(&d, Router{Kind: SparseMixer, Jitter: float32(k.FloatOr("|router_jitter_noise", 0.01))})
			s := Spec{Width: d.Width, Context: d.Context, Norm: LN("output_norm", eps, Required), Head: Head{Tied: k.Tied(false), Bias: headBias}}
			windows := k.Windows(d.Layers, func(int) bool { return true })
			for i := range k.layers(d.Layers) {
				a.Window = windows[i]
				s.Add(Sub{Pre: LN("attn_norm", eps, Required), Op: a}, Sub{Pre: LN("ffn_norm", eps, Required), Op: m})
			}
			return s
		},
	}
}
