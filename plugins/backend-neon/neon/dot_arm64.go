//go:build !purego

package neon

import "edged/quant/kernel/simd"

// dot lists the kernels for Advanced SIMD with the dot product instructions.
func dot() simd.Set {
	s := dotTable()
	s.Name, s.Lanes = "neon-dotprod", 4
	s.Tail16, s.FewTokens = true, 8
	return s
}
