package adapter

import (
	"fmt"
	"math"
	"slices"

	"edged/core/infer/transformer/exactmath"
	"edged/core/infer/transformer/parts"
	"edged/core/model/lora"
	"edged/quant"
	"edged/quant/kernel"
)

// What adapters change beside linear layers: norms, keys and values before a text (prefix tuning), and
// prompts that a layer's queries attend to beside it (adaption prompts).

// change holds an adapter's values for these, nil where it has none.
type change struct {
	norms    []*parts.Norm // by norm.id - 1; nil: that one stays
	prefix   []lora.Prefix // by attention.index
	adaption []*Prompt     // by attention.index; nil: none there
}

// Prompt is one layer's: keys and values (tokens, KV heads · head size) of its prompt.
type Prompt struct {
	Tokens                  int
	Gate                    float32
	heads, keyDim, valueDim int // KV heads and their sizes
	k, v                    []float32
}

// bindChanges takes over what w changes beside linear layers.
func (a *Adapter) bindChanges(m *Base, w *lora.Adapter) error {
	c := &change{}
	names := make([]string, 0, len(w.Norms))
	for name := range w.Norms {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		id, n := m.NormIDs[name], w.Norms[name]
		if id == 0 {
			return fmt.Errorf("transformer: %s: %s: the model has no norm of this name that an adapter can change", w.Path, name)
		}
		base := m.Norms[id-1]
		out := base
		for _, x := range []struct {
			to  *[]float32
			new []float32
		}{{&out.W, n.Weight}, {&out.B, n.Bias}} {
			if x.new == nil {
				continue
			}
			if len(*x.to) != len(x.new) {
				return fmt.Errorf("transformer: %s: %s: %d values for the %d of the model's", w.Path, name, len(x.new), len(*x.to))
			}
			*x.to = x.new
			a.bytes += 4 * int64(len(x.new))
		}
		if c.norms == nil {
			c.norms = make([]*parts.Norm, len(m.Norms))
		}
		c.norms[id-1] = &out
	}
	if w.Prefix != nil {
		if len(w.Prefix) != len(m.Attentions) {
			return fmt.Errorf("transformer: %s: a prefix of %d layers: the model attends in %d", w.Path, len(w.Prefix), len(m.Attentions))
		}
		for i, p := range w.Prefix {
			at := &m.Attentions[i]
			if !at.Owns || m.Spec.Embed.PerLayer.Width > 0 {
				return fmt.Errorf(
					"transformer: %s: a prefix is not served of models whose layers read keys and values of others or rows of their own for each token",
					w.Path,
				)
			}
			if p.K == nil || p.V == nil || at.Latent || p.K.Rows != w.Prefix[0].K.Rows || p.V.Rows != p.K.Rows ||
				p.K.Cols != at.KVHeads*at.KeyDim ||
				p.V.Cols != at.KVHeads*at.ValueDim {
				return fmt.Errorf(
					"transformer: %s: a prefix whose keys and values do not have the shapes of the model's in layer %d",
					w.Path,
					i,
				)
			}
			a.bytes += parts.Bytes(p.K) + parts.Bytes(p.V)
		}
		c.prefix = w.Prefix
	}
	for name, p := range w.Prompts {
		i := slices.IndexFunc(m.Attentions, func(at Attention) bool { return at.Output == name })
		if i < 0 || m.Attentions[i].Latent {
			return fmt.Errorf("transformer: %s: %s: the model has no attention of this name that a prompt can stand beside", w.Path, name)
		}
		at := &m.Attentions[i]
		if p.Rows.Cols != m.Spec.Width || p.Rows.Rows < 1 || !at.Owns || !at.Bare {
			return fmt.Errorf(
				"transformer: %s: %s: prompts beside a text are served of attention with inputs of %d values, without norms of its own and with the usual scale",
				w.Path,
				name,
				m.Spec.Width,
			)
		}
		if c.adaption == nil {
			c.adaption = make([]*Prompt, len(m.Attentions))
		}
		c.adaption[i] = project(m.K, at, p)
		a.bytes += 4 * int64(len(c.adaption[i].k)+len(c.adaption[i].v))
	}
	if c.norms != nil || c.prefix != nil || c.adaption != nil {
		a.change = c
	}
	return nil
}

