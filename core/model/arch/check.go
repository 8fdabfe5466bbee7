package arch

import (
	"fmt"
	"math"
	"reflect"
	"slices"
)

// Bounds of hyper-parameters: twice and more of the largest published models, and small enough that no product of them
// overflows.
const (
	MaxLayers  = 1 << 10
	MaxWidth   = 1 << 17 // hidden size
	MaxHeadDim = 1 << 11 // size of a head
	MaxFFN     = 1 << 20 // hidden size of a feed-forward network
	MaxContext = 1 << 28 // positions
	MaxExperts = 1 << 10 // of a layer
	MaxGroups  = 64      // that experts are divided into

	maxHeads  = 1 << 10
	maxVocab  = 1 << 24
	maxKernel = 1 << 6
	maxStates = 1 << 10 // values of a row of a scan
	// maxState is the most values that a sequence keeps of all positions together: a gigabyte, ten times that
	// of any published model.
	maxState = 1 << 28
	// maxStreams bounds the streams of a row; published models have four.
	maxStreams = 8
	maxDelta   = 512 // keys or values of a head of a delta net
)

// Check proves the numbers of a Spec by themselves, once for everything that derives from it; the shapes of
// tensors are proved against Tensors.
func (s *Spec) Check() error {
	c := checker{}
	c.within("number of layers", len(s.Layers), 1, MaxLayers)
	c.within("hidden size", s.Width, 1, MaxWidth)
	c.within("number of embedding rows", s.Vocab, 1, maxVocab)
	c.within("context length", s.Context, 1, MaxContext)
	c.within("number of learned positions", s.Embed.Positions, 0, MaxContext)
	c.within("offset of learned positions", s.Embed.Offset, 0, 1<<10)
	c.within("number of token types", s.Embed.Types, 0, 1<<10)
	c.within("number of sinusoidal positions", s.Embed.Waves.Rows, 0, MaxContext)
	if s.Embed.Waves.Rows > 0 && (s.Width%2 != 0 || s.Width < 4) {
		c.fail(ErrUnsupported, "sinusoidal positions of %d values: want an even number", s.Width)
	}
	if (s.Kind == EncoderDecoder) != (s.Encoder != nil) {
		c.fail(ErrInvalid, "%s with or without an encoder", s.Kind)
	}
	if s.Embed.Width != 0 {
		c.within("width of the embedding", s.Embed.Width, 1, s.Width)
		if (s.Kind == Encoder) != s.Embed.Inner || s.Kind == EncoderDecoder || s.Embed.PerLayer.Width != 0 {
			c.fail(ErrUnsupported, "%s with an embedding of %d values and layers of %d", s.Kind, s.Embed.Width, s.Width)
		}
	}
	if s.Embed.Inner && (s.Embed.Width == 0 || s.Embed.Waves.Rows > 0) {
		c.fail(ErrUnsupported, "%s with an embedding that is as wide as the layers, or sinusoids, before a projection", s.Kind)
	}
	c.tensorsOf(s)
	c.number("embedding scale", s.Embed.Scale)
	c.number("logit scale", s.Head.Scale)
	c.bound("cap of the logits", s.Head.Cap)
	c.norm(&s.Embed.Norm)
	c.norm(&s.Norm)
	c.perLayer(s)
	c.checkSteps(s)
	attends, crosses := false, false
	for n, layer := range s.Layers {
		for i := range layer {
			sub := &layer[i]
			c.norm(&sub.Pre)
			c.norm(&sub.Post)
			c.norm(&sub.After)
			c.norm(&sub.Joint)
			if sub.Joint.Kind != NoNorm && sub.Wire != Parallel {
				c.fail(ErrUnsupported, "a joint norm of a part that does not run parallel to another")
			}
			c.number("residual scale", sub.Scale)
			c.number("residual scale", sub.Keep)
			switch op := sub.Op.(type) {
			case Attention:
				attends = true
				c.attention(&op)
				c.shared(s, n, &op)
				if op.Both != (s.Kind == Encoder) {
					c.fail(ErrUnsupported, "%s with attention of the other kind", s.Kind)
				}
			case Cross:
				crosses = true
				c.cross(s, &op)
			case Latent:
				attends = true
				if s.Kind == Encoder {
					c.fail(ErrUnsupported, "an encoder with latent attention")
				}
				c.latent(&op)
			case ShortConv:
				attends = true
				c.within("kernel of the short convolution", op.Kernel, 2, maxKernel)
				if s.Kind == Encoder {
					c.fail(ErrUnsupported, "an encoder with a causal convolution")
				}
			case Mamba1:
				attends = true
				c.mamba1(&op)
				if s.Kind == Encoder {
					c.fail(ErrUnsupported, "an encoder with a causal scan")
				}
			case Mamba2:
				attends = true
				c.mamba2(&op)
				if s.Kind == Encoder {
					c.fail(ErrUnsupported, "an encoder with a causal scan")
				}
			case Delta:
				attends = true
				if s.Kind == Encoder {
					c.fail(ErrUnsupported, "an encoder with a delta net")
				}
				c.delta(&op)
			case RGLRU:
				attends = true
				c.rglru(&op)
				if s.Kind == Encoder {
					c.fail(ErrUnsupported, "an encoder with a causal scan")
				}
			case Lightning:
				attends = true
				c.within("number of attention heads", op.Heads, 1, maxHeads)
				c.within("head dimension", op.HeadDim, 1, maxDelta)
				c.bound("rate of forgetting", op.Slope)
				c.eps(op.Eps)
				if s.Kind == Encoder {
					c.fail(ErrUnsupported, "an encoder with a causal scan")
				}
			case GLU:
				c.within("feed-forward size", op.Hidden, 1, MaxFFN)
				c.norm(&op.Sub)
			case MLP:
				c.within("feed-forward size", op.Hidden, 1, MaxFFN)
				c.norm(&op.Sub)
			case MoE:
				c.experts(&op)
			case PerLayer:
				c.hasRows(s)
			case AltUpPredict:
				c.altUp(s, (*AltUp)(&op))
			case AltUpCorrect:
				c.altUp(s, &op.AltUp)
				c.hasRows(s)
				if !slices.ContainsFunc(layer[:i], func(x Sub) bool { _, ok := x.Op.(AltUpPredict); return ok }) {
					c.fail(ErrInvalid, "streams that are corrected and were not predicted")
				}
			case AltUpSpread:
				c.within("number of streams", op.Streams, 2, maxStreams)
			case AltUpGather:
				c.within("number of streams", op.Streams, 2, maxStreams)
			case Laurel:
				c.within("rank of the branch beside attention", op.Rank, 1, MaxWidth)
				c.eps(op.Eps)
			default:
				c.fail(ErrUnsupported, "a layer with an operation of the unknown kind %T", op)
			}
			if c.err != nil {
				return c.err
			}
		}
	}
	if !attends && c.err == nil {
		c.fail(ErrUnsupported, "a model without attention or a state")
	}
	if c.err == nil {
		c.states(s)
	}
	if s.Encoder != nil && c.err == nil {
		return s.checkEncoder(crosses)
	}
	return c.err
}

