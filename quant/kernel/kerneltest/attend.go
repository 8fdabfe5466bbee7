package kerneltest

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"edged/quant/kernel"
)

// attendOptions tests what attention may have beside queries, keys and values: caps, slopes, biases, values
// of another size, values inside of keys.
func attendOptions(t *testing.T, impl kernel.Kernels) {
	r := rand.New(rand.NewPCG(3, 2))
	for _, kv := range []kernel.KVType{kernel.KVF32, kernel.KVF16, kernel.KVQ8} {
		for _, size := range [][2]int{{64, 64}, {192, 128}, {96, 64}, {32, 256}, {24, 40}, {48, 80}, {576, 512}} {
			dim, vd := size[0], size[1]
			for _, group := range []int{1, 2, 4, 5, 9} {
				if dim > 256 && group > 4 && testing.Short() {
					continue
				}
				edge := group == 5
				pos := 1 + r.IntN(150)
				seed := r.Uint64()
				a := arena(rand.New(rand.NewPCG(seed, 0)), impl, kv, group, dim, vd, pos, edge)
				if group != 2 {
					a.SoftCap = float32(1 + 49*r.IntN(2))
				}
				if group != 4 {
					a.Slopes, a.Pos = Floats(r, group, edge), r.IntN(pos)
				}
				if group == 1 || group == 5 {
					a.BiasStride, a.BiasAt = 2*pos+1, r.IntN(pos)
					a.Bias = Floats(r, group*a.BiasStride, edge)
				}
				a.Latent = vd < dim && group < 4
				for _, span := range [][2]int{{0, pos}, {pos / 2, pos}, {pos / 3, pos/3 + 1}, {pos, pos}} {
					a.Lo, a.Hi = span[0], span[1]
					got, want := newPartial(group, vd), newPartial(group, vd)
					impl.Attend(got, a)
					kernel.Portable{}.Attend(want, a)
					what := fmt.Sprintf("kv type %d, dim %d, values %d, group %d, span %v: ", kv, dim, vd, group, span)
					diff(t, what+"M", got.M, want.M)
					diff(t, what+"L", got.L, want.L)
					diff(t, what+"O", got.O, want.O)
					if t.Failed() {
						return
					}
				}
			}
		}
	}
	a := arena(r, impl, kernel.KVF16, 4, 64, 64, 100, false)
	a.SoftCap, a.Slopes, a.Bias, a.BiasStride = 50, Floats(r, 4, false), Floats(r, 400, false), 100
	dst := newPartial(4, 64)
	if n := testing.AllocsPerRun(2, func() { impl.Attend(dst, a) }); n > 0 {
		t.Errorf("%g allocations a call", n)
	}
}

// Funcs are one of each function, with parameters as models have them.
func Funcs() []kernel.Func {
	var fs []kernel.Func
	for kind := range kernel.FuncKinds {
		f := kernel.Func{Kind: kind}
		switch kind {
		case kernel.QuickGELU:
			f.A = 1.702
		case kernel.ClampedSiLU:
			f.A, f.B = 1.702, 7
		case kernel.XIELU:
			f.A, f.B, f.C = 0.8, 1.3, 0.5
		case kernel.SoftCap:
			f.A = 30
		default:
		}
		fs = append(fs, f)
	}
	return fs
}

func functions(t *testing.T, impl kernel.Kernels) {
	r := rand.New(rand.NewPCG(4, 2))
	for _, f := range Funcs() {
		for _, n := range []int{1, 3, 16, 17, 31, 32, 47, 64, 70, 2048} {
			for _, edge := range []bool{false, true} {
				x, up := Floats(r, n, edge), Floats(r, n, edge)
				for i, v := range []float32{0.625, -0.6249999, -0.34375, -0.3437501, -1e-6, -5e-7, 88.1, -88.1, 7, 7.1, 20} {
					if edge && i < n {
						x[i] = v
					}
				}
				what := fmt.Sprintf("function %d, n %d, edge %v", f.Kind, n, edge)
				got, want := append(append([]float32{guard}, x...), guard), append(append([]float32{guard}, x...), guard)
				impl.Activate(got[1:n+1], f)
				kernel.Portable{}.Activate(want[1:n+1], f)
				diff(t, what, got, want)
				copy(got[1:], x)
				copy(want[1:], x)
				impl.Gate(got[1:n+1], up, f)
				kernel.Portable{}.Gate(want[1:n+1], up, f)
				diff(t, what+", as a gate", got, want)
			}
		}
	}
}
