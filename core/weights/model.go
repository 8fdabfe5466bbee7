// Package weights turns model files into one Model view: canonical tensor names and typed hyper-parameters, whatever the
// container (GGUF, Hugging Face folder) and the format (GGUF block formats, bitsandbytes). It opens adapters likewise.
//
// It must not know how a model computes. A Model is immutable after Open and may be read concurrently. Tensors are views
// of read-only mappings that live until Close.
package weights

import "edged/quant"

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
	Tied        bool // the output head is the embedding matrix
	BOS, EOS    int32
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
// attn_q, attn_k and attn_v. Matrices are (outputs, inputs).
type Model struct {
	Path   string
	Arch   string // "llama", "mistral", "qwen2", "qwen3", "gpt2", "mixtral"
	Name   string
	Hyper  Hyper
	closer func() error

	matrices map[string]*quant.Matrix
}
