package bind

import (
	"fmt"
	"reflect"

	"edged/core/infer/transformer/parts"
	"edged/core/infer/transformer/position"
	"edged/core/model/arch"
	"edged/quant"
	"edged/quant/kernel"
)

// Builder binds tensors by name and proves their shapes. The first thing that is wrong is kept in Err; what
// follows is bound to nothing and never run.
//
// The compiler of a model sets Prefix and Layer before each layer and hands the Builder to the operations'
// constructors, which ask it for tensors and take their numbers (Attn, Caches, States) from it. What it has
// gathered in the end, the model takes over.
type Builder struct {
	Src     Source
	Spec    *arch.Spec
	K       kernel.Kernels
	Prefix  string // of the layer's tensors
	Layer   int    // that is bound
	Attn    int    // attentions so far
	Caches  int    // of them those that keep keys and values of their own
	CacheOf []int  // of each layer's attention: its place among the caches
	States  int    // operations with a fixed state so far
	Last    *bool  // of the last operation that passes anything from position to position, see attention.Grouped.Last

	Linears   []parts.Linear    // all of them, by id
	IDs       map[string]int    // by GGUF name of the weight
	Norms     []parts.Norm      // those that adapters can change
	NormIDs   map[string]int    // their ids, 1 and more, by GGUF name without .weight
	Ropes     []position.Rope   // those that differ
	Distances []*position.Table // tables of learned distances

	Parameters  int64                  // of all tensors
	WeightBytes int64                  // that a token reads
	Formats     map[quant.Format]int64 // bytes of linear layers, by their format
	Err         error                  // the first one
}

// Fail keeps the first error.
func (b *Builder) Fail(format string, args ...any) {
	if b.Err == nil {
		b.Err = fmt.Errorf(format, args...)
	}
}

// Matrix binds the matrix name, (rows, cols), which must exist.
func (b *Builder) Matrix(name string, rows, cols int) *quant.Matrix {
	m := b.Src.Matrix(name)
	switch {
	case m == nil:
		b.Fail("tensor %s: missing", name)
		return &quant.Matrix{Name: name}
	case m.Rows != rows || m.Cols != cols:
		b.Fail("tensor %s: shape (%d, %d): the model's dimensions ask for (%d, %d)", name, m.Rows, m.Cols, rows, cols)
	}
	b.Parameters += int64(m.Rows) * int64(m.Cols)
	return m
}

// Vector binds the vector name of n values, or returns nil where it is absent.
func (b *Builder) Vector(name string, n int) []float32 {
	v, err := b.Src.Vector(name)
	switch {
	case err != nil:
		b.Fail("tensor %s: %w", name, err)
	case v != nil && len(v) != n:
		b.Fail("tensor %s: %d values: the model's dimensions ask for %d", name, len(v), n)
	}
	b.Parameters += int64(len(v))
	return v
}

// Required is vector for one that must exist.
func (b *Builder) Required(name string, n int) []float32 {
	v := b.Vector(name, n)
	if v == nil {
		b.Fail("tensor %s: missing", name)
	}
	return v
}

// Linear binds PART.weight (out, in) of the layer, and PART.bias where there is one.
func (b *Builder) Linear(part string, out, in int) parts.Linear {
	name := b.Prefix + part
	return b.newLinear(name, b.Matrix(name+".weight", out, in), b.Vector(name+".bias", out))
}

func (b *Builder) newLinear(name string, w *quant.Matrix, bias []float32) parts.Linear {
	if id, ok := b.IDs[name+".weight"]; ok { // of a layer that shares its tensors
		return b.Linears[id]
	}
	l := parts.Linear{Name: name + ".weight", ID: len(b.Linears), W: w, Bias: bias, Multiple: 1}
	b.IDs[l.Name] = l.ID
	if b.Err == nil {
		l.Multiple = max(b.K.RowMultiple(w), 1)
	}
	b.Linears = append(b.Linears, l)
	return l
}

// Weigh notes that a token reads part/of of a linear layer.
func (b *Builder) Weigh(l *parts.Linear, part, of int) {
	bytes := parts.Bytes(l.W)
	b.WeightBytes += bytes * int64(part) / int64(max(of, 1))
	if b.Formats == nil {
		b.Formats = map[quant.Format]int64{}
	}
	b.Formats[l.W.Format] += bytes
}

// Norm binds a norm over n values.
func (b *Builder) Norm(n *arch.Norm, width int) parts.Norm {
	out := b.Fixed(n, width)
	if n.Kind != arch.NoNorm && n.Kind != arch.Factor && n.Name != "" { // a factor is no module that an adapter could replace
		b.Named(&out, b.Prefix+n.Name+".weight")
	}
	return out
}

// Fixed is Norm for one that adapters cannot change.
func (b *Builder) Fixed(n *arch.Norm, width int) parts.Norm {
	out := parts.Norm{Kind: n.Kind, Eps: n.Eps}
	if n.Kind == arch.NoNorm || n.Name == "" {
		return out
	}
	if n.Kind == arch.Factor {
		out.W = b.Required(b.Prefix+n.Name+".weight", 1)
		return out
	}
	out.W = b.Required(b.Prefix+n.Name+".weight", width)
	if n.Kind == arch.LayerNorm {
		out.B = b.Vector(b.Prefix+n.Name+".bias", width)
	}
	return out
}

// Named makes a norm one that adapters can change.
func (b *Builder) Named(n *parts.Norm, tensor string) {
	if b.NormIDs == nil {
		b.NormIDs = map[string]int{}
	}
	if id := b.NormIDs[parts.NormName(tensor)]; id > 0 { // parts that run side by side share theirs
		n.ID = id
		return
	}
	n.ID = len(b.Norms) + 1
	b.Norms = append(b.Norms, *n)
	b.NormIDs[parts.NormName(tensor)] = n.ID
}

// Rope finds or adds the rotation of an attention: its index among those that differ, -1 for none.
func (b *Builder) Rope(p arch.Position) int {
	want, ok := p.(arch.Rope)
	if !ok {
		return -1
	}
	for i := range b.Ropes {
		if reflect.DeepEqual(b.Ropes[i].Of, want) {
			return i
		}
	}
	r, err := position.NewRope(&want)
	if err != nil {
		b.Fail("%w", err)
	}
	for i := range b.Ropes {
		r.At += len(b.Ropes[i].Freq)
	}
	b.Ropes = append(b.Ropes, r)
	return len(b.Ropes) - 1
}

// Source is the part of weights.Model that a forward pass uses.
type Source interface {
	Matrix(name string) *quant.Matrix
	Vector(name string) ([]float32, error)
}
