// Package simd cuts calls of kernel.Kernels into pieces that vector kernels take, and leaves what they do not do to
// portable Go. A set of kernels is one instruction set's compilation of quant/kernel/csrc.
//
// It must not know instruction sets, models or threads.
package simd

import (
	"encoding/binary"
	"unsafe"

	"edged/quant"
	"edged/quant/kernel"
)

// MatMul runs rows in groups of Lanes. A last group that is not full begins earlier and computes some rows
// twice, to the same bits; fewer rows in all are left to portable Go.
func (k *Kernels) MatMul(y []float32, ldy int, w *quant.Matrix, a *kernel.Activations, p kernel.Precision, lo, hi int) {
	if p == kernel.Fast && hi-lo >= k.Lanes && k.takes(w) && (a.Rows >= leastUnpacked || k.Pack[w.Format] != nil) {
		k.fast(y, ldy, w, a, lo, hi)
		return
	}
	if p == kernel.Exact || !kernel.Quantised(w) {
		k.floats(y, ldy, w, a, lo, hi)
		return
	}
	k.Portable.MatMul(y, ldy, w, a, p, lo, hi)
}

// leastUnpacked is how many tokens must share a panel that portable Go makes, of formats without a kernel
// that does: one token alone is multiplied as fast by portable Go wholly.
const leastUnpacked = 4

// takes tells whether there is a kernel for w.
func (k *Kernels) takes(w *quant.Matrix) bool {
	if k.Pack[w.Format] == nil {
		_, ok := kernel.Unpacks(w)
		return ok
	}
	if !kernel.Quantised(w) {
		return false
	}
	if !w.Format.IsBnB() {
		return true
	}
	return takesBnB(w)
}

// fast runs rows [lo, hi), at least Lanes.
func (k *Kernels) fast(y []float32, ldy int, w *quant.Matrix, a *kernel.Activations, lo, hi int) {
	s := k.free.get()
	defer k.free.put(s)
	s.setTable(w, k.Bias)
	full := lo + (hi-lo)/k.Lanes*k.Lanes
	single := a.Rows == 1 && k.Gemv[w.Format] != nil && w.Cols <= maxVectorCols
	k.rows(s, single, y, ldy, w, a, lo, full)
	if full < hi {
		k.rows(s, single, y, ldy, w, a, hi-k.Lanes, hi)
	}
}

// rows runs a multiple of Lanes rows.
func (k *Kernels) rows(s *scratch, single bool, y []float32, ldy int, w *quant.Matrix, a *kernel.Activations, lo, hi int) {
	switch {
	case !single && a.Rows <= k.FewTokens && k.tiled(w, lo) && k.FewTiles[w.Format][0] != nil:
		k.few(s, y, ldy, w.Tile.Data, k.tileGroup(w), &k.FewTiles[w.Format], w, a, lo, hi)
	case !single && a.Rows <= k.FewTokens && !k.tiled(w, lo) && k.Few[w.Format][0] != nil:
		k.few(s, y, ldy, w.Data, k.Lanes*w.Format.RowBytes(w.Cols), &k.Few[w.Format], w, a, lo, hi)
	case !single:
		k.panels(s, y, ldy, w, a, lo, hi)
	case k.tiled(w, lo):
		k.vectorTiles(s, y, w, a, lo, hi)
	case w.Format.IsBnB():
		k.vectorBnB(s, y, w, a, lo, hi)
	default:
		k.vector(s, y, w, a, lo, hi)
	}
}

// kernelBytes bounds the weights of one kernel call: assembly cannot be preempted, and should return within some 50 µs.
const kernelBytes = 512 << 10

// maxVectorCols bounds a row for Gemv kernels, which may prepare the token in their buf: vectorFloats, and 4
// for each block.
const (
	vectorFloats  = 32 * maxLanes
	maxVectorCols = (panelRows*panelCols/2 - vectorFloats) / 4 * 32
)

