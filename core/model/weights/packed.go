package weights

import (
	"encoding/json"
	"errors"
	"math"
	"runtime"
	"slices"
	"strings"
	"sync"

	"edged/core/model/arch"
	"edged/core/model/mmap"
	"edged/core/model/safetensors"
	"edged/quant"
)

// Quantised folders other than bitsandbytes' 4 bits: a module's weight is several tensors, by whose names it
// is known. Codes that lie row by row are served where they lie; GPTQ, AWQ and HQQ have another order and are
// laid out anew, off the Go heap, with as many bits. Where every scale is a float16, and groups are multiples
// of 32, the matrix is laid out as Q4_0, Q5_0 or Q8_0 blocks instead, and MXFP4 as ggml's: the same values,
// in a form for which there are kernels of every kind.

// A scheme holds the quantization_config of config.json.
type scheme struct {
	method string
	raw    map[string]any
}

// text, number and flag read a field; missing ones, and null, are the default.
func (s *scheme) text(name string) string {
	v, _ := s.raw[name].(string)
	return v
}

func (s *scheme) number(name string, def int) int {
	switch v := s.raw[name].(type) {
	case json.Number:
		if n, err := v.Int64(); err == nil && n >= math.MinInt32 && n <= math.MaxInt32 {
			return int(n)
		}
	case float64:
		return int(v)
	}
	return def
}

func (s *scheme) flag(name string) bool {
	v, _ := s.raw[name].(bool)
	return v
}

// readScheme reads quantization_config (older compressed-tensors: compression_config); nil where there is
// none. What is known not to be served is refused here, by a sentence that says what to do.
func (b *builder) readScheme(config map[string]any) (*scheme, error) {
	raw, ok := config["quantization_config"]
	if !ok || raw == nil {
		raw = config["compression_config"]
	}
	if raw == nil {
		return nil, nil //nolint:nilnil // not quantised
	}
	object, ok := raw.(map[string]any)
	if !ok {
		return nil, b.fail(ErrInvalid, "config.json: quantization_config is no object")
	}
	s := &scheme{raw: object}
	s.method = s.text("quant_method")
	if s.method == "" && (s.flag("load_in_8bit") || s.flag("load_in_4bit")) {
		s.method = "bitsandbytes"
	}
	switch s.method {
	case "", "bitsandbytes", "hqq", "fp8", "mxfp4":
	case "gptq":
		bits := s.number("bits", 4)
		format := s.text("checkpoint_format")
		switch {
		case bits != 2 && bits != 4 && bits != 8:
			return nil, b.fail(ErrUnsupported, "quantization_config: GPTQ with %d bits; 2, 4 and 8 are served: quantise the model anew", bits)
		case format != "" && format != "gptq" && format != "gptq_v2":
			return nil, b.fail(ErrUnsupported, "quantization_config: GPTQ's checkpoint_format %q; gptq and gptq_v2 are served: save the model in one of them", format)
		case s.flag("is_marlin_format"):
			return nil, b.fail(ErrUnsupported, "quantization_config: GPTQ's Marlin layout; save the model in checkpoint_format gptq")
		}
	case "awq":
		if bits, version := s.number("bits", s.number("w_bit", 4)), strings.ToLower(s.text("version")); bits != 4 || version != "gemm" && version != "" {
			return nil, b.fail(ErrUnsupported, "quantization_config: AWQ with %d bits, version %q; 4 bits in version gemm are served: save the model so", bits, version)
		}
	case "compressed-tensors":
		if format := s.text("format"); format == "marlin-24" || strings.Contains(format, "sparse") {
			return nil, b.fail(ErrUnsupported, "quantization_config: compressed-tensors' format %q; save the model as pack-quantized, without sparsity", format)
		}
		if sparsity, ok := s.raw["sparsity_config"].(map[string]any); ok && len(sparsity) > 0 && sparsity["format"] != "dense" && sparsity["format"] != nil {
			return nil, b.fail(ErrUnsupported, "quantization_config: compressed-tensors with sparsity; save the model without it")
		}
	default:
		return nil, b.fail(ErrUnsupported, "quantization_config: method %q; served are bitsandbytes, gptq, awq, compressed-tensors, hqq, fp8 and mxfp4: "+
			"quantise the 16-bit model with one of them, or use a GGUF file", s.method)
	}
	return s, nil
}

