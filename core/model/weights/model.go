// Package weights turns model files into one Model view: canonical tensor names and typed hyper-parameters,
// whatever the container (GGUF, Hugging Face folder) and the format (GGUF block formats, bitsandbytes).
//
// It must not know how a model computes. A Model is immutable after Open and may be read concurrently.
// Tensors are views of read-only mappings that live until Close.
package weights

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"edged/core/model/arch"
	"edged/core/model/arch/family"
	"edged/core/model/digest"
	"edged/core/model/mmap"
	"edged/quant"
)

// Errors that callers can act on.
var (
	// ErrUnsupported means that the files are sound, but of a kind that edged does not serve.
	ErrUnsupported = arch.ErrUnsupported
	// ErrInvalid means that the files are damaged or contradict each other.
	ErrInvalid = arch.ErrInvalid
	// ErrMismatch means that a draft model's vocabulary is another.
	ErrMismatch = errors.New("does not fit the model")
)

// Model is an open model. Tensor names are GGUF's: token_embd.weight, blk.N.attn_q.weight,
// blk.N.ffn_gate.weight, output.weight… Experts stand one by one as blk.N.ffn_gate.E.weight, fused
// projections (attn_qkv) are split into attn_q, attn_k and attn_v. Matrices are (outputs, inputs); the data
// of float formats is aligned to its element size.
type Model struct {
	Path string
	Name string
	Spec *arch.Spec // what it computes
	BOS  int32      // -1: none
	EOS  int32      // -1: none
	EOG  []int32    // end-of-generation ids that the file, config.json or generation_config.json name

	Generation arch.Generation // of an encoder-decoder

	family  *family.Family
	towers  []string
	drafts  bool
	notes   []string
	tensors map[string]arch.Tensor // of matrices and vectors

	matrices    map[string]*quant.Matrix
	vectors     map[string]*quant.Matrix // one row each
	files       []digest.File            // what Hash covers
	recoded     []string                 // what Requantize did, for Hash
	maps        []*mmap.Mapping          // of the files
	arena       *mmap.Arena              // what had to be laid out anew
	derived     int64                    // bytes that are, or without headersOnly would be, in the arena
	headersOnly bool
}

// Matrix finds a matrix by name, nil where the model has none. The output head of a tied model is its embedding, unless
// it was requantised.
func (m *Model) Matrix(name string) *quant.Matrix {
	if x := m.matrices[name]; x != nil {
		return x
	}
	if name == arch.HeadName && m.Spec.Head.Tied {
		return m.matrices[arch.EmbedName]
	}
	return nil
}

// Network is m.Spec, for who knows a model by an interface.
func (m *Model) Network() *arch.Spec { return m.Spec }

// Family says what the model's modules are called in a folder.
func (m *Model) Family() *family.Family { return m.family }

// Tensor says what a matrix or vector of the model is; the zero Tensor for one that it has not got.
func (m *Model) Tensor(name string) arch.Tensor { return m.tensors[name] }

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

// Towers are the parts of a folder's model that see or hear, of which nothing is loaded: "vision_tower".
func (m *Model) Towers() []string { return m.towers }

// Drafts reports whether the files hold layers that guess further tokens (multi-token prediction), of which
// nothing is loaded.
func (m *Model) Drafts() bool { return m.drafts }

// Notes says where the files contradict each other, and what counts.
func (m *Model) Notes() []string { return m.notes }

// Names lists all matrices and vectors that are stored, sorted. The head of a tied model is not among them.
func (m *Model) Names() []string {
	names := slices.AppendSeq(m.matrixNames(), maps.Keys(m.vectors))
	slices.Sort(names)
	return names
}

// Products lists the matrices that stand in matrix products, in order of their names: all but embeddings that
// are no output head.
func (m *Model) Products() []*quant.Matrix {
	var out []*quant.Matrix
	for _, name := range m.matrixNames() {
		switch w := m.matrices[name]; m.tensors[name].Role {
		case arch.Product, arch.Expert, arch.Routing, arch.HeadRole:
			out = append(out, w)
		case arch.Embedding:
			if m.Matrix(arch.HeadName) == w {
				out = append(out, w)
			}
		}
	}
	return out
}

func (m *Model) matrixNames() []string { return slices.Sorted(maps.Keys(m.matrices)) }

// addEOG adds an end-of-generation id once.
func (m *Model) addEOG(id int32) {
	if id >= 0 && !slices.Contains(m.EOG, id) {
		m.EOG = append(m.EOG, id)
	}
}

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
	return errors.Join(append(errs, m.arena.Close())...)
}
