package recurrent

import (
	"math"

	"edged/core/model/arch"
	"edged/core/model/arch/family"
	"edged/core/model/arch/keys"
)

// recurrentgemma is RecurrentGemma (Botev et al. 2024), Griffin's network: two layers of three have
// real-gated linear recurrent units, the third attention with a window, half of whose heads turn; GeGLU,
// embeddings scaled by √width, norms stored as what is added to 1, a cap on the logits. Folders only.
func recurrentgemma() family.Family {
	return family.Family{
		Names: []string{"recurrent_gemma"},
		Modules: family.DecoderModules().With(
			"model.final_norm", "output_norm",
			".temporal_pre_norm", "attn_norm",
			".channel_pre_norm", "ffn_norm",
			".mlp_block.gate_proj", "ffn_gate",
			".mlp_block.up_proj", "ffn_up",
			".mlp_block.down_proj", "ffn_down",
			".temporal_block.q_proj", "attn_q",
			".temporal_block.k_proj", "attn_k",
			".temporal_block.v_proj", "attn_v",
			".temporal_block.o_proj", "attn_output",
			".temporal_block.linear_x", "lru_x",
			".temporal_block.linear_y", "lru_y",
			".temporal_block.linear_out", "lru_out",
			".temporal_block.conv_1d", "lru_conv",
			".temporal_block.rg_lru.input_gate_weight", "lru_in",
			".temporal_block.rg_lru.input_gate_bias", "lru_in.bias",
			".temporal_block.rg_lru.recurrent_gate_weight", "lru_rec",
			".temporal_block.rg_lru.recurrent_gate_bias", "lru_rec.bias",
			".temporal_block.rg_lru.recurrent_param", "lru_param",
		),
		Spec: func(k *keys.Keys) arch.Spec {
			k.Defaults(map[string]any{"max_position_embeddings": int64(8192), "rms_norm_eps": 1e-6})
			d, eps := k.Decoder(), k.RMSEps()
			act := k.Act("|hidden_activation", arch.GELUTanh)
			rec := arch.RGLRU{Width: k.IntOr("|lru_width", d.Width), Blocks: d.Heads, Kernel: k.IntOr("|conv1d_width", 4), Act: act}
			a := d.Attention(k.Rope(keys.RopeOf{HeadDim: d.HeadDim, Partial: 0.5}))
			a.Window, a.QKVBias, a.OutBias = k.IntOr("|attention_window_size", 2048), k.RequiredIf("|attention_bias"), arch.Required
			s := k.DecoderSpec(&d, arch.RMS("output_norm", eps), true)
			// The factor is kept in BF16 whatever the weights are.
			s.Embed.Scale = math.Float32frombits((math.Float32bits(float32(math.Sqrt(float64(max(d.Width, 0))))) + 0x8000) &^ 0xffff)
			s.Head.Cap = float32(k.FloatOr("|logits_soft_cap", 30))
			s.Fixes = []arch.Fix{
				arch.AddOne{Of: []string{"output_norm", "blk.N.attn_norm", "blk.N.ffn_norm"}},
				arch.Stack{Of: "blk.N.lru_in", Into: []string{"blk.N.lru_in.E"}, Transposed: true},
				arch.Stack{Of: "blk.N.lru_rec", Into: []string{"blk.N.lru_rec.E"}, Transposed: true},
			}
			kinds := k.Strings("|layer_types|block_types|_block_types")
			if kinds == nil {
				kinds = []string{"recurrent", "recurrent", "attention"}
			}
			ffn := arch.GLU{Hidden: d.FFN / 2, Act: act, Bias: arch.Required}
			for i := range k.LayerCount(d.Layers) {
				mixer := arch.Sub{Pre: arch.RMS("attn_norm", eps)}
				switch kind := kinds[i%len(kinds)]; kind {
				case "recurrent", "linear_attention":
					mixer.Op = rec
				case "attention", "sliding_attention":
					mixer.Op = a
				default:
					k.Unsupported("block_types has %q", kind)
				}
				s.Add(mixer, arch.Sub{Pre: arch.RMS("ffn_norm", eps), Op: ffn})
			}
			return s
		},
	}
}
