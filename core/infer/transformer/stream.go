package transformer

import (
	"edged/core/infer/speed"
	"edged/core/infer/transformer/parts"
)

// Stream reads every byte of weights that a decoded token reads, with the threads of decoding, and only adds
// them up: what is left of a token when computing costs nothing. It returns the number of bytes; the caller
// measures the time.
//
// Of a mixture of experts a token reads a part that its router chooses: the first bytes of the model stand for it.
func (m *Model) Stream() int64 {
	var ranges [][]byte
	left := m.info.WeightBytes
	for i := range m.net.linears {
		for _, p := range parts.Ranges(m.net.linears[i].W) {
			p = p[:min(int64(len(p)), left)]
			left -= int64(len(p))
			ranges = append(ranges, p)
		}
	}
	return speed.Sum(m.pool, m.info.ThreadsDecode, m.k, ranges)
}
