package mixtures

import (
	"edged/core/model/arch"
	"edged/core/model/arch/families/decoders"
	"edged/core/model/arch/family"
	"edged/core/model/arch/keys"
)

// qwen2moe is qwen2 with experts by a soft-max over all, which is not renormalised, and one that every row
// goes through, weighted by a sigmoid (Qwen team 2024).
func qwen2moe() family.Family {
	return family.Family{
		Names: []string{"qwen2_moe", "qwen2moe"},
		GGUF:  "qwen2moe",
		Modules: family.DecoderModules().With(family.ExpertModules()...).With(
			".mlp.shared_expert.gate_proj", "ffn_gate_shexp",
			".mlp.shared_expert.up_proj", "ffn_up_shexp",
			".mlp.shared_expert.down_proj", "ffn_down_shexp",
			".mlp.shared_expert_gate", "ffn_gate_inp_shexp",
		),
		Spec: func(k *keys.Keys) arch.Spec {
			bias := arch.Required
			if !k.Bool("|qkv_bias", true) {
				bias = arch.Optional
			}
			sparse := k.Sparse()
			return family.Llama(k, family.LlamaOptions{QKVBias: bias, Window: decoders.QwenWindows(k), FFN: func(d *keys.Dims, layer int) arch.Op {
				if !sparse(layer) {
					return arch.GLU{Hidden: d.FFN, Act: k.ActOf("|hidden_act", arch.SiLU)}
				}
				m := k.Mixture(d, arch.Router{Kind: arch.Softmax, Normalise: k.Bool("|norm_topk_prob", false)})
				m.Shared, m.SharedGate = k.SharedHidden(layer), true
				return m
			}})
		},
	}
}
