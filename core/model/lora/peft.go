package lora

import (
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strings"

	"edged/core/model/lora/kinds"
	"edged/core/model/safetensors"
)

// Names of the files of a PEFT folder.
const (
	adapterConfigName = "adapter_config.json"
	adapterModelName  = "adapter_model.safetensors"
)

// readPEFT reads a PEFT folder: tensors base_model.model.MODULE.lora_A.weight (r, in) and .lora_B.weight
// (out, r), with DoRA .lora_magnitude_vector (out), with biases .lora_B.bias (out) or .base_layer.bias (out);
// of an embedding .lora_embedding_A (r, tokens) and .lora_embedding_B (width, r); or the one tensor
// prompt_embeddings (virtual tokens, width). Source: huggingface/peft, src/peft/tuners/{lora,prompt_tuning}
// and src/peft/utils/save_and_load.py.
func (f *adapterFile) readPEFT(dir string) error {
	c, err := readPEFTConfig(filepath.Join(dir, adapterConfigName))
	var refused *refusal
	if err != nil && !errors.As(err, &refused) {
		return err
	}
	file, openErr := safetensors.OpenFile(filepath.Join(dir, adapterModelName))
	switch {
	case refused != nil && openErr != nil:
		return err
	case openErr != nil:
		return fmt.Errorf("lora: %w", openErr)
	}
	f.maps = append(f.maps, file.Mapping())
	f.files[1].Mapping = file.Mapping() // what is hashed is what is served
	if refused != nil {
		return fmt.Errorf("%w%s", err, f.example(file, refused.modules))
	}
	f.base = c.Base
	if c.isPrompt() {
		return f.readPrompt(dir, c, file)
	}
	switch c.Type {
	case "PREFIX_TUNING":
		return f.readPrefix(dir, c, file)
	case "LN_TUNING":
		f.other = "ln_tuning"
		return f.readLNTuning(dir, c, file)
	case "ADAPTION_PROMPT":
		return f.readAdaption(dir, c, file)
	}
	if c.isKind() {
		f.other = Kind(strings.ToLower(c.Type))
		return f.readKind(dir, c, file)
	}
	modules := map[string]*parts{}
	for i := range file.Tensors() {
		t := &file.Tensors()[i]
		if module, ok := copyOf(t.Name); ok {
			raw, err := peftTensor(dir, t, false)
			if err != nil {
				return err
			}
			f.copies = append(f.copies, baseCopy{trained: c.saves(module), module: module, t: raw})
			continue
		}
		if s, ok := c.savedOf(t); ok {
			f.saved = append(f.saved, s)
			continue
		}
		if module, ok := tokensOf(t.Name); ok {
			if err := f.addToken(dir, c, module, t); err != nil {
				return err
			}
			continue
		}
		n, err := f.peftName(dir, t)
		if err != nil {
			return err
		}
		raw, err := peftTensor(dir, t, n.which >= halfSize)
		if err != nil {
			return err
		}
		p := modules[n.module]
		if p == nil {
			p = &parts{embed: n.embed}
			modules[n.module] = p
		}
		switch {
		case p.embed != n.embed:
			return adapterError(dir, ErrInvalid, "tensor %s: its module has tensors of an embedding and of a linear layer", t.Name)
		case p.t[n.which].rows > 0:
			return adapterError(dir, ErrInvalid, "tensor %s appears twice, with and without the adapter's name", t.Name)
		}
		p.t[n.which] = raw
	}
	if modules, err = c.parameters(dir, modules); err != nil {
		return err
	}
	for module, p := range modules {
		if c.blocks == nil {
			break
		}
		if err := c.blocks.spread(dir, module, p); err != nil {
			return err
		}
	}
	if err := f.pairUp(dir, modules); err != nil {
		return err
	}
	f.invocation = c.invocation
	if len(c.Save) > 0 && len(f.saved) == 0 && !slices.ContainsFunc(f.copies, func(c baseCopy) bool { return c.trained }) {
		return adapterError(dir, ErrInvalid, "modules_to_save of %s is %q, but the file has no weight of them", adapterConfigName, c.Save)
	}
	if len(f.tokens) == 0 && (len(c.tokens) > 0 || len(c.tokensBy) > 0) {
		return adapterError(dir, ErrInvalid, "%s names trained tokens (trainable_token_indices), but the file has no trainable_tokens_delta", adapterConfigName)
	}
	if c.Type == "TRAINABLE_TOKENS" {
		f.other = "trainable_tokens"
		if len(f.loras) > 0 {
			return adapterError(dir, ErrInvalid, "tensor %s is LoRA's, but the peft_type of %s is %s", f.loras[0].a.name, adapterConfigName, c.Type)
		}
		return nil
	}
	return f.applyConfig(dir, c)
}

