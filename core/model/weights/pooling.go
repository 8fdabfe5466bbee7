package weights

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"edged/core/model/arch"
	"edged/core/model/digest"
	"edged/core/model/mmap"
	"edged/core/model/safetensors"
)

// stepConfig holds the settings of all kinds of sentence-transformers' steps.
type stepConfig struct {
	Mode   string `json:"pooling_mode"`
	CLS    bool   `json:"pooling_mode_cls_token"`
	Mean   bool   `json:"pooling_mode_mean_tokens"`
	Last   bool   `json:"pooling_mode_lasttoken"`
	Max    bool   `json:"pooling_mode_max_tokens"`
	Root   bool   `json:"pooling_mode_mean_sqrt_len_tokens"`
	Rise   bool   `json:"pooling_mode_weightedmean_tokens"`
	Prompt *bool  `json:"include_prompt"`

	In     int    `json:"in_features"`
	Out    int    `json:"out_features"`
	Bias   *bool  `json:"bias"`
	Act    string `json:"activation_function"`
	Input  string `json:"module_input_name"`
	Output string `json:"module_output_name"`

	Yes *int32 `json:"true_token_id"`
	No  *int32 `json:"false_token_id"`
}

// pooling reads what the files of sentence-transformers beside a model say about the vector or the score of a
// text: modules.json lists the steps behind the network, each with a folder of its own. A folder without them
// means the mean of all tokens, as that library takes it.
func (b *builder) pooling(dir string) error {
	s := b.m.Spec
	s.Pool = arch.Pool{Kind: arch.PoolMean}
	if s.Score != nil {
		s.Pool = arch.Pool{}
		return b.scoreAct(dir)
	}
	var modules []struct {
		Path string `json:"path"`
		Type string `json:"type"`
	}
	path := filepath.Join(dir, "modules.json")
	if err := readJSON(path, &modules); err != nil {
		if mmap.Absent(err) {
			return nil
		}
		return err
	}
	b.m.files = append(b.m.files, digest.File{Name: "modules.json", Path: path})
	pooled, ended := false, false
	for i, m := range modules {
		kind := m.Type[strings.LastIndexByte(m.Type, '.')+1:]
		if !filepath.IsLocal(m.Path) && m.Path != "" {
			return b.fail(ErrInvalid, "modules.json: the path %.80q of %s leaves the folder", m.Path, kind)
		}
		var err error
		switch {
		case kind == "Transformer" && i == 0:
		case kind == "Pooling" && i == 1:
			pooled = true
			err = b.poolingMode(dir, m.Path)
		case kind == "Dense" && pooled && !ended:
			err = b.denseStep(dir, m.Path, i)
		case kind == "Dropout" && pooled && !ended: // of training
		case kind == "Normalize" && pooled && !ended:
			s.Pool.Normalize, ended = true, true
		case (kind == "LogitScore" || kind == "CausalScoreHead") && i == 1 && len(modules) == 2 && s.Kind == arch.Decoder:
			err = b.logitScore(dir, m.Path)
		default:
			return b.fail(ErrUnsupported, "modules.json: step %d is %.80q; the supported steps are Transformer, Pooling, Dense and Normalize, in this order", i, kind)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// stepFile reads the configuration of a step and counts it among the model's files.
func (b *builder) stepFile(dir, sub string) (c stepConfig, name string, err error) {
	name = filepath.ToSlash(filepath.Join(sub, configName))
	path := filepath.Join(dir, sub, configName)
	if err := readJSON(path, &c); err != nil {
		return c, name, err
	}
	b.m.files = append(b.m.files, digest.File{Name: name, Path: path})
	return c, name, nil
}

// poolingMode reads the configuration of the step that pools, in both of its spellings.
func (b *builder) poolingMode(dir, sub string) error {
	c, name, err := b.stepFile(dir, sub)
	if err != nil {
		return err
	}
	if c.Prompt != nil && !*c.Prompt {
		return b.fail(ErrUnsupported, "%s: include_prompt is false: the tokens of a prompt would have to be left out of the vector", name)
	}
	var modes []string
	for _, m := range []struct {
		name string
		on   bool
	}{
		{c.Mode, c.Mode != ""},
		{"cls", c.CLS},
		{"mean", c.Mean},
		{"lasttoken", c.Last},
		{"max", c.Max},
		{"mean_sqrt_len_tokens", c.Root},
		{"weightedmean", c.Rise},
	} {
		if m.on {
			modes = append(modes, m.name)
		}
	}
	if len(modes) == 1 {
		kind, ok := map[string]arch.PoolKind{
			"mean": arch.PoolMean, "cls": arch.PoolCLS, "lasttoken": arch.PoolLast, "max": arch.PoolMax, "mean_sqrt_len_tokens": arch.PoolRoot,
			"weightedmean": arch.PoolRise,
		}[modes[0]]
		if ok {
			b.m.Spec.Pool.Kind = kind
			return nil
		}
	}
	return b.fail(ErrUnsupported, "%s: pooling %.120q; the supported ones are one of mean, cls, lasttoken, max, mean_sqrt_len_tokens and weightedmean",
		name, strings.Join(modes, " and "))
}

// denseStep adds a layer behind the pooling, whose weights are in a file of its own.
func (b *builder) denseStep(dir, sub string, number int) error {
	c, name, err := b.stepFile(dir, sub)
	if err != nil {
		return err
	}
	for _, x := range []string{c.Input, c.Output} {
		if x != "" && x != "sentence_embedding" {
			return b.fail(ErrUnsupported, "%s: a dense layer from or to %.40q: only one of a text's vector is served", name, x)
		}
	}
	act, ok := map[string]arch.Act{
		"Identity": {Kind: arch.Identity}, "Tanh": {Kind: arch.Tanh}, "ReLU": {Kind: arch.ReLU}, "SiLU": {Kind: arch.SiLU}, "GELU": {Kind: arch.GELUErf},
		"": {Kind: arch.Tanh}, // that class's own default
	}[c.Act[strings.LastIndexByte(c.Act, '.')+1:]]
	if !ok {
		return b.fail(ErrUnsupported, "%s: activation_function %.80q; the supported ones are Identity, Tanh, ReLU, SiLU and GELU", name, c.Act)
	}
	step := arch.Step{Name: arch.DensePrefix + strconv.Itoa(number), In: c.In, Out: c.Out, Act: act, Bias: arch.Required}
	if c.Bias != nil && !*c.Bias {
		step.Bias = arch.Absent
	}
	files, err := safetensors.OpenFolder(filepath.Join(dir, sub))
	if err != nil {
		return fmt.Errorf("weights: %w", err)
	}
	for _, f := range files.Files() {
		b.keep(f.Mapping())
		b.m.files = append(b.m.files, digest.File{Name: filepath.ToSlash(filepath.Join(sub, filepath.Base(f.Path))), Path: f.Path, Mapping: f.Mapping()})
	}
	b.m.Spec.Dense = append(b.m.Spec.Dense, step)
	for _, own := range files.Names() {
		rest, ok := strings.CutPrefix(own, "linear.")
		if !ok {
			return b.fail(ErrUnsupported, "%s: tensor %s is none that a dense layer has", sub, own)
		}
		if err := b.hfTensor(files, files.Tensor(own), step.Name+"."+rest); err != nil {
			return err
		}
	}
	return b.m.Spec.Check()
}

// logitScore reads the step that makes a score of a decoder's logits for two tokens.
func (b *builder) logitScore(dir, sub string) error {
	c, name, err := b.stepFile(dir, sub)
	if err != nil {
		return err
	}
	vocab := int32(b.m.Spec.Vocab)
	if c.Yes == nil || c.No == nil || *c.Yes < 0 || *c.No < 0 || *c.Yes >= vocab || *c.No >= vocab || *c.Yes == *c.No {
		return b.fail(ErrUnsupported, "%s: a score of other than two tokens of the vocabulary, true_token_id and false_token_id", name)
	}
	b.m.Spec.Score = &arch.Score{Pool: arch.PoolLast, Yes: *c.Yes, No: *c.No}
	return nil
}

// scoreAct reads which function of a cross-encoder's logit is its score, in the places where
// sentence-transformers has kept it; a folder that does not say means the logistic function.
func (b *builder) scoreAct(dir string) error {
	var beside struct {
		Act string `json:"activation_fn"`
	}
	const name = "config_sentence_transformers.json"
	path := filepath.Join(dir, name)
	err := readJSON(path, &beside)
	switch {
	case err == nil:
		b.m.files = append(b.m.files, digest.File{Name: name, Path: path})
	case !mmap.Absent(err):
		return err
	}
	var config struct {
		Old string `json:"sbert_ce_default_activation_function"`
		New struct {
			Act string `json:"activation_fn"`
		} `json:"sentence_transformers"`
	}
	if err := readJSON(filepath.Join(dir, configName), &config); err != nil {
		return err
	}
	for _, said := range []string{beside.Act, config.New.Act, config.Old} {
		switch said[strings.LastIndexByte(said, '.')+1:] {
		case "":
			continue
		case "Sigmoid":
			b.m.Spec.Score.Act = arch.Logistic
		case "Identity":
			b.m.Spec.Score.Act = arch.AsLogit
		default:
			return b.fail(ErrUnsupported, "activation_fn %.80q of the score; the supported ones are Sigmoid and Identity", said)
		}
		return nil
	}
	return nil
}
