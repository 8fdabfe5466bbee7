package weights

import (
	"fmt"
	"maps"
	"slices"

	"edged/quant"
)

// A want is a tensor that an architecture has: a (rows, cols) matrix, or with rows == 0 a vector of cols.
type want struct {
	name       string
	rows, cols int
	optional   bool
}

// visitLayout visits every tensor that a model of the architecture may have, until visit returns an error. What is not
// visited is refused: a model with a tensor more computes something else than edged would. The list is not built, since a
// hostile file may claim a million experts.
func visitLayout(arch string, h *Hyper, biases biases, visit func(want) error) error {
	l := layouter{visit: visit}
	gpt := arch == "gpt2"
	l.add(embedName, h.VocabRows, h.Width, false)
	l.add(outputName, h.VocabRows, h.Width, h.Tied)
	l.add("output_norm.weight", 0, h.Width, false)
	if gpt {
		l.add("position_embd.weight", h.Context, h.Width, false)
		l.add("output_norm.bias", 0, h.Width, false)
	}
	for n := 0; n < h.Layers && l.err == nil; n++ {
		l.prefix = fmt.Sprintf("blk.%d.", n)
		l.attention(h, biases)
		if arch == "qwen3" {
			l.add("attn_q_norm.weight", 0, h.HeadDim, false)
			l.add("attn_k_norm.weight", 0, h.HeadDim, false)
		}
		l.add("ffn_norm.weight", 0, h.Width, false)
		switch {
		case gpt:
			l.add("attn_norm.bias", 0, h.Width, false)
			l.add("ffn_norm.bias", 0, h.Width, false)
			l.mlp(h, biases)
		case h.Experts > 0:
			l.add("ffn_gate_inp.weight", h.Experts, h.Width, false)
			for e := 0; e < h.Experts && l.err == nil; e++ {
				l.add(fmt.Sprintf("ffn_gate.%d.weight", e), h.FFN, h.Width, false)
				l.add(fmt.Sprintf("ffn_up.%d.weight", e), h.FFN, h.Width, false)
				l.add(fmt.Sprintf("ffn_down.%d.weight", e), h.Width, h.FFN, false)
			}
		default:
			l.add("ffn_gate.weight", h.FFN, h.Width, false)
			l.add("ffn_gate.bias", 0, h.FFN, !biases.mlp)
			l.mlp(h, biases)
		}
	}
	return l.err
}

// biases tells which biases a model must have. Others are taken when they are there.
type biases struct{ qkv, attnOut, mlp bool }

// A layouter carries visitLayout's state.
type layouter struct {
	visit  func(want) error
	prefix string // of the layer
	err    error
}

func (l *layouter) add(name string, rows, cols int, optional bool) {
	if l.err == nil {
		l.err = l.visit(want{l.prefix + name, rows, cols, optional})
	}
}

func (l *layouter) attention(h *Hyper, biases biases) {
	q, kv := h.Heads*h.HeadDim, h.KVHeads*h.HeadDim
	l.add("attn_norm.weight", 0, h.Width, false)
	l.add("attn_q.weight", q, h.Width, false)
	l.add("attn_k.weight", kv, h.Width, false)
	l.add("attn_v.weight", kv, h.Width, false)
	l.add("attn_output.weight", h.Width, q, false)
	l.add("attn_q.bias", 0, q, !biases.qkv)
	l.add("attn_k.bias", 0, kv, !biases.qkv)
	l.add("attn_v.bias", 0, kv, !biases.qkv)
	l.add("attn_output.bias", 0, h.Width, !biases.attnOut)
}

func (l *layouter) mlp(h *Hyper, biases biases) {
	l.add("ffn_up.weight", h.FFN, h.Width, false)
	l.add("ffn_down.weight", h.Width, h.FFN, false)
	l.add("ffn_up.bias", 0, h.FFN, !biases.mlp)
	l.add("ffn_down.bias", 0, h.Width, !biases.mlp)
}

// prove checks that the model has exactly the tensors of its architecture, each of its shape.
func (b *builder) prove() error {
	m := b.m
	known := map[string]bool{}
	err := visitLayout(m.Arch, &m.Hyper, b.biases, func(w want) error {
		group, other := m.vectors, m.matrices
		if w.rows > 0 {
			group, other = other, group
		}
		x, stray := group[w.name], other[w.name]
		switch {
		case x == nil && stray == nil && w.optional:
			return nil
		case x == nil && stray == nil:
			return b.fail(ErrInvalid, "tensor %s is missing", b.say(w.name))
		case x == nil:
			return b.fail(ErrInvalid, "tensor %s has shape %s, but the hyper-parameters ask for %s",
				b.say(w.name), shapeOf(stray, w.rows > 0), shape(w.rows, w.cols))
		case x.Rows != max(w.rows, 1) || x.Cols != w.cols:
			return b.fail(ErrInvalid, "tensor %s has shape %s, but the hyper-parameters ask for %s",
				b.say(w.name), shapeOf(x, w.rows == 0), shape(w.rows, w.cols))
		}
		known[w.name] = true
		return nil
	})
	if err != nil {
		return err
	}
	for _, group := range []map[string]*quant.Matrix{m.matrices, m.vectors} {
		for _, name := range slices.Sorted(maps.Keys(group)) {
			if !known[name] {
				return b.fail(ErrUnsupported, "tensor %s is none that a %s model of %d layers has", b.say(name), m.Arch, m.Hyper.Layers)
			}
		}
	}
	return nil
}

// say names a tensor in the words of its container.
func (b *builder) say(name string) string {
	if b.foreign == nil {
		return name
	}
	if own := b.foreign(name); own != name {
		return fmt.Sprintf("%s (%s)", own, name)
	}
	return name
}

func shape(rows, cols int) string {
	if rows == 0 {
		return fmt.Sprintf("(%d)", cols)
	}
	return fmt.Sprintf("(%d, %d)", rows, cols)
}

func shapeOf(x *quant.Matrix, vector bool) string {
	if vector {
		return shape(0, x.Cols)
	}
	return shape(x.Rows, x.Cols)
}
