package arch

// qwen3 is llama with an RMSNorm over each query and key head before it is rotated (Qwen3 technical report, 2025). The head
// size is not width / heads in general.
func qwen3() Family {
	return Family{
		Names:   []string{"qwen3"},
		Modules: decoderModules(),
		read: func(k *Keys) Spec {
			k.dense()
			bias := k.given("|attention_bias")
			return k.llamaLike(likeLlama{qkvBias: bias, outBias: bias, mlpBias: k.given("|mlp_bias"), qkNorm: true, window: k.qwenWindows()})
		},
	}
}
