//go:build !purego

package x86

import (
	"os"

	"golang.org/x/sys/cpu"

	"edged/quant/kernel"
	"edged/quant/kernel/simd"
)

// all detects by CPUID what can run, the system's support for the registers included. What has AVX2 and FMA has F16C
// too, which x/sys/cpu does not tell.
func all() []kernel.Kernels {
	var ks []kernel.Kernels
	x := cpu.X86
	if x.HasAVX512F && x.HasAVX512BW && x.HasAVX512VL && x.HasAVX512DQ && x.HasAVX512VNNI && x.HasFMA {
		ks = append(ks, simd.New(avx512()))
	}
	if x.HasAVX2 && x.HasFMA {
		ks = append(ks, simd.New(avx2()))
	}
	return append(ks, kernel.Portable{})
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
