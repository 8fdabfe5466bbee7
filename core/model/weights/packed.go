package weights

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"math"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"

	"edged/core/model/arch"
	"edged/core/model/mmap"
	"edged/core/model/safetensors"
	"edged/quant"
)

// Quantised folders other than bitsandbytes' 4 bits: a module's weight is several tensors, by whose names it is known. Codes that
// lie row by row are served where they lie; GPTQ, AWQ and HQQ have another order and are laid out anew, off the Go heap, with as
// many bits. Where every scale is a float16, and groups are multiples of 32, the matrix is laid out as Q4_0, Q5_0 or Q8_0 blocks
// instead, and MXFP4 as ggml's: the same values, in a form for which there are kernels of every kind.

// A scheme is what config.json's quantization_config says.
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

// readScheme reads quantization_config (older compressed-tensors: compression_config); nil where there is none. What is known
// not to be served is refused here, by a sentence that says what to do.
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
		return []string{".weight_packed", ".weight_scale", ".weight_zero_point", ".weight_shape", ".weight_global_scale", ".weight_g_idx",
			".input_global_scale", ".input_scale", ".input_zero_point", ".output_scale"}
	case "hqq":
		return []string{".W_q", ".scale", ".zero", ".shape", ".axis", ".channel_wise", ".compute_dtype", ".encoded_state_dict", ".group_size", ".nbits",
			".offload_meta", ".optimize", ".packing", ".quant_scale", ".quant_zero", ".round_zero", ".stores_quant_config", ".unpack_view_dtype",
			".view_as_float", ".meta"}
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

// floatTypes are what scales may be.
func floatTypes() []safetensors.DType {
	return []safetensors.DType{safetensors.F16, safetensors.BF16, safetensors.F32}
}

// make returns n bytes off the heap that fill writes; nil for headers only. They count as laid out anew.
func (b *builder) make(n int, fill func(out []byte)) ([]byte, error) {
	b.m.derived += int64(n)
	if b.m.headersOnly {
		return nil, nil
	}
	out, err := b.m.arena.alloc(n)
	if err != nil {
		return nil, err
	}
	fill(out)
	return out, nil
}

// grouping checks a group size against a matrix, and returns the number of groups in a row. -1, and 0, mean one for the row.
func grouping(size, cols int) (group, count int) {
	if size <= 0 || size > cols {
		size = cols
	}
	return size, (cols + size - 1) / size
}

// gptq reads qweight (in/per, out) of 32-bit words that hold the codes of per inputs, the first lowest; qzeros (groups, out/per);
// scales (groups, out); g_idx (in). Source: GPTQModel, nn_modules/qlinear/torch.py. The older of two conventions stores zeros one
// lower than they are.
func (b *builder) gptq(p *packedModule) (*quant.Matrix, error) {
	bits := b.scheme.number("bits", 4)
	per := 32 / bits
	q, err := b.part(p, ".qweight", 2, safetensors.I32)
	if err != nil {
		return nil, err
	}
	rows, cols, err := b.dims(q.Name, q.Shape[1], q.Shape[0]*int64(per))
	if err != nil {
		return nil, err
	}
	s, err := b.part(p, ".scales", 2, floatTypes()...)
	if err != nil {
		return nil, err
	}
	z, err := b.part(p, ".qzeros", 2, safetensors.I32)
	if err != nil {
		return nil, err
	}
	size, count := grouping(b.scheme.number("group_size", -1), cols)
	if s.Shape[0] != int64(count) || s.Shape[1] != int64(rows) || z.Shape[0] != int64(count) || z.Shape[1] != int64((rows+per-1)/per) {
		return nil, b.fail(ErrInvalid, "tensors of %s: scales %v and qzeros %v do not go with qweight %v and group_size %d", p.name, s.Shape, z.Shape, q.Shape, size)
	}
	m := &quant.Matrix{Format: map[int]quant.Format{2: quant.Group2, 4: quant.Group4, 8: quant.Group8}[bits], Rows: rows, Cols: cols}
	g := &quant.Group{Values: quant.IntegerValues(bits), Size: size, Count: count, Span: 1, ScaleFormat: scaleFormat(s.DType)}
	m.Group = g
	if g.Index, err = b.groupIndex(p, ".g_idx", size, count, cols); err != nil {
		return nil, err
	}
	add := byte(1)
	if b.scheme.text("checkpoint_format") == "gptq_v2" {
		add = 0
	}
	mask := byte(1<<bits - 1)
	return m, b.lay(m, func(data []byte) {
		// A word of inputs is four bytes of the row: this turns a matrix of words.
		turn(data, q.Data, cols/per, rows, 4)
	}, func(scales, zeros []byte) {
		n := g.ScaleFormat.Bytes()
		turn(scales, s.Data, count, rows, n)
		for r := range rows {
			for k := range count {
				word := binary.LittleEndian.Uint32(z.Data[4*(k*int(z.Shape[1])+r/per):])
				zeros[r*count+k] = (byte(word>>(bits*(r%per)))&mask + add) & mask
			}
		}
	})
}

