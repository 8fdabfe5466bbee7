package sample

import (
	"encoding/binary"
	"hash/fnv"
	"math"
	"math/big"
	"math/rand/v2"
	"testing"
)

func TestPow2Table(t *testing.T) {
	root := new(big.Float).SetPrec(300).SetInt64(2)
	for range 6 {
		root.Sqrt(root)
	}
	v := new(big.Float).SetPrec(300).SetInt64(1)
	for i, got := range pow2 {
		if want, _ := v.Float64(); got != want {
			t.Errorf("2^(%d/64) is %x, the table has %x", i, want, got)
		}
		v.Mul(v, root)
	}
}

func TestExpLogAccuracy(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 200_000 {
		x := -rng.Float64() * 690
		if got, want := exp(x), math.Exp(x); math.Abs(got-want) > 1e-15*want {
			t.Fatalf("exp(%v) = %v, want %v", x, got, want)
		}
		y := math.Exp(rng.Float64()*1400 - 700)
		if got, want := log(y), math.Log(y); math.Abs(got-want) > 1e-15*max(1, math.Abs(want)) {
			t.Fatalf("log(%v) = %v, want %v", y, got, want)
		}
	}
	for _, c := range []struct{ x, want float64 }{{0, 1}, {math.Copysign(0, -1), 1}, {-701, 0}, {math.Inf(-1), 0}, {-math.MaxFloat64, 0}} {
		if got := exp(c.x); got != c.want {
			t.Errorf("exp(%v) = %v, want %v", c.x, got, c.want)
		}
	}
	if got := log(1); got != 0 {
		t.Errorf("log(1) = %v", got)
	}
}

// TestBits holds exp and log to the same bits on every architecture: the hash was computed on amd64 (Go 1.26). The
// products of the test itself are rounded too, or arm64 would fuse them.
func TestBits(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	h := fnv.New64a()
	var b [16]byte
	for range 100_000 {
		binary.LittleEndian.PutUint64(b[:], math.Float64bits(exp(float64(-40*rng.Float64()))))
		binary.LittleEndian.PutUint64(b[8:], math.Float64bits(log(1+float64(1e5*rng.Float64()))))
		h.Write(b[:])
	}
	if got, want := h.Sum64(), uint64(0x795e721bec5165f); got != want {
		t.Errorf("hash %#x, want %#x", got, want)
	}
}

// TestPhilox checks the known answers of the Random123 distribution (kat_vectors, philox4x32 10).
func TestPhilox(t *testing.T) {
	for _, c := range []struct {
		ctr  [4]uint32
		key  [2]uint32
		want [4]uint32
	}{
		{want: [4]uint32{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
		{
			ctr:  [4]uint32{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
			key:  [2]uint32{0xffffffff, 0xffffffff},
			want: [4]uint32{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd},
		},
		{
			ctr:  [4]uint32{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
			key:  [2]uint32{0xa4093822, 0x299f31d0},
			want: [4]uint32{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1},
		},
	} {
		if got := philox(c.ctr, c.key); got != c.want {
			t.Errorf("philox(%x, %x) = %x, want %x", c.ctr, c.key, got, c.want)
		}
	}
}

func TestUniform(t *testing.T) {
	seen := map[float64]bool{}
	mean := 0.0
	const n = 20_000
	for i := range n {
		u := uniform(7, i%8, i/8)
		if u < 0 || u >= 1 {
			t.Fatalf("%v is outside [0, 1)", u)
		}
		if seen[u] {
			t.Fatalf("choice %d step %d repeats a number", i%8, i/8)
		}
		seen[u] = true
		mean += u / n
	}
	if math.Abs(mean-0.5) > 0.01 {
		t.Errorf("mean %v", mean)
	}
	if uniform(7, 0, 1) != uniform(7, 0, 1) || uniform(7, 0, 1) == uniform(8, 0, 1) || uniform(7, 0, 1) == uniform(1<<40|7, 0, 1) {
		t.Error("not a function of the whole seed")
	}
}
