package lora

import (
	"strings"

	"edged/core/model/arch"
	"edged/core/model/lora/kinds"
	"edged/core/model/safetensors"
	"edged/quant"
)

// A Norm is a norm's trained weight and bias, which take the place of the base's; nil: that one stays. A
// request's scale says how much of the way it goes.
type Norm struct {
	Weight, Bias []float32
}

// A Prefix is the keys, as they stand in the cache, and the values of virtual tokens in one layer: (virtual
// tokens, KV heads · head size) each (Li and Liang 2021).
type Prefix struct {
	K, V *quant.Matrix
}

// A Prompt is what a layer's queries attend to beside the text, by a soft-max of its own, times Gate (Zhang
// et al. 2023, LLaMA-Adapter). Rows (tokens, width) are inputs of the layer's key and value projections.
type Prompt struct {
	Gate float32
	Rows *quant.Matrix
}

// A savedTensor is a tensor that takes the place of one of the base's module.
type savedTensor struct {
	module string
	bias   bool
	t      *safetensors.Tensor
}

// savedOf tells whether modules_to_save or LN tuning keeps a tensor, and of which module.
func (c *peftConfig) savedOf(t *safetensors.Tensor) (s savedTensor, ok bool) {
	module, ok := strings.CutPrefix(t.Name, "base_model.model.")
	if !ok || strings.Contains(module, ".lora_") || strings.Contains(module, ".base_layer.") {
		return s, false
	}
	if module, ok = strings.CutSuffix(module, ".weight"); !ok {
		if module, ok = strings.CutSuffix(module, ".bias"); !ok {
			return s, false
		}
		s.bias = true
	}
	if inner, tuned := strings.CutSuffix(module, ".ln_tuning_layers"); tuned && c.Type == "LN_TUNING" {
		return savedTensor{inner, s.bias, t}, true
	}
	return savedTensor{module, s.bias, t}, c.saves(module)
}

// readLNTuning reads an adapter of the kind LN_TUNING: ln_tuning_layers.weight and .bias of norms.
func (f *adapterFile) readLNTuning(dir string, c *peftConfig, file *safetensors.File) error {
	for i := range file.Tensors() {
		t := &file.Tensors()[i]
		s, ok := c.savedOf(t)
		if !ok {
			return adapterError(dir, ErrUnsupported, "tensor %s %v: none of those that a %s adapter has: save it anew without other trained modules%s", t.Name, t.Shape, c.Type, f.beside(t.Name))
		}
		f.saved = append(f.saved, s)
	}
	return nil
}

// addSaved adds the tensors that take the place of the base's: of norms as they are, of linear layers as a
// dense change.
func (a *Adapter) addSaved(f *adapterFile, m Base) error {
	for _, s := range f.saved {
		name, ok := m.Family().ToGGUF(s.module)
		if f.gguf {
			name, ok = strings.TrimSuffix(s.module, ".weight"), true
		}
		switch {
		case !ok:
			return a.fail(ErrMismatch, "module %s is none that the %s model has", s.module, m.Network().Family)
		case m.Matrix(name+".weight") == nil:
			if err := a.addNorm(&s, m, name, f.gguf); err != nil {
				return err
			}
		case s.bias:
			return a.fail(ErrUnsupported, "tensor %s: of modules_to_save biases are served of norms only; train with bias \"lora_only\" or \"none\"", s.t.Name)
		default:
			if err := a.addWhole(&s, m, name); err != nil {
				return err
			}
		}
	}
	return nil
}

