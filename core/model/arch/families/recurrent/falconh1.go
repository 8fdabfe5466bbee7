package recurrent

import (
	"math"

	"edged/core/model/arch"
	"edged/core/model/arch/family"
	"edged/core/model/arch/keys"
)

// falconh1 is Falcon-H1 (TII 2025): in every layer attention and Mamba-2's scan read the same normalised rows
// and are added up, before a gated network. A folder has factors nearly everywhere, which llama.cpp's
// converter multiplies into the weights.
func falconh1() family.Family {
	return family.Family{
		Names:   []string{"falcon_h1", "falcon-h1"},
		GGUF:    "falcon-h1",
		Modules: bamba().Modules,
		Folded:  true,
		Spec: func(k *keys.Keys) arch.Spec {
			k.Defaults(map[string]any{
				"mamba_d_ssm": int64(
					1024,
				),
				"mamba_n_heads":       int64(128),
				"mamba_d_state":       int64(256),
				"num_key_value_heads": int64(8),
				"rms_norm_eps":        1e-5,
			})
			d, eps := k.Decoder(), k.RMSEps()
			attend, scan, ffn := falconParts(k, &d, eps)
			s := k.DecoderSpec(&d, arch.RMS("output_norm", eps), false)
			s.Embed.Scale, s.Head.Scale = multiplier(k, "|embedding_multiplier"), multiplier(k, "|lm_head_multiplier")
			for range k.LayerCount(d.Layers) {
				s.Add(attend, scan, ffn)
			}
			return s
		},
	}
}

// falconParts are a layer's three parts. Factors before a matrix become factors of what is linear in its
// result: the scores in those of queries and keys, the whole result in that of values.
func falconParts(k *keys.Keys, d *keys.Dims, eps float32) (attend, scan, ffn arch.Sub) {
	bias, mlpBias := k.RequiredIf("|attention_bias"), k.RequiredIf("|mlp_bias")
	in, out, key := multiplier(k, "|attention_in_multiplier"), multiplier(k, "|attention_out_multiplier"), multiplier(k, "|key_multiplier")
	a := d.Attention(k.Rope(keys.RopeOf{HeadDim: d.HeadDim, Theta: 1e5}))
	a.QKVBias, a.OutBias = bias, bias
	if !k.IsGGUF() {
		a.Scale = float32(float64(in*in*key) / math.Sqrt(float64(max(d.HeadDim, 1))))
	}
	attend = arch.Sub{Pre: arch.RMS("attn_norm", eps), Op: a, Scale: in * out}

	m := mamba2Op(k, d.Width, "|mamba_d_head", eps)
	normed := k.Bool("|mamba_rms_norm", false)
	if k.IsGGUF() { // which cannot say that the norm comes first
		normed = k.HasTensor(arch.LayerName(0, "ssm_norm.weight"))
	} else {
		m.NormFirst = k.Bool("|mamba_norm_before_gate", true)
		m.OutBias = k.RequiredIf("|projectors_bias")
	}
	if !normed {
		m.Norm, m.NormFirst = arch.Norm{}, false
	}
	before := multiplier(k, "|ssm_in_multiplier")
	for i := range m.Scales {
		m.Scales[i] = before
	}
	for i, f := range multipliers(k, "|ssm_multipliers", len(m.Scales)) {
		m.Scales[i] *= f
	}
	scan = arch.Sub{Op: m, Wire: arch.Shared, Scale: multiplier(k, "|ssm_out_multiplier")}

	glu := arch.GLU{Hidden: d.FFN, Act: k.ActOf("|hidden_act", arch.SiLU), Bias: mlpBias}
	ffn = arch.Sub{Pre: arch.RMS("ffn_norm", eps), Scale: 1}
	if f := multipliers(k, "|mlp_multipliers", 2); f != nil {
		// SiLU(f·x) is f times x·σ(f·x).
		glu.Act = arch.Act{Kind: arch.QuickGELU, A: f[0]}
		ffn.Scale = f[0] * f[1]
	}
	ffn.Op = glu
	if bias == arch.Required && in != 1 || m.InBias == arch.Required && before != 1 ||
		mlpBias == arch.Required && glu.Act.Kind == arch.QuickGELU && glu.Act.A != 1 {
		k.Unsupported("biases behind matrices whose inputs are multiplied")
	}
	return attend, scan, ffn
}

// multiplier reads a factor, 1 where a container has none.
func multiplier(k *keys.Keys, names string) float32 {
	f := float32(k.FloatOr(names, 1))
	if f == 0 {
		k.Unsupported("%s is 0", k.Say(names))
	}
	return f
}

// multipliers reads n factors, nil where a container has none.
func multipliers(k *keys.Keys, names string, n int) []float32 {
	list := k.Floats(names)
	if list == nil {
		return nil
	}
	if len(list) != n {
		k.Invalid("%s has %d values: want %d", k.Say(names), len(list), n)
		return nil
	}
	out := make([]float32, n)
	for i, f := range list {
		if out[i] = float32(f); out[i] == 0 {
			k.Unsupported("%s has a 0", k.Say(names))
		}
	}
	return out
}
