package recurrent

import (
	"edged/core/model/arch"
	"edged/core/model/arch/family"
	"edged/core/model/arch/keys"
)

// lfm2 is LFM2 and LFM2.5 (Liquid AI 2025): short convolutions instead of attention in most layers, an
// RMSNorm over each query and key head in the others, SwiGLU. The norm before the head has the name of one
// behind the embedding.
func lfm2() family.Family {
	return family.Family{
		Names:   []string{"lfm2"},
		Modules: lfm2Modules(),
		Spec: func(k *keys.Keys) arch.Spec {
			return lfm2Spec(k, func(d *keys.Dims, _ int) arch.Op { return arch.GLU{Hidden: d.FFN} })
		},
	}
}

// lfm2Modules are the names of modules of this line.
func lfm2Modules() family.Modules {
	return family.DecoderModules().With(
		"model.embedding_norm", "token_embd_norm",
		".operator_norm", "attn_norm",
		".ffn_norm", "ffn_norm",
		".self_attn.out_proj", "attn_output",
		".self_attn.q_layernorm", "attn_q_norm",
		".self_attn.k_layernorm", "attn_k_norm",
		".conv.in_proj", "shortconv.in_proj",
		".conv.conv", "shortconv.conv",
		".conv.out_proj", "shortconv.out_proj",
		".feed_forward.w1", "ffn_gate",
		".feed_forward.w2", "ffn_down",
		".feed_forward.w3", "ffn_up",
	)
}

// lfm2Spec reads what the family's members have in common.
func lfm2Spec(k *keys.Keys, ffn func(d *keys.Dims, layer int) arch.Op) arch.Spec {
	d := keys.Dims{
		Layers:  k.Int("block_count|num_hidden_layers"),
		Width:   k.Int("embedding_length|hidden_size"),
		Heads:   k.Int("attention.head_count|num_attention_heads"),
		FFN:     k.Int("feed_forward_length|intermediate_size|block_ff_dim"),
		Context: k.Int("context_length|max_position_embeddings"),
	}
	d.HeadDim = k.HeadDim(d.Width, d.Heads)
	d.FFN = adjustedHidden(k, d.FFN)
	eps := float32(k.FloatOr("attention.layer_norm_rms_epsilon|norm_eps|block_norm_eps", 1e-5))
	conv := arch.ShortConv{Kernel: k.IntOr("shortconv.l_cache|conv_L_cache", 3), Bias: arch.Absent}
	if k.Bool("|conv_bias", false) {
		conv.Bias = arch.Required
	}
	s := k.DecoderSpec(&d, arch.RMS("token_embd_norm", eps), true)
	rope := k.Rope(keys.RopeOf{HeadDim: d.HeadDim, Theta: 1e6})
	layers := k.LayerCount(d.Layers)
	heads := keyHeads(k, layers)
	for i := range layers {
		var mixer arch.Op = conv
		if n := heads[i]; n > 0 {
			mixer = arch.Attention{
				Heads: d.Heads, KVHeads: n, KeyDim: d.HeadDim, ValueDim: d.HeadDim, Position: rope,
				QKNorm: arch.QKNorm{Of: arch.PerHead, Kind: arch.RMSNorm, Eps: eps}, QKVBias: arch.Absent, OutBias: arch.Absent,
				Window: k.IntOr("attention.sliding_window|", 0),
			}
		}
		s.Add(arch.Sub{Pre: arch.RMS("attn_norm", eps), Op: mixer}, arch.Sub{Pre: arch.RMS("ffn_norm", eps), Op: ffn(&d, i)})
	}
	return s
}

// adjustedHidden is the width of the feed-forward network: a folder may hold one of which two thirds count, rounded up.
func adjustedHidden(k *keys.Keys, ffn int) int {
	if k.IsGGUF() || !k.Bool("|block_auto_adjust_ff_dim", true) {
		return ffn
	}
	ffn = 2 * ffn / 3
	if f := k.FloatOr("|block_ffn_dim_multiplier", 1); f > 0 && f < 64 {
		ffn = int(f * float64(ffn))
	}
	m := k.IntOr("|block_multiple_of", 256)
	if m < 1 || m > arch.MaxFFN {
		k.Invalid("block_multiple_of is %d", m)
		return ffn
	}
	return (ffn + m - 1) / m * m
}

// keyHeads is the number of key heads of each layer's attention, 0 for a layer with a convolution.
func keyHeads(k *keys.Keys, layers int) []int {
	if k.IsGGUF() {
		if heads := k.IntsOr("attention.head_count_kv|", layers); heads != nil {
			return heads
		}
		k.Missing("attention.head_count_kv|")
		return make([]int, layers)
	}
	out := make([]int, layers)
	n := k.IntOr("|num_key_value_heads", 8)
	if kinds := k.Kinds(layers); kinds != nil {
		for i := range out {
			switch kinds[i] {
			case "conv":
			case "full_attention":
				out[i] = n
			default:
				k.Unsupported("layer_types has %q", kinds[i])
			}
		}
		return out
	}
	if !k.Has("|full_attn_idxs") {
		for i := range out {
			out[i] = n
		}
		return out
	}
	for _, at := range k.Floats("|full_attn_idxs") {
		if i := int(at); i >= 0 && i < layers {
			out[i] = n
		}
	}
	return out
}
