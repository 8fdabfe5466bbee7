package simd

import (
	"encoding/binary"
	"math"
	"unsafe"

	"edged/quant"
	"edged/quant/kernel"
)

// prepareArgs is struct prepare of csrc/args.h.
type prepareArgs struct {
	x, q     unsafe.Pointer
	d, g, gh unsafe.Pointer
	s, sh    unsafe.Pointer
	tw, nb   int
}

// Prepare quantises rows [lo, hi).
func (k *Kernels) Prepare(a *kernel.Activations, p kernel.Precision, lo, hi int) {
	if p != kernel.Fast || a.Cols%32 != 0 || a.Cols == 0 {
		return
	}
	s := k.free.get()
	defer k.free.put(s)
	nb := a.Cols / 32
	_, _, _ = a.Q[a.Rows*a.Cols-1], a.D[4*a.Rows*nb-1], a.S[3*a.Rows*nb-1]
	for t := lo; t < hi; t++ {
		t0 := t &^ (kernel.TokenTile - 1)
		i := t - t0
		s.prepare = prepareArgs{
			x: ptr(a.X[t*a.Cols : (t+1)*a.Cols]), q: ptr(a.Q[t0*a.Cols+i*32:]),
			d: ptr(a.D[t0*nb+i:]), g: ptr(a.D[(a.Rows+t0)*nb+i:]), gh: ptr(a.D[2*(a.Rows+t0)*nb+i:]),
			s: ptr(a.S[t0*nb+i:]), sh: ptr(a.S[(a.Rows+2*t0)*nb+i:]),
			tw: min(kernel.TokenTile, a.Rows-t0), nb: nb,
		}
		k.Set.Prepare(unsafe.Pointer(&s.prepare))
	}
}

// RMSNorm normalises x to y.
func (k *Kernels) RMSNorm(y, x, w []float32, eps float32) {
	n := len(x)
	if n%16 != 0 || w == nil {
		k.Portable.RMSNorm(y, x, w, eps)
		return
	}
	k.Set.RMSNorm(ptr(y[:n]), ptr(x), ptr(w[:n]), n, int(math.Float32bits(eps)))
}

// LayerNorm normalises x to y.
func (k *Kernels) LayerNorm(y, x, w, b []float32, eps float32) {
	n := len(x)
	if n%16 != 0 || w == nil {
		k.Portable.LayerNorm(y, x, w, b, eps)
		return
	}
	if b != nil {
		b = b[:n]
	}
	k.Set.LayerNorm(ptr(y[:n]), ptr(x), ptr(w[:n]), ptr(b), n, int(math.Float32bits(eps)))
}

// Activate sets x = f(x).
func (k *Kernels) Activate(x []float32, f kernel.Func) {
	n := len(x) &^ 15
	k.function(x[:n], nil, f)
	k.Portable.Activate(x[n:], f)
}

// Gate sets gate = f(gate) · up.
func (k *Kernels) Gate(gate, up []float32, f kernel.Func) {
	n := len(gate) &^ 15
	up = up[:len(gate)]
	if n > 0 {
		k.function(gate[:n], ptr(up), f)
	}
	k.Portable.Gate(gate[n:], up[n:], f)
}

// function runs the kernel of f on a multiple of 16 values; without up there is no gate.
func (k *Kernels) function(x []float32, up unsafe.Pointer, f kernel.Func) {
	kind := f.Kind
	if kind >= kernel.FuncKinds {
		kind = kernel.SiLU
	}
	k.Func[kind](ptr(x), up, len(x), int(math.Float32bits(f.A)), int(math.Float32bits(f.B)), int(math.Float32bits(f.C)))
}

// SwiGLU sets gate = silu(gate) · up.
func (k *Kernels) SwiGLU(gate, up []float32) { k.Gate(gate, up, kernel.Func{}) }

// GELU applies the tanh form in place.
func (k *Kernels) GELU(x []float32) { k.Activate(x, kernel.Func{Kind: kernel.GELUTanh}) }

// Rotate applies RoPE in place.
func (k *Kernels) Rotate(x, cos, sin []float32, interleaved bool) {
	n := len(cos)
	switch {
	case n%16 != 0:
		k.Portable.Rotate(x, cos, sin, interleaved)
	case interleaved:
		k.RotatePairs(ptr(x[:2*n]), ptr(cos), ptr(sin[:n]), n)
	default:
		k.Set.Rotate(ptr(x[:n]), ptr(x[n:2*n]), ptr(cos), ptr(sin[:n]), n)
	}
}

