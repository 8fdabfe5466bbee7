package pretokenize

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"edged/plugins/tokenizer-bpe/bpe/split"
	"edged/plugins/tokenizer-bpe/bpe/tokenizerjson"
	"edged/plugins/tokenizer-bpe/bpe/vocab"
)

// Words is the pre-tokenizer of a tokenizer.json: one chain of splitters for the start of a text and one for
// what follows an added token, which differ where a space is put before the first word only.
type Words struct {
	Start split.Chain // for the start of a text
	Rest  split.Chain // after an added token
	Bytes bool        // words are bytes, which the model's tokens write as GPT-2's characters
	Name  string      // llama.cpp's name of it; "" where it has none or it is not known
	// StartMatters: the start of a text is treated otherwise than what follows.
	StartMatters bool
}

// WithByteChars is the pre-tokenizer of a model that takes ByteLevel's characters as they are.
func (w Words) WithByteChars() Words {
	to := toChars{vocab.NewByteChars()}
	w.Start, w.Rest = append(slices.Clip(w.Start), to), append(slices.Clip(w.Rest), to)
	return w
}

// reader reads the pre_tokenizer of a tokenizer.json.
type reader struct{ classes *split.Classes }

// part holds the fields of every type of pre-tokenizer.
type part struct {
	AddPrefix   *bool                 `json:"add_prefix_space"` // ByteLevel, Metaspace
	UseRegex    *bool                 `json:"use_regex"`        // ByteLevel
	Pattern     tokenizerjson.Pattern `json:"pattern"`          // Split
	Behavior    split.Behavior        `json:"behavior"`         // Split, Punctuation
	Invert      bool                  `json:"invert"`
	Replacement string                `json:"replacement"` // Metaspace
	Scheme      string                `json:"prepend_scheme"`
	Split       *bool                 `json:"split"`
	Individual  bool                  `json:"individual_digits"` // Digits
	Delimiter   string                `json:"delimiter"`         // CharDelimiterSplit
	Length      int                   `json:"length"`            // FixedLength
}

// Read reads the pre_tokenizer of a tokenizer.json; without one a text is one word. classes are those of
// split.HuggingFaceClasses. A type that is not supported and a pattern that cannot be compiled are errors.
func Read(raw json.RawMessage, classes *split.Classes) (Words, error) {
	var w Words
	if tokenizerjson.IsNull(raw) {
		return w, nil
	}
	mapped := false
	if err := (reader{classes: classes}).add(&w, &mapped, raw, 0); err != nil {
		return w, err
	}
	if mapped {
		unmap := fromChars{vocab.NewByteChars()}
		w.Start, w.Rest = append(w.Start, unmap), append(w.Rest, unmap)
	}
	return w, nil
}

// add appends one pre-tokenizer. mapped says that words are in GPT-2's characters already, because something follows
// ByteLevel.
func (h reader) add(w *Words, mapped *bool, raw json.RawMessage, depth int) error {
	kind, parts, err := tokenizerjson.PartType(raw, depth, "pretokenizers")
	if err != nil {
		return err
	}
	if kind == "Sequence" {
		for _, p := range parts {
			if err := h.add(w, mapped, p, depth+1); err != nil {
				return err
			}
		}
		return nil
	}
	var f part
	if err := json.Unmarshal(raw, &f); err != nil {
		return fmt.Errorf("%s: %w", kind, err)
	}
	if w.Bytes && !*mapped {
		*mapped = true
		m := toChars{vocab.NewByteChars()}
		w.Start, w.Rest = append(w.Start, m), append(w.Rest, m)
	}
	both := func(s split.Splitter, err error) error {
		if err != nil {
			return fmt.Errorf("%s: %w", kind, err)
		}
		w.Start, w.Rest = append(w.Start, s), append(w.Rest, s)
		return nil
	}
	c := h.classes
	switch kind {
	case "ByteLevel":
		if w.Bytes {
			return errors.New("ByteLevel stands in it twice, which is not supported")
		}
		w.Bytes = true
		if f.AddPrefix == nil || *f.AddPrefix {
			_ = both(prefixed(" "), nil)
		}
		if f.UseRegex == nil || *f.UseRegex {
			w.Name = "gpt-2"
			return both(split.AtPattern(split.PatternGPT2, split.Isolated, false, c))
		}
		return nil
	case "Split":
		switch {
		case f.Pattern.String != nil:
			return both(split.At(*f.Pattern.String, f.Behavior, f.Invert))
		case f.Pattern.Regex != nil:
			w.Name = split.NameOf(*f.Pattern.Regex)
			return both(split.AtPattern(*f.Pattern.Regex, f.Behavior, f.Invert, c))
		}
		return errors.New("Split has neither a String nor a Regex")
	case "Metaspace":
		return h.metaspace(w, f)
	case "Digits":
		return both(split.Digits(c, f.Individual), nil)
	case "Punctuation":
		if f.Behavior == "" {
			f.Behavior = split.Isolated
		}
		return both(split.AtChars(func(r rune) bool { return split.IsPunctuation(c, r) }, f.Behavior))
	case "Whitespace":
		return both(split.Whitespace(c), nil)
	case "WhitespaceSplit":
		return both(split.Spaces(c), nil)
	case "BertPreTokenizer":
		return both(split.BERT(c), nil)
	case "CharDelimiterSplit":
		return both(split.At(f.Delimiter, split.Removed, false))
	case "UnicodeScripts":
		return both(split.NewScripts(), nil)
	case "FixedLength":
		if f.Length < 1 {
			return fmt.Errorf("FixedLength has the length %d", f.Length)
		}
		return both(split.FixedLength(f.Length), nil)
	}
	return fmt.Errorf("type %q is not supported", kind)
}

