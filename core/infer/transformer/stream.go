package transformer

import (
	"unsafe"

	"edged/quant"
)

// Stream reads every byte of weights that a decoded token reads, with the threads of decoding, and only adds them up: what
// is left of a token when computing costs nothing. It returns the number of bytes; the caller measures the time.
//
// Of a mixture of experts a token reads a part that its router chooses: the first bytes of the model stand for it.
func (m *Model) Stream() int64 {
	j := &streamJob{k: m.k}
	left := m.info.WeightBytes
	for i := range m.net.linears {
		for _, p := range weightBytes(m.net.linears[i].w) {
			p = p[:min(int64(len(p)), left)]
			left -= int64(len(p))
			for len(p) > 0 {
				n := min(len(p), streamChunk)
				j.chunks = append(j.chunks, p[:n:n])
				p = p[n:]
			}
		}
	}
	j.sums = make([]int64, m.pool.Threads()*sumStride)
	m.pool.Run(m.info.ThreadsDecode, len(j.chunks), j)
	return m.info.WeightBytes - left
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

const (
	// streamChunk is about what a chunk of a matrix × vector product reads.
	streamChunk = 256 << 10
	// sumStride keeps the sums of two threads in different cache lines.
	sumStride = 16
)

// streamJob adds up the words of its chunks.
type streamJob struct {
	k      any // the kernels, which may have a faster sum
	chunks [][]byte
	sums   []int64 // (threads, sumStride), the first of each in use: what is not stored anywhere is not read
}

// summer is what kernels may do faster than sum.
type summer interface{ Sum(p []byte) int64 }

func (j *streamJob) Do(worker, chunk int) {
	var n int64
	if s, ok := j.k.(summer); ok {
		n = s.Sum(j.chunks[chunk])
	} else {
		n = sum(j.chunks[chunk])
	}
	j.sums[worker*sumStride] += n
}

// sum adds the 64-bit words of p. Four chains of additions leave the memory as the limit; bytes before the first and
// after the last aligned word are left out.
func sum(p []byte) int64 {
	at := unsafe.Pointer(unsafe.SliceData(p))
	skip := int(-uintptr(at) & 7)
	if len(p) < skip+8 {
		return 0
	}
	w := unsafe.Slice((*uint64)(unsafe.Add(at, skip)), (len(p)-skip)/8)
	var a, b, c, d uint64
	for len(w) >= 8 {
		a += w[0] + w[4]
		b += w[1] + w[5]
		c += w[2] + w[6]
		d += w[3] + w[7]
		w = w[8:]
	}
	for _, x := range w {
		a += x
	}
	return int64(a + b + c + d)
}
