package adapter

import (
	"fmt"
	"math"
	"unsafe"

	"edged/core/infer/transformer/parts"
	"edged/core/model/mmap"
	"edged/quant"
	"edged/quant/kernel"
)

// Delta holds the factors of one linear layer, in one of two forms: as float16 in the order in which they are
// read, which is what kernel.Fast takes wherever the shape allows; or as they are stored.
//
// A token reads all factors of its adapter, each once: at rank 16 on all linear layers they are 5.9 % of the
// bytes of a 1B model in 4 bits as float32, and 3 % as float16, whose rounding is far below that of the 8-bit
// activations beside it.
type Delta struct {
	Rank     int
	Scale    float32
	F        kernel.Factors // Rank 0: a and b are used
	A, B     *quant.Matrix  // (rank, in), (out, rank); no a: b is (out, in), a change of no low rank
	Dora     *DoRA          // nil: plain LoRA
	Bias     []float32      // (out), added times the use's scale; nil: none
	Multiple int            // where ranges over the outputs may start
}

// Packed tells the form.
func (l *Delta) Packed() bool { return l.F.Rank > 0 }

// bytes is the memory that it takes.
func (l *Delta) bytes() int64 {
	n := int64(len(l.F.A)) + int64(len(l.F.B))
	if !l.Packed() {
		n = parts.Bytes(l.B)
		if l.A != nil {
			n += parts.Bytes(l.A)
		}
	}
	n += 4 * int64(len(l.Bias))
	if l.Dora != nil {
		n += doraBytes(len(l.Dora.gain))
	}
	return n
}

// pack lays the factors out in float16. They are multiplied by powers of two that scale takes back, so that
// no value is lost at either end of float16.
func (l *Delta) pack(mem *store) {
	na, nb, _ := kernel.LoRASizes(l.Rank, l.A.Cols, l.B.Rows)
	l.F = kernel.Factors{Rank: l.Rank, In: l.A.Cols, Out: l.B.Rows, A: mem.alloc(na), B: mem.alloc(nb)}
	x, y := kernel.LoRAScale(l.A), kernel.LoRAScale(l.B)
	kernel.PackLoRA(&l.F, l.A, l.B, x, y)
	l.Scale = float32(float64(l.Scale) / float64(x) / float64(y))
}

// packable tells whether the shape can be laid out, and how many bytes it takes.
func (l *Delta) packable() (int64, bool) {
	if l.A == nil {
		return 0, false
	}
	a, b, ok := kernel.LoRASizes(l.Rank, l.A.Cols, l.B.Rows)
	return storeAlign(a) + storeAlign(b), ok
}

// store is the memory of one adapter, off the Go heap.
type store struct {
	mem  *mmap.Mapping
	free []byte
}

func newStore(n int64) (*store, error) {
	if n > math.MaxInt {
		return nil, fmt.Errorf("%d bytes are more than this system's address space holds", n)
	}
	b, mem, err := mmap.Reserve(n)
	if err != nil {
		return nil, err
	}
	_ = mem.Advise(mmap.HugePage) // a hint
	return &store{mem: mem, free: b}, nil
}

// storeAlign rounds a number of bytes up to whole cache lines.
func storeAlign(n int64) int64 { return (n + 63) &^ 63 }

// alloc hands out n zeroed bytes; newStore has made room for them.
func (s *store) alloc(n int64) []byte {
	out := s.free[:n:n]
	s.free = s.free[storeAlign(n):]
	return out
}

// floats hands out n values.
func (s *store) floats(n int) []float32 {
	b := s.alloc(4 * int64(n))
	return unsafe.Slice((*float32)(unsafe.Pointer(unsafe.SliceData(b))), n)
}

func (s *store) close() error {
	if s == nil {
		return nil
	}
	return s.mem.Close()
}

// doraBytes returns the bytes that newDora takes from a store.
func doraBytes(out int) int64 { return 4 * storeAlign(4*int64(out)) }

// Ld is the number of values that a row of A x takes.
func (l *Delta) Ld() int {
	if l.Packed() {
		return l.F.Groups() * kernel.LoRAGroup
	}
	return l.Rank
}
