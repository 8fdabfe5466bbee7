//go:build !purego

package x86

import (
	"unsafe"

	"edged/quant"
)

// avx512 lists the kernels for AVX-512 with VNNI.
func avx512() isa {
	i := isa{name: "avx512", sum: sumAvx512}
	i.gemm = [variants][4]func(unsafe.Pointer){
		plain:   {gemm1Avx512, gemm2Avx512, gemm4Avx512, gemm8Avx512},
		offsets: {gemm1OffAvx512, gemm2OffAvx512, gemm4OffAvx512, gemm8OffAvx512},
		twoPart: {gemm1TwoAvx512, gemm2TwoAvx512, gemm4TwoAvx512, gemm8TwoAvx512},
	}
	i.gemv[quant.Q4_0] = gemvQ40Avx512
	i.gemv[quant.Q8_0] = gemvQ80Avx512
	i.pack[quant.Q4_0] = packQ40Avx512
	i.pack[quant.Q8_0] = packQ80Avx512
	return i
}
