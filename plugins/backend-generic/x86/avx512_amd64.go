//go:build !purego

package x86

import (
	"unsafe"

	"edged/quant"
	"edged/quant/kernel"
	"edged/quant/kernel/simd"
)

// avx512 lists the kernels for AVX-512 with VNNI.
func avx512() simd.Set {
	return simd.Set{
		Name: "avx512", Lanes: 16, Bias: 128, Tail16: true, Tiles: true,
		Gemm: [simd.Variants][4]simd.Args{
			simd.Plain:   {gemm1Avx512, gemm2Avx512, gemm4Avx512, gemm8Avx512},
			simd.Offsets: {gemm1OffAvx512, gemm2OffAvx512, gemm4OffAvx512, gemm8OffAvx512},
			simd.TwoPart: {gemm1TwoAvx512, gemm2TwoAvx512, gemm4TwoAvx512, gemm8TwoAvx512},
		},
		Gemv: [...]simd.Args{
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
		},
		FewTiles: [quant.FP4 + 1][5]simd.Args{
			quant.Q4_0: {tilesQ40x1Avx512, tilesQ40x2Avx512, nil, tilesQ40x4Avx512, tilesQ40x8Avx512},
			quant.Q8_0: {tilesQ80x1Avx512, tilesQ80x2Avx512, nil, tilesQ80x4Avx512, tilesQ80x8Avx512},
			quant.Q4_K: {tilesQ4Kx1Avx512, tilesQ4Kx2Avx512, nil, tilesQ4Kx4Avx512, tilesQ4Kx8Avx512},
			quant.Q6_K: {tilesQ6Kx1Avx512, tilesQ6Kx2Avx512, nil, tilesQ6Kx4Avx512, tilesQ6Kx8Avx512},
		},
		FewTokens: 32,
		Few: [quant.FP4 + 1][5]simd.Args{
			quant.Q4_0: {fewQ40x1Avx512, fewQ40x2Avx512, fewQ40x3Avx512, fewQ40x4Avx512, fewQ40x8Avx512},
			quant.Q8_0: {fewQ80x1Avx512, fewQ80x2Avx512, fewQ80x3Avx512, fewQ80x4Avx512, fewQ80x8Avx512},
			quant.Q4_K: {fewQ4Kx1Avx512, fewQ4Kx2Avx512, fewQ4Kx3Avx512, fewQ4Kx4Avx512, fewQ4Kx8Avx512},
			quant.Q6_K: {fewQ6Kx1Avx512, fewQ6Kx2Avx512, nil, fewQ6Kx4Avx512, fewQ6Kx8Avx512},
		},
		Pack: [...]simd.Args{
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
		},
		Tile: [...]simd.Args{
			quant.Q4_0:   tileQ40Avx512,
			quant.Q8_0:   tileQ80Avx512,
			quant.IQ4_NL: tileIQ4NLAvx512,
			quant.Q4_K:   tileQ4KAvx512,
			quant.Q6_K:   tileQ6KAvx512,
			quant.NF4:    tileBnBAvx512,
			quant.FP4:    tileBnBAvx512,
		},
		Multiply: [quant.FP4 + 1][4]simd.Args{
			quant.Q4_0: {multiply1Q40Avx512, multiply2Q40Avx512, multiply4Q40Avx512, multiply8Q40Avx512},
		},
		Panel: [...]simd.Args{
			quant.Q4_0:   panelQ40Avx512,
			quant.Q8_0:   panelQ80Avx512,
			quant.IQ4_NL: panelIQ4NLAvx512,
			quant.Q4_K:   panelQ4KAvx512,
			quant.Q6_K:   panelQ6KAvx512,
			quant.NF4:    panelBnBAvx512,
			quant.FP4:    panelBnBAvx512,
		},
		Dot: [...][2]simd.Args{
			quant.F32:  {dot1F32Avx512, dot4F32Avx512},
			quant.F16:  {dot1F16Avx512, dot4F16Avx512},
			quant.BF16: {dot1BF16Avx512, dot4BF16Avx512},
		},
		Func: [kernel.FuncKinds]func(x, up unsafe.Pointer, n, a, b, c int){
			kernel.SiLU:        funcSiLUAvx512,
			kernel.GELUTanh:    funcGELUTanhAvx512,
			kernel.GELUErf:     funcGELUErfAvx512,
			kernel.QuickGELU:   funcQuickAvx512,
			kernel.ReLU:        funcReLUAvx512,
			kernel.ReLU2:       funcReLU2Avx512,
			kernel.XIELU:       funcXIELUAvx512,
			kernel.ClampedSiLU: funcClampedAvx512,
			kernel.Sigmoid:     funcSigmoidAvx512,
			kernel.TanhFunc:    funcTanhAvx512,
			kernel.Softplus:    funcSoftplusAvx512,
			kernel.SoftCap:     funcSoftCapAvx512,
			kernel.Identity:    funcIdentityAvx512,
		},
		EvenOdd: evenOddAvx512, ScalesBnB: scalesBnBAvx512, TurnScales: turnScalesAvx512,
		Prepare: prepareAvx512, RMSNorm: rmsNormAvx512, LayerNorm: layerNormAvx512,
		Rotate: rotateAvx512, RotatePairs: rotatePairsAvx512, Quantise: quantiseAvx512,
		ToHalf: toHalfAvx512, FromHalf: fromHalfAvx512, FromQ8: fromQ8Avx512,
		Weigh: weighAvx512, Scores: scoresAvx512, Mix: mixAvx512, Adjust: adjustAvx512, SumBytes: sumAvx512, Combine: combineAvx512, Weigh4: weigh4Avx512,
		LoRADown1: loraDown1Avx512, LoRADown4: loraDown4Avx512, LoRAUp: loraUpAvx512,
		Scores4: [...]func(p, q, k unsafe.Pointer, dim, n, stride int, ahead unsafe.Pointer){scores4F32Avx512, scores4F16Avx512, scores4Q8Avx512},
		Mix4:    [...]func(o, p, v unsafe.Pointer, dim, n, stride int, ahead unsafe.Pointer){mix4F32Avx512, mix4F16Avx512, mix4Q8Avx512},
	}
}
