package kernel

import (
	"encoding/binary"
	"math"

	"edged/quant"
)

// chunk holds up to 8 blocks of 32 weights as integers: w = s·v + m.
type chunk struct {
	v       [chunkCols]int16
	s       [chunkCols / 16]float32 // one for each block, or where halves is set for each half of a block
	m       [chunkCols / 16]float32 // offsets × blocks
	offsets int                     // per block: 0, 1, or 2 (one for each half)
	halves  bool                    // and no offsets
}

// unpacker turns stored blocks into chunks.
type unpacker struct {
	w     *quant.Matrix
	row   int // bytes of a row
	table [16]int16
	unit  float32 // bitsandbytes: what absmax is multiplied with
	group quant.GroupInts
}

// newUnpacker prepares the tables of w's format.
func newUnpacker(w *quant.Matrix) unpacker {
	u := unpacker{w: w}
	switch w.Format {
	case quant.NF4, quant.FP4:
		u.table, u.unit = BnBTable(w.BnB)
	case quant.IQ4_NL, quant.IQ4_XS:
		for i, v := range quant.IQ4Values() {
			u.table[i] = int16(v)
		}
	case quant.MXFP4:
		for i, v := range quant.MXFP4Values() {
			u.table[i] = int16(v)
		}
	case quant.Group2, quant.Group4, quant.Group8:
		u.group, _ = w.Group.Integers(w.Cols)
	default:
	}
	u.row = w.Format.RowBytes(w.Cols)
	return u
}

// An Unpacker turns stored blocks of 32 weights into integers and scales, w = s·v, for kernels that want them
// in an order of their own. It is for formats of Unpacks.
type Unpacker struct{ u unpacker }

// Unpacks tells whether w's blocks have one scale each and no offset, and within how much its integers stay.
func Unpacks(w *quant.Matrix) (limit int, ok bool) {
	switch w.Format {
	case quant.IQ2_XXS, quant.IQ3_XXS, quant.IQ3_S, quant.TQ1_0, quant.TQ2_0, quant.Q1_0, quant.Q2_0, quant.Q8_1, quant.Q8_K:
		return 128, true
	case quant.IQ2_XS, quant.IQ2_S, quant.Q3_K:
		return 4096, true
	case quant.Group2, quant.Group4, quant.Group8:
		if g := w.Group; g.Size == 16 || g.ZerosF != nil || !Quantised(w) {
			return 0, false
		}
		if w.Format == quant.Group8 {
			return 4096, true
		}
		return 128, true
	default:
		return 0, false
	}
}

// NewUnpacker makes one for w.
func NewUnpacker(w *quant.Matrix) Unpacker { return Unpacker{newUnpacker(w)} }

// Blocks unpacks blocks [b0, b0+n) of row r, n at most 8 and b0 a multiple of 8.
func (u *Unpacker) Blocks(v *[256]int16, s *[8]float32, r, b0, n int) {
	var c chunk
	u.u.unpack(&c, r, b0, n)
	*v = c.v
	copy(s[:], c.s[:8])
}

// BnBTable returns the integers v of a bitsandbytes code, within ±16256, and the unit c/16256 that goes with
// them. A code that is not finite gives NaN.
func BnBTable(s *quant.BnBScale) (v [16]int16, unit float32) {
	var top float64
	for _, c := range s.Code {
		top = math.Max(top, math.Abs(float64(c))) // NaN stays
	}
	if math.IsNaN(top) || math.IsInf(top, 0) {
		return v, float32(math.NaN())
	}
	if top == 0 {
		return v, 0
	}
	for i, c := range s.Code {
		v[i] = int16(math.RoundToEven(float64(c) * 16256 / top))
	}
	return v, float32(top / 16256)
}

// unpack reads blocks [b0, b0+n) of row r, n at most 8. Super-blocks are always read whole.
func (u *unpacker) unpack(c *chunk, r, b0, n int) {
	if u.w.Format.IsBnB() {
		u.bnb(c, r*u.w.Cols+b0*32, n)
		return
	}
	if u.w.Format.IsGroup() {
		u.groups(c, r, b0, n)
		return
	}
	f := u.w.Format
	i := b0 * 32 / f.BlockSize() * f.BlockBytes()
	src := u.w.Data[r*u.row+i : r*u.row+u.row]
	c.offsets, c.halves = 0, false
	if quant.HasIntegers(f) {
		c.integers(f, src, n)
		return
	}
	switch f {
	case quant.Q2_K:
		unpackQ2K(c, (*[84]byte)(src))
	case quant.Q3_K:
		unpackQ3K(c, (*[110]byte)(src))
	case quant.Q4_K:
		unpackQ4K(c, (*[144]byte)(src))
	case quant.Q5_K:
		unpackQ5K(c, (*[176]byte)(src))
	case quant.Q6_K:
		unpackQ6K(c, (*[210]byte)(src))
	case quant.IQ4_XS:
		u.iq4xs(c, (*[136]byte)(src))
	default:
		if f == quant.Q4_1 || f == quant.Q5_1 {
			c.offsets = 1
		}
		bytes := f.BlockBytes()
		for b := range n {
			u.small(c, b, src[b*bytes:])
		}
	}
}

