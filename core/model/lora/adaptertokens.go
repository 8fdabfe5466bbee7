package lora

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	"edged/core/model/arch"
	"edged/core/model/safetensors"
	"edged/quant"
)

// trainedTokens are rows of an embedding or an output head that take the place of the base's:
// trainable_token_indices beside LoRA, or the peft_type TRAINABLE_TOKENS (huggingface/peft,
// src/peft/tuners/trainable_tokens).
type trainedTokens struct {
	module string
	ids    []int
	rows   rawTensor // (len(ids), width)
}

// tokensOf tells whether a tensor holds trained rows of tokens, and of which module.
func tokensOf(name string) (module string, ok bool) {
	module, ok = strings.CutPrefix(strings.TrimSuffix(name, ".default"), "base_model.model.")
	if !ok {
		return "", false
	}
	if module, ok = strings.CutSuffix(module, ".trainable_tokens_delta"); !ok {
		return "", false
	}
	return strings.TrimSuffix(module, ".token_adapter"), true
}

// parseTokens reads a list of ids, or lists by module.
func (c *peftConfig) parseTokens() error {
	raw := bytes.TrimSpace(c.Tokens)
	if c.Type == "TRAINABLE_TOKENS" {
		raw = bytes.TrimSpace(c.TokenIndices)
	}
	if len(raw) == 0 || string(raw) == "null" {
		return nil
	}
	if raw[0] == '[' {
		return json.Unmarshal(raw, &c.tokens)
	}
	return json.Unmarshal(raw, &c.tokensBy)
}

// addToken takes one tensor of trained rows.
func (f *adapterFile) addToken(dir string, c *peftConfig, module string, t *safetensors.Tensor) error {
	raw, err := peftTensor(dir, t, false)
	if err != nil {
		return err
	}
	ids, longest := c.tokens, -1
	for name, of := range c.tokensBy {
		if (module == name || strings.HasSuffix(module, "."+name)) && len(name) > longest {
			ids, longest = of, len(name)
		}
	}
	if len(ids) != raw.rows || raw.rows > maxRank {
		return adapterError(dir, ErrInvalid, "tensor %s is (%d, %d), but %s names %d tokens for it (%d at most are served)", t.Name, raw.rows, raw.cols, adapterConfigName, len(ids), maxRank)
	}
	f.tokens = append(f.tokens, trainedTokens{module: module, ids: ids, rows: raw})
	return nil
}

// addTokens adds all trained rows as changes of low rank: one factor picks the token, the other has what is
// new less what the base has. The head of a tied model is changed with its embedding.
func (a *Adapter) addTokens(f *adapterFile, m Base) error {
	head := false
	for i := range f.tokens {
		t := &f.tokens[i]
		name, ok := m.Family().ToGGUF(t.module)
		if name += ".weight"; !ok || name != arch.EmbedName && name != arch.HeadName {
			return a.fail(ErrUnsupported, "module %s: trained tokens are served of the embedding and the output head", t.module)
		}
		head = head || name == arch.HeadName
		if err := a.addRows(t, m, name); err != nil {
			return err
		}
	}
	for i := range f.tokens {
		if name, _ := m.Family().ToGGUF(f.tokens[i].module); m.Network().Head.Tied && !head && name+".weight" == arch.EmbedName {
			return a.addRows(&f.tokens[i], m, arch.HeadName)
		}
	}
	return nil
}

func (a *Adapter) addRows(t *trainedTokens, m Base, name string) error {
	base, n := m.Matrix(name), len(t.ids)
	switch {
	case base == nil:
		return a.fail(ErrMismatch, "module %s: the model has no tensor %s", t.module, name)
	case t.rows.cols != base.Cols:
		return a.fail(ErrMismatch, "tensor %s is (%d, %d), but the model's %s is (%d, %d): it was trained on another model", t.rows.name, t.rows.rows, t.rows.cols, name, base.Rows, base.Cols)
	case name == arch.EmbedName && a.Embed != nil || a.Mods[name] != nil:
		return a.fail(ErrUnsupported, "module %s: trained tokens and LoRA of one matrix; train one of them", t.module)
	}
	if err := a.finite(&t.rows); err != nil {
		return err
	}
	pick, pickData, err := a.floats(base.Rows * n)
	if err != nil {
		return err
	}
	change, changeData, err := a.floats(base.Cols * n)
	if err != nil {
		return err
	}
	theirs := t.rows.matrix(t.rows.name)
	x, y := make([]float32, base.Cols), make([]float32, base.Cols)
	for j, id := range t.ids {
		if id < 0 || id >= base.Rows {
			return a.fail(ErrMismatch, "module %s: token %d is trained, but the model's %s has %d rows", t.module, id, name, base.Rows)
		}
		for k := range n {
			if pick[id*n+k] != 0 {
				return a.fail(ErrInvalid, "module %s: token %d is named twice", t.module, id)
			}
		}
		pick[id*n+j] = 1
		quant.Row(x, base, id)
		quant.Row(y, theirs, j)
		for i := range x {
			if at := i*n + j; name == arch.EmbedName {
				change[at] = y[i] - x[i]
			} else {
				change[j*base.Cols+i] = y[i] - x[i]
			}
		}
	}
	matrix := func(part string, rows, cols int, data []byte) *quant.Matrix {
		return &quant.Matrix{Name: fmt.Sprintf("%s.%s", name, part), Format: quant.F32, Rows: rows, Cols: cols, Data: data}
	}
	if name == arch.EmbedName {
		a.Embed = &Delta{A: matrix("lora_a", base.Rows, n, pickData), B: matrix("lora_b", base.Cols, n, changeData), Scale: 1}
		return nil
	}
	a.Mods[name] = &Delta{A: matrix("lora_a", n, base.Cols, changeData), B: matrix("lora_b", base.Rows, n, pickData), Scale: 1}
	return nil
}
