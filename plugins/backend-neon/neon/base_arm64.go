//go:build !purego

package neon

import (
	"unsafe"

	"edged/quant"
	"edged/quant/kernel"
	"edged/quant/kernel/simd"
)

// base lists the kernels for Advanced SIMD as ARMv8.0 has it.
func base() simd.Set {
	return simd.Set{
		Name: "neon", Lanes: 4, Bias: 0, Tail16: true,
		Gemm: [simd.Variants][4]simd.Args{
			simd.Plain:        {gemm1Neon, gemm2Neon, gemm4Neon, gemm8Neon},
			simd.Offsets:      {gemm1OffNeon, gemm2OffNeon, gemm4OffNeon, gemm8OffNeon},
			simd.TwoPart:      {gemm1TwoNeon, gemm2TwoNeon, gemm4TwoNeon},
			simd.Small:        {gemm1SmallNeon, gemm2SmallNeon, gemm4SmallNeon, gemm8SmallNeon},
			simd.SmallOffsets: {gemm1SmallOffNeon, gemm2SmallOffNeon, gemm4SmallOffNeon, gemm8SmallOffNeon},
		},
		Gemv: [...]simd.Args{
			quant.Q4_0:   rowsQ40Neon,
			quant.Q4_1:   gemvQ41Neon,
			quant.Q5_0:   gemvQ50Neon,
			quant.Q5_1:   gemvQ51Neon,
			quant.Q8_0:   rowsQ80Neon,
			quant.IQ4_NL: rowsIQ4NLNeon,
			quant.MXFP4:  gemvMXFP4Neon,
			quant.Q4_K:   gemvQ4KNeon,
			quant.Q5_K:   gemvQ5KNeon,
			quant.Q6_K:   rowsQ6KNeon,
			quant.IQ4_XS: gemvIQ4XSNeon,
			quant.NF4:    rowsBnBNeon,
			quant.FP4:    rowsBnBNeon,
		},
		FewTiles: [quant.FP4 + 1][5]simd.Args{
			quant.Q4_0: {tilesQ40x1Neon, tilesQ40x2Neon, nil, tilesQ40x4Neon, tilesQ40x8Neon},
			quant.Q8_0: {tilesQ80x1Neon, tilesQ80x2Neon, nil, tilesQ80x4Neon, tilesQ80x8Neon},
			quant.Q4_K: {tilesQ4Kx1Neon, tilesQ4Kx2Neon, nil, tilesQ4Kx4Neon, tilesQ4Kx8Neon},
			quant.Q6_K: {tilesQ6Kx1Neon, tilesQ6Kx2Neon, nil, tilesQ6Kx4Neon, tilesQ6Kx8Neon},
		},
		FewTokens: 8,
		Few: [quant.FP4 + 1][5]simd.Args{
			quant.Q4_0: {fewQ40x1Neon, fewQ40x2Neon, fewQ40x3Neon, fewQ40x4Neon, fewQ40x8Neon},
			quant.Q8_0: {fewQ80x1Neon, fewQ80x2Neon, fewQ80x3Neon, fewQ80x4Neon, fewQ80x8Neon},
			quant.Q4_K: {fewQ4Kx1Neon, fewQ4Kx2Neon, fewQ4Kx3Neon, fewQ4Kx4Neon, fewQ4Kx8Neon},
			quant.Q6_K: {fewQ6Kx1Neon, fewQ6Kx2Neon, nil, fewQ6Kx4Neon},
		},
		Pack: [...]simd.Args{
			quant.Q4_0:   packQ40Neon,
			quant.Q4_1:   packQ41Neon,
			quant.Q5_0:   packQ50Neon,
			quant.Q5_1:   packQ51Neon,
			quant.Q8_0:   packQ80Neon,
			quant.IQ4_NL: packIQ4NLNeon,
			quant.MXFP4:  packMXFP4Neon,
			quant.Q4_K:   packQ4KNeon,
			quant.Q5_K:   packQ5KNeon,
			quant.Q6_K:   packQ6KNeon,
			quant.IQ4_XS: packIQ4XSNeon,
			quant.NF4:    packBnBNeon,
			quant.FP4:    packBnBNeon,
		},
		Tile: [...]simd.Args{
			quant.Q4_0:   tileQ40Neon,
			quant.Q8_0:   tileQ80Neon,
			quant.IQ4_NL: tileIQ4NLNeon,
			quant.Q4_K:   tileQ4KNeon,
			quant.Q6_K:   tileQ6KNeon,
			quant.NF4:    tileBnBNeon,
			quant.FP4:    tileBnBNeon,
		},
		Panel: [...]simd.Args{
			quant.Q4_0:   panelQ40Neon,
			quant.Q8_0:   panelQ80Neon,
			quant.IQ4_NL: panelIQ4NLNeon,
			quant.Q4_K:   panelQ4KNeon,
			quant.Q6_K:   panelQ6KNeon,
			quant.NF4:    panelBnBNeon,
			quant.FP4:    panelBnBNeon,
		},
		Dot: [...][2]simd.Args{
			quant.F32:  {dot1F32Neon},
			quant.F16:  {dot1F16Neon},
			quant.BF16: {dot1BF16Neon},
		},
		Func: [kernel.FuncKinds]func(x, up unsafe.Pointer, n, a, b, c int){
			kernel.SiLU:        funcSiLUNeon,
			kernel.GELUTanh:    funcGELUTanhNeon,
			kernel.GELUErf:     funcGELUErfNeon,
			kernel.QuickGELU:   funcQuickNeon,
			kernel.ReLU:        funcReLUNeon,
			kernel.ReLU2:       funcReLU2Neon,
			kernel.XIELU:       funcXIELUNeon,
			kernel.ClampedSiLU: funcClampedNeon,
			kernel.Sigmoid:     funcSigmoidNeon,
			kernel.TanhFunc:    funcTanhNeon,
			kernel.Softplus:    funcSoftplusNeon,
			kernel.SoftCap:     funcSoftCapNeon,
			kernel.Identity:    funcIdentityNeon,
		},
		EvenOdd: evenOddNeon, ScalesBnB: scalesBnBNeon, TurnScales: turnScalesNeon,
		Prepare: prepareNeon, RMSNorm: rmsNormNeon, LayerNorm: layerNormNeon,
		Rotate: rotateNeon, RotatePairs: rotatePairsNeon, Quantise: quantiseNeon,
		ToHalf: toHalfNeon, FromHalf: fromHalfNeon, FromQ8: fromQ8Neon,
		Weigh: weighNeon, Scores: scoresNeon, Mix: mixNeon, Adjust: adjustNeon, SumBytes: sumNeon,
		LoRADown1: loraDown1Neon, LoRAUp: loraUpNeon,
	}
}
