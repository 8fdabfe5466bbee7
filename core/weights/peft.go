package weights

import (
	"fmt"
	"math"
	"path/filepath"
	"strings"

	"edged/core/safetensors"
)

// Names of the files of a PEFT folder.
const (
	adapterConfigName = "adapter_config.json"
	adapterModelName  = "adapter_model.safetensors"
)

// readPEFT reads a PEFT folder: tensors base_model.model.MODULE.lora_A.weight (r, in) and .lora_B.weight (out, r). Source:
// huggingface/peft, src/peft/tuners/lora and src/peft/utils/save_and_load.py.
func (f *adapterFile) readPEFT(dir string) error {
	c, err := readPEFTConfig(filepath.Join(dir, adapterConfigName))
	if err != nil {
		return err
	}
	f.base = c.Base
	file, err := safetensors.OpenFile(filepath.Join(dir, adapterModelName))
	if err != nil {
		return fmt.Errorf("weights: adapter: %w", err)
	}
	f.maps = append(f.maps, file.Mapping())
	f.files[1].mapping = file.Mapping() // what is hashed is what is served
	as, bs := map[string]rawTensor{}, map[string]rawTensor{}
	for i := range file.Tensors() {
		t := &file.Tensors()[i]
		module, half, err := peftName(dir, t.Name)
		if err != nil {
			return err
		}
		into := as
		if half == "lora_B" {
			into = bs
		}
		raw, err := peftTensor(dir, t)
		if err != nil {
			return err
		}
		if _, ok := into[module]; ok {
			return adapterError(dir, ErrInvalid, "tensor %s appears twice, with and without the adapter's name", t.Name)
		}
		into[module] = raw
	}
	if err := f.pairUp(dir, as, bs); err != nil {
		return err
	}
	return f.applyConfig(dir, c)
}

// peftName takes a tensor's name apart.
func peftName(dir, name string) (module, half string, err error) {
	rest, ok := strings.CutPrefix(name, "base_model.model.")
	if !ok {
		return "", "", adapterError(dir, ErrUnsupported, "tensor %s does not start with base_model.model.: not a LoRA adapter of PEFT", name)
	}
	for _, half := range []string{"lora_A", "lora_B"} {
		for _, suffix := range []string{"." + half + ".weight", "." + half + ".default.weight"} {
			if module, ok := strings.CutSuffix(rest, suffix); ok {
				return module, half, nil
			}
		}
	}
	switch {
	case strings.Contains(name, "lora_magnitude_vector"):
		return "", "", adapterError(dir, ErrUnsupported, "tensor %s: DoRA", name)
	case strings.Contains(name, "lora_embedding_"):
		return "", "", adapterError(dir, ErrUnsupported, "tensor %s: LoRA on an embedding", name)
	case strings.HasSuffix(name, ".bias"):
		return "", "", adapterError(dir, ErrUnsupported, "tensor %s: a trained bias", name)
	default:
		return "", "", adapterError(dir, ErrUnsupported, "tensor %s is no lora_A or lora_B weight; whole trained modules are not served", name)
	}
}

func peftTensor(dir string, t *safetensors.Tensor) (rawTensor, error) {
	format, ok := floatFormat(t.DType)
	if !ok {
		return rawTensor{}, adapterError(dir, ErrUnsupported, "tensor %s is %s; the supported types are F32, F16 and BF16", t.Name, t.DType)
	}
	if len(t.Shape) != 2 || t.Shape[0] < 1 || t.Shape[1] < 1 || t.Shape[0] > math.MaxInt32 || t.Shape[1] > math.MaxInt32 {
		return rawTensor{}, adapterError(dir, ErrInvalid, "tensor %s has shape %v: want a matrix", t.Name, t.Shape)
	}
	return rawTensor{t.Name, format, int(t.Shape[0]), int(t.Shape[1]), t.Data}, nil
}

// applyConfig gives every module its scaling and holds the tensors against what the configuration claims.
func (f *adapterFile) applyConfig(dir string, c *peftConfig) error {
	hit := make([]bool, len(c.targets.list))
	for i := range f.loras {
		l := &f.loras[i]
		if !c.targets.match(l.module, hit) {
			return adapterError(dir, ErrInvalid, "module %s has tensors, but target_modules of %s does not name it", l.module, adapterConfigName)
		}
		if c.excluded.set() && c.excluded.match(l.module, nil) {
			return adapterError(dir, ErrInvalid, "module %s has tensors, but exclude_modules of %s names it", l.module, adapterConfigName)
		}
		if !c.inLayers(l.module) {
			return adapterError(dir, ErrInvalid, "module %s has tensors, but layers_to_transform of %s leaves its layer out", l.module, adapterConfigName)
		}
		rank, alpha := c.ranks.find(l.module, c.Rank), c.alphas.find(l.module, c.Alpha)
		if float64(l.a.rows) != rank {
			return adapterError(dir, ErrInvalid, "tensor %s is (%d, %d), but %s gives its module rank %g", l.a.name, l.a.rows, l.a.cols, adapterConfigName, rank)
		}
		if l.scale = alpha / rank; c.RSLoRA {
			l.scale = alpha / math.Sqrt(rank)
		}
	}
	for i, ok := range hit {
		if !ok {
			return adapterError(dir, ErrInvalid, "target_modules of %s names %q, but no tensor belongs to it", adapterConfigName, c.targets.list[i])
		}
	}
	return nil
}
