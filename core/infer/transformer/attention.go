package transformer

import (
	"math"

	"edged/core/model/arch"
	"edged/quant"
	"edged/quant/kernel"
)

// attention is grouped-query attention (Ainslie et al. 2023) over the paged cache:
// out = Wo · softmax(scale·q Kᵀ) V, with what arch.Attention says beside.
type attention struct {
	arch.Attention
	q, k, v, o   linear
	gate         linear // (Heads, Width) of HeadGated; else empty
	qNorm, kNorm headNorm
	sub          norm
	scale        float32
	rope         int       // index among the network's; -1: none
	slopes       []float32 // (Heads) ALiBi's; nil: none
	sinks        []float32 // (Heads); nil: none
	index        int       // of the block among the attention blocks
	cache        int       // of the block whose keys and values it reads, among those that keep any: the layer in the cache
	values       norm      // of each head's values
	keys, vals   int       // values of a row of keys and of values of its own
	row          int       // values of a row of queries that lie in step.qkv by themselves; 0: beside keys and values
	latent       bool      // values are the first part of keys
	text         bool      // keys and values are those of the sequence's text, see cross
	distances    *distances
	last         bool // of the network: rows that want no logits are done when their keys and values are stored
}

// headNorm is an arch.QKNorm of queries or keys with its weights.
type headNorm struct {
	norm
	of   arch.QKRange
	each []float32 // (heads, dim) of EachHead
}

// attention binds an attention of the layer.
func (b *builder) attention(op *arch.Attention) *attention {
	w, queries := b.spec.Width, op.Heads*op.KeyDim
	if op.Gated {
		queries *= 2
	}
	a := &attention{
		Attention: *op, index: b.attn, scale: op.Scale, rope: b.rope(op.Position), slopes: slopes(op.Position, op.Heads),
		q: b.linear("attn_q", queries, w), cache: b.caches,
	}
	if op.Owns() {
		a.k = b.linear("attn_k", op.KVHeads*op.KeyDim, w)
		a.keys, a.vals = op.KVHeads*op.KeyDim, op.KVHeads*op.ValueDim
	} else {
		a.cache = b.cacheOf[op.From-1]
	}
	if op.Owns() && !op.KeyValue {
		a.v = b.linear("attn_v", op.KVHeads*op.ValueDim, w)
	}
	a.o = b.linear("attn_output", w, op.Heads*op.ValueDim)
	a.qNorm = b.headNorm("attn_q_norm", &op.QKNorm, op.Heads, op.KeyDim)
	if op.Owns() {
		a.kNorm = b.headNorm("attn_k_norm", &op.QKNorm, op.KVHeads, op.KeyDim)
	}
	a.sub = b.norm(&op.Sub, op.Heads*op.ValueDim)
	if op.ValueEps != 0 {
		a.values = norm{kind: arch.RMSNorm, eps: op.ValueEps}
	}
	if a.scale == 0 {
		a.scale = float32(1 / math.Sqrt(float64(op.KeyDim)))
	}
	if op.HeadGated {
		a.gate = b.linear("attn_gate", op.Heads, w)
	}
	a.distances = b.table(op)
	if op.Sinks {
		a.sinks = b.required(b.prefix+"attn_sinks.weight", op.Heads)
	}
	for _, l := range []*linear{&a.q, &a.k, &a.v, &a.o, &a.gate} {
		if l.w != nil {
			b.weigh(l, 1, 1)
		}
	}
	b.attn++
	if op.Owns() {
		b.cacheOf[b.layer] = b.caches
		b.caches++
		b.last = &a.last
	}
	b.net.attentions = append(b.net.attentions, a)
	return a
}

// headNorm binds the norm of queries or keys.
func (b *builder) headNorm(part string, n *arch.QKNorm, heads, dim int) headNorm {
	out := headNorm{norm: norm{kind: n.Kind, eps: n.Eps}, of: n.Of}
	if n.Of == arch.NoQKNorm || n.Bare {
		return out
	}
	name := b.prefix + part + ".weight"
	switch n.Of {
	case arch.PerHead:
		out.w = b.required(name, dim)
		if n.Biased {
			out.b = b.required(b.prefix+part+".bias", dim)
		}
		b.named(&out.norm, name)
	case arch.WholeRow:
		out.w = b.required(name, heads*dim)
		b.named(&out.norm, name)
	case arch.EachHead:
		m := b.matrix(name, heads, dim)
		if b.err == nil {
			out.each = make([]float32, heads*dim)
			for h := range heads {
				quant.Row(out.each[h*dim:(h+1)*dim], m, h)
			}
		}
	}
	return out
}

