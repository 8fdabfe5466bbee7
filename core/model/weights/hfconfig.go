package weights

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"
)

// Names of the JSON files of a Hugging Face folder.
const (
	configName     = "config.json"
	generationName = "generation_config.json"
)

// maxConfig bounds config.json and its like; real ones have a few kilobytes.
const maxConfig = 1 << 20

// hfConfig holds the fields of config.json that decide what a model computes. Pointers tell absent (or null) from zero.
// Source: transformers, models/*/configuration_*.py.
type hfConfig struct {
	ModelType     string          `json:"model_type"`
	NameOrPath    string          `json:"_name_or_path"`
	HiddenSize    *int            `json:"hidden_size"`
	Layers        *int            `json:"num_hidden_layers"`
	Heads         *int            `json:"num_attention_heads"`
	KVHeads       *int            `json:"num_key_value_heads"`
	HeadDim       *int            `json:"head_dim"`
	FFN           *int            `json:"intermediate_size"`
	Vocab         *int            `json:"vocab_size"`
	Context       *int            `json:"max_position_embeddings"`
	Tie           *bool           `json:"tie_word_embeddings"`
	Act           string          `json:"hidden_act"`
	NormEps       *float64        `json:"rms_norm_eps"`
	RopeTheta     *float64        `json:"rope_theta"`
	RopeScaling   json.RawMessage `json:"rope_scaling"`
	RopeParams    json.RawMessage `json:"rope_parameters"`
	PartialRotary *float64        `json:"partial_rotary_factor"`
	AttentionBias bool            `json:"attention_bias"`
	MLPBias       bool            `json:"mlp_bias"`
	Window        *int            `json:"sliding_window"`
	UseWindow     *bool           `json:"use_sliding_window"`
	WindowLayers  *int            `json:"max_window_layers"`
	LayerTypes    []string        `json:"layer_types"`
	Experts       *int            `json:"num_local_experts"`
	ExpertsUsed   *int            `json:"num_experts_per_tok"`
	BOS           tokenIDs        `json:"bos_token_id"`
	EOS           tokenIDs        `json:"eos_token_id"`
	Quantization  *hfQuantization `json:"quantization_config"`

	// GPT-2's own names.
	GPTWidth       *int     `json:"n_embd"`
	GPTLayers      *int     `json:"n_layer"`
	GPTHeads       *int     `json:"n_head"`
	GPTInner       *int     `json:"n_inner"`
	GPTContext     *int     `json:"n_positions"`
	GPTAct         string   `json:"activation_function"`
	GPTNormEps     *float64 `json:"layer_norm_epsilon"`
	GPTScale       *bool    `json:"scale_attn_weights"`
	GPTInverse     bool     `json:"scale_attn_by_inverse_layer_idx"`
	CrossAttention bool     `json:"add_cross_attention"`
}

// hfQuantization says how a folder's linear layers are quantised.
type hfQuantization struct {
	Method   string `json:"quant_method"`
	Load8bit bool   `json:"load_in_8bit"`
	Load4bit bool   `json:"load_in_4bit"`
}

// tokenIDs is one id, a list of ids, or null.
type tokenIDs []int32

// UnmarshalJSON reads any of the three.
func (t *tokenIDs) UnmarshalJSON(b []byte) error {
	*t = nil
	b = bytes.TrimSpace(b)
	switch {
	case string(b) == "null":
		return nil
	case len(b) > 0 && b[0] == '[':
		return json.Unmarshal(b, (*[]int32)(t))
	default:
		*t = []int32{0}
		return json.Unmarshal(b, &(*t)[0])
	}
}

// readJSON reads a small JSON file into v.
func readJSON(path string, v any) error {
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("weights: %w", err)
	}
	if info.Size() > maxConfig {
		return fmt.Errorf("weights: %s: %w: %d bytes, more than the %d allowed", path, ErrInvalid, info.Size(), maxConfig)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("weights: %w", err)
	}
	if err := json.Unmarshal(data, v); err != nil {
		return fmt.Errorf("weights: %s: %w: %w", path, ErrInvalid, err)
	}
	return nil
}

// readConfig reads config.json (and generation_config.json where there is one) of dir into the hyper-parameters.
func (b *builder) readConfig(dir string) (*hfConfig, error) {
	c := &hfConfig{}
	if err := readJSON(filepath.Join(dir, configName), c); err != nil {
		return nil, err
	}
	b.m.Arch = c.ModelType
	b.m.Name = c.NameOrPath
	if b.m.Name == "" {
		abs, err := filepath.Abs(dir)
		if err != nil {
			return nil, fmt.Errorf("weights: %w", err)
		}
		b.m.Name = filepath.Base(abs)
	}
	if q := c.Quantization; q != nil && (q.Method != "bitsandbytes" && q.Method != "" || q.Load8bit) {
		method := q.Method
		if q.Load8bit {
			method = "bitsandbytes 8-bit"
		}
		return nil, b.fail(ErrUnsupported, "quantization_config: method %q; the supported one is bitsandbytes 4-bit (nf4, fp4)", method)
	}
	var err error
	switch c.ModelType {
	case "llama", "mistral", "qwen2", "qwen3", "mixtral":
		err = b.llamaConfig(c)
	case "gpt2":
		err = b.gpt2Config(c)
	case "":
		err = b.fail(ErrInvalid, "config.json has no model_type")
	default:
		err = b.unsupportedArch(c.ModelType)
	}
	if err != nil {
		return nil, err
	}
	return c, b.stopTokens(c, dir)
}