// PutKV stores one position.
func (k *Kernels) PutKV(block []byte, t kernel.KVType, slot int, x []float32) {
	n := t.RowBytes(len(x))
	dst := block[slot*n : slot*n+n]
	switch {
	case t == kernel.KVF16 && len(x)%16 == 0:
		k.ToHalf(ptr(dst), ptr(x), len(x))
	case t == kernel.KVQ8 && len(x)%32 == 0:
		s := k.free.get()
		defer k.free.put(s)
		for ; len(x) >= 32; x, dst = x[32:], dst[34:] {
			k.Quantise(ptr(dst[2:34]), ptr(s.unit[:]), ptr(x[:32]))
			binary.LittleEndian.PutUint16(dst, quant.FloatToHalf(s.unit[0]))
		}
	default:
		k.Portable.PutKV(block, t, slot, x)
	}
}

// Attend runs page by page, so that a page's keys and values are read from memory once for all heads.
func (k *Kernels) Attend(dst *kernel.Partial, a *kernel.AttendArgs) {
	dim, vd := a.HeadDim, a.Values()
	if dim%16 != 0 || vd%16 != 0 || a.Type == kernel.KVQ8 && (dim%32 != 0 || vd%32 != 0) || max(dim, vd) > kernel.MaxHeadDim {
		k.Portable.Attend(dst, a)
		return
	}
	sc := k.free.get()
	defer k.free.put(sc)
	m, l := dst.M[:a.Group], dst.L[:a.Group]
	o, q := dst.O[:a.Group*vd], a.Q[:a.Group*dim]
	for g := range m {
		m[g], l[g] = float32(math.Inf(-1)), 0
	}
	clear(o)
	row, vrow, vOff := a.Type.RowBytes(dim), a.Type.RowBytes(vd), a.VOff
	if a.Latent {
		vrow, vOff = row, a.KOff
	}
	// Two or three heads beside the fours are taken as four, the last of them of zeros: as fast as one.
	four, rest := k.Scores4[a.Type] != nil, a.Group%4
	at := a.Group - rest
	pad := four && rest > 1
	if pad {
		clear(sc.padQ[:4*dim])
		copy(sc.padQ[:], q[at*dim:])
		clear(sc.padO[:4*vd])
		copy(sc.padM[:], m[at:])
		copy(sc.padL[:], l[at:])
		for i := rest; i < 4; i++ {
			sc.padM[i], sc.padL[i] = 0, 0
		}
	}
	pg := pageArgs{a: a, dim: dim, vd: vd, row: row, vrow: vrow}
	pg.adjusted = a.SoftCap != 0 || a.Slopes != nil || a.Bias != nil
	for pos := a.Lo; pos < a.Hi; {
		lo := pos % kernel.BlockPositions
		n := min(kernel.BlockPositions-lo, a.Hi-pos)
		page := int(a.Pages[pos/kernel.BlockPositions]) * a.PageBytes
		pg.pos, pg.lo, pg.n = pos, lo, n
		pg.keys = a.Arena[page+a.KOff+lo*row : page+a.KOff+(lo+n)*row]
		pg.values = a.Arena[page+vOff+lo*vrow : page+vOff+(lo+n)*vrow]
		pg.nextKeys, pg.nextValues = pg.keys, pg.values
		if i := pos/kernel.BlockPositions + 1; i < len(a.Pages) {
			next := int(a.Pages[i]) * a.PageBytes
			pg.nextKeys, pg.nextValues = a.Arena[next+a.KOff:], a.Arena[next+vOff:]
		}
		g := 0
		if four {
			for ; g+4 <= a.Group; g += 4 {
				k.fourHeads(sc, &pg, g, 4, q[g*dim:(g+4)*dim], m[g:g+4], l[g:g+4], o[g*vd:(g+4)*vd])
			}
		}
		if pad {
			k.fourHeads(sc, &pg, at, rest, sc.padQ[:4*dim], sc.padM[:], sc.padL[:], sc.padO[:4*vd])
			g = a.Group
		}
		for ; g < a.Group; g += maxGroup {
			h := min(g+maxGroup, a.Group)
			k.heads(sc, &pg, g, q[g*dim:h*dim], m[g:h], l[g:h], o[g*vd:h*vd])
		}
		pos += n
	}
	if pad {
		copy(m[at:], sc.padM[:rest])
		copy(l[at:], sc.padL[:rest])
		copy(o[at*vd:], sc.padO[:rest*vd])
	}
}

