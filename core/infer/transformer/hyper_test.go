package transformer

import "edged/core/model/arch"

// Hyper describes a model whose layers are all alike, in one line: what most tests change of one.
type Hyper struct {
	Layers, Width, Heads, KVHeads, HeadDim, FFN, VocabRows, Context int
	NormEps                                                         float32
	RopeDim                                                         int
	RopeTheta                                                       float64
	RopeScaling                                                     arch.Scaling
	Interleaved, Tied                                               bool
	Window, Experts, ExpertsUsed                                    int
}

// rope is the rotation.
func (h *Hyper) rope() arch.Rope {
	return arch.Rope{Dim: h.RopeDim, Base: h.RopeTheta, Adjacent: h.Interleaved, Scaling: h.RopeScaling}
}

func (h *Hyper) position() arch.Position {
	if h.RopeDim == 0 {
		return nil
	}
	return h.rope()
}

// spec is the Spec that a file of the architecture with these hyper-parameters has.
func (h *Hyper) spec(name string) *arch.Spec {
	a := arch.Attention{Heads: h.Heads, KVHeads: h.KVHeads, KeyDim: h.HeadDim, ValueDim: h.HeadDim, Window: h.Window, Position: h.position()}
	norm := func(name string) arch.Norm { return arch.RMS(name, h.NormEps) }
	s := &arch.Spec{Family: name, Width: h.Width, Vocab: h.VocabRows, Context: h.Context, Head: arch.Head{Tied: h.Tied}}
	var ffn arch.Op = arch.GLU{Hidden: h.FFN}
	switch name {
	case "gpt2":
		norm = func(name string) arch.Norm { return arch.LN(name, h.NormEps, arch.Required) }
		s.Embed.Positions = h.Context
		a.Position = nil
		ffn = arch.MLP{Hidden: h.FFN, Act: arch.Act{Kind: arch.GELUTanh}}
	case "qwen3":
		a.QKNorm = arch.QKNorm{Of: arch.PerHead, Kind: arch.RMSNorm, Eps: h.NormEps}
	case "mixtral":
		ffn = arch.MoE{Experts: h.Experts, Used: h.ExpertsUsed, Hidden: h.FFN}
	}
	s.Norm = norm("output_norm")
	for range h.Layers {
		s.Add(arch.Sub{Pre: norm("attn_norm"), Op: a}, arch.Sub{Pre: norm("ffn_norm"), Op: ffn})
	}
	return s
}

// hyperOf describes a model of a file.
func hyperOf(s *arch.Spec) Hyper {
	h := Hyper{Layers: len(s.Layers), Width: s.Width, VocabRows: s.Vocab, Context: s.Context, Tied: s.Head.Tied, NormEps: s.Norm.Eps}
	for _, sub := range s.Layers[0] {
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
		case arch.MoE:
			h.FFN, h.Experts, h.ExpertsUsed = op.Hidden, op.Experts, op.Used
		}
	}
	return h
}
