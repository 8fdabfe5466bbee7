package decoders

import (
	"math"

	"edged/core/model/arch"
	"edged/core/model/arch/family"
	"edged/core/model/arch/keys"
)

// minicpm3 is MiniCPM3 (OpenBMB 2024): latent attention as DeepSeek-V2 has it, before gated networks, and
// minicpm's three factors. A file holds none of these: llama.cpp computes it with those of the published 4B.
func minicpm3() family.Family {
	return family.Family{
		Names:   []string{"minicpm3"},
		Modules: family.DecoderModules().With(family.LatentModules()...),
		Spec: func(k *keys.Keys) arch.Spec {
			k.Defaults(map[string]any{"scale_emb": 12.0, "scale_depth": 1.4, "dim_model_base": int64(256), "tie_word_embeddings": true})
			eps := k.RMSEps()
			d := keys.Dims{
				Layers: k.Int("block_count|num_hidden_layers"), Width: k.Int("embedding_length|hidden_size"),
				Heads: k.Int("attention.head_count|num_attention_heads"), FFN: k.Int("feed_forward_length|intermediate_size"),
				Context: k.Int("context_length|max_position_embeddings"),
			}
			a := arch.Latent{
				Heads: d.Heads, QRank: k.IntOr("attention.q_lora_rank|q_lora_rank", 0), KVRank: k.Int("attention.kv_lora_rank|kv_lora_rank"),
				RopeDim: k.Int("rope.dimension_count|qk_rope_head_dim"), Eps: 1e-6, // a constant of the class
			}
			a.ValueDim = k.IntOr("attention.value_length|v_head_dim", d.Width/max(d.Heads, 1))
			depth, base := 1.4, 256.0
			s := k.DecoderSpec(&d, arch.RMS("output_norm", eps), true)
			if s.Embed.Scale = 12; k.IsGGUF() {
				a.NopeDim, a.Eps = k.Int("attention.key_length|")-a.RopeDim, eps
			} else {
				a.NopeDim = k.Int("|qk_nope_head_dim")
				depth, base = k.Float("|scale_depth"), k.Float("|dim_model_base")
				s.Embed.Scale = float32(k.Float("|scale_emb"))
			}
			a.Position = k.Rope(keys.RopeOf{HeadDim: a.RopeDim})
			s.Head.Scale = float32(base / float64(max(d.Width, 1)))
			s.Fixes = []arch.Fix{arch.Expand{
				Of: "blk.N.attn_kv_b", IntoKeys: "blk.N.attn_k_b.E", IntoValues: "blk.N.attn_v_b.E",
				Heads: a.Heads, Keys: a.NopeDim, Values: a.ValueDim,
			}}
			scale := float32(depth / math.Sqrt(float64(max(d.Layers, 1))))
			ffn := arch.GLU{Hidden: d.FFN, Act: k.ActOf("|hidden_act", arch.SiLU)}
			for range k.LayerCount(d.Layers) {
				s.Add(arch.Sub{Pre: arch.RMS("attn_norm", eps), Op: a, Scale: scale}, arch.Sub{Pre: arch.RMS("ffn_norm", eps), Op: ffn, Scale: scale})
			}
			return s
		},
	}
}
