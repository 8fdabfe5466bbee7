package quantize

import (
	"fmt"
	"regexp"
	"strings"

	"edged/core/model/gguf"
	"edged/quant"
)

// A Mixture says which tensor gets which type. The names and rules are llama-quantize's (src/llama-quant.cpp
// of llama.cpp 0.5.0-dev): what is cheap or sensitive gets more bits than the type that gives the mixture its
// name.
type Mixture struct {
	Name     string
	FileType uint32 // llama.cpp's number, general.file_type
	Main     quant.Format
}

// mixtures lists what can be asked for, in llama.cpp's words.
//
//nolint:gochecknoglobals // a table
var mixtures = [...]Mixture{
	{"F32", 0, quant.F32},
	{"F16", 1, quant.F16},
	{"BF16", 32, quant.BF16},
	{"Q8_0", 7, quant.Q8_0},
	{"Q6_K", 18, quant.Q6_K},
	{"Q5_K_M", 17, quant.Q5_K},
	{"Q5_K_S", 16, quant.Q5_K},
	{"Q5_1", 9, quant.Q5_1},
	{"Q5_0", 8, quant.Q5_0},
	{"Q4_K_M", 15, quant.Q4_K},
	{"Q4_K_S", 14, quant.Q4_K},
	{"Q4_1", 3, quant.Q4_1},
	{"Q4_0", 2, quant.Q4_0},
	{"IQ4_NL", 25, quant.IQ4_NL},
	{"IQ4_XS", 30, quant.IQ4_XS},
	{"MXFP4_MOE", 38, quant.MXFP4},
	{"NVFP4", 39, quant.NVFP4},
	{"Q3_K_L", 13, quant.Q3_K},
	{"Q3_K_M", 12, quant.Q3_K},
	{"Q3_K_S", 11, quant.Q3_K},
	{"Q2_K", 10, quant.Q2_K},
	{"Q2_K_S", 21, quant.Q2_K},
	{"TQ2_0", 37, quant.TQ2_0},
	{"TQ1_0", 36, quant.TQ1_0},
	{"Q2_0", 41, quant.Q2_0},
	{"Q1_0", 40, quant.Q1_0},
}

// ParseMixture finds a mixture by its name in any case; Q3_K, Q4_K and Q5_K are their M mixtures.
func ParseMixture(name string) (Mixture, error) {
	upper := strings.ToUpper(name)
	switch upper {
	case "Q3_K", "Q4_K", "Q5_K":
		upper += "_M"
	case "MXFP4":
		upper = "MXFP4_MOE"
	}
	for _, m := range mixtures {
		if m.Name == upper {
			return m, nil
		}
	}
	return Mixture{}, fmt.Errorf("quantize: type %q: %w: it is none of %s", name, ErrUnsupported, MixtureNames())
}

// MixtureNames lists the mixtures, for messages.
func MixtureNames() string {
	names := make([]string, len(mixtures))
	for i, m := range mixtures {
		names[i] = m.Name
	}
	return strings.Join(names, ", ")
}

// Overrides makes Options.Override of a list of PATTERN=TYPE: the first regular expression that a name
// matches counts. It is nil for an empty list.
func Overrides(list []string) (func(name string) quant.Format, error) {
	type rule struct {
		pattern *regexp.Regexp
		format  quant.Format
	}
	var rules []rule
	for _, text := range list {
		at := strings.LastIndexByte(text, '=')
		if at < 1 {
			return nil, fmt.Errorf("%s: want PATTERN=TYPE", text)
		}
		pattern, err := regexp.Compile(text[:at])
		if err != nil {
			return nil, fmt.Errorf("%s: %w", text, err)
		}
		format, err := quant.ParseFormat(text[at+1:])
		if err != nil || !quant.CanEncode(format) {
			return nil, fmt.Errorf("%s: the types that are written are %s", text, quant.EncodeNames())
		}
		rules = append(rules, rule{pattern, format})
	}
	if rules == nil {
		return nil, nil //nolint:nilnil // no choice
	}
	return func(name string) quant.Format {
		for _, r := range rules {
			if r.pattern.MatchString(name) {
				return r.format
			}
		}
		return quant.FormatInvalid
	}, nil
}

// kind is the role of a tensor in the model.
type kind uint8

