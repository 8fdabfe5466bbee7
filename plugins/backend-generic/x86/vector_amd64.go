//go:build !purego

package x86

import (
	"encoding/binary"
	"math"
	"unsafe"

	"edged/quant"
	"edged/quant/kernel"
)

// prepareArgs is struct prepare of csrc/panel.h.
type prepareArgs struct {
	x, q     unsafe.Pointer
	d, g, gh unsafe.Pointer
	s, sh    unsafe.Pointer
	tw, nb   int
}

// Prepare quantises rows [lo, hi).
func (k *simd) Prepare(a *kernel.Activations, p kernel.Precision, lo, hi int) {
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
		k.prepare(unsafe.Pointer(&s.prepare))
	}
}

// RMSNorm normalises x to y.
func (k *simd) RMSNorm(y, x, w []float32, eps float32) {
	n := len(x)
	k.rmsNorm(ptr(y[:n]), ptr(x), ptr(w[:n]), n, int(math.Float32bits(eps)))
}

// LayerNorm normalises x to y.
func (k *simd) LayerNorm(y, x, w, b []float32, eps float32) {
	n := len(x)
	if b != nil {
		b = b[:n]
	}
	k.layerNorm(ptr(y[:n]), ptr(x), ptr(w[:n]), ptr(b), n, int(math.Float32bits(eps)))
}

// SwiGLU sets gate = silu(gate) · up.
func (k *simd) SwiGLU(gate, up []float32) { k.swiglu(ptr(gate), ptr(up[:len(gate)]), len(gate)) }

// GELU applies the tanh form in place.
func (k *simd) GELU(x []float32) { k.gelu(ptr(x), len(x)) }

// Rotate applies RoPE in place.
func (k *simd) Rotate(x, cos, sin []float32, interleaved bool) {
	n := len(cos)
	if interleaved {
		k.rotatePairs(ptr(x[:2*n]), ptr(cos), ptr(sin[:n]), n)
		return
	}
	k.rotate(ptr(x[:n]), ptr(x[n:2*n]), ptr(cos), ptr(sin[:n]), n)
}

// PutKV stores one position.
func (k *simd) PutKV(block []byte, t kernel.KVType, slot int, x []float32) {
	n := t.RowBytes(len(x))
	dst := block[slot*n : slot*n+n]
	switch t {
	case kernel.KVF16:
		k.toHalf(ptr(dst), ptr(x), len(x))
	case kernel.KVQ8:
		s := k.free.get()
		defer k.free.put(s)
		for ; len(x) >= 32; x, dst = x[32:], dst[34:] {
			k.quantise(ptr(dst[2:34]), ptr(s.unit[:]), ptr(x[:32]))
			binary.LittleEndian.PutUint16(dst, quant.FloatToHalf(s.unit[0]))
		}
	default:
		k.Portable.PutKV(block, t, slot, x)
	}
}

// Attend runs page by page and head by head: a page of one KV head stays in the first-level cache for the whole group.
func (k *simd) Attend(dst *kernel.Partial, a *kernel.AttendArgs) {
	dim := a.HeadDim
	if dim%16 != 0 || a.Type == kernel.KVQ8 && dim%32 != 0 {
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
	scores, mix := k.scores[a.Type], k.mix[a.Type]
	p := &sc.weights
	for pos := a.Lo; pos < a.Hi; {
		lo := pos % kernel.BlockPositions
		n := min(kernel.BlockPositions-lo, a.Hi-pos)
		page := int(a.Pages[pos/kernel.BlockPositions]) * a.PageBytes
		key := a.Arena[page+a.KOff+lo*row : page+a.KOff+(lo+n)*row]
		val := a.Arena[page+a.VOff+lo*row : page+a.VOff+(lo+n)*row]
		for g := range m {
			out := ptr(o[g*dim : (g+1)*dim])
			scores(ptr(p[lo:]), ptr(q[g*dim:(g+1)*dim]), ptr(key), dim, n, row)
			k.weigh(ptr(p[:]), ptr(m[g:]), ptr(l[g:]), out, dim, lo, lo+n)
			mix(out, ptr(p[lo:]), ptr(val), dim, n, row)
		}
		pos += n
	}
}
