package transformer

import (
	"errors"
	"fmt"
	"math"

	"edged/core/infer/transformer/batch"
	"edged/core/infer/transformer/bind"
	"edged/core/infer/transformer/exactmath"
	"edged/core/infer/transformer/parts"
	"edged/core/model/arch"
	"edged/quant/kernel"
)

// errNotFinite is the error for hidden states that are infinite or NaN, as damaged weights make them.
var errNotFinite = errors.New("transformer: its hidden states are no numbers")

// stage is an arch.Step with its weights. It always computes in float32: its whole error is in the result,
// and it is small.
type stage struct {
	l    parts.Linear
	act  kernel.Func
	bent bool
	norm parts.Norm
}

// stages binds a list of steps.
func stages(b *bind.Builder, steps []arch.Step) []stage {
	out := make([]stage, len(steps))
	for i := range steps {
		x := &steps[i]
		w := b.Matrix(x.Name+".weight", x.Out, x.In)
		out[i] = stage{
			l:   parts.Linear{Name: x.Name + ".weight", W: w, Bias: b.Vector(x.Name+".bias", x.Out), Multiple: 1},
			act: parts.Function(x.Act), bent: x.Act.Kind != arch.Identity, norm: b.Norm(&x.Norm, x.Out),
		}
		if b.Err == nil {
			out[i].l.Multiple = max(b.K.RowMultiple(w), 1)
		}
	}
	return out
}

// stageJob is one product of a stage over all its rows.
type stageJob struct {
	k    kernel.Kernels
	l    *parts.Linear
	in   kernel.Activations
	y    []float32
	rows int // of w in a chunk
}

func (j *stageJob) Do(_, chunk int) {
	out := j.l.W.Rows
	lo := chunk * j.rows
	hi := min(lo+j.rows, out)
	j.k.MatMul(j.y, out, j.l.W, &j.in, kernel.Exact, lo, hi)
	if j.l.Bias != nil {
		for t := range j.in.Rows {
			parts.Accumulate(j.y[t*out+lo:t*out+hi], j.l.Bias[lo:hi])
		}
	}
}

// product is y = l(x) of n rows on all threads.
func (m *Model) product(l *parts.Linear, x []float32, n int) []float32 {
	in, out := l.W.Cols, l.W.Rows
	j := &stageJob{k: m.k, l: l, y: make([]float32, n*out)}
	m.k.Grow(&j.in, n, in)
	j.in.Rows, j.in.Cols, j.in.X = n, in, x
	m.k.Prepare(&j.in, kernel.Exact, 0, n)
	j.rows = batch.ChunkRows(out, in*n, l.Multiple)
	m.pool.Run(m.info.ThreadsPrefill, (out+j.rows-1)/j.rows, j)
	return j.y
}

// through sends n rows through stages.
func (m *Model) through(stages []stage, x []float32, n int) []float32 {
	for i := range stages {
		s := &stages[i]
		x = m.product(&s.l, x, n)
		if s.bent {
			m.k.Activate(x, s.act)
		}
		if out := s.l.W.Rows; !s.norm.None() {
			for t := range n {
				s.norm.Apply(m.k, x[t*out:(t+1)*out], x[t*out:(t+1)*out])
			}
		}
	}
	return x
}

// Dense sends pooled vectors (n, Width) through the dense layers behind the pooling: (n, Spec.VectorLen).
// Without such layers they are returned as they are. The bits of a row depend on itself only.
func (m *Model) Dense(vectors []float32) ([]float32, error) {
	n := len(vectors) / m.spec.Width
	if err := m.checkVectors(vectors, n); err != nil || len(m.net.dense) == 0 {
		return vectors, err
	}
	return m.through(m.net.dense, vectors, n), nil
}

// Score makes logits of pooled vectors (n, Width): one of each, where the head has two the difference of for
// and against.
func (m *Model) Score(vectors []float32) ([]float32, error) {
	if len(m.net.score) == 0 {
		return nil, fmt.Errorf("transformer: %w: the model has no head that makes a score", arch.ErrUnsupported)
	}
	n := len(vectors) / m.spec.Width
	if err := m.checkVectors(vectors, n); err != nil {
		return nil, err
	}
	y := m.through(m.net.score, vectors, n)
	if len(y) == 2*n {
		for i := range n {
			y[i] = y[2*i] - y[2*i+1]
		}
	}
	return y[:n], nil
}

// Logistic is 1/(1 + e⁻ˣ), the same bits on every machine.
func Logistic(x float32) float32 { return float32(1 / (1 + exactmath.Exp(-float64(x)))) }

// Guess makes logits of the states of masked tokens (n, Width): (n, Vocab), of what may stand there.
func (m *Model) Guess(states []float32) ([]float32, error) {
	if m.spec.Mask == nil {
		return nil, fmt.Errorf("transformer: %w: the model has no head that fills masks", arch.ErrUnsupported)
	}
	n := len(states) / m.spec.Width
	if err := m.checkVectors(states, n); err != nil {
		return nil, err
	}
	return m.product(&m.net.head, m.through(m.net.mask, states, n), n), nil
}

// checkVectors refuses what are not n rows of the model.
func (m *Model) checkVectors(x []float32, n int) error {
	if m.closed || n == 0 || len(x) != n*m.spec.Width {
		return fmt.Errorf("transformer: %d values are not rows of %d of an open model", len(x), m.spec.Width)
	}
	for _, v := range x {
		if f := float64(v); math.IsNaN(f) || math.IsInf(f, 0) {
			return errNotFinite
		}
	}
	return nil
}
