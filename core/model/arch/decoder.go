package arch

import (
	"math"
	"strings"
)

// Dims are the sizes that nearly every decoder has.
type Dims struct {
	Layers, Width  int
	Heads, KVHeads int
	HeadDim        int
	FFN            int
	Context        int
	Eps            float32
}

// Decoder reads the sizes of a decoder under the names that most configurations use.
func (k *Keys) Decoder() Dims {
	d := Dims{
		Layers:  k.Int("block_count|num_hidden_layers|n_layer|n_layers|num_layers"),
		Width:   k.Int("embedding_length|hidden_size|n_embd|d_model"),
		Heads:   k.Int("attention.head_count|num_attention_heads|n_head|n_heads"),
		FFN:     k.Int("feed_forward_length|intermediate_size|n_inner|ffn_dim"),
		Context: k.Int("context_length|max_position_embeddings|n_positions|max_seq_len"),
	}
	d.KVHeads = k.IntOr("attention.head_count_kv|num_key_value_heads", d.Heads)
	d.HeadDim = k.headDim(d.Width, d.Heads)
	return d
}

// attention is the plain one of these sizes.
func (d *Dims) attention(position Position) Attention {
	return Attention{Heads: d.Heads, KVHeads: d.KVHeads, KeyDim: d.HeadDim, ValueDim: d.HeadDim, Position: position}
}

// decoderSpec is a Spec without layers yet: with the norm before the head, and the head tied to the embedding where the container
// has none and a folder says so, or says nothing and tied is what its class means.
func (k *Keys) decoderSpec(d *Dims, norm Norm, tied bool) Spec {
	return Spec{Width: d.Width, Context: d.Context, Norm: norm, Head: Head{Tied: k.Tied(tied), Bias: Absent}}
}

// headDim reads the size of a head, which is width / heads where the file does not say.
func (k *Keys) headDim(width, heads int) int {
	const names = "attention.key_length|head_dim"
	n := 0
	switch {
	case k.err != nil:
	case k.Has(names):
		n = k.Int(names)
	case heads < 1 || width%heads != 0:
		k.Invalid("%s %d is no multiple of the %d attention heads, and %s is missing", k.Say("embedding_length|hidden_size"), width, heads, k.Say(names))
	default:
		n = width / heads
	}
	if v := k.IntOr("attention.value_length|", n); v != n {
		k.Unsupported("keys of %d and values of %d dimensions", n, v)
	}
	return n
}

// RMSEps reads the epsilon of RMS norms.
func (k *Keys) RMSEps() float32 {
	return float32(k.Float("attention.layer_norm_rms_epsilon|rms_norm_eps"))
}

// LNEps reads the epsilon of LayerNorms; a folder that does not say means def.
func (k *Keys) LNEps(def float64) float32 {
	if k.IsGGUF() {
		return float32(k.Float("attention.layer_norm_epsilon|"))
	}
	return float32(k.FloatOr("|layer_norm_eps|layer_norm_epsilon|norm_epsilon|norm_eps", def))
}

// Act reads the activation's name, "" for a missing key, and refuses one that is not known.
func (k *Keys) Act(names string, def ActKind) Act {
	v := k.String(names)
	if v == "" {
		return Act{Kind: def}
	}
	a, ok := acts()[v]
	if !ok {
		k.Unsupported("%s %q is not an activation that is served", k.Say(names), v)
	}
	return a
}

// acts are transformers' names (ACT2FN).
func acts() map[string]Act {
	silu, erf, tanh := Act{Kind: SiLU}, Act{Kind: GELUErf}, Act{Kind: GELUTanh}
	return map[string]Act{
		"silu": silu, "swish": silu, "gelu": erf, "gelu_python": erf, "gelu_new": tanh, "gelu_fast": tanh,
		"gelu_pytorch_tanh": tanh, "gelu_python_tanh": tanh, "quick_gelu": {Kind: QuickGELU, A: 1.702}, "relu": {Kind: ReLU},
		"relu2": {Kind: ReLUSquared}, "relu_squared": {Kind: ReLUSquared}, "xielu": {Kind: XIELU},
	}
}

// ActOf is Act for a family with one activation only: a folder may name it or not.
func (k *Keys) ActOf(names string, want ActKind) Act {
	a := k.Act(names, want)
	if a.Kind != want {
		k.Unsupported("%s %q with this family", k.Say(names), k.String(names))
	}
	return a
}

// Kinds reads which layers are of a kind, from a folder's layer_types; nil where it has none.
func (k *Keys) Kinds(layers int) []string {
	kinds := k.Strings("|layer_types")
	if kinds != nil && len(kinds) < layers {
		k.Invalid("layer_types has %d entries, but there are %d layers", len(kinds), layers)
		return nil
	}
	return kinds
}

// Sliding reads which layers have a window: from a folder's layer_types or a file's sliding_window_pattern, else from def. A kind
// that is neither is refused.
func (k *Keys) Sliding(layers int, def func(layer int) bool) []bool {
	if k.err != nil || layers < 1 || layers > maxLayers {
		return make([]bool, max(0, min(layers, maxLayers)))
	}
	out := make([]bool, layers)
	kinds := k.Kinds(layers)
	pattern := k.pattern("attention.sliding_window_pattern|", layers)
	for i := range out {
		switch {
		case pattern != nil:
			out[i] = pattern[i]
		case kinds == nil:
			out[i] = def(i)
		case kinds[i] == "sliding_attention":
			out[i] = true
		case kinds[i] != "full_attention":
			k.Unsupported("layer_types has %q", kinds[i])
		}
	}
	return out
}

