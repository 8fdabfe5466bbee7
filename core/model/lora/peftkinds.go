package lora

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"edged/core/model/safetensors"
	"edged/quant"
)

// A peftKind is one peft_type beside LoRA whose change of a matrix W (out, in) is W + Δ with a Δ of low rank or, where it has
// none, a dense one. It is brought into that form when the adapter is opened, so that everything after reading knows one
// kind of change. Source of the formulas: huggingface/peft 0.21, src/peft/tuners/KIND/layer.py.
type peftKind struct {
	parts  []string // last words of tensor names, without .weight
	shared []string // tensors of all modules, behind base_model.
	build  func(r *kindReader, module string) (rawDelta, error)
}

// peftKinds are those of which tensors of each module are read.
func peftKinds() map[string]peftKind {
	return map[string]peftKind{
		"ADALORA": {parts: []string{"lora_A", "lora_B", "lora_E"}, build: (*kindReader).adalora},
		"LOHA":    {parts: []string{"hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"}, build: (*kindReader).loha},
		"LOKR":    {parts: []string{"lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b"}, build: (*kindReader).lokr},
		"VERA":    {parts: []string{"vera_lambda_b", "vera_lambda_d"}, shared: []string{"vera_A", "vera_B"}, build: (*kindReader).vera},
		"VBLORA": {
			parts: []string{
				"vblora_logits_A", "vblora_logits_B", "vblora_logits_A_topk_indices", "vblora_logits_A_topk_weights",
				"vblora_logits_B_topk_indices", "vblora_logits_B_topk_weights",
			},
			shared: []string{"vblora_vector_bank"}, build: (*kindReader).vblora,
		},
		"RANDLORA": {
			parts: []string{"randlora_lambda", "randlora_gamma"}, shared: []string{"randlora_A", "randlora_B"}, build: (*kindReader).randlora,
		},
		"ROAD":      {parts: []string{"road_theta", "road_alpha"}, build: (*kindReader).road},
		"FOURIERFT": {parts: []string{"fourierft_spectrum"}, build: (*kindReader).fourierft},
		"WAVEFT":    {parts: []string{"waveft_spectrum"}, build: (*kindReader).waveft},
		"MISS":      {parts: []string{"miss_block"}, build: (*kindReader).miss},
		"HRA":       {parts: []string{"hra_u"}, build: (*kindReader).hra},
		"C3A":       {parts: []string{"c3a_kernel"}, build: (*kindReader).c3a},
		"OFT":       {parts: []string{"oft_R"}, build: (*kindReader).oft},
		"IA3":       {parts: []string{"ia3_l"}, build: (*kindReader).ia3},
		"BOFT":      {parts: []string{"boft_R", "boft_s"}, build: (*kindReader).boft},
	}
}

// kindReader reads the tensors of one module.
type kindReader struct {
	f      *adapterFile
	dir    string
	c      *peftConfig
	kind   peftKind
	shared map[string]*safetensors.Tensor
	t      map[string]*safetensors.Tensor // of the module
	drawn  *projections                   // nil: none wanted yet
}

// readKind reads an adapter of one of peftKinds.
func (f *adapterFile) readKind(dir string, c *peftConfig, file *safetensors.File) error {
	r := &kindReader{f: f, dir: dir, c: c, kind: peftKinds()[c.Type], shared: map[string]*safetensors.Tensor{}}
	modules := map[string]map[string]*safetensors.Tensor{}
	var names []string
	for i := range file.Tensors() {
		t := &file.Tensors()[i]
		module, part := r.split(t.Name)
		switch {
		case part == "":
			return adapterError(dir, ErrUnsupported, "tensor %s %v: none of those that a %s adapter has: save it anew without trained modules and biases%s",
				t.Name, t.Shape, c.Type, f.beside(t.Name))
		case module == "":
			if r.shared[part] != nil {
				return adapterError(dir, ErrInvalid, "tensor %s appears twice, with and without the adapter's name", t.Name)
			}
			r.shared[part] = t
			continue
		}
		if modules[module] == nil {
			modules[module] = map[string]*safetensors.Tensor{}
			names = append(names, module)
		}
		if modules[module][part] != nil {
			return adapterError(dir, ErrInvalid, "tensor %s appears twice, with and without the adapter's name", t.Name)
		}
		modules[module][part] = t
	}
	slices.Sort(names)
	for _, m := range names {
		switch {
		case !c.targets.match(m, nil):
			return adapterError(dir, ErrInvalid, "module %s has tensors, but target_modules of %s does not name it", m, adapterConfigName)
		case !c.inLayers(m):
			return adapterError(dir, ErrInvalid, "module %s has tensors, but layers_to_transform of %s leaves its layer out", m, adapterConfigName)
		case isEmbedding(m):
			return adapterError(dir, ErrUnsupported, "module %s: %s on an embedding; leave it out of target_modules", m, c.Type)
		}
		if r.t = modules[m]; r.pruned() {
			continue
		}
		l, err := r.build(m)
		if err != nil {
			return err
		}
		f.loras = append(f.loras, l)
	}
	return nil
}

