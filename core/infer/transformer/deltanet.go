package transformer

import (
	"math"

	"edged/core/model/arch"
	"edged/quant/kernel"
)

// deltaNet is the gated delta net, see arch.Delta.
type deltaNet struct {
	arch.Delta
	q, k, v, gate linear
	beta, alpha   linear
	fA, fB        linear // of Kimi's decay; empty without a Rank
	gA, gB        linear // and of its gate
	out           linear
	w             []float32 // (Kernel, Channels)
	dt            []float32 // (Heads), by key channel (Heads, KeyDim)
	a             []float32 // (Heads) below 0
	norm          norm      // of each head's result
	unit, unitQ   norm      // scale keys to length 1, queries to 1/√KeyDim
	index         int       // among the operations with a state
	last          bool      // see attention.last
}

// lengthEps is what the square of a key's or query's length is raised by, in all published models.
const lengthEps = 1e-6

// deltaNet binds a gated delta net of the layer.
func (b *builder) deltaNet(op *arch.Delta) *deltaNet {
	w, keys, values := b.spec.Width, op.KeyHeads*op.KeyDim, op.Heads*op.ValueDim
	d := &deltaNet{
		Delta: *op, index: b.states,
		q: b.linear("attn_q", keys, w), k: b.linear("attn_k", keys, w), v: b.linear("attn_v", values, w),
		beta: b.linear("ssm_beta", op.Heads, w), a: b.required(b.prefix+"ssm_a.weight", op.Heads),
		norm: b.norm(&arch.Norm{Kind: arch.RMSNorm, Name: "ssm_norm", Eps: op.Eps}, op.ValueDim),
		// x/√(Σx² + eps) is x/√(mean(x²) + eps/n)·1/√n.
		unit:  norm{kind: arch.RMSNorm, eps: lengthEps / float32(op.KeyDim), w: constant(op.KeyDim, 1/math.Sqrt(float64(op.KeyDim)))},
		unitQ: norm{kind: arch.RMSNorm, eps: lengthEps / float32(op.KeyDim), w: constant(op.KeyDim, 1/float64(op.KeyDim))},
	}
	if op.Rank > 0 {
		d.fA, d.fB = b.linear("ssm_f_a", op.Rank, w), b.linear("ssm_f_b", keys, op.Rank)
		d.gA, d.gB = b.linear("ssm_g_a", op.Rank, w), b.linear("ssm_g_b", values, op.Rank)
		d.dt, d.out = b.required(b.prefix+"ssm_dt.bias", keys), b.linear("attn_output", w, values)
	} else {
		d.gate, d.alpha = b.linear("attn_gate", values, w), b.linear("ssm_alpha", op.Heads, w)
		d.dt, d.out = b.required(b.prefix+"ssm_dt.bias", op.Heads), b.linear("ssm_out", w, values)
	}
	if d.w = b.convolutions(op); op.Logs {
		for i, x := range d.a {
			d.a[i] = float32(-exp(float64(x)))
		}
	}
	for _, l := range []*linear{&d.q, &d.k, &d.v, &d.gate, &d.beta, &d.alpha, &d.fA, &d.fB, &d.gA, &d.gB, &d.out} {
		if l.w != nil {
			b.weigh(l, 1, 1)
		}
	}
	b.states++
	b.last = &d.last
	return d
}

// convolutions binds the weights of a delta net's convolution, which may be in three parts: (Kernel, Channels).
func (b *builder) convolutions(op *arch.Delta) []float32 {
	if op.Apart == [3]int{} {
		return b.channels("ssm_conv1d", op.Channels(), op.Kernel)
	}
	n, at := op.Channels(), 0
	out := make([]float32, op.Kernel*n)
	for i, width := range op.Apart {
		if w := b.channels(arch.DeltaConvs[i], width, op.Kernel); b.err == nil {
			for j := range op.Kernel {
				copy(out[j*n+at:], w[j*width:(j+1)*width])
			}
		}
		at += width
	}
	return out
}

// decays is the number of decays of a row: one for each head, or for each key channel.
func (d *deltaNet) decays() int { return len(d.dt) }

// gates makes gates, shares and decays, as logits still: the first in gate, the others beside each other in up.
func (d *deltaNet) gates(s *step, values int) {
	ld := d.Heads + d.decays()
	if d.Rank == 0 {
		s.queue(&d.gate, s.gate, values)
		s.compute(s.p, s.groups, nothing)
		// Few values, of which the decay of a state over hundreds of positions follows.
		s.queue(&d.beta, s.up, ld)
		s.queue(&d.alpha, s.up[d.Heads:], ld)
		s.compute(kernel.Exact, s.groups, nothing)
		return
	}
	s.queue(&d.gA, s.gd, d.Rank)
	s.compute(s.p, s.groups, nothing)
	s.queue(&d.beta, s.up, ld)
	s.queue(&d.fA, s.gx, d.Rank)
	s.compute(kernel.Exact, s.groups, nothing)
	s.prepare(s.gx, s.t, d.Rank)
	s.queue(&d.fB, s.up[d.Heads:], ld)
	s.compute(kernel.Exact, s.groups, nothing)
	s.prepare(s.gd, s.t, d.Rank)
	s.queue(&d.gB, s.gate, values)
	s.compute(s.p, s.groups, nothing)
}

// constant is a vector of n equal values.
func constant(n int, v float64) []float32 {
	out := make([]float32, n)
	for i := range out {
		out[i] = float32(v)
	}
	return out
}