// pageArgs is the visible part of a page.
type pageArgs struct {
	a            *kernel.AttendArgs
	keys, values []byte
	dim, row     int // of keys; row: bytes of a position
	vd, vrow     int // of values
	pos          int // the first position
	lo, n        int
	adjusted     bool // scores are capped, or something is added

	nextKeys, nextValues []byte // of the sequence's next page, to be prefetched
}

// fourHeads attends with four heads at once, of which real ones from head g on are the group's.
func (k *Kernels) fourHeads(s *scratch, p *pageArgs, g, real int, q, m, l, o []float32) {
	w, kind := &s.weights, p.a.Type
	k.Scores4[kind](ptr(w[0][p.lo:]), ptr(q), ptr(p.keys), p.dim, p.n, p.row, ptr(p.nextKeys))
	if p.adjusted {
		for h := range real {
			k.adjust(&w[h], p, g+h)
		}
	}
	k.Weigh4(ptr(w[:5]), ptr(m[:4]), ptr(l[:4]), ptr(o[:4*p.vd]), p.vd, p.lo, p.lo+p.n)
	k.Mix4[kind](ptr(o), ptr(w[0][p.lo:]), ptr(p.values), p.vd, p.n, p.vrow, ptr(p.nextValues))
}

// adjust caps the scores of head g and adds what is added to them. All 32 places are computed; those that are
// not visible get no weight.
func (k *Kernels) adjust(w *[kernel.BlockPositions]float32, p *pageArgs, g int) {
	a, slope := p.a, float32(0)
	if a.Slopes != nil {
		slope = a.Slopes[g]
	}
	if a.SoftCap != 0 || slope != 0 {
		k.Adjust(ptr(w[:]), int(math.Float32bits(a.SoftCap)), int(math.Float32bits(slope)), p.pos-p.lo-a.Pos)
	}
	a.AddBias(w[p.lo:p.lo+p.n], g, p.pos)
}

// Combine merges the state of a later span.
func (k *Kernels) Combine(dst, src *kernel.Partial) {
	dim := len(dst.O) / max(len(dst.M), 1)
	if k.Set.Combine == nil || dim%16 != 0 {
		k.Portable.Combine(dst, src)
		return
	}
	for g := range dst.M {
		if x, y, both := kernel.CombineHead(dst, src, g); both {
			k.Set.Combine(ptr(dst.O[g*dim:(g+1)*dim]), ptr(src.O[g*dim:(g+1)*dim]), dim, int(math.Float32bits(x)), int(math.Float32bits(y)))
		}
	}
}

// heads attends with up to maxGroup heads one by one, from head g of the group on, for which keys and values
// become float32 once.
func (k *Kernels) heads(s *scratch, p *pageArgs, g int, q, m, l, o []float32) {
	w, kind, vd := &s.weights, p.a.Type, p.vd
	key := k.decode(s, kind, p.keys, p.n*p.dim)
	for h := range m {
		k.Scores(ptr(w[h][p.lo:]), ptr(q[h*p.dim:(h+1)*p.dim]), key, p.dim, p.n)
		if p.adjusted {
			k.adjust(&w[h], p, g+h)
		}
		k.Weigh(ptr(w[h][:]), ptr(m[h:]), ptr(l[h:]), ptr(o[h*vd:(h+1)*vd]), vd, p.lo, p.lo+p.n)
	}
	val, stride := key, p.dim
	if !p.a.Latent {
		val, stride = k.decode(s, kind, p.values, p.n*vd), vd
	}
	for h := range m {
		k.Mix(ptr(o[h*vd:(h+1)*vd]), ptr(w[h][p.lo:]), val, vd, p.n, stride)
	}
}

// decode returns n cached numbers as float32: where they are, or in scratch.
func (k *Kernels) decode(s *scratch, t kernel.KVType, src []byte, n int) unsafe.Pointer {
	switch t {
	case kernel.KVF32:
		return ptr(src)
	case kernel.KVF16:
		k.FromHalf(ptr(s.page[:n]), ptr(src), n)
	default:
		k.FromQ8(ptr(s.page[:n]), ptr(src), n)
	}
	return ptr(s.page[:n])
}
