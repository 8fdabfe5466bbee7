package recurrent

import (
	"edged/core/infer/transformer/batch"
	"edged/core/infer/transformer/bind"
	"edged/core/infer/transformer/exactmath"
	"edged/core/infer/transformer/parts"
	"edged/core/model/arch"
	"edged/quant/kernel"
)

// Mamba2 is the selective scan with one decay for each head, see arch.Mamba2.
//
// It goes token by token, in prompts too: the published form in chunks adds in another order, so that a row's
// bits would depend on how its prompt was cut.
type Mamba2 struct {
	arch.Mamba2
	in, out  parts.Linear
	w        []float32 // (Kernel, channels)
	convBias []float32 // (channels); nil: none
	dt       []float32 // (Heads), added before the soft-plus
	a, d     []float32 // (Heads)
	norm     parts.Norm
	index    int  // among the operations with a state
	last     bool // see attention.Grouped.Last

	mix    mixJob
	scan   scanJob
	gating gateJob
}

// NewMamba2 binds a scan of the layer.
func NewMamba2(b *bind.Builder, op *arch.Mamba2) *Mamba2 {
	w, inner, channels := b.Spec.Width, op.Inner(), op.Channels()
	m := &Mamba2{
		Mamba2: *op, index: b.States,
		in: b.Linear("ssm_in", inner+channels+op.Heads, w), out: b.Linear("ssm_out", w, inner),
		w: convWeights(b, "ssm_conv1d", channels, op.Kernel), convBias: b.Vector(b.Prefix+"ssm_conv1d.bias", channels),
		dt: b.Required(b.Prefix+"ssm_dt.bias", op.Heads), a: b.Required(b.Prefix+"ssm_a.weight", op.Heads),
		d: b.Required(b.Prefix+"ssm_d.weight", op.Heads), norm: b.Norm(&op.Norm, inner),
	}
	if op.Logs {
		for i, x := range m.a {
			m.a[i] = float32(-exactmath.Exp(float64(x)))
		}
	}
	for i := range m.Scales {
		m.Scales[i] = parts.Factor(m.Scales[i])
	}
	b.Weigh(&m.in, 1, 1)
	b.Weigh(&m.out, 1, 1)
	b.States++
	b.Last = &m.last
	return m
}

// ld is the number of values of a row of z, x, B, C and dt.
func (m *Mamba2) ld() int { return m.in.W.Rows }

// Forward computes it, see batch.Op.
func (m *Mamba2) Forward(s *batch.Batch) {
	inner, ld := m.Inner(), m.ld()
	s.Queue(&m.in, s.QKV, ld)
	s.Compute(s.P, s.Groups, batch.Nothing)
	runs := s.Sequences()
	m.mix = mixJob{s: s, m: m, runs: runs, chunks: (m.Channels() + stateChunk - 1) / stateChunk}
	s.Run(len(runs)*m.mix.chunks, &m.mix)
	// As many heads at a time as are worth handing out: some 16,000 values of the state.
	heads := max(1, 1<<14/(m.HeadDim*m.States))
	m.scan = scanJob{s: s, m: m, runs: runs, heads: heads, chunks: (m.Heads + heads - 1) / heads}
	s.Run(len(runs)*m.scan.chunks, &m.scan)
	m.gating = gateJob{s: s, m: m}
	s.Run(s.RowChunks(s.T), &m.gating)
	if m.last {
		if s.KeepWanted(s.O, inner, inner); s.T == 0 {
			return
		}
	}
	s.Prepare(s.O, s.T, inner)
	s.Queue(&m.out, s.Out, s.Width)
	s.Compute(s.P, s.Groups, batch.Nothing)
}

// mixJob is some channels of one sequence: x, B and C become SiLU(conv(x, B, C)), where they lie.
type mixJob struct {
	s      *batch.Batch
	m      *Mamba2
	runs   []batch.Run
	chunks int // of each sequence
}

