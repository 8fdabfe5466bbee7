package weights

import (
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strings"

	"edged/core/model/gguf"
	"edged/quant"
)

// openGGUF fills the model from a GGUF file. Keys and tensor names: llama.cpp, src/llama-arch.cpp.
func (b *builder) openGGUF(path string) error {
	f, err := gguf.Open(path)
	if err != nil {
		return fmt.Errorf("weights: %w", err)
	}
	b.keep(f.Mapping())
	b.m.files = []File{{Name: "model.gguf", Path: path, mapping: f.Mapping()}}
	if err := b.ggufHyper(f); err != nil {
		return err
	}
	for i := range f.Tensors() {
		if err := b.ggufTensor(&f.Tensors()[i]); err != nil {
			return err
		}
	}
	if b.m.matrices[outputName] == nil {
		b.m.Hyper.Tied = true
	}
	return b.validate()
}

// A keyReader reads hyper-parameters of one architecture. The first error sticks.
type keyReader struct {
	f    *gguf.File
	arch string
	err  error
}

func (r *keyReader) key(name string) string { return r.arch + "." + name }

func (r *keyReader) has(name string) bool { return r.f.Has(r.key(name)) }

// count reads a number that must fit an int; def is taken for a missing key, and a negative def makes the key required.
// Some converters write one value for each layer: equal ones are taken.
func (r *keyReader) count(name string, def int) int {
	key := r.key(name)
	switch {
	case r.err != nil:
		return 0
	case !r.f.Has(key) && def >= 0:
		return def
	}
	if n, ok := r.f.Len(key); ok && n > 0 {
		all, err := r.f.Ints(key)
		if err != nil {
			r.err = err
			return 0
		}
		for _, v := range all {
			if v != all[0] {
				r.err = fmt.Errorf("gguf: %s: key %q: %w: layers of different sizes", r.f.Path, key, ErrUnsupported)
				return 0
			}
		}
		return r.fit(key, uint64(max(all[0], 0)))
	}
	v, err := r.f.Uint(key)
	if err != nil {
		r.err = err
		return 0
	}
	return r.fit(key, v)
}

func (r *keyReader) fit(key string, v uint64) int {
	if v > math.MaxInt32 {
		r.err = fmt.Errorf("gguf: %s: key %q: %w: %d is out of range", r.f.Path, key, ErrInvalid, v)
		return 0
	}
	return int(v)
}

// float reads a number; def is taken for a missing key, and a NaN def makes the key required.
func (r *keyReader) float(name string, def float64) float64 {
	key := r.key(name)
	if r.err != nil || !r.f.Has(key) && !math.IsNaN(def) {
		return def
	}
	v, err := r.f.Float(key)
	r.err = err
	return v
}

func (r *keyReader) str(key string) string {
	if r.err != nil || !r.f.Has(key) {
		return ""
	}
	v, err := r.f.String(key)
	r.err = err
	return v
}

// token reads a token id, -1 where there is none.
func (r *keyReader) token(key string) int32 {
	if r.err != nil || !r.f.Has(key) {
		return -1
	}
	v, err := r.f.Int(key)
	r.err = err
	if v < 0 || v > math.MaxInt32 {
		return -1 // writers use 2³²-1 for none
	}
	return int32(v)
}

