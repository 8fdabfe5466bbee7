package recurrent

import (
	"edged/core/model/arch"
	"edged/core/model/arch/families/decoders"
	"edged/core/model/arch/family"
	"edged/core/model/arch/keys"
)

// minimax is MiniMax-Text-01 and M1 (MiniMax 2025): Mixtral's network with linear attention whose heads
// forget at fixed rates in most layers, and residuals from behind the norms, each kind of part with factors
// of its own. Folders only.
func minimax() family.Family {
	return family.Family{
		Names: []string{"minimax"},
		Modules: decoders.MixtralModules().With(
			".self_attn.qkv_proj", "attn_qkv",
			".self_attn.output_gate", "attn_gate",
			".self_attn.norm", "attn_sub_norm",
			".self_attn.out_proj", "attn_output",
		),
		// They follow from the number of heads and the layer.
		Ignored: []string{".self_attn.slope_rate", ".self_attn.query_decay", ".self_attn.key_decay", ".self_attn.diagonal_decay"},
		Spec: func(k *keys.Keys) arch.Spec {
			d, eps := k.Decoder(), k.RMSEps()
			a := d.Attention(k.Rope(keys.RopeOf{HeadDim: d.HeadDim, Theta: 1e6}))
			a.Window = k.IntOr("|sliding_window", 0)
			k.ActOf("|hidden_act", arch.SiLU)
			network := arch.Sub{
				Pre: arch.RMS("ffn_norm", eps), FromNorm: true,
				Op: arch.MoE{Experts: k.IntOr("|num_local_experts", 8), Used: k.IntOr("|num_experts_per_tok", 2), Hidden: d.FFN},
			}
			network.Keep, network.Scale = factors(k, "mlp")
			s := k.DecoderSpec(&d, arch.RMS("output_norm", eps), false)
			s.Fixes = []arch.Fix{family.SplitQKV(d.Heads)}
			for i, linear := range minimaxLayers(k, k.LayerCount(d.Layers)) {
				mixer := arch.Sub{Pre: arch.RMS("attn_norm", eps), FromNorm: true, Op: a}
				mixer.Keep, mixer.Scale = factors(k, "full_attn")
				if linear {
					mixer.Keep, mixer.Scale = factors(k, "linear_attn")
					mixer.Op = arch.Lightning{
						Heads:   d.Heads,
						HeadDim: d.HeadDim,
						Slope:   float32(1 - float64(i)/(float64(d.Layers-1)+1e-5) + 1e-5),
						Eps:     1e-6, // of the class
					}
				}
				s.Add(mixer, network)
			}
			return s
		},
	}
}

// factors returns the factors of the residual and of the result of a kind of part.
func factors(k *keys.Keys, of string) (keep, scale float32) {
	return float32(
			k.FloatOr("|"+of+"_alpha_factor|layernorm_"+of+"_alpha", 1),
		), float32(
			k.FloatOr("|"+of+"_beta_factor|layernorm_"+of+"_beta", 1),
		)
}

// minimaxLayers says which layers have a state; every second one where the folder does not say it.
func minimaxLayers(k *keys.Keys, layers int) []bool {
	out := make([]bool, layers)
	kinds, published := k.Kinds(layers), k.IntsOr("|attn_type_list", layers)
	for i := range out {
		switch {
		case kinds != nil:
			if out[i] = kinds[i] == "linear_attention"; !out[i] && kinds[i] != "full_attention" {
				k.Unsupported("layer_types has %q", kinds[i])
			}
		case published != nil:
			out[i] = published[i] == 0
		default:
			out[i] = i%2 == 0
		}
	}
	return out
}
