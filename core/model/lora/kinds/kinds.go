// Package kinds makes changes of matrices of the tensors that PEFT saves of its kinds of adapters beside
// LoRA: one peft_type is one entry of a table. A change of a matrix W (out, in) is W + Δ, with a Δ of low
// rank or, where it has none, a dense one, so that everything after reading knows one kind of change. Source
// of the formulas: huggingface/peft 0.21, src/peft/tuners/KIND/layer.py.
//
// It must not know a model: what depends on the matrix that is changed waits in a Change until that is known.
// A Reader is used by one goroutine.
package kinds

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"edged/core/model/arch"
	"edged/core/model/safetensors"
	"edged/quant"
)

// MaxRank bounds the rank of an adapter: published ones go to 512.
const MaxRank = 1 << 10

// Options holds the settings of the kinds in adapter_config.json, by their names there.
type Options struct {
	InitRank     float64         `json:"init_r"`       // AdaLoRA
	TopK         float64         `json:"topk"`         // VB-LoRA
	InitWeights  json.RawMessage `json:"init_weights"` // MiSS: its form
	GramSchmidt  bool            `json:"apply_GS"`     // HRA
	COFT         bool            `json:"coft"`         // OFT
	Epsilon      float64         `json:"eps"`          // OFT
	BlockShare   bool            `json:"block_share"`  // OFT
	Neumann      *bool           `json:"use_cayley_neumann"`
	NeumannTerms *float64        `json:"num_cayley_neumann_terms"`
	Seed         int64           `json:"projection_prng_key"` // VeRA, RandLoRA
	RandAlpha    float64         `json:"randlora_alpha"`
	Sparse       bool            `json:"sparse"`      // RandLoRA
	VerySparse   bool            `json:"very_sparse"` // RandLoRA
	Places       int64           `json:"random_loc_seed"`
	Scaling      *float64        `json:"scaling"` // FourierFT, WaveFT
	Wavelet      string          `json:"wavelet_family"`
	Variant      string          `json:"variant"`    // RoAd
	GroupSize    int             `json:"group_size"` // RoAd
	Inverse      *bool           `json:"use_idwt"`   // WaveFT

	Decomposition string   `json:"decomposition_method"` // DEFT
	PaRa          bool     `json:"para"`                 // DEFT
	Alpha         *float64 `json:"-"`                    // DEFT: alpha, where it is set
	Activation    string   `json:"act_fn"`               // PEANuT
	Depth         int      `json:"depth"`                // PEANuT
	Sample        bool     `json:"sample_at_inference"`  // PVeRA
	Tying         float64  `json:"weight_tying"`         // TinyLoRA
}

// Defaults returns PEFT's values for settings that the configuration omits.
func Defaults() Options {
	return Options{
		InitRank:      12,
		TopK:          2,
		Epsilon:       6e-5,
		RandAlpha:     640,
		Places:        777,
		Variant:       "road_1",
		GroupSize:     64,
		Decomposition: "relu",
		Activation:    "relu",
	}
}

// A Module is one module of an adapter: its tensors by part, and what the configuration gives it.
type Module struct {
	Name    string // Hugging Face's, without prefix
	Tensors map[string]*safetensors.Tensor
	Alpha   float64 // lora_alpha; of KaSA and PiSSA what alpha_pattern says
	Rank    float64 // of LoHa, LoKr, KaSA and PiSSA: r, or what rank_pattern says
	Lycoris float64 // of LoHa, LoKr and GraLoRA: alpha, or what alpha_pattern says

	Stabilised bool // KaSA, PiSSA: use_rslora
}

// Size is that of a matrix: rows, and columns.
type Size struct{ Out, In int }

// Shape is that of a factor; 0: what the matrix has that is changed.
type Shape struct{ Rows, Cols int }

