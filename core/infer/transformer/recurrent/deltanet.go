package recurrent

import (
	"math"

	"edged/core/infer/kv"
	"edged/core/infer/transformer/batch"
	"edged/core/infer/transformer/bind"
	"edged/core/infer/transformer/exactmath"
	"edged/core/infer/transformer/parts"
	"edged/core/model/arch"
	"edged/quant/kernel"
)

// Delta is the gated delta net, see arch.Delta.
type Delta struct {
	arch.Delta
	q, k, v, gate parts.Linear
	beta, alpha   parts.Linear
	fA, fB        parts.Linear // of Kimi's decay; empty without a Rank
	gA, gB        parts.Linear // and of its gate
	out           parts.Linear
	w             []float32  // (Kernel, Channels)
	dt            []float32  // (Heads), by key channel (Heads, KeyDim)
	a             []float32  // (Heads) below 0
	norm          parts.Norm // of each head's result
	unit, unitQ   parts.Norm // scale keys to length 1, queries to 1/√KeyDim
	index         int        // among the operations with a state
	last          bool       // see attention.Grouped.Last

	mix   deltaMixJob
	heads deltaJob
}

// lengthEps is added to the square of a key's or query's length, in all published models.
const lengthEps = 1e-6

// NewDelta binds a gated delta net of the layer.
func NewDelta(b *bind.Builder, op *arch.Delta) *Delta {
	w, keys, values := b.Spec.Width, op.KeyHeads*op.KeyDim, op.Heads*op.ValueDim
	d := &Delta{
		Delta: *op, index: b.States,
		q: b.Linear("attn_q", keys, w), k: b.Linear("attn_k", keys, w), v: b.Linear("attn_v", values, w),
		beta: b.Linear("ssm_beta", op.Heads, w), a: b.Required(b.Prefix+"ssm_a.weight", op.Heads),
		norm: b.Norm(&arch.Norm{Kind: arch.RMSNorm, Name: "ssm_norm", Eps: op.Eps}, op.ValueDim),
		// x/√(Σx² + eps) is x/√(mean(x²) + eps/n)·1/√n.
		unit:  parts.Norm{Kind: arch.RMSNorm, Eps: lengthEps / float32(op.KeyDim), W: constant(op.KeyDim, 1/math.Sqrt(float64(op.KeyDim)))},
		unitQ: parts.Norm{Kind: arch.RMSNorm, Eps: lengthEps / float32(op.KeyDim), W: constant(op.KeyDim, 1/float64(op.KeyDim))},
	}
	if op.Rank > 0 {
		d.fA, d.fB = b.Linear("ssm_f_a", op.Rank, w), b.Linear("ssm_f_b", keys, op.Rank)
		d.gA, d.gB = b.Linear("ssm_g_a", op.Rank, w), b.Linear("ssm_g_b", values, op.Rank)
		d.dt, d.out = b.Required(b.Prefix+"ssm_dt.bias", keys), b.Linear("attn_output", w, values)
	} else {
		d.gate, d.alpha = b.Linear("attn_gate", values, w), b.Linear("ssm_alpha", op.Heads, w)
		d.dt, d.out = b.Required(b.Prefix+"ssm_dt.bias", op.Heads), b.Linear("ssm_out", w, values)
	}
	if d.w = convolutions(b, op); op.Logs {
		for i, x := range d.a {
			d.a[i] = float32(-exactmath.Exp(float64(x)))
		}
	}
	for _, l := range []*parts.Linear{&d.q, &d.k, &d.v, &d.gate, &d.beta, &d.alpha, &d.fA, &d.fB, &d.gA, &d.gB, &d.out} {
		if l.W != nil {
			b.Weigh(l, 1, 1)
		}
	}
	b.States++
	b.Last = &d.last
	return d
}

// convolutions binds the weights of a delta net's convolution, which may be in three parts: (Kernel, Channels).
func convolutions(b *bind.Builder, op *arch.Delta) []float32 {
	if op.Apart == [3]int{} {
		return convWeights(b, "ssm_conv1d", op.Channels(), op.Kernel)
	}
	n, at := op.Channels(), 0
	out := make([]float32, op.Kernel*n)
	for i, width := range op.Apart {
		if w := convWeights(b, arch.DeltaConvs[i], width, op.Kernel); b.Err == nil {
			for j := range op.Kernel {
				copy(out[j*n+at:], w[j*width:(j+1)*width])
			}
		}
		at += width
	}
	return out
}

