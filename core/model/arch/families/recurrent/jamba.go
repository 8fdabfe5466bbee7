package recurrent

import (
	"edged/core/model/arch"
	"edged/core/model/arch/family"
	"edged/core/model/arch/keys"
)

// jamba is Jamba (AI21 Labs 2024): Mamba's mixer with norms of its own in most layers, attention without
// positions in every few, and behind either a gated network or, in every few layers, experts by a soft-max
// over all.
func jamba() family.Family {
	return family.Family{
		Names: []string{"jamba"},
		Modules: bamba().Modules.With(mamba1Parts(".mamba")...).With(
			".feed_forward.router", "ffn_gate_inp",
			".feed_forward.experts.E.gate_proj", "ffn_gate.E",
			".feed_forward.experts.E.up_proj", "ffn_up.E",
			".feed_forward.experts.E.down_proj", "ffn_down.E",
		),
		Spec: func(k *keys.Keys) arch.Spec {
			k.Defaults(map[string]any{
				"num_key_value_heads": int64(8), "rms_norm_eps": 1e-6, "max_position_embeddings": int64(262144), "mamba_d_state": int64(16),
				"num_experts": int64(16), "num_experts_per_tok": int64(2),
			})
			d := keys.Dims{
				Layers: k.Int("block_count|num_hidden_layers"), Width: k.Int("embedding_length|hidden_size"),
				Heads: k.Int("attention.head_count|num_attention_heads"), FFN: k.Int("feed_forward_length|intermediate_size"),
				Context: k.Int("context_length|max_position_embeddings"), Eps: k.RMSEps(),
			}
			d.HeadDim = k.HeadDim(d.Width, d.Heads)
			layers := k.LayerCount(d.Layers)
			heads, experts := jambaLayers(k, layers)
			a, act := d.Attention(nil), k.ActOf("|hidden_act", arch.SiLU)
			a.QKVBias, a.OutBias = arch.Absent, arch.Absent
			scan, s := mamba1Op(k, d.Width, arch.RMS("ssm", d.Eps)), k.DecoderSpec(&d, arch.RMS("output_norm", d.Eps), false)
			for i := range layers {
				var mixer, ffn arch.Op = scan, arch.GLU{Hidden: d.FFN, Act: act}
				if a.KVHeads = heads[i]; a.KVHeads > 0 {
					mixer = a
				}
				if experts[i] {
					ffn = k.Mixture(&d, arch.Router{Kind: arch.Softmax})
				}
				s.Add(arch.Sub{Pre: arch.RMS("attn_norm", d.Eps), Op: mixer}, arch.Sub{Pre: arch.RMS("ffn_norm", d.Eps), Op: ffn})
			}
			return s
		},
	}
}

// jambaLayers is the number of key heads of each layer's attention, 0 for a scan, and which layers have
// experts: a file lists the first and has a router for the second, a folder has a period and an offset for
// either.
func jambaLayers(k *keys.Keys, layers int) (heads []int, experts []bool) {
	experts = make([]bool, layers)
	if k.IsGGUF() {
		for i := range experts {
			experts[i] = k.HasTensor(arch.LayerName(i, "ffn_gate_inp.weight"))
		}
		return keyHeadsOf(k, layers, "", 0), experts
	}
	every := func(what string, period, offset int) func(int) bool {
		p, o := k.IntOr("|"+what+"_layer_period", period), k.IntOr("|"+what+"_layer_offset", offset)
		return func(layer int) bool { return p > 0 && layer%p == o }
	}
	heads = make([]int, layers)
	attends, mixes, n := every("attn", 8, 4), every("expert", 2, 1), k.IntOr("|num_key_value_heads", 8)
	many := k.IntOr("|num_experts", 0) > 1
	for i := range heads {
		if attends(i) {
			heads[i] = n
		}
		experts[i] = many && mixes(i)
	}
	return heads, experts
}