// checkEncoder proves what an encoder-decoder's two stacks have in common, and the first of them.
func (s *Spec) checkEncoder(crosses bool) error {
	c, e := checker{}, s.Encoder
	switch {
	case !crosses:
		c.fail(ErrUnsupported, "a decoder that never reads the encoder's states")
	case e.Kind != Encoder || e.Prefix == s.Prefix:
		c.fail(ErrInvalid, "the first stack is a %s whose tensors' names begin with %q, as the second's", e.Kind, e.Prefix)
	case e.Width != s.Width || e.Vocab != s.Vocab:
		c.fail(ErrUnsupported, "an encoder of %d values and %d tokens with a decoder of %d and %d", e.Width, e.Vocab, s.Width, s.Vocab)
	}
	if c.err != nil {
		return c.err
	}
	return e.Check()
}

// checker keeps the first thing that is wrong.
type checker struct{ err error }

func (c *checker) fail(kind error, format string, args ...any) {
	if c.err == nil {
		c.err = fmt.Errorf("%w: %s", kind, fmt.Sprintf(format, args...))
	}
}

func (c *checker) within(name string, v, lo, hi int) {
	if v < lo || v > hi {
		c.fail(ErrInvalid, "the %s is %d: want %d to %d", name, v, lo, hi)
	}
}