// A Change is what one module does to a matrix W (out, in), as far as it can be said without W: y = W·x +
// Scale·B·(A·x), with A (r, in) and B (out, r), or of no low rank y = W·x + Scale·B·x, with B (out, in).
type Change struct {
	A, B  Shape
	Scale float64
	Gain  *safetensors.Tensor // (out), what W's bias is multiplied by; nil: it stays

	Dense  bool // B is all of Δ (out, in), and there is no A
	ByRow  bool // Times depends on the row
	Whole  int  // the columns of W must be a multiple of it; 0: any
	Blocks int  // the rows of W must be a multiple of it; 0: any

	Fits   func(out, in int) error         // nil: the fields above say all
	Derive func(a, b []float32, in int)    // fills both factors, or A alone where Times is set; nil: nothing to fill
	Times  func(row int, w, dst []float32) // makes a row of B of a row of W; nil: Derive does
	// Instead of Times: each row is made of two of W, that of the same number and that of its partner.
	Partner func(row int) int
	Paired  func(row int, w, other, dst []float32)

	// See is given each row of W once, in any order, before Derive; Check may then refuse what Derive cannot
	// make of them. With Minus B holds -W when Derive is called.
	See   func(row int, w []float32)
	Check func() error
	Minus bool
	Exact bool // of matrices that are not quantised alone: of others PEFT quantises anew what is left

	// Bias is added to an output beside Δ, made of the row of W and of W's bias there, 0 where it has
	// none. With BiasOfBias nothing is added where W has no bias.
	Bias       func(row int, w []float32, own float32) float32
	BiasOfBias bool
}

// A kind is one peft_type.
type kind struct {
	parts  []string // last words of tensor names, without .weight
	shared []string // tensors of all modules, behind base_model.; one that ends in a dot goes on as it likes
	build  func(r *Reader, module string) (*Change, error)
}

// Forms of LoRA that change the base too, which their configuration tells: no peft_types of their own.
const (
	KaSA  = "KASA"
	PiSSA = "PISSA"
)

// gloraParts are the tensors of GLoRA's five paths.
func gloraParts() []string {
	var out []string
	for _, p := range "ABCDE" {
		for _, part := range []string{".Xd", ".Xu", ".X", ".zeros"} {
			out = append(out, "glora_"+string(p)+part)
		}
	}
	return out
}

// maxDepth bounds PEANuT's encoders: published ones have up to four.
const maxDepth = 16

func peanutParts() []string {
	out := []string{"peanut_A", "peanut_B"}
	for i := range maxDepth {
		out = append(out, "peanut_encoders."+number(i), "peanut_decoders."+number(i))
	}
	return out
}

// Names lists the peft_types that are read, sorted.
func Names() []string {
	names := slices.Sorted(maps.Keys(table()))
	return slices.DeleteFunc(names, func(s string) bool { return s == KaSA || s == PiSSA })
}

// Has tells whether a peft_type is one of them.
func Has(peftType string) bool {
	_, ok := table()[peftType]
	return ok
}

