package recurrent

import (
	"edged/core/infer/transformer/batch"
	"edged/core/infer/transformer/bind"
	"edged/core/infer/transformer/exactmath"
	"edged/core/infer/transformer/parts"
	"edged/core/model/arch"
	"edged/quant/kernel"
)

// Lightning is linear attention whose heads forget at fixed rates, see arch.Lightning.
type Lightning struct {
	arch.Lightning
	q, k, v, gate, out parts.Linear
	norm               parts.Norm
	decay              []float32 // (Heads) logarithms
	index              int       // among the operations with a state
	last               bool      // see attention.Grouped.Last
	jobs               lightningJob
}

// NewLightning binds a linear attention of the layer.
func NewLightning(b *bind.Builder, op *arch.Lightning) *Lightning {
	w, n := b.Spec.Width, op.Heads*op.HeadDim
	l := &Lightning{
		Lightning: *op, index: b.States,
		q: b.Linear("attn_q", n, w), k: b.Linear("attn_k", n, w), v: b.Linear("attn_v", n, w), gate: b.Linear("attn_gate", n, w),
		out: b.Linear("attn_output", w, n), norm: b.Norm(&arch.Norm{Kind: arch.RMSNorm, Name: "attn_sub_norm", Eps: op.Eps}, n),
	}
	for h := range op.Heads {
		l.decay = append(l.decay, float32(-float64(op.Slope)*exactmath.Exp(-exactmath.Ln(2)*8*float64(h+1)/float64(op.Heads))))
	}
	for _, x := range []*parts.Linear{&l.q, &l.k, &l.v, &l.gate, &l.out} {
		b.Weigh(x, 1, 1)
	}
	b.States++
	b.Last = &l.last
	return l
}

// Forward computes it, see batch.Op.
func (l *Lightning) Forward(s *batch.Batch) {
	n := l.Heads * l.HeadDim
	s.Queue(&l.q, s.QKV, 3*n)
	s.Queue(&l.k, s.QKV[n:], 3*n)
	s.Queue(&l.v, s.QKV[2*n:], 3*n)
	s.Compute(s.P, s.Groups, batch.Then{Plain: true, F: kernel.Func{Kind: kernel.SiLU}})
	s.Queue(&l.gate, s.Gate, n)
	s.Compute(s.P, s.Groups, batch.Nothing)
	l.jobs = lightningJob{s: s, l: l, runs: s.Sequences()}
	s.Run(len(l.jobs.runs)*l.Heads, &l.jobs)
	l.jobs.finish = true
	s.Run(s.RowChunks(s.T), &l.jobs)
	if l.last {
		if s.KeepWanted(s.O, n, n); s.T == 0 {
			return
		}
	}
	s.Prepare(s.O, s.T, n)
	s.Queue(&l.out, s.Out, s.Width)
	s.Compute(s.P, s.Groups, batch.Nothing)
}

// lightningJob is one head of one sequence, and then the norm and the gate of some rows.
type lightningJob struct {
	s      *batch.Batch
	l      *Lightning
	runs   []batch.Run
	finish bool
}

func (j *lightningJob) Do(worker, chunk int) {
	s, l, n := j.s, j.l, j.l.Heads*j.l.HeadDim
	if !j.finish {
		run, h := &j.runs[chunk/l.Heads], chunk%l.Heads
		x, args := s.QKV[run.Lo*3*n:], &s.Workers[worker].Delta
		*args = kernel.DeltaArgs{
			Rows: run.Hi - run.Lo, KeyHeads: l.Heads, Heads: l.Heads, KeyDim: l.HeadDim, ValueDim: l.HeadDim,
			Q: x, K: x[n:], V: x[2*n:], LdQ: 3 * n, LdK: 3 * n, LdV: 3 * n, Y: s.O[run.Lo*n:], LdY: n,
			Decay: l.decay, State: s.Cache.State(run.Seq.StateSlot(), l.index),
		}
		s.Recur.Delta(args, h, h+1)
		return
	}
	lo, hi := s.RowRange(s.T, chunk)
	for t := lo; t < hi; t++ {
		o, gate := s.O[t*n:(t+1)*n], s.Gate[t*n:(t+1)*n]
		s.NormOf(&l.norm, worker, t).Apply(s.K, o, o)
		s.K.Gate(gate, o, kernel.Func{Kind: kernel.Sigmoid})
		copy(o, gate)
	}
}

// LightningRoom makes room for a linear attention's rows.
func LightningRoom(z *batch.Sizes, op *arch.Lightning) {
	n := op.Heads * op.HeadDim
	z.Need(batch.BufQKV, 3*n)
	z.Need(batch.BufO, n)
	z.Need(batch.BufGate, n)
	z.Need(batch.BufLora, 3*n)
	z.Product(n)
}
