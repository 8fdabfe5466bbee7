//go:build !purego

package neon

import "edged/quant/kernel/simd"

// base lists the kernels for Advanced SIMD as ARMv8.0 has it.
func base() simd.Set {
	s := baseTable()
	s.Name, s.Lanes = "neon", 4
	s.Tail16, s.FewTokens = true, 8
	return s
}
