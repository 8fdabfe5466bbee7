package transformer

import (
	"encoding/binary"
	"math"

	"edged/core/model/arch"
	"edged/quant"
)

// distances is what attention adds to its scores by distance, see arch.Distances, or by the key's position alone, see
// arch.ALiBi.Rounded.
type distances struct {
	of    arch.Distances
	both  bool
	heads int
	table []float32 // (Buckets, heads), as the file has it

	slopes []float32 // (heads) of ALiBi by the key's position, divided by root; nil: by distance
	root   float32

	stride int       // 2·context - 1: distances from -(context-1) to context-1; by the key's position: context
	all    []float32 // (heads, stride)
}

// table binds an attention's own table, or finds that of the nearest layer before; nil: it has none.
func (b *builder) table(a *arch.Attention) *distances {
	if p, ok := a.Position.(arch.ALiBi); ok && p.Rounded {
		root := float32(math.Sqrt(float64(a.KeyDim)))
		for _, d := range b.net.distances {
			if d.heads == a.Heads && d.root == root {
				return d
			}
		}
		d := &distances{heads: a.Heads, slopes: slopesOf(&p, a.Heads), root: root}
		b.net.distances = append(b.net.distances, d)
		return d
	}
	of, ok := a.Position.(arch.Distances)
	if !ok {
		return nil
	}
	if !of.Own {
		n := len(b.net.distances)
		if n == 0 || b.net.distances[n-1].heads != a.Heads {
			b.fail("tensor %s: missing", b.prefix+arch.DistancesName)
			return nil
		}
		return b.net.distances[n-1]
	}
	m := b.matrix(b.prefix+arch.DistancesName, of.Buckets, a.Heads)
	d := &distances{of: of, both: a.Both, heads: a.Heads, table: make([]float32, of.Buckets*a.Heads)}
	if b.err == nil {
		for i := range of.Buckets {
			quant.Row(d.table[i*a.Heads:(i+1)*a.Heads], m, i)
		}
	}
	b.net.distances = append(b.net.distances, d)
	return d
}

// spread makes the values of all distances within a context.
func (d *distances) spread(context int) {
	if d.slopes != nil {
		d.stride, d.all = context, make([]float32, d.heads*context)
		for h, slope := range d.slopes {
			for p := range context {
				d.all[h*context+p] = bf16(float32(bf16(slope)*bf16(float32(p)))) / d.root
			}
		}
		return
	}
	d.stride = 2*context - 1
	d.all = make([]float32, d.heads*d.stride)
	for i := range d.stride {
		at := bucket(&d.of, d.both, i-context+1) * d.heads
		for h := range d.heads {
			d.all[h*d.stride+i] = d.table[at+h]
		}
	}
}

// at is where a head's values for a row begin: that of position p stands p behind.
func (d *distances) at(pos int) int {
	if d.slopes != nil {
		return 0
	}
	return d.stride/2 - pos
}

// bf16 rounds to the nearest number of BF16, ties to even.
func bf16(x float32) float32 {
	b := math.Float32bits(x)
	return math.Float32frombits((b + 0x7fff + b>>16&1) &^ 0xffff)
}

// bucket is that of a distance, which is a key's position less a query's (transformers, T5Attention._relative_position_bucket, whose
// float32 arithmetic decides where one bucket ends).
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
	far := float32(ln(float64(of.Far) / float64(exact)))
	x := float32(ln(float64(float32(distance) / float32(exact))))
	x = float32(x/far) * float32(n-exact)
	return first + min(exact+int(x), n-1)
}

// waves are the sinusoids of a Spec as rows of float32.
func waves(of *arch.Waves, width int) *quant.Matrix {
	half := width / 2
	steps := half
	if of.Last {
		steps--
	}
	data := make([]byte, 4*of.Rows*width)
	for i := range half {
		f := exp(-ln(10000) * float64(i) / float64(steps))
		for p := range of.Rows {
			sin, cos := sincos(float64(float64(p) * f))
			binary.LittleEndian.PutUint32(data[4*(p*width+i):], math.Float32bits(float32(sin)))
			binary.LittleEndian.PutUint32(data[4*(p*width+half+i):], math.Float32bits(float32(cos)))
		}
	}
	return &quant.Matrix{Name: arch.PositionName, Format: quant.F32, Rows: of.Rows, Cols: width, Data: data}
}
