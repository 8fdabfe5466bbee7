package simd

import (
	"math"

	"edged/quant/kernel"
)

// LoRADown computes A·x.
func (k *Kernels) LoRADown(mid []float32, ld int, f *kernel.Factors, x []float32, tokens, lo, hi int) {
	if k.LoRADown1 == nil {
		k.Portable.LoRADown(mid, ld, f, x, tokens, lo, hi)
		return
	}
	if lo >= hi || tokens < 1 {
		return
	}
	const group = kernel.LoRAGroup
	size := 2 * group * f.In
	_, _ = mid[(tokens-1)*ld+hi*group-1], x[tokens*f.In-1]
	t := 0
	if k.LoRADown4 != nil {
		for ; t+4 <= tokens; t += 4 {
			for g := lo; g < hi; g++ {
				k.LoRADown4(ptr(mid[t*ld+g*group:]), ptr(f.A[g*size:(g+1)*size]), ptr(x[t*f.In:]), f.In, ld, f.In)
			}
		}
	}
	for ; t < tokens; t++ {
		k.LoRADown1(ptr(mid[t*ld+lo*group:]), ptr(f.A[lo*size:hi*size]), ptr(x[t*f.In:]), f.In, hi-lo)
	}
}

// LoRAUp adds B·mid.
func (k *Kernels) LoRAUp(y []float32, f *kernel.Factors, mid []float32, scale float32, lo, hi int) {
	if k.Set.LoRAUp == nil {
		k.Portable.LoRAUp(y, f, mid, scale, lo, hi)
		return
	}
	if lo >= hi {
		return
	}
	k.Set.LoRAUp(ptr(y[:hi-lo]), ptr(f.B[2*f.Rank*lo:2*f.Rank*hi]), ptr(mid[:f.Rank]), f.Rank, hi-lo, int(math.Float32bits(scale)))
}