// normHeads normalises all heads of row t.
func (s *step) normHeads(n *headNorm, x []float32, dim, worker, t int) {
	k := s.k
	switch n.of {
	case arch.NoQKNorm:
	case arch.WholeRow:
		s.normOf(&n.norm, worker, t).apply(k, x, x)
	default:
		one := *s.normOf(&n.norm, worker, t)
		for at := 0; at < len(x); at += dim {
			if n.each != nil {
				one.w = n.each[at : at+dim]
			}
			one.apply(k, x[at:at+dim], x[at:at+dim])
		}
	}
}

// ld is the number of values of a row of queries, keys and values together.
func (a *attention) ld() int {
	if a.row > 0 {
		return a.row
	}
	return a.q.w.Rows + a.keys + a.vals
}

// group is the number of query heads of a key head.
func (a *attention) group() int { return a.Heads / a.KVHeads }

func (a *attention) forward(s *step) {
	q, ld := a.q.w.Rows, a.ld()
	s.queue(&a.q, s.qkv, ld)
	if a.k.w != nil {
		s.queue(&a.k, s.qkv[q:], ld)
	}
	if a.v.w != nil {
		s.queue(&a.v, s.qkv[q+a.keys:], ld)
	}
	s.compute(s.p, s.groups, nothing)
	s.store(a)
	if a.last {
		if s.keepWanted(s.qkv, q, ld); s.t == 0 {
			return
		}
	}
	s.attend(a)
	if s.adapted(a.index) {
		s.adapt = adaptJob{s: s, a: a}
		s.run(s.rowChunks(s.t), &s.adapt)
	}
	if a.Gated {
		s.open.a = a
		s.run(s.rowChunks(s.t), &s.open)
	}
	if a.HeadGated {
		s.prepare(s.h, s.t, s.m.spec.Width)
		s.queue(&a.gate, s.gate, a.Heads)
		s.compute(s.p, s.groups, nothing)
		s.headGate.a = a
		s.run(s.rowChunks(s.t), &s.headGate)
	}
	s.over(&a.sub, s.o, s.t, a.o.w.Cols)
	s.queue(&a.o, s.out, s.m.spec.Width)
	s.compute(s.p, s.groups, nothing)
}

// openJob multiplies attention's result by σ(gate), see putJob.apart.
type openJob struct {
	s *step
	a *attention
}

func (j *openJob) Do(_, chunk int) {
	s, n, ld := j.s, j.a.Heads*j.a.KeyDim, j.a.ld()
	lo, hi := s.rowRange(s.t, chunk)
	for t := lo; t < hi; t++ {
		gate, o := s.qkv[t*ld+n:t*ld+2*n], s.o[t*n:(t+1)*n]
		s.k.Gate(gate, o, kernel.Func{Kind: kernel.Sigmoid})
		copy(o, gate)
	}
}

// headGateJob multiplies each head's result by σ of its logit.
type headGateJob struct {
	s *step
	a *attention
}

func (j *headGateJob) Do(_, chunk int) {
	s, heads, n := j.s, j.a.Heads, j.a.ValueDim
	lo, hi := s.rowRange(s.t, chunk)
	for t := lo; t < hi; t++ {
		gate := s.gate[t*heads : (t+1)*heads]
		s.k.Activate(gate, kernel.Func{Kind: kernel.Sigmoid})
		for h, g := range gate {
			scale(s.o[(t*heads+h)*n:(t*heads+h+1)*n], g)
		}
	}
}

// store normalises and rotates the heads of q and k, scales q and puts k and v into the cache.
func (s *step) store(a *attention) {
	s.put.a = a
	s.run(s.rowChunks(s.t), &s.put)
}

type putJob struct {
	s *step
	a *attention
}

func (j *putJob) Do(worker, chunk int) {
	lo, hi := j.s.rowRange(j.s.t, chunk)
	for t := lo; t < hi; t++ {
		j.row(worker, t)
	}
}

