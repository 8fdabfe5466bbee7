package quant_test

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"edged/quant"
)

var allFormats = []quant.Format{
	quant.F32, quant.F16, quant.BF16, quant.Q8_0, quant.Q4_0, quant.Q4_1, quant.Q5_0, quant.Q5_1, quant.Q2_K, quant.Q3_K, quant.Q4_K,
	quant.Q5_K, quant.Q6_K, quant.IQ4_NL, quant.IQ4_XS, quant.MXFP4, quant.IQ1_S, quant.IQ1_M, quant.IQ2_XXS, quant.IQ2_XS, quant.IQ2_S,
	quant.IQ3_XXS, quant.IQ3_S, quant.NVFP4, quant.TQ1_0, quant.TQ2_0, quant.Q1_0, quant.Q2_0, quant.Q8_1, quant.Q8_K, quant.Group2, quant.Group4, quant.Group8, quant.NF4, quant.FP4,
}

// TestLayout holds the table to the sizes that ggml-common.h asserts.
func TestLayout(t *testing.T) {
	published := map[quant.Format][2]int{
		quant.F32: {1, 4}, quant.F16: {1, 2}, quant.BF16: {1, 2}, quant.Q8_0: {32, 34}, quant.Q4_0: {32, 18}, quant.Q4_1: {32, 20},
		quant.Q5_0: {32, 22}, quant.Q5_1: {32, 24}, quant.Q2_K: {256, 84}, quant.Q3_K: {256, 110}, quant.Q4_K: {256, 144},
		quant.Q5_K: {256, 176}, quant.Q6_K: {256, 210}, quant.IQ4_NL: {32, 18}, quant.IQ4_XS: {256, 136}, quant.MXFP4: {32, 17},
		quant.NF4: {2, 1}, quant.FP4: {2, 1}, quant.IQ1_S: {256, 50}, quant.IQ1_M: {256, 56}, quant.IQ2_XXS: {256, 66},
		quant.IQ2_XS: {256, 74}, quant.IQ2_S: {256, 82}, quant.IQ3_XXS: {256, 98}, quant.IQ3_S: {256, 110}, quant.NVFP4: {64, 36},
		quant.TQ1_0: {256, 54}, quant.TQ2_0: {256, 66}, quant.Q1_0: {128, 18}, quant.Q2_0: {64, 18}, quant.Q8_1: {32, 36}, quant.Q8_K: {256, 292},
		quant.Group2: {4, 1}, quant.Group4: {2, 1}, quant.Group8: {1, 1},
	}
	if len(published) != len(allFormats) {
		t.Fatalf("%d formats published, %d listed", len(published), len(allFormats))
	}
	for _, f := range allFormats {
		want := published[f]
		if f.BlockSize() != want[0] || f.BlockBytes() != want[1] {
			t.Errorf("%s: %d weights in %d bytes, want %v", f, f.BlockSize(), f.BlockBytes(), want)
		}
		for _, name := range []string{f.String(), strings.ToUpper(f.String())} {
			if got, err := quant.ParseFormat(name); err != nil || got != f {
				t.Errorf("ParseFormat(%q) = %v, %v", name, got, err)
			}
		}
		if f.IsBnB() {
			if n := f.Bytes(3, 5); n != 8 || f.RowBytes(6) != 0 {
				t.Errorf("%s: 15 weights take %d bytes, a row of 6 %d", f, n, f.RowBytes(6))
			}
			continue
		}
		if n := f.RowBytes(512); n != 512/want[0]*want[1] || f.Bytes(7, 512) != int64(7*n) {
			t.Errorf("%s: a row of 512 takes %d bytes", f, n)
		}
		if want[0] > 1 && (f.RowBytes(want[0]+1) != 0 || f.Bytes(1, int64(want[0]+1)) != -1) {
			t.Errorf("%s: a row that is no multiple of the block has a size", f)
		}
	}
	for _, bad := range []string{"", "q4", "format(0)", "invalid", "nf4 "} {
		if f, err := quant.ParseFormat(bad); err == nil {
			t.Errorf("ParseFormat(%q) = %v", bad, f)
		}
	}
	if quant.FormatInvalid.Valid() || quant.Format(200).Valid() || quant.Format(200).String() != "format(200)" {
		t.Error("invalid formats")
	}
}

