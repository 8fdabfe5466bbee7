package speed

import (
	"encoding/binary"
	"math"
	"testing"

	"edged/core/infer/transformer/pool"
	"edged/quant"
	"edged/quant/kernel"
)

func TestMeasure(t *testing.T) {
	t.Parallel()
	got := Measure(kernel.Portable{}, quant.Q4_0, 2, 64<<20)
	for name, rate := range map[string]float64{"bytes": got.Bytes, "products": got.Products} {
		if !(rate > 1e6) || math.IsInf(rate, 0) {
			t.Errorf("%s: %g a second", name, rate)
		}
	}
}

func TestMemory(t *testing.T) {
	t.Parallel()
	for free, want := range map[int64]int{0: MostMemory, 1: leastMemory, 400 << 20: 100 << 20, 1 << 40: MostMemory} {
		if got := memory(free); got != want {
			t.Errorf("%d free: %d, want %d", free, got, want)
		}
	}
}

// A product of every format that a file may hold comes out as zeros of the zeros that stand for weights, and in all rows.
func TestProductOfEveryFormat(t *testing.T) {
	t.Parallel()
	for format := quant.F32; format <= quant.FP4; format++ {
		j := newProduct(kernel.Portable{}, format)
		j.a.Rows = 2
		j.k.Prepare(&j.a, kernel.Fast, 0, 2)
		for i := range j.y {
			j.y[i] = 7
		}
		for lo := 0; lo < productRows; lo += j.step {
			j.Do(0, lo/j.step)
		}
		for i, y := range j.y[:2*productRows] {
			if y != 0 {
				t.Errorf("%v: value %d is %g", format, i, y)
				break
			}
		}
	}
}

// Each byte is read once, whatever the threads: the faster sum that kernels bring is told all of them.
func TestSumReadsAll(t *testing.T) {
	t.Parallel()
	p := pool.New(2)
	defer p.Close()
	ranges := [][]byte{make([]byte, 3*chunkBytes+5), nil, make([]byte, 17)}
	lengths := &lengths{seen: make(chan int, 10)}
	if got, want := Sum(p, 2, lengths, ranges), int64(3*chunkBytes+22); got != want {
		t.Errorf("%d bytes, want %d", got, want)
	}
	close(lengths.seen)
	total := 0
	for n := range lengths.seen {
		total += n
	}
	if total != 3*chunkBytes+22 {
		t.Errorf("the kernels were given %d bytes", total)
	}
}

type lengths struct{ seen chan int }

func (l *lengths) Sum(p []byte) int64 { l.seen <- len(p); return 0 }

func TestSum(t *testing.T) {
	t.Parallel()
	buf := make([]byte, 300)
	for i := range buf {
		buf[i] = byte(i*7 + 1)
	}
	for lo := range 9 {
		for n := range 200 {
			p := buf[lo : lo+n]
			got := sum(p)
			// Which words are aligned is the allocator's affair: the sum is that of one of the eight phases.
			found := false
			for phase := range 8 {
				var want int64
				for at := phase; at+8 <= n; at += 8 {
					want += int64(binary.NativeEndian.Uint64(p[at:]))
				}
				found = found || got == want
			}
			if !found {
				t.Fatalf("%d bytes from %d: %d", n, lo, got)
			}
		}
	}
}