// pruned tells whether all ranks of a module were taken away.
func (r *kindReader) pruned() bool {
	a := r.t["lora_A"]
	return a != nil && a.Elements() == 0
}

func (r *kindReader) build(module string) (rawDelta, error) {
	l, err := r.kind.build(r, module)
	if err != nil {
		return l, err
	}
	l.module, l.target = module, lastWord(module)
	if !l.made.dense && l.b.cols > maxRank {
		return l, adapterError(r.dir, ErrUnsupported, "module %s: as a change of low rank it has rank %d, more than the %d allowed", module, l.b.cols, maxRank)
	}
	l.a.name, l.b.name = module+" (A)", module+" (B)" // of its tensors, for messages
	l.a.format, l.b.format = quant.F32, quant.F32
	return l, nil
}

// split takes a tensor's name apart: module and part; no module where it is shared by all; no part where it is unknown.
func (r *kindReader) split(name string) (module, part string) {
	for _, suffix := range []string{".default.weight", ".default", ".weight"} {
		if s, ok := strings.CutSuffix(name, suffix); ok {
			name = s
			break
		}
	}
	rest, ok := strings.CutPrefix(name, "base_model.")
	if !ok {
		return "", ""
	}
	if slices.Contains(r.kind.shared, rest) {
		return "", rest
	}
	rest, ok = strings.CutPrefix(rest, "model.")
	at := strings.LastIndexByte(rest, '.')
	if !ok || at < 1 || !slices.Contains(r.kind.parts, rest[at+1:]) {
		return "", ""
	}
	return rest[:at], rest[at+1:]
}

// tensor reads a tensor of the module, or a shared one, of so many dimensions.
func (r *kindReader) tensor(module, part string, dims int) ([]float32, []int, error) {
	t := r.t[part]
	if t == nil {
		t = r.shared[part]
	}
	if t == nil {
		return nil, nil, adapterError(r.dir, ErrInvalid, "module %s has no %s: the file is incomplete; save the adapter anew", module, part)
	}
	format, ok := floatFormat(t.DType)
	if !ok {
		return nil, nil, adapterError(r.dir, ErrUnsupported, "tensor %s has type %v; the served ones are F32, F16 and BF16", t.Name, t.DType)
	}
	shape := make([]int, len(t.Shape))
	for i, d := range t.Shape {
		if d < 1 || d > math.MaxInt32 {
			return nil, nil, adapterError(r.dir, ErrInvalid, "tensor %s has shape %v", t.Name, t.Shape)
		}
		shape[i] = int(d)
	}
	if len(shape) != dims {
		return nil, nil, adapterError(r.dir, ErrInvalid, "tensor %s has shape %v: want %d dimensions", t.Name, t.Shape, dims)
	}
	x := make([]float32, t.Elements())
	quant.Decode(format, x, t.Data)
	for i, v := range x {
		if v-v != 0 {
			return nil, nil, adapterError(r.dir, ErrInvalid, "tensor %s: value %d is %v", t.Name, i, v)
		}
	}
	return x, shape, nil
}

// ia3 multiplies what comes out of a layer, (out, 1), or goes into it, (1, in), by a vector (Liu et al. 2022).
func (r *kindReader) ia3(module string) (rawDelta, error) {
	m, err := r.matrix(module, "ia3_l")
	if err != nil {
		return rawDelta{}, err
	}
	if m.rows == 1 {
		return rawDelta{
			a: rawTensor{cols: m.cols}, scale: 1,
			made: &made{
				dense: true,
				times: func(_ int, w, dst []float32) {
					for i, v := range w {
						dst[i] = v * (m.x[i] - 1)
					}
				},
			},
		}, nil
	}
	if m.cols != 1 {
		return rawDelta{}, adapterError(r.dir, ErrInvalid, "module %s: ia3_l is (%d, %d): want one row or one column", module, m.rows, m.cols)
	}
	t := r.t["ia3_l"]
	format, _ := floatFormat(t.DType) // matrix has read it
	return rawDelta{
		b: rawTensor{rows: m.rows}, scale: 1,
		bias: rawTensor{name: t.Name, format: format, rows: m.rows, cols: 1, data: t.Data}, how: biasGain,
		made: &made{
			dense: true, byRow: true,
			times: func(row int, w, dst []float32) {
				for i, v := range w {
					dst[i] = v * (m.x[row] - 1)
				}
			},
		},
	}, nil
}

// refuseKind names what is not served beside the tensors of a kind; "": nothing.
func (c *peftConfig) refuseKind() string {
	switch {
	case len(c.Save) > 0:
		return fmt.Sprintf("modules_to_save %q: whole trained modules are not served beside %s; train without", c.Save, c.Type)
	case c.Bias != nil && *c.Bias != "none":
		return fmt.Sprintf("bias %q: trained biases are not served beside %s; train with bias \"none\"", *c.Bias, c.Type)
	}
	return ""
}