// vector multiplies stored rows with one token; hi-lo is a multiple of Lanes.
func (k *Kernels) vector(s *scratch, y []float32, w *quant.Matrix, a *kernel.Activations, lo, hi int) {
	stride := w.Format.RowBytes(w.Cols)
	nb := w.Cols / 32
	step := max(kernelBytes/(stride*k.Lanes), 1) * k.Lanes
	for r := lo; r < hi; r += step {
		n := min(step, hi-r)
		s.gemv = gemvArgs{
			y: ptr(y[r : r+n]), w: ptr(w.Data[r*stride : (r+n)*stride]),
			q: ptr(a.Q[:w.Cols]), d: ptr(a.D[:nb]), g: ptr(a.D[nb : 2*nb]), c: ptr(a.S[:nb]), h: ptr(a.S[nb : 3*nb]),
			table: ptr(s.table[:]), stride: stride, nb: nb, groups: n / k.Lanes, buf: ptr(s.floats[:]),
		}
		k.Gemv[w.Format](unsafe.Pointer(&s.gemv))
	}
}

// tiled tells whether the rows from lo on are to be read from tiles.
func (k *Kernels) tiled(w *quant.Matrix, lo int) bool {
	return w.Tile.Rows == k.Lanes && lo%k.Lanes == 0 && k.Tile[w.Format] != nil
}

// tileGroup returns the number of bytes that Lanes rows of a tile take.
func (k *Kernels) tileGroup(w *quant.Matrix) int { return len(w.Tile.Data) / (w.Rows / k.Lanes) }

// vectorTiles multiplies tiles with one token; lo and hi are multiples of Lanes.
func (k *Kernels) vectorTiles(s *scratch, y []float32, w *quant.Matrix, a *kernel.Activations, lo, hi int) {
	nb := w.Cols / 32
	group := k.tileGroup(w)
	q := a.Q[:w.Cols]
	if w.Format.IsBnB() {
		k.EvenOdd(ptr(s.code[:w.Cols]), ptr(q), w.Cols)
		q = s.code[:w.Cols]
	}
	step := max(kernelBytes/group, 1) * k.Lanes
	for r := lo; r < hi; r += step {
		n := min(step, hi-r)
		s.gemv = gemvArgs{
			y: ptr(y[r : r+n]), w: ptr(w.Tile.Data[r/k.Lanes*group : (r+n)/k.Lanes*group]),
			q: ptr(q), d: ptr(a.D[:nb]), g: ptr(a.D[nb : 2*nb]), c: ptr(a.S[:nb]), h: ptr(a.S[nb : 3*nb]),
			table: ptr(s.table[:]), nb: nb, groups: n / k.Lanes, buf: ptr(s.buf[:]),
		}
		k.Tile[w.Format](unsafe.Pointer(&s.gemv))
	}
}

// few multiplies rows or tiles, data with so many bytes a group of Lanes rows, with some tokens; lo and hi
// are multiples of Lanes from each other, and in tiles from 0. What fits the second-level cache meets all
// tiles of tokens before the next rows.
func (k *Kernels) few(
	s *scratch,
	y []float32,
	ldy int,
	data []byte,
	group int,
	few *[5]Args,
	w *quant.Matrix,
	a *kernel.Activations,
	lo, hi int,
) {
	nb := w.Cols / 32
	step := max(fewBytes/group, 1) * k.Lanes
	for r := lo; r < hi; r += step {
		n := min(step, hi-r)
		from := r * group / k.Lanes // rows are equally long, so that this is exact
		for t := 0; t < a.Rows; t += kernel.TokenTile {
			k.fewTile(s, y[r:], ldy, data[from:from+n/k.Lanes*group], few, a, t, nb, group/k.Lanes, n/k.Lanes)
		}
	}
}

// fewBytes bounds the rows that meet a tile of tokens at once.
const fewBytes = 128 << 10

