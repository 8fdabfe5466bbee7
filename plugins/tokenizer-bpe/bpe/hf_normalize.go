package bpe

import (
	"encoding/base64"
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

// normalizer changes a text before it is cut into words. The error is that of a pattern which took too long.
type normalizer func(s string, patterns *split.Budget) (string, error)

// pure makes a normalizer of a function that never fails.
func pure(f func(s string) string) normalizer {
	return func(s string, _ *split.Budget) (string, error) { return f(s), nil }
}

// read returns the normalizer, nil where there is nothing to do.
func (n hfNormalizers) read(raw json.RawMessage, depth int) (normalizer, error) {
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
		return pure(norm.NFC.String), nil
	case "NFD":
		return pure(normalForm(norm.NFD)), nil
	case "NFKC":
		return pure(normalForm(norm.NFKC)), nil
	case "NFKD":
		return pure(normalForm(norm.NFKD)), nil
	case "Nmt":
		return pure(nmt), nil
	case "Lowercase":
		return pure(lower), nil
	case "Strip":
		return pure(func(s string) string {
			if f.Left {
				s = strings.TrimLeftFunc(s, unicode.IsSpace)
			}
			if f.Right {
				s = strings.TrimRightFunc(s, unicode.IsSpace)
			}
			return s
		}), nil
	case "StripAccents":
		return pure(func(s string) string { return without(s, n.classes.IsAccent) }), nil
	case "Prepend":
		return pure(func(s string) string {
			if s == "" {
				return s
			}
			return f.Prepend + s
		}), nil
	case "Replace":
		return replacement(f.Pattern, f.Content)
	case "BertNormalizer":
		return pure(n.bert(f)), nil
	case "ByteLevel":
		chars := newByteChars()
		return pure(func(s string) string { return string(chars.encode(nil, s)) }), nil
	case "Precompiled":
		if f.Charsmap == nil || *f.Charsmap == "" {
			return nil, nil
		}
		data, err := base64.StdEncoding.DecodeString(*f.Charsmap)
		if err != nil {
			return nil, errors.New("the normalizer Precompiled: precompiled_charsmap is not base64")
		}
		m, err := newCharsmap(data)
		if err != nil {
			return nil, fmt.Errorf("the normalizer Precompiled: %w", err)
		}
		return pure(m.byCluster), nil
	}
	return nil, fmt.Errorf("type %q is not supported", kind)
}

func (n hfNormalizers) sequence(parts []json.RawMessage, depth int) (normalizer, error) {
	var steps []normalizer
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
	return func(s string, patterns *split.Budget) (_ string, err error) {
		for _, step := range steps {
			if s, err = step(s, patterns); err != nil {
				return "", err
			}
		}
		return s, nil
	}, nil
}

// replacement is a Replace, which normalizers and decoders have.
func replacement(pattern hfPattern, by string) (normalizer, error) {
	switch {
	case pattern.String != nil && *pattern.String == "":
		return pure(func(s string) string { return s }), nil
	case pattern.String != nil:
		old := *pattern.String
		return pure(func(s string) string { return strings.ReplaceAll(s, old, by) }), nil
	case pattern.Regex != nil:
		p, err := split.Compile(*pattern.Regex)
		if err != nil {
			return nil, err
		}
		return func(s string, patterns *split.Budget) (string, error) { return p.Replace(s, by, patterns) }, nil
	}
	return nil, errors.New("a Replace has neither a String nor a Regex")
}

// bert is BertNormalizer: clean, set Chinese characters apart, strip accents, lower case.
func (n hfNormalizers) bert(f hfNormalizer) func(s string) string {
	nfd := normalForm(norm.NFD)
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
			s = without(nfd(s), n.classes.IsBERTAccent)
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

// lower is Rust's to_lowercase for each character: İ becomes two, and the letters of Unicode 16 and 17 are known.
func lower(s string) string {
	if strings.ContainsRune(s, 'İ') {
		s = strings.ReplaceAll(s, "İ", "i\u0307")
	}
	return strings.Map(lowerRune, s)
}

func lowerRune(r rune) rune {
	if r < 0x1C89 {
		return unicode.ToLower(r)
	}
	switch {
	case r == 0x1C89, r == 0xA7CC, r == 0xA7CE, r == 0xA7D2, r == 0xA7D4, r == 0xA7DA:
		return r + 1
	case r == 0xA7CB:
		return 0x264
	case r == 0xA7DC:
		return 0x19B
	case r >= 0x10D50 && r <= 0x10D65:
		return r + 0x20
	case r >= 0x16EA0 && r <= 0x16EB8:
		return r + 0x1B
	}
	return unicode.ToLower(r)
}

// nmt drops control characters and writes white space as spaces. Source: SentencePiece, src/builder.cc, BuildNmtMap.
func nmt(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 1 && r <= 8, r == 0xB, r >= 0xE && r <= 0x1F, r == 0x7F, r == 0x8F, r == 0x9F:
			return -1
		case r == '\t', r == '\n', r == '\f', r == '\r', r == 0x1680, r >= 0x200B && r <= 0x200F, r == 0x2028, r == 0x2029, r == 0x2581, r == 0xFEFF, r == utf8.RuneError:
			return ' '
		}
		return r
	}, s)
}

// normalForm is a normal form as the library has it: its data are those of an older Unicode, in which some characters do
// not decompose yet. They start a new character each, so the text can be cut at them.
func normalForm(f norm.Form) func(s string) string {
	return func(s string) string {
		if f.IsNormalString(s) {
			return s
		}
		var b strings.Builder
		done := 0
		for i, r := range s {
			if r >= 0x32FF && isYoung(r, f) {
				b.WriteString(f.String(s[done:i]))
				done = i + utf8.RuneLen(r)
				b.WriteString(s[i:done])
			}
		}
		if done == 0 {
			return f.String(s)
		}
		b.WriteString(f.String(s[done:]))
		return b.String()
	}
}

// isYoung reports whether a form of the library leaves a character as it is that decomposes today.
func isYoung(r rune, f norm.Form) bool {
	switch {
	case r == 0x11938:
		return f == norm.NFD || f == norm.NFKD
	case f == norm.NFD:
		return false
	}
	return r == 0x32FF || r >= 0xA7F2 && r <= 0xA7F4 || r == 0xAB69 || r >= 0x10781 && r <= 0x107BA || r >= 0x1E030 && r <= 0x1E06D ||
		r == 0x1F16C || r >= 0x1FBF0 && r <= 0x1FBF9
}