func (b *builder) ggufHyper(f *gguf.File) error {
	r := &keyReader{f: f}
	arch, err := f.String("general.architecture")
	if errors.Is(err, gguf.ErrMissing) {
		return b.fail(ErrInvalid, "it has no general.architecture: it is not a model")
	}
	if err != nil {
		return fmt.Errorf("weights: %w", err)
	}
	if kind := r.str("general.type"); kind != "" && kind != "model" {
		return b.fail(ErrUnsupported, "general.type is %q: it is not a model", kind)
	}
	if len(f.Tensors()) == 0 {
		return b.fail(ErrInvalid, "it has no tensors: it is a vocabulary, not a model")
	}
	r.arch = arch
	b.m.Arch = arch
	b.m.Name = r.str("general.name")
	if b.m.Name == "" {
		b.m.Name = strings.TrimSuffix(filepath.Base(b.m.Path), ".gguf")
	}
	h := &b.m.Hyper
	switch arch {
	case "llama", "mistral", "mixtral":
		h.Interleaved = true
	case "qwen2":
		b.biases.qkv = true
	case "gpt2":
		b.biases = biases{true, true, true}
	case "qwen3":
	default:
		return b.unsupportedArch(arch)
	}
	h.Layers = r.count("block_count", -1)
	h.Width = r.count("embedding_length", -1)
	h.Heads = r.count("attention.head_count", -1)
	h.KVHeads = r.count("attention.head_count_kv", h.Heads)
	h.FFN = r.count("feed_forward_length", -1)
	h.Context = r.count("context_length", -1)
	h.Window = r.count("attention.sliding_window", 0)
	h.Experts = r.count("expert_count", 0)
	h.ExpertsUsed = r.count("expert_used_count", 0)
	b.ggufHead(r)
	if arch == "gpt2" {
		h.NormEps = float32(r.float("attention.layer_norm_epsilon", math.NaN()))
	} else {
		h.NormEps = float32(r.float("attention.layer_norm_rms_epsilon", math.NaN()))
		b.ggufRope(r)
	}
	if h.Experts > 0 {
		if arch != "llama" && arch != "mistral" && arch != "mixtral" {
			return b.fail(ErrUnsupported, "%s with %d experts", arch, h.Experts)
		}
		b.m.Arch = "mixtral"
		h.FFN = r.count("expert_feed_forward_length", h.FFN)
	}
	h.BOS = r.token("tokenizer.ggml.bos_token_id")
	h.EOS = r.token("tokenizer.ggml.eos_token_id")
	for _, id := range []int32{h.EOS, r.token("tokenizer.ggml.eot_token_id"), r.token("tokenizer.ggml.eom_token_id")} {
		h.addEOG(id)
	}
	if r.err != nil {
		return fmt.Errorf("weights: %w", r.err)
	}
	embed := f.Tensor(embedName)
	if embed == nil || len(embed.Dims) != 2 {
		return b.fail(ErrInvalid, "tensor %s is missing or no matrix", embedName)
	}
	h.VocabRows = int(min(embed.Dims[1], math.MaxInt32))
	return nil
}

// ggufHead reads the size of a head.
func (b *builder) ggufHead(r *keyReader) {
	h := &b.m.Hyper
	def := -1
	if h.Heads > 0 && h.Width%h.Heads == 0 {
		def = h.Width / h.Heads
	}
	h.HeadDim = r.count("attention.key_length", def)
	if v := r.count("attention.value_length", h.HeadDim); v != h.HeadDim && r.err == nil {
		r.err = b.fail(ErrUnsupported, "keys of %d and values of %d dimensions", h.HeadDim, v)
	}
}

// ggufRope reads the rotary embedding.
func (b *builder) ggufRope(r *keyReader) {
	h := &b.m.Hyper
	h.RopeDim = r.count("rope.dimension_count", h.HeadDim)
	h.RopeTheta = r.float("rope.freq_base", 10000)
	s := &h.RopeScaling
	kind := r.str(r.key("rope.scaling.type"))
	if kind == "" && r.has("rope.scale_linear") { // an older name
		s.Factor = r.float("rope.scale_linear", 1)
		kind = "linear"
	}
	switch kind {
	case "", "none":
		return
	case "linear":
		s.Kind = kind
		s.Factor = r.float("rope.scaling.factor", max(s.Factor, 1))
	case "yarn":
		s.Kind = kind
		s.Factor = r.float("rope.scaling.factor", 1)
		s.OrigContext = r.count("rope.scaling.original_context_length", h.Context)
		s.BetaFast = r.float("rope.scaling.yarn_beta_fast", 32)
		s.BetaSlow = r.float("rope.scaling.yarn_beta_slow", 1)
		if r.has("rope.scaling.attn_factor") || r.has("rope.scaling.yarn_attn_factor") {
			// llama.cpp multiplies this factor by the computed one; AttnFactor is their product.
			own := r.float("rope.scaling.attn_factor", r.float("rope.scaling.yarn_attn_factor", 1))
			s.AttnFactor = own * (1 + 0.1*math.Log(max(s.Factor, 1)))
		}
	default:
		if r.err == nil {
			r.err = b.fail(ErrUnsupported, "RoPE scaling %q; the supported ones are linear, yarn and rope_freqs.weight", kind)
		}
	}
}

