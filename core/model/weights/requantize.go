package weights

import (
	"fmt"
	"math"
	"runtime"
	"slices"
	"sync"

	"edged/core/model/arch"
	"edged/quant"
)

// LinearLayers selects what model.quantize is about: every matrix of the layers, but no embedding, no output
// head and no router of experts, which is small and decides much.
func LinearLayers(t arch.Tensor) bool { return t.Role == arch.Product || t.Role == arch.Expert }

// OutputHead selects what model.head is about.
func OutputHead(t arch.Tensor) bool { return t.Role == arch.HeadRole }

// Requantize replaces the selected matrices (selected is asked for every matrix, and for output.weight also
// where the head is the embedding) by copies in format f, off the Go heap. It is for the formats that
// quant.Encode writes. A tied model's embedding stays as it is; only the head becomes another matrix.
// Matrices that are in format f already stay.
//
// It must come before the model is read concurrently, and changes Hash. An error names the tensor; the model
// then serves what it served before, apart from matrices that were done already, and is best closed.
func Requantize(m *Model, selected func(t arch.Tensor) bool, f quant.Format) error {
	if !quant.CanEncode(f) {
		return fmt.Errorf("weights: %s: requantise: %w: weights are not written as %s, only as %s", m.Path, ErrUnsupported, f, quant.EncodeNames())
	}
	names := m.matrixNames()
	if m.Spec.Head.Tied && m.matrices[arch.HeadName] == nil {
		names = append(names, arch.HeadName)
		m.tensors[arch.HeadName] = arch.Tensor{Name: arch.HeadName, Rows: m.Spec.Vocab, Cols: m.Spec.Width, Role: arch.HeadRole}
	}
	for _, name := range names {
		if !selected(m.tensors[name]) {
			continue
		}
		old := m.Matrix(name)
		if old.Format == f {
			continue
		}
		fresh, err := m.recode(old, f)
		if err != nil {
			return fmt.Errorf("weights: %s: tensor %s: requantise to %s: %w", m.Path, name, f, err)
		}
		fresh.Name = name
		m.matrices[name] = fresh
		m.recoded = append(m.recoded, name+"="+f.String())
	}
	slices.Sort(m.recoded)
	return nil
}

// recode encodes one matrix anew, a row at a time.
func (m *Model) recode(old *quant.Matrix, f quant.Format) (*quant.Matrix, error) {
	size := f.Bytes(int64(old.Rows), int64(old.Cols))
	switch {
	case size < 0:
		return nil, fmt.Errorf("%w: rows of %d are no multiple of the %d weights in a block", ErrUnsupported, old.Cols, f.BlockSize())
	case size > math.MaxInt:
		return nil, fmt.Errorf("%w: %d bytes are more than this system's address space holds", ErrUnsupported, size)
	}
	fresh := &quant.Matrix{Format: f, Rows: old.Rows, Cols: old.Cols}
	m.derived += size
	if m.headersOnly {
		return fresh, nil
	}
	data, err := m.arena.Alloc(int(size))
	if err != nil {
		return nil, err
	}
	if err := encodeRows(data, old, f); err != nil {
		return nil, err
	}
	fresh.Data = data
	return fresh, nil
}

// encodeRows encodes all rows of old, on all cores: a head of 152 000 rows takes a Pi seconds on one.
func encodeRows(data []byte, old *quant.Matrix, f quant.Format) error {
	workers := min(runtime.GOMAXPROCS(0), old.Rows)
	errs := make([]error, workers)
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			row := make([]float32, old.Cols)
			n := f.RowBytes(old.Cols)
			for r := old.Rows * w / workers; r < old.Rows*(w+1)/workers; r++ {
				quant.Row(row, old, r)
				if err := quant.Encode(f, data[r*n:(r+1)*n], row); err != nil {
					errs[w] = fmt.Errorf("row %d: %w", r, err)
					return
				}
			}
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