func table() map[string]kind {
	return map[string]kind{
		"ADALORA": {parts: []string{"lora_A", "lora_B", "lora_E"}, build: (*Reader).adalora},
		"LOHA":    {parts: []string{"hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"}, build: (*Reader).loha},
		"LOKR":    {parts: []string{"lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b"}, build: (*Reader).lokr},
		"VERA":    {parts: []string{"vera_lambda_b", "vera_lambda_d"}, shared: []string{"vera_A", "vera_B"}, build: (*Reader).vera},
		"VBLORA": {
			parts: []string{
				"vblora_logits_A", "vblora_logits_B", "vblora_logits_A_topk_indices", "vblora_logits_A_topk_weights",
				"vblora_logits_B_topk_indices", "vblora_logits_B_topk_weights",
			},
			shared: []string{"vblora_vector_bank"}, build: (*Reader).vblora,
		},
		"RANDLORA": {
			parts: []string{
				"randlora_lambda",
				"randlora_gamma",
				"randlora_A",
				"randlora_B",
			},
			shared: []string{"randlora_A", "randlora_B"},
			build:  (*Reader).randlora,
		},
		"ROAD":      {parts: []string{"road_theta", "road_alpha"}, build: (*Reader).road},
		"FOURIERFT": {parts: []string{"fourierft_spectrum"}, build: (*Reader).fourierft},
		"WAVEFT":    {parts: []string{"waveft_spectrum"}, build: (*Reader).waveft},
		"MISS":      {parts: []string{"miss_block"}, build: (*Reader).miss},
		"HRA":       {parts: []string{"hra_u"}, build: (*Reader).hra},
		"C3A":       {parts: []string{"c3a_kernel"}, build: (*Reader).c3a},
		"OFT":       {parts: []string{"oft_R"}, build: (*Reader).oft},
		"IA3":       {parts: []string{"ia3_l"}, build: (*Reader).ia3},
		"BOFT":      {parts: []string{"boft_R", "boft_s"}, build: (*Reader).boft},

		"SHIRA":   {parts: []string{"shira_weight", "shira_indices"}, build: (*Reader).shira},
		"BEFT":    {parts: []string{"beft_bias"}, build: (*Reader).beft},
		"DEFT":    {parts: []string{"deft_P", "deft_R"}, build: (*Reader).deft},
		"DELORA":  {parts: []string{"delora_A", "delora_B", "delora_lambda", "delora_w_norm"}, build: (*Reader).delora},
		"GLORA":   {parts: gloraParts(), build: (*Reader).glora},
		"GRALORA": {parts: []string{"gralora_A", "gralora_B", "gralora_A_general", "gralora_B_general"}, build: (*Reader).gralora},
		"HIRA":    {parts: []string{"hira_A", "hira_B"}, build: (*Reader).hira},
		"OSF":     {parts: []string{"osf_svd_params.U_low", "osf_svd_params.S_low", "osf_svd_params.V_low"}, build: (*Reader).osf},
		"PEANUT":  {parts: peanutParts(), build: (*Reader).peanut},
		"PVERA":   {parts: []string{"pvera_lambda_b", "pvera_lambda_d"}, shared: []string{"pvera_A", "pvera_B"}, build: (*Reader).pvera},
		"FROD": {
			parts:  []string{"frod_lambda_l", "frod_lambda_s_values"},
			shared: []string{"frod_V.", "frod_s_indices.", "frod_s_size."}, build: (*Reader).frod,
		},
		"SUPERTUNING": {
			parts: []string{
				"supertuning_values",
				"supertuning_indices",
				"supertuning_lora_A",
				"supertuning_lora_B",
			},
			build: (*Reader).supertuning,
		},
		"TINYLORA": {parts: []string{"tinylora_A", "tinylora_B", "tinylora_P"}, shared: []string{"tinylora_v."}, build: (*Reader).tinylora},
		"UNILORA": {
			parts:  []string{"unilora_indices_A", "unilora_indices_B", "unilora_scales_A", "unilora_scales_B"},
			shared: []string{"unilora_theta_d"}, build: (*Reader).unilora,
		},
		KaSA:  {parts: []string{"lora_A", "lora_B", "lora_diag"}, build: (*Reader).kasa},
		PiSSA: {parts: []string{"lora_A", "lora_B"}, build: (*Reader).pissa},
	}
}

// A Reader reads the modules of one adapter.
type Reader struct {
	Modules []string // names of all modules of the adapter, where they count

	path    string // of the adapter, for messages
	o       Options
	kind    kind
	largest *Size
	shared  map[string]*safetensors.Tensor

	// Of the module that is being read.
	t     map[string]*safetensors.Tensor
	of    Module
	drawn *projections // nil: none wanted yet
}

// NewReader reads a peft_type. largest is to hold the largest sizes of the matrices that the adapter changes
// before a Change is asked whether it fits one: projections that all share are drawn as large.
func NewReader(path, peftType string, o Options, largest *Size) *Reader {
	return &Reader{path: path, o: o, kind: table()[peftType], largest: largest, shared: map[string]*safetensors.Tensor{}}
}

// NewParts reads tensors of modules by Tensor alone: parts are the last words of their names.
func NewParts(path string, parts ...string) *Reader {
	return &Reader{path: path, kind: kind{parts: parts}, shared: map[string]*safetensors.Tensor{}}
}

func (r *Reader) fail(kind error, format string, args ...any) error {
	return fmt.Errorf("lora: %s: %w: %s", r.path, kind, fmt.Sprintf(format, args...))
}

// Share takes a tensor that is of all modules, and reports whether its part is new.
func (r *Reader) Share(part string, t *safetensors.Tensor) bool {
	if r.shared[part] != nil {
		return false
	}
	r.shared[part] = t
	return true
}

// Build reads a module; nil where all its ranks were taken away.
func (r *Reader) Build(m Module) (*Change, error) {
	r.t, r.of = m.Tensors, m
	if a := m.Tensors["lora_A"]; a != nil && a.Elements() == 0 {
		return nil, nil
	}
	c, err := r.kind.build(r, m.Name)
	if err != nil {
		return nil, err
	}
	if !c.Dense && c.B.Cols > MaxRank {
		return nil, r.fail(
			arch.ErrUnsupported,
			"module %s: as a change of low rank it has rank %d, more than the %d allowed",
			m.Name,
			c.B.Cols,
			MaxRank,
		)
	}
	return c, nil
}