// fewTile multiplies groups of rows with the tile of tokens that begins at t: 8, 4, 3, 2 or 1 of them at once.
func (k *Kernels) fewTile(s *scratch, y []float32, ldy int, rows []byte, few *[5]Args, a *kernel.Activations, t, nb, stride, groups int) {
	tw := min(kernel.TokenTile, a.Rows-t)
	_ = y[(t+tw-1)*ldy+groups*k.Lanes-1]
	for i := 0; i < tw; {
		n, kern := 8, few[4]
		for at := 3; n > tw-i || kern == nil; at-- {
			n, kern = at+1, few[at]
		}
		s.few = fewArgs{
			y: ptr(y[(t+i)*ldy:]), ldy: ldy, w: ptr(rows), q: ptr(a.Q[t*nb*32+i*32:]), d: ptr(a.D[t*nb+i:]), g: ptr(a.D[(a.Rows+t)*nb+i:]),
			c: ptr(a.S[t*nb+i:]), h: ptr(a.S[(a.Rows+2*t)*nb+i:]), stride: stride, tw: tw, nb: nb, groups: groups, buf: ptr(s.buf[:]),
		}
		kern(unsafe.Pointer(&s.few))
		i += n
	}
}

// panels packs up to panelRows × panelCols weights at a time and multiplies them with all tokens; hi-lo is a
// multiple of Lanes. y holds the running sums from one panel to the next. The tiles of the next panel are
// prefetched meanwhile.
func (k *Kernels) panels(s *scratch, y []float32, ldy int, w *quant.Matrix, a *kernel.Activations, lo, hi int) {
	v := k.variantOf(w.Format)
	nb := w.Cols / 32
	gemm := &k.Gemm[v]
	direct := k.tiled(w, lo) && k.Multiply[w.Format][0] != nil
	if direct {
		gemm = &k.Multiply[w.Format]
	}
	for r := lo; r < hi; r += panelRows {
		groups := (min(r+panelRows, hi) - r) / k.Lanes
		for b := 0; b < nb; b += panelCols / 32 {
			n := min(panelCols/32, nb-b)
			for g := range groups {
				if direct {
					s.panels[g] = k.tilesOf(w, r+g*k.Lanes, b, n)
				} else {
					s.panels[g] = k.packGroup(s, w, r+g*k.Lanes, b, n, g)
					k.turnPanel(s.panels[g])
				}
			}
			for g := range groups {
				s.next[g] = k.nextPanel(w, r+g*k.Lanes, b, n, hi)
			}
			for t := 0; t < a.Rows; t += kernel.TokenTile {
				k.turnTokens(s, a, t, b, n, nb)
				for g := range groups {
					k.tile(s, gemm, y[t*ldy+r+g*k.Lanes:], ldy, a, t, b, n, nb, g)
				}
			}
		}
	}
}

// turnPanel brings a panel to the order of the products, where that is another.
func (k *Kernels) turnPanel(panel []byte) {
	if k.TurnPanel != nil {
		k.TurnPanel(ptr(panel), len(panel)/(8*k.Lanes))
	}
}

// turnTokens does it with blocks [b, b+n) of nb of the tile of tokens that begins at t, in s.code.
func (k *Kernels) turnTokens(s *scratch, a *kernel.Activations, t, b, n, nb int) {
	if k.TurnTokens == nil {
		return
	}
	tw := min(kernel.TokenTile, a.Rows-t)
	k.TurnTokens(ptr(s.code[:n*tw*32]), ptr(a.Q[(t*nb+b*tw)*32:(t*nb+(b+n)*tw)*32]), n, tw)
}

// nextPanel returns the bytes that packGroup will read next in place of blocks [b, b+n) of the rows from r on;
// nil: nothing, or rows.
func (k *Kernels) nextPanel(w *quant.Matrix, r, b, n, hi int) []byte {
	if !k.tiled(w, r) {
		return nil
	}
	nb := w.Cols / 32
	if b += n; b >= nb {
		r, b = r+panelRows, 0
	}
	if r >= hi {
		return nil
	}
	return k.tilesOf(w, r, b, min(panelCols/32, nb-b))
}