// decays is the number of decays of a row: one for each head, or for each key channel.
func (d *Delta) decays() int { return len(d.dt) }

// gates makes gates, shares and decays, as logits still: the first in gate, the others beside each other in up.
func (d *Delta) gates(s *batch.Batch, values int) {
	ld := d.Heads + d.decays()
	if d.Rank == 0 {
		s.Queue(&d.gate, s.Gate, values)
		s.Compute(s.P, s.Groups, batch.Nothing)
		// Few values, of which the decay of a state over hundreds of positions follows.
		s.Queue(&d.beta, s.Up, ld)
		s.Queue(&d.alpha, s.Up[d.Heads:], ld)
		s.Compute(kernel.Exact, s.Groups, batch.Nothing)
		return
	}
	s.Queue(&d.gA, s.GD, d.Rank)
	s.Compute(s.P, s.Groups, batch.Nothing)
	s.Queue(&d.beta, s.Up, ld)
	s.Queue(&d.fA, s.GX, d.Rank)
	s.Compute(kernel.Exact, s.Groups, batch.Nothing)
	s.Prepare(s.GX, s.T, d.Rank)
	s.Queue(&d.fB, s.Up[d.Heads:], ld)
	s.Compute(kernel.Exact, s.Groups, batch.Nothing)
	s.Prepare(s.GD, s.T, d.Rank)
	s.Queue(&d.gB, s.Gate, values)
	s.Compute(s.P, s.Groups, batch.Nothing)
}

// constant is a vector of n equal values.
func constant(n int, v float64) []float32 {
	out := make([]float32, n)
	for i := range out {
		out[i] = float32(v)
	}
	return out
}

// Forward computes it, see batch.Op.
func (d *Delta) Forward(s *batch.Batch) {
	keys, values, ld := d.KeyHeads*d.KeyDim, d.Heads*d.ValueDim, d.Channels()
	s.Queue(&d.q, s.QKV, ld)
	s.Queue(&d.k, s.QKV[keys:], ld)
	s.Queue(&d.v, s.QKV[2*keys:], ld)
	s.Compute(s.P, s.Groups, batch.Nothing)
	d.gates(s, values)
	d.mix = deltaMixJob{s: s, d: d, runs: s.Sequences(), chunks: (ld + stateChunk - 1) / stateChunk}
	s.Run(len(d.mix.runs)*d.mix.chunks, &d.mix)
	d.heads = deltaJob{s: s, d: d, prepare: true}
	s.Run(s.RowChunks(s.T), &d.heads)
	d.heads.prepare = false
	s.Run(len(s.Runs)*d.Heads, &d.heads)
	if d.last {
		if s.KeepWanted(s.O, values, values); s.T == 0 {
			return
		}
	}
	s.Prepare(s.O, s.T, values)
	s.Queue(&d.out, s.Out, s.Width)
	s.Compute(s.P, s.Groups, batch.Nothing)
}

// states are the last inputs of the convolution and the state of the value heads.
func (d *Delta) states(s *batch.Batch, seq *kv.Seq) (conv, heads []float32) {
	all := s.Cache.State(seq.StateSlot(), d.index)
	n := d.ConvState()
	return all[:(d.Kernel-1)*d.Channels()], all[n:]
}

// deltaMixJob is some channels of one sequence: SiLU of their convolution, in place.
type deltaMixJob struct {
	s      *batch.Batch
	d      *Delta
	runs   []batch.Run
	chunks int // of each sequence
}

func (j *deltaMixJob) Do(worker, chunk int) {
	s, n := j.s, j.d.Channels()
	run := &j.runs[chunk/j.chunks]
	lo := chunk % j.chunks * stateChunk
	hi := min(lo+stateChunk, n)
	x, args := s.QKV[run.Lo*n:], &s.Workers[worker].Conv
	state, _ := j.d.states(s, run.Seq)
	*args = kernel.ConvArgs{Rows: run.Hi - run.Lo, Channels: n, Width: j.d.Kernel, Y: x, LdY: n, X: x, LdX: n, W: j.d.w, State: state}
	s.Recur.Conv(args, lo, hi)
	for t := range args.Rows {
		s.K.Activate(x[t*n+lo:t*n+hi], kernel.Func{Kind: kernel.SiLU})
	}
}

