package huggingface

import (
	"encoding/json"
	"fmt"
	"maps"
	"path/filepath"
	"slices"

	"edged/core/model/mmap"
	"edged/plugins/tokenizer-bpe/bpe"
	"edged/plugins/tokenizer-bpe/bpe/tokenizerjson"
	"edged/plugins/tokenizer-bpe/bpe/transformers"
)

// maxPrompts and maxPrompt bound what an embedder's files may want before a text.
const (
	maxPrompts = 64
	maxPrompt  = 4 << 10
)

// longTexts is the length from which a configuration means no limit.
const longTexts = 1 << 24

// sentenceFiles reads what sentence-transformers' files beside a tokenizer say: how long a text may be, and
// what stands before it.
func sentenceFiles(p *bpe.Parts, dir string, c *transformers.Config) error {
	read := func(name string, into any) error {
		data, err := transformers.ReadFile(filepath.Join(dir, name), transformers.MaxConfigFile)
		if mmap.Absent(err) {
			return nil
		}
		if err == nil {
			err = json.Unmarshal(transformers.FiniteJSON(tokenizerjson.TrimBOM(data)), into)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", filepath.Join(dir, name), err)
		}
		return nil
	}
	var length struct {
		Most *float64 `json:"max_seq_length"`
	}
	if err := read("sentence_bert_config.json", &length); err != nil {
		return err
	}
	var own *float64
	_ = json.Unmarshal(c.Settings["model_max_length"], &own) // another type says nothing
	for _, n := range []*float64{length.Most, own} {
		if n != nil && *n >= 1 && *n < longTexts && p.Info.MaxTokens == 0 {
			p.Info.MaxTokens = int(*n)
		}
	}
	var prompts struct {
		All     map[string]*string `json:"prompts"`
		Default *string            `json:"default_prompt_name"`
	}
	const name = "config_sentence_transformers.json"
	if err := read(name, &prompts); err != nil {
		return err
	}
	if len(prompts.All) > maxPrompts {
		return fmt.Errorf("%s: %d prompts are more than %d", filepath.Join(dir, name), len(prompts.All), maxPrompts)
	}
	for _, key := range slices.Sorted(maps.Keys(prompts.All)) {
		text := prompts.All[key]
		switch {
		case text == nil:
			continue
		case len(*text) > maxPrompt || len(key) > maxPrompt:
			return fmt.Errorf("%s: the prompt %.40q is longer than %d bytes", filepath.Join(dir, name), key, maxPrompt)
		case p.Info.Prompts == nil:
			p.Info.Prompts = map[string]string{}
		}
		p.Info.Prompts[key] = *text
	}
	if d := prompts.Default; d != nil && *d != "" {
		text, ok := p.Info.Prompts[*d]
		if !ok {
			return fmt.Errorf("%s: default_prompt_name is %.80q, which is none of its prompts", filepath.Join(dir, name), *d)
		}
		p.Info.Prompt = text
	}
	return nil
}
