package arch

// bamba is Bamba (IBM, Princeton, CMU and UIUC 2024): Mamba-2's scan in most layers, attention in a few, which turns half of a head, and a
// gated network behind each. llama.cpp's converter writes it as a Granite hybrid, whose rotation is another: a file is what it says.
func bamba() Family {
	return Family{
		Names: []string{"bamba"},
		GGUF:  "granitehybrid",
		Modules: decoderModules().With(
			"model.final_layernorm", "output_norm",
			".pre_ff_layernorm", "ffn_norm",
			".feed_forward.gate_proj", "ffn_gate",
			".feed_forward.up_proj", "ffn_up",
			".feed_forward.down_proj", "ffn_down",
		).With(scanParts(".mamba")...),
		read: func(k *Keys) Spec {
			k.Defaults(map[string]any{
				"mamba_n_heads": int64(128), "mamba_d_state": int64(256), "num_key_value_heads": int64(8), "max_position_embeddings": int64(262144),
				"rms_norm_eps": 1e-5,
			})
			d, eps := k.Decoder(), k.RMSEps()
			a := d.attention(k.Rope(RopeOf{HeadDim: d.HeadDim, Partial: 0.5}))
			a.QKVBias, a.OutBias = k.given("|attention_bias"), k.given("|attention_bias")
			scan, s := k.mamba2(d.Width, "|mamba_d_head", eps), k.decoderSpec(&d, RMS("output_norm", eps), false)
			ffn := GLU{Hidden: d.FFN, Act: k.ActOf("|hidden_act", SiLU), Bias: k.given("|mlp_bias")}
			attends := map[int]bool{}
			for _, at := range k.Floats("|attn_layer_indices") {
				attends[int(at)] = true
			}
			for i := range k.layers(d.Layers) {
				var mixer Op = scan
				if attends[i] {
					mixer = a
				}
				s.Add(Sub{Pre: RMS("attn_norm", eps), Op: mixer}, Sub{Pre: RMS("ffn_norm", eps), Op: ffn})
			}
			return s
		},
	}
}
