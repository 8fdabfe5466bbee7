package transformer

import (
	"errors"
	"fmt"
	"math"

	"edged/core/infer/kv"
	"edged/core/model/arch"
	"edged/core/model/weights"
	"edged/quant/kernel"
)

// cross is attention of a decoder's rows over the encoder's states: their keys and values are computed once for a text
// (Model.Listen) and lie in pages of the decoder's arena, where a text has the parts of cross attention and a sequence those of its
// own positions.
type cross struct{ attention }

// cross binds a cross attention of the layer.
func (b *builder) cross(op *arch.Cross) *cross {
	w, n := b.spec.Width, op.Heads*op.HeadDim
	c := &cross{attention{
		Attention: arch.Attention{Heads: op.Heads, KVHeads: op.Heads, KeyDim: op.HeadDim, ValueDim: op.HeadDim},
		scale:     op.Scale, rope: -1, index: b.attn, cache: b.caches, row: n, text: true,
		q: b.linear("cross_attn_q", n, w), k: b.linear("cross_attn_k", n, w), v: b.linear("cross_attn_v", n, w),
		o: b.linear("cross_attn_output", w, n),
	}}
	if c.scale == 0 {
		c.scale = float32(1 / math.Sqrt(float64(op.HeadDim)))
	}
	for _, l := range []*linear{&c.q, &c.o} { // keys and values are no token's work
		b.weigh(l, 1, 1)
	}
	b.attn++
	b.caches++
	b.net.crosses = append(b.net.crosses, c)
	b.net.attentions = append(b.net.attentions, &c.attention)
	return c
}

func (c *cross) forward(s *step) {
	s.queue(&c.q, s.qkv, c.row)
	s.compute(s.p, s.groups, nothing)
	scale(s.qkv[:s.t*c.row], c.scale)
	s.attend(&c.attention)
	s.prepare(s.o, s.t, c.o.w.Cols)
	s.queue(&c.o, s.out, s.m.spec.Width)
	s.compute(s.p, s.groups, nothing)
}

// NewPair is New for an encoder-decoder: its two stacks, which compute in turns on the same threads. o is the decoder's; the
// encoder reads texts of up to o.Context tokens. The encoder is closed first.
func NewPair(m *weights.Model, o Options) (encoder, decoder *Model, err error) {
	if m.Spec.Encoder == nil {
		return nil, nil, fmt.Errorf("transformer: %s: %w: the model is a %s and has one stack", m.Path, arch.ErrUnsupported, m.Spec.Kind)
	}
	if decoder, err = New(m, o); err != nil {
		return nil, nil, err
	}
	o.Context, o.Beside = decoder.opt.Context, decoder
	if encoder, err = newModel(m, m.Spec.Encoder, encoderOptions(o)); err != nil {
		return nil, nil, errors.Join(fmt.Errorf("transformer: %s: %w", m.Path, err), decoder.Close())
	}
	return encoder, decoder, nil
}

// encoderOptions are those of the stack before a decoder: a whole text is one batch, and nothing of it is kept.
func encoderOptions(o Options) Options {
	o.MaxRows, o.KVPages = o.Context, kv.PagesFor(o.Context)
	return o
}

// PlanEncoder is PlanMemory for the encoder that NewPair makes beside a decoder, of which o are the options with a Context: all its
// bytes.
func PlanEncoder(spec *arch.Spec, o Options) (int64, error) {
	o = encoderOptions(o)
	page, scratch, err := PlanMemory(spec.Encoder, o)
	return scratch + page*int64(o.KVPages), err
}

// Listen computes what the decoder reads of a text, of which states (n, Width) are the encoder's, for sequences whose Text it becomes.
// The caller frees it after them. The error is ErrNoPages, ErrContext or one that names what is wrong; nothing is held then.
func (m *Model) Listen(states []float32, adapters []Use) (*Seq, error) {
	w := m.spec.Width
	n := len(states) / w
	switch {
	case m.closed:
		return nil, errors.New("transformer: the model is closed")
	case m.spec.Encoder == nil:
		return nil, fmt.Errorf("transformer: %w: the model is a %s, which reads no other text", arch.ErrUnsupported, m.spec.Kind)
	case n == 0 || len(states) != n*w:
		return nil, fmt.Errorf("transformer: %d values are not the states of a text: want some times %d", len(states), w)
	case n > m.opt.Context:
		return nil, fmt.Errorf("%w: the text has %d tokens of at most %d", ErrContext, n, m.opt.Context)
	case kv.PagesFor(n) > m.kv.FreePages():
		return nil, fmt.Errorf("%w: %d wanted, %d free", ErrNoPages, kv.PagesFor(n), m.kv.FreePages())
	}
	if err := m.checkUses(adapters); err != nil {
		return nil, fmt.Errorf("transformer: %w", err)
	}
	text := m.NewSeq()
	text.Extend(n)
	s := m.step
	s.threads = m.info.ThreadsPrefill
	for lo := 0; lo < n; lo += m.opt.MaxRows {
		hi := min(n, lo+m.opt.MaxRows)
		s.t, s.groups = hi-lo, append(s.groups[:0], rowGroup{hi: hi - lo, uses: adapters})
		s.prepare(states[lo*w:hi*w], s.t, w)
		for _, c := range m.net.crosses {
			c.listen(s, text, lo)
		}
	}
	s.end()
	text.Advance(n)
	return text, nil
}

// listen stores keys and values of the rows that are the input of the next products.
func (c *cross) listen(s *step, text *Seq, at int) {
	n := c.row
	s.queue(&c.k, s.qkv, 2*n)
	s.queue(&c.v, s.qkv[n:], 2*n)
	s.compute(s.p, s.groups, nothing)
	s.heard = hearJob{s: s, c: c, text: text, at: at}
	s.run(s.rowChunks(s.t), &s.heard)
}

// hearJob puts keys and values of a text into its pages.
type hearJob struct {
	s    *step
	c    *cross
	text *Seq
	at   int // position of the first row
}

func (j *hearJob) Do(_, chunk int) {
	s, c, pool := j.s, j.c, j.s.m.kv
	l := pool.Layer(c.cache)
	mem, kind := pool.Mem(), pool.Type()
	lo, hi := s.rowRange(s.t, chunk)
	for t := lo; t < hi; t++ {
		k, v := s.qkv[2*t*c.row:(2*t+1)*c.row], s.qkv[(2*t+1)*c.row:(2*t+2)*c.row]
		pos := j.at + t
		page, slot := int(j.text.Page(pos/kernel.BlockPositions))*l.Stride, pos%kernel.BlockPositions
		for head := range c.KVHeads {
			kOff, vOff := pool.Offsets(c.cache, head)
			a, b := head*c.KeyDim, (head+1)*c.KeyDim
			s.k.PutKV(mem[page+kOff:page+kOff+l.KeyBytes], kind, slot, k[a:b])
			s.k.PutKV(mem[page+vOff:page+vOff+l.ValueBytes], kind, slot, v[a:b])
		}
	}
}

// Answer says which text a sequence answers: one that Listen made, for as long as the sequence is used. Forks answer the same.
func (s *Seq) Answer(text *Seq) { s.text = text }