func (c *checker) number(name string, v float32) {
	if v-v != 0 {
		c.fail(ErrInvalid, "the %s is %g: want a number", name, v)
	}
}

func (c *checker) bound(name string, v float32) {
	if !(v >= 0 && v <= math.MaxFloat32) {
		c.fail(ErrInvalid, "the %s is %g: want a positive number", name, v)
	}
}

// perLayer proves what each token has for every layer.
func (c *checker) perLayer(s *Spec) {
	p := &s.Embed.PerLayer
	c.within("size of what a token has for each layer", p.Width, 0, MaxWidth)
	if p.Width == 0 || c.err != nil {
		return
	}
	c.within("number of rows for each layer", p.Rows, 1, maxVocab)
	c.within("size of what a token has for all layers", len(s.Layers)*p.Width, 1, MaxFFN)
	c.eps(p.Eps)
	if s.Embed.Norm.Kind != NoNorm || s.Kind != Decoder {
		c.fail(ErrUnsupported, "%s with rows for each layer", s.Kind)
	}
}

// hasRows proves that tokens have something for every layer.
func (c *checker) hasRows(s *Spec) {
	if s.Embed.PerLayer.Width == 0 {
		c.fail(ErrInvalid, "a layer with rows of its own for each token, of which the embedding has none")
	}
}

// altUp proves that all layers have as many streams as there are.
func (c *checker) altUp(s *Spec, a *AltUp) {
	c.within("number of streams", a.Streams, 2, maxStreams)
	c.eps(a.Eps)
	if n := s.Streams(); n != a.Streams && c.err == nil {
		c.fail(ErrInvalid, "a layer with %d streams of %d", a.Streams, n)
	}
}

// shared proves that an attention without keys and values of its own reads those of one before it that has
// the same sizes.
func (c *checker) shared(s *Spec, layer int, a *Attention) {
	if a.Owns() {
		return
	}
	if a.From < 1 || a.From > layer || a.KeyValue || a.ValueEps != 0 || a.Gated {
		c.fail(ErrInvalid, "layer %d reads the keys and values of layer %d", layer, a.From-1)
		return
	}
	for _, sub := range s.Layers[a.From-1] {
		if o, ok := sub.Op.(Attention); ok && o.Owns() && o.KVHeads == a.KVHeads && o.KeyDim == a.KeyDim && o.ValueDim == a.ValueDim &&
			(o.Window == 0 || o.Window == a.Window) {
			return
		}
	}
	c.fail(ErrInvalid, "layer %d reads the keys and values of layer %d, which keeps none of its sizes", layer, a.From-1)
}

func (c *checker) norm(n *Norm) {
	if n.Kind != NoNorm && n.Kind != Factor {
		c.eps(n.Eps)
	}
}

func (c *checker) eps(eps float32) {
	if !(eps > 0 && eps < 1) {
		c.fail(ErrInvalid, "the norm's epsilon is %g: want a small positive number", eps)
	}
}