// deltaJob is the preparation of some rows, and then one value head of one sequence.
type deltaJob struct {
	s       *batch.Batch
	d       *Delta
	prepare bool
}

func (j *deltaJob) Do(worker, chunk int) {
	if !j.prepare {
		j.head(worker, &j.s.Runs[chunk/j.d.Heads], chunk%j.d.Heads)
		return
	}
	lo, hi := j.s.RowRange(j.s.T, chunk)
	for t := lo; t < hi; t++ {
		j.row(t)
	}
}

// row scales queries and keys to their lengths and makes shares and decays of their logits.
func (j *deltaJob) row(t int) {
	s, d, n := j.s, j.d, j.d.Heads
	keys := d.KeyHeads * d.KeyDim
	qk := s.QKV[t*d.Channels():][:2*keys]
	for at := 0; at < keys; at += d.KeyDim {
		q, k := qk[at:at+d.KeyDim], qk[keys+at:keys+at+d.KeyDim]
		d.unitQ.Apply(s.K, q, q)
		d.unit.Apply(s.K, k, k)
	}
	ld := n + d.decays()
	beta, decay := s.Up[t*ld:t*ld+n], s.Up[t*ld+n:(t+1)*ld]
	s.K.Activate(beta, kernel.Func{Kind: kernel.Sigmoid})
	if d.Doubled {
		parts.Scale(beta, 2)
	}
	parts.Accumulate(decay, d.dt)
	s.K.Activate(decay, kernel.Func{Kind: kernel.Softplus})
	each := len(decay) / n
	for h, a := range d.a {
		parts.Scale(decay[h*each:(h+1)*each], a)
	}
}

// head goes through the rows of a sequence with one value head, and norms and gates its results.
func (j *deltaJob) head(worker int, run *batch.Run, h int) {
	s, d := j.s, j.d
	keys, values, ld, dim := d.KeyHeads*d.KeyDim, d.Heads*d.ValueDim, d.Channels(), d.ValueDim
	_, state := d.states(s, run.Seq)
	x, args := s.QKV[run.Lo*ld:], &s.Workers[worker].Delta
	all, gated := d.Heads+d.decays(), kernel.SiLU
	if d.Rank > 0 {
		gated = kernel.Sigmoid
	}
	*args = kernel.DeltaArgs{
		Rows: run.Hi - run.Lo, KeyHeads: d.KeyHeads, Heads: d.Heads, KeyDim: d.KeyDim, ValueDim: dim, Tiled: d.Tiled,
		Q: x, K: x[keys:], V: x[2*keys:], LdQ: ld, LdK: ld, LdV: ld, Y: s.O[run.Lo*values:], LdY: values,
		Beta: s.Up[run.Lo*all:], Decay: s.Up[run.Lo*all+d.Heads:], LdBeta: all, LdDecay: all, PerChannel: d.Rank > 0, State: state,
	}
	s.Recur.Delta(args, h, h+1)
	for t := run.Lo; t < run.Hi; t++ {
		o, gate := s.O[t*values+h*dim:][:dim], s.Gate[t*values+h*dim:][:dim]
		s.NormOf(&d.norm, worker, t).Apply(s.K, o, o)
		s.K.Gate(gate, o, kernel.Func{Kind: gated})
		copy(o, gate)
	}
}

// DeltaRoom makes room for a delta net's rows.
func DeltaRoom(z *batch.Sizes, op *arch.Delta) {
	values, row, keys := op.Heads*op.ValueDim, op.Channels(), op.KeyHeads*op.KeyDim
	if op.Rank > 0 {
		z.Need(batch.BufUp, op.Heads+keys)
		z.Need(batch.BufGX, op.Rank)
		z.Need(batch.BufGD, op.Rank)
		z.Need(batch.BufLora, op.Heads+op.Rank)
		z.Product(op.Rank)
	}
	z.Need(batch.BufQKV, row)
	z.Need(batch.BufO, values)
	z.Need(batch.BufGate, values)
	z.Need(batch.BufUp, 2*op.Heads)
	z.Need(batch.BufLora, max(row, values, 2*op.Heads))
	z.Product(values)
}