// pattern reads a truth value for each layer, or a number p: every p-th layer is false. nil for a missing key.
func (k *Keys) pattern(names string, layers int) []bool {
	v, name, ok := k.find(names)
	if !ok || k.err != nil {
		return nil
	}
	if list, ok := v.([]bool); ok {
		if !k.length(name, len(list), layers) {
			return nil
		}
		return list
	}
	if list, ok := v.([]int64); ok && len(list) != 1 { // truth values as numbers
		if !k.length(name, len(list), layers) {
			return nil
		}
		out := make([]bool, layers)
		for i := range out {
			out[i] = list[i] != 0
		}
		return out
	}
	every, out := everyNth(k.toInt(name, v)), make([]bool, layers)
	for i := range out {
		out[i] = every(i)
	}
	return out
}

// everyNth is true for all layers but each p-th, which sees all positions.
func everyNth(p int) func(layer int) bool {
	return func(layer int) bool { return p > 0 && (layer+1)%p != 0 }
}

// Windows reads the window of each layer, 0 for one without; def says which have it where the container does not.
func (k *Keys) Windows(layers int, def func(layer int) bool) []int {
	out := make([]int, k.layers(layers))
	window := k.IntOr("attention.sliding_window|sliding_window", 0)
	for i, sliding := range k.Sliding(layers, def) { // which also proves the names of the kinds
		if sliding {
			out[i] = window
		}
	}
	return out
}

// Defaults are what a class of transformers takes for keys that config.json has not got.
func (k *Keys) Defaults(values map[string]any) {
	if !k.IsGGUF() {
		k.trees = append(k.trees, values)
	}
}

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
func (k *Keys) Rope(o RopeOf) Rope {
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

func (k *Keys) ropeGGUF(o RopeOf) Rope {
	partial := o.HeadDim
	if o.Partial > 0 {
		partial = int(float64(o.HeadDim) * o.Partial)
	}
	r := Rope{
		Dim:      k.IntOr(o.Count, partial),
		Base:     k.FloatOr(o.Base, o.Theta),
		Adjacent: o.Adjacent,
	}
	if o.Plain {
		return r
	}
	s := &r.Scaling
	s.Factors = k.factors
	if s.Short, s.Long = k.values("rope_factors_short.weight"), k.values("rope_factors_long.weight"); s.Short != nil && s.Long != nil {
		// llama.cpp takes the long set by the context that is configured; here as in a folder by the length of the sequence.
		s.Kind, s.Factor = LongRope, 1
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
			s.Kind, s.Factor = Linear, factor
		}
	case "yarn":
		s.Kind = YaRN
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
			// llama.cpp multiplies this factor by the computed one; Amplitude is their product. It has no use for yarn_attn_factor.
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

// ropeConfig reads rope_parameters (transformers 5), or rope_scaling with the keys beside it. Source: modeling_rope_utils.py.
func (k *Keys) ropeConfig(o RopeOf) Rope {
	at := "rope_scaling"
	if k.Has("|rope_parameters") {
		at = "rope_parameters"
	}
	if v, name, ok := k.find("|" + at); ok {
		params, isMap := v.(map[string]any)
		if !isMap {
			k.wrong(name, v, "an object")
			return Rope{}
		}
		_, full := params["full_attention"]
		_, sliding := params["sliding_attention"]
		switch {
		case (full || sliding) && o.Kind == "":
			k.Unsupported("%s: settings of their own for each kind of layer", at)
			return Rope{}
		case full || sliding:
			at += "." + o.Kind
			o.Plain = false
		}
	}
	name := func(key string) string { return "|" + at + "." + key }
	_, bases, _ := strings.Cut(o.Base, "|")
	r := Rope{Base: k.FloatOr(name("rope_theta")+"|"+bases, o.Theta), Adjacent: o.Adjacent}
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
	s.Kind = ScalingKind(kind)
	if !(original >= 1 && original <= maxContext) {
		k.Invalid("%s: original_max_position_embeddings is %g", at, original)
		return r
	}
	if s.Kind != Linear {
		s.Original = int(original)
	}
	if s.Kind == LongRope {
		s.Factor = 1
		return r
	}
	if !k.Has(name("factor")) {
		k.Invalid("%s: factor is missing", at)
		return r
	}
	s.Factor = k.Float(name("factor"))
	if s.Kind == Dynamic {
		k.reach = int(math.Min(maxContext, original*math.Max(s.Factor, 1)))
	}
	if s.Kind == YaRN && k.Has(name("original_max_position_embeddings")) {
		// Models that leave the extension to whoever wants it (Qwen2.5) still declare their original length.
		k.reach = int(math.Min(maxContext, math.Max(float64(context), original*s.Factor)))
	}
	return r
}

// never divides the frequency of a pair that does not turn: llama.cpp's converter writes the same.
const never = 1e30

// proportional are factors of which the first pairs turn, their positions divided by factor, and the others do not.
func proportional(turning, pairs int, factor float64) []float32 {
	if pairs > maxHeadDim || pairs < 1 {
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