func (c *checker) attention(a *Attention) {
	c.within("number of attention heads", a.Heads, 1, maxHeads)
	c.within("number of key/value heads", a.KVHeads, 1, maxHeads)
	c.within("head dimension", a.KeyDim, 1, MaxHeadDim)
	c.within("head dimension", a.ValueDim, 1, MaxHeadDim)
	c.within("sliding window", a.Window, 0, MaxContext)
	if c.err != nil {
		return
	}
	if a.Heads%a.KVHeads != 0 {
		c.fail(ErrInvalid, "%d attention heads cannot share %d key/value heads evenly", a.Heads, a.KVHeads)
	}
	if a.Gated && a.ValueDim != a.KeyDim {
		c.fail(ErrUnsupported, "a gate of %d values on heads of %d", a.KeyDim, a.ValueDim)
	}
	c.number("attention scale", a.Scale)
	c.bound("clip of queries, keys and values", a.Clip)
	c.bound("cap of the attention scores", a.Cap)
	c.norm(&a.Sub)
	if a.ValueEps != 0 {
		c.eps(a.ValueEps)
	}
	if a.KeyValue && a.ValueDim != a.KeyDim {
		c.fail(ErrUnsupported, "keys of %d values that are values of %d", a.KeyDim, a.ValueDim)
	}
	if n := &a.QKNorm; n.Of != NoQKNorm {
		c.eps(n.Eps)
		if n.Biased && (n.Of != PerHead || n.Kind != LayerNorm || n.Bare) {
			c.fail(ErrUnsupported, "norms of queries and keys with biases that are no LayerNorms of each head")
		}
	}
	if a.Temper.Beta != 0 {
		c.number("attention temperature", a.Temper.Beta)
		c.within("original context length", a.Temper.Original, 1, MaxContext)
	}
	switch p := a.Position.(type) {
	case Rope:
		c.rope(&p, a.KeyDim)
	case Distances:
		side := p.Buckets
		if a.Both {
			side /= 2
		}
		// Half of a side's buckets are exact, and the logarithm counts from there to Far.
		c.within("number of buckets of distances", side, 2, MaxContext)
		c.within("largest distance that has a bucket", p.Far, side/2+1, MaxContext)
	case ALiBi:
		c.bound("largest ALiBi bias", p.Max)
	}
}

// states bounds what a sequence keeps of all positions together.
func (c *checker) states(s *Spec) {
	var n int64
	for _, x := range States(s) {
		n += int64(x.Values)
	}
	if n > maxState {
		c.fail(ErrUnsupported, "a sequence with a state of %d values: at most %d are kept", n, maxState)
	}
}

func (c *checker) mamba1(m *Mamba1) {
	c.within("width of the scan", m.Inner, 1, MaxFFN)
	c.within("number of states of the scan", m.States, 1, maxStates)
	c.within("rank of the steps of time", m.Rank, 1, MaxWidth)
	c.within("kernel of the convolution", m.Kernel, 2, maxKernel)
	c.norm(&m.Norm)
}

func (c *checker) mamba2(m *Mamba2) {
	c.within("number of heads of the scan", m.Heads, 1, maxHeads)
	c.within("head dimension of the scan", m.HeadDim, 1, MaxHeadDim)
	c.within("number of states of the scan", m.States, 1, maxStates)
	c.within("number of groups of the scan", m.Groups, 1, maxHeads)
	c.within("kernel of the convolution", m.Kernel, 2, maxKernel)
	c.norm(&m.Norm)
	if c.err != nil {
		return
	}
	c.within("width of the scan", m.Inner(), 1, MaxFFN)
	if m.Heads%m.Groups != 0 {
		c.fail(ErrInvalid, "%d heads of a scan cannot be divided into %d groups", m.Heads, m.Groups)
	}
	c.bound("least step of time", m.Least)
	c.bound("largest step of time", m.Most)
	for _, f := range m.Scales {
		c.number("scale of the scan's inputs", f)
	}
}

func (c *checker) cross(s *Spec, a *Cross) {
	if s.Kind != EncoderDecoder {
		c.fail(ErrUnsupported, "%s with attention to an encoder", s.Kind)
	}
	c.within("number of attention heads", a.Heads, 1, maxHeads)
	c.within("head dimension", a.HeadDim, 1, MaxHeadDim)
	c.number("attention scale", a.Scale)
}

