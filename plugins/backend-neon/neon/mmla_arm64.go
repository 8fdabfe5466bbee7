//go:build !purego

package neon

import "edged/quant/kernel/simd"

// mmla lists the kernels for processors that multiply matrices of int8, too: panels are multiplied with that, everything else as
// with dot product.
func mmla() simd.Set {
	s := dot()
	s.Name = "neon-i8mm"
	s.Gemm = [simd.Variants][4]simd.Args{
		simd.Plain:   {gemm1Mmla, gemm2Mmla, gemm4Mmla, gemm8Mmla},
		simd.Offsets: {gemm1OffMmla, gemm2OffMmla, gemm4OffMmla, gemm8OffMmla},
		simd.TwoPart: {gemm1TwoMmla, gemm2TwoMmla, gemm4TwoMmla, gemm8TwoMmla},
	}
	s.TurnPanel, s.TurnTokens = turnPanelMmla, turnTokensMmla
	return s
}
