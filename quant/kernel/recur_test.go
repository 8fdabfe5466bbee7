package kernel_test

import (
	"crypto/sha256"
	"encoding/hex"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"edged/quant/kernel"
	"edged/quant/kernel/kerneltest"
)

// near compares with float64.
func near(t *testing.T, what string, got []float32, want []float64) {
	t.Helper()
	for i, w := range want {
		if d := math.Abs(float64(got[i]) - w); !(d <= 2e-5*(1+math.Abs(w))) {
			t.Fatalf("%s: [%d] = %g, want %g", what, i, got[i], w)
		}
	}
}

func wide(x []float32) []float64 {
	y := make([]float64, len(x))
	for i, v := range x {
		y[i] = float64(v)
	}
	return y
}

func TestConv(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 16))
	for _, width := range []int{1, 2, 3, 4} {
		a := kerneltest.Conv(r, 9, 21, width)
		x, state := wide(a.X), wide(a.State)
		a.Y, a.LdY = a.X, a.LdX
		kernel.Portable{}.Conv(a, 0, a.Channels)
		in := func(t, c int) float64 {
			if t >= 0 {
				return x[t*a.LdX+c]
			}
			return state[(width-1+t)*a.Channels+c]
		}
		for row := range a.Rows {
			want := make([]float64, a.Channels)
			for c := range want {
				want[c] = float64(a.B[c])
				for j := range width {
					want[c] += float64(a.W[j*a.Channels+c]) * in(row-width+1+j, c)
				}
			}
			near(t, "row", a.Y[row*a.LdY:], want)
		}
		for j := range width - 1 {
			for c := range a.Channels {
				if got := a.State[j*a.Channels+c]; float64(got) != in(a.Rows-width+1+j, c) {
					t.Fatalf("width %d: state [%d,%d] = %g", width, j, c, got)
				}
			}
		}
	}
}

func TestScan(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 16))
	for _, perState := range []bool{false, true} {
		a := kerneltest.Scan(r, 7, 6, 5, 20, 2, perState)
		s, x := wide(a.State), wide(a.X)
		kernel.Portable{}.Scan(a, 0, a.Heads)
		for row := range a.Rows {
			want := make([]float64, a.Heads*a.HeadDim)
			for h := range a.Heads {
				dt := float64(a.DT[row*a.LdDT+h])
				at := row*a.LdBC + h/3*a.States
				for p := range a.HeadDim {
					i := h*a.HeadDim + p
					v := x[row*a.LdX+i]
					want[i] = float64(a.D[h]) * v
					for n := range a.States {
						decay := float64(a.A[h%len(a.A)])
						if perState {
							decay = float64(a.A[h*a.States+n])
						}
						st := &s[i*a.States+n]
						*st = *st*math.Exp(dt*decay) + dt*v*float64(a.B[at+n])
						want[i] += *st * float64(a.C[at+n])
					}
				}
			}
			near(t, "y", a.Y[row*a.LdY:], want)
		}
		near(t, "state", a.State, s)
	}
}

func TestDelta(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 16))
	for option := range 8 {
		a := kerneltest.Delta(r, 6, 2, 6, 12, 20, option&1 != 0)
		a.Tiled = option&2 != 0
		if option&4 != 0 {
			a.Beta = nil
		}
		s := wide(a.State)
		kernel.Portable{}.Delta(a, 0, a.Heads)
		for row := range a.Rows {
			want := make([]float64, a.Heads*a.ValueDim)
			for h := range a.Heads {
				kh := h / 3
				if a.Tiled {
					kh = h % 2
				}
				for j := range a.ValueDim {
					read := 0.0
					for i := range a.KeyDim {
						g := row*a.LdDecay + h
						if a.PerChannel {
							g = row*a.LdDecay + h*a.KeyDim + i
						}
						st := &s[(h*a.KeyDim+i)*a.ValueDim+j]
						*st *= math.Exp(float64(a.Decay[g]))
						read += *st * float64(a.K[row*a.LdK+kh*a.KeyDim+i])
					}
					d := float64(a.V[row*a.LdV+h*a.ValueDim+j])
					if a.Beta != nil {
						d = float64(a.Beta[row*a.LdBeta+h]) * (d - read)
					}
					for i := range a.KeyDim {
						st := &s[(h*a.KeyDim+i)*a.ValueDim+j]
						*st += float64(a.K[row*a.LdK+kh*a.KeyDim+i]) * d
						want[h*a.ValueDim+j] += *st * float64(a.Q[row*a.LdQ+kh*a.KeyDim+i])
					}
				}
			}
			near(t, "y", a.Y[row*a.LdY:], want)
		}
		near(t, "state", a.State, s)
	}
}

