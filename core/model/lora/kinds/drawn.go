package kinds

import (
	"math"

	"edged/core/model/arch"
	"edged/core/model/lora/spectrum"
	"edged/core/model/lora/torchrand"
)

// What these kinds multiply, or where, is drawn by torch from a seed that the configuration keeps; torchrand
// draws the same.

// maxDrawn bounds the values that are drawn for one matrix, or for the projections that all share.
const maxDrawn = 1 << 28

// projections are the two matrices of VeRA and RandLoRA that all modules share: of the file, or drawn as
// large as the largest module needs.
type projections struct {
	a, b       []float32
	rank       int
	cols       int // of a, (rank, cols)
	rows       int // of b, (rows, bases, rank)
	bases      int
	draw       func(p *projections)
	partA      string
	fromConfig bool
}

// projections reads the file's, or prepares to draw them.
func (r *Reader) projections(module, partA, partB string, rank, dims int, draw func(p *projections)) (*projections, error) {
	if r.drawn != nil && r.drawn.rank == rank {
		return r.drawn, nil
	}
	p := &projections{rank: rank, bases: 1, draw: draw, partA: partA, fromConfig: true}
	if r.shared[partA] != nil || r.shared[partB] != nil {
		a, s, err := r.tensor(module, partA, dims)
		if err != nil {
			return nil, err
		}
		b, n, err := r.tensor(module, partB, dims)
		if err != nil {
			return nil, err
		}
		if dims == 3 {
			p.bases = n[1]
		}
		p.a, p.b, p.cols, p.rows, p.fromConfig = a, b, s[dims-1], n[0], false
		if s[0] != rank || n[dims-1] != rank || dims == 3 && s[1] != 1 {
			return nil, r.fail(arch.ErrInvalid, "module %s: %s %v and %s %v are not of its rank %d", module, partA, s, partB, n, rank)
		}
	}
	r.drawn = p
	return p, nil
}

// fits proves that a matrix (out, in) takes no more than there is, and draws what is to be drawn.
func (r *Reader) fits(p *projections, module string, cols, rows, bases int) error {
	if p.a == nil {
		size := r.largest
		if w, n := max(
			size.Out,
			size.In,
		), min(
			size.Out,
			size.In,
		); float64(p.rank)*float64(w) > maxDrawn ||
			p.partA == "randlora_A" && float64(w)*float64(n) > maxDrawn {
			return r.fail(arch.ErrUnsupported, "its projections take more than %d values; merge it into the model with PEFT", maxDrawn)
		}
		p.draw(p)
	}
	if cols > p.cols || rows > p.rows || bases > p.bases {
		return r.fail(
			arch.ErrMismatch,
			"module %s: its projections are (%d, %d) and (%d, %d, %d), too small for the model's matrix: it was trained on another model",
			module,
			p.rank,
			p.cols,
			p.rows,
			p.bases,
			p.rank,
		)
	}
	return nil
}

// vera is Δ = (b ⊙ B)·(d ⊙ A), of which a module takes the first columns of A and the first rows of B
// (Kopiczko et al. 2024).
func (r *Reader) vera(module string) (*Change, error) {
	bs, s, err := r.tensor(module, "vera_lambda_b", 1)
	if err != nil {
		return nil, err
	}
	ds, n, err := r.tensor(module, "vera_lambda_d", 1)
	if err != nil {
		return nil, err
	}
	out, rank := s[0], n[0]
	p, err := r.projections(module, "vera_A", "vera_B", rank, 2, func(p *projections) {
		g := torchrand.New(uint64(r.o.Seed))
		p.cols, p.rows = r.largest.In, r.largest.Out
		p.a, p.b = make([]float32, rank*p.cols), make([]float32, p.rows*rank)
		bound := math.Sqrt(3) * (math.Sqrt2 / math.Sqrt(float64(p.cols)))
		g.Uniform(p.a, -bound, bound)
		bound = math.Sqrt(3) * (math.Sqrt2 / math.Sqrt(float64(rank)))
		g.Uniform(p.b, -bound, bound)
	})
	if err != nil {
		return nil, err
	}
	return &Change{
		A: Shape{Rows: rank}, B: Shape{Rows: out, Cols: rank}, Scale: 1,
		Fits: func(out, in int) error { return r.fits(p, module, in, out, 1) },
		Derive: func(a, b []float32, in int) {
			for k := range rank {
				for i := range in {
					a[k*in+i] = ds[k] * p.a[k*p.cols+i]
				}
			}
			for o := range out {
				for k := range rank {
					b[o*rank+k] = bs[o] * p.b[o*rank+k]
				}
			}
		},
	}, nil
}

