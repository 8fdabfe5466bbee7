package kerneltest

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"edged/quant/kernel"
)

// gap stands between the rows of every input and output.
const gap = 3

// near1 are n numbers of at most 1 in size: states must not grow with the rows.
func near1(r *rand.Rand, n int) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(2*r.Float64() - 1)
	}
	return x
}

// size makes all of x positive or, times -1, negative.
func size(x []float32, sign float32) []float32 {
	for i, v := range x {
		x[i] = sign * float32(math.Abs(float64(v)))
	}
	return x
}

// Conv makes a convolution.
func Conv(r *rand.Rand, rows, channels, width int) *kernel.ConvArgs {
	ld := channels + gap
	return &kernel.ConvArgs{
		Rows: rows, Channels: channels, Width: width, Y: filled(rows * ld), X: near1(r, rows*ld), LdY: ld, LdX: ld,
		W: near1(r, width*channels), B: near1(r, channels), State: near1(r, (width-1)*channels),
	}
}

// Scan makes a scan.
func Scan(r *rand.Rand, rows, heads, dim, states, groups int, perState bool) *kernel.ScanArgs {
	ld, ldt, lbc := heads*dim+gap, heads+gap, groups*states+gap
	a := &kernel.ScanArgs{
		Rows: rows, Heads: heads, HeadDim: dim, States: states, Groups: groups, PerState: perState,
		Y: filled(rows * ld), X: near1(r, rows*ld), LdY: ld, LdX: ld, DT: size(near1(r, rows*ldt), 1), LdDT: ldt,
		B: near1(r, rows*lbc), C: near1(r, rows*lbc), LdBC: lbc, D: near1(r, heads), State: near1(r, heads*dim*states),
	}
	a.A = size(near1(r, heads), -1)
	if perState {
		a.A = size(near1(r, heads*states), -1)
	}
	return a
}

// Delta makes linear attention with keys of length 1.
func Delta(r *rand.Rand, rows, keyHeads, heads, keyDim, valueDim int, perChannel bool) *kernel.DeltaArgs {
	lk, lv, lb, ld := keyHeads*keyDim+gap, heads*valueDim+gap, heads+gap, heads+gap
	if perChannel {
		ld = heads*keyDim + gap
	}
	a := &kernel.DeltaArgs{
		Rows: rows, KeyHeads: keyHeads, Heads: heads, KeyDim: keyDim, ValueDim: valueDim, PerChannel: perChannel,
		Q: near1(r, rows*lk), K: near1(r, rows*lk), V: near1(r, rows*lv), Y: filled(rows * lv), LdQ: lk, LdK: lk, LdV: lv, LdY: lv,
		Decay: size(near1(r, rows*ld), -1), LdDecay: ld, Beta: size(near1(r, rows*lb), 1), LdBeta: lb,
		State: near1(r, heads*keyDim*valueDim),
	}
	for t := range rows {
		for h := range keyHeads {
			k := a.K[t*lk+h*keyDim : t*lk+(h+1)*keyDim]
			kernel.L2Norm(k, k, 1e-6)
		}
	}
	return a
}

// WKV makes an RWKV-7 head's.
func WKV(r *rand.Rand, rows, heads, dim int) *kernel.WKVArgs {
	ld := heads*dim + gap
	a := &kernel.WKVArgs{
		Rows: rows, Heads: heads, Dim: dim, Q: near1(r, rows*ld), K: near1(r, rows*ld), V: near1(r, rows*ld), W: size(near1(r, rows*ld), 1),
		A: near1(r, rows*ld), B: near1(r, rows*ld), Y: filled(rows * ld), Ld: ld, State: near1(r, heads*dim*dim),
	}
	for t := range rows {
		for h := range heads {
			at := t*ld + h*dim
			kernel.L2Norm(a.A[at:at+dim], a.A[at:at+dim], 1e-6)
			for i := at; i < at+dim; i++ {
				a.B[i] = -a.A[i] * a.W[i]
			}
		}
	}
	return a
}

