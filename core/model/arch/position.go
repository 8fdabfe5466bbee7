package arch

// Position is how attention knows distances: Rope, ALiBi or Distances.
type Position interface{ position() }

// Rope is the rotary position embedding (Su et al. 2021): pair i of the first Dim values of a head is turned
// by the angle position·Base^(−2i/Dim).
type Rope struct {
	Dim      int // of a head, even; the values behind stay
	Base     float64
	Adjacent bool // pairs are (2i, 2i+1), else (i, i+Dim/2)
	Reverse  bool // turned the other way round
	Scaling  Scaling
}

// Scaling is a method to reach beyond the context of training. The zero value is none.
type Scaling struct {
	Kind     ScalingKind
	Factor   float64
	Original int // context of training: Llama3, YaRN, Dynamic, LongRope

	LowFreq, HighFreq float64 // Llama3

	// YaRN. Amplitude multiplies sines and cosines; 0: what the factor and the two mscales say, see YaRN in
	// package transformer.
	Amplitude          float64 // also of LongRope
	LongAmplitude      float64 // LongRope, of the long factors; 0: Amplitude
	BetaFast, BetaSlow float64
	MScale, MScaleAll  float64
	Unrounded          bool // the range of interpolated pairs is not rounded to whole pairs

	Short, Long []float32 // LongRope: divide the frequencies below and above Original
	Factors     []float32 // rope_freqs.weight: divide the frequencies, whatever the kind; nil: none
}

// ScalingKind is one of the methods.
type ScalingKind string

// The methods.
const (
	NoScaling ScalingKind = ""
	Linear    ScalingKind = "linear"   // positions are divided by the factor (Chen et al. 2023)
	Dynamic   ScalingKind = "dynamic"  // NTK: the base grows with the length beyond Original
	Llama3    ScalingKind = "llama3"   // by wave length, as Llama 3.1 publishes it
	YaRN      ScalingKind = "yarn"     // NTK by parts (Peng et al. 2023)
	LongRope  ScalingKind = "longrope" // a factor for each pair (Ding et al. 2024)
)

// Border is the number of positions beyond which a sequence is turned in another way, from its first position
// on; 0: none.
func (s *Spec) Border() int {
	border := 0
	for _, layer := range s.Layers {
		for i := range layer {
			var p Position
			switch op := layer[i].Op.(type) {
			case Attention:
				p = op.Position
			case Latent:
				p = op.Position
			}
			r, ok := p.(Rope)
			if sc := &r.Scaling; ok && (sc.Kind == LongRope || sc.Kind == Dynamic) && (border == 0 || sc.Original < border) {
				border = sc.Original
			}
		}
	}
	return border
}

// ALiBi subtracts slope·distance from the scores, each head with a slope of its own (Press et al. 2022):
// 2^(−Max·h/n) for head h of n, where n is a power of two.
type ALiBi struct {
	Max float32 // 8 in all published models
	// Rounded adds to the score of position p, wherever the query stands, slope·p over the root of the head's
	// size, slope, p and their product each rounded to BF16 (Falcon).
	Rounded bool
}

// Distances adds a learned value to the scores, chosen by head and bucket of the distance (Raffel et al.
// 2020): small distances have a bucket each, larger ones share them by the logarithm, and from Far on there
// is one. Where attention is to both sides, half of the buckets are for positions behind. Tensor: attn_rel_b
// (Buckets, Heads) of a layer that has its Own.
type Distances struct {
	Buckets int
	Far     int
	Own     bool // else the table of the nearest layer before that has one
}

func (Rope) position()      {}
func (ALiBi) position()     {}
func (Distances) position() {}
