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
	if n%16 != 0 {
		k.Portable.RMSNorm(y, x, w, eps)
		return
	}
	k.Set.RMSNorm(ptr(y[:n]), ptr(x), ptr(w[:n]), n, int(math.Float32bits(eps)))
}

// LayerNorm normalises x to y.
func (k *Kernels) LayerNorm(y, x, w, b []float32, eps float32) {
	n := len(x)
	if n%16 != 0 {
		k.Portable.LayerNorm(y, x, w, b, eps)
		return
	}
	if b != nil {
		b = b[:n]
	}
	k.Set.LayerNorm(ptr(y[:n]), ptr(x), ptr(w[:n]), ptr(b), n, int(math.Float32bits(eps)))
}

// SwiGLU sets gate = silu(gate) · up.
func (k *Kernels) SwiGLU(gate, up []float32) {
	n := len(gate) &^ 15
	k.Set.SwiGLU(ptr(gate), ptr(up[:len(gate)]), n)
	k.Portable.SwiGLU(gate[n:], up[n:])
}

// GELU applies the tanh form in place.
func (k *Kernels) GELU(x []float32) {
	n := len(x) &^ 15
	k.Set.GELU(ptr(x), n)
	k.Portable.GELU(x[n:])
}

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
	case t == kernel.KVQ8:
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

// Attend runs page by page. A page's keys or values become float32 once for the whole group of heads: 32 positions of 64
// are 8 KB, which stay in the first-level cache.
func (k *Kernels) Attend(dst *kernel.Partial, a *kernel.AttendArgs) {
	dim := a.HeadDim
	if dim%16 != 0 || a.Type == kernel.KVQ8 && dim%32 != 0 || dim > kernel.MaxHeadDim {
		k.Portable.Attend(dst, a)
		return
	}
	sc := k.free.get()
	defer k.free.put(sc)
	m, l := dst.M[:a.Group], dst.L[:a.Group]
	o, q := dst.O[:a.Group*dim], a.Q[:a.Group*dim]
	for g := range m {
		m[g], l[g] = float32(math.Inf(-1)), 0
	}
	clear(o)
	row := a.Type.RowBytes(dim)
	for pos := a.Lo; pos < a.Hi; {
		lo := pos % kernel.BlockPositions
		n := min(kernel.BlockPositions-lo, a.Hi-pos)
		page := int(a.Pages[pos/kernel.BlockPositions]) * a.PageBytes
		key := k.decode(sc, a.Type, a.Arena[page+a.KOff+lo*row:page+a.KOff+(lo+n)*row], n*dim)
		for g := range m {
			p := &sc.weights[g%maxGroup]
			k.Scores(ptr(p[lo:]), ptr(q[g*dim:(g+1)*dim]), key, dim, n)
			k.Weigh(ptr(p[:]), ptr(m[g:]), ptr(l[g:]), ptr(o[g*dim:(g+1)*dim]), dim, lo, lo+n)
			if g%maxGroup < maxGroup-1 && g < a.Group-1 {
				continue
			}
			// The values of up to maxGroup heads, whose weights are known now.
			val := k.decode(sc, a.Type, a.Arena[page+a.VOff+lo*row:page+a.VOff+(lo+n)*row], n*dim)
			for h := g / maxGroup * maxGroup; h <= g; h++ {
				k.Mix(ptr(o[h*dim:(h+1)*dim]), ptr(sc.weights[h%maxGroup][lo:]), val, dim, n)
			}
			if g < a.Group-1 {
				key = k.decode(sc, a.Type, a.Arena[page+a.KOff+lo*row:page+a.KOff+(lo+n)*row], n*dim)
			}
		}
		pos += n
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
