package family

import (
	"edged/core/model/arch"
	"edged/core/model/arch/keys"
)

// LlamaOptions are the switches by which families that are built like Llama differ from it.
type LlamaOptions struct {
	QKVBias, OutBias, MLPBias arch.Presence
	QKNorm                    bool
	Adjacent                  bool
	Tuned                     bool                                  // see RopeOf
	Window                    []int                                 // by layer; nil: none
	Theta, Partial            float64                               // of the rotation; 0: usual
	FFN                       func(d *keys.Dims, layer int) arch.Op // nil: SwiGLU
	WholeNorm                 bool                                  // q and k are normalised as whole rows
	Clip                      float32
}

// Llama reads a decoder of Llama's kind: in every layer attention and then a feed-forward network, each
// behind an RMSNorm and added to its own input.
func Llama(k *keys.Keys, o LlamaOptions) arch.Spec {
	d := k.Decoder()
	eps := k.RMSEps()
	rope := k.Rope(keys.RopeOf{HeadDim: d.HeadDim, Theta: o.Theta, Partial: o.Partial, Adjacent: o.Adjacent, Tuned: o.Tuned})
	a := arch.Attention{
		Heads: d.Heads, KVHeads: d.KVHeads, KeyDim: d.HeadDim, ValueDim: d.HeadDim, Position: rope,
		QKVBias: o.QKVBias, OutBias: o.OutBias,
	}
	if o.QKNorm {
		a.QKNorm = arch.QKNorm{Of: arch.PerHead, Kind: arch.RMSNorm, Eps: eps}
	}
	if o.WholeNorm {
		a.QKNorm = arch.QKNorm{Of: arch.WholeRow, Kind: arch.RMSNorm, Eps: eps}
	}
	a.Clip = o.Clip
	var ffn arch.Op
	if o.FFN == nil {
		ffn = arch.GLU{Hidden: d.FFN, Act: k.ActOf("|hidden_act", arch.SiLU), Bias: o.MLPBias}
	}
	s := arch.Spec{
		Width:   d.Width,
		Context: d.Context,
		Norm:    arch.RMS("output_norm", eps),
		Head:    arch.Head{Tied: k.Tied(false), Bias: arch.Absent},
	}
	for i := range k.LayerCount(d.Layers) {
		if o.Window != nil {
			a.Window = o.Window[i]
		}
		if o.FFN != nil {
			ffn = o.FFN(&d, i)
		}
		s.Add(arch.Sub{Pre: arch.RMS("attn_norm", eps), Op: a}, arch.Sub{Pre: arch.RMS("ffn_norm", eps), Op: ffn})
	}
	return s
}
