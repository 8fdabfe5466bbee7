// Package torchrand draws what torch's generator on a CPU draws of a seed, bit for bit: adapters that keep
// only the seed of their projections are served by it.
//
// The generator is the Mersenne Twister (Matsumoto and Nishimura 1998, MT19937) seeded with the low 32 bits;
// what is made of its numbers follows pytorch, aten/src/ATen/core/DistributionsHelper.h and
// TransformationHelper.h, and randperm of aten/src/ATen/native/TensorFactories.cpp. Checked against torch
// 2.15.0. A Generator is for one goroutine.
package torchrand

import "math"

const (
	words  = 624
	middle = 397
)

// A Generator is torch.Generator("cpu").manual_seed(seed).
type Generator struct {
	state [words]uint32
	next  int
}

// New seeds a generator.
func New(seed uint64) *Generator {
	g := &Generator{next: words}
	g.state[0] = uint32(seed)
	for i := 1; i < words; i++ {
		p := g.state[i-1]
		g.state[i] = 1812433253*(p^p>>30) + uint32(i)
	}
	return g
}

// Uint32 is the next number.
func (g *Generator) Uint32() uint32 {
	if g.next == words {
		g.renew()
	}
	y := g.state[g.next]
	g.next++
	y ^= y >> 11
	y ^= y << 7 & 0x9d2c5680
	y ^= y << 15 & 0xefc60000
	return y ^ y>>18
}

func (g *Generator) renew() {
	for i := range g.state {
		y := g.state[i]&(1<<31) | g.state[(i+1)%words]&(1<<31-1)
		g.state[i] = g.state[(i+middle)%words] ^ y>>1 ^ y&1*0x9908b0df
	}
	g.next = 0
}

// Uniform fills dst with Tensor.uniform_(from, to) of float32.
func (g *Generator) Uniform(dst []float32, from, to float64) {
	low, width := float32(from), float32(to)-float32(from)
	for i := range dst {
		x := float32(g.Uint32()&(1<<24-1)) * (1.0 / (1 << 24))
		dst[i] = float32(float64(float64(x)*float64(width)) + float64(low))
	}
}

// UniformBF16 is Uniform of bfloat16: what rounds to the upper bound becomes the lower one.
func (g *Generator) UniformBF16(dst []float32, from, to float64) {
	g.Uniform(dst, from, to)
	low, high := BF16(float32(from)), BF16(float32(to))
	for i, v := range dst {
		if dst[i] = BF16(v); dst[i] == high {
			dst[i] = low
		}
	}
}

// BF16 rounds a finite number to bfloat16, ties to even.
func BF16(v float32) float32 {
	b := math.Float32bits(v)
	b += 1<<15 - 1 + b>>16&1
	return math.Float32frombits(b &^ (1<<16 - 1))
}

// Perm is torch.randperm(n)[:first]. It takes 4 n bytes while it runs; n is below 2³², first at most n.
func (g *Generator) Perm(n, first int) []int {
	all := make([]uint32, n)
	for i := range all {
		all[i] = uint32(i)
	}
	for i := range min(first, n-1) {
		z := i + int(uint64(g.Uint32())%uint64(n-i))
		all[i], all[z] = all[z], all[i]
	}
	out := make([]int, first)
	for i := range out {
		out[i] = int(all[i])
	}
	return out
}
