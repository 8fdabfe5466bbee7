package normalize

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
	"edged/plugins/tokenizer-bpe/bpe/tokenizerjson"
	"edged/plugins/tokenizer-bpe/bpe/vocab"
)

// reader reads the normalizer of a tokenizer.json. The normal forms are those of golang.org/x/text (Unicode
// 15.0), which puts a joiner (U+034F) after 30 combining marks in a row; those of the tokenizers library have
// the data of an older Unicode and no such bound.
type reader struct{ classes *split.Classes }

// part holds the fields of every type of normalizer.
type part struct {
	Pattern  tokenizerjson.Pattern `json:"pattern"` // Replace
	Content  string                `json:"content"`
	Prepend  string                `json:"prepend"`     // Prepend
	Left     bool                  `json:"strip_left"`  // Strip
	Right    bool                  `json:"strip_right"` // Strip
	Clean    *bool                 `json:"clean_text"`  // BertNormalizer
	Chinese  *bool                 `json:"handle_chinese_chars"`
	Accents  *bool                 `json:"strip_accents"`
	Lower    *bool                 `json:"lowercase"`
	Charsmap *string               `json:"precompiled_charsmap"` // Precompiled
}

// Func changes a text before it is cut into words. The error is that of a pattern which took too long.
type Func func(s string, patterns *split.Budget) (string, error)

// Infallible makes a normalizer of a function that never fails.
func Infallible(f func(s string) string) Func {
	return func(s string, _ *split.Budget) (string, error) { return f(s), nil }
}

// Read reads the normalizer of a tokenizer.json; nil where there is none. classes are those of
// split.HuggingFaceClasses. A type that is not supported and a pattern that cannot be compiled are errors.
func Read(raw json.RawMessage, classes *split.Classes) (Func, error) {
	return reader{classes: classes}.read(raw, 0)
}

// read reads one part of it.
func (n reader) read(raw json.RawMessage, depth int) (Func, error) {
	if tokenizerjson.IsNull(raw) {
		return nil, nil
	}
	kind, parts, err := tokenizerjson.PartType(raw, depth, "normalizers")
	if err != nil {
		return nil, err
	}
	if kind == "Sequence" {
		return n.sequence(parts, depth)
	}
	var f part
	if err := json.Unmarshal(raw, &f); err != nil {
		return nil, fmt.Errorf("%s: %w", kind, err)
	}
	switch kind {
	case "NFC":
		return Infallible(norm.NFC.String), nil
	case "NFD":
		return Infallible(normalForm(norm.NFD)), nil
	case "NFKC":
		return Infallible(normalForm(norm.NFKC)), nil
	case "NFKD":
		return Infallible(normalForm(norm.NFKD)), nil
	case "Nmt":
		return Infallible(nmt), nil
	case "Lowercase":
		return Infallible(lower), nil
	case "Strip":
		return Infallible(func(s string) string {
			if f.Left {
				s = strings.TrimLeftFunc(s, unicode.IsSpace)
			}
			if f.Right {
				s = strings.TrimRightFunc(s, unicode.IsSpace)
			}
			return s
		}), nil
	case "StripAccents":
		return Infallible(func(s string) string { return without(s, n.classes.IsAccent) }), nil
	case "Prepend":
		return Infallible(func(s string) string {
			if s == "" {
				return s
			}
			return f.Prepend + s
		}), nil
	case "Replace":
		return Replacement(f.Pattern, f.Content)
	case "BertNormalizer":
		return Infallible(n.bert(f)), nil
	case "ByteLevel":
		chars := vocab.NewByteChars()
		return Infallible(func(s string) string { return string(chars.Encode(nil, s)) }), nil
	case "Precompiled":
		if f.Charsmap == nil || *f.Charsmap == "" {
			return nil, nil
		}
		data, err := base64.StdEncoding.DecodeString(*f.Charsmap)
		if err != nil {
			return nil, errors.New("the normalizer Precompiled: precompiled_charsmap is not base64")
		}
		m, err := NewCharsmap(data)
		if err != nil {
			return nil, fmt.Errorf("the normalizer Precompiled: %w", err)
		}
		return Infallible(m.byCluster), nil
	}
	return nil, fmt.Errorf("type %q is not supported", kind)
}

func (n reader) sequence(parts []json.RawMessage, depth int) (Func, error) {
	var steps []Func
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

// Replacement is a Replace, which normalizers and decoders have.
func Replacement(pattern tokenizerjson.Pattern, by string) (Func, error) {
	switch {
	case pattern.String != nil && *pattern.String == "":
		return Infallible(func(s string) string { return s }), nil
	case pattern.String != nil:
		old := *pattern.String
		return Infallible(func(s string) string { return strings.ReplaceAll(s, old, by) }), nil
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
func (n reader) bert(f part) func(s string) string {
	nfd := normalForm(norm.NFD)
	clean, chinese, lowercase := tokenizerjson.Or(f.Clean, true), tokenizerjson.Or(f.Chinese, true), tokenizerjson.Or(f.Lower, true)
	accents := tokenizerjson.Or(f.Accents, lowercase)
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
func (n reader) clean(s string) string {
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
		if split.IsChinese(r) {
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
		case r == '\t',
			r == '\n',
			r == '\f',
			r == '\r',
			r == 0x1680,
			r >= 0x200B && r <= 0x200F,
			r == 0x2028,
			r == 0x2029,
			r == 0x2581,
			r == 0xFEFF,
			r == utf8.RuneError:
			return ' '
		}
		return r
	}, s)
}

// normalForm is a normal form as the library has it: its data are those of an older Unicode, in which some
// characters do not decompose yet. They start a new character each, so the text can be cut at them.
func normalForm(f norm.Form) func(s string) string {
	return func(s string) string {
		if f.IsNormalString(s) {
			return s
		}
		var b strings.Builder
		done := 0
		for i, r := range s {
			if r >= 0x32FF && leavesWhole(r, f) {
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

// leavesWhole reports whether a form of the library leaves a character as it is that decomposes today.
func leavesWhole(r rune, f norm.Form) bool {
	switch {
	case r == 0x11938:
		return f == norm.NFD || f == norm.NFKD
	case f == norm.NFD:
		return false
	}
	return r == 0x32FF || r >= 0xA7F2 && r <= 0xA7F4 || r == 0xAB69 || r >= 0x10781 && r <= 0x107BA || r >= 0x1E030 && r <= 0x1E06D ||
		r == 0x1F16C || r >= 0x1FBF0 && r <= 0x1FBF9
}
