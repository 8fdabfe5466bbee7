// Package kerneltest holds every implementation of kernel.Kernels to the portable one, bit for bit: random,
// edge and adversarial inputs, every format, odd row counts, tails, every batch size, guard values around
// outputs, no allocation.
//
// It must not know instruction sets: an implementation's test calls Run, its benchmark Bench.
package kerneltest

import (
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"

	"edged/quant"
	"edged/quant/kernel"
	"edged/quant/tile"
)

// Formats lists all formats.
func Formats() []quant.Format {
	var fs []quant.Format
	for f := quant.F32; f.Valid(); f++ {
		fs = append(fs, f)
	}
	return fs
}

// cols lists row lengths that f allows, tails included.
func cols(f quant.Format) []int {
	switch {
	case f.IsBnB():
		return []int{64, 192, 576, 100, 33}
	case f.IsGroup():
		return []int{32, 64, 192, 576, 100, 256}
	case f.BlockSize() == 1:
		return []int{1, 15, 16, 17, 63, 256, 300, 520}
	case f.BlockSize() < 256: // 32, 64 or 128
		n := f.BlockSize()
		return []int{n, 2 * n, 3 * n, 9 * n, 18 * n, 65 * n}
	default:
		return []int{256, 512, 1280}
	}
}

// Run tests impl against the portable kernels.
func Run(t *testing.T, impl kernel.Kernels) {
	t.Run("prepare", func(t *testing.T) { prepare(t, impl) })
	for _, f := range Formats() {
		t.Run("matmul/"+f.String(), func(t *testing.T) { matMul(t, impl, f) })
		t.Run("tiles/"+f.String(), func(t *testing.T) { tiles(t, impl, f) })
	}
	t.Run("attend", func(t *testing.T) { attend(t, impl) })
	t.Run("attend/options", func(t *testing.T) { attendOptions(t, impl) })
	t.Run("functions", func(t *testing.T) { functions(t, impl) })
	t.Run("vectors", func(t *testing.T) { vectors(t, impl) })
	t.Run("low rank", func(t *testing.T) { lowRank(t, impl) })
	t.Run("recurrence", func(t *testing.T) { recurrence(t, impl) })
	t.Run("threads", func(t *testing.T) { threads(t, impl) })
	t.Run("allocations", func(t *testing.T) { allocations(t, impl) })
}

// Same compares bits; all NaN are one.
func Same(a, b float32) bool {
	return math.Float32bits(a) == math.Float32bits(b) || a != a && b != b
}

// diff reports the first difference.
func diff(t *testing.T, what string, got, want []float32) {
	t.Helper()
	bad := 0
	for i := range want {
		if !Same(got[i], want[i]) {
			if bad == 0 {
				t.Errorf("%s: [%d] = %g (%#08x), want %g (%#08x)", what, i, got[i], math.Float32bits(got[i]), want[i], math.Float32bits(want[i]))
			}
			bad++
		}
	}
	if bad > 1 {
		t.Errorf("%s: %d of %d differ", what, bad, len(want))
	}
}

// activations prepares x (rows, cols) with k.
func activations(k kernel.Kernels, p kernel.Precision, x []float32, rows, cols int) *kernel.Activations {
	a := &kernel.Activations{}
	k.Grow(a, rows, cols)
	a.Rows, a.Cols, a.X = rows, cols, x
	mid := rows / 3
	k.Prepare(a, p, 0, mid)
	k.Prepare(a, p, mid, rows)
	return a
}