// randlora is Δ = alpha/r · Σ over bases B·(λ ⊙ A ⊙ γ) (Albert et al. 2025), on whichever side is the
// shorter. PEFT puts the products of A in the order (rank, base) and those of B in the order (base, rank),
// and so does this.
func (r *Reader) randlora(module string) (*Change, error) {
	l, s, err := r.tensor(module, "randlora_lambda", 2)
	if err != nil {
		return nil, err
	}
	g, n, err := r.tensor(module, "randlora_gamma", 2)
	if err != nil {
		return nil, err
	}
	rank, bases, short := s[0], s[1], n[1]
	if n[0] != bases {
		return nil, r.fail(arch.ErrInvalid, "module %s: randlora_lambda %v and randlora_gamma %v do not belong together", module, s, n)
	}
	p, err := r.projections(module, "randlora_A", "randlora_B", rank, 3, func(p *projections) { r.drawRandLoRA(p) })
	if err != nil {
		return nil, err
	}
	return &Change{
		Scale: r.o.RandAlpha / float64(rank),
		Dense: true,
		Fits: func(out, in int) error {
			if min(out, in) != short {
				return r.fail(
					arch.ErrMismatch,
					"module %s: randlora_gamma is %v, but the model's matrix is (%d, %d): it was trained on another model",
					module,
					n,
					out,
					in,
				)
			}
			return r.fits(p, module, short, max(out, in), bases)
		},
		Derive: func(_, B []float32, in int) {
			out := len(B) / in
			long := max(out, in)
			scaled := dense{make([]float32, rank*bases*short), rank * bases, short}
			for k := range rank {
				for b := range bases {
					for i := range short {
						scaled.x[(k*bases+b)*short+i] = l[k*bases+b] * p.a[k*p.cols+i] * g[b*short+i]
					}
				}
			}
			fixed := dense{make([]float32, long*bases*rank), long, bases * rank}
			for o := range long {
				copy(fixed.x[o*bases*rank:(o+1)*bases*rank], p.b[o*p.bases*rank:])
			}
			change := fixed.times(scaled) // (long, short)
			if short == in {
				copy(B, change.x)
				return
			}
			for o := range out {
				for i := range in {
					B[o*in+i] = change.x[i*short+o]
				}
			}
		},
	}, nil
}

// drawRandLoRA draws RandLoRA's projections: sparse ones of float32, dense ones of bfloat16, in which PEFT
// draws them wherever the machine has it, whatever the base is in.
func (r *Reader) drawRandLoRA(p *projections) {
	long, short := max(r.largest.Out, r.largest.In), min(r.largest.Out, r.largest.In)
	g := torchrand.New(uint64(r.o.Seed))
	p.cols, p.rows, p.bases = short, long, (short+p.rank-1)/p.rank
	p.a, p.b = make([]float32, p.rank*short), make([]float32, long*p.bases*p.rank)
	if r.o.Sparse || r.o.VerySparse {
		share := 3.0
		if r.o.VerySparse {
			share = math.Sqrt(float64(short))
		}
		for _, x := range [][]float32{p.a, p.b} {
			g.Uniform(x, 0, 1)
			low, high := float32(1/(2*share)), float32(1-1/(2*share))
			for i, v := range x {
				x[i] = 0
				if v < low {
					x[i] = -1
				} else if v > high {
					x[i] = 1
				}
			}
			normalise(x, asItIs)
		}
		return
	}
	bound := math.Sqrt(3) * (math.Sqrt(2.0/6) / math.Sqrt(float64(short)))
	g.UniformBF16(p.a, -bound, bound)
	bound = math.Sqrt(3) * (math.Sqrt(2.0/6) / math.Sqrt(float64(p.rank)))
	base := make([]float32, long*p.rank)
	for b := range p.bases {
		g.UniformBF16(base, -bound, bound)
		for o := range long {
			copy(p.b[(o*p.bases+b)*p.rank:(o*p.bases+b+1)*p.rank], base[o*p.rank:])
		}
	}
	normalise(p.a, torchrand.BF16)
	normalise(p.b, torchrand.BF16)
}

func asItIs(v float32) float32 { return v }

// normalise divides by the standard deviation of a sample; round is that of the type it is computed in.
func normalise(x []float32, round func(float32) float32) {
	mean := 0.0
	for _, v := range x {
		mean += float64(v)
	}
	mean /= float64(len(x))
	sum := 0.0
	for _, v := range x {
		d := float64(v) - mean
		sum += float64(d * d)
	}
	by := round(float32(math.Sqrt(sum / float64(len(x)-1))))
	for i := range x {
		x[i] = round(x[i] / by)
	}
}

// fourierft is Δ = scaling · the inverse Fourier transform of a spectrum with values at drawn places (Gao et al. 2024).
func (r *Reader) fourierft(module string) (*Change, error) {
	return r.spread(module, "fourierft_spectrum", 150, spectrum.Fourier)
}

// waveft is the same with wavelets (Bilican et al. 2025), or with the values as they are.
func (r *Reader) waveft(module string) (*Change, error) {
	switch family := r.o.Wavelet; {
	case r.o.Inverse != nil && !*r.o.Inverse:
		return r.spread(module, "waveft_spectrum", 25, sparse)
	case family == "" || family == "db1":
		return r.spread(module, "waveft_spectrum", 25, spectrum.Haar)
	default:
		return nil, r.fail(
			arch.ErrUnsupported,
			"wavelet_family %q of WaveFT; the served one is db1; merge it into the model with PEFT's merge_and_unload",
			family,
		)
	}
}

// sparse puts the values at their places.
func sparse(dst []float32, _, _ int, place []int, value []float32, scale float64) {
	for i, p := range place {
		dst[p] += float32(float64(value[i]) * scale)
	}
}

// spread reads values and makes a dense change of them, at places that torch.randperm draws for the matrix.
func (r *Reader) spread(
	module, part string,
	scaling float64,
	fill func(dst []float32, rows, cols int, place []int, value []float32, scale float64),
) (*Change, error) {
	value, s, err := r.tensor(module, part, 1)
	if err != nil {
		return nil, err
	}
	if r.o.Scaling != nil {
		scaling = *r.o.Scaling
	}
	return &Change{
		Scale: 1,
		Dense: true,
		Fits: func(out, in int) error {
			if n := float64(out) * float64(in); n < float64(s[0]) || n > maxDrawn {
				return r.fail(
					arch.ErrMismatch,
					"module %s: %s has %d values, and the model's matrix is (%d, %d); places are drawn in matrices of at most %d values",
					module,
					part,
					s[0],
					out,
					in,
					maxDrawn,
				)
			}
			return nil
		},
		Derive: func(_, B []float32, in int) {
			place := torchrand.New(uint64(r.o.Places)).Perm(len(B), len(value))
			fill(B, len(B)/in, in, place, value, scaling)
		},
	}, nil
}
