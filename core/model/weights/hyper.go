package weights

import (
	"math"
	"strings"
)

// Limits of hyper-parameters: twice and more of the largest published dense models, and small enough that no product of
// them overflows.
const (
	maxLayers  = 1 << 10
	maxWidth   = 1 << 17
	maxHeads   = 1 << 10
	maxHeadDim = 1 << 11
	maxFFN     = 1 << 20
	maxVocab   = 1 << 24
	maxContext = 1 << 28
	maxExperts = 1 << 10
)

// architectures lists what is served, for messages.
func architectures() []string {
	return []string{"llama", "mistral", "qwen2", "qwen3", "gpt2", "mixtral"}
}

// unsupportedArch is the sentence for any other architecture.
func (b *builder) unsupportedArch(name string) error {
	return b.fail(ErrUnsupported, "architecture %q; the supported ones are %s", name, strings.Join(architectures(), ", "))
}

// validate checks the hyper-parameters by themselves; prove holds the tensors against them afterwards.
func (b *builder) validate() error {
	h := &b.m.Hyper
	for _, x := range []struct {
		name   string
		v      int
		lo, hi int
	}{
		{"number of layers", h.Layers, 1, maxLayers},
		{"hidden size", h.Width, 1, maxWidth},
		{"number of attention heads", h.Heads, 1, maxHeads},
		{"number of key/value heads", h.KVHeads, 1, maxHeads},
		{"head dimension", h.HeadDim, 1, maxHeadDim},
		{"feed-forward size", h.FFN, 1, maxFFN},
		{"number of embedding rows", h.VocabRows, 1, maxVocab},
		{"context length", h.Context, 1, maxContext},
		{"number of experts", h.Experts, 0, maxExperts},
		{"sliding window", h.Window, 0, maxContext},
	} {
		if x.v < x.lo || x.v > x.hi {
			return b.fail(ErrInvalid, "the %s is %d: want %d to %d", x.name, x.v, x.lo, x.hi)
		}
	}
	switch {
	case h.Heads%h.KVHeads != 0:
		return b.fail(ErrInvalid, "%d attention heads cannot share %d key/value heads evenly", h.Heads, h.KVHeads)
	case !(h.NormEps > 0 && h.NormEps < 1):
		return b.fail(ErrInvalid, "the norm's epsilon is %g: want a small positive number", h.NormEps)
	case h.Experts > 0 && (h.ExpertsUsed < 1 || h.ExpertsUsed > h.Experts):
		return b.fail(ErrInvalid, "%d of %d experts are to be used", h.ExpertsUsed, h.Experts)
	case h.Experts == 0 && h.ExpertsUsed != 0:
		return b.fail(ErrInvalid, "%d experts are to be used, but there are none", h.ExpertsUsed)
	}
	if b.m.Arch == "gpt2" {
		return nil
	}
	if h.RopeDim < 2 || h.RopeDim%2 != 0 || h.RopeDim > h.HeadDim {
		return b.fail(ErrInvalid, "RoPE turns %d dimensions of a head of %d: want an even number within the head", h.RopeDim, h.HeadDim)
	}
	if !(h.RopeTheta >= 1 && h.RopeTheta <= 1e15) {
		return b.fail(ErrInvalid, "the RoPE base is %g: want 1 to 1e15", h.RopeTheta)
	}
	return b.validateScaling()
}

func (b *builder) validateScaling() error {
	h := &b.m.Hyper
	s := &h.RopeScaling
	if s.FreqFactors != nil {
		if len(s.FreqFactors) != h.RopeDim/2 {
			return b.fail(ErrInvalid, "tensor rope_freqs.weight has %d values, want one for each of %d pairs", len(s.FreqFactors), h.RopeDim/2)
		}
		for i, x := range s.FreqFactors {
			if !(x > 0 && x <= math.MaxFloat32) {
				return b.fail(ErrInvalid, "tensor rope_freqs.weight: value %d is %g: want a positive number", i, x)
			}
		}
	}
	if s.Kind == "" {
		return nil
	}
	if !(s.Factor >= 1 && s.Factor <= 1e6) {
		return b.fail(ErrInvalid, "the RoPE scaling factor is %g: want 1 or more", s.Factor)
	}
	if s.Kind == "linear" {
		return nil
	}
	if s.OrigContext < 1 || s.OrigContext > maxContext {
		return b.fail(ErrInvalid, "RoPE scaling %s: the original context length is %d", s.Kind, s.OrigContext)
	}
	switch s.Kind {
	case "llama3":
		if !(s.LowFreq > 0 && s.HighFreq > s.LowFreq && s.HighFreq <= 1e6) {
			return b.fail(ErrInvalid, "RoPE scaling llama3: frequency factors %g and %g: want a low one and a higher one", s.LowFreq, s.HighFreq)
		}
	case "yarn":
		if !(s.BetaSlow > 0 && s.BetaFast > s.BetaSlow && s.BetaFast <= 1e6) {
			return b.fail(ErrInvalid, "RoPE scaling yarn: beta_fast %g and beta_slow %g: want a slow one and a higher, fast one", s.BetaFast, s.BetaSlow)
		}
		if !(s.AttnFactor >= 0 && s.AttnFactor <= 1e3) {
			return b.fail(ErrInvalid, "RoPE scaling yarn: attention factor %g", s.AttnFactor)
		}
	}
	return nil
}