func prepare(t *testing.T, impl kernel.Kernels) {
	r := rand.New(rand.NewPCG(1, 1))
	for _, rows := range []int{1, 2, 7, 8, 9, 16, 19} {
		for _, n := range []int{32, 96, 576} {
			x := Activation(r, rows, n, rows > 1, rows > 8)
			want := activations(kernel.Portable{}, kernel.Fast, x, rows, n)
			got := activations(impl, kernel.Fast, x, rows, n)
			nb := rows * n / 32
			for i, q := range want.Q[:nb*32] {
				if got.Q[i] != q {
					t.Fatalf("rows %d cols %d: q[%d] = %d, want %d (x in block: %v)", rows, n, i, got.Q[i], q, x[:min(32, len(x))])
				}
			}
			diff(t, fmt.Sprintf("rows %d cols %d: scales", rows, n), got.D[:nb*4], want.D[:nb*4])
			for i, s := range want.S[:nb*3] {
				if got.S[i] != s {
					t.Fatalf("rows %d cols %d: s[%d] = %d, want %d", rows, n, i, got.S[i], s)
				}
			}
		}
	}
}

// guard stands where nothing may be written.
const guard = -12345.75

func matMul(t *testing.T, impl kernel.Kernels, f quant.Format) {
	r := rand.New(rand.NewPCG(2, uint64(f)))
	for _, n := range cols(f) {
		for _, edge := range []bool{false, true} {
			for _, rows := range []int{1, 16, 37} {
				w := Matrix(r, f, rows, n, edge)
				ts := []int{1, 2, 3, 8}
				if rows == 37 {
					ts = []int{1, 2, 4, 5, 6, 7, 9, 17}
				}
				for _, p := range []kernel.Precision{kernel.Fast, kernel.Exact} {
					matMulCase(t, impl, r, w, p, ts, edge)
				}
				if t.Failed() {
					return
				}
			}
		}
	}
}

// Tiler is an optional interface of implementations of kernel.Kernels.
type Tiler interface {
	TileRows(w *quant.Matrix) int
}

// Tile gives w tiles where impl takes them, and tells whether it does.
func Tile(impl kernel.Kernels, w *quant.Matrix) bool {
	k, ok := impl.(Tiler)
	if !ok {
		return false
	}
	lanes := k.TileRows(w)
	n := tile.Bytes(w, lanes)
	if n == 0 {
		return false
	}
	w.Tile = quant.Tile{Rows: lanes, Data: make([]byte, n)}
	groups := w.Rows / lanes
	for g := range groups {
		tile.Pack(w.Tile.Data[n/groups*g:n/groups*(g+1)], w, lanes, g)
	}
	return true
}

// tiles compares products with tiles with portable products with rows.
func tiles(t *testing.T, impl kernel.Kernels, f quant.Format) {
	r := rand.New(rand.NewPCG(8, uint64(f)))
	for _, n := range cols(f) {
		for _, edge := range []bool{false, true} {
			for _, rows := range []int{16, 37, 64} {
				w := Matrix(r, f, rows, n, edge)
				if !Tile(impl, w) {
					continue
				}
				matMulCase(t, impl, r, w, kernel.Fast, []int{1, 2, 3, 4, 5, 8, 14, 17}, edge)
			}
		}
	}
}

func matMulCase(t *testing.T, impl kernel.Kernels, r *rand.Rand, w *quant.Matrix, p kernel.Precision, ts []int, edge bool) {
	most := ts[len(ts)-1]
	x := Activation(r, most, w.Cols, edge, edge && r.IntN(2) == 0)
	ref := activations(kernel.Portable{}, p, x, most, w.Cols)
	want := make([]float32, most*w.Rows)
	kernel.Portable{}.MatMul(want, w.Rows, w, ref, p, 0, w.Rows)
	for _, rows := range ts {
		a := activations(impl, p, x, rows, w.Cols)
		ldy := w.Rows + 3
		y := make([]float32, rows*ldy+5)
		for i := range y {
			y[i] = guard
		}
		step := impl.RowMultiple(w)
		if step < 1 {
			t.Fatalf("%s: RowMultiple = %d", impl.Name(), step)
		}
		mid := min(w.Rows, w.Rows/2/step*step)
		impl.MatMul(y, ldy, w, a, p, mid, w.Rows)
		if mid > 0 {
			for i := range mid {
				if y[i] != guard {
					t.Errorf("%s %dx%d: row %d written outside of [%d, %d)", w.Name, w.Rows, w.Cols, i, mid, w.Rows)
				}
			}
			impl.MatMul(y, ldy, w, a, p, 0, mid)
		}
		for i := range rows {
			diff(t, fmt.Sprintf("%s %dx%d precision %d, row %d of %d, edge %v", w.Name, w.Rows, w.Cols, p, i, rows, edge),
				y[i*ldy:i*ldy+w.Rows], want[i*w.Rows:(i+1)*w.Rows])
			for j := w.Rows; j < ldy; j++ {
				if y[i*ldy+j] != guard {
					t.Errorf("%s %dx%d: written past the end of row %d", w.Name, w.Rows, w.Cols, i)
				}
			}
		}
		if t.Failed() {
			return
		}
	}
}

