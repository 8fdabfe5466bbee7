package transformer

import (
	"math"
	"strconv"

	"edged/core/model/arch"
	"edged/quant/kernel"
)

// latent is multi-head latent attention (see arch.Latent): one key head of KVRank + RopeDim values is cached, whose first KVRank are the
// value too, and every query head attends to it in that space.
type latent struct {
	arch.Latent
	core         attention // over the cached rows, with queries of their size
	q, qA, qB    linear    // q, or qA and qB
	qNorm        norm
	kvA          linear
	kvNorm       norm
	keys, values []linear // by head
	out          linear
	scale        float32
	rope         int // index among the network's; -1: nothing turns
}

// latent binds a latent attention of the layer.
func (b *builder) latent(op *arch.Latent) *latent {
	w, row := b.spec.Width, op.KVRank+op.RopeDim
	q := op.Heads * (op.NopeDim + op.RopeDim)
	rope := -1
	if op.Position.Dim > 0 {
		rope = b.rope(op.Position)
	}
	l := &latent{
		Latent: *op, scale: op.Scale, rope: rope,
		kvA: b.linear("attn_kv_a_mqa", row, w), kvNorm: norm{kind: arch.RMSNorm, eps: op.Eps, w: b.required(b.prefix+"attn_kv_a_norm.weight", op.KVRank)},
		out: b.linear("attn_output", w, op.Heads*op.ValueDim),
		core: attention{
			Attention: arch.Attention{Heads: op.Heads, KVHeads: 1, KeyDim: row, ValueDim: op.KVRank}, index: b.attn, cache: b.caches, row: op.Heads * row, latent: true,
		},
	}
	if l.scale == 0 {
		l.scale = float32(1 / math.Sqrt(float64(op.NopeDim+op.RopeDim)))
	}
	if op.QRank > 0 {
		l.qA, l.qB = b.linear("attn_q_a", op.QRank, w), b.linear("attn_q_b", q, op.QRank)
		l.qNorm = norm{kind: arch.RMSNorm, eps: op.Eps, w: b.required(b.prefix+"attn_q_a_norm.weight", op.QRank)}
		b.weigh(&l.qA, 1, 1)
		b.weigh(&l.qB, 1, 1)
	} else {
		l.q = b.linear("attn_q", q, w)
		b.weigh(&l.q, 1, 1)
	}
	for h := range op.Heads {
		l.keys = append(l.keys, b.linear("attn_k_b."+strconv.Itoa(h), op.KVRank, op.NopeDim))
		l.values = append(l.values, b.linear("attn_v_b."+strconv.Itoa(h), op.ValueDim, op.KVRank))
		b.weigh(&l.keys[h], 1, 1)
		b.weigh(&l.values[h], 1, 1)
	}
	b.weigh(&l.kvA, 1, 1)
	b.weigh(&l.out, 1, 1)
	b.attn++
	b.caches++
	b.last = &l.core.last
	b.net.attentions = append(b.net.attentions, &l.core)
	return l
}

func (l *latent) forward(s *step) {
	row, head := l.core.KeyDim, l.NopeDim+l.RopeDim
	queries := l.Heads * head
	raw := s.o // queries as they are, until attention needs the room
	s.queue(&l.kvA, s.up, row)
	if l.QRank > 0 {
		s.queue(&l.qA, s.gate, l.QRank)
		s.compute(s.p, s.groups, nothing)
		s.over(&l.qNorm, s.gate, s.t, l.QRank)
		s.queue(&l.qB, raw, queries)
	} else {
		s.queue(&l.q, raw, queries)
	}
	s.compute(s.p, s.groups, nothing)
	s.cached = latentJob{s: s, l: l, raw: raw}
	s.run(s.rowChunks(s.t), &s.cached)
	// Queries into the space of the cached rows, head by head.
	for h := range l.Heads {
		s.gatherColumns(raw, queries, h*head, l.NopeDim)
		s.queue(&l.keys[h], s.qkv[h*row:], l.core.row)
		s.compute(s.p, s.groups, nothing)
	}
	s.scaled = scaleJob{s: s, x: s.qkv, cols: l.core.row, f: l.scale}
	s.run(s.rowChunks(s.t), &s.scaled)
	if l.core.last {
		if s.keepWanted(s.qkv, l.core.row, l.core.row); s.t == 0 {
			return
		}
	}
	s.attend(&l.core)
	// And the results back into values.
	values := l.Heads * l.ValueDim
	for h := range l.Heads {
		s.gatherColumns(s.o, l.Heads*l.KVRank, h*l.KVRank, l.KVRank)
		s.queue(&l.values[h], s.qkv[h*l.ValueDim:], values)
		s.compute(s.p, s.groups, nothing)
	}
	s.prepare(s.qkv, s.t, values)
	s.queue(&l.out, s.out, s.m.spec.Width)
	s.compute(s.p, s.groups, nothing)
}

// gatherColumns prepares n columns from at on of the rows of x, ld values apart, as the input of the next product.
func (s *step) gatherColumns(x []float32, ld, at, n int) {
	for t := range s.t {
		copy(s.gx[t*n:(t+1)*n], x[t*ld+at:t*ld+at+n])
	}
	s.prepare(s.gx, s.t, n)
}

// latentJob puts the compressed rows into the cache and the turned part of the queries beside where the other part will stand.
type latentJob struct {
	s   *step
	l   *latent
	raw []float32 // (t, Heads, NopeDim+RopeDim)
}

func (j *latentJob) Do(_, chunk int) {
	lo, hi := j.s.rowRange(j.s.t, chunk)
	for t := lo; t < hi; t++ {
		j.row(t)
	}
}

func (j *latentJob) row(t int) {
	s, l := j.s, j.l
	row, head := l.core.KeyDim, l.NopeDim+l.RopeDim
	turn := func([]float32) {}
	if l.rope >= 0 {
		cos, sin := s.angles(l.rope, t)
		adjacent := s.m.net.ropes[l.rope].of.Adjacent
		turn = func(x []float32) { s.k.Rotate(x, cos, sin, adjacent) }
	}
	for h := range l.Heads {
		q := j.raw[(t*l.Heads+h)*head+l.NopeDim:][:l.RopeDim]
		turn(q)
		copy(s.qkv[t*l.core.row+h*row+l.KVRank:], q)
	}
	kv := s.up[t*row : (t+1)*row]
	l.kvNorm.apply(s.k, kv[:l.KVRank], kv[:l.KVRank])
	turn(kv[l.KVRank:])
	r, kvs := &s.rows[t], s.m.kv
	c := kvs.Layer(l.core.cache)
	at, _ := kvs.Offsets(l.core.cache, 0)
	at += int(r.seq.Table()[r.pos/kernel.BlockPositions]) * c.Stride
	s.k.PutKV(kvs.Mem()[at:at+c.KeyBytes], kvs.Type(), r.pos%kernel.BlockPositions, kv)
}

// scaleJob multiplies the first cols values of each row.
type scaleJob struct {
	s    *step
	x    []float32
	cols int
	f    float32
}

func (j *scaleJob) Do(_, chunk int) {
	lo, hi := j.s.rowRange(j.s.t, chunk)
	scale(j.x[lo*j.cols:hi*j.cols], j.f)
}
