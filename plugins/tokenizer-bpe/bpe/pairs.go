package bpe

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"

	"edged/core/model/mmap"
)

// pairPart is a part of what a model wants of two texts: a token, or one of them.
type pairPart struct {
	text  int   // 1 or 2: the first or second text; 0: a token
	token int32 // where text is 0
	kind  int32 // type of its tokens
}

// ErrPairs means that a tokenizer's files do not say how the model wants two texts.
var ErrPairs = errors.New("the tokenizer's files do not say how the model wants two texts")

// EncodePair gives the ids of two texts as the model wants them, and the types of the tokens. With most > 0 the pair is cut to so many
// tokens, the longer text first, as the library tokenizers does it.
func (t *Tokenizer) EncodePair(a, b string, o Options, most int) (ids, types []int32, err error) {
	if len(t.pair) == 0 {
		return nil, nil, fmt.Errorf("bpe: %w: %w", ErrText, ErrPairs)
	}
	o.AddSpecial = false
	var texts [2][]int32
	for i, s := range []string{a, b} {
		if texts[i], err = t.Encode(nil, s, o); err != nil {
			return nil, nil, err
		}
	}
	if most > 0 {
		n := 0
		for _, p := range t.pair {
			if p.text == 0 {
				n++
			}
		}
		texts[0], texts[1] = longestFirst(texts[0], texts[1], max(most-n, 0))
	}
	for _, p := range t.pair {
		part := []int32{p.token}
		if p.text > 0 {
			part = texts[p.text-1]
		}
		ids = append(ids, part...)
		for range part {
			types = append(types, p.kind)
		}
	}
	return ids, types, nil
}

// longestFirst cuts two lists to so many together: the longer one to the other's length, then both to a half each.
func longestFirst(a, b []int32, most int) (x, y []int32) {
	if len(a)+len(b) <= most {
		return a, b
	}
	short, turned := min(len(a), len(b)), len(a) > len(b)
	long := short
	if short <= most {
		long = max(short, most-short)
	}
	if short+long > most {
		short = most / 2
		long = short + most%2
	}
	if turned {
		short, long = long, short
	}
	return a[:min(short, len(a))], b[:min(long, len(b))]
}

// EncodeCut is Encode of a text that is cut to so many tokens, those around it included.
func (t *Tokenizer) EncodeCut(text string, o Options, most int) ([]int32, error) {
	ids, err := t.Encode(nil, text, o)
	if err != nil || len(ids) <= most || most <= 0 {
		return ids, err
	}
	if !o.AddSpecial {
		return ids[:most], nil
	}
	keep := max(most-len(t.suffix), min(len(t.prefix), most))
	return append(ids[:keep:keep], t.suffix[:min(len(t.suffix), most-keep)]...), nil
}

// pairsAsClasses is how the classes of transformers put two texts together that have a token on both sides of one, or behind it.
func (t *Tokenizer) pairsAsClasses() {
	if t.pair != nil || len(t.suffix) == 0 || t.info.Kind == KindBPE && len(t.prefix) == 0 {
		return
	}
	second := int32(0)
	between := t.suffix
	switch {
	case t.info.Kind == KindWordPiece: // BERT's: [CLS] a [SEP] b [SEP], the second text of another type
		second = 1
	case len(t.prefix) > 0: // RoBERTa's: <s> a </s></s> b </s>
		between = append(slices.Clone(t.suffix), t.suffix...)
	}
	t.joinPair(between, second)
}

// joinPair sets the form with these tokens between the texts.
func (t *Tokenizer) joinPair(between []int32, second int32) {
	t.pair = nil
	put := func(ids []int32, kind int32) {
		for _, id := range ids {
			t.pair = append(t.pair, pairPart{token: id, kind: kind})
		}
	}
	put(t.prefix, 0)
	t.pair = append(t.pair, pairPart{text: 1})
	put(between, 0)
	t.pair = append(t.pair, pairPart{text: 2, kind: second})
	put(t.suffix, second)
}

// maxPrompts and maxPrompt bound what an embedder's files may want before a text.
const (
	maxPrompts = 64
	maxPrompt  = 4 << 10
)

// longTexts is what configurations say that mean no limit.
const longTexts = 1 << 24

// sentences reads what sentence-transformers' files beside a tokenizer say: how long a text may be, and what stands before it.
func (t *Tokenizer) sentences(dir string, c *folderConfig) error {
	read := func(name string, into any) error {
		data, err := readFile(filepath.Join(dir, name), maxConfigFile)
		if mmap.Absent(err) {
			return nil
		}
		if err == nil {
			err = json.Unmarshal(finiteJSON(plainJSON(data)), into)
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
	_ = json.Unmarshal(c.settings["model_max_length"], &own) // another type says nothing
	for _, n := range []*float64{length.Most, own} {
		if n != nil && *n >= 1 && *n < longTexts && t.info.MaxTokens == 0 {
			t.info.MaxTokens = int(*n)
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
		case t.info.Prompts == nil:
			t.info.Prompts = map[string]string{}
		}
		t.info.Prompts[key] = *text
	}
	if d := prompts.Default; d != nil && *d != "" {
		text, ok := t.info.Prompts[*d]
		if !ok {
			return fmt.Errorf("%s: default_prompt_name is %.80q, which is none of its prompts", filepath.Join(dir, name), *d)
		}
		t.info.Prompt = text
	}
	return nil
}
