package transformer

import (
	"fmt"
	"math"

	"edged/core/model/arch"
)

// rope holds the angular frequencies of a rotary position embedding (RoFormer, Su et al. 2021): pair i of a head is
// turned by position · freq[i]. Angles are computed in float64 for each row of a batch (Dim/2 sines and cosines,
// some microseconds, for all layers together) and not kept in a table, which would take 64 MB at 128k positions.
type rope struct {
	of    arch.Rope
	freq  []float64 // (Dim/2)
	scale float64   // multiplies sine and cosine (YaRN's attention factor), else 1
	at    int       // pairs of the rotations before this one
}

// newRope computes the frequencies base^(-2i/dim) with the context extension that the model was made with:
//
//   - linear: positions are divided by the factor (Chen et al. 2023);
//   - llama3: as Llama 3.1 publishes it, wave lengths above Original/LowFreq are stretched by the factor, those below
//     Original/HighFreq kept, those between interpolated;
//   - yarn: NTK by parts with a ramp between the dimensions that turn BetaFast and BetaSlow times in Original
//     positions, and an attention factor of 0.1·ln(factor) + 1 (Peng et al. 2023);
//   - factors (GGUF's rope_freqs.weight) divide the frequencies (llama.cpp stores llama3's scaling so).
//
// The numbers were proved by arch.
func newRope(of *arch.Rope) (rope, error) {
	r := rope{of: *of, freq: make([]float64, of.Dim/2), scale: 1}
	base := ln(of.Base)
	for i := range r.freq {
		r.freq[i] = exp(-float64(base * float64(2*i) / float64(of.Dim)))
	}
	sc := &of.Scaling
	switch sc.Kind {
	case arch.NoScaling:
	case arch.Linear:
		for i := range r.freq {
			r.freq[i] /= sc.Factor
		}
	case arch.Llama3:
		llama3(r.freq, sc)
	case arch.YaRN:
		r.scale = yarn(r.freq, sc, base)
	default:
		return rope{}, fmt.Errorf("RoPE scaling %q is not supported: linear, llama3 and yarn are", sc.Kind)
	}
	for i, f := range sc.Factors {
		r.freq[i] /= float64(f)
	}
	return r, nil
}

func llama3(freq []float64, sc *arch.Scaling) {
	long := float64(sc.Original) / sc.LowFreq
	short := float64(sc.Original) / sc.HighFreq
	for i, f := range freq {
		switch wave := 2 * math.Pi / f; {
		case wave < short:
		case wave > long:
			freq[i] = f / sc.Factor
		default:
			keep := (float64(sc.Original)/wave - sc.LowFreq) / (sc.HighFreq - sc.LowFreq)
			freq[i] = float64((1-keep)*(f/sc.Factor)) + float64(keep*f)
		}
	}
}

// yarn scales freq in place and returns the attention factor. base is ln(theta).
func yarn(freq []float64, sc *arch.Scaling, base float64) float64 {
	fast, slow := sc.BetaFast, sc.BetaSlow
	if fast <= 0 {
		fast = 32
	}
	if slow <= 0 {
		slow = 1
	}
	dim := float64(2 * len(freq))
	// turning is the dimension that makes n turns in Original positions.
	turning := func(n float64) float64 {
		return float64(dim*ln(float64(sc.Original)/float64(n*2*math.Pi))) / float64(2*base)
	}
	low, high := turning(fast), turning(slow)
	if !sc.Unrounded {
		low, high = math.Floor(low), math.Ceil(high)
	}
	low, high = max(low, 0), min(high, dim-1)
	if low == high {
		high += 0.001
	}
	for i, f := range freq {
		ramp := min(max((float64(i)-low)/(high-low), 0), 1)
		freq[i] = float64(f/sc.Factor*ramp) + float64(f*(1-ramp))
	}
	switch {
	case sc.Amplitude > 0:
		return sc.Amplitude
	case sc.MScale > 0 && sc.MScaleAll > 0:
		return yarnScale(sc.Factor, sc.MScale) / yarnScale(sc.Factor, sc.MScaleAll)
	default:
		return yarnScale(sc.Factor, 1)
	}
}

// yarnScale is 0.1·mscale·ln(factor) + 1 (Peng et al. 2023, with DeepSeek's mscale).
func yarnScale(factor, mscale float64) float64 {
	if factor <= 1 {
		return 1
	}
	return float64(float64(0.1*mscale)*ln(factor)) + 1
}

// fill computes the cosines and sines of one position into two slices of Dim/2.
func (r *rope) fill(cos, sin []float32, pos int) {
	for i, f := range r.freq {
		s, c := sincos(float64(float64(pos) * f))
		cos[i], sin[i] = float32(c*r.scale), float32(s*r.scale)
		if r.of.Reverse {
			sin[i] = -sin[i]
		}
	}
}
