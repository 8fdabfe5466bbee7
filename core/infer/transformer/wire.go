package transformer

import "edged/core/model/arch"

// op is an operation: it reads step.act, the prepared form of step.h, and leaves what is to be added to the residual stream in
// step.out. It may use step.gate, up, qkv and o as it likes.
type op interface {
	forward(s *step)
}

// unit is one part of a layer, see arch.Sub: an operation with its norms and the way its result joins the residual stream.
type unit struct {
	pre, post, after norm
	joint            norm // over its result and that of the part beside it
	op               op
	wire             arch.Wire
	fromNorm         bool
	keep, scale      float32
}

// forward runs the part. What it adds stays pending in step.d (and step.e, of a part that runs beside another), so that one pass
// over the rows adds it, normalises the sum and quantises it for the next products.
func (u *unit) forward(s *step) {
	switch u.wire {
	case arch.Serial:
		s.out = s.d
		s.normalize(u)
	case arch.Parallel:
		s.out = s.e
		s.normalize(u)
	default:
		s.out = s.e
		s.prepare(s.h, s.t, s.m.spec.Width)
	}
	u.op.forward(s)
	if s.t == 0 {
		return
	}
	if u.wire == arch.Serial {
		s.pending[0], s.pending[1] = u, nil
	} else {
		s.pending[1] = u
	}
}

// normalize adds what the parts before left to the residual stream, where u does not run beside them, and makes the normalised
// rows the input of the next products: x += d; h = norm(x).
func (s *step) normalize(u *unit) {
	w := s.m.spec.Width
	s.act.Rows, s.act.Cols, s.act.X = s.t, w, s.h[:s.t*w]
	s.norms.u = u
	s.run(s.rowChunks(s.t), &s.norms)
	if u.wire == arch.Serial {
		s.pending, s.first = [2]*unit{}, nil
	}
}

type normJob struct {
	s *step
	u *unit
}

func (j *normJob) Do(worker, chunk int) {
	s, u, w := j.s, j.u, j.s.m.spec.Width
	lo, hi := s.rowRange(s.t, chunk)
	for t := lo; t < hi; t++ {
		x, h := s.x[t*w:(t+1)*w], s.h[t*w:(t+1)*w]
		if u.wire == arch.Serial {
			s.settle(x, worker, t)
		}
		s.normOf(&u.pre, worker, t).apply(s.k, h, x)
		switch {
		case u.fromNorm:
			copy(x, h)
			scale(x, u.keep)
		default:
			scale(x, u.keep)
		}
	}
	s.k.Prepare(&s.act, s.p, lo, hi)
}

// settle adds what is pending for row t to x.
func (s *step) settle(x []float32, worker, t int) {
	if s.first != nil {
		s.normOf(s.first, worker, t).apply(s.k, x, x)
	}
	w := len(x)
	if u := s.pending[1]; u != nil && !u.joint.none() {
		s.join(worker, t)
		accumulate(x, s.d[t*w:(t+1)*w])
		if !u.after.none() {
			s.normOf(&u.after, worker, t).apply(s.k, x, x)
		}
		return
	}
	for i, u := range s.pending {
		if u == nil {
			continue
		}
		d := s.d[t*w : (t+1)*w]
		if i == 1 {
			d = s.e[t*w : (t+1)*w]
		}
		if !u.post.none() {
			s.normOf(&u.post, worker, t).apply(s.k, d, d)
		}
		if u.scale == 1 {
			accumulate(x, d)
		} else {
			accumulateScaled(x, d, u.scale)
		}
		if !u.after.none() {
			s.normOf(&u.after, worker, t).apply(s.k, x, x)
		}
	}
}

// join makes of the results of row t of two parts the norm of their sum, in d.
func (s *step) join(worker, t int) {
	w := s.m.spec.Width
	d, e := s.d[t*w:(t+1)*w], s.e[t*w:(t+1)*w]
	for i, x := range [][]float32{d, e} {
		if post := &s.pending[i].post; !post.none() {
			s.normOf(post, worker, t).apply(s.k, x, x)
		}
		scale(x, s.pending[i].scale)
	}
	accumulate(d, e)
	s.normOf(&s.pending[1].joint, worker, t).apply(s.k, d, d)
}

// scale multiplies x by f.
func scale(x []float32, f float32) {
	if f == 1 {
		return
	}
	for i := range x {
		x[i] *= f
	}
}
