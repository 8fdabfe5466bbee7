package transformer

import (
	"edged/core/model/arch"
	"edged/quant/kernel"
)

// mamba2 is the selective scan with one decay for each head, see arch.Mamba2.
//
// It goes token by token, in prompts too: the published form in chunks adds in another order, so that a row's bits would depend on
// how its prompt was cut.
type mamba2 struct {
	arch.Mamba2
	in, out  linear
	w        []float32 // (Kernel, channels)
	convBias []float32 // (channels); nil: none
	dt       []float32 // (Heads), added before the soft-plus
	a, d     []float32 // (Heads)
	norm     norm
	index    int  // among the operations with a state
	last     bool // see attention.last
}

// mamba2 binds a scan of the layer.
func (b *builder) mamba2(op *arch.Mamba2) *mamba2 {
	w, inner, channels := b.spec.Width, op.Inner(), op.Channels()
	m := &mamba2{
		Mamba2: *op, index: b.states,
		in: b.linear("ssm_in", inner+channels+op.Heads, w), out: b.linear("ssm_out", w, inner),
		w: b.channels("ssm_conv1d", channels, op.Kernel), convBias: b.vector(b.prefix+"ssm_conv1d.bias", channels),
		dt: b.required(b.prefix+"ssm_dt.bias", op.Heads), a: b.required(b.prefix+"ssm_a.weight", op.Heads),
		d: b.required(b.prefix+"ssm_d.weight", op.Heads), norm: b.norm(&op.Norm, inner),
	}
	if op.Logs {
		for i, x := range m.a {
			m.a[i] = float32(-exp(float64(x)))
		}
	}
	for i := range m.Scales {
		m.Scales[i] = factor(m.Scales[i])
	}
	b.weigh(&m.in, 1, 1)
	b.weigh(&m.out, 1, 1)
	b.states++
	b.last = &m.last
	return m
}

// ld is the number of values of a row of z, x, B, C and dt.
func (m *mamba2) ld() int { return m.in.w.Rows }

func (m *mamba2) forward(s *step) {
	inner, ld := m.Inner(), m.ld()
	s.queue(&m.in, s.qkv, ld)
	s.compute(s.p, s.groups, nothing)
	runs := s.sequences()
	s.mix.m, s.mix.runs, s.mix.chunks = m, runs, (m.Channels()+stateChunk-1)/stateChunk
	s.run(len(runs)*s.mix.chunks, &s.mix)
	// As many heads at a time as are worth handing out: some 16,000 values of the state.
	heads := max(1, 1<<14/(m.HeadDim*m.States))
	s.scan.m, s.scan.runs, s.scan.heads, s.scan.chunks = m, runs, heads, (m.Heads+heads-1)/heads
	s.run(len(runs)*s.scan.chunks, &s.scan)
	s.gating.m = m
	s.run(s.rowChunks(s.t), &s.gating)
	if m.last {
		if s.keepWanted(s.o, inner, inner); s.t == 0 {
			return
		}
	}
	s.prepare(s.o, s.t, inner)
	s.queue(&m.out, s.out, s.m.spec.Width)
	s.compute(s.p, s.groups, nothing)
}

// mixJob is some channels of one sequence: x, B and C become SiLU(conv(x, B, C)), where they lie.
type mixJob struct {
	s      *step
	m      *mamba2
	runs   []seqRun
	chunks int // of each sequence
}

