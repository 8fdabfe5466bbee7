package transformer

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"edged/core/model/lora"
	"edged/quant"
	"edged/quant/kernel"
)

// Adapter is an adapter that is bound to a Model: y += scale·B(A x) beside each linear layer that it names (Hu et al. 2021),
// rows of the embedding changed likewise, a soft prompt (Lester et al. 2021). The weights stay as they are, so that rows of
// one batch can have different adapters.
type Adapter struct {
	model     *Model // nil: closed
	mods      []*delta
	embed     *lora.Delta   // A (VocabRows, rank), B (Width, rank); nil: the embedding stays
	embedDora *dora         // of its columns; nil: plain LoRA
	prompt    *quant.Matrix // (virtual tokens, Width); nil: none
	change    *change       // of what is no linear layer; nil: nothing
	bytes     int64
	mem       *store // what was laid out anew; nil: nothing
}

// Use is an adapter of a row. Scale multiplies the adapter's own scaling; 1 is as trained. A soft prompt has no scale.
type Use struct {
	Adapter *Adapter
	Scale   float32
}

// LoadAdapter binds a to m. With kernel.Fast factors are held in float16, where the shape of a layer allows; all others are
// read where they are until Close: the caller keeps a open until then. An adapter for a layer that m has not got is an error
// that names it.
//
// Unlike all else, it may run beside Forward: nothing of it touches the state of a batch.
func (m *Model) LoadAdapter(a *lora.Adapter) (*Adapter, error) {
	out := &Adapter{model: m, mods: make([]*delta, len(m.net.linears))}
	if err := out.proveInput(a); err != nil {
		return nil, err
	}
	if err := out.bindChanges(a); err != nil {
		return nil, err
	}
	size := int64(0)
	for _, name := range slices.Sorted(maps.Keys(a.Mods)) {
		mod := a.Mods[name]
		id, ok := m.net.ids[name]
		if !ok {
			return nil, fmt.Errorf("transformer: %s: %s: the model has no linear layer of this name that an adapter can change", a.Path, name)
		}
		w := m.net.linears[id].w
		switch {
		case mod != nil && mod.Bias != nil && (len(mod.Bias) != w.Rows || mod.Magnitude != nil):
			return nil, fmt.Errorf("transformer: %s: %s: a bias of %d values for the %d rows of (%d, %d), or one beside DoRA", a.Path, name, len(mod.Bias), w.Rows, w.Rows, w.Cols)
		case mod == nil || mod.B == nil || mod.A == nil && mod.Magnitude != nil:
			return nil, fmt.Errorf("transformer: %s: %s: a low-rank factor is missing", a.Path, name)
		case mod.A == nil && (mod.B.Cols != w.Cols || mod.B.Rows != w.Rows):
			return nil, fmt.Errorf("transformer: %s: %s: a change of (%d, %d): the model's is (%d, %d)", a.Path, name, mod.B.Rows, mod.B.Cols, w.Rows, w.Cols)
		case mod.A == nil:
		case mod.A.Rows < 1 || mod.A.Rows > maxRank || mod.B.Cols != mod.A.Rows:
			return nil, fmt.Errorf("transformer: %s: %s: ranks %d and %d of the factors: want equal ones from 1 to %d", a.Path, name, mod.A.Rows, mod.B.Cols, maxRank)
		case mod.A.Cols != w.Cols || mod.B.Rows != w.Rows:
			return nil, fmt.Errorf("transformer: %s: %s: factors for a layer of (%d, %d): the model's is (%d, %d)", a.Path, name, mod.B.Rows, mod.A.Cols, w.Rows, w.Cols)
		case mod.Magnitude != nil && len(mod.Magnitude) != w.Rows:
			return nil, fmt.Errorf("transformer: %s: %s: %d magnitudes for the %d rows of (%d, %d)", a.Path, name, len(mod.Magnitude), w.Rows, w.Rows, w.Cols)
		}
		if !finite(mod.Scale) {
			return nil, fmt.Errorf("transformer: %s: %s: scale %v is not a number", a.Path, name, mod.Scale)
		}
		l := &delta{rank: mod.B.Cols, a: mod.A, b: mod.B, scale: mod.Scale, bias: mod.Bias}
		out.mods[id] = l
		if n, ok := l.packable(); ok && m.opt.Precision == kernel.Fast {
			size += n
		}
		if mod.Magnitude != nil {
			size += doraBytes(w.Rows)
		}
	}
	var err error
	if out.mem, err = newStore(size); err != nil {
		return nil, fmt.Errorf("transformer: %s: %w", a.Path, err)
	}
	for id, l := range out.mods {
		if l == nil {
			continue
		}
		base := &m.net.linears[id]
		if mod := a.Mods[base.name]; mod.Magnitude != nil {
			l.dora = newDora(m.k, base.w, l, mod.Magnitude, m.rowNorms(id), out.mem)
		}
		if _, ok := l.packable(); ok && m.opt.Precision == kernel.Fast {
			l.pack(out.mem)
			l.multiple = kernel.LoRATile
		} else {
			l.multiple = max(m.k.RowMultiple(l.b), 1)
		}
		out.bytes += l.bytes()
	}
	return out, nil
}

