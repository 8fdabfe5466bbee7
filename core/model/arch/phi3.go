package arch

// phi3 is Phi-3, Phi-3.5, Phi-4 and Phi-4-mini (Microsoft 2024, 2025): llama with q, k and v in one matrix and gate and up in
// another, and where a model says so a part of each head turned only. A file's window is passed over, as llama.cpp does.
func phi3() Family {
	return Family{
		Names: []string{"phi3"},
		Modules: decoderModules().With(
			".self_attn.qkv_proj", "attn_qkv",
			".mlp.gate_up_proj", "ffn_up",
		),
		read: func(k *Keys) Spec {
			s := k.llamaLike(likeLlama{window: k.folderWindows(func(int) bool { return true })})
			s.Fixes = []Fix{splitQKV(1), splitGateUp()}
			return s
		},
	}
}

// splitQKV cuts queries, keys and values apart that stand in one matrix, see Split.
func splitQKV(groups int) Split {
	return Split{Of: "blk.N.attn_qkv", Into: []string{"blk.N.attn_q", "blk.N.attn_k", "blk.N.attn_v"}, Groups: groups}
}

// splitGateUp cuts a gated network's first matrices apart, the gate's rows first.
func splitGateUp() Split {
	return Split{Of: "blk.N.ffn_up", Into: []string{"blk.N.ffn_gate", "blk.N.ffn_up"}}
}

// folderWindows is windows for a family whose files' windows are not read.
func (k *Keys) folderWindows(def func(layer int) bool) []int {
	if k.IsGGUF() {
		return nil
	}
	return k.windows(def)
}
