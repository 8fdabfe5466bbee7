package kernel_test

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"math"
	"math/big"
	"math/rand/v2"
	"testing"

	"edged/quant"
	"edged/quant/kernel"
	"edged/quant/kernel/kerneltest"
)

func TestPortable(t *testing.T) { kerneltest.Run(t, kernel.Portable{}) }

// TestExactDecodes holds the weights of the exact path to quant.Row: a product with unit vectors reads them out.
func TestExactDecodes(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, f := range kerneltest.Formats() {
		const rows, cols = 3, 512
		w := kerneltest.Matrix(r, f, rows, cols, true)
		x := make([]float32, cols*cols)
		for i := range cols {
			x[i*cols+i] = 1
		}
		a := &kernel.Activations{Rows: cols, Cols: cols, X: x}
		y := make([]float32, cols*rows)
		kernel.Portable{}.MatMul(y, rows, w, a, kernel.Exact, 0, rows)
		want := make([]float32, cols)
		for row := range rows {
			quant.Row(want, w, row)
			for c, v := range want {
				// A sum of zeros has no sign; 0·Inf in the other columns is NaN.
				if got := y[c*rows+row]; got != v && got == got {
					t.Fatalf("%s [%d, %d] = %g, want %g", f, row, c, got, v)
				}
			}
		}
	}
}

// TestFastIsClose bounds the error of the 8-bit path by what rounding activations to 8 bits explains.
func TestFastIsClose(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 7))
	for _, f := range kerneltest.Formats() {
		const rows, cols, tokens = 16, 1024, 4
		w := kerneltest.Matrix(r, f, rows, cols, false)
		x := kerneltest.Activation(r, tokens, cols, false, false)
		k := kernel.Portable{}
		a := &kernel.Activations{}
		k.Grow(a, tokens, cols)
		a.Rows, a.Cols, a.X = tokens, cols, x
		k.Prepare(a, kernel.Fast, 0, tokens)
		fast, exact := make([]float32, tokens*rows), make([]float32, tokens*rows)
		k.MatMul(fast, rows, w, a, kernel.Fast, 0, rows)
		k.MatMul(exact, rows, w, a, kernel.Exact, 0, rows)
		var e, s float64
		for i := range exact {
			e += sq(float64(fast[i] - exact[i]))
			s += sq(float64(exact[i]))
		}
		if rel := math.Sqrt(e / s); rel > 0.015 {
			t.Errorf("%s: relative RMS error %.4f", f, rel)
		}
	}
}

func sq(x float64) float64 { return x * x }

// TestFMA compares with arbitrary precision on random and nearly tied operands, through the one function that is nothing
// but an FMA: attention's O with one position… is not exported, so a one-element product does: fma(w, x, +0), and
// Rotate: fma(a, c, -(b·s)) with b·s exact.
func TestFMA(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 9))
	for i := range 200000 {
		a := math.Float32frombits(r.Uint32()&0x807fffff | uint32(100+r.IntN(50))<<23)
		c := math.Float32frombits(r.Uint32()&0x807fffff | uint32(100+r.IntN(50))<<23)
		b := math.Float32frombits(r.Uint32()&0x807fffff | uint32(60+r.IntN(130))<<23)
		if i%2 == 0 { // few bits: ties are likely
			a = math.Float32frombits(math.Float32bits(a) &^ 0x1fff)
			c = math.Float32frombits(math.Float32bits(c) &^ 0x7ff)
		}
		if i%5 == 0 { // products and sums in the subnormal range
			a = math.Float32frombits(math.Float32bits(a)&0x807fffff | uint32(1+r.IntN(60))<<23)
			c = math.Float32frombits(math.Float32bits(c)&0x807fffff | uint32(1+r.IntN(70))<<23)
			b = math.Float32frombits(math.Float32bits(b) & 0x80ffffff)
		}
		x := []float32{a, b}
		kernel.Portable{}.Rotate(x, []float32{c}, []float32{1}, true)
		p := new(big.Float).SetPrec(300).Mul(big.NewFloat(float64(a)), big.NewFloat(float64(c)))
		p.SetPrec(600).Sub(p, big.NewFloat(float64(b)))
		want, _ := p.Float32()
		if x[0] != want {
			t.Fatalf("fma(%g, %g, %g) = %g, want %g", a, c, -b, x[0], want)
		}
	}
}

