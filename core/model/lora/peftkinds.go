package lora

import (
	"fmt"
	"slices"

	"edged/core/model/lora/kinds"
	"edged/core/model/safetensors"
	"edged/quant"
)

// readKind reads an adapter of one of peftKinds.
func (f *adapterFile) readKind(dir string, c *peftConfig, file *safetensors.File) error {
	r := kinds.NewReader(dir, c.Type, c.Options, &f.largest)
	modules := map[string]map[string]*safetensors.Tensor{}
	var names []string
	for i := range file.Tensors() {
		t := &file.Tensors()[i]
		module, part := r.Split(t.Name)
		switch {
		case part == "":
			return adapterError(dir, ErrUnsupported, "tensor %s %v: none of those that a %s adapter has: save it anew without trained modules and biases%s",
				t.Name, t.Shape, c.Type, f.beside(t.Name))
		case module == "":
			if !r.Share(part, t) {
				return adapterError(dir, ErrInvalid, "tensor %s appears twice, with and without the adapter's name", t.Name)
			}
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
	r.Modules = names
	if len(names) == 0 && c.Type == "UNILORA" {
		return adapterError(dir, ErrUnsupported, "peft_type %q without unilora_indices, which numpy draws over all modules of the model: save it with save_indices=True", c.Type)
	}
	otherAlpha := 8.0
	if c.OtherAlpha != nil {
		otherAlpha = *c.OtherAlpha
	}
	for _, m := range names {
		switch {
		case !c.targets.match(m, nil):
			return adapterError(dir, ErrInvalid, "module %s has tensors, but target_modules of %s does not name it", m, adapterConfigName)
		case !c.inLayers(m):
			return adapterError(dir, ErrInvalid, "module %s has tensors, but layers_to_transform of %s leaves its layer out", m, adapterConfigName)
		case isEmbedding(m):
			return adapterError(dir, ErrUnsupported, "module %s: %s on an embedding; leave it out of target_modules", m, c.Type)
		}
		change, err := r.Build(kinds.Module{
			Name: m, Tensors: modules[m], Alpha: c.kindAlpha(m), Rank: c.ranks.find(m, c.Rank), Stabilised: c.RSLoRA,
			Lycoris: c.alphas.find(m, otherAlpha),
		})
		if err != nil {
			return err
		}
		if change != nil {
			f.loras = append(f.loras, rawOf(m, change))
		}
	}
	return nil
}

// rawOf is a change of a module whose factors are computed later.
func rawOf(module string, c *kinds.Change) rawDelta {
	l := rawDelta{
		module: module, target: lastWord(module), scale: c.Scale, made: c,
		a: rawTensor{name: module + " (A)", format: quant.F32, rows: c.A.Rows, cols: c.A.Cols}, // named for messages
		b: rawTensor{name: module + " (B)", format: quant.F32, rows: c.B.Rows, cols: c.B.Cols},
	}
	if t := c.Gain; t != nil {
		format, _ := kinds.FloatFormat(t.DType) // it was read
		l.bias = rawTensor{name: t.Name, format: format, rows: c.B.Rows, cols: 1, data: t.Data}
		l.how = biasGain
	}
	return l
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

// formOfLoRA tells whether the kind is LoRA that changes the base too.
func (c *peftConfig) formOfLoRA() bool { return c.Type == kinds.KaSA || c.Type == kinds.PiSSA }

// kindAlpha is lora_alpha, which alpha_pattern changes where the kind is a form of LoRA.
func (c *peftConfig) kindAlpha(module string) float64 {
	if c.formOfLoRA() {
		return c.alphas.find(module, c.Alpha)
	}
	return c.Alpha
}

// notServedBecause says of kinds that PEFT knows why they cannot be served, and what to do; "": nothing is known of it.
func notServedBecause(peftType string) string {
	switch peftType {
	case "LILY":
		return "it mixes its factors by the mean over all tokens of a call, so that an answer depends on what comes after it and on who asks beside; train LoRA instead"
	case "PSOFT":
		return "its factors are singular vectors with the signs that one machine gave them, which the file does not keep; merge it into the model with PEFT's merge_and_unload"
	case "ADAMSS":
		return "which rows its parts change is found by clustering when it is loaded, and the file does not keep it; merge it into the model with PEFT's merge_and_unload"
	case "XLORA":
		return "its weights come of a second pass over the whole text with the model bare; serve the adapters that it mixes, with scales"
	case "POLY":
		return "it needs the number of a task with each request; merge it into the model"
	case "MULTITASK_PROMPT_TUNING":
		return "it needs the number of a task with each request; save the prompt of one task as PROMPT_TUNING"
	default:
		return ""
	}
}