// addEOG adds an end-of-generation id once.
func (h *Hyper) addEOG(id int32) {
	if id >= 0 && !slices.Contains(h.EOG, id) {
		h.EOG = append(h.EOG, id)
	}
}

// ggufTensor adds one tensor under its canonical name or names.
func (b *builder) ggufTensor(t *gguf.Tensor) error {
	format := t.Type.Format()
	if !format.Valid() {
		return b.fail(ErrUnsupported, "tensor %s is %s; the supported types are %s", t.Name, t.Type, quant.Names())
	}
	dims := t.Dims
	for len(dims) > 2 && dims[len(dims)-1] == 1 && !strings.HasSuffix(t.Name, "_exps.weight") {
		dims = dims[:len(dims)-1]
	}
	cols64, rows64 := dims[0], int64(1)
	for _, d := range dims[1:] {
		rows64 *= d
	}
	rows, cols, err := b.dims(t.Name, rows64, cols64)
	if err != nil {
		return err
	}
	if t.Name == "rope_freqs.weight" {
		if len(dims) != 1 || cols > maxHeadDim {
			return b.fail(ErrInvalid, "tensor %s has shape %v: want one row", t.Name, dims)
		}
		b.m.Hyper.RopeScaling.FreqFactors = make([]float32, cols)
		quant.Decode(format, b.m.Hyper.RopeScaling.FreqFactors, t.Data)
		return nil
	}
	pattern, numbers := splitNumbers(t.Name)
	switch {
	case pattern == "blk.N.attn_qkv.weight" && b.m.Arch == "gpt2" && len(dims) == 2:
		return b.splitQKV(numbers[0], format, rows, cols, t.Data)
	case pattern == "blk.N.attn_qkv.bias" && b.m.Arch == "gpt2" && len(dims) == 1:
		return b.splitQKVBias(numbers[0], format, cols, t.Data)
	case len(dims) == 3 && strings.HasSuffix(pattern, "_exps.weight"):
		return b.splitExperts(strings.TrimSuffix(t.Name, "_exps.weight"), format, dims, t.Data)
	case len(dims) == 1:
		return b.vector(t.Name, format, cols, t.Data)
	case len(dims) == 2:
		return b.matrix(t.Name, format, rows, cols, t.Data)
	default:
		return b.fail(ErrUnsupported, "tensor %s has %d dimensions %v, which no tensor of a %s model has", t.Name, len(dims), dims, b.m.Arch)
	}
}

// splitQKV cuts GPT-2's fused projection (3·width, width) into q, k and v: row slices of the same bytes.
func (b *builder) splitQKV(layer string, f quant.Format, rows, cols int, data []byte) error {
	if rows%3 != 0 {
		return b.fail(ErrInvalid, "tensor blk.%s.attn_qkv.weight has %d rows: no multiple of 3", layer, rows)
	}
	n := len(data) / 3
	for i, part := range []string{"q", "k", "v"} {
		if err := b.matrix("blk."+layer+".attn_"+part+".weight", f, rows/3, cols, data[i*n:(i+1)*n]); err != nil {
			return err
		}
	}
	return nil
}

func (b *builder) splitQKVBias(layer string, f quant.Format, cols int, data []byte) error {
	if cols%(3*f.BlockSize()) != 0 {
		return b.fail(ErrInvalid, "tensor blk.%s.attn_qkv.bias has %d values: they cannot be cut in three", layer, cols)
	}
	n := len(data) / 3
	for i, part := range []string{"q", "k", "v"} {
		if err := b.vector("blk."+layer+".attn_"+part+".bias", f, cols/3, data[i*n:(i+1)*n]); err != nil {
			return err
		}
	}
	return nil
}

// splitExperts cuts a stack of experts (experts, rows, cols) into matrices PREFIX.E.weight.
func (b *builder) splitExperts(prefix string, f quant.Format, dims []int64, data []byte) error {
	if dims[2] > maxExperts {
		return b.fail(ErrInvalid, "tensor %s_exps.weight holds %d experts, at most %d are allowed", prefix, dims[2], maxExperts)
	}
	n := len(data) / int(dims[2])
	for e := range int(dims[2]) {
		if err := b.matrix(fmt.Sprintf("%s.%d.weight", prefix, e), f, int(dims[1]), int(dims[0]), data[e*n:(e+1)*n]); err != nil {
			return err
		}
	}
	return nil
}