// small unpacks one block of 32 of the formats that have no super-blocks.
func (u *unpacker) small(c *chunk, b int, p []byte) {
	v := (*[32]int16)(c.v[b*32:])
	switch u.w.Format {
	case quant.Q8_0:
		p := (*[34]byte)(p)
		c.s[b] = half(p[0], p[1])
		for i := range v {
			v[i] = int16(int8(p[2+i]))
		}
	case quant.Q4_0:
		p := (*[18]byte)(p)
		c.s[b] = half(p[0], p[1])
		nibbles(v, (*[16]byte)(p[2:]), 8)
	case quant.Q4_1:
		p := (*[20]byte)(p)
		c.s[b], c.m[b] = half(p[0], p[1]), half(p[2], p[3])
		nibbles(v, (*[16]byte)(p[4:]), 0)
	case quant.Q5_0:
		p := (*[22]byte)(p)
		c.s[b] = half(p[0], p[1])
		nibbles(v, (*[16]byte)(p[6:]), 16)
		fifthBits(v, binary.LittleEndian.Uint32(p[2:]))
	case quant.Q5_1:
		p := (*[24]byte)(p)
		c.s[b], c.m[b] = half(p[0], p[1]), half(p[2], p[3])
		nibbles(v, (*[16]byte)(p[8:]), 0)
		fifthBits(v, binary.LittleEndian.Uint32(p[4:]))
	case quant.IQ4_NL:
		p := (*[18]byte)(p)
		c.s[b] = half(p[0], p[1])
		u.lookUp(v, (*[16]byte)(p[2:]))
	case quant.MXFP4:
		p := (*[17]byte)(p)
		c.s[b] = quant.MXFP4Scale(p[0])
		u.lookUp(v, (*[16]byte)(p[1:]))
	default:
		panic("kernel: " + u.w.Format.String() + " has no blocks of 32")
	}
}

// integers unpacks blocks of 32 … 256 weights, n × 32 in all, of the formats that package quant specifies by integers.
func (c *chunk) integers(f quant.Format, src []byte, n int) {
	size, bytes, span := f.BlockSize(), f.BlockBytes(), quant.ScaleSpan(f)
	c.halves = span == 16
	for i := 0; i < n*32; i += size {
		quant.Integers(f, c.v[i:], c.s[i/span:], src[i/size*bytes:])
	}
}

// groups unpacks blocks [b0, b0+n) of row r of a matrix with a Group.
func (u *unpacker) groups(c *chunk, r, b0, n int) {
	c.halves = u.w.Group.Size == 16
	c.offsets = 0
	if u.w.Group.ZerosF != nil {
		c.offsets = 1
	}
	for b := range n {
		s, m := quant.GroupBlock((*[32]int16)(c.v[b*32:]), u.w, &u.group, r, (b0+b)*32)
		if c.halves {
			c.s[2*b], c.s[2*b+1] = s[0], s[1]
		} else {
			c.s[b], c.m[b] = s[0], m
		}
	}
}

// bnb unpacks n blocks from index start of the flattened matrix.
func (u *unpacker) bnb(c *chunk, start, n int) {
	c.offsets, c.halves = 0, false
	for b := range n {
		i := start + b*32
		c.s[b] = u.w.BnB.Scale(i/u.w.BnB.BlockSize) * u.unit
		v, p := (*[32]int16)(c.v[b*32:]), (*[16]byte)(u.w.Data[i/2:])
		for j, q := range p {
			v[2*j], v[2*j+1] = u.table[q>>4], u.table[q&15]
		}
	}
}

// lookUp maps the low nibbles to columns 0…15 and the high ones to 16…31.
func (u *unpacker) lookUp(v *[32]int16, p *[16]byte) {
	for j, q := range p {
		v[j], v[j+16] = u.table[q&15], u.table[q>>4]
	}
}

// nibbles sets v to nibble - bias in the order of lookUp.
func nibbles(v *[32]int16, p *[16]byte, bias int16) {
	for j, q := range p {
		v[j], v[j+16] = int16(q&15)-bias, int16(q>>4)-bias
	}
}

// fifthBits adds 16 where bit i of h is set.
func fifthBits(v *[32]int16, h uint32) {
	for i := range v {
		v[i] += int16(h >> i & 1 << 4)
	}
}

// half reads a float16.
func half(lo, hi byte) float32 { return quant.HalfToFloat(uint16(lo) | uint16(hi)<<8) }

