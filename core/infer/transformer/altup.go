package transformer

import (
	"math"
	"strconv"

	"edged/core/model/arch"
	"edged/quant/kernel"
)

// altUp is what the two halves of alternating updates have in common, see arch.AltUp.
type altUp struct {
	n      int // streams
	norm   norm
	router linear
}

// modalities leaves tanh(router(norm(x)/Width)) of all rows as the input of the next product.
func (a *altUp) modalities(s *step) {
	s.stream.of, s.stream.a = ofRouter, a
	s.run(s.rowChunks(s.t), &s.stream)
	s.prepare(s.gx, s.t, s.m.spec.Width)
	s.queue(&a.router, s.up, a.n)
	s.compute(kernel.Exact, s.groups, nothing)
	s.k.Activate(s.up[:s.t*a.n], kernel.Func{Kind: kernel.TanhFunc})
	s.prepare(s.up, s.t, a.n)
}

// predict is arch.AltUpPredict.
type predict struct {
	*altUp
	coef linear
}

// predict binds it, and the router for correct.
func (b *builder) predict(op *arch.AltUpPredict) *predict {
	w, n := b.spec.Width, op.Streams
	name := arch.RMS("altup_router_norm", op.Eps)
	b.altUp = &altUp{n: n, norm: b.norm(&name, w), router: b.linear("altup_router", n, w)}
	p := &predict{altUp: b.altUp, coef: b.linear("altup_predict_coef", n*n, n)}
	b.weigh(&p.router, 1, 1)
	b.weigh(&p.coef, 1, 1)
	return p
}

func (p *predict) forward(s *step) {
	p.modalities(s)
	s.queue(&p.coef, s.router, p.n*p.n)
	s.compute(kernel.Exact, s.groups, nothing)
	s.stream.of, s.stream.a = ofPredict, p.altUp
	s.run(s.rowChunks(s.t), &s.stream)
}

// correct is arch.AltUpCorrect.
type correct struct {
	*altUp
	coef   linear
	scale  []float32 // (Width); nil: 1
	beside *beside
	post   norm
}

// correct binds it.
func (b *builder) correct(op *arch.AltUpCorrect) *correct {
	w, n := b.spec.Width, op.AltUp.Streams
	name := arch.RMS("post_norm", op.AltUp.Eps)
	c := &correct{altUp: b.altUp, coef: b.linear("altup_correct_coef", n, n), beside: b.beside(op.Act), post: b.norm(&name, w)}
	if op.Scaled {
		c.scale = b.required(b.prefix+"altup_correct_scale.weight", w)
	}
	b.weigh(&c.coef, 1, 1)
	return c
}

func (c *correct) forward(s *step) {
	c.modalities(s)
	s.queue(&c.coef, s.router, c.n)
	s.compute(kernel.Exact, s.groups, nothing)
	s.stream.of, s.stream.c = ofCorrect, c
	s.run(s.rowChunks(s.t), &s.stream)
	s.prepare(s.gx, s.t, s.m.spec.Width)
	c.beside.through(s, s.gd)
	s.stream.of = ofBeside
	s.run(s.rowChunks(s.t), &s.stream)
}

// spread is arch.AltUpSpread, and gather arch.AltUpGather.
type (
	spread struct{ all []linear }
	gather struct{ all []linear }
)

// spread binds it.
func (b *builder) spread(streams int) *spread { return &spread{b.streams("altup_proj.", streams)} }

// gather binds it.
func (b *builder) gather(streams int) *gather {
	return &gather{b.streams("altup_unembd_proj.", streams)}
}

// streams binds matrices of the model, one for each stream but the first.
func (b *builder) streams(name string, n int) []linear {
	own, w := b.prefix, b.spec.Width
	b.prefix = b.spec.Prefix
	out := make([]linear, n-1)
	for i := range out {
		out[i] = b.linear(name+strconv.Itoa(i), w, w)
		b.weigh(&out[i], 1, 1)
	}
	b.prefix = own
	return out
}

func (l *spread) forward(s *step) {
	w := s.m.spec.Width
	for i := range l.all {
		s.queue(&l.all[i], s.streams[(i+1)*w:], s.all)
		s.compute(s.p, s.groups, nothing)
	}
	s.stream.of = ofSpread
	s.run(s.rowChunks(s.t), &s.stream)
}

func (l *gather) forward(s *step) {
	w := s.m.spec.Width
	clear(s.out[:s.t*w])
	for i := range l.all {
		s.gatherColumns(s.streams, s.all, (i+1)*w, w)
		s.queue(&l.all[i], s.gd, w)
		s.compute(s.p, s.groups, nothing)
		s.stream.of = ofGather
		s.run(s.rowChunks(s.t), &s.stream)
	}
}

// streamsJob is a part of these operations that computes each row by itself.
type streamsJob struct {
	s  *step
	of uint8
	a  *altUp
	c  *correct
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
	s, w := j.s, j.s.m.spec.Width
	lo, hi := s.rowRange(s.t, chunk)
	for t := lo; t < hi; t++ {
		x, streams := s.h[t*w:(t+1)*w], s.streams[t*s.all:(t+1)*s.all]
		switch j.of {
		case ofRouter:
			y := s.gx[t*w : (t+1)*w]
			s.normOf(&j.a.norm, worker, t).apply(s.k, y, x)
			scale(y, float32(1/float64(w)))
		case ofPredict:
			foresee(s.out[t*w:(t+1)*w], x, streams, s.router[t*j.a.n*j.a.n:(t+1)*j.a.n*j.a.n], j.a.n)
		case ofCorrect:
			y := s.gx[t*w : (t+1)*w]
			amend(s.out[t*w:(t+1)*w], y, x, streams, s.router[t*j.c.n:(t+1)*j.c.n])
			for i, f := range j.c.scale {
				y[i] *= f
			}
		case ofBeside:
			y := s.gd[t*w : (t+1)*w]
			s.normOf(&j.c.post, worker, t).apply(s.k, y, y)
			for at := w; at < len(streams); at += w {
				accumulate(streams[at:at+w], y)
			}
		case ofSpread:
			clear(s.out[t*w : (t+1)*w])
			for at := w; at < len(streams); at += w {
				scale(streams[at:at+w], length(x, 0)/length(streams[at:at+w], leastSquare))
			}
		case ofGather:
			y := s.gd[t*w : (t+1)*w]
			accumulateScaled(s.out[t*w:(t+1)*w], y, length(x, 0)/length(y, leastSquare))
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

// foresee makes the predictions of the n streams of a row: of x what it is changed by, and its sum as the first stream; of the others
// the predictions themselves.
func foresee(d, x, streams, coef []float32, n int) {
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

// amend corrects the streams of a row by how far x is from its prediction: of x it gives what it is changed by, and in y the sum.
func amend(d, y, x, streams, coef []float32) {
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
