package attention

import (
	"math"

	"edged/core/infer/transformer/adapter"
	"edged/core/infer/transformer/batch"
	"edged/core/infer/transformer/bind"
	"edged/core/infer/transformer/exactmath"
	"edged/core/infer/transformer/parts"
	"edged/core/infer/transformer/position"
	"edged/core/model/arch"
	"edged/quant"
	"edged/quant/kernel"
)

// Grouped is grouped-query attention (Ainslie et al. 2023) over the paged cache: out = Wo · softmax(scale·q
// Kᵀ) V, with what arch.Attention says beside.
//
// A pass makes queries, keys and values of all rows in one product, then row by row normalises and rotates
// them and puts keys and values into the pages of the row's sequence. Then every pair of a row and a key head
// goes through the pages that the row sees, in spans of kernel.SpanPositions that are combined in their
// order, so that a row's bits do not depend on how many threads share a long context.
type Grouped struct {
	arch.Attention
	q, k, v, o   parts.Linear
	gate         parts.Linear // (Heads, Width) of HeadGated; else empty
	qNorm, kNorm headNorm
	sub          parts.Norm
	scale        float32
	rope         int        // index among the Batch's; -1: none
	slopes       []float32  // (Heads) ALiBi's; nil: none
	sinks        []float32  // (Heads); nil: none
	index        int        // of the block among the attention blocks
	cache        int        // of the block whose keys and values it reads, among those that keep any: the layer in the cache
	values       parts.Norm // of each head's values
	keys, vals   int        // values of a row of keys and of values of its own
	row          int        // values of a row of queries that lie in Batch.QKV by themselves; 0: beside keys and values
	latent       bool       // values are the first part of keys
	text         bool       // keys and values are those of the sequence's text, see Cross
	distances    *position.Table
	Last         bool // of the network: rows that want no logits are done when their keys and values are stored

	put   putJob
	att   attendJob
	fold  foldJob
	adapt adaptJob
	open  openJob
	gates headGateJob
}

// headNorm is an arch.QKNorm of queries or keys with its weights.
type headNorm struct {
	parts.Norm
	of   arch.QKRange
	each []float32 // (heads, dim) of EachHead
}

// New binds an attention of the layer.
func New(b *bind.Builder, op *arch.Attention) *Grouped {
	w, queries := b.Spec.Width, op.Heads*op.KeyDim
	if op.Gated {
		queries *= 2
	}
	a := &Grouped{
		Attention: *op, index: b.Attn, scale: op.Scale, rope: b.Rope(op.Position), slopes: position.Slopes(op.Position, op.Heads),
		q: b.Linear("attn_q", queries, w), cache: b.Caches,
	}
	if op.Owns() {
		a.k = b.Linear("attn_k", op.KVHeads*op.KeyDim, w)
		a.keys, a.vals = op.KVHeads*op.KeyDim, op.KVHeads*op.ValueDim
	} else {
		a.cache = b.CacheOf[op.From-1]
	}
	if op.Owns() && !op.KeyValue {
		a.v = b.Linear("attn_v", op.KVHeads*op.ValueDim, w)
	}
	a.o = b.Linear("attn_output", w, op.Heads*op.ValueDim)
	a.qNorm = newHeadNorm(b, "attn_q_norm", &op.QKNorm, op.Heads, op.KeyDim)
	if op.Owns() {
		a.kNorm = newHeadNorm(b, "attn_k_norm", &op.QKNorm, op.KVHeads, op.KeyDim)
	}
	a.sub = b.Norm(&op.Sub, op.Heads*op.ValueDim)
	if op.ValueEps != 0 {
		a.values = parts.Norm{Kind: arch.RMSNorm, Eps: op.ValueEps}
	}
	if a.scale == 0 {
		a.scale = float32(1 / math.Sqrt(float64(op.KeyDim)))
	}
	if op.HeadGated {
		a.gate = b.Linear("attn_gate", op.Heads, w)
	}
	a.distances = newTable(b, op)
	if op.Sinks {
		a.sinks = b.Required(b.Prefix+"attn_sinks.weight", op.Heads)
	}
	for _, l := range []*parts.Linear{&a.q, &a.k, &a.v, &a.o, &a.gate} {
		if l.W != nil {
			b.Weigh(l, 1, 1)
		}
	}
	b.Attn++
	if op.Owns() {
		b.CacheOf[b.Layer] = b.Caches
		b.Caches++
		b.Last = &a.Last
	}
	return a
}

