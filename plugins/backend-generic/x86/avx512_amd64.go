//go:build !purego

package x86

import "edged/quant/kernel/simd"

// avx512 lists the kernels for AVX-512 with VNNI.
func avx512() simd.Set {
	s := avx512Table()
	s.Name, s.Lanes, s.Bias = "avx512", 16, 128
	s.Tail16, s.Tiles, s.FewTokens = true, true, 32
	return s
}
