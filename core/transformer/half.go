package transformer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"edged/core/mmap"
	"edged/quant"
)

// errWide means that a value does not fit into 16 bits.
var errWide = errors.New("transformer: a value beyond float16")

// halves holds low-rank factors in float16, off the Go heap. A token reads all factors of its adapter, each once: at rank 16
// on all linear layers they are 5.9 % of the bytes of a 1B model in 4 bits as float32, and 3 % as float16, whose rounding is
// far below that of the 8-bit activations beside it.
type halves struct {
	mem  *mmap.Mapping
	free []byte
}

// newHalves makes room for factors of that many values together, of that many matrices.
func newHalves(values int64, matrices int) (*halves, error) {
	n := 2*values + halfAlign*int64(matrices)
	if n > math.MaxInt {
		return nil, fmt.Errorf("transformer: factors of %d bytes are more than this system's address space holds", n)
	}
	mem, err := mmap.Anonymous(int(n))
	if err != nil {
		return nil, err
	}
	return &halves{mem: mem, free: mem.Bytes()}, nil
}

const halfAlign = 64

// of is m in float16; m itself where it is no float32. The error is errWide.
func (h *halves) of(m *quant.Matrix) (*quant.Matrix, error) {
	if m.Format != quant.F32 {
		return m, nil
	}
	out := *m
	n := 2 * m.Rows * m.Cols
	out.Format, out.Data = quant.F16, h.free[:n:n]
	h.free = h.free[(n+halfAlign-1)/halfAlign*halfAlign:]
	for i := range m.Rows * m.Cols {
		v := math.Float32frombits(binary.LittleEndian.Uint32(m.Data[4*i:]))
		half := quant.FloatToHalf(v)
		if half&0x7c00 == 0x7c00 && finite(v) {
			return nil, errWide
		}
		binary.LittleEndian.PutUint16(out.Data[2*i:], half)
	}
	return &out, nil
}

func (h *halves) close() error {
	if h == nil {
		return nil
	}
	return h.mem.Close()
}
