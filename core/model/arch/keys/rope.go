package keys

import (
	"math"
	"strings"

	"edged/core/model/arch"
)

// RopeOf says where the settings of a rotation stand and what is meant where they do not.
type RopeOf struct {
	HeadDim  int
	Kind     string  // of the layers, where a folder nests settings by kind: "full_attention", "sliding_attention"
	Base     string  // names of the base; "": the usual ones
	Count    string  // GGUF key of the number of dimensions that turn; "": the usual one
	Theta    float64 // default base
	Partial  float64 // default share of a head that turns; 0: all of it
	Adjacent bool
	Plain    bool // flat scaling settings belong to the layers of another kind
	Tuned    bool // llama.cpp reads this family's yarn_beta_fast and yarn_beta_slow
}

// Rope reads a rotation.
func (k *Keys) Rope(o RopeOf) arch.Rope {
	if o.Base == "" {
		o.Base = "rope.freq_base|rope_theta|rotary_emb_base"
	}
	if o.Count == "" {
		o.Count = "rope.dimension_count|"
	}
	if o.Theta == 0 {
		o.Theta = 10000
	}
	if k.IsGGUF() {
		return k.ropeGGUF(o)
	}
	return k.ropeConfig(o)
}

func (k *Keys) ropeGGUF(o RopeOf) arch.Rope {
	partial := o.HeadDim
	if o.Partial > 0 {
		partial = int(float64(o.HeadDim) * o.Partial)
	}
	r := arch.Rope{
		Dim:      k.IntOr(o.Count, partial),
		Base:     k.FloatOr(o.Base, o.Theta),
		Adjacent: o.Adjacent,
	}
	if o.Plain {
		return r
	}
	s := &r.Scaling
	s.Factors = k.factors
	if s.Short, s.Long = k.Values("rope_factors_short.weight"), k.Values("rope_factors_long.weight"); s.Short != nil && s.Long != nil {
		// llama.cpp takes the long set by the context that is configured; here as in a folder by the length
		// of the sequence.
		s.Kind, s.Factor = arch.LongRope, 1
		s.Original = k.IntOr("rope.scaling.original_context_length|", k.IntOr("context_length|", 0))
		s.Amplitude = k.FloatOr("rope.scaling.attn_factor|", 1)
		return r
	}
	// As llama.cpp: a factor without a type is linear, and one of 0 is none. The second key is an older name.
	factor := k.FloatOr("rope.scaling.factor|", k.FloatOr("rope.scale_linear|", 0))
	switch kind := k.String("rope.scaling.type|"); kind {
	case "none":
	case "", "linear":
		if factor != 0 {
			s.Kind, s.Factor = arch.Linear, factor
		}
	case "yarn":
		s.Kind = arch.YaRN
		if s.Factor = factor; factor == 0 {
			s.Factor = 1
		}
		s.Original = k.IntOr("rope.scaling.original_context_length|", k.IntOr("context_length|", 0))
		s.BetaFast, s.BetaSlow = 32, 1 // llama.cpp reads the file's for a few families only
		if o.Tuned {
			s.BetaFast = k.FloatOr("rope.scaling.yarn_beta_fast|", 32)
			s.BetaSlow = k.FloatOr("rope.scaling.yarn_beta_slow|", 1)
		}
		s.MScale = k.FloatOr("rope.scaling.yarn_log_multiplier|", 0)
		s.MScaleAll = s.MScale // such files have an amplitude of 1
		if k.Has("rope.scaling.attn_factor|") {
			// llama.cpp multiplies this factor by the computed one; Amplitude is their product. It has no use
			// for yarn_attn_factor.
			s.Amplitude = k.FloatOr("rope.scaling.attn_factor|", 1) * (1 + 0.1*math.Log(max(s.Factor, 1)))
		}
	default:
		k.Unsupported("RoPE scaling %q; the supported ones are linear, yarn and rope_freqs.weight", kind)
	}
	return r
}

// factorList reads one factor for each pair of a rotation.
func (k *Keys) factorList(names string) []float32 {
	var out []float32
	for _, f := range k.Floats(names) {
		out = append(out, float32(f))
	}
	return out
}

