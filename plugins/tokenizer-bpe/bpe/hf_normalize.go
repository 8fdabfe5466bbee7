package bpe

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"

	"edged/plugins/tokenizer-bpe/bpe/split"
)

// hfNormalizers reads the normalizer of a tokenizer.json. The normal forms are those of golang.org/x/text (Unicode 15.0),
// which puts a joiner (U+034F) after 30 combining marks in a row; Hugging Face's have the data of an older Unicode and no
// such bound.
type hfNormalizers struct{ classes *split.Classes }

// hfNormalizer holds the fields of every type of normalizer.
type hfNormalizer struct {
	Pattern  hfPattern `json:"pattern"` // Replace
	Content  string    `json:"content"`
	Prepend  string    `json:"prepend"`     // Prepend
	Left     bool      `json:"strip_left"`  // Strip
	Right    bool      `json:"strip_right"` // Strip
	Clean    *bool     `json:"clean_text"`  // BertNormalizer
	Chinese  *bool     `json:"handle_chinese_chars"`
	Accents  *bool     `json:"strip_accents"`
	Lower    *bool     `json:"lowercase"`
	Charsmap *string   `json:"precompiled_charsmap"` // Precompiled
}

// hfPattern is a text or a regular expression.
type hfPattern struct {
	String *string `json:"String"`
	Regex  *string `json:"Regex"`
}

// read returns the function, nil where there is nothing to do.
func (n hfNormalizers) read(raw json.RawMessage, depth int) (func(s string) string, error) {
	if isNull(raw) {
		return nil, nil
	}
	kind, parts, err := hfType(raw, depth, "normalizers")
	if err != nil {
		return nil, err
	}
	if kind == "Sequence" {
		return n.sequence(parts, depth)
	}
	var f hfNormalizer
	if err := json.Unmarshal(raw, &f); err != nil {
		return nil, fmt.Errorf("%s: %w", kind, err)
	}
	switch kind {
	case "NFC":
		return norm.NFC.String, nil
	case "NFD":
		return norm.NFD.String, nil
	case "NFKC":
		return norm.NFKC.String, nil
	case "NFKD":
		return norm.NFKD.String, nil
	case "Lowercase":
		return lower, nil
	case "Strip":
		return func(s string) string {
			if f.Left {
				s = strings.TrimLeftFunc(s, unicode.IsSpace)
			}
			if f.Right {
				s = strings.TrimRightFunc(s, unicode.IsSpace)
			}
			return s
		}, nil
	case "StripAccents":
		return func(s string) string { return without(s, n.classes.IsMark) }, nil
	case "Prepend":
		return func(s string) string {
			if s == "" {
				return s
			}
			return f.Prepend + s
		}, nil
	case "Replace":
		return n.replace(f)
	case "BertNormalizer":
		return n.bert(f), nil
	case "ByteLevel":
		chars := newByteChars()
		return func(s string) string { return string(chars.encode(nil, s)) }, nil
	case "Precompiled":
		if f.Charsmap == nil || *f.Charsmap == "" {
			return nil, nil
		}
	}
	return nil, fmt.Errorf("type %q is not supported", kind)
}

func (n hfNormalizers) sequence(parts []json.RawMessage, depth int) (func(s string) string, error) {
	var steps []func(s string) string
	for _, p := range parts {
		step, err := n.read(p, depth+1)
		if err != nil {
			return nil, err
		}
		if step != nil {
			steps = append(steps, step)
		}
	}
	switch len(steps) {
	case 0:
		return nil, nil
	case 1:
		return steps[0], nil
	}
	return func(s string) string {
		for _, step := range steps {
			s = step(s)
		}
		return s
	}, nil
}

func (n hfNormalizers) replace(f hfNormalizer) (func(s string) string, error) {
	switch {
	case f.Pattern.String != nil:
		old := *f.Pattern.String
		return func(s string) string {
			if old == "" {
				return s
			}
			return strings.ReplaceAll(s, old, f.Content)
		}, nil
	case f.Pattern.Regex != nil:
		p, err := split.Compile(*f.Pattern.Regex)
		if err != nil {
			return nil, err
		}
		return func(s string) string {
			var b strings.Builder
			done := 0
			err := p.Matches(s, func(from, end int) {
				b.WriteString(s[done:from])
				b.WriteString(f.Content)
				done = end
			}, func() {})
			if err != nil {
				return s // it took too long
			}
			b.WriteString(s[done:])
			return b.String()
		}, nil
	}
	return nil, errors.New("a Replace has neither a String nor a Regex")
}

// bert is BertNormalizer: clean, set Chinese characters apart, strip accents, lower case.
func (n hfNormalizers) bert(f hfNormalizer) func(s string) string {
	isSet := func(b *bool, otherwise bool) bool {
		if b == nil {
			return otherwise
		}
		return *b
	}
	clean, chinese, lowercase := isSet(f.Clean, true), isSet(f.Chinese, true), isSet(f.Lower, true)
	accents := isSet(f.Accents, lowercase)
	return func(s string) string {
		if clean {
			s = n.clean(s)
		}
		if chinese {
			s = apart(s)
		}
		if accents {
			s = without(norm.NFD.String(s), func(r rune) bool { return unicode.Is(unicode.Mn, r) })
		}
		if lowercase {
			s = lower(s)
		}
		return s
	}
}

// clean drops control characters and makes all white space spaces.
func (n hfNormalizers) clean(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\t', r == '\n', r == '\r':
			return ' '
		case r == 0, r == utf8.RuneError, n.classes.IsControl(r):
			return -1
		case unicode.IsSpace(r):
			return ' '
		}
		return r
	}, s)
}

// apart puts spaces around Chinese characters.
func apart(s string) string {
	var b strings.Builder
	done := 0
	for i, r := range s {
		if isChinese(r) {
			b.WriteString(s[done:i])
			b.WriteByte(' ')
			b.WriteRune(r)
			b.WriteByte(' ')
			done = i + utf8.RuneLen(r)
		}
	}
	if done == 0 {
		return s
	}
	b.WriteString(s[done:])
	return b.String()
}

func without(s string, drop func(r rune) bool) string {
	return strings.Map(func(r rune) rune {
		if drop(r) {
			return -1
		}
		return r
	}, s)
}

// lower is Rust's to_lowercase for each character: İ becomes two.
func lower(s string) string {
	if strings.ContainsRune(s, 'İ') {
		s = strings.ReplaceAll(s, "İ", "i\u0307")
	}
	return strings.Map(unicode.ToLower, s)
}