func (d *deltaNet) forward(s *step) {
	keys, values, ld := d.KeyHeads*d.KeyDim, d.Heads*d.ValueDim, d.Channels()
	s.queue(&d.q, s.qkv, ld)
	s.queue(&d.k, s.qkv[keys:], ld)
	s.queue(&d.v, s.qkv[2*keys:], ld)
	s.compute(s.p, s.groups, nothing)
	d.gates(s, values)
	s.deltaMix.d, s.deltaMix.runs, s.deltaMix.chunks = d, s.sequences(), (ld+stateChunk-1)/stateChunk
	s.run(len(s.deltaMix.runs)*s.deltaMix.chunks, &s.deltaMix)
	s.delta.d = d
	s.delta.prepare = true
	s.run(s.rowChunks(s.t), &s.delta)
	s.delta.prepare = false
	s.run(len(s.runs)*d.Heads, &s.delta)
	if d.last {
		if s.keepWanted(s.o, values, values); s.t == 0 {
			return
		}
	}
	s.prepare(s.o, s.t, values)
	s.queue(&d.out, s.out, s.m.spec.Width)
	s.compute(s.p, s.groups, nothing)
}

// states are the last inputs of the convolution and the state of the value heads.
func (d *deltaNet) states(s *step, seq *Seq) (conv, heads []float32) {
	all := s.m.kv.State(seq.StateSlot(), d.index)
	n := d.ConvState()
	return all[:(d.Kernel-1)*d.Channels()], all[n:]
}

// deltaMixJob is some channels of one sequence: SiLU of their convolution, in place.
type deltaMixJob struct {
	s      *step
	d      *deltaNet
	runs   []seqRun
	chunks int // of each sequence
}

func (j *deltaMixJob) Do(worker, chunk int) {
	s, n := j.s, j.d.Channels()
	run := &j.runs[chunk/j.chunks]
	lo := chunk % j.chunks * stateChunk
	hi := min(lo+stateChunk, n)
	x, args := s.qkv[run.lo*n:], &s.workers[worker].conv
	state, _ := j.d.states(s, run.seq)
	*args = kernel.ConvArgs{Rows: run.hi - run.lo, Channels: n, Width: j.d.Kernel, Y: x, LdY: n, X: x, LdX: n, W: j.d.w, State: state}
	s.recur.Conv(args, lo, hi)
	for t := range args.Rows {
		s.k.Activate(x[t*n+lo:t*n+hi], kernel.Func{Kind: kernel.SiLU})
	}
}

// deltaJob is the preparation of some rows, and then one value head of one sequence.
type deltaJob struct {
	s       *step
	d       *deltaNet
	prepare bool
}

func (j *deltaJob) Do(worker, chunk int) {
	if !j.prepare {
		j.head(worker, &j.s.runs[chunk/j.d.Heads], chunk%j.d.Heads)
		return
	}
	lo, hi := j.s.rowRange(j.s.t, chunk)
	for t := lo; t < hi; t++ {
		j.row(t)
	}
}

// row scales queries and keys to their lengths and makes shares and decays of their logits.
func (j *deltaJob) row(t int) {
	s, d, n := j.s, j.d, j.d.Heads
	keys := d.KeyHeads * d.KeyDim
	qk := s.qkv[t*d.Channels():][:2*keys]
	for at := 0; at < keys; at += d.KeyDim {
		q, k := qk[at:at+d.KeyDim], qk[keys+at:keys+at+d.KeyDim]
		d.unitQ.apply(s.k, q, q)
		d.unit.apply(s.k, k, k)
	}
	ld := n + d.decays()
	beta, decay := s.up[t*ld:t*ld+n], s.up[t*ld+n:(t+1)*ld]
	s.k.Activate(beta, kernel.Func{Kind: kernel.Sigmoid})
	if d.Doubled {
		scale(beta, 2)
	}
	accumulate(decay, d.dt)
	s.k.Activate(decay, kernel.Func{Kind: kernel.Softplus})
	each := len(decay) / n
	for h, a := range d.a {
		scale(decay[h*each:(h+1)*each], a)
	}
}

// head goes through the rows of a sequence with one value head, and norms and gates its results.
func (j *deltaJob) head(worker int, run *seqRun, h int) {
	s, d := j.s, j.d
	keys, values, ld, dim := d.KeyHeads*d.KeyDim, d.Heads*d.ValueDim, d.Channels(), d.ValueDim
	_, state := d.states(s, run.seq)
	x, args := s.qkv[run.lo*ld:], &s.workers[worker].delta
	all, gated := d.Heads+d.decays(), kernel.SiLU
	if d.Rank > 0 {
		gated = kernel.Sigmoid
	}
	*args = kernel.DeltaArgs{
		Rows: run.hi - run.lo, KeyHeads: d.KeyHeads, Heads: d.Heads, KeyDim: d.KeyDim, ValueDim: dim, Tiled: d.Tiled,
		Q: x, K: x[keys:], V: x[2*keys:], LdQ: ld, LdK: ld, LdV: ld, Y: s.o[run.lo*values:], LdY: values,
		Beta: s.up[run.lo*all:], Decay: s.up[run.lo*all+d.Heads:], LdBeta: all, LdDecay: all, PerChannel: d.Rank > 0, State: state,
	}
	s.recur.Delta(args, h, h+1)
	for t := run.lo; t < run.hi; t++ {
		o, gate := s.o[t*values+h*dim:][:dim], s.gate[t*values+h*dim:][:dim]
		s.normOf(&d.norm, worker, t).apply(s.k, o, o)
		s.k.Gate(gate, o, kernel.Func{Kind: gated})
		copy(o, gate)
	}
}