// partSuffixes end the names of tensors that belong to a quantised weight. The first is the one that makes it known.
func (s *scheme) partSuffixes() []string {
	switch s.method {
	case "gptq":
		return []string{".qweight", ".qzeros", ".scales", ".g_idx"}
	case "awq":
		return []string{".qweight", ".qzeros", ".scales"}
	case "compressed-tensors":
		return []string{
			".weight_packed", ".weight_scale", ".weight_zero_point", ".weight_shape", ".weight_global_scale", ".weight_g_idx",
			".input_global_scale", ".input_scale", ".input_zero_point", ".output_scale",
		}
	case "hqq":
		return []string{
			".W_q", ".scale", ".zero", ".shape", ".axis", ".channel_wise", ".compute_dtype", ".encoded_state_dict", ".group_size", ".nbits",
			".offload_meta", ".optimize", ".packing", ".quant_scale", ".quant_zero", ".round_zero", ".stores_quant_config", ".unpack_view_dtype",
			".view_as_float", ".meta",
		}
	case "mxfp4":
		return []string{"_blocks", "_scales"}
	case "fp8":
		return []string{".weight_scale_inv", ".activation_scale", ".input_scale"}
	case "bitsandbytes":
		return []string{".SCB", ".weight_format"}
	default:
		return nil
	}
}

// A packedModule is a module whose weight is in parts.
type packedModule struct {
	name  string // of the module in the folder
	parts map[string]*safetensors.Tensor
}

// packed finds the modules whose weight is in parts, and all names of tensors that are read with them.
func (b *builder) packed(files *safetensors.Folder) (modules []packedModule, consumed map[string]bool) {
	consumed = map[string]bool{}
	s := b.scheme
	if s == nil {
		return nil, consumed
	}
	suffixes := s.partSuffixes()
	if len(suffixes) == 0 {
		return nil, consumed
	}
	for _, name := range files.Names() {
		module, known := strings.CutSuffix(name, suffixes[0])
		if !known && s.method == "compressed-tensors" {
			// 8-bit codes that are not packed: weight beside weight_scale.
			if module, known = strings.CutSuffix(name, ".weight_scale"); known && files.Tensor(module+".weight_packed") != nil {
				known = false
			}
		}
		if !known {
			continue
		}
		p := packedModule{name: module, parts: map[string]*safetensors.Tensor{}}
		for _, suffix := range append(suffixes, ".weight") {
			if t := files.Tensor(module + suffix); t != nil {
				p.parts[suffix] = t
				consumed[t.Name] = true
			}
		}
		modules = append(modules, p)
	}
	return modules, consumed
}

// part returns a part with its shape and one of the types; a nil tensor and an error where it is missing or another.
func (b *builder) part(p *packedModule, suffix string, rank int, types ...safetensors.DType) (*safetensors.Tensor, error) {
	t := p.parts[suffix]
	if t == nil {
		return nil, b.fail(ErrInvalid, "tensor %s is missing beside %s's other parts", p.name+suffix, p.name)
	}
	if !slices.Contains(types, t.DType) || len(t.Shape) != rank {
		return nil, b.fail(ErrInvalid, "tensor %s is %s %v: want %d dimensions of %v", t.Name, t.DType, t.Shape, rank, types)
	}
	for _, n := range t.Shape {
		if n < 1 || n > math.MaxInt32 {
			return nil, b.fail(ErrInvalid, "tensor %s has shape %v: empty or too large", t.Name, t.Shape)
		}
	}
	return t, nil
}

