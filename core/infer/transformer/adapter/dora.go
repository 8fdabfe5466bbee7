package adapter

import (
	"math"

	"edged/quant"
	"edged/quant/kernel"
)

// DoRA is what weight-decomposed LoRA adds to one layer (Liu et al. 2024, DoRA, equation 5): the rows of the
// changed matrix get lengths of their own, y = m / ‖W + s·B·A‖ · (W + s·B·A)·x, with the norm taken over the
// inputs of each output.
//
// The norm depends on s, which a request may scale: as in PEFT, the scale multiplies s, in the norm too, and
// m stays. So the square of the norm is kept as a polynomial in s, each coefficient computed once from the
// weights as they are served.
type DoRA struct {
	scale     float64   // s as it was trained
	magnitude []float32 // (out) m
	gain      []float32 // (out) m / norm at scale 1
	ww        []float32 // (out) ‖W‖²; the model's, shared by all adapters
	wd        []float32 // (out) ⟨W, B·A⟩
	dd        []float32 // (out) ‖B·A‖²
}

// newDora computes the norms of w + s·B·A. l is not packed yet; ww is of rowNorms. It may run beside Forward.
func newDora(k kernel.Kernels, w *quant.Matrix, l *Delta, magnitude, ww []float32, mem *store) *DoRA {
	out := w.Rows
	d := &DoRA{
		scale: float64(l.Scale), magnitude: mem.floats(out), gain: mem.floats(out), wd: mem.floats(out), dd: mem.floats(out), ww: ww,
	}
	copy(d.magnitude, magnitude)
	// ⟨W, B·A⟩ of a row is Σ_k b[k]·⟨W, A[k]⟩, and ‖B·A‖² is b·(A·Aᵀ)·b: no row of B·A is ever made.
	a := make([]float32, l.Rank*w.Cols)
	for j := range l.Rank {
		quant.Row(a[j*w.Cols:(j+1)*w.Cols], l.A, j)
	}
	gram := grams(a, l.Rank, w.Cols)
	b := make([]float32, l.Rank)
	wd := make([]float64, out)
	wa := make([]float32, min(doraRanks, l.Rank)*out)
	for lo := 0; lo < l.Rank; lo += doraRanks {
		hi := min(lo+doraRanks, l.Rank)
		in := kernel.Activations{Rows: hi - lo, Cols: w.Cols, X: a[lo*w.Cols : hi*w.Cols]}
		k.MatMul(wa, out, w, &in, kernel.Exact, 0, out)
		for r := range out {
			quant.Row(b, l.B, r)
			for i, v := range b[lo:hi] {
				wd[r] += float64(float64(v) * float64(wa[i*out+r]))
			}
		}
	}
	for r := range out {
		quant.Row(b, l.B, r)
		dd := 0.0
		for i, v := range b {
			part := 0.0
			for j, u := range b {
				part += float64(float64(u) * gram[i*l.Rank+j])
			}
			dd += float64(float64(v) * part)
		}
		d.wd[r], d.dd[r] = float32(wd[r]), float32(dd)
	}
	d.gains(d.gain, 1, 0)
	return d
}

// doraRanks is how many ranks are multiplied with the weights at a time.
const doraRanks = 16

// grams is A·Aᵀ.
func grams(a []float32, rank, cols int) []float64 {
	g := make([]float64, rank*rank)
	for i := range rank {
		x := a[i*cols : (i+1)*cols]
		for j := range i + 1 {
			sum := 0.0
			for c, v := range a[j*cols : (j+1)*cols] {
				sum += float64(float64(x[c]) * float64(v))
			}
			g[i*rank+j], g[j*rank+i] = sum, sum
		}
	}
	return g
}

// gains sets dst to the gains of the outputs from lo on at a request's scale. Where a row of the changed matrix is all
// zeros, so is the result, whatever multiplies it.
func (d *DoRA) gains(dst []float32, scale float32, lo int) {
	s := d.scale * float64(scale)
	for i := range dst {
		r := lo + i
		n := float64(d.ww[r]) + float64(s*(float64(2*float64(d.wd[r]))+float64(s*float64(d.dd[r]))))
		dst[i] = 1
		if n > 0 {
			dst[i] = float32(float64(d.magnitude[r]) / math.Sqrt(n))
		}
	}
}

// Apply sets y = gain·(y - bias) + bias for the outputs from lo on, where y holds W·x + bias + scale·s·B·A·x.
func (d *DoRA) Apply(y, bias []float32, scale float32, lo int) {
	var buf [64]float32
	for at := 0; at < len(y); at += len(buf) {
		part := y[at:min(at+len(buf), len(y))]
		g := buf[:len(part)]
		if scale == 1 {
			g = d.gain[lo+at : lo+at+len(part)]
		} else {
			d.gains(g, scale, lo+at)
		}
		if bias == nil {
			for i := range part {
				part[i] *= g[i]
			}
			continue
		}
		c := bias[lo+at : lo+at+len(part)]
		for i := range part {
			part[i] = float32(float32(part[i]-c[i])*g[i]) + c[i]
		}
	}
}
