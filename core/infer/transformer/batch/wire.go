package batch

import (
	"edged/core/infer/transformer/parts"
	"edged/core/model/arch"
)

// Op is an operation of a layer with its weights.
type Op interface {
	// Forward reads the rows of the input that is prepared, which is that of s.H, and sets s.Out to what is
	// to be added to the residual stream. It may leave fewer rows in the batch than there were (KeepWanted),
	// or none.
	Forward(s *Batch)
}

// Unit is one part of a layer, see arch.Sub: an operation with its norms and the way its result joins the
// residual stream. Units run in order; what one adds to the residual stream stays pending until the next one
// normalises it, so that adding, normalising and quantising are one pass over the rows.
type Unit struct {
	Pre, Post, After parts.Norm
	Joint            parts.Norm // over its result and that of the part beside it
	Op               Op
	Wire             arch.Wire
	FromNorm         bool
	Keep, Scale      float32
}

// Forward runs the part. What it adds stays pending in Batch.D (and Batch.e, of a part that runs beside
// another), so that one pass over the rows adds it, normalises the sum and quantises it for the next
// products.
func (u *Unit) Forward(s *Batch) {
	switch u.Wire {
	case arch.Serial:
		s.Out = s.D
		s.normalize(u)
	case arch.Parallel:
		s.Out = s.e
		s.normalize(u)
	default:
		s.Out = s.e
		s.Prepare(s.H, s.T, s.Width)
	}
	u.Op.Forward(s)
	if s.T == 0 {
		return
	}
	if u.Wire == arch.Serial {
		s.Pending[0], s.Pending[1] = u, nil
	} else {
		s.Pending[1] = u
	}
}

// normalize adds what the parts before left to the residual stream, where u does not run beside them, and
// makes the normalised rows the input of the next products: x += d; h = norm(x).
func (s *Batch) normalize(u *Unit) {
	w := s.Width
	s.act.Rows, s.act.Cols, s.act.X = s.T, w, s.H[:s.T*w]
	s.norms.u = u
	s.Run(s.RowChunks(s.T), &s.norms)
	if u.Wire == arch.Serial {
		s.Pending, s.First = [2]*Unit{}, nil
	}
}

type normJob struct {
	s *Batch
	u *Unit
}

func (j *normJob) Do(worker, chunk int) {
	s, u, w := j.s, j.u, j.s.Width
	lo, hi := s.RowRange(s.T, chunk)
	for t := lo; t < hi; t++ {
		x, h := s.X[t*w:(t+1)*w], s.H[t*w:(t+1)*w]
		if u.Wire == arch.Serial {
			s.addPending(x, worker, t)
		}
		s.NormOf(&u.Pre, worker, t).Apply(s.K, h, x)
		switch {
		case u.FromNorm:
			copy(x, h)
			parts.Scale(x, u.Keep)
		default:
			parts.Scale(x, u.Keep)
		}
	}
	s.K.Prepare(&s.act, s.P, lo, hi)
}

// addPending adds what is pending for row t to x.
func (s *Batch) addPending(x []float32, worker, t int) {
	if s.First != nil {
		s.NormOf(s.First, worker, t).Apply(s.K, x, x)
	}
	w := len(x)
	if u := s.Pending[1]; u != nil && !u.Joint.None() {
		s.join(worker, t)
		parts.Accumulate(x, s.D[t*w:(t+1)*w])
		if !u.After.None() {
			s.NormOf(&u.After, worker, t).Apply(s.K, x, x)
		}
		return
	}
	for i, u := range s.Pending {
		if u == nil {
			continue
		}
		d := s.D[t*w : (t+1)*w]
		if i == 1 {
			d = s.e[t*w : (t+1)*w]
		}
		if !u.Post.None() {
			s.NormOf(&u.Post, worker, t).Apply(s.K, d, d)
		}
		if u.Scale == 1 {
			parts.Accumulate(x, d)
		} else {
			parts.AccumulateScaled(x, d, u.Scale)
		}
		if !u.After.None() {
			s.NormOf(&u.After, worker, t).Apply(s.K, x, x)
		}
	}
}

// join makes of the results of row t of two parts the norm of their sum, in d.
func (s *Batch) join(worker, t int) {
	w := s.Width
	d, e := s.D[t*w:(t+1)*w], s.e[t*w:(t+1)*w]
	for i, x := range [][]float32{d, e} {
		if post := &s.Pending[i].Post; !post.None() {
			s.NormOf(post, worker, t).Apply(s.K, x, x)
		}
		parts.Scale(x, s.Pending[i].Scale)
	}
	parts.Accumulate(d, e)
	s.NormOf(&s.Pending[1].Joint, worker, t).Apply(s.K, d, d)
}