// recurrence compares with the portable functions, whole and with the rows and the heads cut anywhere.
func recurrence(t *testing.T, impl kernel.Kernels) {
	k, ok := impl.(kernel.Recurrence)
	if !ok {
		t.Fatalf("%s has no recurrence", impl.Name())
	}
	ref := kernel.Portable{}
	r := rand.New(rand.NewPCG(15, 1))
	for _, rows := range []int{1, 2, 5, 70} {
		cut := r.IntN(rows + 1)
		for _, width := range []int{2, 3, 4} {
			for _, channels := range []int{5, 16, 48, 100} {
				a := Conv(r, rows, channels, width)
				if width == 3 {
					a.B = nil
				}
				if channels == 48 {
					a.Y, a.LdY = a.X, a.LdX
				}
				want := *a
				want.X, want.State = slices.Clone(a.X), slices.Clone(a.State)
				want.Y = slices.Clone(a.Y)
				if channels == 48 {
					want.Y = want.X
				}
				ref.Conv(&want, 0, channels)
				mid := channels / 2 &^ 15
				for _, c := range [][2]int{{0, mid}, {mid, channels}} {
					first, second := *a, *a
					first.Rows, second.Rows = cut, rows-cut
					second.X, second.Y = a.X[cut*a.LdX:], a.Y[cut*a.LdY:]
					k.Conv(&first, c[0], c[1])
					k.Conv(&second, c[0], c[1])
				}
				what := fmt.Sprintf("conv, %d rows cut at %d, width %d, %d channels", rows, cut, width, channels)
				diff(t, what, a.Y, want.Y)
				diff(t, what+": state", a.State, want.State)
			}
		}
		for _, s := range [][4]int{{4, 8, 16, 2}, {6, 64, 128, 1}, {3, 5, 20, 3}, {40, 1, 16, 1}, {7, 1, 9, 1}, {2, 6, 48, 2}, {2, 4, 16, 1}} {
			for _, perState := range []bool{false, true} {
				rows := rows
				if rows == 70 && s == [4]int{2, 4, 16, 1} {
					rows = 150 // more than decays are computed for at once
				}
				if rows == 70 && s[2] == 128 && perState {
					continue
				}
				a := Scan(r, rows, s[0], s[1], s[2], s[3], perState)
				if s[1] == 6 {
					a.D = nil
				}
				want := *a
				want.Y, want.State = slices.Clone(a.Y), slices.Clone(a.State)
				ref.Scan(&want, 0, a.Heads)
				mid := a.Heads / 2
				for _, h := range [][2]int{{0, mid}, {mid, a.Heads}} {
					first, second := *a, *a
					first.Rows, second.Rows = cut, rows-cut
					second.X, second.Y, second.DT = a.X[cut*a.LdX:], a.Y[cut*a.LdY:], a.DT[cut*a.LdDT:]
					second.B, second.C = a.B[cut*a.LdBC:], a.C[cut*a.LdBC:]
					k.Scan(&first, h[0], h[1])
					k.Scan(&second, h[0], h[1])
				}
				what := fmt.Sprintf("scan, %d rows cut at %d, %v, per state %v", rows, cut, s, perState)
				diff(t, what, a.Y, want.Y)
				diff(t, what+": state", a.State, want.State)
			}
		}
		for _, s := range [][4]int{{2, 4, 16, 32}, {1, 2, 128, 128}, {2, 2, 12, 20}, {1, 3, 64, 48}, {4, 4, 7, 16}, {1, 2, 9, 80}} {
			for option := range 4 {
				rows := rows
				if rows == 70 && s[3] == 80 {
					rows = 150 // more than decays are computed for at once
				}
				a := Delta(r, rows, s[0], s[1], s[2], s[3], option&1 != 0)
				a.Tiled = option == 2
				if option == 3 {
					a.Beta = nil
				}
				want := *a
				want.Y, want.State = slices.Clone(a.Y), slices.Clone(a.State)
				ref.Delta(&want, 0, a.Heads)
				mid := a.Heads / 2
				for _, h := range [][2]int{{0, mid}, {mid, a.Heads}} {
					first, second := *a, *a
					first.Rows, second.Rows = cut, rows-cut
					second.Q, second.K, second.V, second.Y = a.Q[cut*a.LdQ:], a.K[cut*a.LdK:], a.V[cut*a.LdV:], a.Y[cut*a.LdY:]
					second.Decay = a.Decay[cut*a.LdDecay:]
					if a.Beta != nil {
						second.Beta = a.Beta[cut*a.LdBeta:]
					}
					k.Delta(&first, h[0], h[1])
					k.Delta(&second, h[0], h[1])
				}
				what := fmt.Sprintf("delta, %d rows cut at %d, %v, option %d", rows, cut, s, option)
				diff(t, what, a.Y, want.Y)
				diff(t, what+": state", a.State, want.State)
			}
		}
		for _, s := range [][2]int{{2, 64}, {3, 12}, {1, 16}} {
			a := WKV(r, rows, s[0], s[1])
			want := *a
			want.Y, want.State = slices.Clone(a.Y), slices.Clone(a.State)
			ref.WKV(&want, 0, a.Heads)
			first, second := *a, *a
			first.Rows, second.Rows = cut, rows-cut
			at := cut * a.Ld
			second.Q, second.K, second.V, second.W = a.Q[at:], a.K[at:], a.V[at:], a.W[at:]
			second.A, second.B, second.Y = a.A[at:], a.B[at:], a.Y[at:]
			for h := range a.Heads {
				k.WKV(&first, h, h+1)
				k.WKV(&second, h, h+1)
			}
			what := fmt.Sprintf("wkv, %d rows cut at %d, %v", rows, cut, s)
			diff(t, what, a.Y, want.Y)
			diff(t, what+": state", a.State, want.State)
		}
		if t.Failed() {
			return
		}
	}
	conv, scan, delta, wkv := Conv(r, 2, 32, 4), Scan(r, 2, 2, 4, 16, 1, false), Delta(r, 2, 1, 2, 16, 16, false), WKV(r, 2, 1, 16)
	if n := testing.AllocsPerRun(2, func() {
		k.Conv(conv, 0, 32)
		k.Scan(scan, 0, 2)
		k.Delta(delta, 0, 2)
		k.WKV(wkv, 0, 1)
	}); n > 0 {
		t.Errorf("%g allocations a call", n)
	}
}