// tilesOf are the tiles of blocks [b, b+n) of Lanes rows from r on.
func (k *Kernels) tilesOf(w *quant.Matrix, r, b, n int) []byte {
	nb := w.Cols / 32
	block := k.tileGroup(w) / nb
	in := (r/k.Lanes*nb + b) * block
	return w.Tile.Data[in : in+n*block]
}

// packGroup packs blocks [b, b+n) of Lanes rows from r on as group g of the panel, and returns that.
func (k *Kernels) packGroup(s *scratch, w *quant.Matrix, r, b, n, g int) []byte {
	size := 32 * k.Lanes
	if k.variantOf(w.Format) == TwoPart {
		size *= 2
	}
	at := g * (panelCols / 32)
	panel := s.panel[at*size : (at+n)*size]
	if k.tiled(w, r) {
		s.pack = packArgs{
			w: ptr(panel), s: ptr(s.s[at*k.Lanes : (at+n)*k.Lanes]), m: ptr(s.m[at*k.Lanes : (at+n)*k.Lanes]),
			in: ptr(k.tilesOf(w, r, b, n)), table: ptr(s.table[:]), nb: n, buf: ptr(s.buf[:]),
		}
		k.Panel[w.Format](unsafe.Pointer(&s.pack))
		return panel
	}
	if k.Pack[w.Format] == nil {
		k.unpackGroup(s, w, r, b, n, at, panel)
		return panel
	}
	if w.Format.IsBnB() {
		k.fillScales(s, w, r, 1)
		s.pack = packArgs{
			w: ptr(s.panel[at*size : (at+n)*size]), s: ptr(s.s[at*k.Lanes : (at+n)*k.Lanes]),
			in: ptr(w.Data[(r*w.Cols+b*32)/2:]), table: ptr(s.table[:]), scales: ptr(s.bnb[b/2*k.Lanes:]),
			stride: w.Cols / 2, nb: n, buf: ptr(s.buf[:]),
		}
		k.Pack[w.Format](unsafe.Pointer(&s.pack))
		return panel
	}
	stride := w.Format.RowBytes(w.Cols)
	in := r*stride + b*32/w.Format.BlockSize()*w.Format.BlockBytes()
	s.pack = packArgs{
		w: ptr(s.panel[at*size : (at+n)*size]), s: ptr(s.s[at*k.Lanes : (at+n)*k.Lanes]), m: ptr(s.m[at*k.Lanes : (at+n)*k.Lanes]),
		in: ptr(w.Data[in:]), table: ptr(s.table[:]), stride: stride, nb: n, buf: ptr(s.buf[:]),
	}
	k.Pack[w.Format](unsafe.Pointer(&s.pack))
	return panel
}

// unpackGroup is packGroup in portable Go, to panel and the scales from block at on: it costs some
// nanoseconds a weight, which all tokens share.
func (k *Kernels) unpackGroup(s *scratch, w *quant.Matrix, r, b, n, at int, panel []byte) {
	var (
		v      [256]int16
		scales [8]float32
	)
	two := k.variantOf(w.Format) == TwoPart
	size := 32 * k.Lanes // of a part of a block
	u := kernel.NewUnpacker(w)
	bias := uint32(k.Bias) * 0x01010101
	for lane := range k.Lanes {
		for b0 := 0; b0 < n; b0 += 8 {
			m := min(8, n-b0)
			u.Blocks(&v, &scales, r+lane, b+b0, m)
			for i := range m {
				s.s[(at+b0+i)*k.Lanes+lane] = scales[i]
				block := v[32*i : 32*i+32]
				if !two {
					to := panel[(b0+i)*size+4*lane:]
					for c := range 8 {
						binary.LittleEndian.PutUint32(to[c*4*k.Lanes:], four(block[4*c], block[4*c+1], block[4*c+2], block[4*c+3])^bias)
					}
					continue
				}
				to := panel[(b0+i)*2*size+4*lane:]
				for c := range 8 {
					x0, x1, x2, x3 := block[4*c], block[4*c+1], block[4*c+2], block[4*c+3]
					h0, h1, h2, h3 := (x0+64)>>7, (x1+64)>>7, (x2+64)>>7, (x3+64)>>7
					binary.LittleEndian.PutUint32(to[c*4*k.Lanes:], four(h0, h1, h2, h3)^bias)
					binary.LittleEndian.PutUint32(to[size+c*4*k.Lanes:], four(x0-h0<<7, x1-h1<<7, x2-h2<<7, x3-h3<<7)^bias)
				}
			}
		}
	}
}