// TestHalfAll checks every binary16 against the definition in float64, and that it survives the way back.
func TestHalfAll(t *testing.T) {
	for i := range 1 << 16 {
		h := uint16(i)
		x := quant.HalfToFloat(h)
		sign, exp, frac := 1.0, int(h>>10&31), float64(h&1023)
		if h&0x8000 != 0 {
			sign = -1
		}
		var want float64
		switch exp {
		case 0:
			want = sign * math.Ldexp(frac, -24)
		case 31:
			want = sign * math.Inf(1)
			if frac != 0 {
				want = math.NaN()
			}
		default:
			want = sign * math.Ldexp(1024+frac, exp-25)
		}
		switch {
		case math.IsNaN(want):
			if x == x || quant.FloatToHalf(x)&0x7e00 != 0x7e00 || quant.FloatToHalf(x)&0x8000 != h&0x8000 {
				t.Fatalf("%#04x: %v, back %#04x", h, x, quant.FloatToHalf(x))
			}
		case float64(x) != want || math.Signbit(float64(x)) != math.Signbit(want) || quant.FloatToHalf(x) != h:
			t.Fatalf("%#04x: %v, want %v, back %#04x", h, x, want, quant.FloatToHalf(x))
		}
	}
}

// TestHalfRounding checks rounding to nearest even on the neighbours and midpoints of all finite values.
func TestHalfRounding(t *testing.T) {
	for i := range 0x7c00 {
		lo, hi := quant.HalfToFloat(uint16(i)), quant.HalfToFloat(uint16(i+1))
		if i == 0x7bff {
			hi = 65536 // the next step of the same size; from its midpoint on, infinity
		}
		mid := float32((float64(lo) + float64(hi)) / 2)
		even := uint16(i + i&1)
		for _, c := range []struct {
			x    float32
			want uint16
		}{
			{mid, even},
			{math.Nextafter32(mid, 0), uint16(i)},
			{math.Nextafter32(mid, math.MaxFloat32), uint16(i + 1)},
		} {
			if got := quant.FloatToHalf(c.x); got != c.want {
				t.Fatalf("%v: %#04x, want %#04x", c.x, got, c.want)
			}
			if got := quant.FloatToHalf(-c.x); got != c.want|0x8000 {
				t.Fatalf("%v: %#04x, want %#04x", -c.x, got, c.want|0x8000)
			}
		}
	}
	for x, want := range map[float32]uint16{
		math.MaxFloat32: 0x7c00, 65504: 0x7bff, 65519.996: 0x7bff, 65520: 0x7c00, 1e-45: 0, 2.9802322e-08: 0, 2.9802326e-08: 1,
		float32(math.Inf(-1)): 0xfc00, 6.103515625e-05: 0x0400,
	} {
		if got := quant.FloatToHalf(x); got != want {
			t.Errorf("%v: %#04x, want %#04x", x, got, want)
		}
	}
}

func TestBFloat(t *testing.T) {
	for i := range 1 << 16 {
		b := uint16(i)
		x := quant.BFloatToFloat(b)
		back := quant.FloatToBFloat(x)
		if x != x {
			if back&0x7fff <= 0x7f80 || back&0x8000 != b&0x8000 {
				t.Fatalf("%#04x: NaN came back as %#04x", b, back)
			}
			continue
		}
		if back != b {
			t.Fatalf("%#04x: came back as %#04x", b, back)
		}
	}
	for bits, want := range map[uint32]uint16{
		0x3f808000: 0x3f80, 0x3f818000: 0x3f82, 0x3f808001: 0x3f81, 0x3f80ffff: 0x3f81, 0x7f7fffff: 0x7f80, 0xff7fffff: 0xff80, 0x7f800001: 0x7fc0,
	} {
		if got := quant.FloatToBFloat(math.Float32frombits(bits)); got != want {
			t.Errorf("%#08x: %#04x, want %#04x", bits, got, want)
		}
	}
}

