package quant

// bitsandbytes' 4-bit matrices: the weights are flattened row-major, the weight at even index is the high nibble of its
// byte, and every BlockSize consecutive weights (across rows, where cols is no multiple) share one absmax. With double
// quantisation the absmax values are themselves 8-bit codes; they are computed when they are used, since as float32
// they would take a sixteenth of the weights' memory on the heap.

// Scale is the absmax of block j (weights j·BlockSize … of the flattened matrix).
func (s *BnBScale) Scale(j int) float32 {
	if s.Absmax != nil {
		return s.Absmax[j]
	}
	return float32(s.NestedMap[s.AbsmaxQ[j]]*s.NestedAbsmax[j/s.NestedBlock]) + s.NestedOffset
}

// Flat decodes len(dst) weights of an NF4 or FP4 matrix from flattened index start: w = Code[nibble] · absmax.
func Flat(dst []float32, m *Matrix, start int) {
	s := m.BnB
	for len(dst) > 0 {
		j := start / s.BlockSize
		n := min((j+1)*s.BlockSize-start, len(dst))
		absmax := s.Scale(j)
		for i := range dst[:n] {
			k := start + i
			q := m.Data[k/2]
			if k%2 == 0 {
				q >>= 4
			}
			dst[i] = s.Code[q&15] * absmax
		}
		dst = dst[n:]
		start += n
	}
}

// NF4Code returns the 16 values of NF4: the quantiles of N(0, 1) scaled to [-1, 1] that bitsandbytes publishes (QLoRA,
// Dettmers et al. 2023, appendix E). Files carry their own copy, which is what is used; this one is for writers.
func NF4Code() [16]float32 {
	return [16]float32{
		-1, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453,
		-0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0,
		0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
		0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1,
	}
}

// FP4Code returns the 16 values of bitsandbytes' FP4 (a sign bit, then its own order of magnitudes).
func FP4Code() [16]float32 {
	return [16]float32{
		0, 0.0052083333, 0.6666667, 1, 0.33333334, 0.5, 0.16666667, 0.25,
		0, -0.0052083333, -0.6666667, -1, -0.33333334, -0.5, -0.16666667, -0.25,
	}
}