func (j *mixJob) Do(worker, chunk int) {
	s, m := j.s, j.m
	run := &j.runs[chunk/j.chunks]
	inner, ld, channels := m.Inner(), m.ld(), m.Channels()
	lo := chunk % j.chunks * stateChunk
	hi := min(lo+stateChunk, channels)
	ends := [...]int{inner, inner + m.Groups*m.States, channels} // of x, B and C
	for t := run.Lo; t < run.Hi; t++ {
		row, at := s.QKV[t*ld+inner:t*ld+inner+channels], 0
		for i, end := range ends {
			if a, b := max(at, lo), min(end, hi); a < b {
				parts.Scale(row[a:b], m.Scales[1+i])
			}
			at = end
		}
	}
	args := &s.Workers[worker].Conv
	x := s.QKV[run.Lo*ld+inner:]
	*args = kernel.ConvArgs{
		Rows: run.Hi - run.Lo, Channels: channels, Width: m.Kernel, Y: x, LdY: ld, X: x, LdX: ld, W: m.w, B: m.convBias,
		State: s.Cache.State(run.Seq.StateSlot(), m.index)[:(m.Kernel-1)*channels],
	}
	s.Recur.Conv(args, lo, hi)
	for t := run.Lo; t < run.Hi; t++ {
		s.K.Activate(s.QKV[t*ld+inner+lo:t*ld+inner+hi], kernel.Func{Kind: kernel.SiLU})
	}
}

// scanJob is some heads of one sequence: o = scan(x, B, C, dt).
type scanJob struct {
	s      *batch.Batch
	m      *Mamba2
	runs   []batch.Run
	heads  int // of a chunk
	chunks int // of each sequence
}

func (j *scanJob) Do(worker, chunk int) {
	s, m := j.s, j.m
	run := &j.runs[chunk/j.chunks]
	inner, ld, bc := m.Inner(), m.ld(), m.Groups*m.States
	lo := chunk % j.chunks * j.heads
	hi := min(lo+j.heads, m.Heads)
	for t := run.Lo; t < run.Hi; t++ {
		dt := s.QKV[(t+1)*ld-m.Heads+lo : (t+1)*ld-m.Heads+hi]
		parts.Scale(dt, m.Scales[4])
		parts.Accumulate(dt, m.dt[lo:hi])
		s.K.Activate(dt, kernel.Func{Kind: kernel.Softplus})
		for i := range dt {
			if dt[i] = max(dt[i], m.Least); m.Most > 0 {
				dt[i] = min(dt[i], m.Most)
			}
		}
	}
	args := &s.Workers[worker].Scan
	row := s.QKV[run.Lo*ld:]
	*args = kernel.ScanArgs{
		Rows: run.Hi - run.Lo, Heads: m.Heads, HeadDim: m.HeadDim, States: m.States, Groups: m.Groups,
		Y: s.O[run.Lo*inner:], LdY: inner, X: row[inner:], LdX: ld, DT: row[2*inner+2*bc:], LdDT: ld,
		B: row[2*inner:], C: row[2*inner+bc:], LdBC: ld, A: m.a, D: m.d,
		State: s.Cache.State(run.Seq.StateSlot(), m.index)[m.ConvState():],
	}
	s.Recur.Scan(args, lo, hi)
}

// gateJob is some rows: o is gated by SiLU(z) and normalised, group by group.
type gateJob struct {
	s *batch.Batch
	m *Mamba2
}

func (j *gateJob) Do(worker, chunk int) {
	s, m := j.s, j.m
	inner, ld := m.Inner(), m.ld()
	lo, hi := s.RowRange(s.T, chunk)
	for t := lo; t < hi; t++ {
		z, y := s.QKV[t*ld:t*ld+inner], s.O[t*inner:(t+1)*inner]
		parts.Scale(z, m.Scales[0])
		if m.NormFirst {
			m.normalise(s, y, y, worker, t)
			s.K.Gate(z, y, kernel.Func{Kind: kernel.SiLU})
			copy(y, z)
		} else {
			s.K.Gate(z, y, kernel.Func{Kind: kernel.SiLU})
			m.normalise(s, y, z, worker, t)
		}
	}
}

// normalise is y = norm(x) of row t, over each group; y may be x.
func (m *Mamba2) normalise(s *batch.Batch, y, x []float32, worker, t int) {
	one := *s.NormOf(&m.norm, worker, t)
	w, n := one.W, len(x)/m.Groups
	for at := 0; at < len(x); at += n {
		if w != nil {
			one.W = w[at : at+n]
		}
		one.Apply(s.K, y[at:at+n], x[at:at+n])
	}
}

// Mamba2Room makes room for a scan's rows.
func Mamba2Room(z *batch.Sizes, op *arch.Mamba2) {
	n := op.Inner() + op.Channels() + op.Heads
	z.Need(batch.BufQKV, n)
	z.Need(batch.BufO, op.Inner())
	z.Need(batch.BufLora, n)
	z.Product(op.Inner())
}
