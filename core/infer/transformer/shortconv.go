package transformer

import (
	"edged/core/model/arch"
	"edged/quant"
	"edged/quant/kernel"
)

// shortConv is LFM2's mixer, see arch.ShortConv.
type shortConv struct {
	in, out linear
	w       []float32 // (Kernel, Width)
	bias    []float32 // (Width); nil: none
	kernel  int
	index   int  // among the operations with a state
	last    bool // see attention.last
}

// shortConv binds a short convolution of the layer.
func (b *builder) shortConv(op *arch.ShortConv) *shortConv {
	w := b.spec.Width
	c := &shortConv{
		in: b.linear("shortconv.in_proj", 3*w, w), out: b.linear("shortconv.out_proj", w, w), kernel: op.Kernel, index: b.states,
		w: b.channels("shortconv.conv", w, op.Kernel), bias: b.vector(b.prefix+"shortconv.conv.bias", w),
	}
	b.weigh(&c.in, 1, 1)
	b.weigh(&c.out, 1, 1)
	b.states++
	b.last = &c.last
	return c
}

// channels binds the weights of a convolution, stored (channels, positions), and turns them: (positions, channels).
func (b *builder) channels(part string, channels, positions int) []float32 {
	m := b.matrix(b.prefix+part+".weight", channels, positions)
	if b.err != nil {
		return nil
	}
	out, row := make([]float32, positions*channels), make([]float32, positions)
	for c := range channels {
		quant.Row(row, m, c)
		for j, v := range row {
			out[j*channels+c] = v
		}
	}
	return out
}

func (c *shortConv) forward(s *step) {
	w := s.m.spec.Width
	s.queue(&c.in, s.qkv, 3*w)
	s.compute(s.p, s.groups, nothing)
	s.conv.c, s.conv.runs, s.conv.chunks = c, s.sequences(), (w+stateChunk-1)/stateChunk
	s.run(len(s.conv.runs)*s.conv.chunks, &s.conv)
	if c.last {
		if s.keepWanted(s.o, w, w); s.t == 0 {
			return
		}
	}
	s.prepare(s.o, s.t, w)
	s.queue(&c.out, s.out, w)
	s.compute(s.p, s.groups, nothing)
}

// convJob is some channels of one sequence: o = C · conv(B · x), of rows [B, C, x] in qkv.
type convJob struct {
	s      *step
	c      *shortConv
	runs   []seqRun
	chunks int // of each sequence
}

func (j *convJob) Do(worker, chunk int) {
	s, w := j.s, j.s.m.spec.Width
	run := &j.runs[chunk/j.chunks]
	lo := chunk % j.chunks * stateChunk
	hi := min(lo+stateChunk, w)
	for t := run.lo; t < run.hi; t++ {
		row := s.qkv[t*3*w : (t+1)*3*w]
		gate, x := row[:w], row[2*w:]
		for i := lo; i < hi; i++ {
			x[i] = float32(gate[i] * x[i])
		}
	}
	args := &s.workers[worker].conv
	*args = kernel.ConvArgs{
		Rows: run.hi - run.lo, Channels: w, Width: j.c.kernel, Y: s.o[run.lo*w:], LdY: w, X: s.qkv[run.lo*3*w+2*w:], LdX: 3 * w,
		W: j.c.w, B: j.c.bias, State: s.m.kv.State(run.seq.StateSlot(), j.c.index),
	}
	s.recur.Conv(args, lo, hi)
	for t := run.lo; t < run.hi; t++ {
		c, o := s.qkv[t*3*w+w:t*3*w+2*w], s.o[t*w:(t+1)*w]
		for i := lo; i < hi; i++ {
			o[i] = float32(c[i] * o[i])
		}
	}
}