// four puts four bytes into a word.
func four(a, b, c, d int16) uint32 {
	return uint32(uint8(a)) | uint32(uint8(b))<<8 | uint32(uint8(c))<<16 | uint32(uint8(d))<<24
}

// tile multiplies group g of the panel, blocks [b, b+n) of nb, with the tile of tokens that begins at t.
func (k *Kernels) tile(s *scratch, gemm *[4]Args, y []float32, ldy int, a *kernel.Activations, t, b, n, nb, g int) {
	tw := min(kernel.TokenTile, a.Rows-t)
	at := g * (panelCols / 32)
	_ = y[(tw-1)*ldy+k.Lanes-1]
	// One by one: a literal is made on the stack and copied, and the copy waits for its parts, 5 % of a
	// prompt's time with short rows.
	c := &s.gemm
	c.ldy, c.tw, c.nb = ldy, tw, n
	c.w, c.s, c.m = ptr(s.panels[g]), ptr(s.s[at*k.Lanes:(at+n)*k.Lanes]), ptr(s.m[at*k.Lanes:(at+n)*k.Lanes])
	c.x, c.ldx, c.ahead = ptr(s.zeros[:]), 0, ptr(s.panel[:])
	if next := s.next[g]; len(next) > 0 {
		// 64 bytes a block: in as many calls as it takes.
		c.ahead = ptr(next)
		s.next[g] = next[min(64*n, len(next)):]
	}
	for i := 0; i < tw; {
		// 8, 4, 2 or 1 tokens at once.
		size := len(gemm) - 1
		for 1<<size > tw-i || gemm[size] == nil {
			size--
		}
		at := t*nb + b*tw + i
		c.y = ptr(y[i*ldy:])
		if b > 0 {
			c.x, c.ldx = c.y, ldy
		}
		c.q = ptr(a.Q[at*32:])
		if k.TurnTokens != nil && size > 0 {
			c.q = ptr(s.code[i*32:])
		}
		c.d = ptr(a.D[at:])
		c.g = ptr(a.D[a.Rows*nb+at:])
		c.c = ptr(a.S[at:])
		gemm[size](unsafe.Pointer(c))
		i += 1 << size
	}
}

// ptr is a slice's first element.
func ptr[T any](s []T) unsafe.Pointer { return unsafe.Pointer(unsafe.SliceData(s)) }

// Sum reads p and adds up its 64-bit words: the limit of what a matrix × vector product can reach.
func (k *Kernels) Sum(p []byte) int64 {
	var total int64
	s := k.free.get()
	defer k.free.put(s)
	for len(p) >= 256 {
		n := min(len(p), kernelBytes) &^ 255
		s.word[0] = 0
		k.SumBytes(ptr(p), n, ptr(s.word[:]))
		total += s.word[0]
		p = p[n:]
	}
	return total
}

// variantOf returns the kind of panel that a format is packed to.
func (k *Kernels) variantOf(f quant.Format) Variant {
	small := k.Gemm[Small][0] != nil
	switch f {
	case quant.Q4_0:
		if small {
			return Small
		}
		return Plain
	case quant.Q4_1, quant.Q4_K:
		if small {
			return SmallOffsets
		}
		return Offsets
	case quant.Q5_1, quant.Q5_K:
		return Offsets
	case quant.Q6_K, quant.NF4, quant.FP4, quant.IQ2_XS, quant.IQ2_S, quant.Q3_K, quant.Group8:
		return TwoPart
	default:
		return Plain
	}
}