// addNorm takes a norm's weight or bias.
func (a *Adapter) addNorm(s *savedTensor, m Base, name string, stored bool) error {
	raw, err := peftTensor(a.Path, s.t, true)
	if err != nil {
		return err
	}
	if err := a.finite(&raw); err != nil {
		return err
	}
	part := ".weight"
	if s.bias {
		part = ".bias"
	}
	own, err := m.Vector(name + part)
	if err != nil {
		return err
	}
	if len(own) != raw.rows {
		return a.fail(ErrMismatch, "tensor %s has %d values, but the model's %s%s has %d: it was trained on another model", s.t.Name, raw.rows, name, part, len(own))
	}
	values := raw.column()
	if pattern, _ := arch.SplitNumbers(name); !stored && !s.bias && m.Network().OneAdded(pattern) {
		for i := range values {
			values[i]++
		}
	}
	if a.Norms == nil {
		a.Norms = map[string]*Norm{}
	}
	n := a.Norms[name]
	if n == nil {
		n = &Norm{}
		a.Norms[name] = n
	}
	to := &n.Weight
	if s.bias {
		to = &n.Bias
	}
	if *to != nil {
		return a.fail(ErrInvalid, "tensor %s appears twice", s.t.Name)
	}
	*to = values
	return nil
}

// addWhole takes a linear layer's weight, as the difference to the base's.
func (a *Adapter) addWhole(s *savedTensor, m Base, name string) error {
	raw, err := peftTensor(a.Path, s.t, false)
	if err != nil {
		return err
	}
	if err := a.finite(&raw); err != nil {
		return err
	}
	out, in, _ := sizeOf(m, name+".weight")
	pattern, numbers := arch.SplitNumbers(name)
	if m.Network().Transposed(pattern) {
		if raw, err = a.turned(&raw); err != nil {
			return err
		}
	}
	if raw.rows != out || raw.cols != in {
		return a.fail(ErrMismatch, "tensor %s has shape %v, but the model's %s.weight is (%d, %d): it was trained on another model or with more tokens", s.t.Name, s.t.Shape, name, out, in)
	}
	theirs := raw.matrix(s.t.Name)
	row := make([]float32, in)
	l := &rawDelta{
		module: s.module, target: lastWord(s.module), scale: 1,
		a: rawTensor{name: s.t.Name, format: quant.F32}, b: rawTensor{name: s.t.Name, format: quant.F32},
		made: &kinds.Change{
			Dense: true, ByRow: true,
			Times: func(r int, w, dst []float32) {
				quant.Row(row, theirs, r)
				for i, v := range w {
					dst[i] = row[i] - v
				}
			},
		},
	}
	if err := a.make(l, m, name+".weight"); err != nil {
		return err
	}
	if split := m.Network().SplitOf(pattern); split != nil {
		return a.addFused(l, m, split, numbers, false)
	}
	return a.add(l, m, name+".weight", false)
}

// readPrefix reads an adapter of the kind PREFIX_TUNING: prompt_embeddings (virtual tokens, layers · 2 ·
// heads · head size), in each layer keys before values.
func (f *adapterFile) readPrefix(dir string, c *peftConfig, file *safetensors.File) error {
	if err := f.readPrompt(dir, c, file); err != nil {
		return err
	}
	f.prefix, f.prompt = f.prompt, rawTensor{}
	f.other = "prefix_tuning"
	if c.Depth != nil && c.Width != nil && float64(f.prefix.cols) != *c.Depth*2**c.Width {
		return adapterError(dir, ErrInvalid, "tensor prompt_embeddings is (%d, %d), but %s gives %g layers of %g values", f.prefix.rows, f.prefix.cols, adapterConfigName, *c.Depth, *c.Width)
	}
	return nil
}

// addPrefix proves a prefix and cuts it by layer.
func (a *Adapter) addPrefix(f *adapterFile, m Base) error {
	t := &f.prefix
	layers := m.Network().Layers
	want := 0
	for n := range layers {
		op, ok := attentionOf(layers[n])
		if !ok {
			return a.fail(ErrUnsupported, "tensor %s: a prefix for a model whose layer %d has no keys and values by head; train with LoRA", t.name, n)
		}
		want += op.KVHeads * (op.KeyDim + op.ValueDim)
	}
	if t.cols != want {
		return a.fail(ErrMismatch, "tensor %s is (%d, %d), but the model's keys and values take %d values in %d layers: it was trained on another model", t.name, t.rows, t.cols, want, len(layers))
	}
	if err := a.finite(t); err != nil {
		return err
	}
	at, all, row := 0, t.matrix(t.name), make([]float32, t.cols)
	for n := range layers {
		op, _ := attentionOf(layers[n])
		var part [2]*quant.Matrix
		for i, dim := range []int{op.KeyDim, op.ValueDim} {
			cols := op.KVHeads * dim
			x, data, err := a.floats(t.rows * cols)
			if err != nil {
				return err
			}
			heads := 0
			if i == 0 && m.Network().Permuted && m.Tensor(arch.LayerName(n, "attn_k.weight")).Heads > 0 {
				heads = op.KVHeads
			}
			for r := range t.rows {
				quant.Row(row, all, r)
				for c := range cols {
					x[r*cols+c] = row[at+apart(c, cols, heads)]
				}
			}
			part[i] = &quant.Matrix{Name: arch.LayerName(n, "prefix"), Format: quant.F32, Rows: t.rows, Cols: cols, Data: data}
			at += cols
		}
		a.Prefix = append(a.Prefix, Prefix{K: part[0], V: part[1]})
	}
	return nil
}

