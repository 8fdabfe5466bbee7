package transformer

import (
	"fmt"

	"edged/core/infer/sample"
	"edged/core/model/weights"
	"edged/quant"
	"edged/quant/kernel"
)

// block is one piece of a network: it reads the residual stream of the current batch (step.x) and leaves what is to be
// added to it in step.d.
type block interface {
	forward(s *step)
}

// network is a model as its architecture file assembles it.
type network struct {
	embed     *quant.Matrix // (VocabRows, Width)
	positions *quant.Matrix // (positions, Width), learned; nil where positions are rotated
	blocks    []block
	norm      norm           // before the head
	head      linear         // (VocabRows, Width)
	linears   []linear       // all of them, by id
	ids       map[string]int // by GGUF name of the weight
	info      Info
}

// build assembles the network of an architecture. To add one: write the file that lists its blocks (and the block that
// it has alone), name it here and in package weights, which knows its tensors and hyper-parameters.
func build(src source, arch string, h *weights.Hyper, k kernel.Kernels) (network, error) {
	b := &builder{src: src, h: h, k: k, net: network{ids: map[string]int{}}}
	switch arch {
	case "llama":
		llama(b)
	case "mistral":
		mistral(b)
	case "mixtral":
		mixtral(b)
	case "qwen2":
		qwen2(b)
	case "qwen3":
		qwen3(b)
	case "gpt2":
		gpt2(b)
	default:
		return network{}, fmt.Errorf("architecture %q is not supported: gpt2, llama, mistral, mixtral, qwen2 and qwen3 are", arch)
	}
	return b.finish()
}

// builder binds tensors by name and proves their shapes. The first thing that is wrong is kept; what follows is bound
// to nothing and never run.
type builder struct {
	src     source
	h       *weights.Hyper
	k       kernel.Kernels
	net     network
	attn    int // attention blocks so far
	last    *attention
	formats map[quant.Format]int64
	err     error
}

func (b *builder) fail(format string, args ...any) {
	if b.err == nil {
		b.err = fmt.Errorf(format, args...)
	}
}

// matrix binds the matrix name, (rows, cols), which must exist.
func (b *builder) matrix(name string, rows, cols int) *quant.Matrix {
	m := b.src.Matrix(name)
	switch {
	case m == nil:
		b.fail("tensor %s: missing", name)
		return &quant.Matrix{Name: name}
	case m.Rows != rows || m.Cols != cols:
		b.fail("tensor %s: shape (%d, %d): the model's dimensions ask for (%d, %d)", name, m.Rows, m.Cols, rows, cols)
	}
	b.net.info.Parameters += int64(m.Rows) * int64(m.Cols)
	return m
}

// vector binds the vector name of n values, or returns nil where it is absent.
func (b *builder) vector(name string, n int) []float32 {
	v, err := b.src.Vector(name)
	switch {
	case err != nil:
		b.fail("tensor %s: %w", name, err)
	case v != nil && len(v) != n:
		b.fail("tensor %s: %d values: the model's dimensions ask for %d", name, len(v), n)
	}
	b.net.info.Parameters += int64(len(v))
	return v
}

// required is vector for one that must exist.
func (b *builder) required(name string, n int) []float32 {
	v := b.vector(name, n)
	if v == nil {
		b.fail("tensor %s: missing", name)
	}
	return v
}

// name is the GGUF name of a tensor of a layer, without ".weight" or ".bias".
func layerName(layer int, part string) string { return fmt.Sprintf("blk.%d.%s", layer, part) }

// linear binds name.weight (out, in), and name.bias where there is one.
func (b *builder) linear(name string, out, in int) linear {
	return b.newLinear(name, b.matrix(name+".weight", out, in), b.vector(name+".bias", out))
}

// biased is linear for an architecture whose definition has the bias.
func (b *builder) biased(name string, out, in int) linear {
	l := b.linear(name, out, in)
	if l.bias == nil {
		b.fail("tensor %s.bias: missing", name)
	}
	return l
}

func (b *builder) newLinear(name string, w *quant.Matrix, bias []float32) linear {
	l := linear{name: name + ".weight", id: len(b.net.linears), w: w, bias: bias, multiple: 1}
	b.net.ids[l.name] = l.id
	if b.err == nil {
		l.multiple = max(b.k.RowMultiple(w), 1)
	}
	b.net.linears = append(b.net.linears, l)
	return l
}

// weigh notes that a token reads part/of of a linear layer.
func (b *builder) weigh(l *linear, part, of int) {
	bytes := matrixBytes(l.w)
	b.net.info.WeightBytes += bytes * int64(part) / int64(max(of, 1))
	if b.formats == nil {
		b.formats = map[quant.Format]int64{}
	}
	b.formats[l.w.Format] += bytes
}

// rms binds an RMSNorm over the model's width.
func (b *builder) rms(name string) norm {
	return norm{w: b.required(name+".weight", b.h.Width), eps: b.h.NormEps}
}

// layerNorm binds a LayerNorm over the model's width.
func (b *builder) layerNorm(name string) norm {
	return norm{w: b.required(name+".weight", b.h.Width), b: b.vector(name+".bias", b.h.Width), eps: b.h.NormEps, centred: true}
}

// add appends a block.
func (b *builder) add(x block) { b.net.blocks = append(b.net.blocks, x) }

// embedding binds the token embedding.
func (b *builder) embedding() { b.net.embed = b.matrix("token_embd.weight", b.h.VocabRows, b.h.Width) }

// output binds the final norm and the head, which is the embedding where the model ties them.
func (b *builder) output(n norm) {
	b.net.norm = n
	b.net.head = b.linear("output", b.h.VocabRows, b.h.Width)
	b.net.head.multiple = lcm(b.net.head.multiple, sample.PeakLen) // a peak is found by one thread
	if b.h.Tied {
		b.net.info.Parameters -= int64(b.h.VocabRows) * int64(b.h.Width)
	}
}

// finish closes the network; weights has proved that no tensor was left out.
func (b *builder) finish() (network, error) {
	if b.err != nil {
		return network{}, b.err
	}
	b.last.last = true
	var most int64
	for f, n := range b.formats {
		if n > most || n == most && f < b.net.info.Format {
			most, b.net.info.Format = n, f
		}
	}
	b.net.info.HeadBytes = matrixBytes(b.net.head.w)
	b.net.info.WeightBytes += b.net.info.HeadBytes
	return b.net, nil
}

// matrixBytes is the number of bytes that a product with m reads.
func matrixBytes(m *quant.Matrix) int64 {
	var n int64
	for _, p := range weightBytes(m) {
		n += int64(len(p))
	}
	return n
}