// readPrompt reads a soft prompt.
func (f *adapterFile) readPrompt(dir string, c *peftConfig, file *safetensors.File) error {
	for i := range file.Tensors() {
		t := &file.Tensors()[i]
		if t.Name != "prompt_embeddings" {
			return adapterError(dir, ErrUnsupported, "tensor %s %v: of a soft prompt only prompt_embeddings is served%s", t.Name, t.Shape, f.beside(t.Name))
		}
		raw, err := peftTensor(dir, t, false)
		if err != nil {
			return err
		}
		f.prompt = raw
	}
	p := &f.prompt
	switch {
	case p.rows == 0:
		return adapterError(dir, ErrInvalid, "it has no tensor prompt_embeddings")
	case p.rows > maxVirtual:
		return adapterError(dir, ErrInvalid, "tensor prompt_embeddings (%d, %d): more than the %d virtual tokens allowed", p.rows, p.cols, maxVirtual)
	case c.Virtual != nil && *c.Virtual != float64(p.rows):
		return adapterError(dir, ErrInvalid, "tensor prompt_embeddings is (%d, %d), but num_virtual_tokens of %s is %g", p.rows, p.cols, adapterConfigName, *c.Virtual)
	case c.Type != "PREFIX_TUNING" && c.Width != nil && *c.Width != float64(p.cols):
		return adapterError(dir, ErrInvalid, "tensor prompt_embeddings is (%d, %d), but token_dim of %s is %g", p.rows, p.cols, adapterConfigName, *c.Width)
	}
	return nil
}

// copyOf tells whether a tensor is an embedding's or an output head's own weight. PEFT saves it beside their
// LoRA, changed or not, and puts it in the base's place when it loads the adapter.
func copyOf(name string) (module string, ok bool) {
	module, ok = strings.CutPrefix(name, "base_model.model.")
	if !ok {
		return "", false
	}
	module, ok = strings.CutSuffix(module, ".weight")
	module = strings.TrimSuffix(module, ".base_layer")
	return module, ok && (isEmbedding(module) || lastWord(module) == "lm_head" || lastWord(module) == "embed_out")
}

// A tensorName is what the name of a LoRA tensor says.
type tensorName struct {
	module string
	which  half
	embed  bool
}

// peftName takes a tensor's name apart.
func (f *adapterFile) peftName(dir string, t *safetensors.Tensor) (tensorName, error) {
	name := t.Name
	rest, ok := strings.CutPrefix(name, "base_model.model.")
	if !ok {
		return tensorName{}, adapterError(dir, ErrUnsupported, "tensor %s %v does not start with base_model.model.: not a LoRA adapter of PEFT", name, t.Shape)
	}
	for _, n := range []struct {
		part     string
		suffixes []string // with and without the adapter's name, which PEFT takes off when it saves
		is       tensorName
	}{
		{".lora_A", []string{".weight", ".default.weight"}, tensorName{which: halfA}},
		{".lora_B", []string{".weight", ".default.weight"}, tensorName{which: halfB}},
		{".lora_B", []string{".bias", ".default.bias"}, tensorName{which: halfBias}},
		{".base_layer", []string{".bias"}, tensorName{which: halfTrain}},
		{".lora_embedding_A", []string{"", ".default"}, tensorName{which: halfA, embed: true}},
		{".lora_embedding_B", []string{"", ".default"}, tensorName{which: halfB, embed: true}},
		{".lora_magnitude_vector", []string{"", ".default", ".weight", ".default.weight"}, tensorName{which: halfSize}},
	} {
		for _, suffix := range n.suffixes {
			if module, ok := strings.CutSuffix(rest, n.part+suffix); ok {
				n.is.module = module
				n.is.embed = n.is.embed || n.is.which == halfSize && isEmbedding(module)
				return n.is, nil
			}
		}
	}
	if strings.HasSuffix(name, ".bias") {
		return tensorName{}, adapterError(dir, ErrUnsupported, "tensor %s %v: a trained bias%s", name, t.Shape, f.beside(name))
	}
	return tensorName{}, adapterError(dir, ErrUnsupported, "tensor %s %v is no lora_A or lora_B weight; whole trained modules are not served%s", name, t.Shape, f.beside(name))
}

// isEmbedding tells whether a module of that name is a token embedding in the architectures that are served.
func isEmbedding(module string) bool {
	last := lastWord(module)
	return last == "embed_tokens" || last == "wte"
}

// peftTensor takes a matrix, or a vector as a matrix of one column.
func peftTensor(dir string, t *safetensors.Tensor, vector bool) (rawTensor, error) {
	format, ok := kinds.FloatFormat(t.DType)
	if !ok {
		return rawTensor{}, adapterError(dir, ErrUnsupported, "tensor %s is %s; the supported types are F32, F16 and BF16", t.Name, t.DType)
	}
	shape, want := t.Shape, "a matrix"
	if vector {
		want = "a vector"
		if len(shape) == 2 && shape[0] == 1 {
			shape = shape[1:]
		}
		if len(shape) == 1 {
			shape = []int64{shape[0], 1}
		}
	}
	if len(shape) != 2 || shape[0] < 1 || shape[1] < 1 || shape[0] > math.MaxInt32 || shape[1] > math.MaxInt32 || vector && shape[1] != 1 {
		return rawTensor{}, adapterError(dir, ErrInvalid, "tensor %s has shape %v: want %s", t.Name, t.Shape, want)
	}
	return rawTensor{t.Name, format, int(shape[0]), int(shape[1]), t.Data}, nil
}

