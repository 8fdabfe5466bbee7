package weights_test

import "edged/core/model/weights/weightstest"

type tinyModel = weightstest.Model

const (
	tinyWidth, tinyFFN, tinyVocab, tinyLayers   = weightstest.Width, weightstest.FFN, weightstest.Vocab, weightstest.Layers
	tinyHeads, tinyKV, tinyHeadDim, tinyContext = weightstest.Heads, weightstest.KV, weightstest.HeadDim, weightstest.Context
)

func tiny(arch string) *tinyModel { return weightstest.Tiny(arch) }

func tinyGPT2() *tinyModel { return weightstest.TinyGPT2() }

func equal(a, b []float32) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}