// decodeAsGGML follows ggml's loops (dequantize_row_*), written apart from the code under test, for the formats that no
// oracle file has.
func decodeAsGGML(f quant.Format, b []byte) []float32 {
	half := func(i int) float32 { return quant.HalfToFloat(binary.LittleEndian.Uint16(b[i:])) }
	y := make([]float32, f.BlockSize())
	switch f {
	case quant.Q5_1:
		d, m := half(0), half(2)
		qh := binary.LittleEndian.Uint32(b[4:])
		for j := range 16 {
			xh0 := byte((qh>>(j+0))<<4) & 0x10
			xh1 := byte(qh>>(j+12)) & 0x10
			y[j] = float32(float32(b[8+j]&0x0f|xh0)*d) + m
			y[j+16] = float32(float32(b[8+j]>>4|xh1)*d) + m
		}
	case quant.Q5_K:
		d, dmin := half(0), half(2)
		scales, qh, ql := b[4:16], b[16:48], b[48:]
		scaleMin := func(j int) (byte, byte) {
			if j < 4 {
				return scales[j] & 63, scales[j+4] & 63
			}
			return scales[j+4]&0xf | (scales[j-4]>>6)<<4, scales[j+4]>>4 | (scales[j]>>6)<<4
		}
		u1, u2, n := byte(1), byte(2), 0
		for is := 0; is < 8; is += 2 {
			sc, m := scaleMin(is)
			d1, m1 := d*float32(sc), dmin*float32(m)
			sc, m = scaleMin(is + 1)
			d2, m2 := d*float32(sc), dmin*float32(m)
			for l := range 32 {
				v := int(ql[l] & 0xf)
				if qh[l]&u1 != 0 {
					v += 16
				}
				y[n] = float32(d1*float32(v)) - m1
				n++
			}
			for l := range 32 {
				v := int(ql[l] >> 4)
				if qh[l]&u2 != 0 {
					v += 16
				}
				y[n] = float32(d2*float32(v)) - m2
				n++
			}
			ql = ql[32:]
			u1, u2 = u1<<2, u2<<2
		}
	case quant.IQ4_XS:
		d, high, n := half(0), binary.LittleEndian.Uint16(b[2:]), 0
		qs := b[8:]
		for ib := range 8 {
			ls := int(b[4+ib/2]>>(4*(ib%2))&0xf) | int((high>>(2*ib))&3)<<4
			dl := d * float32(ls-32)
			for j := range 16 {
				y[n+j] = dl * float32(quant.IQ4Values()[qs[j]&0xf])
				y[n+j+16] = dl * float32(quant.IQ4Values()[qs[j]>>4])
			}
			n += 32
			qs = qs[16:]
		}
	case quant.MXFP4:
		// From the OCP definition: 2^(e-127) times a sign bit, two exponent bits (bias 1) and one fraction bit.
		value := func(q byte) float64 {
			exp, frac := int(q>>1&3), float64(q&1)
			v := (1 + frac/2) * math.Ldexp(1, exp-1)
			if exp == 0 {
				v = frac / 2
			}
			if q&8 != 0 && v != 0 {
				v = -v
			}
			return v
		}
		for j := range 16 {
			y[j] = float32(math.Ldexp(value(b[1+j]&15), int(b[0])-127))
			y[j+16] = float32(math.Ldexp(value(b[1+j]>>4), int(b[0])-127))
		}
	}
	return y
}

func TestDecodeAsGGML(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, f := range []quant.Format{quant.Q5_1, quant.Q5_K, quant.IQ4_XS, quant.MXFP4} {
		for n := range 2000 {
			b := make([]byte, f.BlockBytes())
			for i := range b {
				b[i] = byte(rng.Uint32())
			}
			if f == quant.MXFP4 {
				b[0] = byte(n % 255)
			} else { // finite scales
				for _, i := range []int{1, 3} {
					b[i] &= 0xbf
				}
			}
			got := make([]float32, f.BlockSize())
			quant.Decode(f, got, b)
			if want := decodeAsGGML(f, b); !slices.Equal(got, want) {
				t.Fatalf("%s % x:\n%v\n%v", f, b, got, want)
			}
		}
	}
}