// ropeConfig reads rope_parameters (transformers 5), or rope_scaling with the keys beside it. Source:
// modeling_rope_utils.py.
func (k *Keys) ropeConfig(o RopeOf) arch.Rope {
	at := "rope_scaling"
	if k.Has("|rope_parameters") {
		at = "rope_parameters"
	}
	if v, name, ok := k.Value("|" + at); ok {
		params, isMap := v.(map[string]any)
		if !isMap {
			k.wrong(name, v, "an object")
			return arch.Rope{}
		}
		_, full := params["full_attention"]
		_, sliding := params["sliding_attention"]
		switch {
		case (full || sliding) && o.Kind == "":
			k.Unsupported("%s: settings of their own for each kind of layer", at)
			return arch.Rope{}
		case full || sliding:
			at += "." + o.Kind
			o.Plain = false
		}
	}
	name := func(key string) string { return "|" + at + "." + key }
	_, bases, _ := strings.Cut(o.Base, "|")
	r := arch.Rope{Base: k.FloatOr(name("rope_theta")+"|"+bases, o.Theta), Adjacent: o.Adjacent}
	if o.Plain { // flat parameters are the other kind's
		r.Base = k.FloatOr("|"+bases, o.Theta)
	}
	partial := o.Partial
	if partial == 0 {
		partial = 1
	}
	partial = k.FloatOr(name("partial_rotary_factor")+"|partial_rotary_factor|rotary_pct|rope_pct", partial)
	if !(partial > 0 && partial <= 1) {
		k.Invalid("partial_rotary_factor is %g: want a part of 1", partial)
		return r
	}
	r.Dim = int(float64(o.HeadDim) * partial)
	if o.Plain {
		return r
	}
	kind := k.String(name("rope_type") + "|" + at + ".type")
	s := &r.Scaling
	context := k.IntOr("|max_position_embeddings|n_positions", 0)
	original := k.FloatOr(name("original_max_position_embeddings")+"|original_max_position_embeddings", float64(context))
	switch kind {
	case "", "default":
		return r
	case "proportional": // the share of all pairs that turns has the frequencies of the whole head
		turning := r.Dim / 2
		r.Dim = o.HeadDim
		s.Factors = proportional(turning, r.Dim/2, k.FloatOr(name("factor"), 1))
		return r
	case "dynamic":
		if alpha := k.FloatOr(name("alpha"), 0); alpha > 0 && r.Dim > 2 { // HunYuan's: a base of its own, whatever the length
			r.Base *= math.Pow(alpha, float64(r.Dim)/float64(r.Dim-2))
			return r
		}
	case "linear":
	case "llama3":
		s.LowFreq, s.HighFreq = k.FloatOr(name("low_freq_factor"), 0), k.FloatOr(name("high_freq_factor"), 0)
	case "longrope", "su":
		kind = "longrope"
		s.Short, s.Long = k.factorList(name("short_factor")), k.factorList(name("long_factor"))
		factor := math.Max(float64(context)/original, 1)
		s.Amplitude = k.FloatOr(name("attention_factor"), math.Sqrt(1+math.Log(factor)/math.Log(math.Max(original, 2))))
		s.Amplitude, s.LongAmplitude = k.FloatOr(name("short_mscale"), s.Amplitude), k.FloatOr(name("long_mscale"), s.Amplitude)
		if s.Short == nil || s.Long == nil {
			k.Invalid("%s: short_factor or long_factor is missing", at)
			return r
		}
	case "yarn":
		s.BetaFast, s.BetaSlow = k.FloatOr(name("beta_fast"), 32), k.FloatOr(name("beta_slow"), 1)
		s.Amplitude = k.FloatOr(name("attention_factor"), 0)
		s.MScale, s.MScaleAll = k.FloatOr(name("mscale"), 0), k.FloatOr(name("mscale_all_dim"), 0)
		s.Unrounded = !k.Bool(name("truncate"), true)
	default:
		k.Unsupported("%s: type %q; the supported ones are linear, dynamic, llama3, yarn, longrope and proportional", at, kind)
		return r
	}
	s.Kind = arch.ScalingKind(kind)
	if !(original >= 1 && original <= arch.MaxContext) {
		k.Invalid("%s: original_max_position_embeddings is %g", at, original)
		return r
	}
	if s.Kind != arch.Linear {
		s.Original = int(original)
	}
	if s.Kind == arch.LongRope {
		s.Factor = 1
		return r
	}
	if !k.Has(name("factor")) {
		k.Invalid("%s: factor is missing", at)
		return r
	}
	s.Factor = k.Float(name("factor"))
	if s.Kind == arch.Dynamic {
		k.reach = int(math.Min(arch.MaxContext, original*math.Max(s.Factor, 1)))
	}
	if s.Kind == arch.YaRN && k.Has(name("original_max_position_embeddings")) {
		// Models that leave the extension to their users (Qwen2.5) still declare their original length.
		k.reach = int(math.Min(arch.MaxContext, math.Max(float64(context), original*s.Factor)))
	}
	return r
}

// never divides the frequency of a pair that does not turn: llama.cpp's converter writes the same.
const never = 1e30

// proportional are factors of which the first pairs turn, their positions divided by factor, and the others do not.
func proportional(turning, pairs int, factor float64) []float32 {
	if pairs > arch.MaxHeadDim || pairs < 1 {
		return nil
	}
	out := make([]float32, pairs)
	for i := range out {
		if out[i] = never; i < turning {
			out[i] = float32(factor)
		}
	}
	return out
}
