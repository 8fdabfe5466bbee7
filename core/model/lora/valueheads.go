package lora

import (
	"encoding/binary"
	"fmt"
	"math"

	"edged/core/model/arch"
	"edged/quant"
)

// reorder puts what an adapter has of a delta net's value heads into the order that the model's container has
// them in: the rows of B, the magnitudes and biases, or the columns of A.
func (a *Adapter) reorder(l *rawDelta, h *arch.ByHead, factorA, b, size, bias *rawTensor) error {
	if l.olora || l.made != nil && (l.made.Times != nil || l.made.Paired != nil || l.made.See != nil || l.made.Bias != nil) {
		return a.fail(ErrUnsupported, "module %s: an adapter of this kind, whose changes follow from the weights, on value heads that the model's file has in another order; merge it into the model with PEFT", l.module)
	}
	from := valueHeads(h)
	if h.Columns {
		return a.reorderColumns(factorA, from)
	}
	for _, t := range []*rawTensor{b, size, bias} {
		if t.rows == 0 || t.data == nil {
			continue
		}
		out, err := a.arena.Alloc(len(t.data))
		if err != nil {
			return fmt.Errorf("lora: %s: tensor %s: %w", a.Path, t.name, err)
		}
		n := len(t.data) / len(from)
		for i, j := range from {
			copy(out[i*n:(i+1)*n], t.data[j*n:(j+1)*n])
		}
		t.data = out
	}
	return nil
}

// valueHeads says of each value head of the model which one of the adapter it is.
func valueHeads(h *arch.ByHead) []int {
	each := h.Heads / h.KeyHeads // value heads of a key head
	from := make([]int, h.Heads)
	for i := range from {
		if h.Tiled {
			from[i] = i%h.KeyHeads*each + i/h.KeyHeads
		} else {
			from[i] = i%each*h.KeyHeads + i/each
		}
	}
	return from
}

// reorderColumns makes float32 of t, whose blocks may run across heads.
func (a *Adapter) reorderColumns(t *rawTensor, from []int) error {
	if t.rows == 0 || t.data == nil {
		return nil
	}
	out, err := a.arena.Alloc(4 * t.rows * t.cols)
	if err != nil {
		return fmt.Errorf("lora: %s: tensor %s: %w", a.Path, t.name, err)
	}
	m, row, n := t.matrix(t.name), make([]float32, t.cols), t.cols/len(from)
	for r := range t.rows {
		quant.Row(row, m, r)
		at := out[4*r*t.cols:]
		for i, j := range from {
			for c, v := range row[j*n : (j+1)*n] {
				binary.LittleEndian.PutUint32(at[4*(i*n+c):], math.Float32bits(v))
			}
		}
	}
	t.data, t.format = out, quant.F32
	return nil
}
