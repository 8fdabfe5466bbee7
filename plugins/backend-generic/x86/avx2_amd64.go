//go:build !purego

package x86

import (
	"unsafe"

	"edged/quant"
	"edged/quant/kernel"
	"edged/quant/kernel/simd"
)

// avx2 lists the kernels for AVX2.
func avx2() simd.Set {
	return simd.Set{
		Name: "avx2", Lanes: 8, Bias: 0, Tail16: false, Tiles: true,
		Gemm: [simd.Variants][4]simd.Args{
			simd.Plain:        {gemm1Avx2, gemm2Avx2, gemm4Avx2},
			simd.Offsets:      {gemm1OffAvx2, gemm2OffAvx2, gemm4OffAvx2},
			simd.TwoPart:      {gemm1TwoAvx2, gemm2TwoAvx2, gemm4TwoAvx2},
			simd.Small:        {gemm1SmallAvx2, gemm2SmallAvx2, gemm4SmallAvx2},
			simd.SmallOffsets: {gemm1SmallOffAvx2, gemm2SmallOffAvx2, gemm4SmallOffAvx2},
		},
		Gemv: [...]simd.Args{
			quant.Q4_0:   gemvQ40Avx2,
			quant.Q4_1:   gemvQ41Avx2,
			quant.Q5_0:   gemvQ50Avx2,
			quant.Q5_1:   gemvQ51Avx2,
			quant.Q8_0:   gemvQ80Avx2,
			quant.IQ4_NL: gemvIQ4NLAvx2,
			quant.MXFP4:  gemvMXFP4Avx2,
			quant.Q4_K:   gemvQ4KAvx2,
			quant.Q5_K:   gemvQ5KAvx2,
			quant.Q6_K:   gemvQ6KAvx2,
			quant.IQ4_XS: gemvIQ4XSAvx2,
			quant.NF4:    gemvBnBAvx2,
			quant.FP4:    gemvBnBAvx2,
		},
		FewTiles: [quant.FP4 + 1][5]simd.Args{
			quant.Q4_0: {tilesQ40x1Avx2, tilesQ40x2Avx2, nil, tilesQ40x4Avx2},
			quant.Q8_0: {tilesQ80x1Avx2, tilesQ80x2Avx2, nil, tilesQ80x4Avx2},
			quant.Q4_K: {tilesQ4Kx1Avx2, tilesQ4Kx2Avx2, nil, tilesQ4Kx4Avx2},
			quant.Q6_K: {tilesQ6Kx1Avx2, tilesQ6Kx2Avx2, nil, nil},
		},
		FewTokens: 8,
		Few: [quant.FP4 + 1][5]simd.Args{
			quant.Q4_0: {fewQ40x1Avx2, fewQ40x2Avx2, fewQ40x3Avx2, fewQ40x4Avx2},
			quant.Q8_0: {fewQ80x1Avx2, fewQ80x2Avx2, fewQ80x3Avx2, fewQ80x4Avx2},
			quant.Q4_K: {fewQ4Kx1Avx2, fewQ4Kx2Avx2, fewQ4Kx3Avx2, fewQ4Kx4Avx2},
			quant.Q6_K: {fewQ6Kx1Avx2, fewQ6Kx2Avx2, nil, fewQ6Kx4Avx2},
		},
		Pack: [...]simd.Args{
			quant.Q4_0:   packQ40Avx2,
			quant.Q4_1:   packQ41Avx2,
			quant.Q5_0:   packQ50Avx2,
			quant.Q5_1:   packQ51Avx2,
			quant.Q8_0:   packQ80Avx2,
			quant.IQ4_NL: packIQ4NLAvx2,
			quant.MXFP4:  packMXFP4Avx2,
			quant.Q4_K:   packQ4KAvx2,
			quant.Q5_K:   packQ5KAvx2,
			quant.Q6_K:   packQ6KAvx2,
			quant.IQ4_XS: packIQ4XSAvx2,
			quant.NF4:    packBnBAvx2,
			quant.FP4:    packBnBAvx2,
		},
		Tile: [...]simd.Args{
			quant.Q4_0:   tileQ40Avx2,
			quant.Q8_0:   tileQ80Avx2,
			quant.IQ4_NL: tileIQ4NLAvx2,
			quant.Q4_K:   tileQ4KAvx2,
			quant.Q6_K:   tileQ6KAvx2,
			quant.NF4:    tileBnBAvx2,
			quant.FP4:    tileBnBAvx2,
		},
		Panel: [...]simd.Args{
			quant.Q4_0:   panelQ40Avx2,
			quant.Q8_0:   panelQ80Avx2,
			quant.IQ4_NL: panelIQ4NLAvx2,
			quant.Q4_K:   panelQ4KAvx2,
			quant.Q6_K:   panelQ6KAvx2,
			quant.NF4:    panelBnBAvx2,
			quant.FP4:    panelBnBAvx2,
		},
		Dot: [...][2]simd.Args{
			quant.F32:  {dot1F32Avx2},
			quant.F16:  {dot1F16Avx2},
			quant.BF16: {dot1BF16Avx2},
		},
		Func: [kernel.FuncKinds]func(x, up unsafe.Pointer, n, a, b, c int){
			kernel.SiLU:        funcSiLUAvx2,
			kernel.GELUTanh:    funcGELUTanhAvx2,
			kernel.GELUErf:     funcGELUErfAvx2,
			kernel.QuickGELU:   funcQuickAvx2,
			kernel.ReLU:        funcReLUAvx2,
			kernel.ReLU2:       funcReLU2Avx2,
			kernel.XIELU:       funcXIELUAvx2,
			kernel.ClampedSiLU: funcClampedAvx2,
			kernel.Sigmoid:     funcSigmoidAvx2,
			kernel.TanhFunc:    funcTanhAvx2,
			kernel.Softplus:    funcSoftplusAvx2,
			kernel.SoftCap:     funcSoftCapAvx2,
			kernel.Identity:    funcIdentityAvx2,
		},
		EvenOdd: evenOddAvx2, ScalesBnB: scalesBnBAvx2, TurnScales: turnScalesAvx2,
		Prepare: prepareAvx2, RMSNorm: rmsNormAvx2, LayerNorm: layerNormAvx2,
		Rotate: rotateAvx2, RotatePairs: rotatePairsAvx2, Quantise: quantiseAvx2,
		ToHalf: toHalfAvx2, FromHalf: fromHalfAvx2, FromQ8: fromQ8Avx2,
		Weigh: weighAvx2, Scores: scoresAvx2, Mix: mixAvx2, Adjust: adjustAvx2, SumBytes: sumAvx2, Combine: combineAvx2,
		LoRADown1: loraDown1Avx2, LoRAUp: loraUpAvx2,
	}
}
