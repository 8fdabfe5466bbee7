package kernel

import (
	"encoding/binary"
	"math"

	"edged/quant"
)

// RowBytes is the size of one position of a sub-block: headDim values of type t. Where 32 does not divide
// them, the last block of KVQ8 is filled up with zeros.
func (t KVType) RowBytes(headDim int) int {
	switch t {
	case KVF32:
		return 4 * headDim
	case KVF16:
		return 2 * headDim
	default:
		return (headDim + 31) / 32 * 34
	}
}

// PutKV rounds x to t. A q8_0 block is quantised as an activation block is, with its scale rounded to float16
// afterwards.
func (Portable) PutKV(block []byte, t KVType, slot int, x []float32) {
	n := t.RowBytes(len(x))
	dst := block[slot*n : slot*n+n]
	switch t {
	case KVF32:
		for i, v := range x {
			binary.LittleEndian.PutUint32(dst[4*i:], math.Float32bits(v))
		}
	case KVF16:
		for i, v := range x {
			binary.LittleEndian.PutUint16(dst[2*i:], quant.FloatToHalf(v))
		}
	default:
		var q [32]int8
		for i := 0; i < len(x); i += 32 {
			var b [32]float32
			copy(b[:], x[i:])
			d := quantise(&q, &b)
			binary.LittleEndian.PutUint16(dst, quant.FloatToHalf(d))
			for j, v := range q {
				dst[2+j] = byte(v)
			}
			dst = dst[34:]
		}
	}
}

// loadKV decodes one position, exactly.
func loadKV(dst []float32, t KVType, src []byte) {
	switch t {
	case KVF32:
		src = src[:4*len(dst)]
		for i := range dst {
			dst[i] = math.Float32frombits(binary.LittleEndian.Uint32(src[4*i:]))
		}
	case KVF16:
		src = src[:2*len(dst)]
		for i := range dst {
			dst[i] = quant.HalfToFloat(binary.LittleEndian.Uint16(src[2*i:]))
		}
	default:
		for ; len(dst) > 0; src = src[34:] {
			p := (*[34]byte)(src)
			d, n := half(p[0], p[1]), min(32, len(dst))
			for i := range n {
				dst[i] = d * float32(int8(p[2+i]))
			}
			dst = dst[n:]
		}
	}
}

// headBatch is the number of query heads for which Attend decodes a key or value once.
const headBatch = 8

// Attend computes one span, headBatch heads at a time.
func (Portable) Attend(dst *Partial, a *AttendArgs) {
	for g := 0; g < a.Group; g += headBatch {
		attendHeads(dst, a, g, min(g+headBatch, a.Group))
	}
}

// attendHeads does heads [g0, g1), at most headBatch.
func attendHeads(dst *Partial, a *AttendArgs, g0, g1 int) {
	var (
		row [MaxHeadDim]float32
		p   [headBatch][BlockPositions]float32
	)
	dim, vd := a.HeadDim, a.Values()
	n := a.Type.RowBytes(dim)
	vn, vOff := a.Type.RowBytes(vd), a.VOff
	if a.Latent {
		vn, vOff = n, a.KOff
	}
	m, l := dst.M[g0:g1], dst.L[g0:g1]
	q, o := a.Q[g0*dim:g1*dim], dst.O[g0*vd:g1*vd]
	for g := range m {
		m[g], l[g] = float32(math.Inf(-1)), 0
	}
	clear(o)
	for pos := a.Lo; pos < a.Hi; {
		lo := pos % BlockPositions
		hi := min(BlockPositions, lo+a.Hi-pos)
		page := int(a.Pages[pos/BlockPositions]) * a.PageBytes
		k, v := a.Arena[page+a.KOff:], a.Arena[page+vOff:]
		key, value := row[:dim], row[:vd]
		for s := lo; s < hi; s++ {
			loadKV(key, a.Type, k[s*n:s*n+n])
			for g := range m {
				p[g][s] = sum16(q[g*dim:g*dim+dim], key)
			}
		}
		for g := range m {
			a.adjust(p[g][lo:hi], g0+g, pos)
			weigh(&p[g], lo, hi, &m[g], &l[g], o[g*vd:g*vd+vd])
		}
		for s := lo; s < hi; s++ {
			loadKV(value, a.Type, v[s*vn:s*vn+vn])
			for g := range m {
				axpy(o[g*vd:g*vd+vd], p[g][s], value)
			}
		}
		pos += hi - lo
	}
}

