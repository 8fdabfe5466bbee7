package transformer

import (
	"fmt"
	"math"

	"edged/core/model/weights"
)

// rope holds the angular frequencies of the rotary position embedding (RoFormer, Su et al. 2021): pair i of a head is
// turned by position · freq[i]. Angles are computed in float64 for each row of a batch (RopeDim/2 sines and cosines,
// some microseconds, for all layers together) and not kept in a table, which would take 64 MB at 128k positions.
type rope struct {
	freq  []float64 // (RopeDim/2)
	scale float64   // multiplies sine and cosine (YaRN's attention factor), else 1
}

// newRope computes the frequencies base^(-2i/dim) with the context extension that the model was made with:
//
//   - linear: positions are divided by the factor (Chen et al. 2023);
//   - llama3: as Llama 3.1 publishes it, wave lengths above OrigContext/LowFreq are stretched by the factor, those below
//     OrigContext/HighFreq kept, those between interpolated;
//   - yarn: NTK by parts with a ramp between the dimensions that turn BetaFast and BetaSlow times in OrigContext
//     positions, and an attention factor of 0.1·ln(factor) + 1 (Peng et al. 2023);
//   - GGUF's rope_freqs.weight divides the frequencies (llama.cpp stores llama3's scaling so).
func newRope(h *weights.Hyper) (rope, error) {
	if h.RopeDim == 0 {
		return rope{}, nil
	}
	if h.RopeDim < 0 || h.RopeDim%2 != 0 || h.RopeDim > h.HeadDim {
		return rope{}, fmt.Errorf("%d rotated dimensions of a head of %d: want an even number, at most the head's", h.RopeDim, h.HeadDim)
	}
	if !(h.RopeTheta > 0) || math.IsInf(h.RopeTheta, 0) {
		return rope{}, fmt.Errorf("RoPE base %v: want a positive number", h.RopeTheta)
	}
	r := rope{freq: make([]float64, h.RopeDim/2), scale: 1}
	base := ln(h.RopeTheta)
	for i := range r.freq {
		r.freq[i] = exp(-float64(base * float64(2*i) / float64(h.RopeDim)))
	}
	sc := &h.RopeScaling
	if sc.Kind != "" && !(sc.Factor > 0 && sc.Factor < 1e9) {
		return rope{}, fmt.Errorf("RoPE scaling %q: factor %v: want a positive number", sc.Kind, sc.Factor)
	}
	if (sc.Kind == "llama3" || sc.Kind == "yarn") && sc.OrigContext <= 0 {
		return rope{}, fmt.Errorf("RoPE scaling %q: the original context length is missing", sc.Kind)
	}
	switch sc.Kind {
	case "":
	case "linear":
		for i := range r.freq {
			r.freq[i] /= sc.Factor
		}
	case "llama3":
		if !(sc.LowFreq > 0 && sc.HighFreq > sc.LowFreq) {
			return rope{}, fmt.Errorf("RoPE scaling %q: frequency factors %v and %v: want 0 < low < high", sc.Kind, sc.LowFreq, sc.HighFreq)
		}
		llama3(r.freq, sc)
	case "yarn":
		r.scale = yarn(r.freq, sc, base)
	default:
		return rope{}, fmt.Errorf("RoPE scaling %q is not supported: linear, llama3 and yarn are", sc.Kind)
	}
	if sc.FreqFactors != nil {
		if len(sc.FreqFactors) != len(r.freq) {
			return rope{}, fmt.Errorf("%d RoPE frequency factors: want %d", len(sc.FreqFactors), len(r.freq))
		}
		for i, f := range sc.FreqFactors {
			if !(f > 0) || math.IsInf(float64(f), 0) {
				return rope{}, fmt.Errorf("RoPE frequency factor %d is %v: want a positive number", i, f)
			}
			r.freq[i] /= float64(f)
		}
	}
	return r, nil
}

func llama3(freq []float64, sc *weights.RopeScaling) {
	long := float64(sc.OrigContext) / sc.LowFreq
	short := float64(sc.OrigContext) / sc.HighFreq
	for i, f := range freq {
		switch wave := 2 * math.Pi / f; {
		case wave < short:
		case wave > long:
			freq[i] = f / sc.Factor
		default:
			keep := (float64(sc.OrigContext)/wave - sc.LowFreq) / (sc.HighFreq - sc.LowFreq)
			freq[i] = float64((1-keep)*(f/sc.Factor)) + float64(keep*f)
		}
	}
}

// yarn scales freq in place and returns the attention factor. base is ln(theta).
func yarn(freq []float64, sc *weights.RopeScaling, base float64) float64 {
	fast, slow := sc.BetaFast, sc.BetaSlow
	if fast <= 0 {
		fast = 32
	}
	if slow <= 0 {
		slow = 1
	}
	dim := float64(2 * len(freq))
	// turning is the dimension that makes n turns in OrigContext positions.
	turning := func(n float64) float64 {
		return float64(dim*ln(float64(sc.OrigContext)/float64(n*2*math.Pi))) / float64(2*base)
	}
	low := max(math.Floor(turning(fast)), 0)
	high := min(math.Ceil(turning(slow)), dim-1)
	if low == high {
		high += 0.001
	}
	for i, f := range freq {
		ramp := min(max((float64(i)-low)/(high-low), 0), 1)
		freq[i] = float64(f/sc.Factor*ramp) + float64(f*(1-ramp))
	}
	if sc.AttnFactor > 0 {
		return sc.AttnFactor
	}
	if sc.Factor <= 1 {
		return 1
	}
	return float64(0.1*ln(sc.Factor)) + 1
}

// fill computes the cosines and sines of one position into two slices of RopeDim/2.
func (r *rope) fill(cos, sin []float32, pos int) {
	for i, f := range r.freq {
		s, c := sincos(float64(float64(pos) * f))
		cos[i], sin[i] = float32(c*r.scale), float32(s*r.scale)
	}
}
