// Package x86 chooses the kernels of an x86-64 processor: AVX-512 VNNI, AVX2 or portable Go. On other
// architectures, and with the build tag purego, it is portable Go.
//
// It must not know models or threads. The kernels themselves are C in quant/kernel/csrc, compiled to the checked-in
// assembly by tools/kernelgen.
package x86

import "edged/quant/kernel"

// Best returns the fastest kernels that this processor runs. EDGED_KERNELS=portable, avx2 or avx512 in the environment
// asks for less, for tests and comparisons; what the processor does not have is not taken.
func Best() kernel.Kernels { return best() }

// All returns every implementation that this processor runs, the fastest first. The last is the portable one.
func All() []kernel.Kernels { return all() }
