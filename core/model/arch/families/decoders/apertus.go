package decoders

import (
	"math"
	"strconv"

	"edged/core/model/arch"
	"edged/core/model/arch/family"
	"edged/core/model/arch/keys"
)

// apertus is Apertus (Swiss AI 2025): llama with an RMSNorm over each query and key head and a network of two
// matrices with xIELU between them, whose two numbers each layer has learned: tensors of a folder, lists in a
// file.
func apertus() family.Family {
	return family.Family{
		Names: []string{"apertus"},
		Modules: family.DecoderModules().With(
			".attention_layernorm", "attn_norm",
			".feedforward_layernorm", "ffn_norm",
			".mlp.act_fn.alpha_p", "xielu_alpha_p",
			".mlp.act_fn.alpha_n", "xielu_alpha_n",
			".mlp.act_fn.beta", "xielu_beta",
			".mlp.act_fn.eps", "xielu_eps",
		),
		Settings: []string{"blk.N.xielu_alpha_p", "blk.N.xielu_alpha_n", "blk.N.xielu_beta", "blk.N.xielu_eps"},
		Spec: func(k *keys.Keys) arch.Spec {
			k.ActOf("|hidden_act", arch.XIELU)
			bias := k.RequiredIf("|attention_bias")
			s := family.Llama(k, family.LlamaOptions{
				QKVBias: bias, OutBias: bias, QKNorm: true, FFN: func(d *keys.Dims, _ int) arch.Op {
					return arch.MLP{Hidden: d.FFN, Act: arch.Act{Kind: arch.XIELU}, Bias: k.RequiredIf("|mlp_bias")}
				},
			})
			for i, layer := range s.Layers {
				if m, ok := layer[1].Op.(arch.MLP); ok {
					beta := xielu(k, "beta", i, 0.5)
					m.Act.A = softplus(xielu(k, "alpha_p", i, math.NaN()))
					m.Act.B = float32(beta) + softplus(xielu(k, "alpha_n", i, math.NaN()))
					m.Act.C = float32(beta)
					layer[1].Op = m
				}
			}
			return s
		},
	}
}

// xielu reads a number of a layer's activation. Without a default it must be there.
func xielu(k *keys.Keys, name string, layer int, def float64) float64 {
	var v float64
	list := k.Floats("xielu." + name + "|")
	if !k.IsGGUF() {
		for _, x := range k.Values(arch.LayerName(layer, "xielu_"+name+".weight")) {
			list = []float64{float64(x)}
		}
		layer = 0
	}
	switch {
	case layer < len(list):
		v = list[layer]
	case len(list) == 1:
		v = list[0]
	case math.IsNaN(def):
		k.Invalid("layer %s: xIELU's %s is missing", strconv.Itoa(layer), name)
	default:
		v = def
	}
	return v
}

// softplus is ln(1 + eˣ).
func softplus(x float64) float32 { return float32(math.Log1p(math.Exp(x))) }