// TestRowBnB decodes matrices whose rows start inside bytes and blocks.
func TestRowBnB(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for _, nested := range []bool{false, true} {
		for _, shape := range [][2]int{{1, 1}, {3, 5}, {7, 33}, {5, 64}, {4, 100}, {200, 129}} {
			rows, cols := shape[0], shape[1]
			n := rows * cols
			s := &quant.BnBScale{BlockSize: 64, Code: quant.NF4Code(), NestedBlock: 256, NestedOffset: 0.125}
			blocks := (n + 63) / 64
			absmax := make([]float32, blocks)
			if nested {
				s.NestedMap = make([]float32, 256)
				for i := range s.NestedMap {
					s.NestedMap[i] = rng.Float32()*2 - 1
				}
				s.NestedAbsmax = make([]float32, (blocks+255)/256)
				for i := range s.NestedAbsmax {
					s.NestedAbsmax[i] = rng.Float32()
				}
				s.AbsmaxQ = make([]byte, blocks)
				for i := range absmax {
					s.AbsmaxQ[i] = byte(rng.Uint32())
					absmax[i] = float32(s.NestedMap[s.AbsmaxQ[i]]*s.NestedAbsmax[i/256]) + s.NestedOffset
				}
			} else {
				for i := range absmax {
					absmax[i] = rng.Float32()
				}
				s.Absmax = absmax
			}
			m := &quant.Matrix{Format: quant.NF4, Rows: rows, Cols: cols, BnB: s, Data: make([]byte, (n+1)/2)}
			want := make([]float32, n)
			for i := range want {
				q := byte(rng.Uint32() & 15)
				m.Data[i/2] |= q << (4 * (1 - i%2))
				want[i] = s.Code[q] * absmax[i/64]
			}
			for r := range rows {
				got := make([]float32, cols+1)
				got[cols] = 42
				quant.Row(got, m, r)
				if !slices.Equal(got[:cols], want[r*cols:(r+1)*cols]) || got[cols] != 42 {
					t.Fatalf("(%d, %d) nested %v: row %d: %v, want %v", rows, cols, nested, r, got, want[r*cols:(r+1)*cols])
				}
			}
		}
	}
}

func TestRowAllocatesNothing(t *testing.T) {
	dst := make([]float32, 512)
	for _, f := range allFormats {
		m := &quant.Matrix{Format: f, Rows: 2, Cols: 512, Data: make([]byte, f.Bytes(2, 512))}
		if f.IsBnB() {
			m.BnB = &quant.BnBScale{BlockSize: 64, Absmax: make([]float32, 16)}
		}
		if f.IsGroup() {
			m.Group = plainGroup(512, 2)
		}
		if n := testing.AllocsPerRun(10, func() { quant.Row(dst, m, 1) }); n != 0 {
			t.Errorf("%s: %v allocations", f, n)
		}
	}
}

func TestEncode(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	inf, nan := float32(math.Inf(1)), float32(math.NaN())
	for _, c := range []struct {
		f   quant.Format
		tol float64 // relative to the block's largest magnitude
	}{{quant.F32, 0}, {quant.F16, 1.0 / 2048}, {quant.BF16, 1.0 / 256}, {quant.Q8_0, 0.51 / 127 * 1.01}, {quant.Q4_0, 1.01 / 8}} {
		for _, scale := range []float32{0, 1e-38, 1e-6, 1, 1000, 30000} {
			x := make([]float32, 96)
			for i := range x {
				x[i] = (rng.Float32()*2 - 1) * scale
			}
			b := make([]byte, c.f.RowBytes(len(x)))
			if err := quant.Encode(c.f, b, x); err != nil {
				t.Errorf("%s scale %g: %v", c.f, scale, err)
				continue
			}
			y := make([]float32, len(x))
			quant.Decode(c.f, y, b)
			for i := range x {
				// A scale of float16 is off by up to 2⁻²⁵, times at most 127.
				if d := math.Abs(float64(x[i] - y[i])); d > c.tol*float64(scale)+127.0/(1<<25) {
					t.Errorf("%s scale %g: %v came back as %v", c.f, scale, x[i], y[i])
					break
				}
			}
		}
		for _, bad := range []float32{nan, inf, -inf} {
			x := make([]float32, 32)
			x[17] = bad
			if err := quant.Encode(c.f, make([]byte, c.f.RowBytes(32)), x); err == nil || !strings.Contains(err.Error(), "17") {
				t.Errorf("%s: %v: %v", c.f, bad, err)
			}
		}
		if err := quant.Encode(c.f, make([]byte, 3), make([]float32, 32)); err == nil {
			t.Errorf("%s: a short buffer was taken", c.f)
		}
		huge := make([]float32, 32)
		huge[3] = -math.MaxFloat32
		if err := quant.Encode(c.f, make([]byte, c.f.RowBytes(32)), huge); (err == nil) != (c.f == quant.F32 || c.f == quant.BF16) {
			t.Errorf("%s: -MaxFloat32: %v", c.f, err)
		}
	}
	for _, f := range []quant.Format{quant.FormatInvalid, quant.IQ2_XS, quant.NF4, quant.Format(99)} {
		if err := quant.Encode(f, nil, nil); err == nil {
			t.Errorf("%s was written", f)
		}
	}
	if err := quant.Encode(quant.Q8_0, make([]byte, 34), make([]float32, 33)); err == nil {
		t.Error("33 weights were taken")
	}
}