func (j *putJob) row(worker, t int) {
	s, a := j.s, j.a
	nq, nk, ld := a.q.w.Rows, a.keys, a.ld()
	row := s.qkv[t*ld : (t+1)*ld]
	q, k, v := row[:nq], row[nq:nq+nk], row[nq+nk:]
	r := &s.rows[t]
	if a.Gated {
		nq /= 2
		q = j.apart(q, t)
	}
	if a.KeyValue {
		copy(v, k)
	}
	if !a.QKNorm.After {
		s.normHeads(&a.qNorm, q, a.KeyDim, worker, t)
		s.normHeads(&a.kNorm, k, a.KeyDim, worker, t)
	}
	if !a.values.none() {
		for at := 0; at < len(v); at += a.ValueDim {
			a.values.apply(s.k, v[at:at+a.ValueDim], v[at:at+a.ValueDim])
		}
	}
	clip(row, a.Clip) // OLMoE: behind the norms; others that clip have none
	if a.rope >= 0 {
		turn := &s.m.net.ropes[a.rope]
		cos, sin := s.angles(a.rope, t)
		for at := 0; at < nq; at += a.KeyDim {
			s.k.Rotate(q[at:at+turn.of.Dim], cos, sin, turn.of.Adjacent)
		}
		for at := 0; at < nk; at += a.KeyDim {
			s.k.Rotate(k[at:at+turn.of.Dim], cos, sin, turn.of.Adjacent)
		}
	}
	if a.QKNorm.After {
		s.normHeads(&a.qNorm, q, a.KeyDim, worker, t)
		s.normHeads(&a.kNorm, k, a.KeyDim, worker, t)
	}
	f := a.scale * a.temper(r.pos)
	for i := range q {
		q[i] *= f
	}
	if !a.Owns() {
		return
	}
	if c, i := prefixOf(r.uses, r.token); c != nil {
		quant.Row(k, c.prefix[a.index].K, i)
		quant.Row(v, c.prefix[a.index].V, i)
	}
	kvs := s.m.kv
	l, mem := kvs.Layer(a.cache), kvs.Mem()
	page := int(r.seq.Table()[r.pos/kernel.BlockPositions]) * l.Stride
	slot := r.pos % kernel.BlockPositions
	for head := range a.KVHeads {
		kOff, vOff := kvs.Offsets(a.cache, head)
		s.k.PutKV(mem[page+kOff:page+kOff+l.KeyBytes], kvs.Type(), slot, k[head*a.KeyDim:(head+1)*a.KeyDim])
		s.k.PutKV(mem[page+vOff:page+vOff+l.ValueBytes], kvs.Type(), slot, v[head*a.ValueDim:(head+1)*a.ValueDim])
	}
}