const (
	other kind = iota
	embedding
	output
	attnQ
	attnK
	attnV
	attnQKV // Q, K and V in one
	attnKVB // MLA's keys and values
	attnOut
	ffnUp
	ffnGate
	ffnDown
)

// kindOf tells it by the name.
func kindOf(name string) kind {
	switch {
	case name == "output.weight":
		return output
	case name == "token_embd.weight" || name == "per_layer_token_embd.weight":
		return embedding
	}
	for _, c := range []struct {
		part string
		kind kind
	}{
		{"attn_qkv.weight", attnQKV},
		{"attn_kv_b.weight", attnKVB},
		{"attn_v.weight", attnV},
		{"attn_k.weight", attnK},
		{"attn_q.weight", attnQ},
		{"attn_output.weight", attnOut},
		{"ffn_up", ffnUp},
		{"ffn_gate", ffnGate},
		{"ffn_down", ffnDown},
	} {
		if strings.Contains(name, c.part) {
			return c.kind
		}
	}
	return other
}

// values tells whether a tensor makes attention's values, where errors cost most.
func (k kind) values() bool { return k == attnV || k == attnQKV || k == attnKVB }

// kept are parts of names of matrices that stay as they are: small ones, or ones that decide much.
//
//nolint:gochecknoglobals // a table
var kept = [...]string{
	"_norm.weight", "ffn_gate_inp.weight", "ffn_gate_tid2eid.weight", "altup", "laurel", "per_layer_model_proj", "ssm_conv1d",
	"shortconv.conv.weight", "indexer.k_proj.weight", "indexer.q_proj.weight", "time_mix_first.weight", "time_mix_w0.weight",
	"time_mix_w1.weight", "time_mix_w2.weight", "time_mix_v0.weight", "time_mix_v1.weight", "time_mix_v2.weight", "time_mix_a0.weight",
	"time_mix_a1.weight", "time_mix_a2.weight", "time_mix_g1.weight", "time_mix_g2.weight", "time_mix_decay_w1.weight",
	"time_mix_decay_w2.weight", "time_mix_lerp_fused.weight", "attn_rel_b.weight", ".position_embd", "sam.pos_embd", "sam.neck.",
	"sam.net_", ".rel_pos", ".patch_embd", ".patch_merger", "a.rvq.codebook", "mm.a.code_embd",
}

// isKept tells whether a tensor stays as it is.
func isKept(t *gguf.Tensor) bool {
	if rank(t.Dims) < 2 || !strings.HasSuffix(t.Name, "weight") || !t.Type.Format().Valid() {
		return true
	}
	if t.Name == "position_embd.weight" || t.Name == "token_types.weight" {
		return true
	}
	for _, part := range kept {
		if strings.Contains(t.Name, part) {
			return true
		}
	}
	return false
}

// rank is the number of dimensions without trailing ones.
func rank(dims []int64) int {
	n := len(dims)
	for n > 1 && dims[n-1] == 1 {
		n--
	}
	return n
}

// A chooser walks over a model's tensors in order and counts what the rules count.
type chooser struct {
	o     *Options
	path  string
	arch  string
	gqa   int // query heads for each of keys and values
	heads [2]int
	// Layers as the rules see them, experts of a layer, and layers that have values.
	layers, experts, valueLayers int
	tied                         bool // there is no output.weight
	values, downs                int  // seen so far
}

func newChooser(f *gguf.File, jobs []job, o *Options) *chooser {
	c := &chooser{o: o, path: f.Path, tied: true}
	c.arch, _ = f.String("general.architecture")
	count := func(key string) int {
		key = c.arch + "." + key
		if n, err := f.Uint(key); err == nil {
			return int(min(n, 1<<30))
		}
		if all, err := f.Ints(key); err == nil && len(all) > 0 { // one for each layer
			return int(max(0, min(all[0], 1<<30)))
		}
		return 0
	}
	c.layers, c.experts = count("block_count"), count("expert_count")
	q, kv := count("attention.head_count"), count("attention.head_count_kv")
	if !f.Has(c.arch + ".attention.head_count_kv") {
		kv = q
	}
	c.heads = [2]int{q, kv}
	if kv > 0 {
		c.gqa = q / kv
	}
	for _, j := range jobs {
		switch k := kindOf(j.t.Name); {
		case k.values():
			c.valueLayers++
		case k == output:
			c.tied = false
		}
	}
	return c
}