// module makes the matrix of a packed module.
func (b *builder) module(p *packedModule) (*quant.Matrix, error) {
	switch b.scheme.method {
	case "gptq":
		return b.gptq(p)
	case "awq":
		return b.awq(p)
	case "compressed-tensors":
		return b.compressed(p)
	case "hqq":
		return b.hqq(p)
	case "fp8":
		return b.fp8(p, ".weight_scale_inv")
	default:
		return b.int8(p)
	}
}

// scaleFormat is the form of a tensor of scales.
func scaleFormat(d safetensors.DType) quant.ScaleFormat {
	switch d {
	case safetensors.F16:
		return quant.ScaleF16
	case safetensors.BF16:
		return quant.ScaleBF16
	case safetensors.F8E4M3:
		return quant.ScaleE4M3
	case safetensors.U8:
		return quant.ScaleE8M0
	default:
		return quant.ScaleF32
	}
}

// floatTypes returns the types that scales may have.
func floatTypes() []safetensors.DType {
	return []safetensors.DType{safetensors.F16, safetensors.BF16, safetensors.F32}
}

// make returns n bytes off the heap that fill writes; nil for headers only. They count as laid out anew.
func (b *builder) make(n int, fill func(out []byte)) ([]byte, error) {
	b.m.derived += int64(n)
	if b.m.headersOnly {
		return nil, nil
	}
	out, err := b.m.arena.Alloc(n)
	if err != nil {
		return nil, err
	}
	fill(out)
	return out, nil
}

// grouping checks a group size against a matrix, and returns the number of groups in a row. -1, and 0, mean
// one for the row.
func grouping(size, cols int) (group, count int) {
	if size <= 0 || size > cols {
		size = cols
	}
	return size, (cols + size - 1) / size
}

// turn writes the (rows, cols) elements of size bytes in src to dst as (cols, rows).
func turn(dst, src []byte, rows, cols, size int) {
	const tile = 16
	for r0 := 0; r0 < rows; r0 += tile {
		for c0 := 0; c0 < cols; c0 += tile {
			for c := c0; c < min(c0+tile, cols); c++ {
				for r := r0; r < min(r0+tile, rows); r++ {
					copy(dst[(c*rows+r)*size:(c*rows+r+1)*size], src[(r*cols+c)*size:])
				}
			}
		}
	}
}

// lay makes the codes, scales and zeros of a matrix whose source has another order, in blocks of ggml's where
// that loses nothing. codes fills rows of codes, scales fills (Rows, Count) of scales and of zeros.
func (b *builder) lay(m *quant.Matrix, codes func(data []byte), scales func(scales, zeros []byte)) error {
	g := m.Group
	n := m.Rows * g.Count
	size := m.Rows * m.Format.RowBytes(m.Cols)
	if size == 0 {
		return b.fail(ErrInvalid, "%d columns of %s do not fill their words", m.Cols, m.Format)
	}
	small, err := mmap.Anonymous(n * (g.ScaleFormat.Bytes() + 1))
	if err != nil {
		return err
	}
	g.Scales, g.Zeros = small.Bytes()[:n*g.ScaleFormat.Bytes()], small.Bytes()[n*g.ScaleFormat.Bytes():]
	scales(g.Scales, g.Zeros)
	oneZero(g)
	f, blocks := quant.BlocksOf(m)
	if b.m.headersOnly {
		if blocks {
			b.m.derived += f.Bytes(int64(m.Rows), int64(m.Cols))
			m.Format, m.Group = f, nil
		} else {
			b.m.derived += int64(size + small.Len())
			g.Scales = nil
			if g.Zeros != nil {
				g.Zeros = []byte{}
			}
		}
		return small.Close()
	}
	large, err := mmap.Anonymous(size)
	if err != nil {
		return errors.Join(err, small.Close())
	}
	m.Data = large.Bytes()
	codes(m.Data)
	if blocks {
		err := b.asBlocks(m)
		return errors.Join(err, large.Close(), small.Close())
	}
	b.m.derived += int64(size + small.Len())
	b.m.arena.Own(large, small)
	return nil
}

