// Package speed measures the two things that bound a language model on a machine: how fast it reads memory,
// which bounds an answer, and how fast it multiplies weights with many tokens at once, which bounds a prompt.
//
// It must not know models: what a token costs stands in package weights. Its functions may be called
// concurrently, and then measure each other's load as well.
package speed

import (
	"time"
	"unsafe"

	"edged/core/infer/transformer/pool"
	"edged/quant"
	"edged/quant/kernel"
	"edged/quant/tile"
)

// Machine holds the measured rates of a machine, per second.
type Machine struct {
	Bytes    float64 // read from memory by a plain sum
	Products float64 // multiply-adds of weights with Rows tokens
}

const (
	// Rows is the number of tokens that Measure multiplies with: as many of a prompt as the engine computes
	// in one turn on a fast board.
	Rows = 64
	// MostMemory is the memory that Measure uses for a moment; a machine with less to spare is measured with less, and
	// then partly in its caches.
	MostMemory = 256 << 20
	// leastMemory exceeds the last cache of every board that is served.
	leastMemory = 16 << 20
	// rounds of each measurement, of which the fastest counts: other processes only ever make it slower.
	rounds = 5
	// atLeast is how long a round takes: a short one is over before another core has come in.
	atLeast = 100 * time.Millisecond
	// The matrix that is multiplied: as wide as the models of a small board, and short enough to be a
	// fraction of a second there.
	productRows, productCols = 512, 2048
)

// Measure measures with threads of the machine, 0 being all. free is how much memory may be used, in bytes;
// 0: as much as it likes. format is that of the weights that are multiplied; formats whose blocks refer to
// tables of their own (GPTQ, bitsandbytes) are measured by Q4_0, which computes the same products. It takes
// about a second.
func Measure(k kernel.Kernels, format quant.Format, threads int, free int64) Machine {
	p := pool.New(threads)
	defer p.Close()
	return Machine{Bytes: read(p, k, memory(free)), Products: multiply(p, k, format)}
}

// memory is the number of bytes to read, a quarter of what is free within the bounds.
func memory(free int64) int {
	if free <= 0 {
		return MostMemory
	}
	return int(min(max(free/4, leastMemory), MostMemory))
}

func read(p *pool.Pool, k kernel.Kernels, bytes int) float64 {
	data := make([]byte, bytes)
	for i := range data {
		data[i] = byte(i) // pages that were never written are all the same page of zeros
	}
	return fastest(func() int64 { return Sum(p, p.Threads(), k, [][]byte{data}) })
}

func multiply(p *pool.Pool, k kernel.Kernels, format quant.Format) float64 {
	j := newProduct(k, format)
	chunks := (productRows + j.step - 1) / j.step
	return fastest(func() int64 {
		p.Run(p.Threads(), chunks, j)
		return Rows * productRows * productCols
	})
}

// product is a matrix product, cut into ranges of rows.
type product struct {
	k    kernel.Kernels
	w    *quant.Matrix
	a    kernel.Activations
	y    []float32
	step int
}

func newProduct(k kernel.Kernels, format quant.Format) *product {
	if format == quant.FormatInvalid || format.IsBnB() || format == quant.Group2 || format == quant.Group4 || format == quant.Group8 {
		format = quant.Q4_0
	}
	// The bytes of a block may all be zero in every format, and the time of a product does not depend on values.
	w := &quant.Matrix{
		Name:   "measured",
		Format: format,
		Rows:   productRows,
		Cols:   productCols,
		Data:   make([]byte, format.Bytes(productRows, productCols)),
	}
	if t, ok := k.(tiler); ok && t.WantsTiles() {
		if lanes := t.TileRows(w); lanes > 0 && tile.Bytes(w, lanes) > 0 {
			w.Tile = quant.Tile{Rows: lanes, Data: make([]byte, tile.Bytes(w, lanes))}
		}
	}
	j := &product{
		k: k, w: w, y: make([]float32, Rows*productRows), step: max(k.RowMultiple(w), 32),
		a: kernel.Activations{Rows: Rows, Cols: productCols, X: make([]float32, Rows*productCols)},
	}
	for i := range j.a.X {
		j.a.X[i] = float32(i%255-127) / 127
	}
	k.Grow(&j.a, Rows, productCols)
	k.Prepare(&j.a, kernel.Fast, 0, Rows)
	return j
}

// tiler is implemented by kernels that have tiles: whether they are worth their memory, and the rows in a
// group of w's, 0 for none.
type tiler interface {
	WantsTiles() bool
	TileRows(w *quant.Matrix) int
}

func (j *product) Do(_, chunk int) {
	lo := chunk * j.step
	j.k.MatMul(j.y, productRows, j.w, &j.a, kernel.Fast, lo, min(lo+j.step, productRows))
}

// fastest is how much work does in a second, which says how much it did; 0: it does nothing.
func fastest(work func() int64) float64 {
	most := 0.0
	for range rounds {
		var n int64
		began := time.Now()
		took := time.Duration(0)
		for ; took < atLeast; took = time.Since(began) {
			did := work()
			if did == 0 {
				return 0
			}
			n += did
		}
		most = max(most, float64(n)/took.Seconds())
	}
	return most
}

const (
	// chunkBytes is about what a chunk of a matrix × vector product reads.
	chunkBytes = 256 << 10
	// sumStride keeps the sums of two threads in different cache lines.
	sumStride = 16
)

// Sum reads ranges of memory with some threads of a pool and only adds them up. It returns the number of
// bytes; the caller measures the time. Kernels that have a faster sum are asked for theirs; k may be nil.
func Sum(p *pool.Pool, threads int, k any, ranges [][]byte) int64 {
	j := &sumJob{sums: make([]int64, p.Threads()*sumStride)}
	j.faster, _ = k.(summer)
	var n int64
	for _, r := range ranges {
		n += int64(len(r))
		for len(r) > 0 {
			size := min(len(r), chunkBytes)
			j.chunks = append(j.chunks, r[:size:size])
			r = r[size:]
		}
	}
	p.Run(threads, len(j.chunks), j)
	return n
}

// sumJob adds up the words of its chunks.
type sumJob struct {
	faster summer // nil: there is none
	chunks [][]byte
	sums   []int64 // (threads, sumStride), the first of each in use: what is not stored anywhere is not read
}

// summer is implemented by kernels that sum bytes faster than sum does.
type summer interface{ Sum(p []byte) int64 }

func (j *sumJob) Do(worker, chunk int) {
	var n int64
	if j.faster != nil {
		n = j.faster.Sum(j.chunks[chunk])
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