func (c *checker) latent(a *Latent) {
	c.within("number of attention heads", a.Heads, 1, maxHeads)
	c.within("rank of the queries", a.QRank, 0, MaxWidth)
	c.within("rank of the keys and values", a.KVRank, 1, MaxHeadDim)
	c.within("size of the part of a head that does not turn", a.NopeDim, 1, MaxHeadDim)
	c.within("size of a value", a.ValueDim, 1, MaxHeadDim)
	c.within("size of a cached row", a.KVRank+a.RopeDim, 1, MaxHeadDim)
	c.number("attention scale", a.Scale)
	c.eps(a.Eps)
	if c.err == nil && a.Position.Dim != 0 {
		c.rope(&a.Position, a.RopeDim)
	}
}

func (c *checker) rglru(r *RGLRU) {
	c.within("width of the recurrent units", r.Width, 1, MaxFFN)
	c.within("number of blocks of the gates", r.Blocks, 1, maxHeads)
	c.within("kernel of the convolution", r.Kernel, 2, maxKernel)
	if c.err == nil && r.Width%r.Blocks != 0 {
		c.fail(ErrInvalid, "%d recurrent units cannot be divided into %d blocks", r.Width, r.Blocks)
	}
}

func (c *checker) delta(d *Delta) {
	c.within("inner size of the delta net's gates", d.Rank, 0, MaxWidth)
	sum := 0
	for _, n := range d.Apart {
		c.within("number of channels of a convolution", n, 0, MaxFFN)
		sum += n
	}
	if c.err == nil && sum > 0 && sum != d.Channels() {
		c.fail(ErrInvalid, "convolutions over %d channels of a delta net that has %d", sum, d.Channels())
	}
	if d.Rank > 0 && (d.KeyHeads != d.Heads || d.Tiled) {
		c.fail(ErrUnsupported, "a delta net with %d key heads and %d value heads that decays by key channel", d.KeyHeads, d.Heads)
	}
	c.within("number of the delta net's key heads", d.KeyHeads, 1, maxHeads)
	c.within("number of the delta net's value heads", d.Heads, 1, maxHeads)
	c.within("size of the delta net's key heads", d.KeyDim, 1, maxDelta)
	c.within("size of the delta net's value heads", d.ValueDim, 1, maxDelta)
	c.within("kernel of the delta net's convolution", d.Kernel, 2, maxKernel)
	c.eps(d.Eps)
	if c.err == nil && d.Heads%d.KeyHeads != 0 {
		c.fail(ErrInvalid, "%d value heads of the delta net cannot share %d key heads evenly", d.Heads, d.KeyHeads)
	}
}

func (c *checker) experts(m *MoE) {
	c.within("number of experts", m.Experts, 1, MaxExperts)
	c.within("feed-forward size", m.Hidden, 1, MaxFFN)
	c.within("shared expert's feed-forward size", m.Shared, 0, MaxFFN)
	if m.Used < 1 || m.Used > m.Experts {
		c.fail(ErrInvalid, "%d of %d experts are to be used", m.Used, m.Experts)
	}
	r := &m.Router
	c.bound("scale of the experts' weights", r.Scale)
	if r.Eps != 0 {
		c.eps(r.Eps)
	}
	c.bound("router's jitter", r.Jitter)
	if r.Groups > 1 {
		switch {
		case r.Groups > MaxGroups || m.Experts%max(r.Groups, 1) != 0:
			c.fail(ErrInvalid, "%d experts cannot be divided into %d groups (at most %d)", m.Experts, r.Groups, MaxGroups)
		case r.UsedGroups < 1 || r.UsedGroups > r.Groups || r.UsedGroups*(m.Experts/r.Groups) < m.Used:
			c.fail(ErrInvalid, "%d experts are to be chosen from %d of %d groups of %d", m.Used, r.UsedGroups, r.Groups, m.Experts/r.Groups)
		}
	}
	if r.Kind == SparseMixer && m.Used != 2 {
		c.fail(ErrUnsupported, "a sparse mixer that chooses %d experts: it chooses two", m.Used)
	}
}

