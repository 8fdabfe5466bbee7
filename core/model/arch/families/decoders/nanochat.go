package decoders

import (
	"edged/core/model/arch"
	"edged/core/model/arch/family"
	"edged/core/model/arch/keys"
)

// nanochat is nanochat (Karpathy 2025): norms without weights, one of them over the embedding, rotations the
// other way round, an RMSNorm over each query and key head after them, a network of two matrices with ReLU²
// between them, and a cap on the logits. Folders only.
func nanochat() family.Family {
	return family.Family{
		Names: []string{"nanochat"},
		Modules: family.DecoderModules().With(
			".mlp.fc1", "ffn_up",
			".mlp.fc2", "ffn_down",
		),
		Spec: func(k *keys.Keys) arch.Spec {
			k.Defaults(map[string]any{"rms_norm_eps": 1e-6, "final_logit_softcapping": 15.0})
			d := k.Decoder()
			norm := arch.RMS("", k.RMSEps())
			s := k.DecoderSpec(&d, norm, false)
			s.Embed.Norm = norm
			s.Head.Cap = float32(k.FloatOr("|final_logit_softcapping", 0))
			rope := k.Rope(keys.RopeOf{HeadDim: d.HeadDim})
			rope.Reverse = true
			a := d.Attention(rope)
			a.QKVBias = k.RequiredIf("|attention_bias")
			a.OutBias = a.QKVBias
			a.QKNorm = arch.QKNorm{Of: arch.PerHead, Kind: arch.RMSNorm, Eps: norm.Eps, After: true, Bare: true}
			ffn := arch.MLP{Hidden: d.FFN, Act: k.Act("|hidden_act", arch.ReLUSquared)}
			for range k.LayerCount(d.Layers) {
				s.Add(arch.Sub{Pre: norm, Op: a}, arch.Sub{Pre: norm, Op: ffn})
			}
			return s
		},
	}
}
