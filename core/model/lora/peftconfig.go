package lora

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"edged/core/model/arch"
	"edged/core/model/hfjson"
	"edged/core/model/lora/kinds"
)

// Limits of adapter_config.json. A list may name every module of a model, but expressions are compiled, and their
// repetitions make a few bytes into a large program.
const (
	maxPatterns    = 1 << 13
	maxExpressions = 64
	maxExpression  = 1 << 10 // bytes
)

// peftConfig is adapter_config.json (LoraConfig of huggingface/peft, src/peft/tuners/lora/config.py). What changes the
// arithmetic is read or refused; what only concerned training is ignored.
type peftConfig struct {
	Type       string          `json:"peft_type"`
	Base       string          `json:"base_model_name_or_path"`
	Rank       float64         `json:"r"`
	Alpha      float64         `json:"lora_alpha"`
	RSLoRA     bool            `json:"use_rslora"`
	DoRA       bool            `json:"use_dora"`
	QALoRA     bool            `json:"use_qalora"`
	BDLoRA     json.RawMessage `json:"use_bdlora"`
	Bias       *string         `json:"bias"`
	LoRABias   bool            `json:"lora_bias"`
	Init       json.RawMessage `json:"init_lora_weights"`
	LoftQ      map[string]any  `json:"loftq_config"`
	Save       []string        `json:"modules_to_save"`
	Parameters []string        `json:"target_parameters"`
	Tokens     json.RawMessage `json:"trainable_token_indices"`
	Layered    json.RawMessage `json:"layer_replication"`
	Targets    json.RawMessage `json:"target_modules"`
	Excluded   json.RawMessage `json:"exclude_modules"`
	Layers     json.RawMessage `json:"layers_to_transform"`
	RankPat    json.RawMessage `json:"rank_pattern"`
	AlphaPat   json.RawMessage `json:"alpha_pattern"`
	Invocation json.RawMessage `json:"alora_invocation_tokens"`
	Arrow      json.RawMessage `json:"arrow_config"`
	Tying      bool            `json:"ensure_weight_tying"`

	kinds.Options                 // of other kinds
	KaSA          json.RawMessage `json:"kasa_config"`
	TokenIndices  json.RawMessage `json:"token_indices"` // TRAINABLE_TOKENS
	OtherAlpha    *float64        `json:"alpha"`         // LoHa, LoKr, GraLoRA, DEFT

	// Of a soft prompt: PromptLearningConfig of src/peft/config.py.
	Virtual *float64 `json:"num_virtual_tokens"`
	Width   *float64 `json:"token_dim"`
	Depth   *float64 `json:"num_layers"`
	Halves  *float64 `json:"num_transformer_submodules"`

	olora      bool             // factors stand beside what OLoRA leaves of the base
	invocation []int32          // of alora_invocation_tokens
	tokens     []int            // of trainable_token_indices
	tokensBy   map[string][]int // the same by module
	blocks     *blockDiagonal
	targets    moduleSet
	excluded   moduleSet
	layers     []int // nil: all
	ranks      patterns
	alphas     patterns
}

func readPEFTConfig(path string) (*peftConfig, error) {
	var raw json.RawMessage
	if err := hfjson.Read(path, &raw); err != nil {
		return nil, fmt.Errorf("lora: %w", err)
	}
	c, err := parsePEFTConfig(raw)
	if err != nil {
		return nil, fmt.Errorf("lora: %s: %w", path, err)
	}
	return c, nil
}

// isPrompt tells whether the adapter is a soft prompt. What p-tuning trains in front of its embeddings is not
// saved: the two kinds are the same to who serves them.
func (c *peftConfig) isPrompt() bool {
	return c.Type == "PROMPT_TUNING" || c.Type == "P_TUNING" || c.Type == "CPT"
}

// isOther tells whether it is a kind that is neither LoRA nor brought into its form.
func (c *peftConfig) isOther() bool {
	return c.Type == "PREFIX_TUNING" || c.Type == "ADAPTION_PROMPT" || c.Type == "LN_TUNING"
}

// saves tells whether modules_to_save names a module: PEFT compares the ends of names, "norm" is input_layernorm's too.
func (c *peftConfig) saves(module string) bool {
	return slices.ContainsFunc(c.Save, func(m string) bool {
		return strings.HasSuffix(module, m) || c.Tying && module == tiedHead && lastWord(m) == "embed_tokens"
	})
}