// Arena makes a KV arena of random pages in scrambled order, filled through impl.PutKV, and the arguments to
// attend to it.
func Arena(r *rand.Rand, impl kernel.Kernels, kv kernel.KVType, group, dim, positions int, edge bool) *kernel.AttendArgs {
	return arena(r, impl, kv, group, dim, dim, positions, edge)
}

// arena is Arena with values of another size than keys.
func arena(r *rand.Rand, impl kernel.Kernels, kv kernel.KVType, group, dim, vd, positions int, edge bool) *kernel.AttendArgs {
	n, vn := kv.RowBytes(dim), kv.RowBytes(vd)
	blocks := (positions + kernel.BlockPositions - 1) / kernel.BlockPositions
	pad := 64
	a := &kernel.AttendArgs{
		Q: Floats(r, group*dim, edge), Group: group, HeadDim: dim, Type: kv,
		PageBytes: (n+vn)*kernel.BlockPositions + pad, KOff: pad, VOff: pad + n*kernel.BlockPositions, Lo: 0, Hi: positions,
	}
	if vd != dim {
		a.ValueDim = vd
	}
	for i := range a.Q {
		a.Q[i] /= float32(math.Sqrt(float64(dim)))
	}
	a.Arena = make([]byte, (blocks+2)*a.PageBytes)
	for _, p := range r.Perm(blocks + 2)[:blocks] {
		a.Pages = append(a.Pages, int32(p))
	}
	for p := range positions {
		page := a.Arena[int(a.Pages[p/kernel.BlockPositions])*a.PageBytes:]
		impl.PutKV(page[a.KOff:a.VOff], kv, p%kernel.BlockPositions, Floats(r, dim, edge))
		impl.PutKV(page[a.VOff:a.PageBytes], kv, p%kernel.BlockPositions, Floats(r, vd, edge))
	}
	return a
}

// newPartial makes a state for group heads, filled with rubbish.
func newPartial(group, dim int) *kernel.Partial {
	p := &kernel.Partial{M: make([]float32, group), L: make([]float32, group), O: make([]float32, group*dim)}
	for i := range p.O {
		p.O[i] = guard
	}
	return p
}

