//go:build !purego

package neon

import (
	"os"

	"golang.org/x/sys/cpu"

	"edged/quant/kernel"
	"edged/quant/kernel/simd"
)

// all asks the system's hardware capabilities, never the processor's name. Advanced SIMD itself is part of every arm64
// that Go runs on.
func all() []kernel.Kernels {
	var ks []kernel.Kernels
	if cpu.ARM64.HasASIMDDP && cpu.ARM64.HasI8MM {
		ks = append(ks, simd.New(mmla()))
	}
	if cpu.ARM64.HasASIMDDP {
		ks = append(ks, simd.New(dot()))
	}
	return append(ks, simd.New(base()), kernel.Portable{})
}

func best() kernel.Kernels {
	ks := all()
	want := os.Getenv("EDGED_KERNELS")
	for _, k := range ks {
		if k.Name() == want {
			return k
		}
	}
	return ks[0]
}
