package batch

import (
	"slices"

	"edged/core/infer/transformer/adapter"
	"edged/quant/kernel"
)

// lowRank is the job of the products A x of all adapters for the queued linear layers.
type lowRank struct {
	s      *Batch
	k      kernel.LowRank
	terms  []term
	pieces []piece
	mid    []float32 // the results, one term after the other
}

// term is one adapter's part in one queued product, for a run of rows.
type term struct {
	part   int // of product.parts
	lo, hi int // rows
	l      *adapter.Delta
	scale  float32            // the use's times the adapter's own
	use    float32            // the use's
	in     kernel.Activations // (hi-lo, in) rows of Batch.act
	mid    kernel.Activations // (hi-lo, ld) A x, of which rank columns count
}

// piece is the work of one chunk: groups [lo, hi) of ranks of a packed term, or all of one that is not.
type piece struct{ term, lo, hi int }

const (
	// termRows is the number of rows of one term: a prompt's rows are cut so that threads can share them.
	termRows = 32
	// pieceBytes is the number of bytes that a piece reads: some microseconds, so that two threads share the
	// factors of one decoded row.
	pieceBytes = 32 << 10
)

// lowRank computes A x for every adapter of groups and every queued product; product.multiply adds B(A x).
func (s *Batch) lowRank(j *product) {
	w := &s.low
	w.terms, w.pieces = w.terms[:0], w.pieces[:0]
	total := 0
	for _, g := range j.groups {
		for _, u := range g.Uses {
			for i := range j.n {
				l := u.Adapter.Delta(j.parts[i].l.ID)
				if l == nil || u.Scale == 0 && l.Dora == nil {
					continue
				}
				for lo := g.Lo; lo < g.Hi; lo += termRows {
					hi := min(lo+termRows, g.Hi)
					w.terms = append(w.terms, term{part: i, lo: lo, hi: hi, l: l, scale: u.Scale * l.Scale, use: u.Scale})
					if l.A != nil {
						total += (hi - lo) * l.Ld()
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
		n, cols, ld := t.hi-t.lo, s.act.Cols, t.l.Ld()
		t.in = kernel.Activations{Rows: n, Cols: cols, X: s.act.X[t.lo*cols : t.hi*cols]}
		if t.l.A == nil { // B is the whole change
			t.mid = t.in
			continue
		}
		t.mid = kernel.Activations{Rows: n, Cols: ld, X: mid[:n*ld]}
		mid = mid[n*ld:]
		groups, each := 1, 1
		if t.l.Packed() {
			groups = t.l.F.Groups()
			each = max(1, pieceBytes/(2*kernel.LoRAGroup*cols))
		}
		for lo := 0; lo < groups; lo += each {
			w.pieces = append(w.pieces, piece{term: i, lo: lo, hi: min(lo+each, groups)})
		}
	}
	s.Run(len(w.pieces), w)
}

// Do computes one piece in float32, whatever the precision of the weights: the factors are small, and what an adapter
// corrects would be lost in 8 bits.
func (w *lowRank) Do(_, chunk int) {
	p := &w.pieces[chunk]
	t := &w.terms[p.term]
	if t.l.Packed() {
		w.k.LoRADown(t.mid.X, t.mid.Cols, &t.l.F, t.in.X, t.in.Rows, p.lo, p.hi)
		return
	}
	w.s.K.MatMul(t.mid.X, t.l.Rank, t.l.A, &t.in, kernel.Exact, 0, t.l.Rank)
}
