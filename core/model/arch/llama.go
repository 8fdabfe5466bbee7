package arch

// llama is Llama 1 to 3 and what is built like it (TinyLlama, SmolLM2, Yi; Touvron et al. 2023): RMSNorm before each half of a
// layer, rotated positions, grouped-query attention, SwiGLU, no biases unless the file brings them. A GGUF file of this name
// with experts is Mixtral.
func llama() Family {
	return Family{
		Names:    []string{"llama"},
		Modules:  mixtralModules(),
		Permuted: true,
		read: func(k *Keys) Spec {
			if k.IntOr("expert_count|", 0) > 0 {
				return mixtral().read(k)
			}
			bias := k.given("|attention_bias")
			return k.llamaLike(likeLlama{qkvBias: bias, outBias: bias, mlpBias: k.given("|mlp_bias"), adjacent: k.IsGGUF()})
		},
	}
}

// likeLlama are the switches of the oldest families, all of them llama with something beside it.
type likeLlama struct {
	qkvBias, outBias, mlpBias Presence
	qkNorm                    bool
	adjacent                  bool
	tuned                     bool                        // see RopeOf
	window                    []int                       // by layer; nil: none
	theta, partial            float64                     // of the rotation; 0: usual
	ffn                       func(d *Dims, layer int) Op // nil: SwiGLU
	wholeNorm                 bool                        // q and k are normalised as whole rows
	clip                      float32
}

// given is whether a switch of a folder makes biases a must. Biases that are not announced are taken where they are.
func (k *Keys) given(names string) Presence {
	if k.Bool(names, false) {
		return Required
	}
	return Optional
}

func (k *Keys) llamaLike(o likeLlama) Spec {
	d := k.Decoder()
	eps := k.RMSEps()
	rope := k.Rope(RopeOf{HeadDim: d.HeadDim, Theta: o.theta, Partial: o.partial, Adjacent: o.adjacent, Tuned: o.tuned})
	a := Attention{
		Heads: d.Heads, KVHeads: d.KVHeads, KeyDim: d.HeadDim, ValueDim: d.HeadDim, Position: rope,
		QKVBias: o.qkvBias, OutBias: o.outBias,
	}
	if o.qkNorm {
		a.QKNorm = QKNorm{Of: PerHead, Kind: RMSNorm, Eps: eps}
	}
	if o.wholeNorm {
		a.QKNorm = QKNorm{Of: WholeRow, Kind: RMSNorm, Eps: eps}
	}
	a.Clip = o.clip
	var ffn Op
	if o.ffn == nil {
		ffn = GLU{Hidden: d.FFN, Act: k.ActOf("|hidden_act", SiLU), Bias: o.mlpBias}
	}
	s := Spec{Width: d.Width, Context: d.Context, Norm: RMS("output_norm", eps), Head: Head{Tied: k.Tied(false), Bias: Absent}}
	for i := range k.layers(d.Layers) {
		if o.window != nil {
			a.Window = o.window[i]
		}
		if o.ffn != nil {
			ffn = o.ffn(&d, i)
		}
		s.Add(Sub{Pre: RMS("attn_norm", eps), Op: a}, Sub{Pre: RMS("ffn_norm", eps), Op: ffn})
	}
	return s
}

// layers is the number of layers to describe: nothing is built for a number that is out of bounds, which is an error, nor after
// another error.
func (k *Keys) layers(n int) int {
	if k.err != nil {
		return 0
	}
	if n < 1 || n > maxLayers {
		k.fail(ErrInvalid, "the number of layers is %d: want 1 to %d", n, maxLayers)
		return 0
	}
	return n
}