func (c *checker) rope(r *Rope, head int) {
	if r.Dim < 2 || r.Dim%2 != 0 || r.Dim > head {
		c.fail(ErrInvalid, "RoPE turns %d dimensions of a head of %d: want an even number within the head", r.Dim, head)
		return
	}
	if !(r.Base >= 1 && r.Base <= 1e15) {
		c.fail(ErrInvalid, "the RoPE base is %g: want 1 to 1e15", r.Base)
		return
	}
	s := &r.Scaling
	c.factors("tensor rope_freqs.weight", s.Factors, r.Dim/2)
	if s.Kind == NoScaling {
		return
	}
	if !(s.Factor >= 1 && s.Factor <= 1e6) {
		c.fail(ErrInvalid, "the RoPE scaling factor is %g: want 1 or more", s.Factor)
	}
	if s.Kind != Linear {
		if s.Original < 1 || s.Original > MaxContext {
			c.fail(ErrInvalid, "RoPE scaling %s: the original context length is %d", s.Kind, s.Original)
		}
	}
	if !(s.Amplitude >= 0 && s.Amplitude <= 1e3 && s.LongAmplitude >= 0 && s.LongAmplitude <= 1e3) {
		c.fail(ErrInvalid, "RoPE scaling %s: attention factors %g and %g", s.Kind, s.Amplitude, s.LongAmplitude)
	}
	switch s.Kind {
	case Linear, Dynamic:
	case Llama3:
		if !(s.LowFreq > 0 && s.HighFreq > s.LowFreq && s.HighFreq <= 1e6) {
			c.fail(ErrInvalid, "RoPE scaling llama3: frequency factors %g and %g: want a low one and a higher one", s.LowFreq, s.HighFreq)
		}
	case YaRN:
		if !(s.BetaSlow > 0 && s.BetaFast > s.BetaSlow && s.BetaFast <= 1e6) {
			c.fail(ErrInvalid, "RoPE scaling yarn: beta_fast %g and beta_slow %g: want a slow one and a higher, fast one", s.BetaFast, s.BetaSlow)
		}
		for _, m := range []float64{s.MScale, s.MScaleAll} {
			if !(m >= 0 && m <= 1e3) {
				c.fail(ErrInvalid, "RoPE scaling yarn: mscale %g and mscale_all_dim %g: want positive numbers", s.MScale, s.MScaleAll)
			}
		}
	case LongRope:
		c.factors("the short factors of RoPE scaling longrope", s.Short, r.Dim/2)
		c.factors("the long factors of RoPE scaling longrope", s.Long, r.Dim/2)
	default:
		c.fail(ErrUnsupported, "RoPE scaling %q", s.Kind)
	}
}

func (c *checker) factors(what string, f []float32, pairs int) {
	if f == nil {
		return
	}
	if len(f) != pairs {
		c.fail(ErrInvalid, "%s has %d values, want one for each of %d pairs", what, len(f), pairs)
		return
	}
	for i, x := range f {
		if !(x > 0 && x <= math.MaxFloat32) {
			c.fail(ErrInvalid, "%s: value %d is %g: want a positive number", what, i, x)
			return
		}
	}
}

// tensorsOf proves the numbers of layers that share their tensors, and that those who share them are alike.
func (c *checker) tensorsOf(s *Spec) {
	if s.TensorsOf == nil {
		return
	}
	if len(s.TensorsOf) != len(s.Layers) {
		c.fail(ErrInvalid, "tensors of %d layers for %d", len(s.TensorsOf), len(s.Layers))
		return
	}
	for n, of := range s.TensorsOf {
		c.within("number of a layer's tensors", of, 0, len(s.Layers)-1)
		if first := slices.Index(s.TensorsOf, of); !reflect.DeepEqual(s.Layers[first], s.Layers[n]) {
			c.fail(ErrUnsupported, "layers %d and %d share tensors and are not alike", first, n)
		}
	}
}
