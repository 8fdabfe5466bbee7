package attention

import (
	"math"
	"strconv"

	"edged/core/infer/transformer/batch"
	"edged/core/infer/transformer/bind"
	"edged/core/infer/transformer/parts"
	"edged/core/model/arch"
	"edged/quant/kernel"
)

// Latent is multi-head latent attention (see arch.Latent): one key head of KVRank + RopeDim values is cached,
// whose first KVRank are the value too, and every query head attends to it in that space.
type Latent struct {
	arch.Latent
	Core         Grouped      // over the cached rows, with queries of their size
	q, qA, qB    parts.Linear // q, or qA and qB
	qNorm        parts.Norm
	kvA          parts.Linear
	kvNorm       parts.Norm
	keys, values []parts.Linear // by head
	out          parts.Linear
	scale        float32
	rope         int // index among the Batch's; -1: nothing turns

	cached latentJob
	scaled scaleJob
}

// NewLatent binds a latent attention of the layer.
func NewLatent(b *bind.Builder, op *arch.Latent) *Latent {
	w, row := b.Spec.Width, op.KVRank+op.RopeDim
	q := op.Heads * (op.NopeDim + op.RopeDim)
	rope := -1
	if op.Position.Dim > 0 {
		rope = b.Rope(op.Position)
	}
	l := &Latent{
		Latent: *op,
		scale:  op.Scale,
		rope:   rope,
		kvA: b.Linear(
			"attn_kv_a_mqa",
			row,
			w,
		),
		kvNorm: parts.Norm{Kind: arch.RMSNorm, Eps: op.Eps, W: b.Required(b.Prefix+"attn_kv_a_norm.weight", op.KVRank)},
		out:    b.Linear("attn_output", w, op.Heads*op.ValueDim),
		Core: Grouped{
			Attention: arch.Attention{
				Heads:    op.Heads,
				KVHeads:  1,
				KeyDim:   row,
				ValueDim: op.KVRank,
			},
			index:  b.Attn,
			cache:  b.Caches,
			row:    op.Heads * row,
			latent: true,
		},
	}
	if l.scale == 0 {
		l.scale = float32(1 / math.Sqrt(float64(op.NopeDim+op.RopeDim)))
	}
	if op.QRank > 0 {
		l.qA, l.qB = b.Linear("attn_q_a", op.QRank, w), b.Linear("attn_q_b", q, op.QRank)
		l.qNorm = parts.Norm{Kind: arch.RMSNorm, Eps: op.Eps, W: b.Required(b.Prefix+"attn_q_a_norm.weight", op.QRank)}
		b.Weigh(&l.qA, 1, 1)
		b.Weigh(&l.qB, 1, 1)
	} else {
		l.q = b.Linear("attn_q", q, w)
		b.Weigh(&l.q, 1, 1)
	}
	for h := range op.Heads {
		l.keys = append(l.keys, b.Linear("attn_k_b."+strconv.Itoa(h), op.KVRank, op.NopeDim))
		l.values = append(l.values, b.Linear("attn_v_b."+strconv.Itoa(h), op.ValueDim, op.KVRank))
		b.Weigh(&l.keys[h], 1, 1)
		b.Weigh(&l.values[h], 1, 1)
	}
	b.Weigh(&l.kvA, 1, 1)
	b.Weigh(&l.out, 1, 1)
	b.Attn++
	b.Caches++
	b.Last = &l.Core.Last
	return l
}

