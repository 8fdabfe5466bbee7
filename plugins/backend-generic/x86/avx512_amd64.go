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
	i.dot = [...][2]func(unsafe.Pointer){
		quant.F32:  {dot1F32Avx512, dot4F32Avx512},
		quant.F16:  {dot1F16Avx512, dot4F16Avx512},
		quant.BF16: {dot1BF16Avx512, dot4BF16Avx512},
	}
	i.prepare, i.quantise, i.toHalf = prepareAvx512, quantiseAvx512, toHalfAvx512
	i.rmsNorm, i.layerNorm = rmsNormAvx512, layerNormAvx512
	i.swiglu, i.gelu = swigluAvx512, geluAvx512
	i.rotate, i.rotatePairs = rotateAvx512, rotatePairsAvx512
	i.weigh = weighAvx512
	i.scores = [...]func(p, q, k unsafe.Pointer, dim, n, stride int){scoresF32Avx512, scoresF16Avx512, scoresQ8Avx512}
	i.mix = [...]func(o, p, v unsafe.Pointer, dim, n, stride int){mixF32Avx512, mixF16Avx512, mixQ8Avx512}
	i.evenOdd, i.scales = evenOddAvx512, scalesBnBAvx512
	return i
}
