package arch

import (
	"encoding/json"
	"math"
)

// gemma3 is Gemma 3, its text part (Gemma Team 2025): gemma2 without caps, with an RMSNorm over each query and key head, and five
// layers with a window to one without, each kind with a rotation of its own: scaling settings belong to the layers without. A GGUF
// file has no query_pre_attn_scalar, see gemma2; there it is the 27B of 62 layers. EmbeddingGemma is an encoder with the same layers, which
// see both ways, half of the window to each side, and dense layers behind the pooling.
func gemma3() Family {
	return Family{
		Names:   []string{"gemma3", "gemma3_text", "gemma-embedding"},
		Modules: gemmaModules(),
		read: func(k *Keys) Spec {
			k.Defaults(map[string]any{ // published folders of 4B and more leave them out
				"num_attention_heads": json.Number("8"), "num_key_value_heads": json.Number("4"), "head_dim": json.Number("256"),
				"max_position_embeddings": json.Number("131072"), "rms_norm_eps": json.Number("1e-6"), "query_pre_attn_scalar": json.Number("256"),
			})
			both := k.arch == "gemma-embedding" || k.Bool("|use_bidirectional_attention", false)
			d, eps := k.Decoder(), k.RMSEps()
			s := k.decoderSpec(&d, RMS("output_norm", eps), true)
			s.Embed.Scale, s.Fixes = float32(math.Sqrt(float64(d.Width))), gemmaOnes()
			s.Head.Cap = k.cap("final_logit_softcapping|final_logit_softcapping", 0)
			full := k.Rope(RopeOf{HeadDim: d.HeadDim, Kind: "full_attention", Theta: 1e6})
			near := k.Rope(RopeOf{HeadDim: d.HeadDim, Kind: "sliding_attention", Base: "rope.freq_base_swa|rope_local_base_freq", Plain: true})
			a := d.attention(full)
			a.QKNorm = QKNorm{Of: PerHead, Kind: RMSNorm, Eps: eps}
			a.Cap = k.cap("attn_logit_softcapping|attn_logit_softcapping", 0)
			a.Scale = k.gemmaScale(&d, 62)
			ffn := GLU{Hidden: d.FFN, Act: k.ActOf("|hidden_activation", GELUTanh)}
			period := k.IntOr("|_sliding_window_pattern|sliding_window_pattern", 6)
			for _, window := range k.Windows(d.Layers, everyNth(period)) {
				if a.Window, a.Position = window, full; window > 0 {
					a.Position = near
				}
				if a.Both = both; both {
					a.Window = window / 2
				}
				s.Add(
					Sub{Pre: RMS("attn_norm", eps), Op: a, Post: RMS("post_attention_norm", eps)},
					Sub{Pre: RMS("ffn_norm", eps), Op: ffn, Post: RMS("post_ffw_norm", eps)},
				)
			}
			if both {
				e := k.encoderSpec(&d)
				s.Kind, s.Pool, s.Dense, s.Head = e.Kind, e.Pool, e.Dense, Head{}
			}
			return s
		},
	}
}