func TestWKV(t *testing.T) {
	r := rand.New(rand.NewPCG(4, 16))
	a := kerneltest.WKV(r, 6, 3, 12)
	s := wide(a.State)
	kernel.Portable{}.WKV(a, 0, a.Heads)
	n := a.Dim
	for row := range a.Rows {
		want := make([]float64, a.Heads*n)
		for h := range a.Heads {
			at := row*a.Ld + h*n
			for j := range n {
				read := 0.0
				for i := range n {
					read += s[(h*n+i)*n+j] * float64(a.A[at+i])
				}
				for i := range n {
					st := &s[(h*n+i)*n+j]
					*st = *st*float64(a.W[at+i]) + float64(a.B[at+i])*read + float64(a.K[at+i])*float64(a.V[at+j])
					want[h*n+j] += *st * float64(a.Q[at+i])
				}
			}
		}
		near(t, "y", a.Y[row*a.Ld:], want)
	}
	near(t, "state", a.State, s)
}

func TestRGLRU(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 16))
	const n = 19
	h, x, rg, ig, c := kerneltest.Floats(r, n, false), kerneltest.Floats(r, n, false), kerneltest.Floats(r, n, false), kerneltest.Floats(r, n, false), kerneltest.Floats(r, n, false)
	for i := range c {
		c[i] = -float32(math.Abs(float64(c[i])))
	}
	for _, first := range []bool{true, false} {
		want := wide(h)
		for i := range want {
			l := float64(c[i]) / (1 + math.Exp(-float64(rg[i])))
			u := float64(x[i]) / (1 + math.Exp(-float64(ig[i])))
			if !first {
				u *= math.Sqrt(1 - math.Exp(2*l))
			}
			want[i] = want[i]*math.Exp(l) + u
		}
		y := slices.Clone(x)
		kernel.RGLRU(y, h, y, rg, ig, c, first)
		near(t, "h", h, want)
		near(t, "y", y, want)
	}
}

func TestCutBelow(t *testing.T) {
	r := rand.New(rand.NewPCG(6, 16))
	x := kerneltest.Floats(r, 333, false)
	mean, sq := 0.0, 0.0
	for _, v := range x {
		mean += float64(v) / 333
	}
	for _, v := range x {
		sq += (float64(v) - mean) * (float64(v) - mean) / 333
	}
	want := wide(x)
	for i, v := range want {
		want[i] = max(v-mean-1.6*math.Sqrt(sq), 0)
	}
	kernel.CutBelow(x, 1.6)
	near(t, "x", x, want)
}

// TestRecurrenceSameOnEveryMachine is TestSameOnEveryMachine for these.
func TestRecurrenceSameOnEveryMachine(t *testing.T) {
	k := kernel.Portable{}
	r := rand.New(rand.NewPCG(14, 0))
	h := sha256.New()
	conv := kerneltest.Conv(r, 9, 40, 4)
	k.Conv(conv, 0, conv.Channels)
	hashFloats(h, conv.Y)
	hashFloats(h, conv.State)
	for _, perState := range []bool{false, true} {
		scan := kerneltest.Scan(r, 9, 4, 8, 16, 2, perState)
		k.Scan(scan, 0, scan.Heads)
		hashFloats(h, scan.Y)
		hashFloats(h, scan.State)
		delta := kerneltest.Delta(r, 9, 2, 4, 16, 24, perState)
		k.Delta(delta, 0, delta.Heads)
		hashFloats(h, delta.Y)
		hashFloats(h, delta.State)
	}
	wkv := kerneltest.WKV(r, 9, 2, 16)
	k.WKV(wkv, 0, wkv.Heads)
	hashFloats(h, wkv.Y)
	hashFloats(h, wkv.State)
	x := kerneltest.Floats(r, 90, false)
	kernel.CutBelow(x[:30], 0.5)
	kernel.RGLRU(x[:30], x[30:60], x[:30], x[60:], x[60:], conv.B[:30], false)
	hashFloats(h, x)
	const want = "d4ef8c593c775f1c"
	if got := hex.EncodeToString(h.Sum(nil)[:8]); got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
