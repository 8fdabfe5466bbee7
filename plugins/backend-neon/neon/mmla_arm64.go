//go:build !purego

package neon

import "edged/quant/kernel/simd"

// mmla lists the kernels for processors that multiply matrices of int8, too: panels are multiplied with that,
// everything else as with dot product.
func mmla() simd.Set {
	s, t := dot(), mmlaTable()
	s.Name = "neon-i8mm"
	s.Gemm, s.TurnPanel, s.TurnTokens = t.Gemm, t.TurnPanel, t.TurnTokens
	return s
}