// oneZero replaces zeros that are all the same by one.
func oneZero(g *quant.Group) {
	for _, z := range g.Zeros {
		if z != g.Zeros[0] {
			return
		}
	}
	if len(g.Zeros) > 0 {
		g.Zero, g.Zeros = float32(g.Zeros[0]), nil
	}
}

// asBlocks lays a matrix out in ggml's blocks where that changes no value.
func (b *builder) asBlocks(m *quant.Matrix) error {
	f, ok := quant.BlocksOf(m)
	if !ok {
		return nil
	}
	n := f.RowBytes(m.Cols)
	data, err := b.make(m.Rows*n, func(out []byte) {
		each(m.Rows, func(r int) { quant.PutBlocks(out[r*n:(r+1)*n], f, m, r) })
	})
	if err != nil {
		return err
	}
	m.Format, m.Data, m.Group = f, data, nil
	return nil
}

// each calls f for 0 … n-1 on all cores.
func each(n int, f func(i int)) {
	workers := min(runtime.GOMAXPROCS(0), n)
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := n * w / workers; i < n*(w+1)/workers; i++ {
				f(i)
			}
		})
	}
	wg.Wait()
}

// placeRows adds a matrix of rows under its canonical name, or cut where the model has several in one.
func (b *builder) placeRows(m *quant.Matrix, name string) error {
	module, suffix := cutSuffix(name)
	pattern, numbers := arch.SplitNumbers(module)
	add := func(name string, m *quant.Matrix) error {
		if b.m.matrices[name] != nil {
			return b.fail(ErrInvalid, "tensor %s appears twice", name)
		}
		m.Name = name
		b.m.matrices[name] = m
		return nil
	}
	if x := b.m.Spec.ExpandOf(pattern); x != nil {
		return b.expandPacked(x, numbers, m)
	}
	split := b.m.Spec.SplitOf(pattern)
	if split == nil {
		return add(name, m)
	}
	parts, groups, err := b.parts(split, numbers, suffix, m.Rows)
	if err != nil {
		return err
	}
	row := 0
	for _, p := range parts {
		piece, ok := rowsOf(m, row, p.Rows)
		if !ok || groups != 1 {
			return b.fail(ErrUnsupported, "tensor %s (%d, %d): its parts share scales or alternate; use a GGUF file of this model", b.say(name), m.Rows, m.Cols)
		}
		if err := add(p.Name, piece); err != nil {
			return err
		}
		row += p.Rows
	}
	return nil
}

// rowsOf is rows [lo, lo+n) of a matrix; ok is false where they share scales with others.
func rowsOf(m *quant.Matrix, lo, n int) (piece *quant.Matrix, ok bool) {
	size := m.Format.RowBytes(m.Cols)
	piece = &quant.Matrix{Format: m.Format, Rows: n, Cols: m.Cols}
	if m.Data != nil {
		piece.Data = m.Data[lo*size : (lo+n)*size]
	}
	if m.Group == nil {
		return piece, true
	}
	g := *m.Group
	piece.Group = &g
	if g.Span >= m.Rows {
		return piece, true
	}
	if lo%g.Span != 0 {
		return nil, false
	}
	from, to := lo/g.Span*g.Count, (lo+n+g.Span-1)/g.Span*g.Count
	if g.Scales != nil {
		g.Scales = g.Scales[from*g.ScaleFormat.Bytes() : to*g.ScaleFormat.Bytes()]
	}
	if len(g.Zeros) > 0 {
		g.Zeros = g.Zeros[from:to]
	}
	if g.ZerosF != nil {
		g.ZerosF = g.ZerosF[from:to]
	}
	return piece, true
}
