package recurrent

import (
	"edged/core/infer/transformer/batch"
	"edged/core/infer/transformer/bind"
	"edged/core/infer/transformer/exactmath"
	"edged/core/infer/transformer/parts"
	"edged/core/model/arch"
	"edged/quant"
	"edged/quant/kernel"
)

// Mamba1 is the selective scan with a decay for each channel and state, see arch.Mamba1. It goes token by
// token as mamba2 does.
type Mamba1 struct {
	arch.Mamba1
	in, x, step, out parts.Linear
	w                []float32     // (Kernel, Inner)
	convBias         []float32     // (Inner); nil: none
	a, d             []float32     // (Inner, States), (Inner)
	norms            [3]parts.Norm // of dt, B and C
	index            int           // among the operations with a state
	last             bool          // see attention.Grouped.Last
	jobs             oneJobs
}

// NewMamba1 binds a scan of the layer.
func NewMamba1(b *bind.Builder, op *arch.Mamba1) *Mamba1 {
	w, inner := b.Spec.Width, op.Inner
	m := &Mamba1{
		Mamba1: *op, index: b.States,
		in: b.Linear("ssm_in", 2*inner, w), x: b.Linear("ssm_x", op.Rank+2*op.States, inner), step: b.Linear("ssm_dt", inner, op.Rank),
		out: b.Linear("ssm_out", w, inner),
		w:   convWeights(b, "ssm_conv1d", inner, op.Kernel), convBias: b.Vector(b.Prefix+"ssm_conv1d.bias", inner),
		d: b.Required(b.Prefix+"ssm_d.weight", inner),
	}
	norms, sizes := op.Norms(), [...]int{op.Rank, op.States, op.States}
	for i := range norms {
		m.norms[i] = b.Norm(&norms[i], sizes[i])
	}
	if a := b.Matrix(b.Prefix+"ssm_a.weight", inner, op.States); b.Err == nil {
		m.a = make([]float32, inner*op.States)
		for i := range inner {
			quant.Row(m.a[i*op.States:(i+1)*op.States], a, i)
		}
	}
	if op.Logs {
		for i, x := range m.a {
			m.a[i] = float32(-exactmath.Exp(float64(x)))
		}
	}
	for _, l := range []*parts.Linear{&m.in, &m.x, &m.step, &m.out} {
		b.Weigh(l, 1, 1)
	}
	b.States++
	b.Last = &m.last
	return m
}

// oneJobs are the jobs of a mamba1.
type oneJobs struct {
	conv  oneConvJob
	split oneSplitJob
	scan  oneScanJob
	gate  oneGateJob
}

// oneRuns is the common part of the jobs that compute some channels of one sequence.
type oneRuns struct {
	s      *batch.Batch
	m      *Mamba1
	runs   []batch.Run
	chunks int // of each sequence
}

// part is the sequence and the channels of a chunk.
func (j *oneRuns) part(chunk int) (run *batch.Run, lo, hi int) {
	lo = chunk % j.chunks * stateChunk
	return &j.runs[chunk/j.chunks], lo, min(lo+stateChunk, j.m.Inner)
}

// Forward computes it, see batch.Op.
func (m *Mamba1) Forward(s *batch.Batch) {
	inner, x := m.Inner, m.x.W.Rows
	s.Queue(&m.in, s.QKV, 2*inner)
	s.Compute(s.P, s.Groups, batch.Nothing)
	runs, chunks := s.Sequences(), (inner+stateChunk-1)/stateChunk
	m.jobs.conv.oneRuns = oneRuns{s, m, runs, chunks}
	s.Run(len(runs)*chunks, &m.jobs.conv)
	s.Prepare(s.O, s.T, inner)
	s.Queue(&m.x, s.Gate, x)
	s.Compute(s.P, s.Groups, batch.Nothing)
	m.jobs.split = oneSplitJob{s: s, m: m}
	s.Run(s.RowChunks(s.T), &m.jobs.split)
	s.Prepare(s.GX, s.T, m.Rank)
	s.Queue(&m.step, s.Up, inner)
	s.Compute(s.P, s.Groups, batch.Then{Plain: true, F: kernel.Func{Kind: kernel.Softplus}})
	m.jobs.scan.oneRuns = oneRuns{s, m, runs, chunks}
	s.Run(len(runs)*chunks, &m.jobs.scan)
	m.jobs.gate = oneGateJob{s: s, m: m}
	s.Run(s.RowChunks(s.T), &m.jobs.gate)
	if m.last {
		if s.KeepWanted(s.O, inner, inner); s.T == 0 {
			return
		}
	}
	s.Prepare(s.O, s.T, inner)
	s.Queue(&m.out, s.Out, s.Width)
	s.Compute(s.P, s.Groups, batch.Nothing)
}