// project makes keys and values of a prompt with the layer's own weights. It may run beside Forward.
func project(kernels kernel.Kernels, at *Attention, p *lora.Prompt) *Prompt {
	n, width := p.Rows.Rows, p.Rows.Cols
	x := make([]float32, n*width)
	for r := range n {
		quant.Row(x[r*width:(r+1)*width], p.Rows, r)
	}
	in := kernel.Activations{Rows: n, Cols: width, X: x}
	through := func(l *parts.Linear) []float32 {
		out := l.W.Rows
		y := make([]float32, n*out)
		kernels.MatMul(y, out, l.W, &in, kernel.Exact, 0, out)
		for r := range n {
			if l.Bias != nil {
				parts.Accumulate(y[r*out:(r+1)*out], l.Bias)
			}
		}
		return y
	}
	return &Prompt{Tokens: n, Gate: p.Gate, heads: at.KVHeads, keyDim: at.KeyDim, valueDim: at.ValueDim, k: through(at.K), v: through(at.V)}
}

// prefixRows is the number of its virtual tokens that stand as keys and values.
func (a *Adapter) prefixRows() int {
	if a.change == nil || a.change.prefix == nil {
		return 0
	}
	return a.change.prefix[0].K.Rows
}

// Virtual finds the row of the soft prompts of uses that a negative token stands for: they follow one another
// in the order of uses. The adapter is nil where there are not as many.
func Virtual(uses []Use, token int32) (*Adapter, int) {
	i := int(-1 - int64(token))
	for _, u := range uses {
		n := u.Adapter.Virtual()
		if i < n {
			return u.Adapter, i
		}
		i -= n
	}
	return nil, 0
}

// PrefixOf finds the keys and values of an attention, and the row of them, that a negative token of a row
// stands for; nil: it is a soft prompt's.
func PrefixOf(uses []Use, token int32, attention int) (*lora.Prefix, int) {
	if token >= 0 {
		return nil, 0
	}
	if a, i := Virtual(uses, token); a != nil && a.prefixRows() > 0 {
		return &a.change.prefix[attention], i
	}
	return nil, 0
}

// newEmbedDora is DoRA of an embedding, whose columns get lengths of their own, over all tokens. It may run
// beside Forward.
func newEmbedDora(w *quant.Matrix, e *lora.Delta) *DoRA {
	width, rank := w.Cols, e.A.Cols
	d := &DoRA{
		scale: float64(e.Scale), magnitude: e.Magnitude, gain: make([]float32, width),
		ww: make([]float32, width), wd: make([]float32, width), dd: make([]float32, width),
	}
	row, code := make([]float32, width), make([]float32, rank)
	ww, wa, gram := make([]float64, width), make([]float64, rank*width), make([]float64, rank*rank)
	for t := range w.Rows {
		quant.Row(row, w, t)
		quant.Row(code, e.A, t)
		for i, v := range row {
			ww[i] += float64(float64(v) * float64(v))
		}
		for k, c := range code {
			if c == 0 {
				continue
			}
			sums := wa[k*width : (k+1)*width]
			for i, v := range row {
				sums[i] += float64(float64(c) * float64(v))
			}
			for l, o := range code {
				gram[k*rank+l] += float64(float64(c) * float64(o))
			}
		}
	}
	for i := range width {
		quant.Row(code, e.B, i)
		wd, dd := 0.0, 0.0
		for k, v := range code {
			wd += float64(float64(v) * wa[k*width+i])
			part := 0.0
			for l, o := range code {
				part += float64(float64(o) * gram[k*rank+l])
			}
			dd += float64(float64(v) * part)
		}
		d.ww[i], d.wd[i], d.dd[i] = float32(ww[i]), float32(wd), float32(dd)
	}
	d.gains(d.gain, 1, 0)
	return d
}

// Attend adds f · softmax(q Kᵀ) V of one query head to o.
func (p *Prompt) Attend(o, q, scores []float32, head int, f float32) {
	most := float32(math.Inf(-1))
	for i := range scores {
		k := p.k[i*p.heads*p.keyDim+head*p.keyDim:][:p.keyDim]
		sum := float32(0)
		for d, v := range q {
			sum += float32(v * k[d])
		}
		scores[i] = sum
		most = max(most, sum)
	}
	total := float32(0)
	for i, v := range scores {
		scores[i] = float32(exactmath.Exp(float64(v - most)))
		total += scores[i]
	}
	for i, v := range scores {
		parts.AccumulateScaled(o, p.v[i*p.heads*p.valueDim+head*p.valueDim:][:p.valueDim], float32(f*float32(v/total)))
	}
}
