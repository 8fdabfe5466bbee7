package lora

import "edged/quant"

// tiedHead is the output head that ensure_weight_tying gives the embedding's adapter. PEFT writes both into
// the file, and the names of the embedding alone into the configuration.
const tiedHead = "lm_head"

// checkTied proves that embedding and head, where ensure_weight_tying makes them one, are one in the file
// too: what is loaded is then the same whichever of the two a loader takes.
func (f *adapterFile) checkTied(dir string, c *peftConfig) error {
	if !c.Tying {
		return nil
	}
	apart := func(what string) error {
		return adapterError(dir, ErrUnsupported, "ensure_weight_tying gives embedding and head one adapter, but %s: name them one by one, without it", what)
	}
	var tables [2]*rawTensor
	for i := range f.copies {
		if t := &f.copies[i]; t.trained && t.module == tiedHead {
			tables[1] = &t.t
		} else if t.trained {
			tables[0] = &t.t
		}
	}
	if (tables[0] == nil) != (tables[1] == nil) || tables[0] != nil && !sameValues(tables[0], tables[1]) {
		return apart("their weights differ in the file, or it has one of them alone")
	}
	var embed, head *rawDelta
	for i := range f.loras {
		switch l := &f.loras[i]; {
		case l.embed:
			embed = l
		case l.module == tiedHead:
			head = l
		}
	}
	switch {
	case embed == nil && head == nil:
		return nil
	case embed == nil || head == nil:
		return apart("the file has LoRA of one of them alone")
	case c.ranks.find(embed.module, c.Rank) != c.ranks.find(head.module, c.Rank) || c.alphas.find(embed.module, c.Alpha) != c.alphas.find(head.module, c.Alpha):
		return apart("rank_pattern or alpha_pattern tells them apart")
	case embed.size.rows > 0 || head.size.rows > 0:
		return apart("DoRA gives them magnitudes of their own")
	case !turned(&embed.a, &head.b) || !turned(&embed.b, &head.a):
		return apart("their factors differ in the file")
	}
	return nil
}

// sameValues reports whether two matrices hold the same numbers.
func sameValues(a, b *rawTensor) bool {
	if a.rows != b.rows || a.cols != b.cols {
		return false
	}
	x, y := make([]float32, a.cols), make([]float32, a.cols)
	m, n := a.matrix(a.name), b.matrix(b.name)
	for r := range a.rows {
		quant.Row(x, m, r)
		quant.Row(y, n, r)
		for i, v := range x {
			if v != y[i] {
				return false
			}
		}
	}
	return true
}

// turned reports whether one matrix is the other, transposed.
func turned(a, b *rawTensor) bool {
	if a.rows != b.cols || a.cols != b.rows {
		return false
	}
	all := make([]float32, b.rows*b.cols)
	n := b.matrix(b.name)
	for r := range b.rows {
		quant.Row(all[r*b.cols:(r+1)*b.cols], n, r)
	}
	row, m := make([]float32, a.cols), a.matrix(a.name)
	for r := range a.rows {
		quant.Row(row, m, r)
		for c, v := range row {
			if v != all[c*b.cols+r] {
				return false
			}
		}
	}
	return true
}
