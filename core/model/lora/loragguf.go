package lora

import (
	"fmt"
	"math"
	"strings"

	"edged/core/model/arch"
	"edged/core/model/arch/families"
	"edged/core/model/arch/keys"
	"edged/core/model/gguf"
)

// readGGUF reads a GGUF adapter: general.type adapter, adapter.type lora, tensors NAME.lora_a (in, r) and
// NAME.lora_b (r, out), innermost size first, where NAME is the base's tensor; token_embd.weight.lora_a is
// (r, tokens). Source: llama.cpp, src/llama-adapter.cpp.
func (f *adapterFile) readGGUF(path string) error {
	g, err := gguf.Open(path)
	if err != nil {
		return fmt.Errorf("lora: %w", err)
	}
	for _, p := range g.Parts() {
		f.maps = append(f.maps, p.Mapping)
	}
	if n := len(g.Parts()); n > 1 { // an adapter is copied, checked and replaced as one file
		return adapterError(path, ErrUnsupported, "it is one of %d parts: join them with llama-gguf-split --merge", n)
	}
	f.files[0].Mapping = g.Parts()[0].Mapping // what is hashed is what is served
	k := keys.GGUF("adapter", func(key string) (any, bool) { return g.Value(key, maxList) }, nil)
	kind, lora := k.String("general.type|"), k.String("type|")
	f.arch = k.String("general.architecture|")
	f.base = k.String("general.base_model.0.name|")
	alpha := k.FloatOr("lora.alpha|", 0)
	switch {
	case k.Err() != nil:
		return fmt.Errorf("lora: %s: %w", path, k.Err())
	case kind != "adapter":
		return adapterError(path, ErrInvalid, "general.type is %q, not adapter: it is a model, not an adapter", kind)
	case lora != "lora":
		return adapterError(path, ErrUnsupported, "adapter.type is %q; the supported one is lora", lora)
	case f.arch == "":
		return adapterError(path, ErrInvalid, "general.architecture is missing")
	case math.IsNaN(alpha) || math.IsInf(alpha, 0):
		return adapterError(path, ErrInvalid, "adapter.lora.alpha is %g", alpha)
	}
	if err := f.invokedBy(g, path); err != nil {
		return err
	}
	modules := map[string]*parts{}
	for i := range g.Tensors() {
		t := &g.Tensors()[i]
		which := halfA
		module, ok := strings.CutSuffix(t.Name, ".lora_a")
		if !ok {
			which = halfB
			module, ok = strings.CutSuffix(t.Name, ".lora_b")
		}
		if strings.HasSuffix(t.Name, "_norm.weight") { // the converter writes them, and llama.cpp has no use for them
			f.note("tensor %s is passed over: trained norms are not served, by llama.cpp neither", t.Name)
			continue
		}
		if !ok || !strings.HasSuffix(module, ".weight") {
			return adapterError(path, ErrUnsupported, "tensor %s is none of NAME.weight.lora_a and NAME.weight.lora_b%s", t.Name, f.beside(t.Name))
		}
		if err := addGGUF(path, t, module, which, modules); err != nil {
			return err
		}
	}
	if err := f.pairUp(path, modules); err != nil {
		return err
	}
	for i := range f.loras {
		l := &f.loras[i]
		l.target = lastWord(families.HFName(f.arch, strings.TrimSuffix(l.module, ".weight")))
		// As llama.cpp: without an alpha, or with 0, the scaling is 1.
		l.scale = 1
		if alpha != 0 {
			l.scale = alpha / float64(l.rank())
		}
	}
	return nil
}

// invokedBy reads the ids that switch the adapter on, which llama.cpp's converter writes of activated LoRA.
func (f *adapterFile) invokedBy(g *gguf.File, path string) error {
	const key = "adapter.alora.invocation_tokens"
	if !g.Has(key) {
		return nil
	}
	ids, err := g.Ints(key)
	if err != nil {
		return fmt.Errorf("lora: %w", err)
	}
	if len(ids) > maxVirtual {
		return adapterError(path, ErrInvalid, "%s has %d ids, more than the %d allowed", key, len(ids), maxVirtual)
	}
	for _, id := range ids {
		if id < 0 || id > math.MaxInt32 {
			return adapterError(path, ErrInvalid, "%s has the id %d", key, id)
		}
		f.invocation = append(f.invocation, int32(id))
	}
	return nil
}

// addGGUF adds one tensor, or each expert's part of a stack, as (rows, cols).
func addGGUF(path string, t *gguf.Tensor, module string, which half, into map[string]*parts) error {
	format := t.Type.Format()
	if !format.Valid() {
		return adapterError(path, ErrUnsupported, "tensor %s is %s", t.Name, t.Type)
	}
	prefix, experts := strings.CutSuffix(module, "_exps.weight")
	n, dims := 1, t.Dims
	if experts && len(dims) == 3 && dims[2] <= arch.MaxExperts {
		n, dims = int(dims[2]), dims[:2]
	}
	if len(dims) != 2 || dims[0] > math.MaxInt32 || dims[1] > math.MaxInt32 {
		return adapterError(path, ErrInvalid, "tensor %s has shape %v: want a matrix", t.Name, t.Dims)
	}
	size := len(t.Data) / n
	for e := range n {
		name := module
		if experts {
			name = fmt.Sprintf("%s.%d.weight", prefix, e)
		}
		if into[name] == nil {
			into[name] = &parts{embed: name == arch.EmbedName}
		}
		part := &into[name].t[which]
		if part.rows > 0 || dims[0] < 1 || dims[1] < 1 {
			return adapterError(path, ErrInvalid, "tensor %s appears twice or is empty", t.Name)
		}
		*part = rawTensor{t.Name, format, int(dims[1]), int(dims[0]), t.Data[e*size : (e+1)*size]}
	}
	return nil
}