// metaspace writes spaces as another character, and puts one before a text.
func (h reader) metaspace(w *Words, f part) error {
	if utf8.RuneCountInString(f.Replacement) != 1 {
		return fmt.Errorf("a Metaspace has the replacement %q, which is not one character", f.Replacement)
	}
	scheme := f.Scheme
	if scheme == "" {
		scheme = "always"
		if f.AddPrefix != nil && !*f.AddPrefix {
			scheme = "never"
		}
	}
	var start, rest split.Splitter
	space := replaced{old: " ", by: f.Replacement}
	withPrefix := split.Chain{space, prefixed(f.Replacement)}
	switch scheme {
	case "always":
		start, rest = withPrefix, withPrefix
	case "first":
		start, rest = withPrefix, space
		w.StartMatters = true
		if len(w.Start) > 0 {
			start = &firstWord{before: w.Start, first: withPrefix, others: space}
			w.Start = nil
		}
	case "never":
		start, rest = space, space
	default:
		return fmt.Errorf("a Metaspace has the prepend_scheme %q, which is not known", scheme)
	}
	w.Start, w.Rest = append(w.Start, start), append(w.Rest, rest)
	if f.Split == nil || *f.Split {
		cut, err := split.At(f.Replacement, split.MergedWithNext, false)
		if err != nil {
			return err
		}
		w.Start, w.Rest = append(w.Start, cut), append(w.Rest, cut)
	}
	return nil
}

// firstWord treats the word at the very start of a text otherwise than the others.
type firstWord struct {
	before        split.Splitter
	first, others split.Splitter
}

// Split implements split.Splitter.
func (f *firstWord) Split(s string, to split.Sink, b *split.Budget) error {
	sink := &firstSink{f: f, text: s, to: to, budget: b}
	if err := f.before.Split(s, sink, b); err != nil {
		return err
	}
	return sink.err
}

type firstSink struct {
	f      *firstWord
	text   string
	to     split.Sink
	budget *split.Budget
	n      int
	err    error
}

// Word implements split.Sink.
func (f *firstSink) Word(s string) {
	if f.err != nil {
		return
	}
	use := f.f.others
	if f.n == 0 && strings.HasPrefix(f.text, s) { // what was dropped before it moves it from the start
		use = f.f.first
	}
	f.n++
	f.err = use.Split(s, f.to, f.budget)
}

// prefixed puts a text before words that do not start with it.
type prefixed string

// Split implements split.Splitter.
func (p prefixed) Split(s string, to split.Sink, _ *split.Budget) error {
	if s != "" && !strings.HasPrefix(s, string(p)) {
		s = string(p) + s
	}
	if s != "" {
		to.Word(s)
	}
	return nil
}

// replaced replaces one text by another.
type replaced struct{ old, by string }

// Split implements split.Splitter.
func (r replaced) Split(s string, to split.Sink, _ *split.Budget) error {
	if s != "" {
		to.Word(strings.ReplaceAll(s, r.old, r.by))
	}
	return nil
}

// toChars writes bytes as GPT-2's characters.
type toChars struct{ chars *vocab.ByteChars }

// Split implements split.Splitter.
func (c toChars) Split(s string, to split.Sink, _ *split.Budget) error {
	if s != "" {
		to.Word(string(c.chars.Encode(nil, s)))
	}
	return nil
}

// fromChars writes GPT-2's characters as bytes again.
type fromChars struct{ chars *vocab.ByteChars }

// Split implements split.Splitter.
func (c fromChars) Split(s string, to split.Sink, _ *split.Budget) error {
	if s != "" {
		b, _ := c.chars.Decode(nil, s)
		to.Word(string(b))
	}
	return nil
}
