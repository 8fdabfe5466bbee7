package decoders

import (
	"encoding/json"
	"math"

	"edged/core/model/arch"
	"edged/core/model/arch/family"
	"edged/core/model/arch/keys"
)

// gemma3 is Gemma 3, its text part (Gemma Team 2025): gemma2 without caps, with an RMSNorm over each query
// and key head, and five layers with a window to one without, each kind with a rotation of its own: scaling
// settings belong to the layers without. A GGUF file has no query_pre_attn_scalar, see gemma2; there it is
// the 27B of 62 layers. EmbeddingGemma is an encoder with the same layers, which see both ways, half of the
// window to each side, and dense layers behind the pooling.
func gemma3() family.Family {
	return family.Family{
		Names:   []string{"gemma3", "gemma3_text", "gemma-embedding"},
		Modules: gemmaModules(),
		Spec: func(k *keys.Keys) arch.Spec {
			k.Defaults(map[string]any{ // published folders of 4B and more leave them out
				"num_attention_heads": json.Number("8"), "num_key_value_heads": json.Number("4"), "head_dim": json.Number("256"),
				"max_position_embeddings": json.Number("131072"), "rms_norm_eps": json.Number("1e-6"), "query_pre_attn_scalar": json.Number("256"),
			})
			both := k.Architecture() == "gemma-embedding" || k.Bool("|use_bidirectional_attention", false)
			d, eps := k.Decoder(), k.RMSEps()
			s := k.DecoderSpec(&d, arch.RMS("output_norm", eps), true)
			s.Embed.Scale, s.Fixes = float32(math.Sqrt(float64(d.Width))), gemmaOnes()
			s.Head.Cap = softCap(k, "final_logit_softcapping|final_logit_softcapping", 0)
			full := k.Rope(keys.RopeOf{HeadDim: d.HeadDim, Kind: "full_attention", Theta: 1e6})
			near := k.Rope(keys.RopeOf{HeadDim: d.HeadDim, Kind: "sliding_attention", Base: "rope.freq_base_swa|rope_local_base_freq", Plain: true})
			a := d.Attention(full)
			a.QKNorm = arch.QKNorm{Of: arch.PerHead, Kind: arch.RMSNorm, Eps: eps}
			a.Cap = softCap(k, "attn_logit_softcapping|attn_logit_softcapping", 0)
			a.Scale = gemmaScale(k, &d, 62)
			ffn := arch.GLU{Hidden: d.FFN, Act: k.ActOf("|hidden_activation", arch.GELUTanh)}
			period := k.IntOr("|_sliding_window_pattern|sliding_window_pattern", 6)
			for _, window := range k.Windows(d.Layers, keys.EveryNth(period)) {
				if a.Window, a.Position = window, full; window > 0 {
					a.Position = near
				}
				if a.Both = both; both {
					a.Window = window / 2
				}
				s.Add(
					arch.Sub{Pre: arch.RMS("attn_norm", eps), Op: a, Post: arch.RMS("post_attention_norm", eps)},
					arch.Sub{Pre: arch.RMS("ffn_norm", eps), Op: ffn, Post: arch.RMS("post_ffw_norm", eps)},
				)
			}
			if both {
				e := k.EncoderSpec(&d)
				s.Kind, s.Pool, s.Dense, s.Head = e.Kind, e.Pool, e.Dense, arch.Head{}
			}
			return s
		},
	}
}
