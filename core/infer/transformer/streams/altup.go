package streams

import (
	"math"
	"strconv"

	"edged/core/infer/transformer/batch"
	"edged/core/infer/transformer/bind"
	"edged/core/infer/transformer/parts"
	"edged/core/model/arch"
	"edged/quant/kernel"
)

// altUp is the common part of the two halves of alternating updates, see arch.AltUp.
type altUp struct {
	n      int // streams
	norm   parts.Norm
	router parts.Linear
	rows   streamsJob
}

// modalities leaves tanh(router(norm(x)/Width)) of all rows as the input of the next product.
func (a *altUp) modalities(s *batch.Batch) {
	a.rows = streamsJob{s: s, of: ofRouter, a: a}
	s.Run(s.RowChunks(s.T), &a.rows)
	s.Prepare(s.GX, s.T, s.Width)
	s.Queue(&a.router, s.Up, a.n)
	s.Compute(kernel.Exact, s.Groups, batch.Nothing)
	s.K.Activate(s.Up[:s.T*a.n], kernel.Func{Kind: kernel.TanhFunc})
	s.Prepare(s.Up, s.T, a.n)
}

// Predict is arch.AltUpPredict.
type Predict struct {
	*altUp
	coef parts.Linear
}

// NewPredict binds it, and the router for correct.
func NewPredict(b *bind.Builder, op *arch.AltUpPredict) *Predict {
	w, n := b.Spec.Width, op.Streams
	name := arch.RMS("altup_router_norm", op.Eps)
	a := &altUp{n: n, norm: b.Norm(&name, w), router: b.Linear("altup_router", n, w)}
	p := &Predict{altUp: a, coef: b.Linear("altup_predict_coef", n*n, n)}
	b.Weigh(&p.router, 1, 1)
	b.Weigh(&p.coef, 1, 1)
	return p
}

// Forward computes it, see batch.Op.
func (p *Predict) Forward(s *batch.Batch) {
	p.modalities(s)
	s.Queue(&p.coef, s.Router, p.n*p.n)
	s.Compute(kernel.Exact, s.Groups, batch.Nothing)
	p.rows = streamsJob{s: s, of: ofPredict, a: p.altUp}
	s.Run(s.RowChunks(s.T), &p.rows)
}

// Correct is arch.AltUpCorrect.
type Correct struct {
	*altUp
	coef  parts.Linear
	scale []float32 // (Width); nil: 1
	add   *Add
	post  parts.Norm
}

// NewCorrect binds it, for the layer whose prediction is p.
func NewCorrect(b *bind.Builder, op *arch.AltUpCorrect, p *Predict) *Correct {
	w, n := b.Spec.Width, op.AltUp.Streams
	name := arch.RMS("post_norm", op.AltUp.Eps)
	c := &Correct{altUp: p.altUp, coef: b.Linear("altup_correct_coef", n, n), add: NewAdd(b, op.Act), post: b.Norm(&name, w)}
	if op.Scaled {
		c.scale = b.Required(b.Prefix+"altup_correct_scale.weight", w)
	}
	b.Weigh(&c.coef, 1, 1)
	return c
}

// Forward computes it, see batch.Op.
func (c *Correct) Forward(s *batch.Batch) {
	c.modalities(s)
	s.Queue(&c.coef, s.Router, c.n)
	s.Compute(kernel.Exact, s.Groups, batch.Nothing)
	c.rows = streamsJob{s: s, of: ofCorrect, c: c}
	s.Run(s.RowChunks(s.T), &c.rows)
	s.Prepare(s.GX, s.T, s.Width)
	c.add.through(s, s.GD)
	c.rows.of = ofBeside
	s.Run(s.RowChunks(s.T), &c.rows)
}

// Spread is arch.AltUpSpread.
type Spread struct {
	all  []parts.Linear
	rows streamsJob
}

// Gather is arch.AltUpGather.
type Gather struct {
	all  []parts.Linear
	rows streamsJob
}

// NewSpread binds it.
func NewSpread(b *bind.Builder, streams int) *Spread {
	return &Spread{all: newProjections(b, "altup_proj.", streams)}
}

// NewGather binds it.
func NewGather(b *bind.Builder, streams int) *Gather {
	return &Gather{all: newProjections(b, "altup_unembd_proj.", streams)}
}

// newProjections binds matrices of the model, one for each stream but the first.
func newProjections(b *bind.Builder, name string, n int) []parts.Linear {
	own, w := b.Prefix, b.Spec.Width
	b.Prefix = b.Spec.Prefix
	out := make([]parts.Linear, n-1)
	for i := range out {
		out[i] = b.Linear(name+strconv.Itoa(i), w, w)
		b.Weigh(&out[i], 1, 1)
	}
	b.Prefix = own
	return out
}