// newHeadNorm binds the norm of queries or keys.
func newHeadNorm(b *bind.Builder, part string, n *arch.QKNorm, heads, dim int) headNorm {
	out := headNorm{Norm: parts.Norm{Kind: n.Kind, Eps: n.Eps}, of: n.Of}
	if n.Of == arch.NoQKNorm || n.Bare {
		return out
	}
	name := b.Prefix + part + ".weight"
	switch n.Of {
	case arch.PerHead:
		out.W = b.Required(name, dim)
		if n.Biased {
			out.B = b.Required(b.Prefix+part+".bias", dim)
		}
		b.Named(&out.Norm, name)
	case arch.WholeRow:
		out.W = b.Required(name, heads*dim)
		b.Named(&out.Norm, name)
	case arch.EachHead:
		m := b.Matrix(name, heads, dim)
		if b.Err == nil {
			out.each = make([]float32, heads*dim)
			for h := range heads {
				quant.Row(out.each[h*dim:(h+1)*dim], m, h)
			}
		}
	}
	return out
}

// normHeads normalises all heads of row t.
func normHeads(s *batch.Batch, n *headNorm, x []float32, dim, worker, t int) {
	k := s.K
	switch n.of {
	case arch.NoQKNorm:
	case arch.WholeRow:
		s.NormOf(&n.Norm, worker, t).Apply(k, x, x)
	default:
		one := *s.NormOf(&n.Norm, worker, t)
		for at := 0; at < len(x); at += dim {
			if n.each != nil {
				one.W = n.each[at : at+dim]
			}
			one.Apply(k, x[at:at+dim], x[at:at+dim])
		}
	}
}

// ld is the number of values of a row of queries, keys and values together.
func (a *Grouped) ld() int {
	if a.row > 0 {
		return a.row
	}
	return a.q.W.Rows + a.keys + a.vals
}

// group is the number of query heads of a key head.
func (a *Grouped) group() int { return a.Heads / a.KVHeads }

// Forward computes it, see batch.Op.
func (a *Grouped) Forward(s *batch.Batch) {
	q, ld := a.q.W.Rows, a.ld()
	s.Queue(&a.q, s.QKV, ld)
	if a.k.W != nil {
		s.Queue(&a.k, s.QKV[q:], ld)
	}
	if a.v.W != nil {
		s.Queue(&a.v, s.QKV[q+a.keys:], ld)
	}
	s.Compute(s.P, s.Groups, batch.Nothing)
	a.store(s)
	if a.Last {
		if s.KeepWanted(s.QKV, q, ld); s.T == 0 {
			return
		}
	}
	a.attend(s)
	if a.adapted(s) {
		a.adapt = adaptJob{s: s, a: a}
		s.Run(s.RowChunks(s.T), &a.adapt)
	}
	if a.Gated {
		a.open = openJob{s: s, a: a}
		s.Run(s.RowChunks(s.T), &a.open)
	}
	if a.HeadGated {
		s.Prepare(s.H, s.T, s.Width)
		s.Queue(&a.gate, s.Gate, a.Heads)
		s.Compute(s.P, s.Groups, batch.Nothing)
		a.gates = headGateJob{s: s, a: a}
		s.Run(s.RowChunks(s.T), &a.gates)
	}
	s.Over(&a.sub, s.O, s.T, a.o.W.Cols)
	s.Queue(&a.o, s.Out, s.Width)
	s.Compute(s.P, s.Groups, batch.Nothing)
}

// openJob multiplies attention's result by σ(gate), see putJob.apart.
type openJob struct {
	s *batch.Batch
	a *Grouped
}

func (j *openJob) Do(_, chunk int) {
	s, n, ld := j.s, j.a.Heads*j.a.KeyDim, j.a.ld()
	lo, hi := s.RowRange(s.T, chunk)
	for t := lo; t < hi; t++ {
		gate, o := s.QKV[t*ld+n:t*ld+2*n], s.O[t*n:(t+1)*n]
		s.K.Gate(gate, o, kernel.Func{Kind: kernel.Sigmoid})
		copy(o, gate)
	}
}

