package attention

import (
	"math"

	"edged/core/infer/kv"
	"edged/core/infer/transformer/batch"
	"edged/core/infer/transformer/bind"
	"edged/core/infer/transformer/parts"
	"edged/core/model/arch"
	"edged/quant/kernel"
)

// Cross is attention of a decoder's rows over the encoder's states: their keys and values are computed once
// for a text (Model.Listen) and lie in pages of the decoder's arena, where a text has the parts of cross
// attention and a sequence those of its own positions.
type Cross struct {
	Grouped
	put storeTextJob
}

// NewCross binds a cross attention of the layer.
func NewCross(b *bind.Builder, op *arch.Cross) *Cross {
	w, n := b.Spec.Width, op.Heads*op.HeadDim
	c := &Cross{Grouped: Grouped{
		Attention: arch.Attention{Heads: op.Heads, KVHeads: op.Heads, KeyDim: op.HeadDim, ValueDim: op.HeadDim},
		scale:     op.Scale, rope: -1, index: b.Attn, cache: b.Caches, row: n, text: true,
		q: b.Linear("cross_attn_q", n, w), k: b.Linear("cross_attn_k", n, w), v: b.Linear("cross_attn_v", n, w),
		o: b.Linear("cross_attn_output", w, n),
	}}
	if c.scale == 0 {
		c.scale = float32(1 / math.Sqrt(float64(op.HeadDim)))
	}
	for _, l := range []*parts.Linear{&c.q, &c.o} { // keys and values are no token's work
		b.Weigh(l, 1, 1)
	}
	b.Attn++
	b.Caches++
	return c
}

// Forward computes it, see batch.Op.
func (c *Cross) Forward(s *batch.Batch) {
	s.Queue(&c.q, s.QKV, c.row)
	s.Compute(s.P, s.Groups, batch.Nothing)
	parts.Scale(s.QKV[:s.T*c.row], c.scale)
	c.attend(s)
	s.Prepare(s.O, s.T, c.o.W.Cols)
	s.Queue(&c.o, s.Out, s.Width)
	s.Compute(s.P, s.Groups, batch.Nothing)
}

// Listen stores keys and values of the rows that are the input of the next products.
func (c *Cross) Listen(s *batch.Batch, text *kv.Seq, at int) {
	n := c.row
	s.Queue(&c.k, s.QKV, 2*n)
	s.Queue(&c.v, s.QKV[n:], 2*n)
	s.Compute(s.P, s.Groups, batch.Nothing)
	c.put = storeTextJob{s: s, c: c, text: text, at: at}
	s.Run(s.RowChunks(s.T), &c.put)
}

// storeTextJob puts keys and values of a text into its pages.
type storeTextJob struct {
	s    *batch.Batch
	c    *Cross
	text *kv.Seq
	at   int // position of the first row
}

func (j *storeTextJob) Do(_, chunk int) {
	s, c, pool := j.s, j.c, j.s.Cache
	l := pool.Layer(c.cache)
	mem, kind := pool.Mem(), pool.Type()
	lo, hi := s.RowRange(s.T, chunk)
	for t := lo; t < hi; t++ {
		k, v := s.QKV[2*t*c.row:(2*t+1)*c.row], s.QKV[(2*t+1)*c.row:(2*t+2)*c.row]
		pos := j.at + t
		page, slot := int(j.text.Page(pos/kernel.BlockPositions))*l.Stride, pos%kernel.BlockPositions
		for head := range c.KVHeads {
			kOff, vOff := pool.Offsets(c.cache, head)
			a, b := head*c.KeyDim, (head+1)*c.KeyDim
			s.K.PutKV(mem[page+kOff:page+kOff+l.KeyBytes], kind, slot, k[a:b])
			s.K.PutKV(mem[page+vOff:page+vOff+l.ValueBytes], kind, slot, v[a:b])
		}
	}
}

// CrossRoom makes room for a cross attention's rows, and for the keys and values of a text.
func CrossRoom(z *batch.Sizes, op *arch.Cross) {
	n := op.Heads * op.HeadDim
	z.Need(batch.BufQKV, 2*n)
	z.Need(batch.BufLora, 2*n)
	z.Need(batch.BufO, n)
	z.Product(n)
	z.Attends(2 + op.HeadDim)
}
