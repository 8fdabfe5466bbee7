package decoders

import (
	"edged/core/model/arch"
	"edged/core/model/arch/family"
	"edged/core/model/arch/keys"
)

// phi3 is Phi-3, Phi-3.5, Phi-4 and Phi-4-mini (Microsoft 2024, 2025): llama with q, k and v in one matrix
// and gate and up in another, and where a model says so a part of each head turned only. A file's window is
// passed over, as llama.cpp does.
func phi3() family.Family {
	return family.Family{
		Names: []string{"phi3"},
		Modules: family.DecoderModules().With(
			".self_attn.qkv_proj", "attn_qkv",
			".mlp.gate_up_proj", "ffn_up",
		),
		Spec: func(k *keys.Keys) arch.Spec {
			s := family.Llama(k, family.LlamaOptions{Window: k.FolderWindows(func(int) bool { return true })})
			s.Fixes = []arch.Fix{family.SplitQKV(1), family.SplitGateUp()}
			return s
		},
	}
}