// headGateJob multiplies each head's result by σ of its logit.
type headGateJob struct {
	s *batch.Batch
	a *Grouped
}

func (j *headGateJob) Do(_, chunk int) {
	s, heads, n := j.s, j.a.Heads, j.a.ValueDim
	lo, hi := s.RowRange(s.T, chunk)
	for t := lo; t < hi; t++ {
		gate := s.Gate[t*heads : (t+1)*heads]
		s.K.Activate(gate, kernel.Func{Kind: kernel.Sigmoid})
		for h, g := range gate {
			parts.Scale(s.O[(t*heads+h)*n:(t*heads+h+1)*n], g)
		}
	}
}

// store normalises and rotates the heads of q and k, scales q and puts k and v into the cache.
func (a *Grouped) store(s *batch.Batch) {
	a.put = putJob{s: s, a: a}
	s.Run(s.RowChunks(s.T), &a.put)
}

type putJob struct {
	s *batch.Batch
	a *Grouped
}

func (j *putJob) Do(worker, chunk int) {
	lo, hi := j.s.RowRange(j.s.T, chunk)
	for t := lo; t < hi; t++ {
		j.row(worker, t)
	}
}

func (j *putJob) row(worker, t int) {
	s, a := j.s, j.a
	nq, nk, ld := a.q.W.Rows, a.keys, a.ld()
	row := s.QKV[t*ld : (t+1)*ld]
	q, k, v := row[:nq], row[nq:nq+nk], row[nq+nk:]
	r := &s.Rows[t]
	if a.Gated {
		nq /= 2
		q = j.apart(q, t)
	}
	if a.KeyValue {
		copy(v, k)
	}
	if !a.QKNorm.After {
		normHeads(s, &a.qNorm, q, a.KeyDim, worker, t)
		normHeads(s, &a.kNorm, k, a.KeyDim, worker, t)
	}
	if !a.values.None() {
		for at := 0; at < len(v); at += a.ValueDim {
			a.values.Apply(s.K, v[at:at+a.ValueDim], v[at:at+a.ValueDim])
		}
	}
	clip(row, a.Clip) // OLMoE: behind the norms; others that clip have none
	if a.rope >= 0 {
		turn := &s.Ropes[a.rope]
		cos, sin := s.Angles(a.rope, t)
		for at := 0; at < nq; at += a.KeyDim {
			s.K.Rotate(q[at:at+turn.Of.Dim], cos, sin, turn.Of.Adjacent)
		}
		for at := 0; at < nk; at += a.KeyDim {
			s.K.Rotate(k[at:at+turn.Of.Dim], cos, sin, turn.Of.Adjacent)
		}
	}
	if a.QKNorm.After {
		normHeads(s, &a.qNorm, q, a.KeyDim, worker, t)
		normHeads(s, &a.kNorm, k, a.KeyDim, worker, t)
	}
	f := a.scale * a.temper(r.Pos)
	for i := range q {
		q[i] *= f
	}
	if !a.Owns() {
		return
	}
	if p, i := adapter.PrefixOf(r.Uses, r.Token, a.index); p != nil {
		quant.Row(k, p.K, i)
		quant.Row(v, p.V, i)
	}
	kvs := s.Cache
	l, mem := kvs.Layer(a.cache), kvs.Mem()
	page := int(r.Seq.Table()[r.Pos/kernel.BlockPositions]) * l.Stride
	slot := r.Pos % kernel.BlockPositions
	for head := range a.KVHeads {
		kOff, vOff := kvs.Offsets(a.cache, head)
		s.K.PutKV(mem[page+kOff:page+kOff+l.KeyBytes], kvs.Type(), slot, k[head*a.KeyDim:(head+1)*a.KeyDim])
		s.K.PutKV(mem[page+vOff:page+vOff+l.ValueBytes], kvs.Type(), slot, v[head*a.ValueDim:(head+1)*a.ValueDim])
	}
}