// attentionOf finds the attention of a layer.
func attentionOf(layer []arch.Sub) (arch.Attention, bool) {
	for i := range layer {
		if op, ok := layer[i].Op.(arch.Attention); ok {
			return op, true
		}
	}
	return arch.Attention{}, false
}

// readAdaption reads an adapter of the kind ADAPTION_PROMPT: adaption_gate (1) and adaption_prompt (1,
// tokens, width) of the attention of some layers.
func (f *adapterFile) readAdaption(dir string, c *peftConfig, file *safetensors.File) error {
	r := kinds.NewParts(dir, "adaption_gate", "adaption_prompt")
	f.other = "adaption_prompt"
	f.adaption = map[string]map[string]*safetensors.Tensor{}
	for i := range file.Tensors() {
		t := &file.Tensors()[i]
		module, part := r.Split(t.Name)
		if part == "" || module == "" || f.adaption[module][part] != nil {
			return adapterError(dir, ErrUnsupported, "tensor %s %v: none of those that a %s adapter has, or twice", t.Name, t.Shape, c.Type)
		}
		if f.adaption[module] == nil {
			f.adaption[module] = map[string]*safetensors.Tensor{}
		}
		f.adaption[module][part] = t
	}
	for module := range f.adaption {
		of := kinds.Module{Name: module, Tensors: f.adaption[module]}
		if _, _, err := r.Tensor(of, "adaption_gate", 1); err != nil {
			return err
		}
		if _, _, err := r.Tensor(of, "adaption_prompt", 3); err != nil {
			return err
		}
	}
	f.kinds = r
	return nil
}

// addAdaption proves the prompts of layers.
func (a *Adapter) addAdaption(f *adapterFile, m Base) error {
	r := f.kinds
	for module := range f.adaption {
		of := kinds.Module{Name: module, Tensors: f.adaption[module]}
		gate, n, err := r.Tensor(of, "adaption_gate", 1)
		if err != nil {
			return err
		}
		x, s, err := r.Tensor(of, "adaption_prompt", 3)
		if err != nil {
			return err
		}
		name, ok := m.Family().ToGGUF(module + ".o_proj")
		_, numbers := arch.SplitNumbers(name)
		bias, err := m.Vector(name + ".bias")
		switch {
		case err != nil:
			return err
		case !ok || len(numbers) == 0 || bias != nil:
			return a.fail(ErrUnsupported, "module %s: adaption prompts are served of attention with a projection o_proj without bias; train with LoRA", module)
		case n[0] != 1 || s[0] != 1 || s[2] != m.Network().Width || s[1] > maxVirtual:
			return a.fail(ErrMismatch, "module %s: adaption_gate %v and adaption_prompt %v: the model's width is %d: it was trained on another model", module, n, s, m.Network().Width)
		}
		rows, data, err := a.floats(len(x))
		if err != nil {
			return err
		}
		copy(rows, x)
		if a.Prompts == nil {
			a.Prompts = map[string]*Prompt{}
		}
		a.Prompts[name+".weight"] = &Prompt{Gate: gate[0], Rows: &quant.Matrix{Name: module, Format: quant.F32, Rows: s[1], Cols: s[2], Data: data}}
	}
	return nil
}
