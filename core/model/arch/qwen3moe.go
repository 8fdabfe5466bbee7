package arch

// qwen3moe is qwen3 with experts by a soft-max over all (Qwen3 technical report, 2025). llama.cpp renormalises the weights of
// the chosen whatever a file says; a folder says it in norm_topk_prob, which the published ones set.
func qwen3moe() Family {
	return Family{
		Names:   []string{"qwen3_moe", "qwen3moe"},
		GGUF:    "qwen3moe",
		Modules: decoderModules().With(qwenExperts()...),
		read: func(k *Keys) Spec {
			bias := k.given("|attention_bias")
			sparse := k.sparse()
			return k.llamaLike(likeLlama{qkvBias: bias, outBias: bias, qkNorm: true, window: k.qwenWindows(), ffn: func(d *Dims, layer int) Op {
				if !sparse(layer) {
					return GLU{Hidden: d.FFN, Act: k.ActOf("|hidden_act", SiLU)}
				}
				return k.mixture(d, Router{Kind: Softmax, Normalise: k.IsGGUF() || k.Bool("|norm_topk_prob", false)})
			}})
		},
	}
}
