package transformer

import (
	"unsafe"

	"edged/core/infer/speed"
	"edged/quant"
)

// Stream reads every byte of weights that a decoded token reads, with the threads of decoding, and only adds them up: what
// is left of a token when computing costs nothing. It returns the number of bytes; the caller measures the time.
//
// Of a mixture of experts a token reads a part that its router chooses: the first bytes of the model stand for it.
func (m *Model) Stream() int64 {
	var ranges [][]byte
	left := m.info.WeightBytes
	for i := range m.net.linears {
		for _, p := range weightBytes(m.net.linears[i].w) {
			p = p[:min(int64(len(p)), left)]
			left -= int64(len(p))
			ranges = append(ranges, p)
		}
	}
	return speed.Sum(m.pool, m.info.ThreadsDecode, m.k, ranges)
}

// weightBytes are the ranges that a product with w reads.
func weightBytes(w *quant.Matrix) [][]byte {
	if t := w.Tile; t.Rows > 0 {
		// Rows that fill no group are read as they are stored.
		return [][]byte{t.Data, w.Data[w.Rows/t.Rows*t.Rows*(len(w.Data)/w.Rows):]}
	}
	out := [][]byte{w.Data}
	if s := w.BnB; s != nil {
		out = append(out, bytesOf(s.Absmax), s.AbsmaxQ, bytesOf(s.NestedAbsmax))
	}
	return out
}

func bytesOf(f []float32) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(f))), 4*len(f))
}