func attend(t *testing.T, impl kernel.Kernels) {
	r := rand.New(rand.NewPCG(3, 1))
	for _, kv := range []kernel.KVType{kernel.KVF32, kernel.KVF16, kernel.KVQ8} {
		for _, dim := range []int{8, 24, 32, 48, 64, 80, 96, 112, 128, 192, 256, 512, kernel.MaxHeadDim} {
			for _, group := range []int{1, 2, 3, 4, 7, 9} {
				if dim > 256 && group > 4 && testing.Short() {
					continue
				}
				edge := group == 3
				pos := 1 + r.IntN(200)
				seed := r.Uint64()
				a := Arena(rand.New(rand.NewPCG(seed, 0)), impl, kv, group, dim, pos, edge)
				ref := Arena(rand.New(rand.NewPCG(seed, 0)), kernel.Portable{}, kv, group, dim, pos, edge)
				for i := range ref.Arena {
					if a.Arena[i] != ref.Arena[i] {
						t.Fatalf("kv type %d, dim %d: stored byte %d is %#x, want %#x", kv, dim, i, a.Arena[i], ref.Arena[i])
					}
				}
				for _, span := range [][2]int{{0, pos}, {pos / 2, pos}, {pos / 3, pos/3 + 1}, {pos, pos}} {
					a.Lo, a.Hi = span[0], span[1]
					got, want := newPartial(group, dim), newPartial(group, dim)
					impl.Attend(got, a)
					kernel.Portable{}.Attend(want, a)
					what := fmt.Sprintf("kv type %d, dim %d, group %d, span %v: ", kv, dim, group, span)
					diff(t, what+"M", got.M, want.M)
					diff(t, what+"L", got.L, want.L)
					diff(t, what+"O", got.O, want.O)
					if t.Failed() {
						return
					}
				}
				combine(t, impl, a, group, dim, pos)
			}
		}
	}
}

// combine merges two spans, in both orders, with themselves and with an empty one.
func combine(t *testing.T, impl kernel.Kernels, a *kernel.AttendArgs, group, dim, pos int) {
	t.Helper()
	for _, spans := range [][4]int{{0, pos / 2, pos / 2, pos}, {pos / 2, pos, 0, pos / 2}, {0, pos, 0, pos}, {0, pos, 0, 0}, {0, 0, 0, pos}} {
		got, want, part := newPartial(group, dim), newPartial(group, dim), newPartial(group, dim)
		a.Lo, a.Hi = spans[0], spans[1]
		kernel.Portable{}.Attend(got, a)
		kernel.Portable{}.Attend(want, a)
		a.Lo, a.Hi = spans[2], spans[3]
		kernel.Portable{}.Attend(part, a)
		impl.Combine(got, part)
		kernel.Portable{}.Combine(want, part)
		what := fmt.Sprintf("combined %v, dim %d, group %d: ", spans, dim, group)
		diff(t, what+"M", got.M, want.M)
		diff(t, what+"L", got.L, want.L)
		diff(t, what+"O", got.O, want.O)
	}
}

func vectors(t *testing.T, impl kernel.Kernels) {
	r := rand.New(rand.NewPCG(4, 1))
	ref := kernel.Portable{}
	lens := []int{2048}
	for n := 1; n <= 70; n++ {
		lens = append(lens, n)
	}
	for _, n := range lens {
		for _, edge := range []bool{false, true} {
			x, w, b := Floats(r, n, edge), Floats(r, n, false), Floats(r, n, false)
			if edge && n > 2 {
				x[n/2] = 200 // beyond Exp's range
				x[n/3] = -200
			}
			pair := func(what string, f func(k kernel.Kernels, y []float32)) {
				got, want := append([]float32(nil), x...), append([]float32(nil), x...)
				f(impl, got)
				f(ref, want)
				diff(t, fmt.Sprintf("%s, n %d, edge %v", what, n, edge), got, want)
			}
			pair("rmsnorm", func(k kernel.Kernels, y []float32) { k.RMSNorm(y, x, w, 1e-5) })
			pair("rmsnorm without weight", func(k kernel.Kernels, y []float32) { k.RMSNorm(y, x, nil, 1e-5) })
			pair("layernorm without weight", func(k kernel.Kernels, y []float32) { k.LayerNorm(y, y, nil, nil, 1e-5) })
			pair("rmsnorm in place", func(k kernel.Kernels, y []float32) { k.RMSNorm(y, y, w, 1e-5) })
			pair("layernorm", func(k kernel.Kernels, y []float32) { k.LayerNorm(y, x, w, b, 1e-5) })
			pair("layernorm without bias", func(k kernel.Kernels, y []float32) { k.LayerNorm(y, y, w, nil, 1e-5) })
			pair("swiglu", func(k kernel.Kernels, y []float32) { k.SwiGLU(y, w) })
			pair("gelu", func(k kernel.Kernels, y []float32) { k.GELU(y) })
			for _, inter := range []bool{false, true} {
				h := n / 2
				pair(fmt.Sprintf("rotate %v", inter), func(k kernel.Kernels, y []float32) { k.Rotate(y, w[:h], b[:h], inter) })
			}
		}
	}
}

