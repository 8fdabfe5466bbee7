package transformer

import (
	"errors"
	"fmt"

	"edged/core/infer/transformer/adapter"
	"edged/core/model/lora"
	"edged/quant/kernel"
)

// Adapter is an adapter that is bound to a Model, see LoadAdapter.
type Adapter = adapter.Adapter

// Use is an adapter of a row, with its scale.
type Use = adapter.Use

// LoadAdapter binds a to m. With kernel.Fast factors are held in float16, where the shape of a layer allows;
// all others are read where they are until Close: the caller keeps a open until then. An adapter for a layer
// that m has not got is an error that names it.
//
// Unlike all else, it may run beside Forward: nothing of it touches the state of a batch.
func (m *Model) LoadAdapter(a *lora.Adapter) (*Adapter, error) {
	n := &m.net
	b := &adapter.Base{
		Owner:     m,
		K:         m.k,
		Precision: m.opt.Precision,
		Spec:      m.spec,
		Embed:     n.embed,
		Linears:   n.linears,
		IDs:       n.ids,
		Norms:     n.norms,
		NormIDs:   n.normIDs,
		RowNorms:  m.rowNorms,
	}
	for _, at := range n.attentions {
		b.Attentions = append(b.Attentions, at.Seen())
	}
	return adapter.Bind(b, a)
}

// checkUses refuses adapters that cannot be applied.
func (m *Model) checkUses(uses []Use) error {
	for _, u := range uses {
		switch {
		case u.Adapter == nil || u.Adapter.Closed():
			return errors.New("a closed adapter")
		case !u.Adapter.BoundTo(m):
			return errors.New("an adapter of another model")
		case !adapter.Finite(u.Scale):
			return fmt.Errorf("adapter scale %v is not a number", u.Scale)
		}
	}
	return nil
}

// rowNorms are ‖W‖² of the rows of linear layer id, computed by the first adapter that wants them and kept:
// they depend on the weights alone.
func (m *Model) rowNorms(id int) []float32 {
	m.normMu.Lock()
	defer m.normMu.Unlock()
	if m.norms == nil {
		m.norms = map[int][]float32{}
	}
	if n := m.norms[id]; n != nil {
		return n
	}
	w := m.net.linears[id].W
	row, out := make([]float32, w.Cols), make([]float32, w.Rows)
	for r := range out {
		kernel.DecodeRow(row, w, r)
		sum := 0.0
		for _, v := range row {
			sum += float64(float64(v) * float64(v))
		}
		out[r] = float32(sum)
	}
	m.norms[id] = out
	return out
}