// adjust caps the scores p of head g at positions from pos on, then adds the slope, then the bias:
// SoftCap·Tanh(s/SoftCap), fma(slope, p - Pos, s), s + bias.
func (a *AttendArgs) adjust(p []float32, g, pos int) {
	if a.SoftCap != 0 {
		for i, s := range p {
			p[i] = a.SoftCap * Tanh(s/a.SoftCap)
		}
	}
	if a.Slopes != nil {
		for i, s := range p {
			p[i] = fma32(a.Slopes[g], float32(pos+i-a.Pos), s)
		}
	}
	a.AddBias(p, g, pos)
}

// AddBias adds Bias to the scores p of head g at positions from pos on.
func (a *AttendArgs) AddBias(p []float32, g, pos int) {
	if a.Bias == nil {
		return
	}
	b := a.Bias[g*a.BiasStride+a.BiasAt+pos:]
	b = b[:len(p)]
	for i, v := range b {
		p[i] += v
	}
}

// weigh turns the scores of one page into weights and moves the state to the page's maximum.
func weigh(p *[BlockPositions]float32, lo, hi int, m, l *float32, o []float32) {
	top := *m
	for _, s := range p[lo:hi] {
		if s > top {
			top = s
		}
	}
	top += 0 // no -0, of whose order with +0 machines have different opinions
	if top > *m {
		c := Exp(*m - top)
		*l *= c
		for j := range o {
			o[j] *= c
		}
		*m = top
	}
	clear(p[:lo])
	clear(p[hi:])
	for s := lo; s < hi; s++ {
		p[s] = Exp(p[s] - top)
	}
	var lanes [16]float32
	for i := range lanes {
		lanes[i] = p[i] + p[i+16]
	}
	*l += fold(&lanes)
}

// Combine merges the state of a later span into dst: with M the larger maximum, L = fma(L, Exp(m - M), l'·Exp(m' - M)),
// and O likewise. An empty state changes nothing.
func (Portable) Combine(dst, src *Partial) {
	dim := len(dst.O) / max(len(dst.M), 1)
	for g := range dst.M {
		x, y, both := CombineHead(dst, src, g)
		if !both {
			continue
		}
		o, p := dst.O[g*dim:g*dim+dim], src.O[g*dim:g*dim+dim]
		for j := range o {
			o[j] = fma32(o[j], x, float32(p[j]*y))
		}
	}
}

// CombineHead is Combine for head g, but for O where neither state is empty: there it returns both = true, and
// O = fma(O, x, O'·y) is left to the caller.
func CombineHead(dst, src *Partial, g int) (x, y float32, both bool) {
	dim := len(dst.O) / len(dst.M)
	a, b := dst.M[g], src.M[g]
	if math.IsInf(float64(b), -1) {
		return 0, 0, false
	}
	if math.IsInf(float64(a), -1) {
		dst.M[g], dst.L[g] = b, src.L[g]
		copy(dst.O[g*dim:g*dim+dim], src.O[g*dim:g*dim+dim])
		return 0, 0, false
	}
	m := a
	if b > a {
		m = b
	}
	x, y = Exp(a-m), Exp(b-m)
	dst.M[g] = m
	dst.L[g] = fma32(dst.L[g], x, float32(src.L[g]*y))
	return x, y, true
}

// FinishSinks is Finish with one more logit for each head, its sink, that takes weight and gives no value:
// with N the larger of M and the sink, O · (Exp(M - N)/fma(L, Exp(M - N), Exp(sink - N))). No sinks: Finish.
func FinishSinks(dst []float32, p *Partial, sinks []float32) {
	dim := len(p.O) / max(len(p.M), 1)
	for g, l := range p.L {
		o, d := p.O[g*dim:g*dim+dim], dst[g*dim:g*dim+dim]
		if l == 0 {
			clear(d)
			continue
		}
		r := 1 / l
		if sinks != nil {
			n := p.M[g]
			if sinks[g] > n {
				n = sinks[g]
			}
			x := Exp(p.M[g] - n)
			r = x / fma32(l, x, Exp(sinks[g]-n))
		}
		for j, v := range o {
			d[j] = v * r
		}
	}
}