// apart turns [query | gate] of each head of row t into all queries, which it returns, and then all gates. The row of results, which
// attention is still to write, holds the gates meanwhile.
func (j *putJob) apart(x []float32, t int) []float32 {
	n, dim := len(x)/2, j.a.KeyDim
	gates := j.s.o[t*n : (t+1)*n]
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
func (a *attention) temper(pos int) float32 {
	t := &a.Temper
	if t.Beta == 0 || pos < t.Original {
		return 1
	}
	return 1 + float32(t.Beta*float32(ln(float64(1+pos/t.Original))))
}

// keepWanted moves the rows that want logits to the front, with the first q values of those of buf, ld values apart, and forgets the
// others.
func (s *step) keepWanted(buf []float32, q, ld int) {
	w, n := s.m.spec.Width, 0
	s.sub = s.sub[:0]
	for _, g := range s.groups {
		lo := n
		for t := g.lo; t < g.hi; t++ {
			if s.rows[t].logits == nil && s.rows[t].sum == nil {
				continue
			}
			if n != t {
				s.rows[n] = s.rows[t]
				for _, x := range [][]float32{s.x, s.h, s.d} { // h, d: of a part that runs beside this one
					copy(x[n*w:(n+1)*w], x[t*w:(t+1)*w])
				}
				copy(buf[n*ld:n*ld+q], buf[t*ld:t*ld+q])
				s.moveRow(n, t)
			}
			n++
		}
		if n > lo {
			s.sub = append(s.sub, rowGroup{lo: lo, hi: n, uses: g.uses})
		}
	}
	s.t = n
	s.rows = s.rows[:n]
	s.groups, s.sub = s.sub, s.groups
}

// moveRow puts what the layers behind the last that keeps anything still read of row t in the place of row n: angles, and what its
// token has for every layer.
func (s *step) moveRow(n, t int) {
	net := &s.m.net
	for i := range net.ropes {
		c, d := s.angles(i, t)
		a, b := s.angles(i, n)
		copy(a, c)
		copy(b, d)
	}
	copy(s.streams[n*s.all:(n+1)*s.all], s.streams[t*s.all:(t+1)*s.all])
	if p := net.perLayer; p != nil {
		copy(s.token[n*p.all:(n+1)*p.all], s.token[t*p.all:(t+1)*p.all])
	}
}

// splitItems is the number of (row, KV head) pairs per thread below which the spans of a long context are shared out
// too. It changes no bit: spans are combined in order either way.
const splitItems = 4

// attend computes s.o = softmax(q Kᵀ) V for every row.
func (s *step) attend(a *attention) {
	j := &s.att
	j.a, j.spans = a, 1
	items := s.t * a.KVHeads
	if items < splitItems*s.threads {
		for t := range s.rows {
			lo, hi := j.visible(&s.rows[t])
			j.spans = max(j.spans, spanCount(lo, hi))
		}
	}
	s.run(items*j.spans, j)
	if j.spans > 1 {
		s.run(items, &s.fold)
	}
}

// attendJob is one (row, KV head), or one of its spans where spans > 1.
type attendJob struct {
	s     *step
	a     *attention
	spans int // places for partial results of each (row, KV head)
}

// visible is the range of positions that a row attends to: to both sides all of its sequence that stands in the batch, which of an
// encoder is the whole text.
func (j *attendJob) visible(r *row) (lo, hi int) {
	if j.a.text {
		return 0, r.seq.text.Len()
	}
	if j.a.Both {
		hi = r.seq.Len() + r.seq.rows
		if j.a.Window > 0 {
			lo, hi = max(0, r.pos-j.a.Window), min(hi, r.pos+j.a.Window+1)
		}
		return lo, hi
	}
	if j.a.Window > 0 {
		lo = max(0, r.pos+1-j.a.Window)
	}
	return lo, r.pos + 1
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
	lo, hi := j.visible(&s.rows[item/j.a.KVHeads])
	n := spanCount(lo, hi)
	x := &s.workers[w]
	x.total, x.part = partialOf(x.sums[0], j.a), partialOf(x.sums[1], j.a)
	if j.spans > 1 {
		if at < n {
			x.split = s.partial(chunk)
			j.one(w, item, at, lo, hi, &x.split)
		}
		return
	}
	j.one(w, item, 0, lo, hi, &x.total)
	for i := 1; i < n; i++ {
		j.one(w, item, i, lo, hi, &x.part)
		s.k.Combine(&x.total, &x.part)
	}
	s.finish(item, &x.total)
}

// one computes span i of an item.
func (j *attendJob) one(w, item, i, lo, hi int, dst *kernel.Partial) {
	s, a := j.s, j.a
	t, head := item/a.KVHeads, item%a.KVHeads
	group := a.group()
	at := t*a.ld() + head*group*a.KeyDim
	args := &s.workers[w].args
	*args = kernel.AttendArgs{
		Q: s.qkv[at : at+group*a.KeyDim], Group: group, HeadDim: a.KeyDim, ValueDim: a.ValueDim, Type: s.m.kv.Type(),
		Arena: s.m.kv.Mem(), PageBytes: s.m.kv.Layer(a.cache).Stride, Pages: s.rows[t].seq.Table(), SoftCap: a.Cap,
	}
	if a.text {
		args.Pages = s.rows[t].seq.text.Table()
	}
	if d := a.distances; d != nil {
		args.Bias, args.BiasStride, args.BiasAt = d.all[head*group*d.stride:], d.stride, d.at(s.rows[t].pos)
	}
	if a.slopes != nil {
		args.Slopes, args.Pos = a.slopes[head*group:(head+1)*group], s.rows[t].pos
	}
	args.KOff, args.VOff = s.m.kv.Offsets(a.cache, head)
	args.Latent = a.latent
	args.Lo, args.Hi = span(lo, hi, i)
	s.k.Attend(dst, args)
}

// foldJob combines the spans of one (row, KV head).
type foldJob struct{ s *step }

func (j *foldJob) Do(w, item int) {
	s := j.s
	lo, hi := s.att.visible(&s.rows[item/s.att.a.KVHeads])
	first := item * s.att.spans
	x := &s.workers[w]
	x.first = s.partial(first)
	for i := 1; i < spanCount(lo, hi); i++ {
		x.split = s.partial(first + i)
		s.k.Combine(&x.first, &x.split)
	}
	s.finish(item, &x.first)
}

// partialLen is the number of values of a partial result.
func (a *attention) partialLen() int { return a.group() * (2 + a.ValueDim) }

// partial is place i for a partial result.
func (s *step) partial(i int) kernel.Partial {
	n := s.att.a.partialLen()
	return partialOf(s.parts[i*n:(i+1)*n], s.att.a)
}

// partialOf divides memory that is long enough.
func partialOf(f []float32, a *attention) kernel.Partial {
	group, n := a.group(), a.partialLen()
	return kernel.Partial{M: f[:group], L: f[group : 2*group], O: f[2*group : n]}
}

// finish writes the attention output of one (row, KV head).
func (s *step) finish(item int, p *kernel.Partial) {
	a, n := s.att.a, len(p.O) // the heads of an item lie together, and items in order
	var sinks []float32
	if a.sinks != nil {
		head := item % a.KVHeads
		sinks = a.sinks[head*a.group() : (head+1)*a.group()]
	}
	kernel.FinishSinks(s.o[item*n:(item+1)*n], p, sinks)
}
