// Package neon chooses the kernels of an arm64 processor: Advanced SIMD, with dot product and with the
// multiplication of int8 matrices where it has them. On other architectures, and with the build tag purego,
// it is portable Go.
//
// It must not know models or threads. The kernels themselves are C in quant/kernel/csrc, compiled to the checked-in
// assembly by tools/kernelgen.
package neon

import "edged/quant/kernel"

// Best returns the fastest kernels that this processor runs. EDGED_KERNELS=portable, neon, neon-dotprod or
// neon-i8mm in the environment asks for less, for tests and comparisons; what the processor does not have is not taken.
func Best() kernel.Kernels { return best() }

// All returns every implementation that this processor runs, the fastest first. The last is the portable one.
func All() []kernel.Kernels { return all() }
