// Package weights turns model files into one Model view: canonical tensor names and typed hyper-parameters, whatever the
// container (GGUF, Hugging Face folder) and the format (GGUF block formats, bitsandbytes). It opens adapters likewise.
//
// It must not know how a model computes. A Model is immutable after Open and may be read concurrently. Tensors are views
// of read-only mappings that live until Close.
package weights

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"edged/core/model/mmap"
	"edged/quant"
)

// Errors that callers can act on.
var (
	// ErrUnsupported means that the files are sound, but of a kind that edged does not serve.
	ErrUnsupported = errors.New("not supported")
	// ErrInvalid means that the files are damaged or contradict each other.
	ErrInvalid = errors.New("invalid file")
	// ErrMismatch means that an adapter belongs to another model.
	ErrMismatch = errors.New("does not fit the model")
)

// Hyper holds the hyper-parameters of a decoder. Fields that an architecture does not have are zero.
type Hyper struct {
	Layers      int
	Width       int // hidden size
	Heads       int
	KVHeads     int
	HeadDim     int
	FFN         int
	VocabRows   int // rows of the embedding matrix
	Context     int // trained context
	NormEps     float32
	RopeDim     int // rotated dimensions of a head; 0: no RoPE
	RopeTheta   float64
	RopeScaling RopeScaling
	Interleaved bool // q and k rows are stored for RoPE over adjacent pairs (GGUF llama family); else rotate-half
	Window      int  // sliding window, 0: none
	Experts     int
	ExpertsUsed int
	Tied        bool    // the output head is the embedding matrix
	BOS, EOS    int32   // -1: none
	EOG         []int32 // end-of-generation ids that config or generation_config name
}

// RopeScaling is a context extension method.
type RopeScaling struct {
	Kind        string // "", "linear", "llama3", "yarn"
	Factor      float64
	LowFreq     float64   // llama3
	HighFreq    float64   // llama3
	OrigContext int       // llama3, yarn
	AttnFactor  float64   // yarn; 0: computed
	BetaFast    float64   // yarn
	BetaSlow    float64   // yarn
	FreqFactors []float32 // GGUF rope_freqs.weight: divides the inverse frequencies; nil: none
}

// Model is an open model. Tensor names are GGUF's: token_embd.weight, blk.N.attn_q.weight, blk.N.ffn_gate.weight,
// output.weight… Experts stand one by one as blk.N.ffn_gate.E.weight, fused projections (GPT-2 attn_qkv) are split into
// attn_q, attn_k and attn_v. Matrices are (outputs, inputs); the data of float formats is aligned to its element size.
type Model struct {
	Path  string
	Arch  string // "llama", "mistral", "qwen2", "qwen3", "gpt2", "mixtral"
	Name  string
	Hyper Hyper

	matrices    map[string]*quant.Matrix
	vectors     map[string]*quant.Matrix // one row each
	files       []File                   // what Hash covers
	recoded     []string                 // what Requantize did, for Hash
	maps        []*mmap.Mapping          // of the files
	arena       *arena                   // what had to be laid out anew
	derived     int64                    // bytes that are, or without headersOnly would be, in the arena
	headersOnly bool
}

// Matrix finds a matrix by name, nil where the model has none. The output head of a tied model is its embedding, unless
// it was requantised.
func (m *Model) Matrix(name string) *quant.Matrix {
	if x := m.matrices[name]; x != nil {
		return x
	}
	if name == outputName && m.Hyper.Tied {
		return m.matrices[embedName]
	}
	return nil
}

// Vector returns a norm weight or a bias as float32, a new slice on each call; nil, nil where the model has none.
func (m *Model) Vector(name string) ([]float32, error) {
	x := m.vectors[name]
	if x == nil {
		return nil, nil
	}
	if x.Data == nil {
		return nil, fmt.Errorf("weights: %s: tensor %s: the model was opened for its headers only", m.Path, name)
	}
	out := make([]float32, x.Cols)
	quant.Row(out, x, 0)
	return out, nil
}

// Names lists all matrices and vectors that are stored, sorted. The head of a tied model is not among them.
func (m *Model) Names() []string {
	names := slices.AppendSeq(m.matrixNames(), maps.Keys(m.vectors))
	slices.Sort(names)
	return names
}

// Products lists the matrices that stand in matrix products, in order of their names: all but embeddings that are no output
// head.
func (m *Model) Products() []*quant.Matrix {
	var out []*quant.Matrix
	for _, name := range m.matrixNames() {
		w := m.matrices[name]
		if name == embedName && m.Matrix(outputName) != w || name == positionName {
			continue
		}
		out = append(out, w)
	}
	return out
}

func (m *Model) matrixNames() []string { return slices.Sorted(maps.Keys(m.matrices)) }

// Advise tells the system how the files are going to be read, for example mmap.WillNeed before the first token. It is a
// hint: its failure changes nothing but time.
func (m *Model) Advise(a mmap.Advice) error {
	var errs []error
	for _, f := range m.maps {
		errs = append(errs, f.Advise(a))
	}
	return errors.Join(errs...)
}

// Close unmaps everything; no Matrix of the model may be used afterwards. Later calls do nothing.
func (m *Model) Close() error {
	var errs []error
	for _, f := range m.maps {
		errs = append(errs, f.Close())
	}
	return errors.Join(append(errs, m.arena.close())...)
}

// Names of tensors that the code asks for.
const (
	embedName  = "token_embd.weight"
	outputName = "output.weight"
	// positionName is added to the embedding, not multiplied.
	positionName = "position_embd.weight"
)
