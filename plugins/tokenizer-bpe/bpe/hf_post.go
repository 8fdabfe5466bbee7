package bpe

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
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

// hfDecoder says what tokens decode to.
type hfDecoder struct {
	byteLevel    bool
	byteFallback bool
	stripSpace   bool
	replace      [][2]string
	prefix       string // WordPiece: of tokens that go on a word
	suffix       string // BPEDecoder
	wordPiece    bool
	chars        *byteChars
}

func readDecoder(raw json.RawMessage) (hfDecoder, error) {
	d := hfDecoder{chars: newByteChars()}
	return d, d.read(raw, 0)
}

func (d *hfDecoder) read(raw json.RawMessage, depth int) error {
	if isNull(raw) {
		return nil
	}
	kind, parts, err := hfType(raw, depth, "decoders")
	if err != nil {
		return err
	}
	for _, part := range parts {
		if err := d.read(part, depth+1); err != nil {
			return err
		}
	}
	var f struct {
		hfPreTokenizer
		Content string `json:"content"`
		Start   int    `json:"start"`
		Prefix  string `json:"prefix"`
		Suffix  string `json:"suffix"`
	}
	if err := json.Unmarshal(raw, &f); err != nil {
		return fmt.Errorf("%s: %w", kind, err)
	}
	switch kind {
	case "Sequence", "Fuse":
	case "ByteLevel":
		d.byteLevel = true
	case "ByteFallback":
		d.byteFallback = true
	case "Replace":
		if f.Pattern.String == nil {
			return errors.New("a Replace of anything but a String is not supported")
		}
		d.replace = append(d.replace, [2]string{*f.Pattern.String, f.Content})
	case "Metaspace":
		if utf8.RuneCountInString(f.Replacement) != 1 {
			return fmt.Errorf("a Metaspace has the replacement %q, which is not one character", f.Replacement)
		}
		d.replace = append(d.replace, [2]string{f.Replacement, " "})
		d.stripSpace = f.Scheme != "never" && (f.AddPrefix == nil || *f.AddPrefix)
	case "Strip":
		d.stripSpace = d.stripSpace || f.Content == " " && f.Start > 0
	case "WordPiece":
		d.wordPiece, d.stripSpace, d.prefix = true, true, f.Prefix
	case "BPEDecoder":
		d.suffix, d.stripSpace = f.Suffix, true
	default:
		return fmt.Errorf("type %q is not supported", kind)
	}
	return nil
}

// piece appends what a token that is text decodes to.
func (d *hfDecoder) piece(dst []byte, s string) []byte {
	if d.byteLevel {
		if b, ok := d.chars.decode(dst, s); ok {
			return b
		}
		return append(dst, s...)
	}
	for _, r := range d.replace {
		if r[0] != "" {
			s = strings.ReplaceAll(s, r[0], r[1])
		}
	}
	if d.wordPiece {
		if rest, ok := strings.CutPrefix(s, d.prefix); ok && d.prefix != "" {
			return append(dst, rest...)
		}
		dst = append(dst, ' ')
	}
	if d.suffix != "" {
		if rest, ok := strings.CutSuffix(s, d.suffix); ok {
			return append(append(dst, rest...), ' ')
		}
	}
	return append(dst, s...)
}
