package bpe

import (
	"encoding/json"
	"errors"
	"fmt"
)

// hfPostProcessors reads the post_processor of a tokenizer.json: what stands around a text.
type hfPostProcessors struct {
	t              *Tokenizer
	prefix, suffix []int32
}

// hfToken is a token with its id: ["[SEP]", 102].
type hfToken struct{ id int64 }

// UnmarshalJSON implements json.Unmarshaler.
func (t *hfToken) UnmarshalJSON(data []byte) error {
	var pair []json.RawMessage
	if err := json.Unmarshal(data, &pair); err != nil || len(pair) != 2 {
		return errors.New("a token is not [\"text\", id]")
	}
	return json.Unmarshal(pair[1], &t.id)
}

type hfPostProcessor struct {
	Separator *hfToken `json:"sep"` // BertProcessing, RobertaProcessing
	Class     *hfToken `json:"cls"`
	// TemplateProcessing
	Single []struct {
		Special *struct {
			ID string `json:"id"`
		} `json:"SpecialToken"`
		Sequence *struct {
			ID string `json:"id"`
		} `json:"Sequence"`
	} `json:"single"`
	Tokens map[string]struct {
		IDs []int64 `json:"ids"`
	} `json:"special_tokens"`
}

func (p *hfPostProcessors) read(raw json.RawMessage, depth int) error {
	if isNull(raw) {
		return nil
	}
	kind, parts, err := hfType(raw, depth, "processors")
	if err != nil {
		return err
	}
	if kind == "Sequence" {
		for _, part := range parts {
			if err := p.read(part, depth+1); err != nil {
				return err
			}
		}
		return nil
	}
	var f hfPostProcessor
	if err := json.Unmarshal(raw, &f); err != nil {
		return fmt.Errorf("%s: %w", kind, err)
	}
	switch kind {
	case "ByteLevel":
		return nil
	case "BertProcessing", "RobertaProcessing":
		if f.Separator == nil || f.Class == nil {
			return fmt.Errorf("%s lacks cls or sep", kind)
		}
		return p.put([]int64{f.Class.id}, []int64{f.Separator.id})
	case "TemplateProcessing":
		return p.template(f)
	}
	return fmt.Errorf("type %q is not supported", kind)
}

func (p *hfPostProcessors) template(f hfPostProcessor) error {
	var before, after []int64
	seen := false
	for _, part := range f.Single {
		switch {
		case part.Sequence != nil:
			if seen {
				return errors.New("TemplateProcessing puts the text in twice")
			}
			seen = true
		case part.Special != nil:
			ids, ok := f.Tokens[part.Special.ID]
			if !ok {
				return fmt.Errorf("TemplateProcessing names the token %q, which it does not list", part.Special.ID)
			}
			if seen {
				after = append(after, ids.IDs...)
			} else {
				before = append(before, ids.IDs...)
			}
		}
	}
	if !seen {
		return errors.New("TemplateProcessing leaves the text out")
	}
	return p.put(before, after)
}

// put adds tokens outside what earlier processors put around the text.
func (p *hfPostProcessors) put(before, after []int64) error {
	check := func(ids []int64) ([]int32, error) {
		var out []int32
		for _, id := range ids {
			if id < 0 || id >= int64(len(p.t.vocab.text)) {
				return nil, fmt.Errorf("the id %d is not in the vocabulary of %d tokens", id, len(p.t.vocab.text))
			}
			out = append(out, int32(id))
		}
		return out, nil
	}
	b, err := check(before)
	if err != nil {
		return err
	}
	a, err := check(after)
	if err != nil {
		return err
	}
	p.prefix = append(b, p.prefix...)
	p.suffix = append(p.suffix, a...)
	return nil
}
