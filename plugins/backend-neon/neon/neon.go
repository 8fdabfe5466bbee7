// Package neon chooses the kernels of an arm64 processor: Advanced SIMD with or without the dot product instructions. On
// other architectures it is portable Go.
//
// It must not know models or threads.
package neon

import "edged/quant/kernel"

// Best returns the fastest kernels that this processor runs.
func Best() kernel.Kernels { return kernel.Portable{} }
