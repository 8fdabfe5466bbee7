package sample

import "slices"

// PeakLen is the number of logits that have one peak: as many as a word of a Mask has bits.
const PeakLen = 64

// Peaks finds the largest of every PeakLen logits, the last of which may be fewer: NaN where one of them is
// NaN. dst has a value for each. The maker of logits can call it while they are in the cache, on as many
// threads as make them; the draw of a token then looks at peaks, and at the few blocks that could matter.
func Peaks(dst, logits []float32) {
	for i := range dst {
		b := block(logits, i)
		if len(b) < PeakLen {
			dst[i] = slices.Max(b)
			continue
		}
		// Four chains: one of them would wait for itself.
		m0, m1, m2, m3 := b[0], b[1], b[2], b[3]
		for k := 4; k < PeakLen; k += 4 {
			m0, m1, m2, m3 = max(m0, b[k]), max(m1, b[k+1]), max(m2, b[k+2]), max(m3, b[k+3])
		}
		dst[i] = max(m0, m1, m2, m3)
	}
}

// block returns the logits of which peak i is the largest.
func block(logits []float32, i int) []float32 {
	return logits[i*PeakLen : min(len(logits), (i+1)*PeakLen)]
}