func (b *builder) stopTokens(c *hfConfig, dir string) error {
	h := &b.m.Hyper
	h.BOS, h.EOS = -1, -1
	if len(c.BOS) > 0 {
		h.BOS = c.BOS[0]
	}
	if len(c.EOS) > 0 {
		h.EOS = c.EOS[0]
	}
	var generation struct {
		EOS tokenIDs `json:"eos_token_id"`
	}
	err := readJSON(filepath.Join(dir, generationName), &generation)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, id := range append(c.EOS, generation.EOS...) {
		h.addEOG(id)
	}
	if h.EOS < 0 && len(h.EOG) > 0 {
		h.EOS = h.EOG[0]
	}
	return nil
}

// need takes a required field.
func need[T any](b *builder, errs *[]error, name string, v *T) T {
	if v == nil {
		var zero T
		*errs = append(*errs, b.fail(ErrInvalid, "config.json: %s is missing", name))
		return zero
	}
	return *v
}

func or[T any](v *T, def T) T {
	if v == nil {
		return def
	}
	return *v
}

func (b *builder) llamaConfig(c *hfConfig) error {
	h := &b.m.Hyper
	var errs []error
	h.Width = need(b, &errs, "hidden_size", c.HiddenSize)
	h.Layers = need(b, &errs, "num_hidden_layers", c.Layers)
	h.Heads = need(b, &errs, "num_attention_heads", c.Heads)
	h.FFN = need(b, &errs, "intermediate_size", c.FFN)
	h.Context = need(b, &errs, "max_position_embeddings", c.Context)
	h.NormEps = float32(need(b, &errs, "rms_norm_eps", c.NormEps))
	if len(errs) > 0 {
		return errs[0]
	}
	h.KVHeads = or(c.KVHeads, h.Heads)
	switch {
	case c.HeadDim != nil:
		h.HeadDim = *c.HeadDim
	case h.Heads > 0 && h.Width%h.Heads == 0:
		h.HeadDim = h.Width / h.Heads
	default:
		return b.fail(ErrInvalid, "config.json: hidden_size %d is no multiple of the %d attention heads, and head_dim is missing", h.Width, h.Heads)
	}
	h.Tied = or(c.Tie, false)
	if c.Act != "silu" && c.Act != "swish" && c.Act != "" {
		return b.fail(ErrUnsupported, "config.json: hidden_act %q with %s; the supported one is silu", c.Act, c.ModelType)
	}
	if c.ModelType == "mixtral" {
		h.Experts = or(c.Experts, 8)
		h.ExpertsUsed = or(c.ExpertsUsed, 2)
	}
	b.biases = biases{qkv: c.AttentionBias || c.ModelType == "qwen2", attnOut: c.AttentionBias && c.ModelType != "qwen2", mlp: c.MLPBias}
	if err := b.windowConfig(c); err != nil {
		return err
	}
	return b.ropeConfig(c)
}

// windowConfig reads the sliding window. It must hold for all layers or for none.
func (b *builder) windowConfig(c *hfConfig) error {
	h := &b.m.Hyper
	window := or(c.Window, 0)
	sliding := 0 // layers that have it
	switch c.ModelType {
	case "mistral", "mixtral":
		sliding = h.Layers
	case "qwen2", "qwen3":
		if or(c.UseWindow, false) {
			sliding = max(h.Layers-or(c.WindowLayers, h.Layers), 0)
		}
	default:
		return nil
	}
	if len(c.LayerTypes) > 0 {
		sliding = 0
		for _, t := range c.LayerTypes {
			switch t {
			case "sliding_attention":
				sliding++
			case "full_attention":
			default:
				return b.fail(ErrUnsupported, "config.json: layer_types has %q", t)
			}
		}
	}
	switch {
	case window == 0 || sliding == 0:
	case sliding == h.Layers:
		h.Window = window
	default:
		return b.fail(ErrUnsupported, "config.json: a sliding window in %d of %d layers; all or none are supported", sliding, h.Layers)
	}
	return nil
}