// FuzzDecode decodes any bytes as any format: no panic, and exactly the weights asked for.
func FuzzDecode(f *testing.F) {
	f.Add(uint8(quant.Q4_K), make([]byte, 144))
	f.Add(uint8(quant.IQ4_XS), slices.Repeat([]byte{0xff}, 272))
	f.Fuzz(func(t *testing.T, kind uint8, b []byte) {
		format := allFormats[int(kind)%len(allFormats)]
		n := len(b) / format.BlockBytes() * format.BlockSize()
		if n == 0 {
			return
		}
		m := &quant.Matrix{Format: format, Rows: 1, Cols: n, Data: b}
		if format.IsBnB() {
			m.BnB = &quant.BnBScale{BlockSize: 64, Code: quant.FP4Code(), Absmax: make([]float32, (n+63)/64)}
		}
		if format.IsGroup() {
			m.Group = plainGroup(n, 1)
		}
		y := make([]float32, n+1)
		y[n] = 42
		quant.Row(y, m, 0)
		if y[n] != 42 {
			t.Fatal("wrote behind the row")
		}
	})
}

// FuzzEncode encodes any floats: an error, or blocks that decode to finite values near them.
func FuzzEncode(f *testing.F) {
	f.Add(uint8(0), make([]byte, 128))
	f.Add(uint8(1), slices.Repeat([]byte{1, 2, 3, 0x45}, 64))
	f.Add(uint8(129), slices.Repeat([]byte{1, 2, 3, 0x45, 7, 8, 9, 0xbe}, 256))
	f.Fuzz(func(t *testing.T, kind uint8, b []byte) {
		format := []quant.Format{
			quant.Q8_0, quant.Q4_0, quant.F16, quant.BF16, quant.Q4_1, quant.Q5_0, quant.Q5_1, quant.Q2_K, quant.Q3_K, quant.Q4_K, quant.Q5_K,
			quant.Q6_K, quant.IQ4_NL, quant.IQ4_XS, quant.MXFP4, quant.NVFP4, quant.TQ1_0, quant.TQ2_0, quant.Q1_0, quant.Q2_0,
		}[kind%20]
		size := max(format.BlockSize(), 32)
		x := make([]float32, len(b)/4/size*size)
		quant.Decode(quant.F32, x, b)
		out := make([]byte, format.RowBytes(len(x)))
		var importance []float32
		if kind >= 128 {
			importance = make([]float32, len(x))
			for i := range importance {
				importance[i] = float32(b[i])
			}
		}
		if quant.EncodeRow(format, out, x, importance) != nil {
			return
		}
		y := make([]float32, len(x))
		quant.Decode(format, y, out)
		for i := range y {
			if format != quant.BF16 && y[i]-y[i] != 0 {
				t.Fatalf("%s: %v became %v", format, x[i], y[i])
			}
		}
	})
}

func BenchmarkRow(b *testing.B) {
	dst := make([]float32, 4096)
	for _, f := range allFormats {
		m := &quant.Matrix{Format: f, Rows: 1, Cols: 4096, Data: make([]byte, f.Bytes(1, 4096))}
		if f.IsBnB() {
			m.BnB = &quant.BnBScale{BlockSize: 64, Absmax: make([]float32, 64)}
		}
		if f.IsGroup() {
			m.Group = plainGroup(4096, 1)
		}
		b.Run(f.String(), func(b *testing.B) {
			b.SetBytes(4 * 4096)
			for b.Loop() {
				quant.Row(dst, m, 0)
			}
		})
	}
}

func BenchmarkEncode(b *testing.B) {
	rng := rand.New(rand.NewPCG(1, 2))
	x := make([]float32, 4096)
	for i := range x {
		x[i] = rng.Float32() - 0.5
	}
	for _, f := range []quant.Format{quant.Q8_0, quant.Q4_0, quant.F16, quant.Q2_K, quant.Q3_K, quant.Q4_K, quant.Q6_K, quant.IQ4_XS} {
		out := make([]byte, f.RowBytes(len(x)))
		b.Run(f.String(), func(b *testing.B) {
			b.SetBytes(4 * 4096)
			for b.Loop() {
				if err := quant.Encode(f, out, x); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// plainGroup has 256 values, enough for each of the three.
func plainGroup(cols, rows int) *quant.Group {
	n := (cols + 63) / 64
	return &quant.Group{Values: quant.IntegerValues(8), Size: 64, Count: n, Span: 1, Zero: 8, Scales: make([]byte, 4*n*rows)}
}
