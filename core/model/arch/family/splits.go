package family

import (
	"edged/core/model/arch"
)

// SplitQKV cuts queries, keys and values apart that stand in one matrix, see Split.
func SplitQKV(groups int) arch.Split {
	return arch.Split{Of: "blk.N.attn_qkv", Into: []string{"blk.N.attn_q", "blk.N.attn_k", "blk.N.attn_v"}, Groups: groups}
}

// SplitGateUp cuts a gated network's first matrices apart, the gate's rows first.
func SplitGateUp() arch.Split {
	return arch.Split{Of: "blk.N.ffn_up", Into: []string{"blk.N.ffn_gate", "blk.N.ffn_up"}}
}