// moreBits picks an eighth at both ends of the layers and every third between.
func moreBits(i, n int) bool { return i < n/8 || i >= 7*n/8 || (i-n/8)%3 == 2 }

// layer returns the layer of a tensor of the feed-forward part: of mixtures of experts by the name, since their files
// do not always come in order.
func (c *chooser) layer(seen int, name string) int {
	if c.experts > 1 {
		return layerOf(name)
	}
	return seen
}

// choose returns the type of a tensor, its own for one that stays.
func (c *chooser) choose(t *gguf.Tensor) (gguf.Type, error) {
	if isKept(t) {
		return t.Type, nil
	}
	f := c.o.Mixture.Main
	if f.BlockSize() > 1 {
		manual := quant.FormatInvalid
		if c.o.Override != nil {
			manual = c.o.Override(t.Name)
		}
		switch {
		case manual.Valid():
			f = manual
		case !c.o.Pure:
			f = c.mixed(f, t)
		}
		f = fitting(f, t.Dims[0])
	}
	return gguf.TypeOf(f)
}

// fitting returns f, or where a row does not divide into its blocks a type of blocks of 32 and about as many
// bits, or F16.
func fitting(f quant.Format, cols int64) quant.Format {
	if cols%int64(f.BlockSize()) == 0 {
		return f
	}
	switch f {
	case quant.IQ4_XS:
		f = quant.IQ4_NL
	case quant.Q2_0, quant.Q1_0, quant.NVFP4, quant.Q2_K, quant.Q3_K, quant.TQ1_0, quant.TQ2_0:
		f = quant.Q4_0
	case quant.Q4_K:
		f = quant.Q5_0
	case quant.Q5_K:
		f = quant.Q5_1
	case quant.Q6_K:
		f = quant.Q8_0
	}
	if cols%int64(f.BlockSize()) != 0 {
		return quant.F16
	}
	return f
}

// mixed is the mixture's type for a tensor.
func (c *chooser) mixed(f quant.Format, t *gguf.Tensor) quant.Format {
	m := c.o.Mixture.Name
	k := kindOf(t.Name)
	switch {
	case k == output || c.tied && k == embedding:
		switch {
		case m == "MXFP4_MOE" || c.arch == "falcon" || t.Dims[0]%int64(f.BlockSize()) != 0:
			return quant.Q8_0
		case f != quant.Q8_0:
			return quant.Q6_K
		}
		return f
	case m == "MXFP4_MOE":
		if len(t.Dims) > 2 && t.Dims[2] > 1 {
			return quant.MXFP4
		}
		return quant.Q8_0
	case k == embedding:
		if m == "TQ1_0" || m == "TQ2_0" || m == "Q2_0" {
			return quant.Q4_K
		}
		return f
	case k.values():
		return c.attentionValues(f, m)
	case k == attnK:
		if c.experts == 8 {
			return quant.Q8_0
		}
		return f
	case k == ffnDown:
		f = c.feedForwardDown(f, m, t.Name)
		c.downs++
		return f
	case k == attnOut:
		return c.attentionOutput(f, m)
	default:
		return f
	}
}

// attentionValues is the rule for values, the most sensitive tensors and among the smallest.
func (c *chooser) attentionValues(f quant.Format, m string) quant.Format {
	i := c.values
	c.values++
	switch {
	case m == "Q2_K":
		f = quant.Q3_K
		if c.gqa >= 4 {
			f = quant.Q4_K
		}
	case m == "Q2_K_S" && c.gqa >= 4:
		f = quant.Q4_K
	case m == "Q3_K_M":
		f = quant.Q4_K
		if i < 2 {
			f = quant.Q5_K
		}
	case m == "Q3_K_L":
		f = quant.Q5_K
	case (m == "IQ4_NL" || m == "IQ4_XS") && c.gqa >= 4:
		f = quant.Q5_K
	case (m == "Q4_K_M" || m == "Q5_K_M") && moreBits(i, c.valueLayers):
		f = quant.Q6_K
	case m == "Q4_K_S" && i < 4:
		f = quant.Q5_K
	}
	// Llama 70B shares each value head among eight query heads, so that they are small there.
	if c.arch == "llama" && c.layers == 80 && c.heads[0] != c.heads[1] && (f == quant.Q3_K || f == quant.Q4_K) {
		f = quant.Q5_K
	}
	if c.experts == 8 {
		f = quant.Q8_0
	}
	return f
}