// TestExp bounds the error of Exp in units in the last place, over its whole range.
func TestExp(t *testing.T) {
	worst, at := 0.0, float32(0)
	for u := uint32(0); u < 0x42b00000; u += 9973 {
		for _, x := range []float32{math.Float32frombits(u), -math.Float32frombits(u)} {
			if x < -87 || x > 88 {
				continue
			}
			want := math.Exp(float64(x))
			ulp := math.Ldexp(1, int(math.Floor(math.Log2(want)))-23)
			if e := math.Abs(float64(kernel.Exp(x))-want) / ulp; e > worst {
				worst, at = e, x
			}
		}
	}
	if worst > 1.5 {
		t.Errorf("Exp(%g) is %.2f units off", at, worst)
	}
	for x, want := range map[float32]float32{0: 1, -88: 0, 89: float32(math.Inf(1)), float32(math.Inf(-1)): 0} {
		if got := kernel.Exp(x); got != want {
			t.Errorf("Exp(%g) = %g, want %g", x, got, want)
		}
	}
	if got := kernel.Exp(float32(math.NaN())); got == got {
		t.Errorf("Exp(NaN) = %g", got)
	}
}

// TestAttendSpans cuts a context into spans and compares with a float64 soft-max.
func TestAttendSpans(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 3))
	const group, dim, positions = 3, 64, 1300
	k := kernel.Portable{}
	a := kerneltest.Arena(r, k, kernel.KVF32, group, dim, positions, false)
	state := func() *kernel.Partial {
		return &kernel.Partial{M: make([]float32, group), L: make([]float32, group), O: make([]float32, group*dim)}
	}
	sum, part := state(), state()
	for lo := 0; lo < positions; lo += kernel.SpanPositions {
		a.Lo, a.Hi = lo, min(lo+kernel.SpanPositions, positions)
		if lo == 0 {
			k.Attend(sum, a)
			continue
		}
		k.Attend(part, a)
		kernel.Portable{}.Combine(sum, part)
	}
	got := make([]float32, group*dim)
	kernel.FinishSinks(got, sum, nil)
	at := func(p, off, j int) float64 {
		i := int(a.Pages[p/32])*a.PageBytes + off + (p%32*dim+j)*4
		return float64(math.Float32frombits(binary.LittleEndian.Uint32(a.Arena[i:])))
	}
	for g := range group {
		scores, top, total := make([]float64, positions), math.Inf(-1), 0.0
		for p := range positions {
			for j := range dim {
				scores[p] += float64(a.Q[g*dim+j]) * at(p, a.KOff, j)
			}
			top = max(top, scores[p])
		}
		out := make([]float64, dim)
		for p, s := range scores {
			e := math.Exp(s - top)
			total += e
			for j := range dim {
				out[j] += e * at(p, a.VOff, j)
			}
		}
		for j := range dim {
			if d := math.Abs(out[j]/total - float64(got[g*dim+j])); d > 1e-4 {
				t.Fatalf("head %d [%d] is off by %g", g, j, d)
			}
		}
	}
}