// groupIndex reads the groups of columns; nil where they come in order.
func (b *builder) groupIndex(p *packedModule, suffix string, size, count, cols int) ([]uint16, error) {
	if p.parts[suffix] == nil {
		return nil, nil
	}
	t, err := b.part(p, suffix, 1, safetensors.I32)
	if err != nil {
		return nil, err
	}
	if t.Shape[0] != int64(cols) || count > math.MaxUint16 {
		return nil, b.fail(ErrInvalid, "tensor %s has %d values for %d columns in %d groups", t.Name, t.Shape[0], cols, count)
	}
	index := make([]uint16, cols)
	ordered := true
	for i := range index {
		g := int32(binary.LittleEndian.Uint32(t.Data[4*i:]))
		if g == -1 && size == cols { // one writer's mark of an index that was never made
			g = 0
		}
		if g < 0 || int(g) >= count {
			return nil, b.fail(ErrInvalid, "tensor %s: column %d is of group %d, but there are %d", t.Name, i, g, count)
		}
		index[i] = uint16(g)
		ordered = ordered && int(g) == i/size
	}
	if ordered {
		return nil, nil
	}
	return index, nil
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

// lay makes the codes, scales and zeros of a matrix whose source has another order, in blocks of ggml's where that loses nothing.
// codes fills rows of codes, scales fills (Rows, Count) of scales and of zeros.
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
	b.m.arena.chunks = append(b.m.arena.chunks, large, small)
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

// awqOrder is where in a word AWQ's gemm keeps output j of eight.
func awqOrder(j int) int { return [...]int{0, 4, 1, 5, 2, 6, 3, 7}[j] }

// awq reads qweight (in, out/8), qzeros (groups, out/8) and scales (groups, out). Source: AutoAWQ, utils/packing_utils.py.
func (b *builder) awq(p *packedModule) (*quant.Matrix, error) {
	q, err := b.part(p, ".qweight", 2, safetensors.I32)
	if err != nil {
		return nil, err
	}
	rows, cols, err := b.dims(q.Name, q.Shape[1]*8, q.Shape[0])
	if err != nil {
		return nil, err
	}
	s, err := b.part(p, ".scales", 2, floatTypes()...)
	if err != nil {
		return nil, err
	}
	z, err := b.part(p, ".qzeros", 2, safetensors.I32)
	if err != nil {
		return nil, err
	}
	size, count := grouping(b.scheme.number("group_size", b.scheme.number("q_group_size", -1)), cols)
	if s.Shape[0] != int64(count) || s.Shape[1] != int64(rows) || z.Shape[0] != int64(count) || z.Shape[1] != int64(rows/8) || cols%2 != 0 {
		return nil, b.fail(ErrInvalid, "tensors of %s: scales %v and qzeros %v do not go with qweight %v and group_size %d", p.name, s.Shape, z.Shape, q.Shape, size)
	}
	m := &quant.Matrix{Format: quant.Group4, Rows: rows, Cols: cols}
	m.Group = &quant.Group{Values: quant.IntegerValues(4), Size: size, Count: count, Span: 1, ScaleFormat: scaleFormat(s.DType)}
	nibble := func(data []byte, word, j int) byte {
		return byte(binary.LittleEndian.Uint32(data[4*word:])>>(4*awqOrder(j))) & 15
	}
	return m, b.lay(m, func(data []byte) {
		n := cols / 2
		each(rows/8, func(w int) {
			for c := 0; c < cols; c += 2 {
				for j := range 8 {
					data[(8*w+j)*n+c/2] = nibble(q.Data, c*rows/8+w, j) | nibble(q.Data, (c+1)*rows/8+w, j)<<4
				}
			}
		})
	}, func(scales, zeros []byte) {
		turn(scales, s.Data, count, rows, m.Group.ScaleFormat.Bytes())
		for r := range rows {
			for k := range count {
				zeros[r*count+k] = nibble(z.Data, k*rows/8+r/8, r%8)
			}
		}
	})
}

// hqq reads W_q, where groups of codes stand as rows and the upper half of the rows in the high nibbles, with scale and zero
// (groups, 1) in floats: w = (q - zero)·scale. Source: hqq, core/quantize.py.
func (b *builder) hqq(p *packedModule) (*quant.Matrix, error) {
	q, err := b.part(p, ".W_q", 2, safetensors.U8)
	if err != nil {
		return nil, err
	}
	shape, err := b.part(p, ".shape", 1, safetensors.I64, safetensors.I32)
	if err != nil {
		return nil, err
	}
	if shape.Shape[0] != 2 {
		return nil, b.fail(ErrInvalid, "tensor %s has %d values: want two", shape.Name, shape.Shape[0])
	}
	value := func(t *safetensors.Tensor, i int) int64 {
		if t.DType == safetensors.I64 {
			return int64(binary.LittleEndian.Uint64(t.Data[8*i:]))
		}
		return int64(int32(binary.LittleEndian.Uint32(t.Data[4*i:])))
	}
	rows, cols, err := b.dims(shape.Name, value(shape, 0), value(shape, 1))
	if err != nil {
		return nil, err
	}
	scalar := func(suffix string, def int64) int64 {
		t := p.parts[suffix]
		if t == nil || t.Elements() != 1 {
			return def
		}
		switch t.DType {
		case safetensors.I64, safetensors.I32:
			return value(t, 0)
		case safetensors.U8, safetensors.I8:
			return int64(t.Data[0])
		default:
			return def
		}
	}
	group := scalar(".group_size", int64(cols))
	switch {
	case scalar(".nbits", 4) != 4 || scalar(".axis", 1) != 1:
		return nil, b.fail(ErrUnsupported, "tensors of %s: HQQ with %d bits along axis %d; 4 bits along axis 1 are served: quantise the model so",
			p.name, scalar(".nbits", 4), scalar(".axis", 1))
	case scalar(".quant_scale", 0) != 0 || scalar(".quant_zero", 0) != 0 || scalar(".view_as_float", 0) != 0:
		return nil, b.fail(ErrUnsupported, "tensors of %s: HQQ with quantised scales or zeros; quantise the model without (quant_scale, quant_zero)", p.name)
	case group < 1 || int64(cols)%group != 0 || group%2 != 0:
		return nil, b.fail(ErrInvalid, "tensors of %s: groups of %d do not divide %d columns", p.name, group, cols)
	}
	count := cols / int(group)
	n := rows * count
	s, err := b.part(p, ".scale", 2, floatTypes()...)
	if err != nil {
		return nil, err
	}
	z, err := b.part(p, ".zero", 2, floatTypes()...)
	if err != nil {
		return nil, err
	}
	if n%2 != 0 || q.Shape[0] != int64(n/2) || q.Shape[1] != group || s.Elements() != int64(n) || z.Elements() != int64(n) {
		return nil, b.fail(ErrInvalid, "tensors of %s: W_q %v, scale %v and zero %v do not go with shape (%d, %d) in groups of %d", p.name, q.Shape, s.Shape, z.Shape, rows, cols, group)
	}
	m := &quant.Matrix{Format: quant.Group4, Rows: rows, Cols: cols}
	g := &quant.Group{Values: quant.IntegerValues(4), Size: int(group), Count: count, Span: 1, ScaleFormat: scaleFormat(s.DType), Scales: s.Data}
	m.Group = g
	format, _ := floatFormat(z.DType)
	if zeros, err := b.make(4*n, func(out []byte) {
		x := make([]float32, n)
		quant.Decode(format, x, z.Data)
		for i, v := range x {
			binary.LittleEndian.PutUint32(out[4*i:], math.Float32bits(v))
		}
	}); err != nil {
		return nil, err
	} else if g.ZerosF, err = b.floats(zeros); err != nil {
		return nil, err
	}
	if b.m.headersOnly {
		g.ZerosF = []float32{} // they count
	}
	m.Data, err = b.make(rows*cols/2, func(out []byte) {
		size := int(group)
		each(n, func(i int) {
			src, shift := q.Data[i%(n/2)*size:], 4
			if i >= n/2 {
				shift = 0
			}
			dst := out[i*size/2 : (i+1)*size/2]
			for j := range dst {
				dst[j] = src[2*j]>>shift&15 | src[2*j+1]>>shift&15<<4
			}
		})
	})
	return m, err
}

// int8 reads bitsandbytes' LLM.int8: weight (out, in) int8 and SCB (out): w = q·SCB/127.
func (b *builder) int8(p *packedModule) (*quant.Matrix, error) {
	q, err := b.part(p, ".weight", 2, safetensors.I8)
	if err != nil {
		return nil, err
	}
	s, err := b.part(p, ".SCB", 1, safetensors.F32)
	if err != nil {
		return nil, err
	}
	rows, cols, err := b.dims(q.Name, q.Shape[0], q.Shape[1])
	if err != nil {
		return nil, err
	}
	if s.Shape[0] != int64(rows) {
		return nil, b.fail(ErrInvalid, "tensor %s has %d values for %d rows", s.Name, s.Shape[0], rows)
	}
	if t := p.parts[".weight_format"]; t != nil && (t.Elements() != 1 || t.Data[0] != 0) {
		return nil, b.fail(ErrUnsupported, "tensor %s: a layout for one GPU; save the model with bitsandbytes 0.45 or later, which keeps rows", t.Name)
	}
	return &quant.Matrix{Format: quant.Group8, Rows: rows, Cols: cols, Data: q.Data, Group: &quant.Group{
		Values: quant.SignedValues(), Size: cols, Count: 1, Span: 1, Scales: s.Data, ScaleFormat: quant.ScaleF32, Over: 127,
	}}, nil
}

// fp8 reads weight (out, in) in E4M3 with a scale for each block, row or the whole.
func (b *builder) fp8(p *packedModule, suffix string) (*quant.Matrix, error) {
	q, err := b.part(p, ".weight", 2, safetensors.F8E4M3)
	if err != nil {
		return nil, err
	}
	rows, cols, err := b.dims(q.Name, q.Shape[0], q.Shape[1])
	if err != nil {
		return nil, err
	}
	s := p.parts[suffix]
	if s == nil || len(s.Shape) > 2 || !slices.Contains(floatTypes(), s.DType) {
		return nil, b.fail(ErrInvalid, "tensor %s is missing or has no floats in at most two dimensions", p.name+suffix)
	}
	g := &quant.Group{Values: quant.E4M3Values(), ScaleFormat: scaleFormat(s.DType), Scales: s.Data, Span: rows, Size: cols, Count: 1}
	down, across := int64(1), int64(1)
	if len(s.Shape) > 0 {
		down = s.Shape[0]
	}
	if len(s.Shape) > 1 {
		across = s.Shape[1]
	}
	block := [2]int{rows, cols}
	if list, ok := b.scheme.raw["weight_block_size"].([]any); ok && len(list) == 2 {
		for i := range list {
			if n, ok := list[i].(json.Number); ok {
				if v, err := n.Int64(); err == nil && v > 0 && v < 1<<20 {
					block[i] = int(v)
				}
			}
		}
	} else if down == int64(rows) {
		block[0] = 1
	}
	g.Span, g.Size = min(block[0], rows), min(block[1], cols)
	g.Count = (cols + g.Size - 1) / g.Size
	if down != int64((rows+g.Span-1)/g.Span) || across != int64(g.Count) {
		return nil, b.fail(ErrInvalid, "tensor %s has shape %v, which does not go with a weight of (%d, %d) in blocks of (%d, %d)", s.Name, s.Shape, rows, cols, block[0], block[1])
	}
	return &quant.Matrix{Format: quant.Group8, Rows: rows, Cols: cols, Data: q.Data, Group: g}, nil
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
		piece, ok := rowsOf(m, row, p.rows)
		if !ok || groups != 1 {
			return b.fail(ErrUnsupported, "tensor %s (%d, %d): its parts share scales or alternate; use a GGUF file of this model", b.say(name), m.Rows, m.Cols)
		}
		if err := add(p.name, piece); err != nil {
			return err
		}
		row += p.rows
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

// placeMXFP4 adds gpt-oss' experts: NAME_blocks (experts, rows, groups, 16), two E2M1 codes a byte, and NAME_scales (experts, rows,
// groups) in E8M0. They are (outputs, inputs), where the same matrices in floats are stored (inputs, outputs). Each becomes a matrix
// in ggml's MXFP4 blocks, which hold the same codes and scales in another order.
func (b *builder) placeMXFP4(p *packedModule) error {
	q, err := b.part(p, "_blocks", 4, safetensors.U8)
	if err != nil {
		return err
	}
	scales, err := b.part(p, "_scales", 3, safetensors.U8)
	if err != nil {
		return err
	}
	if q.Shape[3] != 16 || !slices.Equal(q.Shape[:3], scales.Shape) || q.Shape[0] > arch.MaxExperts {
		return b.fail(ErrInvalid, "tensors %s %v and %s %v do not go together: want (experts, rows, groups, 16) and (experts, rows, groups)", q.Name, q.Shape, scales.Name, scales.Shape)
	}
	rows, cols, err := b.dims(q.Name, q.Shape[1], q.Shape[2]*32)
	if err != nil {
		return err
	}
	to, ok := b.canonical(p.name)
	module, suffix := cutSuffix(to)
	pattern, numbers := arch.SplitNumbers(module)
	stack := b.m.Spec.StackOf(pattern)
	if !ok || stack == nil || len(numbers) == 0 {
		return b.fail(ErrUnsupported, "module %s is none that holds the experts of a %s model", p.name, b.m.Spec.Family)
	}
	n := rows / len(stack.Into)
	if n*len(stack.Into) != rows {
		return b.fail(ErrInvalid, "tensor %s has %d rows, which are no whole number for each of %d matrices", q.Name, rows, len(stack.Into))
	}
	if !b.m.headersOnly && slices.Contains(scales.Data, 255) {
		return b.fail(ErrInvalid, "tensor %s holds a scale that is no number (255)", scales.Name)
	}
	size := quant.MXFP4.RowBytes(cols)
	groups := cols / 32
	for e := range int(q.Shape[0]) {
		m := &quant.Matrix{Format: quant.Group4, Rows: rows, Cols: cols, Data: q.Data[e*rows*groups*16 : (e+1)*rows*groups*16], Group: &quant.Group{
			Values: quant.E2M1Values(), Size: 32, Count: groups, Span: 1, Scales: scales.Data[e*rows*groups : (e+1)*rows*groups], ScaleFormat: quant.ScaleE8M0,
		}}
		for i, into := range stack.Into {
			first, step := i*n, 1
			if stack.Alternating {
				first, step = i, len(stack.Into)
			}
			data, err := b.make(n*size, func(out []byte) {
				each(n, func(r int) { quant.PutBlocks(out[r*size:(r+1)*size], quant.MXFP4, m, first+r*step) })
			})
			if err != nil {
				return err
			}
			if err := b.matrix(arch.JoinNumbers(into, append(numbers[:1:1], strconv.Itoa(e)))+suffix, quant.MXFP4, n, cols, data); err != nil {
				return err
			}
		}
	}
	return nil
}