// oneConvJob is o = SiLU(conv(x)), of rows [x, z] in qkv.
type oneConvJob struct{ oneRuns }

func (j *oneConvJob) Do(worker, chunk int) {
	s, m, inner := j.s, j.m, j.m.Inner
	run, lo, hi := j.part(chunk)
	args := &s.Workers[worker].Conv
	*args = kernel.ConvArgs{
		Rows: run.Hi - run.Lo, Channels: inner, Width: m.Kernel, Y: s.O[run.Lo*inner:], LdY: inner, X: s.QKV[run.Lo*2*inner:], LdX: 2 * inner,
		W: m.w, B: m.convBias, State: s.Cache.State(run.Seq.StateSlot(), m.index)[:(m.Kernel-1)*inner],
	}
	s.Recur.Conv(args, lo, hi)
	for t := run.Lo; t < run.Hi; t++ {
		s.K.Activate(s.O[t*inner+lo:t*inner+hi], kernel.Func{Kind: kernel.SiLU})
	}
}

// oneSplitJob normalises dt, B and C of some rows in gate, and copies dt together.
type oneSplitJob struct {
	s *batch.Batch
	m *Mamba1
}

func (j *oneSplitJob) Do(worker, chunk int) {
	s, m := j.s, j.m
	lo, hi := s.RowRange(s.T, chunk)
	ld, n := m.x.W.Rows, m.States
	for t := lo; t < hi; t++ {
		row := s.Gate[t*ld : (t+1)*ld]
		for i, part := range [...][]float32{row[:m.Rank], row[m.Rank : m.Rank+n], row[m.Rank+n:]} {
			if !m.norms[i].None() {
				s.NormOf(&m.norms[i], worker, t).Apply(s.K, part, part)
			}
		}
		copy(s.GX[t*m.Rank:(t+1)*m.Rank], row)
	}
}

// oneScanJob is o = scan(o, B, C, dt), with B and C in gate and dt in up.
type oneScanJob struct{ oneRuns }

func (j *oneScanJob) Do(worker, chunk int) {
	s, m, inner := j.s, j.m, j.m.Inner
	run, lo, hi := j.part(chunk)
	ld, x := m.x.W.Rows, s.O[run.Lo*inner:]
	row := s.Gate[run.Lo*m.x.W.Rows:]
	args := &s.Workers[worker].Scan
	*args = kernel.ScanArgs{
		Rows: run.Hi - run.Lo, Heads: inner, HeadDim: 1, States: m.States, Groups: 1, Y: x, LdY: inner, X: x, LdX: inner,
		DT: s.Up[run.Lo*inner:], LdDT: inner, B: row[m.Rank:], C: row[m.Rank+m.States:], LdBC: ld, A: m.a, PerState: true, D: m.d,
		State: s.Cache.State(run.Seq.StateSlot(), m.index)[m.ConvState():],
	}
	s.Recur.Scan(args, lo, hi)
}

// oneGateJob gates some rows: o = o · SiLU(z).
type oneGateJob struct {
	s *batch.Batch
	m *Mamba1
}

func (j *oneGateJob) Do(_, chunk int) {
	s, inner := j.s, j.m.Inner
	lo, hi := s.RowRange(s.T, chunk)
	for t := lo; t < hi; t++ {
		z, y := s.QKV[t*2*inner+inner:(t+1)*2*inner], s.O[t*inner:(t+1)*inner]
		s.K.Gate(z, y, kernel.Func{Kind: kernel.SiLU})
		copy(y, z)
	}
}

// Mamba1Room makes room for a scan's rows.
func Mamba1Room(z *batch.Sizes, op *arch.Mamba1) {
	x := op.Rank + 2*op.States
	z.Need(batch.BufQKV, 2*op.Inner)
	z.Need(batch.BufO, op.Inner)
	z.Need(batch.BufGate, x)
	z.Need(batch.BufUp, op.Inner)
	z.Need(batch.BufGX, op.Rank)
	z.Need(batch.BufLora, max(2*op.Inner, x))
	z.Product(max(op.Inner, op.Rank))
}
