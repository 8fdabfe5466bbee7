package transformer

import (
	"math"

	"edged/quant/kernel"
)

// attentionKind says what an architecture's attention has beside the common part.
type attentionKind struct {
	qkvBias   bool // q, k and v must have biases (they are used wherever the file has them)
	outBias   bool // so must the output
	headNorm  bool // RMSNorm over each q and k head
	layerNorm bool // LayerNorm before the block, else RMSNorm
	window    int  // positions that a row sees, itself included; 0: all
}

// attention is grouped-query attention (Ainslie et al. 2023) over the paged cache:
// d = Wo · softmax(q Kᵀ / √HeadDim) V.
type attention struct {
	norm         norm
	q, k, v, o   linear
	qNorm, kNorm []float32 // (HeadDim); nil: none
	eps          float32
	window       int
	scale        float32
	index        int  // of the block among the attention blocks: the layer in the cache
	last         bool // of the network: rows that want no logits are done when their keys and values are stored
}

// attention binds the attention block of a layer.
func (b *builder) attention(layer int, kind attentionKind) *attention {
	h := b.h
	q, kv := h.Heads*h.HeadDim, h.KVHeads*h.HeadDim
	name := func(part string) string { return layerName(layer, part) }
	a := &attention{
		window: kind.window, eps: h.NormEps, index: b.attn,
		scale: float32(1 / math.Sqrt(float64(h.HeadDim))),
	}
	if kind.layerNorm {
		a.norm = b.layerNorm(name("attn_norm"))
	} else {
		a.norm = b.rms(name("attn_norm"))
	}
	bind := b.linear
	if kind.qkvBias {
		bind = b.biased
	}
	a.q, a.k, a.v = bind(name("attn_q"), q, h.Width), bind(name("attn_k"), kv, h.Width), bind(name("attn_v"), kv, h.Width)
	bind = b.linear
	if kind.outBias {
		bind = b.biased
	}
	a.o = bind(name("attn_output"), h.Width, q)
	if kind.headNorm {
		a.qNorm, a.kNorm = b.required(name("attn_q_norm.weight"), h.HeadDim), b.required(name("attn_k_norm.weight"), h.HeadDim)
	}
	for _, l := range []*linear{&a.q, &a.k, &a.v, &a.o} {
		b.weigh(l, 1, 1)
	}
	b.attn++
	b.last = a
	return a
}

// noWindow refuses a sliding window that the architecture does not define.
func (b *builder) noWindow() {
	if b.h.Window != 0 {
		b.fail("a sliding window of %d positions is not supported for this architecture", b.h.Window)
	}
}

