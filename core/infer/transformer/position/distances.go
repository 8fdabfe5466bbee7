package position

import (
	"encoding/binary"
	"math"

	"edged/core/infer/transformer/exactmath"
	"edged/core/model/arch"
	"edged/quant"
)

// Table holds the values that attention adds to its scores by distance, see arch.Distances, or by the key's
// position alone, see arch.ALiBi.Rounded.
type Table struct {
	of    arch.Distances
	both  bool
	heads int
	table []float32 // (Buckets, heads), as the file has it

	slopes []float32 // (Heads) of ALiBi by the key's position, divided by root; nil: by distance
	root   float32

	Stride int       // 2·context - 1: distances from -(context-1) to context-1; by the key's position: context
	All    []float32 // (heads, stride)
}

// NewTable is the table of learned distances whose values, (Buckets, heads), are as a file has them.
// Attention is to both sides where both.
func NewTable(of arch.Distances, both bool, heads int, values []float32) *Table {
	return &Table{of: of, both: both, heads: heads, table: values}
}

// Heads is the number of query heads that the table is for.
func (d *Table) Heads() int { return d.heads }

// Spread makes the values of all distances within a context.
func (d *Table) Spread(context int) {
	if d.slopes != nil {
		d.Stride, d.All = context, make([]float32, d.heads*context)
		for h, slope := range d.slopes {
			for p := range context {
				d.All[h*context+p] = bf16(float32(bf16(slope)*bf16(float32(p)))) / d.root
			}
		}
		return
	}
	d.Stride = 2*context - 1
	d.All = make([]float32, d.heads*d.Stride)
	for i := range d.Stride {
		at := bucket(&d.of, d.both, i-context+1) * d.heads
		for h := range d.heads {
			d.All[h*d.Stride+i] = d.table[at+h]
		}
	}
}

// At returns the index of a head's values for a row: that of position p stands p behind.
func (d *Table) At(pos int) int {
	if d.slopes != nil {
		return 0
	}
	return d.Stride/2 - pos
}

// bf16 rounds to the nearest number of BF16, ties to even.
func bf16(x float32) float32 {
	b := math.Float32bits(x)
	return math.Float32frombits((b + 0x7fff + b>>16&1) &^ 0xffff)
}

// Rounded is the table of ALiBi by the key's position, of heads of a size; it is the same for equal arguments.
func Rounded(of *arch.ALiBi, heads, size int) *Table {
	return &Table{heads: heads, slopes: slopesOf(of, heads), root: float32(math.Sqrt(float64(size)))}
}

// SameRounded reports whether d is such a table of as many heads of that size.
func (d *Table) SameRounded(heads, size int) bool {
	return d.heads == heads && d.root == float32(math.Sqrt(float64(size)))
}

// bucket is that of a distance, which is a key's position less a query's (transformers,
// T5Attention._relative_position_bucket, whose float32 arithmetic decides where one bucket ends).
func bucket(of *arch.Distances, both bool, distance int) int {
	n, first := of.Buckets, 0
	if both {
		if n /= 2; distance > 0 {
			first = n
		}
		distance = max(distance, -distance)
	} else {
		distance = max(-distance, 0)
	}
	exact := n / 2
	if distance < exact {
		return first + distance
	}
	far := float32(exactmath.Ln(float64(of.Far) / float64(exact)))
	x := float32(exactmath.Ln(float64(float32(distance) / float32(exact))))
	x = float32(x/far) * float32(n-exact)
	return first + min(exact+int(x), n-1)
}

// Waves are the sinusoids of a Spec as rows of float32.
func Waves(of *arch.Waves, width int) *quant.Matrix {
	half := width / 2
	steps := half
	if of.Last {
		steps--
	}
	data := make([]byte, 4*of.Rows*width)
	for i := range half {
		f := exactmath.Exp(-exactmath.Ln(10000) * float64(i) / float64(steps))
		for p := range of.Rows {
			sin, cos := exactmath.Sincos(float64(float64(p) * f))
			binary.LittleEndian.PutUint32(data[4*(p*width+i):], math.Float32bits(float32(sin)))
			binary.LittleEndian.PutUint32(data[4*(p*width+half+i):], math.Float32bits(float32(cos)))
		}
	}
	return &quant.Matrix{Name: arch.PositionName, Format: quant.F32, Rows: of.Rows, Cols: width, Data: data}
}

// Slopes are ALiBi's of all heads: those of the largest power of two that is not above their number, then
// every second one of twice that many (Press et al. 2022, and its authors' code for other numbers).
func Slopes(p arch.Position, heads int) []float32 {
	a, ok := p.(arch.ALiBi)
	if !ok || a.Rounded {
		return nil
	}
	return slopesOf(&a, heads)
}

func slopesOf(a *arch.ALiBi, heads int) []float32 {
	pow := 1
	for 2*pow <= heads {
		pow *= 2
	}
	out := make([]float32, heads)
	for h := range out {
		if h < pow {
			out[h] = float32(exactmath.Exp(-exactmath.Ln(2) * float64(a.Max) * float64(h+1) / float64(pow)))
		} else {
			out[h] = float32(exactmath.Exp(-exactmath.Ln(2) * float64(a.Max) * float64(2*(h-pow)+1) / float64(2*pow)))
		}
	}
	return out
}
