package huggingface

import (
	"encoding/json"
	"errors"
	"fmt"

	"edged/plugins/tokenizer-bpe/bpe"
	"edged/plugins/tokenizer-bpe/bpe/tokenizerjson"
)

// postProcessorReader reads the post_processor of a tokenizer.json: what stands around a text.
type postProcessorReader struct {
	t              *bpe.Parts
	prefix, suffix []int32
	pair           []bpe.PairPart // two texts; nil where there is none, or several processors would have to agree
	several        bool
}

// tokenID is a token with its id: ["[SEP]", 102].
type tokenID struct{ id int64 }

// UnmarshalJSON implements json.Unmarshaler.
func (t *tokenID) UnmarshalJSON(data []byte) error {
	var pair []json.RawMessage
	if err := json.Unmarshal(data, &pair); err != nil || len(pair) != 2 {
		return errors.New("a token is not [\"text\", id]")
	}
	return json.Unmarshal(pair[1], &t.id)
}

type postProcessor struct {
	Separator *tokenID `json:"sep"` // BertProcessing, RobertaProcessing
	Class     *tokenID `json:"cls"`
	// TemplateProcessing
	Single []struct {
		Special *struct {
			ID string `json:"id"`
		} `json:"SpecialToken"`
		Sequence *struct {
			ID string `json:"id"`
		} `json:"Sequence"`
	} `json:"single"`
	Pair []struct {
		Special  *templatePart `json:"SpecialToken"`
		Sequence *templatePart `json:"Sequence"`
	} `json:"pair"`
	Tokens map[string]struct {
		IDs []int64 `json:"ids"`
	} `json:"special_tokens"`
}

// templatePart is a part of a template: the name of a token or of a text, and the type of its tokens.
type templatePart struct {
	ID   string `json:"id"`
	Kind int32  `json:"type_id"`
}

func (p *postProcessorReader) read(raw json.RawMessage, depth int) error {
	if tokenizerjson.IsNull(raw) {
		return nil
	}
	kind, parts, err := tokenizerjson.PartType(raw, depth, "processors")
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
	var f postProcessor
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
		class, sep := bpe.PairPart{Token: int32(f.Class.id)}, bpe.PairPart{Token: int32(f.Separator.id)}
		pair := []bpe.PairPart{class, {Text: 1}, sep, {Text: 2, Type: 1}, {Token: sep.Token, Type: 1}}
		if kind == "RobertaProcessing" {
			pair = []bpe.PairPart{class, {Text: 1}, sep, sep, {Text: 2}, sep}
		}
		if err := p.put([]int64{f.Class.id}, []int64{f.Separator.id}); err != nil {
			return err
		}
		p.setPair(pair)
		return nil
	case "TemplateProcessing":
		return p.template(f)
	}
	return fmt.Errorf("type %q is not supported", kind)
}

func (p *postProcessorReader) template(f postProcessor) error {
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
	if err := p.put(before, after); err != nil {
		return err
	}
	return p.templatePair(&f)
}

// templatePair reads the form of two texts.
func (p *postProcessorReader) templatePair(f *postProcessor) error {
	var pair []bpe.PairPart
	seen := [3]int{}
	for _, part := range f.Pair {
		switch {
		case part.Sequence != nil:
			n := map[string]int{"A": 1, "B": 2}[part.Sequence.ID]
			seen[n]++
			pair = append(pair, bpe.PairPart{Text: n, Type: part.Sequence.Kind})
		case part.Special != nil:
			ids, ok := f.Tokens[part.Special.ID]
			if !ok {
				return fmt.Errorf("TemplateProcessing names the token %q, which it does not list", part.Special.ID)
			}
			for _, id := range ids.IDs {
				if id < 0 || id >= int64(len(p.t.Vocabulary.Text)) {
					return fmt.Errorf("the id %d is not in the vocabulary of %d tokens", id, len(p.t.Vocabulary.Text))
				}
				pair = append(pair, bpe.PairPart{Token: int32(id), Type: part.Special.Kind})
			}
		}
	}
	if seen == [3]int{0, 1, 1} {
		p.setPair(pair)
	}
	return nil
}

// setPair takes the form of the only processor that has one.
func (p *postProcessorReader) setPair(pair []bpe.PairPart) {
	if p.pair, p.several = pair, p.several || p.pair != nil; p.several {
		p.pair = nil
	}
}

// put adds tokens outside what earlier processors put around the text.
func (p *postProcessorReader) put(before, after []int64) error {
	check := func(ids []int64) ([]int32, error) {
		var out []int32
		for _, id := range ids {
			if id < 0 || id >= int64(len(p.t.Vocabulary.Text)) {
				return nil, fmt.Errorf("the id %d is not in the vocabulary of %d tokens", id, len(p.t.Vocabulary.Text))
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
