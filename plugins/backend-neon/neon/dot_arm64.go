//go:build !purego

package neon

import (
	"unsafe"

	"edged/quant"
	"edged/quant/kernel"
	"edged/quant/kernel/simd"
)

// dot lists the kernels for Advanced SIMD with the dot product instructions.
func dot() simd.Set {
	return simd.Set{
		Name: "neon-dotprod", Lanes: 4, Bias: 0, Tail16: true,
		Gemm: [simd.Variants][4]simd.Args{
			simd.Plain:   {gemm1Dot, gemm2Dot, gemm4Dot, gemm8Dot},
			simd.Offsets: {gemm1OffDot, gemm2OffDot, gemm4OffDot, gemm8OffDot},
			simd.TwoPart: {gemm1TwoDot, gemm2TwoDot, gemm4TwoDot, gemm8TwoDot},
		},
		Gemv: [...]simd.Args{
			quant.Q4_0:   rowsQ40Dot,
			quant.Q4_1:   gemvQ41Dot,
			quant.Q5_0:   gemvQ50Dot,
			quant.Q5_1:   gemvQ51Dot,
			quant.Q8_0:   rowsQ80Dot,
			quant.IQ4_NL: rowsIQ4NLDot,
			quant.MXFP4:  gemvMXFP4Dot,
			quant.Q4_K:   gemvQ4KDot,
			quant.Q5_K:   gemvQ5KDot,
			quant.Q6_K:   rowsQ6KDot,
			quant.IQ4_XS: gemvIQ4XSDot,
			quant.NF4:    rowsBnBDot,
			quant.FP4:    rowsBnBDot,
		},
		FewTiles: [quant.FP4 + 1][5]simd.Args{
			quant.Q4_0: {tilesQ40x1Dot, tilesQ40x2Dot, nil, tilesQ40x4Dot, tilesQ40x8Dot},
			quant.Q8_0: {tilesQ80x1Dot, tilesQ80x2Dot, nil, tilesQ80x4Dot, tilesQ80x8Dot},
			quant.Q4_K: {tilesQ4Kx1Dot, tilesQ4Kx2Dot, nil, tilesQ4Kx4Dot, tilesQ4Kx8Dot},
			quant.Q6_K: {tilesQ6Kx1Dot, tilesQ6Kx2Dot, nil, tilesQ6Kx4Dot, tilesQ6Kx8Dot},
		},
		FewTokens: 8,
		Few: [quant.FP4 + 1][5]simd.Args{
			quant.Q4_0: {fewQ40x1Dot, fewQ40x2Dot, fewQ40x3Dot, fewQ40x4Dot, fewQ40x8Dot},
			quant.Q8_0: {fewQ80x1Dot, fewQ80x2Dot, fewQ80x3Dot, fewQ80x4Dot, fewQ80x8Dot},
			quant.Q4_K: {fewQ4Kx1Dot, fewQ4Kx2Dot, fewQ4Kx3Dot, fewQ4Kx4Dot, fewQ4Kx8Dot},
			quant.Q6_K: {fewQ6Kx1Dot, fewQ6Kx2Dot, nil, fewQ6Kx4Dot, fewQ6Kx8Dot},
		},
		Pack: [...]simd.Args{
			quant.Q4_0:   packQ40Dot,
			quant.Q4_1:   packQ41Dot,
			quant.Q5_0:   packQ50Dot,
			quant.Q5_1:   packQ51Dot,
			quant.Q8_0:   packQ80Dot,
			quant.IQ4_NL: packIQ4NLDot,
			quant.MXFP4:  packMXFP4Dot,
			quant.Q4_K:   packQ4KDot,
			quant.Q5_K:   packQ5KDot,
			quant.Q6_K:   packQ6KDot,
			quant.IQ4_XS: packIQ4XSDot,
			quant.NF4:    packBnBDot,
			quant.FP4:    packBnBDot,
		},
		Tile: [...]simd.Args{
			quant.Q4_0:   tileQ40Dot,
			quant.Q8_0:   tileQ80Dot,
			quant.IQ4_NL: tileIQ4NLDot,
			quant.Q4_K:   tileQ4KDot,
			quant.Q6_K:   tileQ6KDot,
			quant.NF4:    tileBnBDot,
			quant.FP4:    tileBnBDot,
		},
		Panel: [...]simd.Args{
			quant.Q4_0:   panelQ40Dot,
			quant.Q8_0:   panelQ80Dot,
			quant.IQ4_NL: panelIQ4NLDot,
			quant.Q4_K:   panelQ4KDot,
			quant.Q6_K:   panelQ6KDot,
			quant.NF4:    panelBnBDot,
			quant.FP4:    panelBnBDot,
		},
		Dot: [...][2]simd.Args{
			quant.F32:  {dot1F32Dot},
			quant.F16:  {dot1F16Dot},
			quant.BF16: {dot1BF16Dot},
		},
		Func: [kernel.FuncKinds]func(x, up unsafe.Pointer, n, a, b, c int){
			kernel.SiLU:        funcSiLUDot,
			kernel.GELUTanh:    funcGELUTanhDot,
			kernel.GELUErf:     funcGELUErfDot,
			kernel.QuickGELU:   funcQuickDot,
			kernel.ReLU:        funcReLUDot,
			kernel.ReLU2:       funcReLU2Dot,
			kernel.XIELU:       funcXIELUDot,
			kernel.ClampedSiLU: funcClampedDot,
			kernel.Sigmoid:     funcSigmoidDot,
			kernel.TanhFunc:    funcTanhDot,
			kernel.Softplus:    funcSoftplusDot,
			kernel.SoftCap:     funcSoftCapDot,
			kernel.Identity:    funcIdentityDot,
		},
		EvenOdd: evenOddDot, ScalesBnB: scalesBnBDot, TurnScales: turnScalesDot,
		Prepare: prepareDot, RMSNorm: rmsNormDot, LayerNorm: layerNormDot,
		Rotate: rotateDot, RotatePairs: rotatePairsDot, Quantise: quantiseDot,
		ToHalf: toHalfDot, FromHalf: fromHalfDot, FromQ8: fromQ8Dot,
		Weigh: weighDot, Scores: scoresDot, Mix: mixDot, Adjust: adjustDot, SumBytes: sumDot,
		LoRADown1: loraDown1Dot, LoRAUp: loraUpDot,
	}
}
