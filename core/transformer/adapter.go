package transformer

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"edged/core/weights"
	"edged/quant"
	"edged/quant/kernel"
)

// Adapter is a LoRA adapter that is bound to a Model: y += scale·B(A x) beside each linear layer that it names (Hu et
// al. 2021). The weights stay as they are, so that rows of one batch can have different adapters.
type Adapter struct {
	model *Model // nil: closed
	mods  []*lora
	bytes int64
	mem   *halves // what the factors are held in where they are not read as they are stored; nil: nothing
}

// Use is an adapter of a row. Scale multiplies the adapter's own scaling; 1 is as trained.
type Use struct {
	Adapter *Adapter
	Scale   float32
}

// lora holds the factors of one linear layer.
type lora struct {
	a, b     *quant.Matrix // (rank, in), (out, rank)
	scale    float32
	multiple int // where ranges over b may start
}

// LoadAdapter binds a to m. With kernel.Fast float32 factors are held in float16, unless a value is too large for it; all
// others are read where they are until Close: the caller keeps a open until then. An adapter for a layer that m has not got is an error that names it.
func (m *Model) LoadAdapter(a *weights.Adapter) (*Adapter, error) {
	out := &Adapter{model: m, mods: make([]*lora, len(m.net.linears))}
	for _, name := range slices.Sorted(maps.Keys(a.Mods)) {
		mod := a.Mods[name]
		id, ok := m.net.ids[name]
		if !ok {
			return nil, fmt.Errorf("transformer: %s: %s: the model has no linear layer of this name that an adapter can change", a.Path, name)
		}
		l := &m.net.linears[id]
		switch {
		case mod == nil || mod.A == nil || mod.B == nil:
			return nil, fmt.Errorf("transformer: %s: %s: a low-rank factor is missing", a.Path, name)
		case mod.A.Rows < 1 || mod.A.Rows > maxRank || mod.B.Cols != mod.A.Rows:
			return nil, fmt.Errorf("transformer: %s: %s: ranks %d and %d of the factors: want equal ones from 1 to %d", a.Path, name, mod.A.Rows, mod.B.Cols, maxRank)
		case mod.A.Cols != l.w.Cols || mod.B.Rows != l.w.Rows:
			return nil, fmt.Errorf("transformer: %s: %s: factors for a layer of (%d, %d): the model's is (%d, %d)", a.Path, name, mod.B.Rows, mod.A.Cols, l.w.Rows, l.w.Cols)
		case !finite(mod.Scale):
			return nil, fmt.Errorf("transformer: %s: %s: scale %v is not a number", a.Path, name, mod.Scale)
		}
		out.mods[id] = &lora{a: mod.A, b: mod.B, scale: mod.Scale}
	}
	if m.opt.Precision == kernel.Fast {
		if err := out.halve(); err != nil && !errors.Is(err, errWide) {
			return nil, fmt.Errorf("transformer: %s: %w", a.Path, err)
		}
	}
	for _, l := range out.mods {
		if l != nil {
			l.multiple = max(m.k.RowMultiple(l.b), 1)
			out.bytes += matrixBytes(l.a) + matrixBytes(l.b)
		}
	}
	return out, nil
}

// halve holds the factors in float16: all of them, or none where it fails.
func (a *Adapter) halve() error {
	var values int64
	matrices := 0
	for _, l := range a.mods {
		if l != nil {
			values += int64(l.a.Rows)*int64(l.a.Cols) + int64(l.b.Rows)*int64(l.b.Cols)
			matrices += 2
		}
	}
	mem, err := newHalves(values, matrices)
	if err != nil {
		return err
	}
	halved := make([]*lora, len(a.mods))
	for i, l := range a.mods {
		if l == nil {
			continue
		}
		x, err := mem.of(l.a)
		if err != nil {
			return errors.Join(err, mem.close())
		}
		y, err := mem.of(l.b)
		if err != nil {
			return errors.Join(err, mem.close())
		}
		halved[i] = &lora{a: x, b: y, scale: l.scale}
	}
	a.mods, a.mem = halved, mem
	return nil
}

// maxRank bounds the scratch of the low-rank products.
const maxRank = 1024

// Bytes is the number of bytes that a token reads of the adapter.
func (a *Adapter) Bytes() int64 { return a.bytes }

// Close ends the use of a; the weights.Adapter that it was made of may be closed then. Later calls do nothing.
func (a *Adapter) Close() {
	_ = a.mem.close() // there is nothing to be done about it
	a.model, a.mods, a.mem = nil, nil, nil
}

// checkUses refuses adapters that cannot be applied.
func (m *Model) checkUses(uses []Use) error {
	for _, u := range uses {
		switch {
		case u.Adapter == nil || u.Adapter.model == nil:
			return errors.New("a closed adapter")
		case u.Adapter.model != m:
			return errors.New("an adapter of another model")
		case !finite(u.Scale):
			return fmt.Errorf("adapter scale %v is not a number", u.Scale)
		}
	}
	return nil
}

func finite(f float32) bool { return f-f == 0 }

// lowRank is the job of the products A x of all adapters for the queued linear layers.
type lowRank struct {
	s     *step
	terms []term
	mid   []float32 // the results, one term after the other
}

// term is one adapter's part in one queued product, for a run of rows.
type term struct {
	part   int // of product.parts
	lo, hi int // rows
	l      *lora
	scale  float32            // the use's times the adapter's own
	in     kernel.Activations // (hi-lo, in) rows of step.act
	mid    kernel.Activations // (hi-lo, rank) A x
}

// termRows is the number of rows of one term: a prompt's rows are cut so that threads can share them.
const termRows = 32

// lowRank computes A x for every adapter of groups and every queued product; product.multiply adds B(A x).
func (s *step) lowRank(j *product) {
	w := &s.low
	w.terms = w.terms[:0]
	total := 0
	for _, g := range j.groups {
		for _, u := range g.uses {
			for i := range j.n {
				l := u.Adapter.mods[j.parts[i].l.id]
				if l == nil || u.Scale == 0 {
					continue
				}
				for lo := g.lo; lo < g.hi; lo += termRows {
					hi := min(lo+termRows, g.hi)
					w.terms = append(w.terms, term{part: i, lo: lo, hi: hi, l: l, scale: u.Scale * l.scale})
					total += (hi - lo) * l.a.Rows
				}
			}
		}
	}
	if len(w.terms) == 0 {
		return
	}
	w.mid = slices.Grow(w.mid[:0], total)[:total]
	mid := w.mid
	for i := range w.terms {
		t := &w.terms[i]
		n, cols := t.hi-t.lo, s.act.Cols
		t.in = kernel.Activations{Rows: n, Cols: cols, X: s.act.X[t.lo*cols : t.hi*cols]}
		t.mid = kernel.Activations{Rows: n, Cols: t.l.a.Rows, X: mid[:n*t.l.a.Rows]}
		mid = mid[n*t.l.a.Rows:]
	}
	s.run(len(w.terms), w)
}

// Do computes one term in float32, whatever the precision of the weights: the factors are small, and what an adapter
// corrects would be lost in 8 bits.
func (w *lowRank) Do(_, chunk int) {
	t := &w.terms[chunk]
	w.s.k.MatMul(t.mid.X, t.l.a.Rows, t.l.a, &t.in, kernel.Exact, 0, t.l.a.Rows)
}
