package position

import (
	"fmt"
	"math"
	"slices"

	"edged/core/infer/transformer/exactmath"
	"edged/core/model/arch"
)

// Rope holds the angular frequencies of a rotary position embedding (RoFormer, Su et al. 2021): pair i of a head is
// turned by position · freq[i]. Angles are computed in float64 for each row of a batch (Dim/2 sines and cosines,
// some microseconds, for all layers together) and not kept in a table, which would take 64 MB at 128k positions.
type Rope struct {
	Of    arch.Rope
	Freq  []float64 // (Dim/2)
	scale float64   // multiplies sine and cosine (YaRN's attention factor), else 1

	far      map[int][]float64 // frequencies of sequences that are stretched, by how far, see Model.Stretch
	farScale float64
	At       int // pairs of the rotations before this one
}

// NewRope computes the frequencies base^(-2i/dim) with the context extension that the model was made with:
//
//   - linear: positions are divided by the factor (Chen et al. 2023);
//   - llama3: as Llama 3.1 publishes it, wave lengths above Original/LowFreq are stretched by the factor, those below
//     Original/HighFreq kept, those between interpolated;
//   - yarn: NTK by parts with a ramp between the dimensions that turn BetaFast and BetaSlow times in Original
//     positions, and an attention factor of 0.1·ln(factor) + 1 (Peng et al. 2023);
//   - longrope: each pair has a factor, and another one in sequences beyond Original (Ding et al. 2024);
//   - dynamic: as it is up to Original, beyond with a base that grows with the length (NTK);
//   - factors (GGUF's rope_freqs.weight) divide the frequencies (llama.cpp stores llama3's scaling so).
//
// The numbers were proved by arch.
func NewRope(of *arch.Rope) (Rope, error) {
	r := Rope{Of: *of, Freq: make([]float64, of.Dim/2), scale: 1}
	base := exactmath.Ln(of.Base)
	for i := range r.Freq {
		r.Freq[i] = exactmath.Exp(-float64(base * float64(2*i) / float64(of.Dim)))
	}
	sc := &of.Scaling
	switch sc.Kind {
	case arch.NoScaling:
	case arch.Linear:
		for i := range r.Freq {
			r.Freq[i] /= sc.Factor
		}
	case arch.Llama3:
		llama3(r.Freq, sc)
	case arch.YaRN:
		r.scale = yarn(r.Freq, sc, base)
	case arch.LongRope:
		far := slices.Clone(r.Freq)
		for i := range far {
			r.Freq[i] /= float64(sc.Short[i])
			far[i] /= float64(sc.Long[i])
		}
		r.far = map[int][]float64{1: far}
		r.scale, r.farScale = sc.Amplitude, sc.LongAmplitude
		if r.scale == 0 {
			r.scale = 1
		}
		if r.farScale == 0 {
			r.farScale = r.scale
		}
	case arch.Dynamic:
		r.far, r.farScale = map[int][]float64{}, 1
	default:
		return Rope{}, fmt.Errorf("RoPE scaling %q is not supported", sc.Kind)
	}
	for i, f := range sc.Factors {
		r.Freq[i] /= float64(f)
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
		return float64(dim*exactmath.Ln(float64(sc.Original)/float64(n*2*math.Pi))) / float64(2*base)
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
	return float64(float64(0.1*mscale)*exactmath.Ln(factor)) + 1
}

// maxStretches bounds the ways of turning that are remembered; each is some values that are computed anew in
// microseconds.
const maxStretches = 64

// Prepare makes the frequencies of a sequence that is stretched.
func (r *Rope) Prepare(stretch int) {
	sc := &r.Of.Scaling
	if stretch == 0 || sc.Kind != arch.Dynamic || r.far[stretch] != nil {
		return
	}
	if len(r.far) >= maxStretches {
		clear(r.far)
	}
	// transformers, modeling_rope_utils.py: base · (factor·n/original − (factor − 1))^(dim/(dim − 2)).
	grown := float64(sc.Factor*float64(stretch))/float64(sc.Original) - (sc.Factor - 1)
	base := exactmath.Ln(r.Of.Base) + float64(exactmath.Ln(max(grown, 1))*float64(r.Of.Dim)/float64(max(r.Of.Dim-2, 1)))
	freq := make([]float64, len(r.Freq))
	for i := range freq {
		freq[i] = exactmath.Exp(-float64(base * float64(2*i) / float64(r.Of.Dim)))
	}
	r.far[stretch] = freq
}

// Fill computes the cosines and sines of one position of a sequence into two slices of Dim/2.
func (r *Rope) Fill(cos, sin []float32, pos, stretch int) {
	freq, scale := r.Freq, r.scale
	if far := r.far[stretch]; far != nil {
		freq, scale = far, r.farScale
	}
	for i, f := range freq {
		s, c := exactmath.Sincos(float64(float64(pos) * f))
		cos[i], sin[i] = float32(c*scale), float32(s*scale)
		if r.Of.Reverse {
			sin[i] = -sin[i]
		}
	}
}