// TestSameOnEveryMachine holds the bits to what amd64 computed when the arithmetic was specified. A changed hash means
// that the arithmetic has changed, and with it every cached page and every answer: say so, or mend it.
func TestSameOnEveryMachine(t *testing.T) {
	want := map[string]string{
		"f32":         "f8ae9b94cd584209",
		"f16":         "1b070393d3239463",
		"bf16":        "a97e572121aaa8ac",
		"q8_0":        "33486c930c37b06d",
		"q4_0":        "b0a40919a2c8ea34",
		"q4_1":        "d732a23d9f758554",
		"q5_0":        "f46e31075cf460de",
		"q5_1":        "258f1cb417097969",
		"q2_k":        "0a1e814d0136af6d",
		"q3_k":        "10cf90235db14769",
		"q4_k":        "1971218cdfb7ef2b",
		"q5_k":        "4ae23e6f54dbc33d",
		"q6_k":        "7645768eaa75d84b",
		"iq4_nl":      "48c4e409fa7c2e22",
		"iq4_xs":      "e8803cdba4b9040a",
		"mxfp4":       "12a199348496876d",
		"iq1_s":       "fbbb8b0a194a06c9",
		"iq1_m":       "86de7d805aae9b58",
		"iq2_xxs":     "94981cd6d49638b0",
		"iq2_xs":      "cfa02a49b6d606a5",
		"iq2_s":       "12ba3f2a354ba44f",
		"iq3_xxs":     "df58e344d8df0d74",
		"iq3_s":       "b08a0ed52ab61335",
		"nvfp4":       "f3923ad80d6325f3",
		"tq1_0":       "555c31db72f150da",
		"tq2_0":       "ff0176de86e561fe",
		"q1_0":        "72dcc39514946f60",
		"q2_0":        "ceddf675ffd3d4b5",
		"q8_1":        "fed79a36633357cb",
		"q8_k":        "c8ff62e98df3c8a4",
		"group2":      "1f11effb2bf7cc8f",
		"group4":      "ad9e56388cde1330",
		"group8":      "6a550720e9f671ba",
		"nf4":         "07335175399318d7",
		"fp4":         "07f96a25054697ba",
		"attend f32":  "ed7ac814b8865bbf",
		"attend f16":  "1c0fd9bbebe4a0cc",
		"attend q8_0": "d031da0b422e50e8",
		"vectors":     "e0534ff1e7f03011",
	}
	k := kernel.Portable{}
	for _, f := range kerneltest.Formats() {
		seed := uint64(f)
		if f.IsBnB() { // these two had the numbers 17 and 18 when their hashes were taken
			seed = 17 + uint64(f-quant.NF4)
		}
		r := rand.New(rand.NewPCG(11, seed))
		h := sha256.New()
		for _, edge := range []bool{false, true} {
			w := kerneltest.Matrix(r, f, 5, 512, edge)
			x := kerneltest.Activation(r, 9, 512, edge, false)
			a := &kernel.Activations{}
			k.Grow(a, 9, 512)
			a.Rows, a.Cols, a.X = 9, 512, x
			k.Prepare(a, kernel.Fast, 0, 9)
			y := make([]float32, 9*5)
			for _, p := range []kernel.Precision{kernel.Fast, kernel.Exact} {
				k.MatMul(y, 5, w, a, p, 0, 5)
				hashFloats(h, y)
			}
		}
		check(t, want, f.String(), h)
	}
	r := rand.New(rand.NewPCG(12, 0))
	for i, kv := range []kernel.KVType{kernel.KVF32, kernel.KVF16, kernel.KVQ8} {
		h := sha256.New()
		a := kerneltest.Arena(r, k, kv, 3, 64, 300, false)
		h.Write(a.Arena)
		p := &kernel.Partial{M: make([]float32, 3), L: make([]float32, 3), O: make([]float32, 3*64)}
		k.Attend(p, a)
		q := &kernel.Partial{M: make([]float32, 3), L: make([]float32, 3), O: make([]float32, 3*64)}
		a.Hi = 77
		k.Attend(q, a)
		kernel.Portable{}.Combine(p, q)
		kernel.FinishSinks(p.O, p, nil)
		hashFloats(h, p.O)
		check(t, want, []string{"attend f32", "attend f16", "attend q8_0"}[i], h)
	}
	h := sha256.New()
	x, w := kerneltest.Floats(r, 333, false), kerneltest.Floats(r, 333, false)
	y := make([]float32, 333)
	k.RMSNorm(y, x, w, 1e-6)
	hashFloats(h, y)
	k.LayerNorm(y, x, w, x, 1e-6)
	hashFloats(h, y)
	k.SwiGLU(y, x)
	k.GELU(y)
	hashFloats(h, y)
	k.Rotate(y, w[:100], x[:100], false)
	k.Rotate(y, w[:100], x[:100], true)
	hashFloats(h, y)
	kernel.Softmax(y)
	hashFloats(h, y)
	check(t, want, "vectors", h)
}

func hashFloats(h interface{ Write([]byte) (int, error) }, y []float32) {
	var b [4]byte
	for _, v := range y {
		u := math.Float32bits(v)
		if v != v {
			u = 0x7fc00000
		}
		binary.LittleEndian.PutUint32(b[:], u)
		h.Write(b[:])
	}
}

func check(t *testing.T, want map[string]string, name string, h interface{ Sum([]byte) []byte }) {
	t.Helper()
	if got := hex.EncodeToString(h.Sum(nil)[:8]); got != want[name] {
		t.Errorf("%q: %q,", name, got)
	}
}
