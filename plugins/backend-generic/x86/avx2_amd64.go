//go:build !purego

package x86

import "edged/quant/kernel/simd"

// avx2 lists the kernels for AVX2.
func avx2() simd.Set {
	s := avx2Table()
	s.Name, s.Lanes = "avx2", 8
	s.Tiles, s.FewTokens = true, 8
	return s
}