// Split takes a tensor's name apart: module and part; no module where it is shared by all; no part where it is unknown.
func (r *Reader) Split(name string) (module, part string) {
	for _, suffix := range []string{".default.weight", ".default", ".weight"} {
		if s, ok := strings.CutSuffix(name, suffix); ok {
			name = s
			break
		}
	}
	rest, ok := strings.CutPrefix(name, "base_model.")
	if !ok {
		return "", ""
	}
	for _, s := range r.kind.shared {
		if rest == s || strings.HasSuffix(s, ".") && strings.HasPrefix(rest, s) {
			return "", rest
		}
	}
	rest, ok = strings.CutPrefix(rest, "model.")
	if !ok {
		return "", ""
	}
	for _, p := range r.kind.parts {
		if m, is := strings.CutSuffix(rest, "."+p); is && m != "" {
			return m, p
		}
	}
	return "", ""
}

// Tensor reads a tensor of one of a module's parts, of so many dimensions: its values and its shape.
func (r *Reader) Tensor(m Module, part string, dims int) ([]float32, []int, error) {
	r.t, r.of = m.Tensors, m
	return r.tensor(m.Name, part, dims)
}

// tensor reads a tensor of the module, or a shared one, of so many dimensions.
func (r *Reader) tensor(module, part string, dims int) ([]float32, []int, error) {
	t := r.t[part]
	if t == nil {
		t = r.shared[part]
	}
	if t == nil {
		return nil, nil, r.fail(arch.ErrInvalid, "module %s has no %s: the file is incomplete; save the adapter anew", module, part)
	}
	format, ok := FloatFormat(t.DType)
	if !ok {
		return nil, nil, r.fail(arch.ErrUnsupported, "tensor %s has type %v; the served ones are F32, F16 and BF16", t.Name, t.DType)
	}
	shape := make([]int, len(t.Shape))
	for i, d := range t.Shape {
		if d < 1 || d > math.MaxInt32 {
			return nil, nil, r.fail(arch.ErrInvalid, "tensor %s has shape %v", t.Name, t.Shape)
		}
		shape[i] = int(d)
	}
	if len(shape) != dims {
		return nil, nil, r.fail(arch.ErrInvalid, "tensor %s has shape %v: want %d dimensions", t.Name, t.Shape, dims)
	}
	x := make([]float32, t.Elements())
	quant.Decode(format, x, t.Data)
	for i, v := range x {
		if v-v != 0 {
			return nil, nil, r.fail(arch.ErrInvalid, "tensor %s: value %d is %v", t.Name, i, v)
		}
	}
	return x, shape, nil
}

// ia3 multiplies what comes out of a layer, (out, 1), or goes into it, (1, in), by a vector (Liu et al. 2022).
func (r *Reader) ia3(module string) (*Change, error) {
	m, err := r.matrix(module, "ia3_l")
	if err != nil {
		return nil, err
	}
	if m.rows == 1 {
		return &Change{
			A: Shape{Cols: m.cols}, Scale: 1,
			Dense: true,
			Times: func(_ int, w, dst []float32) {
				for i, v := range w {
					dst[i] = v * (m.x[i] - 1)
				}
			},
		}, nil
	}
	if m.cols != 1 {
		return nil, r.fail(arch.ErrInvalid, "module %s: ia3_l is (%d, %d): want one row or one column", module, m.rows, m.cols)
	}
	return &Change{
		B: Shape{Rows: m.rows}, Scale: 1,
		Gain:  r.t["ia3_l"],
		Dense: true, ByRow: true,
		Times: func(row int, w, dst []float32) {
			for i, v := range w {
				dst[i] = v * (m.x[row] - 1)
			}
		},
	}, nil
}

// FloatFormat is the format of a type of floats; false: it is none.
func FloatFormat(d safetensors.DType) (quant.Format, bool) {
	switch d {
	case safetensors.F32:
		return quant.F32, true
	case safetensors.F16:
		return quant.F16, true
	case safetensors.BF16:
		return quant.BF16, true
	default:
		return quant.FormatInvalid, false
	}
}