// example names a tensor of what is refused: one of the modules that the configuration names, or the first.
func (f *adapterFile) example(file *safetensors.File, modules []string) string {
	var found *safetensors.Tensor
	for i := range file.Tensors() {
		t := &file.Tensors()[i]
		named := slices.ContainsFunc(modules, func(m string) bool { return m != "" && strings.Contains(t.Name, m) }) && !strings.Contains(t.Name, ".lora_")
		if found == nil || named {
			found = t
		}
		if named {
			break
		}
	}
	if found == nil {
		return ""
	}
	return fmt.Sprintf(" (its tensor %s is %v%s)", found.Name, found.Shape, f.beside(found.Name))
}

// beside names the model's tensor, with its shape, that a tensor of an adapter belongs to; "" where that is not known.
func (f *adapterFile) beside(tensor string) string {
	if f.model == nil {
		return ""
	}
	module := strings.TrimPrefix(tensor, "base_model.model.")
	for module != "" {
		name, ok := f.model.Family().ToGGUF(module)
		if f.gguf {
			name, ok = strings.TrimSuffix(module, ".weight"), true
		}
		if ok {
			if m := f.model.Matrix(name + ".weight"); m != nil {
				return fmt.Sprintf(", the model's %s.weight is (%d, %d)", name, m.Rows, m.Cols)
			}
			if v, _ := f.model.Vector(name + ".weight"); v != nil {
				return fmt.Sprintf(", the model's %s.weight is (%d)", name, len(v))
			}
		}
		module = module[:max(strings.LastIndexByte(module, '.'), 0)]
	}
	return ""
}

// applyConfig gives every module its scaling and holds the tensors against what the configuration claims.
// What PEFT does not apply either is passed over with a note; a rank that the configuration does not give is
// refused, as there.
func (f *adapterFile) applyConfig(dir string, c *peftConfig) error {
	if err := f.checkTied(dir, c); err != nil {
		return err
	}
	hit := make([]bool, len(c.targets.list))
	kept := f.loras[:0]
	for i := range f.loras {
		l := &f.loras[i]
		over := ""
		switch {
		case !c.targets.match(l.module, hit) && !c.hasParameter(l.module) && !(c.Tying && l.module == tiedHead):
			over = "target_modules does not name it"
		case c.excluded.set() && !c.excluded.any && c.excluded.match(l.module, nil):
			over = "exclude_modules names it"
		case !c.inLayers(l.module):
			over = "layers_to_transform leaves its layer out"
		}
		if over != "" { // as PEFT, which finds no place for them
			f.note("tensors of module %s are passed over: %s", l.module, over)
			continue
		}
		kept = append(kept, *l)
		l = &kept[len(kept)-1]
		l.olora = c.olora && !l.embed && l.experts == 0
		rank, alpha := c.ranks.find(l.module, c.Rank), c.alphas.find(l.module, c.Alpha)
		if float64(l.rank()) != rank*float64(max(l.experts, 1)) {
			return adapterError(dir, ErrInvalid, "tensor %s is (%d, %d), but %s gives its module rank %g", l.a.name, l.a.rows, l.a.cols, adapterConfigName, rank)
		}
		if l.scale = alpha / rank; c.RSLoRA {
			l.scale = alpha / math.Sqrt(rank)
		}
		switch added := l.bias.rows > 0 && l.how == biasAdded; {
		case c.LoRABias && !added && !l.embed:
			return adapterError(dir, ErrInvalid, "module %s has no lora_B.bias, but lora_bias of %s is set", l.module, adapterConfigName)
		case !c.LoRABias && added:
			f.note("tensor %s is passed over: it is a bias of LoRA, and lora_bias is not set", l.bias.name)
			l.bias = rawTensor{}
		}
		switch {
		case c.DoRA && l.size.rows == 0:
			return adapterError(dir, ErrInvalid, "module %s has no lora_magnitude_vector, but use_dora of %s is set", l.module, adapterConfigName)
		case !c.DoRA && l.size.rows > 0:
			f.note("tensor %s is passed over: it is DoRA's, and use_dora is not set", l.size.name)
			l.size = rawTensor{}
		}
	}
	if len(kept) == 0 && len(f.loras) > 0 {
		return adapterError(dir, ErrInvalid, "target_modules, exclude_modules and layers_to_transform of %s leave none of its %d modules, such as %s", adapterConfigName, len(f.loras), f.loras[0].module)
	}
	f.loras = kept
	for i, ok := range hit {
		if !ok {
			f.note("target_modules names %q, but no tensor belongs to it", c.targets.list[i])
		}
	}
	return nil
}