// Forward computes it, see batch.Op.
func (l *Spread) Forward(s *batch.Batch) {
	w := s.Width
	for i := range l.all {
		s.Queue(&l.all[i], s.Streams[(i+1)*w:], s.All)
		s.Compute(s.P, s.Groups, batch.Nothing)
	}
	l.rows = streamsJob{s: s, of: ofSpread}
	s.Run(s.RowChunks(s.T), &l.rows)
}

// Forward computes it, see batch.Op.
func (l *Gather) Forward(s *batch.Batch) {
	w := s.Width
	clear(s.Out[:s.T*w])
	for i := range l.all {
		s.GatherColumns(s.Streams, s.All, (i+1)*w, w)
		s.Queue(&l.all[i], s.GD, w)
		s.Compute(s.P, s.Groups, batch.Nothing)
		l.rows = streamsJob{s: s, of: ofGather}
		s.Run(s.RowChunks(s.T), &l.rows)
	}
}

// streamsJob is a part of these operations that computes each row by itself.
type streamsJob struct {
	s  *batch.Batch
	of uint8
	a  *altUp
	c  *Correct
}

// The parts.
const (
	ofRouter uint8 = iota
	ofPredict
	ofCorrect
	ofBeside
	ofSpread
	ofGather
)

func (j *streamsJob) Do(worker, chunk int) {
	s, w := j.s, j.s.Width
	lo, hi := s.RowRange(s.T, chunk)
	for t := lo; t < hi; t++ {
		x, streams := s.H[t*w:(t+1)*w], s.Streams[t*s.All:(t+1)*s.All]
		switch j.of {
		case ofRouter:
			y := s.GX[t*w : (t+1)*w]
			s.NormOf(&j.a.norm, worker, t).Apply(s.K, y, x)
			parts.Scale(y, float32(1/float64(w)))
		case ofPredict:
			predictRow(s.Out[t*w:(t+1)*w], x, streams, s.Router[t*j.a.n*j.a.n:(t+1)*j.a.n*j.a.n], j.a.n)
		case ofCorrect:
			y := s.GX[t*w : (t+1)*w]
			correctRow(s.Out[t*w:(t+1)*w], y, x, streams, s.Router[t*j.c.n:(t+1)*j.c.n])
			for i, f := range j.c.scale {
				y[i] *= f
			}
		case ofBeside:
			y := s.GD[t*w : (t+1)*w]
			s.NormOf(&j.c.post, worker, t).Apply(s.K, y, y)
			for at := w; at < len(streams); at += w {
				parts.Accumulate(streams[at:at+w], y)
			}
		case ofSpread:
			clear(s.Out[t*w : (t+1)*w])
			for at := w; at < len(streams); at += w {
				parts.Scale(streams[at:at+w], length(x, 0)/length(streams[at:at+w], leastSquare))
			}
		case ofGather:
			y := s.GD[t*w : (t+1)*w]
			parts.AccumulateScaled(s.Out[t*w:(t+1)*w], y, length(x, 0)/length(y, leastSquare))
		}
	}
}

// leastSquare is the least mean square of a stream, in all published models.
const leastSquare = 1e-5

// length is √max(mean(x²), least).
func length(x []float32, least float64) float32 {
	sum := 0.0
	for _, v := range x {
		sum += float64(float64(v) * float64(v))
	}
	return float32(math.Sqrt(max(sum/float64(len(x)), least)))
}

// predictRow makes the predictions of the n streams of a row: of x what it is changed by, and its sum as the
// first stream; of the others the predictions themselves.
func predictRow(d, x, streams, coef []float32, n int) {
	w := len(x)
	var old [8]float32
	for k := range w {
		old[0] = x[k]
		for i := 1; i < n; i++ {
			old[i] = streams[i*w+k]
		}
		for j := range n {
			sum := float32(0)
			for i := range n {
				sum += float32(coef[j*n+i] * old[i])
			}
			if j == 0 {
				d[k] = sum
			}
			streams[j*w+k] = old[j] + sum
		}
	}
}

// correctRow corrects the streams of a row by how far x is from its prediction: of x it gives what it is
// changed by, and in y the sum.
func correctRow(d, y, x, streams, coef []float32) {
	w := len(x)
	for k := range w {
		far := x[k] - streams[k]
		d[k] = float32(far * coef[0])
		y[k] = x[k] + d[k]
		for i := 1; i < len(coef); i++ {
			streams[i*w+k] += float32(far * (coef[i] + 1))
		}
	}
}

// Room makes room for n streams of a row.
func Room(z *batch.Sizes, n int) {
	z.Need(batch.BufStreams, z.Width*n)
	z.Need(batch.BufE, z.Width)
	z.Need(batch.BufGX, z.Width)
	z.Need(batch.BufGD, z.Width)
	z.Need(batch.BufRouter, n*n)
	z.Hidden(n, 1)
}
