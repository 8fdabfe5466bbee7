package lora

import (
	"strings"
	"unsafe"

	"edged/core/model/arch"
	"edged/quant"
)

// maxDense bounds the memory of an adapter's changes that have no low rank, which take four bytes for each weight.
const maxDense = 2 << 30

// sizeOf is the shape of the matrix name, which may be a fused one, and whether its parts are fused in
// groups; 0, 0 where the model has none.
func sizeOf(m Base, name string) (out, in int, grouped bool) {
	pattern, numbers := arch.SplitNumbers(strings.TrimSuffix(name, ".weight"))
	split := m.Network().SplitOf(pattern)
	if split == nil {
		if w := m.Matrix(name); w != nil {
			return w.Rows, w.Cols, false
		}
		return 0, 0, false
	}
	for _, into := range split.Into {
		if w := m.Matrix(arch.JoinNumbers(into, numbers) + ".weight"); w != nil {
			out, in = out+w.Rows, w.Cols
		}
	}
	return out, in, split.Groups > 1
}

// measure finds the largest sizes of the matrices that f changes.
func (f *adapterFile) measure(m Base) {
	for i := range f.loras {
		if name, ok := m.Family().ToGGUF(f.loras[i].module); ok {
			out, in, _ := sizeOf(m, name+".weight")
			f.largest.Out, f.largest.In = max(f.largest.Out, out), max(f.largest.In, in)
		}
	}
}

// make computes the factors of l, as far as they do not depend on the weights, for the matrix name, which may
// be a fused one.
func (a *Adapter) make(l *rawDelta, m Base, name string) error {
	out, in, fused := sizeOf(m, name)
	how := l.made
	switch {
	case out == 0:
		return a.fail(ErrMismatch, "module %s: the model has no tensor %s", l.module, name)
	case l.b.rows != 0 && l.b.rows != out || how.Blocks > 0 && out%how.Blocks != 0 ||
		l.a.cols != 0 && l.a.cols != in || how.Whole > 0 && in%how.Whole != 0:
		return a.fail(ErrMismatch, "module %s: the shapes of its tensors do not fit the model's %s, which is (%d, %d): it was trained on another model", l.module, name, out, in)
	case (how.ByRow || how.See != nil || how.Bias != nil) && fused:
		return a.fail(ErrUnsupported, "module %s: an adapter of the kind %s on a matrix whose parts are fused in groups; merge it into the model with PEFT", l.module, a.Kind)
	}
	if w := m.Matrix(name); how.Exact && (w == nil || w.Format.BlockSize() != 1 || w.Group != nil) {
		return a.fail(ErrUnsupported, "module %s: init_lora_weights \"pissa\" on a base that is quantised or fused: serve the base in 16 bits, or convert the adapter to a plain one when saving it", l.module)
	}
	l.a.cols, l.b.rows = in, out
	if how.Fits != nil {
		if err := how.Fits(out, in); err != nil {
			return err
		}
	}
	if how.Dense {
		l.b.cols = in
		if a.dense += 4 * int64(out) * int64(in); a.dense > maxDense {
			return a.fail(ErrUnsupported, "its changes have no low rank and take more than %d MiB with module %s: merge it into the model with PEFT", maxDense>>20, l.module)
		}
	}
	var A, B []float32
	var err error
	if l.a.rows > 0 {
		if A, l.a.data, err = a.floats(l.a.rows * in); err != nil {
			return err
		}
	}
	if how.Times == nil && how.Paired == nil {
		if B, l.b.data, err = a.floats(out * l.b.cols); err != nil {
			return err
		}
	}
	if how.See != nil {
		a.eachRow(m, name, func(row int, w []float32) {
			how.See(row, w)
			if how.Minus {
				for i, v := range w {
					B[row*in+i] = -v
				}
			}
		})
	}
	if how.Check != nil {
		if err := how.Check(); err != nil {
			return err
		}
	}
	if how.Derive != nil {
		how.Derive(A, B, in)
	}
	return nil
}

// eachRow calls f with every row of the model's matrix name, which may be a fused one, and with the row's
// number in the module that it was made of.
func (a *Adapter) eachRow(m Base, name string, f func(row int, w []float32)) {
	names := []string{name}
	pattern, numbers := arch.SplitNumbers(strings.TrimSuffix(name, ".weight"))
	if split := m.Network().SplitOf(pattern); split != nil {
		names = nil
		for _, p := range m.Network().Pieces(split, numbers) {
			names = append(names, p.Name+".weight")
		}
	}
	first := 0
	for _, name := range names {
		w, heads := m.Matrix(name), 0
		if w == nil { // addFused says so
			continue
		}
		if m.Network().Permuted {
			heads = m.Tensor(name).Heads
		}
		row := make([]float32, w.Cols)
		for r := range w.Rows {
			quant.Row(row, w, r)
			f(first+apart(r, w.Rows, heads), row)
		}
		first += w.Rows
	}
}

// madeBias returns the bias added to the outputs of the matrix name beside the change of l; nil: none.
func (a *Adapter) madeBias(l *rawDelta, m Base, name string) ([]float32, error) {
	w, heads := m.Matrix(name), 0
	own, err := m.Vector(biasName(name))
	if err != nil || own == nil && l.made.BiasOfBias {
		return nil, err
	}
	if m.Network().Permuted {
		heads = m.Tensor(name).Heads
	}
	out, row := make([]float32, w.Rows), make([]float32, w.Cols)
	for r := range w.Rows {
		quant.Row(row, w, r)
		had := float32(0)
		if own != nil {
			had = own[r]
		}
		if out[r] = l.made.Bias(l.first+apart(r, w.Rows, heads), row, had); out[r]-out[r] != 0 {
			return nil, a.fail(ErrInvalid, "module %s: what it adds to output %d is %v", l.module, r, out[r])
		}
	}
	return out, nil
}

// times makes B of the rows of the model's matrix name, in their order.
func (a *Adapter) times(l *rawDelta, m Base, name string) ([]byte, error) {
	w, heads := m.Matrix(name), 0
	if m.Network().Permuted {
		heads = m.Tensor(name).Heads
	}
	B, data, err := a.floats(w.Rows * l.b.cols)
	if err != nil {
		return nil, err
	}
	row := make([]float32, w.Cols)
	for r := range w.Rows {
		quant.Row(row, w, r)
		l.made.Times(l.first+apart(r, w.Rows, heads), row, B[r*l.b.cols:(r+1)*l.b.cols])
	}
	t := rawTensor{name: l.b.name, format: quant.F32, rows: w.Rows, cols: l.b.cols, data: data}
	return data, a.finite(&t)
}

// apart returns the original row of row r of a matrix whose RoPE pairs were made adjacent; heads is 0 where
// nothing was moved.
func apart(r, rows, heads int) int {
	if heads == 0 {
		return r
	}
	dim := rows / heads
	i := r % dim
	return r - i + i%2*(dim/2) + i/2
}

// floats are n zeros off the heap, and their bytes.
func (a *Adapter) floats(n int) ([]float32, []byte, error) {
	b, err := a.arena.Alloc(4 * n)
	if err != nil {
		return nil, nil, a.fail(err, "%d values of a change of no low rank", n)
	}
	return unsafe.Slice((*float32)(unsafe.Pointer(unsafe.SliceData(b))), n), b, nil
}