// isKind tells whether it is one of package kinds.
func (c *peftConfig) isKind() bool { return kinds.Has(c.Type) }

// A refusal is a configuration of a kind that is not served; modules are those that it names.
type refusal struct {
	why     string
	modules []string
}

func (r *refusal) Error() string { return ErrUnsupported.Error() + ": " + r.why }

func (r *refusal) Unwrap() error { return ErrUnsupported }

// parsePEFTConfig reads and checks a configuration.
func parsePEFTConfig(data []byte) (*peftConfig, error) {
	c := &peftConfig{Type: "LORA", Rank: 8, Alpha: 8, Options: kinds.Defaults()}
	if err := json.Unmarshal(data, c); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if err := c.refuse(); err != nil {
		return nil, err
	}
	if c.isPrompt() || c.isOther() {
		return c, nil
	}
	c.Options.Alpha = c.OtherAlpha
	if c.Type == "ADALORA" {
		c.RankPat = nil // which ranks were kept; the tensors have no others
	}
	for _, err := range []error{
		field("target_modules", c.targets.parse(c.Targets)),
		field("exclude_modules", c.excluded.parse(c.Excluded)),
		field("trainable_token_indices", c.parseTokens()),
		field("alora_invocation_tokens", c.parseInvocation()),
		field("use_bdlora", c.parseBlocks()),
		field("layers_to_transform", c.parseLayers()),
		field("rank_pattern", c.ranks.parse(c.RankPat)),
		field("alpha_pattern", c.alphas.parse(c.AlphaPat)),
	} {
		if err != nil {
			return nil, err
		}
	}
	switch {
	case !isRank(c.Rank) && (!c.isKind() || c.Type == "LOHA" || c.Type == "LOKR" || c.formOfLoRA()): // of the others it is only how they began
		return nil, fmt.Errorf("%w: r is %g: want a whole number from 1 to %d", ErrInvalid, c.Rank, maxRank)
	case math.Abs(c.Alpha) > 1e6:
		return nil, fmt.Errorf("%w: lora_alpha is %g", ErrInvalid, c.Alpha)
	case c.Type == "ADALORA" && !isRank(c.InitRank):
		return nil, fmt.Errorf("%w: init_r is %g: want a whole number from 1 to %d", ErrInvalid, c.InitRank, maxRank)
	case c.OtherAlpha != nil && math.Abs(*c.OtherAlpha) > 1e6:
		return nil, fmt.Errorf("%w: alpha is %g", ErrInvalid, *c.OtherAlpha)
	}
	for _, p := range c.ranks {
		if !isRank(p.value) {
			return nil, fmt.Errorf("%w: rank_pattern: %q is %g: want a whole number from 1 to %d", ErrInvalid, p.key, p.value, maxRank)
		}
	}
	for _, p := range c.alphas {
		if math.Abs(p.value) > 1e6 {
			return nil, fmt.Errorf("%w: alpha_pattern: %q is %g", ErrInvalid, p.key, p.value)
		}
	}
	return c, nil
}

func isRank(r float64) bool { return r >= 1 && r <= maxRank && r == math.Trunc(r) }

func field(name string, err error) error {
	if err != nil {
		return fmt.Errorf("%w: %s: %w", ErrInvalid, name, err)
	}
	return nil
}

