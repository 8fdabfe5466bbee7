package recurrent

import (
	"edged/core/model/arch"
	"edged/core/model/arch/family"
	"edged/core/model/arch/keys"
)

// bamba is Bamba (IBM, Princeton, CMU and UIUC 2024): Mamba-2's scan in most layers, attention in a few,
// which turns half of a head, and a gated network behind each. llama.cpp's converter writes it as a Granite
// hybrid, whose rotation is another: a file is what it says.
func bamba() family.Family {
	return family.Family{
		Names: []string{"bamba"},
		GGUF:  "granitehybrid",
		Modules: family.DecoderModules().With(
			"model.final_layernorm", "output_norm",
			".pre_ff_layernorm", "ffn_norm",
			".feed_forward.gate_proj", "ffn_gate",
			".feed_forward.up_proj", "ffn_up",
			".feed_forward.down_proj", "ffn_down",
		).With(scanParts(".mamba")...),
		Spec: func(k *keys.Keys) arch.Spec {
			k.Defaults(map[string]any{
				"mamba_n_heads": int64(128), "mamba_d_state": int64(256), "num_key_value_heads": int64(8), "max_position_embeddings": int64(262144),
				"rms_norm_eps": 1e-5,
			})
			d, eps := k.Decoder(), k.RMSEps()
			a := d.Attention(k.Rope(keys.RopeOf{HeadDim: d.HeadDim, Partial: 0.5}))
			a.QKVBias, a.OutBias = k.RequiredIf("|attention_bias"), k.RequiredIf("|attention_bias")
			scan, s := mamba2Op(k, d.Width, "|mamba_d_head", eps), k.DecoderSpec(&d, arch.RMS("output_norm", eps), false)
			ffn := arch.GLU{Hidden: d.FFN, Act: k.ActOf("|hidden_act", arch.SiLU), Bias: k.RequiredIf("|mlp_bias")}
			attends := map[int]bool{}
			for _, at := range k.Floats("|attn_layer_indices") {
				attends[int(at)] = true
			}
			for i := range k.LayerCount(d.Layers) {
				var mixer arch.Op = scan
				if attends[i] {
					mixer = a
				}
				s.Add(arch.Sub{Pre: arch.RMS("attn_norm", eps), Op: mixer}, arch.Sub{Pre: arch.RMS("ffn_norm", eps), Op: ffn})
			}
			return s
		},
	}
}