// unpackQ2K reads { scales [16]byte; qs [64]byte; d, dmin f16 }: column 16·i+j has scale and minimum in the nibbles of
// scales[i].
func unpackQ2K(c *chunk, p *[84]byte) {
	d, dmin := half(p[80], p[81]), half(p[82], p[83])
	c.offsets = 2
	for b := range 8 {
		c.s[b] = d
		qs := (*[32]byte)(p[16+b/4*32:])
		for h := range 2 {
			sc := p[2*b+h]
			c.m[2*b+h] = -(dmin * float32(sc>>4))
			for j := range 16 {
				c.v[b*32+h*16+j] = int16(sc&15) * int16(qs[h*16+j]>>(b%4*2)&3)
			}
		}
	}
}

// unpackQ3K reads { hmask [32]byte; qs [64]byte; scales [12]byte; d f16 }.
func unpackQ3K(c *chunk, p *[110]byte) {
	d := half(p[108], p[109])
	for b := range 8 {
		c.s[b] = d
		qs := (*[32]byte)(p[32+b/4*32:])
		for h := range 2 {
			i := 2*b + h
			sc := int16(p[96+i%8]>>(i/8*4)&15|p[104+i%4]>>(i/4*2)&3<<4) - 32
			for j := h * 16; j < h*16+16; j++ {
				q := int16(qs[j]>>(b%4*2)&3) - 4 + int16(p[j]>>b&1<<2)
				c.v[b*32+j] = sc * q
			}
		}
	}
}

// scaleMin unpacks the 6-bit scales and minima of Q4_K and Q5_K: { d, dmin f16; scales [12]byte } at p.
func scaleMin(c *chunk, p *[16]byte) {
	d, dmin := half(p[0], p[1]), half(p[2], p[3])
	s := p[4:16]
	c.offsets = 1
	for j := range 4 {
		c.s[j] = d * float32(s[j]&63)
		c.m[j] = -(dmin * float32(s[j+4]&63))
		c.s[j+4] = d * float32(s[j+8]&15|s[j]>>6<<4)
		c.m[j+4] = -(dmin * float32(s[j+8]>>4|s[j+4]>>6<<4))
	}
}

// unpackQ4K reads { d, dmin f16; scales [12]byte; qs [128]byte }.
func unpackQ4K(c *chunk, p *[144]byte) {
	scaleMin(c, (*[16]byte)(p[:]))
	for b := 0; b < 8; b += 2 {
		qs := (*[32]byte)(p[16+b*16:])
		v := (*[64]int16)(c.v[b*32:])
		for j, q := range qs {
			v[j], v[j+32] = int16(q&15), int16(q>>4)
		}
	}
}

// unpackQ5K reads { d, dmin f16; scales [12]byte; qh [32]byte; qs [128]byte }.
func unpackQ5K(c *chunk, p *[176]byte) {
	scaleMin(c, (*[16]byte)(p[:]))
	qh := (*[32]byte)(p[16:])
	for b := 0; b < 8; b += 2 {
		qs := (*[32]byte)(p[48+b*16:])
		v := (*[64]int16)(c.v[b*32:])
		for j, q := range qs {
			v[j] = int16(q&15 | qh[j]>>b&1<<4)
			v[j+32] = int16(q>>4 | qh[j]>>(b+1)&1<<4)
		}
	}
}

// unpackQ6K reads { ql [128]byte; qh [64]byte; scales [16]int8; d f16 }.
func unpackQ6K(c *chunk, p *[210]byte) {
	d := half(p[208], p[209])
	for b := range 8 {
		c.s[b] = d
	}
	for n := range 2 {
		ql, qh := (*[64]byte)(p[n*64:]), (*[32]byte)(p[128+n*32:])
		sc := (*[8]byte)(p[192+n*8:])
		v := (*[128]int16)(c.v[n*128:])
		for j := range 32 {
			h, i := qh[j], j/16
			v[j] = int16(int8(sc[i])) * (int16(ql[j]&15|h&3<<4) - 32)
			v[j+32] = int16(int8(sc[i+2])) * (int16(ql[j+32]&15|h>>2&3<<4) - 32)
			v[j+64] = int16(int8(sc[i+4])) * (int16(ql[j]>>4|h>>4&3<<4) - 32)
			v[j+96] = int16(int8(sc[i+6])) * (int16(ql[j+32]>>4|h>>6<<4) - 32)
		}
	}
}

// iq4xs reads { d f16; scales_h uint16; scales_l [4]byte; qs [128]byte }.
func (u *unpacker) iq4xs(c *chunk, p *[136]byte) {
	d := half(p[0], p[1])
	h := uint16(p[2]) | uint16(p[3])<<8
	for b := range 8 {
		sc := int(p[4+b/2]>>(b%2*4)&15) | int(h>>(2*b)&3)<<4
		c.s[b] = d * float32(sc-32)
		u.lookUp((*[32]int16)(c.v[b*32:]), (*[16]byte)(p[8+b*16:]))
	}
}