// refuse names what is not served.
func (c *peftConfig) refuse() error {
	given := func(raw json.RawMessage) bool {
		s := string(bytes.TrimSpace(raw))
		return s != "" && s != "null" && s != "[]" && s != "{}" && s != "false"
	}
	var init string
	if err := json.Unmarshal(c.Init, &init); err != nil {
		init = "" // a bool, or absent
	}
	if plain := c.Type == "LORA" && !c.DoRA && !c.LoRABias && !c.QALoRA && !given(c.Arrow) && !given(c.BDLoRA) && !given(c.Layered) && !given(c.Tokens) && !given(c.Invocation) &&
		len(c.LoftQ) == 0 && len(c.Save) == 0 && len(c.Parameters) == 0; plain && given(c.KaSA) {
		c.Type = kinds.KaSA
	} else if plain && init == "pissa" {
		c.Type = kinds.PiSSA
	}
	var why string
	switch {
	case c.isPrompt() && c.Halves != nil && *c.Halves != 1:
		why = fmt.Sprintf("num_transformer_submodules %g: soft prompts are served for decoders, which have one", *c.Halves)
	case c.isPrompt():
		return nil
	case c.isKind():
		if why = c.refuseKind(); why == "" {
			return nil
		}
	case c.Type == "TRAINABLE_TOKENS" || c.isOther() && len(c.Save) == 0:
		return nil
	case c.Type == "LORA" && given(c.KaSA):
		why = "kasa_config beside other forms of LoRA, such as use_dora or modules_to_save; train without them"
	case notServedBecause(c.Type) != "":
		why = fmt.Sprintf("peft_type %q: %s", c.Type, notServedBecause(c.Type))
	case c.Type != "LORA" && !c.isOther():
		why = fmt.Sprintf("peft_type %q; the supported ones are LORA, PROMPT_TUNING, P_TUNING, CPT, PREFIX_TUNING, ADAPTION_PROMPT, LN_TUNING, TRAINABLE_TOKENS, %s; merge it into the model with PEFT's merge_and_unload", c.Type, strings.Join(kinds.Names(), ", "))
	case c.isOther():
		why = fmt.Sprintf("modules_to_save %q: whole trained modules are not served beside %s; train without", c.Save, c.Type)
	case given(c.Arrow):
		why = "arrow_config: routing between adapters is not served"
	case c.QALoRA:
		why = "use_qalora"
	case c.Bias != nil && *c.Bias != "none" && *c.Bias != "all" && *c.Bias != "lora_only":
		why = fmt.Sprintf("bias %q: the served ones are none, all and lora_only", *c.Bias)
	case given(c.Layered):
		why = "layer_replication"
	case len(c.LoftQ) > 0:
		why = "loftq_config: LoftQ changes the base model; serve the base that it wrote"
	case strings.HasPrefix(init, "pissa"), strings.HasPrefix(init, "corda"), init == "loftq", init == "olora" && c.DoRA, init == "lora_ga":
		why = fmt.Sprintf("init_lora_weights %q changes the base model: convert the adapter to a plain one when saving it", init)
	default:
		c.olora = init == "olora"
		return nil
	}
	return &refusal{why: why, modules: append(slices.Clone(c.Save), "."+strings.ToLower(c.Type))}
}

// parseInvocation reads null or a list of ids.
func (c *peftConfig) parseInvocation() error {
	if raw := bytes.TrimSpace(c.Invocation); len(raw) == 0 || string(raw) == "null" {
		return nil
	}
	if err := json.Unmarshal(c.Invocation, &c.invocation); err != nil {
		return err
	}
	if len(c.invocation) > maxVirtual {
		return fmt.Errorf("%d ids, more than the %d allowed", len(c.invocation), maxVirtual)
	}
	return nil
}

// parseBlocks reads use_bdlora: null, false or an object.
func (c *peftConfig) parseBlocks() error {
	raw := bytes.TrimSpace(c.BDLoRA)
	if s := string(raw); s == "" || s == "null" || s == "false" {
		return nil
	}
	c.blocks = &blockDiagonal{Blocks: 1}
	return json.Unmarshal(raw, c.blocks)
}

// hasParameter tells whether target_parameters names a tensor, or the module whose weight it is.
func (c *peftConfig) hasParameter(module string) bool {
	return slices.ContainsFunc(c.Parameters, func(p string) bool {
		for _, full := range []string{module, module + ".weight"} {
			if full == p || strings.HasSuffix(full, "."+p) {
				return true
			}
		}
		return false
	})
}

// parseLayers reads null, a number or a list of numbers.
func (c *peftConfig) parseLayers() error {
	raw := bytes.TrimSpace(c.Layers)
	if len(raw) == 0 || string(raw) == "null" {
		return nil
	}
	if raw[0] == '[' {
		if err := json.Unmarshal(raw, &c.layers); err != nil {
			return err
		}
		if len(c.layers) == 0 {
			c.layers = nil // as PEFT takes it
		}
		return nil
	}
	c.layers = []int{0}
	return json.Unmarshal(raw, &c.layers[0])
}