// apart turns [query | gate] of each head of row t into all queries, which it returns, and then all gates.
// The row of results, which attention is still to write, holds the gates meanwhile.
func (j *putJob) apart(x []float32, t int) []float32 {
	n, dim := len(x)/2, j.a.KeyDim
	gates := j.s.O[t*n : (t+1)*n]
	for h := 0; h < n; h += dim {
		copy(gates[h:h+dim], x[2*h+dim:])
		copy(x[h:h+dim], x[2*h:])
	}
	copy(x[n:], gates)
	return x[:n]
}

// clip bounds values to ±c.
func clip(x []float32, c float32) {
	if c == 0 {
		return
	}
	for i, v := range x {
		x[i] = min(max(v, -c), c)
	}
}

// temper is the factor of queries at a position, see arch.Temper.
func (a *Grouped) temper(pos int) float32 {
	t := &a.Temper
	if t.Beta == 0 || pos < t.Original {
		return 1
	}
	return 1 + float32(t.Beta*float32(exactmath.Ln(float64(1+pos/t.Original))))
}

// attend computes s.o = softmax(q Kᵀ) V for every row.
func (a *Grouped) attend(s *batch.Batch) {
	j := &a.att
	*j = attendJob{s: s, a: a, spans: 1}
	items := s.T * a.KVHeads
	if items < batch.SplitItems*s.Threads {
		for t := range s.Rows {
			lo, hi := j.visible(&s.Rows[t])
			j.spans = max(j.spans, spanCount(lo, hi))
		}
	}
	s.Run(items*j.spans, j)
	if j.spans > 1 {
		a.fold.attendJob = j
		s.Run(items, &a.fold)
	}
}

// attendJob is one (row, KV head), or one of its spans where spans > 1.
type attendJob struct {
	s     *batch.Batch
	a     *Grouped
	spans int // places for partial results of each (row, KV head)
}

// visible is the range of positions that a row attends to: to both sides all of its sequence that stands in
// the batch, which of an encoder is the whole text.
func (j *attendJob) visible(r *batch.Row) (lo, hi int) {
	if j.a.text {
		return 0, r.Text.Len()
	}
	if j.a.Both {
		hi = r.Seq.Len() + r.Of
		if j.a.Window > 0 {
			lo, hi = max(0, r.Pos-j.a.Window), min(hi, r.Pos+j.a.Window+1)
		}
		return lo, hi
	}
	if j.a.Window > 0 {
		lo = max(0, r.Pos+1-j.a.Window)
	}
	return lo, r.Pos + 1
}

// spanCount is the number of spans that [lo, hi) touches: spans are cut at multiples of SpanPositions.
func spanCount(lo, hi int) int {
	return (hi-1)/kernel.SpanPositions - lo/kernel.SpanPositions + 1
}

// span is the i-th piece of [lo, hi).
func span(lo, hi, i int) (int, int) {
	first := (lo/kernel.SpanPositions + i) * kernel.SpanPositions
	return max(lo, first), min(hi, first+kernel.SpanPositions)
}

func (j *attendJob) Do(w, chunk int) {
	s := j.s
	item, at := chunk/j.spans, chunk%j.spans
	lo, hi := j.visible(&s.Rows[item/j.a.KVHeads])
	n := spanCount(lo, hi)
	x := &s.Workers[w]
	x.Total, x.Part = partialOf(x.Sums[0], j.a), partialOf(x.Sums[1], j.a)
	if j.spans > 1 {
		if at < n {
			x.Split = j.partial(chunk)
			j.one(w, item, at, lo, hi, &x.Split)
		}
		return
	}
	j.one(w, item, 0, lo, hi, &x.Total)
	for i := 1; i < n; i++ {
		j.one(w, item, i, lo, hi, &x.Part)
		s.K.Combine(&x.Total, &x.Part)
	}
	j.finish(item, &x.Total)
}

