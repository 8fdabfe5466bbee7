package decoders

import (
	"edged/core/model/arch"
	"edged/core/model/arch/family"
	"edged/core/model/arch/keys"
)

// internlm2 is InternLM 2 (Cai et al. 2024): llama; a folder holds queries, keys and values in one matrix,
// for each key head its queries, then the key, then the value.
func internlm2() family.Family {
	return family.Family{
		Names: []string{"internlm2"},
		Modules: family.ModulesOf(
			"model.tok_embeddings", "token_embd",
			"model.norm", "output_norm",
			"output", "output",
			"model.layers.N.attention_norm", "blk.N.attn_norm",
			"model.layers.N.attention.wqkv", "blk.N.attn_qkv",
			"model.layers.N.attention.wo", "blk.N.attn_output",
			"model.layers.N.ffn_norm", "blk.N.ffn_norm",
			"model.layers.N.feed_forward.w1", "blk.N.ffn_gate",
			"model.layers.N.feed_forward.w3", "blk.N.ffn_up",
			"model.layers.N.feed_forward.w2", "blk.N.ffn_down",
		),
		Permuted: true,
		Spec: func(k *keys.Keys) arch.Spec {
			s := family.Llama(k, family.LlamaOptions{Adjacent: k.IsGGUF()})
			if len(s.Layers) > 0 {
				if a, ok := s.Layers[0][0].Op.(arch.Attention); ok {
					s.Fixes = []arch.Fix{family.SplitQKV(a.KVHeads)}
				}
			}
			return s
		},
	}
}