// inLayers reports whether layers_to_transform takes the module's layer: the first number of its name.
func (c *peftConfig) inLayers(module string) bool {
	if c.layers == nil {
		return true
	}
	_, numbers := arch.SplitNumbers(module)
	if len(numbers) == 0 {
		return false
	}
	n, err := strconv.Atoi(numbers[0])
	return err == nil && slices.Contains(c.layers, n)
}

// A moduleSet is target_modules or exclude_modules: names that modules end in, or one regular expression for the whole
// name.
type moduleSet struct {
	list []string
	re   *regexp.Regexp
	any  bool // "all-linear", or an expression that only Python understands: the tensors decide
}

func (s *moduleSet) set() bool { return s.any || s.re != nil || len(s.list) > 0 }

func (s *moduleSet) parse(raw json.RawMessage) error {
	raw = bytes.TrimSpace(raw)
	switch {
	case len(raw) == 0 || string(raw) == "null":
		return nil
	case raw[0] == '[':
		if err := json.Unmarshal(raw, &s.list); err != nil {
			return err
		}
		if len(s.list) > maxPatterns {
			return fmt.Errorf("%d entries, more than the %d allowed", len(s.list), maxPatterns)
		}
		return nil
	}
	var text string
	if err := json.Unmarshal(raw, &text); err != nil {
		return err
	}
	if len(text) > maxExpression {
		return fmt.Errorf("an expression of %d bytes, more than the %d allowed", len(text), maxExpression)
	}
	re, notGo := regexp.Compile(`^(?:` + text + `)$`)
	s.re, s.any = re, text == "all-linear" || notGo != nil
	return nil
}

// match reports whether the set holds the module, and marks in hit (nil: not wanted) the entries that do. An empty set
// of targets holds every module: the tensors decide.
func (s *moduleSet) match(module string, hit []bool) bool {
	switch {
	case s.any || !s.set():
		return true
	case s.re != nil:
		return s.re.MatchString(module)
	}
	found := false
	for i, name := range s.list {
		if module == name || strings.HasSuffix(module, "."+name) {
			found = true
			if hit != nil {
				hit[i] = true
			}
		}
	}
	return found
}

// patterns is rank_pattern or alpha_pattern in the order of the file: the first that matches counts. PEFT matches with
// re.match(rf"(.*\.)?({key})$", name).
type patterns []patternValue

type patternValue struct {
	key   string
	re    *regexp.Regexp // nil where the key is a plain name
	value float64
}

func (p *patterns) parse(raw json.RawMessage) error {
	raw = bytes.TrimSpace(raw)
	if len(raw) == 0 || string(raw) == "null" {
		return nil
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return errors.New("want an object")
	}
	expressions := 0
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return err
		}
		v := patternValue{}
		v.key, _ = key.(string)
		if err := dec.Decode(&v.value); err != nil {
			return err
		}
		if len(*p) == maxPatterns {
			return fmt.Errorf("more than the %d entries allowed", maxPatterns)
		}
		if !isPlain(v.key) {
			expressions++
			if expressions > maxExpressions || len(v.key) > maxExpression {
				return fmt.Errorf("more than %d expressions, or one longer than %d bytes", maxExpressions, maxExpression)
			}
			if v.re, err = regexp.Compile(`^(?:.*\.)?(?:` + v.key + `)$`); err != nil {
				return fmt.Errorf("%q is no regular expression that can be read here", v.key)
			}
		}
		*p = append(*p, v)
	}
	return nil
}

// isPlain reports whether an expression is a dotted name: it then matches only itself, but that a dot stands for any
// character.
func isPlain(key string) bool {
	return strings.Trim(key, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-.") == ""
}

func (v *patternValue) match(module string) bool {
	if v.re != nil {
		return v.re.MatchString(module)
	}
	at := len(module) - len(v.key)
	if at < 0 || at > 0 && module[at-1] != '.' {
		return false
	}
	for i := range len(v.key) {
		if v.key[i] != '.' && v.key[i] != module[at+i] {
			return false
		}
	}
	return true
}

// find returns the value for a module, def where no pattern matches.
func (p patterns) find(module string, def float64) float64 {
	for i := range p {
		if p[i].match(module) {
			return p[i].value
		}
	}
	return def
}