func (a *attention) forward(s *step) {
	q, kv := a.q.w.Rows, a.k.w.Rows
	ld := q + 2*kv
	s.normalize(&a.norm)
	s.queue(&a.q, s.qkv, ld)
	s.queue(&a.k, s.qkv[q:], ld)
	s.queue(&a.v, s.qkv[q+kv:], ld)
	s.compute(s.p, s.groups, nothing)
	s.store(a)
	if a.last {
		if s.keepWanted(q, ld); s.t == 0 {
			return
		}
	}
	s.attend(a)
	s.prepare(s.o, s.t, q)
	s.queue(&a.o, s.d, s.m.hyper.Width)
	s.compute(s.p, s.groups, nothing)
	s.add = true
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

func (j *putJob) Do(_, chunk int) {
	lo, hi := j.s.rowRange(j.s.t, chunk)
	for t := lo; t < hi; t++ {
		j.row(t)
	}
}

func (j *putJob) row(t int) {
	s, a, h := j.s, j.a, &j.s.m.hyper
	n, kv, hd := h.Heads*h.HeadDim, h.KVHeads*h.HeadDim, h.HeadDim
	qkv := s.qkv[t*(n+2*kv) : (t+1)*(n+2*kv)]
	half := h.RopeDim / 2
	cos, sin := s.cos[t*half:(t+1)*half], s.sin[t*half:(t+1)*half]
	q := qkv[:n]
	for at := 0; at < n; at += hd {
		s.turn(q[at:at+hd], a.qNorm, a.eps, cos, sin)
	}
	for i := range q {
		q[i] *= a.scale
	}
	r := &s.rows[t]
	kvs := s.m.kv
	page := int(r.seq.pages[r.pos/kernel.BlockPositions]) * kvs.stride()
	slot := r.pos % kernel.BlockPositions
	for head := range h.KVHeads {
		k := qkv[n+head*hd : n+(head+1)*hd]
		v := qkv[n+kv+head*hd : n+kv+(head+1)*hd]
		s.turn(k, a.kNorm, a.eps, cos, sin)
		kOff, vOff := kvs.offsets(a.index, head)
		s.k.PutKV(kvs.mem[page+kOff:page+kOff+kvs.subBytes], kvs.kind, slot, k)
		s.k.PutKV(kvs.mem[page+vOff:page+vOff+kvs.subBytes], kvs.kind, slot, v)
	}
}

// turn normalises one head where the architecture does, and rotates it.
func (s *step) turn(x, norm []float32, eps float32, cos, sin []float32) {
	if norm != nil {
		s.k.RMSNorm(x, x, norm, eps)
	}
	if len(cos) > 0 {
		s.k.Rotate(x[:2*len(cos)], cos, sin, s.m.hyper.Interleaved)
	}
}

// keepWanted moves the rows that want logits to the front and forgets the others.
func (s *step) keepWanted(q, ld int) {
	w, n := s.m.hyper.Width, 0
	s.sub = s.sub[:0]
	for _, g := range s.groups {
		lo := n
		for t := g.lo; t < g.hi; t++ {
			if s.rows[t].logits == nil && s.rows[t].sum == nil {
				continue
			}
			if n != t {
				s.rows[n] = s.rows[t]
				copy(s.x[n*w:(n+1)*w], s.x[t*w:(t+1)*w])
				copy(s.qkv[n*ld:n*ld+q], s.qkv[t*ld:t*ld+q])
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

// splitItems is the number of (row, KV head) pairs per thread below which the spans of a long context are shared out
// too. It changes no bit: spans are combined in order either way.
const splitItems = 4

// attend computes s.o = softmax(q Kᵀ) V for every row.
func (s *step) attend(a *attention) {
	h := &s.m.hyper
	j := &s.att
	j.a, j.spans = a, 1
	items := s.t * h.KVHeads
	if items < splitItems*s.threads {
		for t := range s.rows {
			lo, hi := j.visible(s.rows[t].pos)
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

// visible is the range of positions that a row at pos attends to.
func (j *attendJob) visible(pos int) (lo, hi int) {
	if j.a.window > 0 {
		lo = max(0, pos+1-j.a.window)
	}
	return lo, pos + 1
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
	lo, hi := j.visible(s.rows[item/s.m.hyper.KVHeads].pos)
	n := spanCount(lo, hi)
	x := &s.workers[w]
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
	s, h := j.s, &j.s.m.hyper
	t, head := item/h.KVHeads, item%h.KVHeads
	group := h.Heads / h.KVHeads
	at := t*(h.Heads+2*h.KVHeads)*h.HeadDim + head*group*h.HeadDim
	args := &s.workers[w].args
	*args = kernel.AttendArgs{
		Q: s.qkv[at : at+group*h.HeadDim], Group: group, HeadDim: h.HeadDim, Type: s.m.kv.kind,
		Arena: s.m.kv.mem, PageBytes: s.m.kv.stride(), Pages: s.rows[t].seq.pages,
	}
	args.KOff, args.VOff = s.m.kv.offsets(j.a.index, head)
	args.Lo, args.Hi = span(lo, hi, i)
	s.k.Attend(dst, args)
}

// foldJob combines the spans of one (row, KV head).
type foldJob struct{ s *step }

func (j *foldJob) Do(w, item int) {
	s := j.s
	lo, hi := s.att.visible(s.rows[item/s.m.hyper.KVHeads].pos)
	first := item * s.att.spans
	x := &s.workers[w]
	x.first = s.partial(first)
	for i := 1; i < spanCount(lo, hi); i++ {
		x.split = s.partial(first + i)
		s.k.Combine(&x.first, &x.split)
	}
	s.finish(item, &x.first)
}

// newPartial makes room for one partial result.
func newPartial(group, headDim int) kernel.Partial {
	f := make([]float32, group*(2+headDim))
	return partialOf(f, group)
}

// partial is place i for a partial result.
func (s *step) partial(i int) kernel.Partial {
	h := &s.m.hyper
	group := h.Heads / h.KVHeads
	n := group * (2 + h.HeadDim)
	return partialOf(s.parts[i*n:(i+1)*n], group)
}

func partialOf(f []float32, group int) kernel.Partial {
	return kernel.Partial{M: f[:group], L: f[group : 2*group], O: f[2*group:]}
}

// finish writes the attention output of one (row, KV head).
func (s *step) finish(item int, p *kernel.Partial) {
	n := len(p.O) // the heads of an item lie together, and items in order
	kernel.Finish(s.o[item*n:(item+1)*n], p)
}
