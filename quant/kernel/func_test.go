package kernel_test

import (
	"crypto/sha256"
	"encoding/hex"
	"math"
	"math/rand/v2"
	"testing"

	"edged/quant/kernel"
	"edged/quant/kernel/kerneltest"
)

// reference is f in float64.
func reference(f kernel.Func, x float64) float64 {
	a, b, c := float64(f.A), float64(f.B), float64(f.C)
	sigmoid := func(x float64) float64 { return 1 / (1 + math.Exp(-x)) }
	switch f.Kind {
	case kernel.SiLU:
		return x * sigmoid(x)
	case kernel.GELUTanh:
		return x * (1 + math.Tanh(math.Sqrt(2/math.Pi)*(x+0.044715*x*x*x))) / 2
	case kernel.GELUErf:
		return x * math.Erfc(-x/math.Sqrt2) / 2
	case kernel.QuickGELU:
		return x * sigmoid(a*x)
	case kernel.ReLU:
		return max(x, 0)
	case kernel.ReLU2:
		return max(x, 0) * max(x, 0)
	case kernel.XIELU:
		if x > 0 {
			return a*x*x + c*x
		}
		return b*(math.Expm1(min(x, -1e-6))-x) + c*x
	case kernel.ClampedSiLU:
		x = min(x, b)
		return x * sigmoid(a*x)
	case kernel.Sigmoid:
		return sigmoid(x)
	case kernel.TanhFunc:
		return math.Tanh(x)
	case kernel.Softplus:
		return max(x, 0) + math.Log1p(math.Exp(-math.Abs(x)))
	case kernel.SoftCap:
		return a * math.Tanh(x/a)
	default:
		return x
	}
}

// TestFunctions bounds their errors: relative to the result, or to the argument where a difference of the two is meant.
func TestFunctions(t *testing.T) {
	k := kernel.Portable{}
	for _, f := range kerneltest.Funcs() {
		worst, at := 0.0, float32(0)
		for u := uint32(0x30000000); u < 0x42900000; u += 7919 { // 5e-10 to 72
			for _, v := range []float32{math.Float32frombits(u), -math.Float32frombits(u)} {
				x := []float32{v}
				k.Activate(x, f)
				want := reference(f, float64(v))
				size := math.Abs(want)
				switch f.Kind {
				case kernel.GELUErf, kernel.GELUTanh, kernel.SiLU, kernel.QuickGELU, kernel.ClampedSiLU, kernel.XIELU:
					size = max(size, math.Abs(float64(v))/8)
				case kernel.Sigmoid, kernel.Softplus:
					size = max(size, 1e-30)
				default:
				}
				if e := math.Abs(float64(x[0])-want) / max(size, 1e-36); e > worst {
					worst, at = e, v
				}
			}
		}
		// The exponent of e⁻ˣ is rounded, which counts where it is large.
		if worst > 1e-6 {
			t.Errorf("function %d: f(%g) is off by %.3g", f.Kind, at, worst)
		}
	}
	inf := float32(math.Inf(1))
	for _, c := range []struct {
		kind    kernel.FuncKind
		x, want float32
	}{
		{kernel.TanhFunc, inf, 1},
		{kernel.TanhFunc, -inf, -1},
		{kernel.Softplus, inf, inf},
		{kernel.Softplus, -inf, 0},
		{kernel.Sigmoid, inf, 1},
		{kernel.Sigmoid, -inf, 0},
		{kernel.ReLU, -inf, 0},
		{kernel.ReLU2, inf, inf},
		{kernel.SiLU, inf, inf},
	} {
		f := kernel.Func{Kind: c.kind}
		if got := f.Of(c.x); got != c.want {
			t.Errorf("function %d: f(%g) = %g, want %g", c.kind, c.x, got, c.want)
		}
	}
	for kind := range kernel.FuncKinds {
		f := kernel.Func{Kind: kind, A: 1, B: 1, C: 1}
		if got := f.Of(float32(math.NaN())); got == got {
			t.Errorf("function %d: f(NaN) = %g", kind, got)
		}
	}
}

func TestClampedGate(t *testing.T) {
	gate, up := []float32{9, -3, 2, 7}, []float32{1, -12, 8, 0.5}
	kernel.Portable{}.Gate(gate, up, kernel.Func{Kind: kernel.ClampedSiLU, A: 1.702, B: 7})
	for i, c := range [][2]float64{{7, 2}, {-3, -6}, {2, 8}, {7, 1.5}} {
		want := c[0] / (1 + math.Exp(-1.702*c[0])) * c[1]
		if d := math.Abs(float64(gate[i]) - want); d > 1e-5*math.Abs(want) {
			t.Errorf("[%d] = %g, want %g", i, gate[i], want)
		}
	}
}

func TestL2Norm(t *testing.T) {
	x := []float32{3, 4, 0, 0, 12}
	kernel.L2Norm(x, x, 0)
	for i, want := range []float64{3.0 / 13, 4.0 / 13, 0, 0, 12.0 / 13} {
		if math.Abs(float64(x[i])-want) > 1e-7 {
			t.Errorf("[%d] = %g, want %g", i, x[i], want)
		}
	}
}

