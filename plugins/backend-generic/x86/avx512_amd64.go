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
	i.gemv = [...]func(unsafe.Pointer){
		quant.Q4_0:   gemvQ40Avx512,
		quant.Q4_1:   gemvQ41Avx512,
		quant.Q5_0:   gemvQ50Avx512,
		quant.Q5_1:   gemvQ51Avx512,
		quant.Q8_0:   gemvQ80Avx512,
		quant.IQ4_NL: gemvIQ4NLAvx512,
		quant.MXFP4:  gemvMXFP4Avx512,
		quant.Q4_K:   gemvQ4KAvx512,
		quant.Q5_K:   gemvQ5KAvx512,
		quant.Q6_K:   gemvQ6KAvx512,
		quant.IQ4_XS: gemvIQ4XSAvx512,
		quant.NF4:    gemvBnBAvx512,
		quant.FP4:    gemvBnBAvx512,
	}
	i.pack = [...]func(unsafe.Pointer){
		quant.Q4_0:   packQ40Avx512,
		quant.Q4_1:   packQ41Avx512,
		quant.Q5_0:   packQ50Avx512,
		quant.Q5_1:   packQ51Avx512,
		quant.Q8_0:   packQ80Avx512,
		quant.IQ4_NL: packIQ4NLAvx512,
		quant.MXFP4:  packMXFP4Avx512,
		quant.Q4_K:   packQ4KAvx512,
		quant.Q5_K:   packQ5KAvx512,
		quant.Q6_K:   packQ6KAvx512,
		quant.IQ4_XS: packIQ4XSAvx512,
		quant.NF4:    packBnBAvx512,
		quant.FP4:    packBnBAvx512,
	}
	i.evenOdd, i.scales = evenOddAvx512, scalesBnBAvx512
	return i
}
