package position

import (
	"math"
	"slices"
	"testing"

	"edged/core/model/arch"
)

// The published definitions, written down as they are: transformers' modeling_rope_utils.py for linear, llama3 and yarn.

func llama3Formula(of *arch.Rope) []float64 {
	sc := &of.Scaling
	freq := plainFreq(of)
	old := float64(sc.Original)
	for i, f := range freq {
		wavelen := 2 * math.Pi / f
		switch {
		case wavelen < old/sc.HighFreq:
		case wavelen > old/sc.LowFreq:
			freq[i] = f / sc.Factor
		default:
			smooth := (old/wavelen - sc.LowFreq) / (sc.HighFreq - sc.LowFreq)
			freq[i] = (1-smooth)*f/sc.Factor + smooth*f
		}
	}
	return freq
}

func yarnFormula(of *arch.Rope) ([]float64, float64) {
	sc := &of.Scaling
	dim, base := float64(of.Dim), of.Base
	correction := func(rotations float64) float64 {
		return dim * math.Log(float64(sc.Original)/(rotations*2*math.Pi)) / (2 * math.Log(base))
	}
	low, high := max(math.Floor(correction(sc.BetaFast)), 0), min(math.Ceil(correction(sc.BetaSlow)), dim-1)
	if low == high {
		high += 0.001
	}
	freq := plainFreq(of)
	for i, f := range freq {
		ramp := min(max((float64(i)-low)/(high-low), 0), 1)
		extrapolate := 1 - ramp
		freq[i] = f/sc.Factor*(1-extrapolate) + f*extrapolate
	}
	attention := sc.Amplitude
	if attention == 0 {
		attention = 0.1*math.Log(sc.Factor) + 1
	}
	return freq, attention
}

func TestRopeScaling(t *testing.T) {
	base := arch.Rope{Dim: 128, Base: 500000}
	factors := make([]float32, 64)
	for i := range factors {
		factors[i] = 1 + float32(i)/8
	}
	for _, c := range []struct {
		name string
		sc   arch.Scaling
		want func(of *arch.Rope) ([]float64, float64)
	}{
		{"none", arch.Scaling{}, func(of *arch.Rope) ([]float64, float64) { return plainFreq(of), 1 }},
		{"linear", arch.Scaling{Kind: "linear", Factor: 4}, func(of *arch.Rope) ([]float64, float64) {
			f := plainFreq(of)
			for i := range f {
				f[i] /= 4
			}
			return f, 1
		}},
		// Llama 3.1 and Llama 3.2 as published.
		{"llama3 8", arch.Scaling{Kind: "llama3", Factor: 8, LowFreq: 1, HighFreq: 4, Original: 8192}, func(of *arch.Rope) ([]float64, float64) { return llama3Formula(of), 1 }},
		{"llama3 32", arch.Scaling{Kind: "llama3", Factor: 32, LowFreq: 1, HighFreq: 4, Original: 8192}, func(of *arch.Rope) ([]float64, float64) { return llama3Formula(of), 1 }},
		{"yarn", arch.Scaling{Kind: "yarn", Factor: 4, Original: 32768, BetaFast: 32, BetaSlow: 1}, yarnFormula},
		{"yarn factor", arch.Scaling{Kind: "yarn", Factor: 16, Original: 4096, BetaFast: 32, BetaSlow: 1, Amplitude: 0.75}, yarnFormula},
		{"yarn narrow", arch.Scaling{Kind: "yarn", Factor: 2, Original: 4, BetaFast: 1.01, BetaSlow: 1}, yarnFormula},
		{"rope_freqs", arch.Scaling{Factors: factors}, func(of *arch.Rope) ([]float64, float64) {
			f := plainFreq(of)
			for i := range f {
				f[i] /= float64(factors[i])
			}
			return f, 1
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			of := base
			of.Scaling = c.sc
			r, err := NewRope(&of)
			if err != nil {
				t.Fatal(err)
			}
			want, amp := c.want(&of)
			if math.Abs(r.scale-amp) > 1e-14 {
				t.Errorf("attention factor %v, want %v", r.scale, amp)
			}
			cos, sin := make([]float32, 64), make([]float32, 64)
			for _, pos := range []int{0, 1, 17, 4095, 131071} {
				r.Fill(cos, sin, pos, 0)
				for i, f := range want {
					if e := math.Abs(r.Freq[i]/f - 1); e > 1e-14 {
						t.Fatalf("frequency %d is %v, want %v", i, r.Freq[i], f)
					}
					s, c := math.Sincos(float64(pos) * f)
					if math.Abs(float64(cos[i])-amp*c) > 2e-7 || math.Abs(float64(sin[i])-amp*s) > 2e-7 {
						t.Fatalf("position %d, pair %d: (%v, %v), want (%v, %v)", pos, i, cos[i], sin[i], amp*c, amp*s)
					}
				}
			}
		})
	}
}

// TestAnglesHaveOneValue pins bits: they are the same on every architecture. Values made by this package on linux/amd64.
func TestAnglesHaveOneValue(t *testing.T) {
	of := arch.Rope{Dim: 128, Base: 500000}
	of.Scaling = arch.Scaling{Kind: "llama3", Factor: 32, LowFreq: 1, HighFreq: 4, Original: 8192}
	r, err := NewRope(&of)
	if err != nil {
		t.Fatal(err)
	}
	sum := uint64(14695981039346656037) // FNV-1a over the bits of all values
	add := func(v uint64) { sum = (sum ^ v) * 1099511628211 }
	for _, f := range r.Freq {
		add(math.Float64bits(f))
	}
	cos, sin := make([]float32, 64), make([]float32, 64)
	for pos := 0; pos < 131072; pos += 61 {
		r.Fill(cos, sin, pos, 0)
		for i := range cos {
			add(uint64(math.Float32bits(cos[i])))
			add(uint64(math.Float32bits(sin[i])))
		}
	}
	of.Scaling = arch.Scaling{Kind: "yarn", Factor: 4, Original: 32768}
	if r, err = NewRope(&of); err != nil {
		t.Fatal(err)
	}
	for _, f := range append(slices.Clone(r.Freq), r.scale) {
		add(math.Float64bits(f))
	}
	if want := uint64(0x729afbe9243875bd); sum != want {
		t.Errorf("%#x, want %#x", sum, want)
	}
}

// plainFreq is base^(-2i/dim).
func plainFreq(of *arch.Rope) []float64 {
	f := make([]float64, of.Dim/2)
	for i := range f {
		f[i] = math.Pow(of.Base, -2*float64(i)/float64(of.Dim))
	}
	return f
}