// hfRope holds rope_scaling, or rope_parameters as newer transformers write it. Source: modeling_rope_utils.py.
type hfRope struct {
	Type       string   `json:"rope_type"`
	OldType    string   `json:"type"`
	Theta      *float64 `json:"rope_theta"`
	Partial    *float64 `json:"partial_rotary_factor"`
	Factor     *float64 `json:"factor"`
	Low        *float64 `json:"low_freq_factor"`
	High       *float64 `json:"high_freq_factor"`
	Original   *float64 `json:"original_max_position_embeddings"` // a float in some files
	Attention  *float64 `json:"attention_factor"`
	BetaFast   *float64 `json:"beta_fast"`
	BetaSlow   *float64 `json:"beta_slow"`
	MScale     *float64 `json:"mscale"`
	MScaleAll  *float64 `json:"mscale_all_dim"`
	Truncate   *bool    `json:"truncate"`
	FullLayers any      `json:"full_attention"` // set where each kind of layer has its own
	SWALayers  any      `json:"sliding_attention"`
}

func (b *builder) ropeConfig(c *hfConfig) error {
	h := &b.m.Hyper
	field, raw := "rope_scaling", c.RopeScaling
	if len(c.RopeParams) > 0 && !strings.EqualFold(string(c.RopeParams), "null") {
		field, raw = "rope_parameters", c.RopeParams
	}
	var r hfRope
	if len(raw) > 0 {
		if err := json.Unmarshal(raw, &r); err != nil {
			return b.fail(ErrInvalid, "config.json: %s: %v", field, err)
		}
	}
	if r.FullLayers != nil || r.SWALayers != nil {
		return b.fail(ErrUnsupported, "config.json: %s: settings of their own for each kind of layer", field)
	}
	h.RopeTheta = or(r.Theta, or(c.RopeTheta, defaultTheta(c.ModelType)))
	partial := or(r.Partial, or(c.PartialRotary, 1))
	if !(partial > 0 && partial <= 1) {
		return b.fail(ErrInvalid, "config.json: partial_rotary_factor is %g: want a part of 1", partial)
	}
	h.RopeDim = int(float64(h.HeadDim) * partial)
	kind := r.Type
	if kind == "" {
		kind = r.OldType
	}
	s := &h.RopeScaling
	original := float64(h.Context)
	if r.Original != nil {
		original = *r.Original
	}
	if !(original >= 1 && original <= maxContext) {
		return b.fail(ErrInvalid, "config.json: %s: original_max_position_embeddings is %g", field, original)
	}
	switch kind {
	case "", "default":
		return nil
	case "linear":
	case "llama3":
		s.LowFreq, s.HighFreq = or(r.Low, 0), or(r.High, 0)
		s.OrigContext = int(original)
	case "yarn":
		if !or(r.Truncate, true) || r.MScale != nil || r.MScaleAll != nil {
			return b.fail(ErrUnsupported, "config.json: %s: yarn with truncate, mscale or mscale_all_dim", field)
		}
		s.BetaFast, s.BetaSlow = or(r.BetaFast, 32), or(r.BetaSlow, 1)
		s.AttnFactor = or(r.Attention, 0)
		s.OrigContext = int(original)
	default:
		return b.fail(ErrUnsupported, "config.json: %s: type %q; the supported ones are linear, llama3 and yarn", field, kind)
	}
	s.Kind = kind
	if r.Factor == nil {
		return b.fail(ErrInvalid, "config.json: %s: factor is missing", field)
	}
	s.Factor = *r.Factor
	if kind == "yarn" && r.Original != nil {
		// Models that leave the extension to whoever wants it (Qwen2.5) still declare their original length.
		h.Context = int(math.Min(maxContext, math.Max(float64(h.Context), original*s.Factor)))
	}
	return nil
}

// defaultTheta is transformers' default RoPE base.
func defaultTheta(modelType string) float64 {
	if modelType == "mixtral" {
		return 1e6
	}
	return 1e4
}

func (b *builder) gpt2Config(c *hfConfig) error {
	h := &b.m.Hyper
	var errs []error
	h.Width = need(b, &errs, "n_embd", c.GPTWidth)
	h.Layers = need(b, &errs, "n_layer", c.GPTLayers)
	h.Heads = need(b, &errs, "n_head", c.GPTHeads)
	h.Context = need(b, &errs, "n_positions", c.GPTContext)
	if len(errs) > 0 {
		return errs[0]
	}
	if h.Heads < 1 || h.Width%h.Heads != 0 {
		return b.fail(ErrInvalid, "config.json: n_embd %d is no multiple of n_head %d", h.Width, h.Heads)
	}
	h.KVHeads = h.Heads
	h.HeadDim = h.Width / h.Heads
	if h.Width <= maxWidth {
		h.FFN = or(c.GPTInner, 4*h.Width)
	}
	h.NormEps = float32(or(c.GPTNormEps, 1e-5))
	h.Tied = or(c.Tie, true)
	b.biases = biases{true, true, true}
	switch c.GPTAct {
	case "gelu_new", "gelu_pytorch_tanh", "":
	default:
		return b.fail(ErrUnsupported, "config.json: activation_function %q; the supported one is gelu_new", c.GPTAct)
	}
	if !or(c.GPTScale, true) || c.GPTInverse || c.CrossAttention {
		return b.fail(ErrUnsupported, "config.json: scale_attn_weights false, scale_attn_by_inverse_layer_idx or add_cross_attention")
	}
	return nil
}
