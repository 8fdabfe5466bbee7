package lora

import (
	"edged/core/model/arch"
	"edged/quant"
)

// addTable makes a trained embedding or output head, which modules_to_save keeps whole, a change of the
// base's: PEFT replaces the one and leaves the other of a tied model as it is.
func (a *Adapter) addTable(f *adapterFile, c *baseCopy, m Base) error {
	name, ok := m.Family().ToGGUF(c.module)
	name += ".weight"
	base := m.Matrix(name)
	switch {
	case !ok || base == nil || name != arch.EmbedName && name != arch.HeadName:
		return a.fail(ErrMismatch, "tensor %s (%d, %d) is none that the %s model has", c.t.name, c.t.rows, c.t.cols, m.Network().Family)
	case base.Rows != c.t.rows || base.Cols != c.t.cols:
		return a.fail(ErrUnsupported, "tensor %s is (%d, %d)%s: added tokens are not served", c.t.name, c.t.rows, c.t.cols, f.beside(c.t.name))
	case name == arch.EmbedName && base.Cols > maxRank:
		return a.fail(ErrUnsupported, "tensor %s (%d, %d): whole trained embeddings are served up to a width of %d; train with trainable_token_indices or LoRA on it", c.t.name, c.t.rows, c.t.cols, maxRank)
	case name == arch.EmbedName && a.Embed != nil || a.Mods[name] != nil:
		return a.fail(ErrInvalid, "module %s appears twice", c.module)
	}
	if a.dense += 4 * int64(base.Rows) * int64(base.Cols); a.dense > maxDense {
		return a.fail(ErrUnsupported, "tensor %s (%d, %d): its trained modules take more than %d MiB; train with LoRA only", c.t.name, c.t.rows, c.t.cols, maxDense>>20)
	}
	if err := a.finite(&c.t); err != nil {
		return err
	}
	change, data, err := a.floats(base.Rows * base.Cols)
	if err != nil {
		return err
	}
	theirs, x := c.t.matrix(c.t.name), make([]float32, base.Cols)
	for r := range base.Rows {
		to := change[r*base.Cols : (r+1)*base.Cols]
		quant.Row(to, theirs, r)
		quant.Row(x, base, r)
		for i, v := range x {
			to[i] -= v
		}
	}
	all := &quant.Matrix{Name: name + ".lora_b", Format: quant.F32, Rows: base.Rows, Cols: base.Cols, Data: data}
	if name == arch.HeadName {
		a.Mods[name] = &Delta{B: all, Scale: 1}
		return nil
	}
	same, sameData, err := a.floats(base.Cols * base.Cols)
	if err != nil {
		return err
	}
	for i := range base.Cols {
		same[i*base.Cols+i] = 1
	}
	a.Embed = &Delta{A: all, B: &quant.Matrix{Name: name + ".lora_b", Format: quant.F32, Rows: base.Cols, Cols: base.Cols, Data: sameData}, Scale: 1}
	return nil
}
