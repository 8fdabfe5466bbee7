package mixtures

import (
	"edged/core/model/arch"
	"edged/core/model/arch/families/decoders"
	"edged/core/model/arch/family"
	"edged/core/model/arch/keys"
)

// phimoe is Phi-3.5-MoE (Abdin et al. 2024): LayerNorms and biases throughout, and two experts by a sparse
// mixer. llama.cpp's files of it are computed there as another network (RMS norms, a plain soft-max), so that
// only the folder is served.
func phimoe() family.Family {
	return family.Family{
		Names:   []string{"phimoe"},
		Modules: decoders.MixtralModules(),
		Spec: func(k *keys.Keys) arch.Spec {
			if k.IsGGUF() {
				k.Unsupported(
					"a GGUF file of PhiMoE, which llama.cpp computes as another network than the model: serve the Hugging Face folder",
				)
				return arch.Spec{}
			}
			d := k.Decoder()
			eps := float32(k.Float("|rms_norm_eps"))
			bias := k.RequiredIf("|attention_bias")
			headBias := arch.Absent
			if k.Bool("|lm_head_bias", false) {
				headBias = arch.Required
			}
			a := arch.Attention{
				Heads: d.Heads, KVHeads: d.KVHeads, KeyDim: d.HeadDim, ValueDim: d.HeadDim, QKVBias: bias, OutBias: bias,
				Position: k.Rope(keys.RopeOf{HeadDim: d.HeadDim}),
			}
			m := k.Mixture(&d, arch.Router{Kind: arch.SparseMixer, Jitter: float32(k.FloatOr("|router_jitter_noise", 0.01))})
			s := arch.Spec{
				Width:   d.Width,
				Context: d.Context,
				Norm:    arch.LN("output_norm", eps, arch.Required),
				Head:    arch.Head{Tied: k.Tied(false), Bias: headBias},
			}
			windows := k.Windows(d.Layers, func(int) bool { return true })
			for i := range k.LayerCount(d.Layers) {
				a.Window = windows[i]
				s.Add(
					arch.Sub{Pre: arch.LN("attn_norm", eps, arch.Required), Op: a},
					arch.Sub{Pre: arch.LN("ffn_norm", eps, arch.Required), Op: m},
				)
			}
			return s
		},
	}
}
