package transformer

import (
	"strconv"

	"edged/core/model/arch"
	"edged/quant/kernel"
)

// rglru is Griffin's recurrent block, see arch.RGLRU.
type rglru struct {
	arch.RGLRU
	x, y, out  linear
	reset, let []linear  // of each block: makes how much of the state is forgotten, and how much of the input counts
	w, bias    []float32 // of the convolution: (Kernel, Width), (Width)
	c          []float32 // (Width) -8·softplus of the layer's parameters
	act        kernel.Func
	index      int  // among the operations with a state
	last       bool // see attention.last
}

// rglru binds a recurrent block of the layer.
func (b *builder) rglru(op *arch.RGLRU) *rglru {
	w, block := b.spec.Width, op.Width/op.Blocks
	r := &rglru{
		RGLRU: *op, index: b.states, act: function(op.Act),
		x: b.linear("lru_x", op.Width, w), y: b.linear("lru_y", op.Width, w), out: b.linear("lru_out", w, op.Width),
		w: b.channels("lru_conv", op.Width, op.Kernel), bias: b.required(b.prefix+"lru_conv.bias", op.Width),
	}
	for i := range op.Blocks {
		r.let = append(r.let, b.linear("lru_in."+strconv.Itoa(i), block, block))
		r.reset = append(r.reset, b.linear("lru_rec."+strconv.Itoa(i), block, block))
		b.weigh(&r.let[i], 1, 1)
		b.weigh(&r.reset[i], 1, 1)
	}
	r.c = append(r.c, b.required(b.prefix+"lru_param.weight", op.Width)...)
	for i, x := range r.c {
		r.c[i] = float32(-8 * softplus(float64(x)))
	}
	for _, l := range []*linear{&r.x, &r.y, &r.out} {
		b.weigh(l, 1, 1)
	}
	b.states++
	b.last = &r.last
	return r
}

// softplus is ln(1 + eˣ).
func softplus(x float64) float64 {
	if x > 30 {
		return x
	}
	return ln(1 + exp(x))
}

func (r *rglru) forward(s *step) {
	w, block := r.Width, r.Width/r.Blocks
	s.queue(&r.x, s.qkv, 2*w)
	s.queue(&r.y, s.qkv[w:], 2*w)
	s.compute(s.p, s.groups, nothing)
	j := &s.lru
	j.r, j.runs, j.chunks, j.scans = r, s.sequences(), (w+stateChunk-1)/stateChunk, false
	s.run(len(j.runs)*j.chunks, j)
	for i := range r.Blocks {
		s.gatherColumns(s.o, w, i*block, block)
		s.queue(&r.let[i], s.gate[i*block:], w)
		s.queue(&r.reset[i], s.up[i*block:], w)
		s.compute(kernel.Exact, s.groups, nothing) // small, and a state forgets by it over hundreds of positions
	}
	j.scans = true
	s.run(len(j.runs)*j.chunks, j)
	if r.last {
		if s.keepWanted(s.o, w, w); s.t == 0 {
			return
		}
	}
	s.prepare(s.o, s.t, w)
	s.queue(&r.out, s.out, s.m.spec.Width)
	s.compute(s.p, s.groups, nothing)
}

// lruJob is some channels of one sequence: first o = conv(x), of rows [x, y] in qkv, then o = act(y) times the states.
type lruJob struct {
	s      *step
	r      *rglru
	runs   []seqRun
	chunks int // of each sequence
	scans  bool
}

func (j *lruJob) Do(worker, chunk int) {
	s, r, w := j.s, j.r, j.r.Width
	run := &j.runs[chunk/j.chunks]
	lo := chunk % j.chunks * stateChunk
	hi := min(lo+stateChunk, w)
	all := s.m.kv.State(run.seq.StateSlot(), r.index)
	if !j.scans {
		args := &s.workers[worker].conv
		*args = kernel.ConvArgs{
			Rows: run.hi - run.lo, Channels: w, Width: r.Kernel, Y: s.o[run.lo*w:], LdY: w, X: s.qkv[run.lo*2*w:], LdX: 2 * w,
			W: r.w, B: r.bias, State: all[:(r.Kernel-1)*w],
		}
		s.recur.Conv(args, lo, hi)
		return
	}
	states := all[r.ConvState():][lo:hi]
	for t := run.lo; t < run.hi; t++ {
		at := t * w
		o, y := s.o[at+lo:at+hi], s.qkv[2*at+w+lo:2*at+w+hi]
		kernel.RGLRU(o, states, o, s.up[at+lo:at+hi], s.gate[at+lo:at+hi], r.c[lo:hi], s.rows[t].pos == 0)
		s.k.Gate(y, o, r.act)
		copy(o, y)
	}
}