// proveInput takes over what an adapter changes before the first layer.
func (a *Adapter) proveInput(w *lora.Adapter) error {
	h := a.model.spec
	if e := w.Embed; e != nil {
		switch {
		case e.A == nil || e.B == nil || e.A.Cols < 1 || e.A.Cols > maxRank || e.B.Cols != e.A.Cols:
			return fmt.Errorf("transformer: %s: token_embd.weight: its low-rank factors are not two of one rank from 1 to %d", w.Path, maxRank)
		case e.A.Rows != h.Vocab || e.B.Rows != h.Width:
			return fmt.Errorf("transformer: %s: token_embd.weight: factors for an embedding of (%d, %d): the model's is (%d, %d)", w.Path, e.A.Rows, e.B.Rows, h.Vocab, h.Width)
		case !finite(e.Scale):
			return fmt.Errorf("transformer: %s: token_embd.weight: scale %v is not a number", w.Path, e.Scale)
		}
		if e.Magnitude != nil {
			if len(e.Magnitude) != h.Width {
				return fmt.Errorf("transformer: %s: token_embd.weight: %d magnitudes for the model's width of %d", w.Path, len(e.Magnitude), h.Width)
			}
			a.embedDora = newEmbedDora(a.model.net.embed, e)
			a.bytes += 5 * 4 * int64(h.Width)
		}
		a.embed = e
		a.bytes += matrixBytes(e.A) + matrixBytes(e.B)
	}
	if p := w.Prompt; p != nil {
		if a.model.net.perLayer != nil {
			return fmt.Errorf("transformer: %s: a soft prompt has no rows for each layer, which every token of the model has: train an adapter of another kind", w.Path)
		}
		if p.Rows < 1 || p.Cols != h.Width {
			return fmt.Errorf("transformer: %s: a soft prompt of (%d, %d): the model's width is %d", w.Path, p.Rows, p.Cols, h.Width)
		}
		a.prompt = p
		a.bytes += matrixBytes(p)
	}
	return nil
}

// maxRank bounds the scratch of the low-rank products.
const maxRank = 1024

// Bytes is the memory that it takes, that of the lora.Adapter included where it is read from there.
func (a *Adapter) Bytes() int64 { return a.bytes }

// Virtual is the number of virtual tokens of its soft prompt or prefix: a sequence with it begins with rows of the tokens -1, -2, …,
// -Virtual.
func (a *Adapter) Virtual() int {
	if a.prompt == nil {
		return a.prefixRows()
	}
	return a.prompt.Rows + a.prefixRows()
}

// Close ends the use of a; the lora.Adapter that it was made of may be closed then. Later calls do nothing.
func (a *Adapter) Close() {
	_ = a.mem.close() // there is nothing to be done about it
	*a = Adapter{}
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
	s      *step
	k      kernel.LowRank
	terms  []term
	pieces []piece
	mid    []float32 // the results, one term after the other
}

// term is one adapter's part in one queued product, for a run of rows.
type term struct {
	part   int // of product.parts
	lo, hi int // rows
	l      *delta
	scale  float32            // the use's times the adapter's own
	use    float32            // the use's
	in     kernel.Activations // (hi-lo, in) rows of step.act
	mid    kernel.Activations // (hi-lo, ld) A x, of which rank columns count
}

// piece is what one chunk computes: groups [lo, hi) of ranks of a packed term, or all of one that is not.
type piece struct{ term, lo, hi int }

const (
	// termRows is the number of rows of one term: a prompt's rows are cut so that threads can share them.
	termRows = 32
	// pieceBytes is what a piece reads: some microseconds, so that two threads share the factors of one decoded row.
	pieceBytes = 32 << 10
)

// lowRank computes A x for every adapter of groups and every queued product; product.multiply adds B(A x).
func (s *step) lowRank(j *product) {
	w := &s.low
	w.terms, w.pieces = w.terms[:0], w.pieces[:0]
	total := 0
	for _, g := range j.groups {
		for _, u := range g.uses {
			for i := range j.n {
				l := u.Adapter.mods[j.parts[i].l.id]
				if l == nil || u.Scale == 0 && l.dora == nil {
					continue
				}
				for lo := g.lo; lo < g.hi; lo += termRows {
					hi := min(lo+termRows, g.hi)
					w.terms = append(w.terms, term{part: i, lo: lo, hi: hi, l: l, scale: u.Scale * l.scale, use: u.Scale})
					if l.a != nil {
						total += (hi - lo) * l.ld()
					}
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
		n, cols, ld := t.hi-t.lo, s.act.Cols, t.l.ld()
		t.in = kernel.Activations{Rows: n, Cols: cols, X: s.act.X[t.lo*cols : t.hi*cols]}
		if t.l.a == nil { // B is the whole change
			t.mid = t.in
			continue
		}
		t.mid = kernel.Activations{Rows: n, Cols: ld, X: mid[:n*ld]}
		mid = mid[n*ld:]
		groups, each := 1, 1
		if t.l.packed() {
			groups = t.l.f.Groups()
			each = max(1, pieceBytes/(2*kernel.LoRAGroup*cols))
		}
		for lo := 0; lo < groups; lo += each {
			w.pieces = append(w.pieces, piece{term: i, lo: lo, hi: min(lo+each, groups)})
		}
	}
	s.run(len(w.pieces), w)
}

// ld is the number of values that a row of A x takes.
func (l *delta) ld() int {
	if l.packed() {
		return l.f.Groups() * kernel.LoRAGroup
	}
	return l.rank
}

// Do computes one piece in float32, whatever the precision of the weights: the factors are small, and what an adapter
// corrects would be lost in 8 bits.
func (w *lowRank) Do(_, chunk int) {
	p := &w.pieces[chunk]
	t := &w.terms[p.term]
	if t.l.packed() {
		w.k.LoRADown(t.mid.X, t.mid.Cols, &t.l.f, t.in.X, t.in.Rows, p.lo, p.hi)
		return
	}
	w.s.k.MatMul(t.mid.X, t.l.rank, t.l.a, &t.in, kernel.Exact, 0, t.l.rank)
}
