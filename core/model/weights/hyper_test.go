package weights_test

import (
	"edged/core/model/arch"
	"edged/core/model/weights"
)

// hyper is a model whose layers are all alike, in one line: what tests ask of a Spec.
type hyper struct {
	Layers, Heads, KVHeads, HeadDim, FFN, VocabRows, Context int
	RopeDim, Window                                          int
	RopeTheta                                                float64
	RopeScaling                                              arch.Scaling
	Interleaved, Tied                                        bool
	BOS, EOS                                                 int32
	EOG                                                      []int32
}

func hyperOf(m *weights.Model) hyper {
	h := hyper{
		Layers: len(m.Spec.Layers), VocabRows: m.Spec.Vocab, Context: m.Spec.Context, Tied: m.Spec.Head.Tied, BOS: m.BOS, EOS: m.EOS, EOG: m.EOG,
	}
	for _, sub := range m.Spec.Layers[0] {
		switch op := sub.Op.(type) {
		case arch.Attention:
			h.Heads, h.KVHeads, h.HeadDim, h.Window = op.Heads, op.KVHeads, op.KeyDim, op.Window
			if r, ok := op.Position.(arch.Rope); ok {
				h.RopeDim, h.RopeTheta, h.RopeScaling, h.Interleaved = r.Dim, r.Base, r.Scaling, r.Adjacent
			}
		case arch.GLU:
			h.FFN = op.Hidden
		case arch.MLP:
			h.FFN = op.Hidden
		}
	}
	return h
}

func or(s, def string) string {
	if s == "" {
		return def
	}
	return s
}