func (j *mixJob) Do(worker, chunk int) {
	s, m := j.s, j.m
	run := &j.runs[chunk/j.chunks]
	inner, ld, channels := m.Inner(), m.ld(), m.Channels()
	lo := chunk % j.chunks * stateChunk
	hi := min(lo+stateChunk, channels)
	ends := [...]int{inner, inner + m.Groups*m.States, channels} // of x, B and C
	for t := run.lo; t < run.hi; t++ {
		row, at := s.qkv[t*ld+inner:t*ld+inner+channels], 0
		for i, end := range ends {
			if a, b := max(at, lo), min(end, hi); a < b {
				scale(row[a:b], m.Scales[1+i])
			}
			at = end
		}
	}
	args := &s.workers[worker].conv
	x := s.qkv[run.lo*ld+inner:]
	*args = kernel.ConvArgs{
		Rows: run.hi - run.lo, Channels: channels, Width: m.Kernel, Y: x, LdY: ld, X: x, LdX: ld, W: m.w, B: m.convBias,
		State: s.m.kv.State(run.seq.StateSlot(), m.index)[:(m.Kernel-1)*channels],
	}
	s.recur.Conv(args, lo, hi)
	for t := run.lo; t < run.hi; t++ {
		s.k.Activate(s.qkv[t*ld+inner+lo:t*ld+inner+hi], kernel.Func{Kind: kernel.SiLU})
	}
}

// scanJob is some heads of one sequence: o = scan(x, B, C, dt).
type scanJob struct {
	s      *step
	m      *mamba2
	runs   []seqRun
	heads  int // of a chunk
	chunks int // of each sequence
}

func (j *scanJob) Do(worker, chunk int) {
	s, m := j.s, j.m
	run := &j.runs[chunk/j.chunks]
	inner, ld, bc := m.Inner(), m.ld(), m.Groups*m.States
	lo := chunk % j.chunks * j.heads
	hi := min(lo+j.heads, m.Heads)
	for t := run.lo; t < run.hi; t++ {
		dt := s.qkv[(t+1)*ld-m.Heads+lo : (t+1)*ld-m.Heads+hi]
		scale(dt, m.Scales[4])
		accumulate(dt, m.dt[lo:hi])
		s.k.Activate(dt, kernel.Func{Kind: kernel.Softplus})
		for i := range dt {
			if dt[i] = max(dt[i], m.Least); m.Most > 0 {
				dt[i] = min(dt[i], m.Most)
			}
		}
	}
	args := &s.workers[worker].scan
	row := s.qkv[run.lo*ld:]
	*args = kernel.ScanArgs{
		Rows: run.hi - run.lo, Heads: m.Heads, HeadDim: m.HeadDim, States: m.States, Groups: m.Groups,
		Y: s.o[run.lo*inner:], LdY: inner, X: row[inner:], LdX: ld, DT: row[2*inner+2*bc:], LdDT: ld,
		B: row[2*inner:], C: row[2*inner+bc:], LdBC: ld, A: m.a, D: m.d,
		State: s.m.kv.State(run.seq.StateSlot(), m.index)[m.ConvState():],
	}
	s.recur.Scan(args, lo, hi)
}

// gateJob is some rows: o is gated by SiLU(z) and normalised, group by group.
type gateJob struct {
	s *step
	m *mamba2
}

func (j *gateJob) Do(worker, chunk int) {
	s, m := j.s, j.m
	inner, ld := m.Inner(), m.ld()
	lo, hi := s.rowRange(s.t, chunk)
	for t := lo; t < hi; t++ {
		z, y := s.qkv[t*ld:t*ld+inner], s.o[t*inner:(t+1)*inner]
		scale(z, m.Scales[0])
		if m.NormFirst {
			m.normalise(s, y, y, worker, t)
			s.k.Gate(z, y, kernel.Func{Kind: kernel.SiLU})
			copy(y, z)
		} else {
			s.k.Gate(z, y, kernel.Func{Kind: kernel.SiLU})
			m.normalise(s, y, z, worker, t)
		}
	}
}

// normalise is y = norm(x) of row t, over each group; y may be x.
func (m *mamba2) normalise(s *step, y, x []float32, worker, t int) {
	one := *s.normOf(&m.norm, worker, t)
	w, n := one.w, len(x)/m.Groups
	for at := 0; at < len(x); at += n {
		if w != nil {
			one.w = w[at : at+n]
		}
		one.apply(s.k, y[at:at+n], x[at:at+n])
	}
}