// TestAttendOptions compares with a float64 soft-max over two spans.
func TestAttendOptions(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 5))
	const group, dim, vd, positions, split = 3, 40, 24, 90, 37
	k := kernel.Portable{}
	for _, latent := range []bool{false, true} {
		for option := range 8 {
			a := kerneltest.Arena(r, k, kernel.KVF32, group, dim, positions, false)
			a.ValueDim, a.Latent = vd, latent
			if option&1 != 0 {
				a.SoftCap = 2
			}
			if option&2 != 0 {
				a.Slopes, a.Pos = []float32{0.5, 0.25, 0.125}, 60
			}
			if option&4 != 0 {
				a.Bias, a.BiasStride, a.BiasAt = kerneltest.Floats(r, group*100, false), 100, 9
			}
			var sinks []float32
			if option&1 == 0 {
				sinks = []float32{3, -1, 40}
			}
			state := func() *kernel.Partial {
				return &kernel.Partial{M: make([]float32, group), L: make([]float32, group), O: make([]float32, group*vd)}
			}
			sum, part := state(), state()
			a.Lo, a.Hi = 0, split
			k.Attend(sum, a)
			a.Lo, a.Hi = split, positions
			k.Attend(part, a)
			k.Combine(sum, part)
			got := make([]float32, group*vd)
			kernel.FinishSinks(got, sum, sinks)
			at := func(p, off, stride, j int) float64 {
				i := int(a.Pages[p/32])*a.PageBytes + off + (p%32*stride+j)*4
				return float64(math.Float32frombits(uint32(a.Arena[i]) | uint32(a.Arena[i+1])<<8 | uint32(a.Arena[i+2])<<16 | uint32(a.Arena[i+3])<<24))
			}
			for g := range group {
				scores, top := make([]float64, positions), math.Inf(-1)
				for p := range positions {
					for j := range dim {
						scores[p] += float64(a.Q[g*dim+j]) * at(p, a.KOff, dim, j)
					}
					if a.SoftCap > 0 {
						scores[p] = 2 * math.Tanh(scores[p]/2)
					}
					if a.Slopes != nil {
						scores[p] += float64(a.Slopes[g]) * float64(p-60)
					}
					if a.Bias != nil {
						scores[p] += float64(a.Bias[g*100+9+p])
					}
					top = max(top, scores[p])
				}
				total := 0.0
				if sinks != nil {
					top = max(top, float64(sinks[g]))
					total = math.Exp(float64(sinks[g]) - top)
				}
				out := make([]float64, vd)
				for p, s := range scores {
					e := math.Exp(s - top)
					total += e
					for j := range vd {
						if latent {
							out[j] += e * at(p, a.KOff, dim, j)
						} else {
							out[j] += e * at(p, a.VOff, vd, j)
						}
					}
				}
				for j := range vd {
					if d := math.Abs(out[j]/total - float64(got[g*vd+j])); d > 1e-4 {
						t.Fatalf("latent %v, options %d, head %d [%d] is off by %g", latent, option, g, j, d)
					}
				}
			}
		}
	}
}

// TestFilledBlock: q8_0 of sizes that 32 does not divide.
func TestFilledBlock(t *testing.T) {
	r := rand.New(rand.NewPCG(8, 8))
	k := kernel.Portable{}
	const dim = 40
	n := kernel.KVQ8.RowBytes(dim)
	if n != 68 {
		t.Fatalf("%d bytes", n)
	}
	x := kerneltest.Floats(r, dim, false)
	block := make([]byte, n*kernel.BlockPositions)
	k.PutKV(block, kernel.KVQ8, 3, x)
	unit := make([]float32, dim)
	a := &kernel.AttendArgs{
		Q: unit, Group: 1, HeadDim: dim, Type: kernel.KVQ8, Arena: block, PageBytes: len(block), Pages: []int32{0}, Lo: 3, Hi: 4,
	}
	p := &kernel.Partial{M: make([]float32, 1), L: make([]float32, 1), O: make([]float32, dim)}
	k.Attend(p, a)
	for i, v := range p.O {
		if math.Abs(float64(v-x[i])) > 0.1 {
			t.Errorf("[%d] = %g, stored was %g", i, v, x[i])
		}
	}
}

// TestOptionsSameOnEveryMachine is TestSameOnEveryMachine for functions and attention's options.
func TestOptionsSameOnEveryMachine(t *testing.T) {
	k := kernel.Portable{}
	r := rand.New(rand.NewPCG(13, 0))
	h := sha256.New()
	for _, f := range kerneltest.Funcs() {
		x := kerneltest.Floats(r, 333, true)
		k.Activate(x, f)
		hashFloats(h, x)
		k.Gate(x, kerneltest.Floats(r, 333, false), f)
		hashFloats(h, x)
	}
	x := kerneltest.Floats(r, 333, true)
	kernel.L2Norm(x, x, 1e-6)
	hashFloats(h, x)
	a := kerneltest.Arena(r, k, kernel.KVF32, 3, 40, 300, false)
	a.SoftCap, a.Slopes, a.Bias, a.BiasStride = 20, kerneltest.Floats(r, 3, false), kerneltest.Floats(r, 900, false), 300
	p := &kernel.Partial{M: make([]float32, 3), L: make([]float32, 3), O: make([]float32, 3*40)}
	k.Attend(p, a)
	kernel.FinishSinks(p.O, p, []float32{1, 2, 300})
	hashFloats(h, p.O)
	const want = "f867395a2fd7809d"
	if got := hex.EncodeToString(h.Sum(nil)[:8]); got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
