package transformer

import (
	"edged/core/model/arch"
	"edged/quant/kernel"
)

// lightning is linear attention whose heads forget at fixed rates, see arch.Lightning.
type lightning struct {
	arch.Lightning
	q, k, v, gate, out linear
	norm               norm
	decay              []float32 // (Heads) logarithms
	index              int       // among the operations with a state
	last               bool      // see attention.last
}

// lightning binds a linear attention of the layer.
func (b *builder) lightning(op *arch.Lightning) *lightning {
	w, n := b.spec.Width, op.Heads*op.HeadDim
	l := &lightning{
		Lightning: *op, index: b.states,
		q: b.linear("attn_q", n, w), k: b.linear("attn_k", n, w), v: b.linear("attn_v", n, w), gate: b.linear("attn_gate", n, w),
		out: b.linear("attn_output", w, n), norm: b.norm(&arch.Norm{Kind: arch.RMSNorm, Name: "attn_sub_norm", Eps: op.Eps}, n),
	}
	for h := range op.Heads {
		l.decay = append(l.decay, float32(-float64(op.Slope)*exp(-ln(2)*8*float64(h+1)/float64(op.Heads))))
	}
	for _, x := range []*linear{&l.q, &l.k, &l.v, &l.gate, &l.out} {
		b.weigh(x, 1, 1)
	}
	b.states++
	b.last = &l.last
	return l
}

func (l *lightning) forward(s *step) {
	n := l.Heads * l.HeadDim
	s.queue(&l.q, s.qkv, 3*n)
	s.queue(&l.k, s.qkv[n:], 3*n)
	s.queue(&l.v, s.qkv[2*n:], 3*n)
	s.compute(s.p, s.groups, then{plain: true, f: kernel.Func{Kind: kernel.SiLU}})
	s.queue(&l.gate, s.gate, n)
	s.compute(s.p, s.groups, nothing)
	s.bright.l, s.bright.runs, s.bright.finish = l, s.sequences(), false
	s.run(len(s.bright.runs)*l.Heads, &s.bright)
	s.bright.finish = true
	s.run(s.rowChunks(s.t), &s.bright)
	if l.last {
		if s.keepWanted(s.o, n, n); s.t == 0 {
			return
		}
	}
	s.prepare(s.o, s.t, n)
	s.queue(&l.out, s.out, s.m.spec.Width)
	s.compute(s.p, s.groups, nothing)
}

// lightningJob is one head of one sequence, and then the norm and the gate of some rows.
type lightningJob struct {
	s      *step
	l      *lightning
	runs   []seqRun
	finish bool
}

func (j *lightningJob) Do(worker, chunk int) {
	s, l, n := j.s, j.l, j.l.Heads*j.l.HeadDim
	if !j.finish {
		run, h := &j.runs[chunk/l.Heads], chunk%l.Heads
		x, args := s.qkv[run.lo*3*n:], &s.workers[worker].delta
		*args = kernel.DeltaArgs{
			Rows: run.hi - run.lo, KeyHeads: l.Heads, Heads: l.Heads, KeyDim: l.HeadDim, ValueDim: l.HeadDim,
			Q: x, K: x[n:], V: x[2*n:], LdQ: 3 * n, LdK: 3 * n, LdV: 3 * n, Y: s.o[run.lo*n:], LdY: n,
			Decay: l.decay, State: s.m.kv.State(run.seq.StateSlot(), l.index),
		}
		s.recur.Delta(args, h, h+1)
		return
	}
	lo, hi := s.rowRange(s.t, chunk)
	for t := lo; t < hi; t++ {
		o, gate := s.o[t*n:(t+1)*n], s.gate[t*n:(t+1)*n]
		s.normOf(&l.norm, worker, t).apply(s.k, o, o)
		s.k.Gate(gate, o, kernel.Func{Kind: kernel.Sigmoid})
		copy(o, gate)
	}
}