// threads splits one product over goroutines in several ways, while the garbage collector runs.
func threads(t *testing.T, impl kernel.Kernels) {
	r := rand.New(rand.NewPCG(6, 1))
	for _, f := range []quant.Format{quant.F16, quant.Q4_0, quant.Q4_K, quant.Q6_K, quant.NF4} {
		const rows, n = 150, 512
		w := Matrix(r, f, rows, n, false)
		for _, tokens := range []int{1, 11} {
			x := Activation(r, tokens, n, false, false)
			a := activations(impl, kernel.Fast, x, tokens, n)
			want := make([]float32, tokens*rows)
			kernel.Portable{}.MatMul(want, rows, w, activations(kernel.Portable{}, kernel.Fast, x, tokens, n), kernel.Fast, 0, rows)
			for _, pieces := range []int{2, 5, 16} {
				y := make([]float32, tokens*rows)
				step := impl.RowMultiple(w)
				each := (rows/pieces + step) / step * step
				var wg sync.WaitGroup
				for lo := 0; lo < rows; lo += each {
					wg.Go(func() { impl.MatMul(y, rows, w, a, kernel.Fast, lo, min(lo+each, rows)) })
				}
				runtime.GC()
				wg.Wait()
				diff(t, fmt.Sprintf("%s, %d tokens, %d pieces", f, tokens, pieces), y, want)
			}
		}
	}
}

func allocations(t *testing.T, impl kernel.Kernels) {
	r := rand.New(rand.NewPCG(5, 1))
	for i := range 2 * len(Formats()) {
		f := Formats()[i/2]
		w := Matrix(r, f, 32, 512, false)
		if i%2 == 1 && !Tile(impl, w) {
			continue
		}
		for _, rows := range []int{1, 9} {
			a := activations(impl, kernel.Fast, Activation(r, rows, 512, false, false), rows, 512)
			y := make([]float32, rows*32)
			for _, p := range []kernel.Precision{kernel.Fast, kernel.Exact} {
				if n := testing.AllocsPerRun(2, func() {
					impl.Prepare(a, p, 0, rows)
					impl.MatMul(y, 32, w, a, p, 0, 32)
				}); n > 0 {
					t.Errorf("%s, %d rows, precision %d: %g allocations a call", f, rows, p, n)
				}
			}
		}
	}
	for _, kv := range []kernel.KVType{kernel.KVF32, kernel.KVF16, kernel.KVQ8} {
		a := Arena(r, impl, kv, 4, 64, 100, false)
		dst := newPartial(4, 64)
		x := Floats(r, 64, false)
		if n := testing.AllocsPerRun(2, func() {
			impl.PutKV(a.Arena[a.KOff:], kv, 0, x)
			impl.Attend(dst, a)
			impl.RMSNorm(x, x, x, 1)
			impl.LayerNorm(x, x, x, x, 1)
			impl.SwiGLU(x, x)
			impl.GELU(x)
			for kind := range kernel.FuncKinds {
				impl.Activate(x, kernel.Func{Kind: kind, A: 1, B: 2})
				impl.Gate(x, x, kernel.Func{Kind: kind, A: 1, B: 2})
			}
			impl.Rotate(x, x[:8], x[8:16], true)
		}); n > 0 {
			t.Errorf("kv type %d: %g allocations a call", kv, n)
		}
	}
}
