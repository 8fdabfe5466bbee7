package recurrent

import (
	"edged/core/infer/transformer/batch"
	"edged/core/infer/transformer/bind"
	"edged/core/infer/transformer/parts"
	"edged/core/model/arch"
	"edged/quant"
	"edged/quant/kernel"
)

// ShortConv is LFM2's mixer, see arch.ShortConv.
type ShortConv struct {
	in, out parts.Linear
	w       []float32 // (Kernel, Width)
	bias    []float32 // (Width); nil: none
	kernel  int
	index   int  // among the operations with a state
	last    bool // see attention.Grouped.Last

	conv convJob
}

// NewShortConv binds a short convolution of the layer.
func NewShortConv(b *bind.Builder, op *arch.ShortConv) *ShortConv {
	w := b.Spec.Width
	c := &ShortConv{
		in: b.Linear("shortconv.in_proj", 3*w, w), out: b.Linear("shortconv.out_proj", w, w), kernel: op.Kernel, index: b.States,
		w: convWeights(b, "shortconv.conv", w, op.Kernel), bias: b.Vector(b.Prefix+"shortconv.conv.bias", w),
	}
	b.Weigh(&c.in, 1, 1)
	b.Weigh(&c.out, 1, 1)
	b.States++
	b.Last = &c.last
	return c
}

// convWeights binds the weights of a convolution, stored (channels, positions), and turns them: (positions, channels).
func convWeights(b *bind.Builder, part string, channels, positions int) []float32 {
	m := b.Matrix(b.Prefix+part+".weight", channels, positions)
	if b.Err != nil {
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

// Forward computes it, see batch.Op.
func (c *ShortConv) Forward(s *batch.Batch) {
	w := s.Width
	s.Queue(&c.in, s.QKV, 3*w)
	s.Compute(s.P, s.Groups, batch.Nothing)
	c.conv = convJob{s: s, c: c, runs: s.Sequences(), chunks: (w + stateChunk - 1) / stateChunk}
	s.Run(len(c.conv.runs)*c.conv.chunks, &c.conv)
	if c.last {
		if s.KeepWanted(s.O, w, w); s.T == 0 {
			return
		}
	}
	s.Prepare(s.O, s.T, w)
	s.Queue(&c.out, s.Out, w)
	s.Compute(s.P, s.Groups, batch.Nothing)
}

// convJob is some channels of one sequence: o = C · conv(B · x), of rows [B, C, x] in qkv.
type convJob struct {
	s      *batch.Batch
	c      *ShortConv
	runs   []batch.Run
	chunks int // of each sequence
}

func (j *convJob) Do(worker, chunk int) {
	s, w := j.s, j.s.Width
	run := &j.runs[chunk/j.chunks]
	lo := chunk % j.chunks * stateChunk
	hi := min(lo+stateChunk, w)
	for t := run.Lo; t < run.Hi; t++ {
		row := s.QKV[t*3*w : (t+1)*3*w]
		gate, x := row[:w], row[2*w:]
		for i := lo; i < hi; i++ {
			x[i] = float32(gate[i] * x[i])
		}
	}
	args := &s.Workers[worker].Conv
	*args = kernel.ConvArgs{
		Rows: run.Hi - run.Lo, Channels: w, Width: j.c.kernel, Y: s.O[run.Lo*w:], LdY: w, X: s.QKV[run.Lo*3*w+2*w:], LdX: 3 * w,
		W: j.c.w, B: j.c.bias, State: s.Cache.State(run.Seq.StateSlot(), j.c.index),
	}
	s.Recur.Conv(args, lo, hi)
	for t := run.Lo; t < run.Hi; t++ {
		c, o := s.QKV[t*3*w+w:t*3*w+2*w], s.O[t*w:(t+1)*w]
		for i := lo; i < hi; i++ {
			o[i] = float32(c[i] * o[i])
		}
	}
}

// ShortConvRoom makes room for the rows of a short convolution.
func ShortConvRoom(z *batch.Sizes) {
	z.Need(batch.BufQKV, 3*z.Width)
	z.Need(batch.BufO, z.Width)
	z.Need(batch.BufLora, 3*z.Width)
}

// stateChunk is the number of channels that one chunk of a recurrence computes: all sequences of a batch are cut alike.
const stateChunk = 256