// feedForwardDown is the rule for the projection back.
func (c *chooser) feedForwardDown(f quant.Format, m, name string) quant.Format {
	i, n := c.layer(c.downs, name), c.layers
	falcon := c.arch == "falcon"
	switch {
	case m == "Q2_K":
		return quant.Q3_K
	case m == "Q2_K_S" && i < n/8:
		return quant.Q4_K
	case m == "Q3_K_M":
		switch {
		case i < n/16:
			return quant.Q5_K
		case !falcon || moreBits(i, n):
			return quant.Q4_K
		}
		return quant.Q3_K
	case m == "Q3_K_L" && falcon:
		return quant.Q4_K
	case m == "Q3_K_L":
		return quant.Q5_K
	case m == "Q4_K_M" && falcon:
		switch {
		case i < n/16:
			return quant.Q6_K
		case moreBits(i, n):
			return quant.Q5_K
		}
		return quant.Q4_K
	case (m == "Q4_K_M" || m == "Q5_K_M") && moreBits(i, n):
		return quant.Q6_K
	case (m == "IQ4_NL" || m == "IQ4_XS") && i < n/8 && c.o.Importance == nil:
		return quant.Q5_K
	case m == "Q4_K_S" && !falcon && i < n/8:
		return quant.Q5_K
	case m == "Q4_0" && c.o.Importance != nil && i < n/8:
		return quant.Q4_1
	case m == "Q5_0" && c.o.Importance != nil && i < n/8:
		return quant.Q5_1
	default:
		return f
	}
}

// attentionOutput is the rule for attention's projection back.
func (c *chooser) attentionOutput(f quant.Format, m string) quant.Format {
	switch {
	case c.arch == "falcon":
		if m == "Q3_K_L" {
			return quant.Q4_K
		}
	case c.experts == 8:
		switch m {
		case "Q2_K", "Q3_K_S", "Q3_K_M", "IQ4_NL", "IQ4_XS", "Q4_K_S", "Q4_K_M":
			return quant.Q5_K
		}
	case m == "Q2_K":
		return quant.Q3_K
	case m == "Q3_K_M":
		return quant.Q4_K
	case m == "Q3_K_L":
		return quant.Q5_K
	}
	return f
}

// fits checks that a tensor can become what was chosen, and finds its importance.
func (c *chooser) fits(j *job) error {
	from, to := j.t.Type.Format(), j.to.Format()
	fail := func(kind error, format string, args ...any) error {
		return fmt.Errorf("quantize: %s: tensor %s: %w: %s", c.path, j.t.Name, kind, fmt.Sprintf(format, args...))
	}
	if float64(from.BlockBytes())*8/float64(from.BlockSize()) < 8 && !c.o.Again {
		return fail(ErrUnsupported, "it is %s already: quantise from a file of 16 bits, or ask for it with --requantize", j.t.Type)
	}
	if !quant.CanEncode(to) {
		return fail(ErrUnsupported, "%s is not written", j.to)
	}
	if c.o.Importance == nil {
		if k := kindOf(j.t.Name); c.o.Mixture.Name == "Q2_K_S" && to == quant.Q2_K && k != embedding && k != output {
			return fail(ErrImportance, "Q2_K_S is of use only with an importance matrix: give one with --imatrix, or take Q2_K")
		}
		return nil
	}
	imp := c.o.Importance.byName[j.t.Name]
	if imp == nil {
		return nil
	}
	stack := int64(1)
	if len(j.t.Dims) > 2 {
		stack = j.t.Dims[2]
	}
	if want := j.t.Dims[0] * stack; int64(len(imp)) != want {
		if kindOf(j.t.Name) == embedding {
			return nil // some tools count tokens there
		}
		return fail(ErrImportance, "%s has %d numbers for it, not %d: it was made from another model", c.o.Importance.Path, len(imp), want)
	}
	j.imp = imp
	return nil
}
