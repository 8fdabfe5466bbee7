package transformer

import (
	"edged/core/model/arch"
	"edged/quant"
	"edged/quant/kernel"
)

// mamba1 is the selective scan with a decay for each channel and state, see arch.Mamba1. It goes token by token as mamba2 does.
type mamba1 struct {
	arch.Mamba1
	in, x, step, out linear
	w                []float32 // (Kernel, Inner)
	convBias         []float32 // (Inner); nil: none
	a, d             []float32 // (Inner, States), (Inner)
	norms            [3]norm   // of dt, B and C
	index            int       // among the operations with a state
	last             bool      // see attention.last
}

// mamba1 binds a scan of the layer.
func (b *builder) mamba1(op *arch.Mamba1) *mamba1 {
	w, inner := b.spec.Width, op.Inner
	m := &mamba1{
		Mamba1: *op, index: b.states,
		in: b.linear("ssm_in", 2*inner, w), x: b.linear("ssm_x", op.Rank+2*op.States, inner), step: b.linear("ssm_dt", inner, op.Rank),
		out: b.linear("ssm_out", w, inner),
		w:   b.channels("ssm_conv1d", inner, op.Kernel), convBias: b.vector(b.prefix+"ssm_conv1d.bias", inner),
		d: b.required(b.prefix+"ssm_d.weight", inner),
	}
	norms, sizes := op.Norms(), [...]int{op.Rank, op.States, op.States}
	for i := range norms {
		m.norms[i] = b.norm(&norms[i], sizes[i])
	}
	if a := b.matrix(b.prefix+"ssm_a.weight", inner, op.States); b.err == nil {
		m.a = make([]float32, inner*op.States)
		for i := range inner {
			quant.Row(m.a[i*op.States:(i+1)*op.States], a, i)
		}
	}
	if op.Logs {
		for i, x := range m.a {
			m.a[i] = float32(-exp(float64(x)))
		}
	}
	for _, l := range []*linear{&m.in, &m.x, &m.step, &m.out} {
		b.weigh(l, 1, 1)
	}
	b.states++
	b.last = &m.last
	return m
}

// oneJobs are the jobs of a mamba1.
type oneJobs struct {
	conv  oneConvJob
	split oneSplitJob
	scan  oneScanJob
	gate  oneGateJob
}

// oneRuns is what the jobs have in common that compute some channels of one sequence.
type oneRuns struct {
	s      *step
	m      *mamba1
	runs   []seqRun
	chunks int // of each sequence
}

// part is the sequence and the channels of a chunk.
func (j *oneRuns) part(chunk int) (run *seqRun, lo, hi int) {
	lo = chunk % j.chunks * stateChunk
	return &j.runs[chunk/j.chunks], lo, min(lo+stateChunk, j.m.Inner)
}

func (m *mamba1) forward(s *step) {
	inner, x := m.Inner, m.x.w.Rows
	s.queue(&m.in, s.qkv, 2*inner)
	s.compute(s.p, s.groups, nothing)
	runs, chunks := s.sequences(), (inner+stateChunk-1)/stateChunk
	s.one.conv.oneRuns = oneRuns{s, m, runs, chunks}
	s.run(len(runs)*chunks, &s.one.conv)
	s.prepare(s.o, s.t, inner)
	s.queue(&m.x, s.gate, x)
	s.compute(s.p, s.groups, nothing)
	s.one.split.m = m
	s.run(s.rowChunks(s.t), &s.one.split)
	s.prepare(s.gx, s.t, m.Rank)
	s.queue(&m.step, s.up, inner)
	s.compute(s.p, s.groups, then{plain: true, f: kernel.Func{Kind: kernel.Softplus}})
	s.one.scan.oneRuns = oneRuns{s, m, runs, chunks}
	s.run(len(runs)*chunks, &s.one.scan)
	s.one.gate.m = m
	s.run(s.rowChunks(s.t), &s.one.gate)
	if m.last {
		if s.keepWanted(s.o, inner, inner); s.t == 0 {
			return
		}
	}
	s.prepare(s.o, s.t, inner)
	s.queue(&m.out, s.out, s.m.spec.Width)
	s.compute(s.p, s.groups, nothing)
}

// oneConvJob is o = SiLU(conv(x)), of rows [x, z] in qkv.
type oneConvJob struct{ oneRuns }

func (j *oneConvJob) Do(worker, chunk int) {
	s, m, inner := j.s, j.m, j.m.Inner
	run, lo, hi := j.part(chunk)
	args := &s.workers[worker].conv
	*args = kernel.ConvArgs{
		Rows: run.hi - run.lo, Channels: inner, Width: m.Kernel, Y: s.o[run.lo*inner:], LdY: inner, X: s.qkv[run.lo*2*inner:], LdX: 2 * inner,
		W: m.w, B: m.convBias, State: s.m.kv.State(run.seq.StateSlot(), m.index)[:(m.Kernel-1)*inner],
	}
	s.recur.Conv(args, lo, hi)
	for t := run.lo; t < run.hi; t++ {
		s.k.Activate(s.o[t*inner+lo:t*inner+hi], kernel.Func{Kind: kernel.SiLU})
	}
}

// oneSplitJob normalises dt, B and C of some rows in gate, and copies dt together.
type oneSplitJob struct {
	s *step
	m *mamba1
}

func (j *oneSplitJob) Do(worker, chunk int) {
	s, m := j.s, j.m
	lo, hi := s.rowRange(s.t, chunk)
	ld, n := m.x.w.Rows, m.States
	for t := lo; t < hi; t++ {
		row := s.gate[t*ld : (t+1)*ld]
		for i, part := range [...][]float32{row[:m.Rank], row[m.Rank : m.Rank+n], row[m.Rank+n:]} {
			if !m.norms[i].none() {
				s.normOf(&m.norms[i], worker, t).apply(s.k, part, part)
			}
		}
		copy(s.gx[t*m.Rank:(t+1)*m.Rank], row)
	}
}

// oneScanJob is o = scan(o, B, C, dt), with B and C in gate and dt in up.
type oneScanJob struct{ oneRuns }

func (j *oneScanJob) Do(worker, chunk int) {
	s, m, inner := j.s, j.m, j.m.Inner
	run, lo, hi := j.part(chunk)
	ld, x := m.x.w.Rows, s.o[run.lo*inner:]
	row := s.gate[run.lo*m.x.w.Rows:]
	args := &s.workers[worker].scan
	*args = kernel.ScanArgs{
		Rows: run.hi - run.lo, Heads: inner, HeadDim: 1, States: m.States, Groups: 1, Y: x, LdY: inner, X: x, LdX: inner,
		DT: s.up[run.lo*inner:], LdDT: inner, B: row[m.Rank:], C: row[m.Rank+m.States:], LdBC: ld, A: m.a, PerState: true, D: m.d,
		State: s.m.kv.State(run.seq.StateSlot(), m.index)[m.ConvState():],
	}
	s.recur.Scan(args, lo, hi)
}

// oneGateJob gates some rows: o = o · SiLU(z).
type oneGateJob struct {
	s *step
	m *mamba1
}

func (j *oneGateJob) Do(_, chunk int) {
	s, inner := j.s, j.m.Inner
	lo, hi := s.rowRange(s.t, chunk)
	for t := lo; t < hi; t++ {
		z, y := s.qkv[t*2*inner+inner:(t+1)*2*inner], s.o[t*inner:(t+1)*inner]
		s.k.Gate(z, y, kernel.Func{Kind: kernel.SiLU})
		copy(y, z)
	}
}