// Forward computes it, see batch.Op.
func (l *Latent) Forward(s *batch.Batch) {
	row, head := l.Core.KeyDim, l.NopeDim+l.RopeDim
	queries := l.Heads * head
	raw := s.O // queries as they are, until attention needs the room
	s.Queue(&l.kvA, s.Up, row)
	if l.QRank > 0 {
		s.Queue(&l.qA, s.Gate, l.QRank)
		s.Compute(s.P, s.Groups, batch.Nothing)
		s.Over(&l.qNorm, s.Gate, s.T, l.QRank)
		s.Queue(&l.qB, raw, queries)
	} else {
		s.Queue(&l.q, raw, queries)
	}
	s.Compute(s.P, s.Groups, batch.Nothing)
	l.cached = latentJob{s: s, l: l, raw: raw}
	s.Run(s.RowChunks(s.T), &l.cached)
	// Queries into the space of the cached rows, head by head.
	for h := range l.Heads {
		s.GatherColumns(raw, queries, h*head, l.NopeDim)
		s.Queue(&l.keys[h], s.QKV[h*row:], l.Core.row)
		s.Compute(s.P, s.Groups, batch.Nothing)
	}
	l.scaled = scaleJob{s: s, x: s.QKV, cols: l.Core.row, f: l.scale}
	s.Run(s.RowChunks(s.T), &l.scaled)
	if l.Core.Last {
		if s.KeepWanted(s.QKV, l.Core.row, l.Core.row); s.T == 0 {
			return
		}
	}
	l.Core.attend(s)
	// And the results back into values.
	values := l.Heads * l.ValueDim
	for h := range l.Heads {
		s.GatherColumns(s.O, l.Heads*l.KVRank, h*l.KVRank, l.KVRank)
		s.Queue(&l.values[h], s.QKV[h*l.ValueDim:], values)
		s.Compute(s.P, s.Groups, batch.Nothing)
	}
	s.Prepare(s.QKV, s.T, values)
	s.Queue(&l.out, s.Out, s.Width)
	s.Compute(s.P, s.Groups, batch.Nothing)
}

// latentJob puts the compressed rows into the cache and the turned part of the queries beside where the other
// part will stand.
type latentJob struct {
	s   *batch.Batch
	l   *Latent
	raw []float32 // (t, Heads, NopeDim+RopeDim)
}

func (j *latentJob) Do(_, chunk int) {
	lo, hi := j.s.RowRange(j.s.T, chunk)
	for t := lo; t < hi; t++ {
		j.row(t)
	}
}

func (j *latentJob) row(t int) {
	s, l := j.s, j.l
	row, head := l.Core.KeyDim, l.NopeDim+l.RopeDim
	turn := func([]float32) {}
	if l.rope >= 0 {
		cos, sin := s.Angles(l.rope, t)
		adjacent := s.Ropes[l.rope].Of.Adjacent
		turn = func(x []float32) { s.K.Rotate(x, cos, sin, adjacent) }
	}
	for h := range l.Heads {
		q := j.raw[(t*l.Heads+h)*head+l.NopeDim:][:l.RopeDim]
		turn(q)
		copy(s.QKV[t*l.Core.row+h*row+l.KVRank:], q)
	}
	kv := s.Up[t*row : (t+1)*row]
	l.kvNorm.Apply(s.K, kv[:l.KVRank], kv[:l.KVRank])
	turn(kv[l.KVRank:])
	r, kvs := &s.Rows[t], s.Cache
	c := kvs.Layer(l.Core.cache)
	at, _ := kvs.Offsets(l.Core.cache, 0)
	at += int(r.Seq.Table()[r.Pos/kernel.BlockPositions]) * c.Stride
	s.K.PutKV(kvs.Mem()[at:at+c.KeyBytes], kvs.Type(), r.Pos%kernel.BlockPositions, kv)
}

// scaleJob multiplies the first cols values of each row.
type scaleJob struct {
	s    *batch.Batch
	x    []float32
	cols int
	f    float32
}

func (j *scaleJob) Do(_, chunk int) {
	lo, hi := j.s.RowRange(j.s.T, chunk)
	parts.Scale(j.x[lo*j.cols:hi*j.cols], j.f)
}

// LatentRoom makes room for a latent attention's rows.
func LatentRoom(z *batch.Sizes, op *arch.Latent) {
	row := op.KVRank + op.RopeDim
	z.Need(batch.BufQKV, op.Heads*max(row, op.ValueDim))
	z.Need(batch.BufO, op.Heads*max(op.KVRank, op.NopeDim+op.RopeDim))
	z.Hidden(max(op.QRank, row), 2)
	z.Need(batch.BufGX, max(op.KVRank, op.NopeDim))
	z.Need(batch.BufLora, op.Heads*(op.NopeDim+op.RopeDim))
	z.Product(max(op.Heads*op.ValueDim, op.KVRank, op.NopeDim))
	z.Attends(op.Heads * (2 + op.KVRank))
	if op.Position.Dim > 0 {
		z.Rope(op.Position)
	}
}
