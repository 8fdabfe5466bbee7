package recurrent

import (
	"strconv"

	"edged/core/infer/transformer/batch"
	"edged/core/infer/transformer/bind"
	"edged/core/infer/transformer/exactmath"
	"edged/core/infer/transformer/parts"
	"edged/core/model/arch"
	"edged/quant/kernel"
)

// RGLRU is Griffin's recurrent block, see arch.RGLRU.
type RGLRU struct {
	arch.RGLRU
	x, y, out  parts.Linear
	reset, let []parts.Linear // of each block: makes how much of the state is forgotten, and how much of the input counts
	w, bias    []float32      // of the convolution: (Kernel, Width), (Width)
	c          []float32      // (Width) -8·softplus of the layer's parameters
	act        kernel.Func
	index      int  // among the operations with a state
	last       bool // see attention.Grouped.Last
	jobs       lruJob
}

// NewRGLRU binds a recurrent block of the layer.
func NewRGLRU(b *bind.Builder, op *arch.RGLRU) *RGLRU {
	w, block := b.Spec.Width, op.Width/op.Blocks
	r := &RGLRU{
		RGLRU: *op, index: b.States, act: parts.Function(op.Act),
		x: b.Linear("lru_x", op.Width, w), y: b.Linear("lru_y", op.Width, w), out: b.Linear("lru_out", w, op.Width),
		w: convWeights(b, "lru_conv", op.Width, op.Kernel), bias: b.Required(b.Prefix+"lru_conv.bias", op.Width),
	}
	for i := range op.Blocks {
		r.let = append(r.let, b.Linear("lru_in."+strconv.Itoa(i), block, block))
		r.reset = append(r.reset, b.Linear("lru_rec."+strconv.Itoa(i), block, block))
		b.Weigh(&r.let[i], 1, 1)
		b.Weigh(&r.reset[i], 1, 1)
	}
	r.c = append(r.c, b.Required(b.Prefix+"lru_param.weight", op.Width)...)
	for i, x := range r.c {
		r.c[i] = float32(-8 * softplus(float64(x)))
	}
	for _, l := range []*parts.Linear{&r.x, &r.y, &r.out} {
		b.Weigh(l, 1, 1)
	}
	b.States++
	b.Last = &r.last
	return r
}

// softplus is exactmath.Ln(1 + eˣ).
func softplus(x float64) float64 {
	if x > 30 {
		return x
	}
	return exactmath.Ln(1 + exactmath.Exp(x))
}

// Forward computes it, see batch.Op.
func (r *RGLRU) Forward(s *batch.Batch) {
	w, block := r.Width, r.Width/r.Blocks
	s.Queue(&r.x, s.QKV, 2*w)
	s.Queue(&r.y, s.QKV[w:], 2*w)
	s.Compute(s.P, s.Groups, batch.Nothing)
	j := &r.jobs
	*j = lruJob{s: s, r: r, runs: s.Sequences(), chunks: (w + stateChunk - 1) / stateChunk}
	s.Run(len(j.runs)*j.chunks, j)
	for i := range r.Blocks {
		s.GatherColumns(s.O, w, i*block, block)
		s.Queue(&r.let[i], s.Gate[i*block:], w)
		s.Queue(&r.reset[i], s.Up[i*block:], w)
		s.Compute(kernel.Exact, s.Groups, batch.Nothing) // small, and a state forgets by it over hundreds of positions
	}
	j.scans = true
	s.Run(len(j.runs)*j.chunks, j)
	if r.last {
		if s.KeepWanted(s.O, w, w); s.T == 0 {
			return
		}
	}
	s.Prepare(s.O, s.T, w)
	s.Queue(&r.out, s.Out, s.Width)
	s.Compute(s.P, s.Groups, batch.Nothing)
}

// lruJob is some channels of one sequence: first o = conv(x), of rows [x, y] in qkv, then o = act(y) times the states.
type lruJob struct {
	s      *batch.Batch
	r      *RGLRU
	runs   []batch.Run
	chunks int // of each sequence
	scans  bool
}

func (j *lruJob) Do(worker, chunk int) {
	s, r, w := j.s, j.r, j.r.Width
	run := &j.runs[chunk/j.chunks]
	lo := chunk % j.chunks * stateChunk
	hi := min(lo+stateChunk, w)
	all := s.Cache.State(run.Seq.StateSlot(), r.index)
	if !j.scans {
		args := &s.Workers[worker].Conv
		*args = kernel.ConvArgs{
			Rows: run.Hi - run.Lo, Channels: w, Width: r.Kernel, Y: s.O[run.Lo*w:], LdY: w, X: s.QKV[run.Lo*2*w:], LdX: 2 * w,
			W: r.w, B: r.bias, State: all[:(r.Kernel-1)*w],
		}
		s.Recur.Conv(args, lo, hi)
		return
	}
	states := all[r.ConvState():][lo:hi]
	for t := run.Lo; t < run.Hi; t++ {
		at := t * w
		o, y := s.O[at+lo:at+hi], s.QKV[2*at+w+lo:2*at+w+hi]
		kernel.RGLRU(o, states, o, s.Up[at+lo:at+hi], s.Gate[at+lo:at+hi], r.c[lo:hi], s.Rows[t].Pos == 0)
		s.K.Gate(y, o, r.act)
		copy(o, y)
	}
}

// RGLRURoom makes room for a recurrent block's rows.
func RGLRURoom(z *batch.Sizes, op *arch.RGLRU) {
	z.Need(batch.BufQKV, 2*op.Width)
	z.Need(batch.BufO, op.Width)
	z.Need(batch.BufGate, op.Width)
	z.Need(batch.BufUp, op.Width)
	z.Need(batch.BufGX, op.Width/op.Blocks)
	z.Need(batch.BufLora, 2*op.Width)
	z.Product(op.Width)
}
