package transformer

import (
	"fmt"
	"reflect"

	"edged/core/model/arch"
	"edged/quant"
	"edged/quant/kernel"
)

// builder binds tensors by name and proves their shapes. The first thing that is wrong is kept; what follows is bound
// to nothing and never run.
type builder struct {
	src     source
	spec    *arch.Spec
	k       kernel.Kernels
	net     network
	prefix  string // of the layer's tensors
	attn    int    // attention blocks so far
	caches  int    // of them those that keep keys and values of their own
	layer   int    // that is bound
	altUp   *altUp // of the layer that is bound
	cacheOf []int  // of each layer's attention: its place among the caches
	states  int    // operations with a fixed state so far
	last    *bool  // of the last operation that passes anything from position to position, see attention.last
	formats map[quant.Format]int64
	err     error
}

func (b *builder) fail(format string, args ...any) {
	if b.err == nil {
		b.err = fmt.Errorf(format, args...)
	}
}

// matrix binds the matrix name, (rows, cols), which must exist.
func (b *builder) matrix(name string, rows, cols int) *quant.Matrix {
	m := b.src.Matrix(name)
	switch {
	case m == nil:
		b.fail("tensor %s: missing", name)
		return &quant.Matrix{Name: name}
	case m.Rows != rows || m.Cols != cols:
		b.fail("tensor %s: shape (%d, %d): the model's dimensions ask for (%d, %d)", name, m.Rows, m.Cols, rows, cols)
	}
	b.net.info.Parameters += int64(m.Rows) * int64(m.Cols)
	return m
}

// vector binds the vector name of n values, or returns nil where it is absent.
func (b *builder) vector(name string, n int) []float32 {
	v, err := b.src.Vector(name)
	switch {
	case err != nil:
		b.fail("tensor %s: %w", name, err)
	case v != nil && len(v) != n:
		b.fail("tensor %s: %d values: the model's dimensions ask for %d", name, len(v), n)
	}
	b.net.info.Parameters += int64(len(v))
	return v
}

// required is vector for one that must exist.
func (b *builder) required(name string, n int) []float32 {
	v := b.vector(name, n)
	if v == nil {
		b.fail("tensor %s: missing", name)
	}
	return v
}

// linear binds PART.weight (out, in) of the layer, and PART.bias where there is one.
func (b *builder) linear(part string, out, in int) linear {
	name := b.prefix + part
	return b.newLinear(name, b.matrix(name+".weight", out, in), b.vector(name+".bias", out))
}

func (b *builder) newLinear(name string, w *quant.Matrix, bias []float32) linear {
	l := linear{name: name + ".weight", id: len(b.net.linears), w: w, bias: bias, multiple: 1}
	b.net.ids[l.name] = l.id
	if b.err == nil {
		l.multiple = max(b.k.RowMultiple(w), 1)
	}
	b.net.linears = append(b.net.linears, l)
	return l
}

// weigh notes that a token reads part/of of a linear layer.
func (b *builder) weigh(l *linear, part, of int) {
	bytes := matrixBytes(l.w)
	b.net.info.WeightBytes += bytes * int64(part) / int64(max(of, 1))
	if b.formats == nil {
		b.formats = map[quant.Format]int64{}
	}
	b.formats[l.w.Format] += bytes
}

// norm binds a norm over n values.
func (b *builder) norm(n *arch.Norm, width int) norm {
	out := norm{kind: n.Kind, eps: n.Eps}
	if n.Kind == arch.NoNorm || n.Name == "" {
		return out
	}
	if n.Kind == arch.Factor { // no module that an adapter could replace
		out.w = b.required(b.prefix+n.Name+".weight", 1)
		return out
	}
	out.w = b.required(b.prefix+n.Name+".weight", width)
	if n.Kind == arch.LayerNorm {
		out.b = b.vector(b.prefix+n.Name+".bias", width)
	}
	b.named(&out, b.prefix+n.Name+".weight")
	return out
}

// named makes a norm one that adapters can change.
func (b *builder) named(n *norm, tensor string) {
	if b.net.normIDs == nil {
		b.net.normIDs = map[string]int{}
	}
	if id := b.net.normIDs[normName(tensor)]; id > 0 { // parts that run side by side share theirs
		n.id = id
		return
	}
	n.id = len(b.net.norms) + 1
	b.net.norms = append(b.net.norms, *n)
	b.net.normIDs[normName(tensor)] = n.id
}

// rope finds or adds the rotation of an attention: its index among those that differ, -1 for none.
func (b *builder) rope(p arch.Position) int {
	want, ok := p.(arch.Rope)
	if !ok {
		return -1
	}
	for i := range b.net.ropes {
		if reflect.DeepEqual(b.net.ropes[i].of, want) {
			return i
		}
	}
	r, err := newRope(&want)
	if err != nil {
		b.fail("%w", err)
	}
	for i := range b.net.ropes {
		r.at += len(b.net.ropes[i].freq)
	}
	b.net.ropes = append(b.net.ropes, r)
	return len(b.net.ropes) - 1
}

// slopes are ALiBi's of all heads: those of the largest power of two that is not above their number, then every second one of
// twice that many (Press et al. 2022, and its authors' code for other numbers).
func slopes(p arch.Position, heads int) []float32 {
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
			out[h] = float32(exp(-ln(2) * float64(a.Max) * float64(h+1) / float64(pow)))
		} else {
			out[h] = float32(exp(-ln(2) * float64(a.Max) * float64(2*(h-pow)+1) / float64(2*pow)))
		}
	}
	return out
}

// matrixBytes is the number of bytes that a product with m reads.
func matrixBytes(m *quant.Matrix) int64 {
	var n int64
	for _, p := range weightBytes(m) {
		n += int64(len(p))
	}
	return n
}

// factor is a factor of a Spec, where 0 stands for 1.
func factor(f float32) float32 {
	if f == 0 {
		return 1
	}
	return f
}