// one computes span i of an item.
func (j *attendJob) one(w, item, i, lo, hi int, dst *kernel.Partial) {
	s, a := j.s, j.a
	t, head := item/a.KVHeads, item%a.KVHeads
	group := a.group()
	at := t*a.ld() + head*group*a.KeyDim
	args := &s.Workers[w].Args
	*args = kernel.AttendArgs{
		Q: s.QKV[at : at+group*a.KeyDim], Group: group, HeadDim: a.KeyDim, ValueDim: a.ValueDim, Type: s.Cache.Type(),
		Arena: s.Cache.Mem(), PageBytes: s.Cache.Layer(a.cache).Stride, Pages: s.Rows[t].Seq.Table(), SoftCap: a.Cap,
	}
	if a.text {
		args.Pages = s.Rows[t].Text.Table()
	}
	if d := a.distances; d != nil {
		args.Bias, args.BiasStride, args.BiasAt = d.All[head*group*d.Stride:], d.Stride, d.At(s.Rows[t].Pos)
	}
	if a.slopes != nil {
		args.Slopes, args.Pos = a.slopes[head*group:(head+1)*group], s.Rows[t].Pos
	}
	args.KOff, args.VOff = s.Cache.Offsets(a.cache, head)
	args.Latent = a.latent
	args.Lo, args.Hi = span(lo, hi, i)
	s.K.Attend(dst, args)
}

// foldJob combines the spans of one (row, KV head).
type foldJob struct{ *attendJob }

func (j *foldJob) Do(w, item int) {
	s := j.s
	lo, hi := j.visible(&s.Rows[item/j.a.KVHeads])
	first := item * j.spans
	x := &s.Workers[w]
	x.First = j.partial(first)
	for i := 1; i < spanCount(lo, hi); i++ {
		x.Split = j.partial(first + i)
		s.K.Combine(&x.First, &x.Split)
	}
	j.finish(item, &x.First)
}

// partialLen is the number of values of a partial result.
func (a *Grouped) partialLen() int { return a.group() * (2 + a.ValueDim) }

// partial is place i for a partial result.
func (j *attendJob) partial(i int) kernel.Partial {
	n := j.a.partialLen()
	return partialOf(j.s.Parts[i*n:(i+1)*n], j.a)
}

// partialOf divides memory that is long enough.
func partialOf(f []float32, a *Grouped) kernel.Partial {
	group, n := a.group(), a.partialLen()
	return kernel.Partial{M: f[:group], L: f[group : 2*group], O: f[2*group : n]}
}

// finish writes the attention output of one (row, KV head).
func (j *attendJob) finish(item int, p *kernel.Partial) {
	a, n := j.a, len(p.O) // the heads of an item lie together, and items in order
	var sinks []float32
	if a.sinks != nil {
		head := item % a.KVHeads
		sinks = a.sinks[head*a.group() : (head+1)*a.group()]
	}
	kernel.FinishSinks(j.s.O[item*n:(item+1)*n], p, sinks)
}

// Seen is the attention as adapters see it.
func (a *Grouped) Seen() adapter.Attention {
	return adapter.Attention{
		Output:   a.o.Name,
		K:        &a.k,
		V:        &a.v,
		KVHeads:  a.KVHeads,
		KeyDim:   a.KeyDim,
		ValueDim: a.ValueDim,
		Owns:     a.Owns(),
		Latent:   a.latent,
		Bare: !a.KeyValue && a.values.None() && a.QKNorm.Of == arch.NoQKNorm && a.Sub.Kind == arch.NoNorm &&
			a.scale == float32(1/math.Sqrt(float64(a.KeyDim))),
	}
}

// Room makes room for an attention's rows.
func Room(z *batch.Sizes, op *arch.Attention) {
	q, k, v := op.Heads*op.KeyDim, op.KVHeads*op.KeyDim, op.KVHeads*op.ValueDim
	if op.Gated {
		q *= 2
	}
	if !op.Owns() {
		k, v = 0, 0
	}
	z.Need(batch.BufQKV, q+k+v)
	z.Need(batch.BufLora, q+k+v)
	z.Need(batch.BufO, op.Heads*op.ValueDim)
	z.Product(op.Heads * op.ValueDim)
	z.Attends(op.Heads / op.KVHeads * (2 + op.ValueDim))
	if op.HeadGated {
		z.Need(batch.BufGate, op.Heads)
	}
	if r, ok := op.Position.(arch.Rope); ok {
		z.Rope(r)
	}
}
