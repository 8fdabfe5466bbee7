package weights

import (
	"strconv"
	"strings"

	"edged/quant"
)

// Figures are the sizes that a memory plan needs, in bytes. They come from shapes and formats: weights are not touched.
type Figures struct {
	Total    int64 // all weights, as they are served
	Derived  int64 // the part of Total that is no mapping of the files: transposed or requantised
	PerToken int64 // read to decode one token: layers (of the experts only those that are used), norms, head, one embedding row
	Head     int64 // the part of PerToken that is the output head
}

// Figures computes them.
func (m *Model) Figures() Figures {
	f := Figures{Derived: m.derived}
	experts := int64(0)
	for name, x := range m.matrices {
		n := MatrixBytes(x)
		f.Total += n
		switch {
		case name == embedName || name == "position_embd.weight":
			f.PerToken += n / int64(x.Rows)
		case name == outputName: // below
		case isExpert(name):
			experts += n
		default:
			f.PerToken += n
		}
	}
	if m.Hyper.Experts > 0 {
		f.PerToken += experts * int64(m.Hyper.ExpertsUsed) / int64(m.Hyper.Experts)
	}
	for _, x := range m.vectors {
		n := MatrixBytes(x)
		f.Total += n
		f.PerToken += n
	}
	if head := m.Matrix(outputName); head != nil {
		f.Head = MatrixBytes(head)
		f.PerToken += f.Head
	}
	return f
}

// MatrixBytes is the size of a matrix with its scales.
func MatrixBytes(x *quant.Matrix) int64 {
	n := x.Format.Bytes(int64(x.Rows), int64(x.Cols))
	if s := x.BnB; s != nil {
		blocks := (int64(x.Rows)*int64(x.Cols) + int64(s.BlockSize) - 1) / int64(s.BlockSize)
		if s.NestedBlock > 0 {
			n += blocks + (blocks+int64(s.NestedBlock)-1)/int64(s.NestedBlock)*4
		} else {
			n += 4 * blocks
		}
	}
	return n
}

// isExpert reports whether name is blk.N.ffn_….E.weight.
func isExpert(name string) bool {
	parts := strings.Split(name, ".")
	if len(parts) != 5 {
		return false
	}
	_, err := strconv.Atoi(parts[3])
	return err == nil
}
