// Package languages makes of a text, and of the languages that it is to be translated from and to, what an
// encoder-decoder reads: each family has its own way to be told. The way is found out by asking the
// tokenizer, which has a token for each language or has none.
//
//	M2M-100, NLLB    [source] text [end]         the target's token is the first that the decoder gives
//	mBART            text [end] [source]         the same
//	MADLAD-400       <2de> text [end]            the model sees by itself what it reads
//	OPUS-MT          >>deu<< text [end]          the same; a model of one target has no such tokens
//	T5, Flan-T5      translate English to German: text [end]
//
// It must not know where a request comes from, nor how ids are computed with. Its functions may be called concurrently.
package languages

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"edged/core/protocol"
	"edged/core/protocol/backend"
	"edged/core/protocol/tokenizer"
)

// MaxName bounds the name of a language, in bytes.
const MaxName = 64

// Input is the encoded text that a model reads.
type Input struct {
	IDs   []int32 // of the text, with what the model wants around it
	First []int32 // what the decoder has to begin with; nil: nothing is said
}

// Encode makes the input for a text. source and target are languages by the codes of the model's tokenizer;
// "" is what its files say. The error is protocol.ErrUnsupported for a model that is not told languages, and
// protocol.ErrInvalid for a language that it does not know.
func Encode(
	ctx context.Context,
	tok tokenizer.Tokenizer,
	model *backend.ModelInfo,
	info *tokenizer.Info,
	text, source, target string,
) (Input, error) {
	if model.Kind != "encoder-decoder" {
		return Input{}, fmt.Errorf(
			"%w: target_lang: the model is no encoder-decoder, to which languages are told: ask for the translation in words",
			protocol.ErrUnsupported,
		)
	}
	for name, code := range map[string]string{"source_lang": source, "target_lang": target} {
		if len(code) > MaxName || strings.ContainsFunc(code, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
			return Input{}, fmt.Errorf("%w: %s: %.80q is no name of a language", protocol.ErrInvalid, name, code)
		}
	}
	a := &asker{ctx, tok, info}
	switch w, err := a.way(source, target); {
	case err != nil:
		return Input{}, err
	case w == byFirst:
		return a.named(text, source, target)
	case w == byMark:
		return a.marked(text, ">>"+target+"<< ")
	case w == byTag:
		return a.marked(text, "<2"+target+"> ")
	}
	names, err := a.names()
	if err != nil {
		return Input{}, err
	}
	if len(names) == 0 {
		switch id, err := a.language(sentinel); {
		case err != nil:
			return Input{}, err
		case id >= 0:
			return a.asked(text, source, target)
		}
	}
	return Input{}, unknown(source, target, names)
}

// sentinel is a control token of models that were trained to fill gaps and then by tasks in words: T5's.
const sentinel = "<extra_id_0>"

// asker asks a tokenizer.
type asker struct {
	ctx  context.Context //nolint:containedctx // of one call of Encode
	tok  tokenizer.Tokenizer
	info *tokenizer.Info
}

// way is how a model is told languages.
type way uint8

const (
	byWords way = iota
	byFirst     // tokens around the text and at the beginning of the answer
	byMark      // >>deu<< before the text
	byTag       // <2de> before the text
)

// way finds out how the model is told the languages.
func (a *asker) way(source, target string) (way, error) {
	code := target
	if code == "" {
		code = source
	}
	if id, err := a.language(code); err != nil || id >= 0 {
		return byFirst, err
	}
	if target == "" {
		return byWords, nil
	}
	for _, form := range []struct {
		way  way
		text string
	}{{byMark, ">>" + target + "<<"}, {byTag, "<2" + target + ">"}} {
		lists, err := a.tok.Encode(a.ctx, []string{form.text}, tokenizer.Flags{ParseSpecial: true})
		if err != nil {
			return byWords, err
		}
		ids := lists[0]
		if len(ids) == 0 || len(ids) > 2 { // a blank may stand before it
			continue
		}
		last := ids[len(ids)-1]
		shown, err := a.tok.Decode(a.ctx, []int32{last}, true)
		if err != nil {
			return byWords, err
		}
		if last != a.info.Unknown && strings.TrimSpace(string(shown)) == form.text {
			return form.way, nil
		}
	}
	return byWords, nil
}

// language is the control token of a language that is one of its own: "de_DE", "deu_Latn", or "__de__" for
// "de". -1: there is none. A word of the vocabulary is no language though it has the same letters: only
// control tokens are recognised in a text, or not.
func (a *asker) language(code string) (int32, error) {
	for _, form := range []string{code, "__" + code + "__"} {
		as, err := a.tok.Encode(a.ctx, []string{form}, tokenizer.Flags{ParseSpecial: true})
		if err != nil {
			return -1, err
		}
		plain, err := a.tok.Encode(a.ctx, []string{form}, tokenizer.Flags{})
		if err != nil {
			return -1, err
		}
		if len(as[0]) == 1 && !slices.Equal(as[0], plain[0]) && !slices.Contains(a.ends(), as[0][0]) {
			return as[0][0], nil
		}
	}
	return -1, nil
}

// ends are the control tokens that are no language.
func (a *asker) ends() []int32 {
	return append([]int32{a.info.BOS, a.info.EOS, a.info.EOT, a.info.Unknown, a.info.Pad, a.info.Mask}, a.info.EOG...)
}

// named puts the source's token where the tokenizer puts that of its own source language.
func (a *asker) named(text, source, target string) (Input, error) {
	var in Input
	if target != "" {
		id, err := a.language(target)
		switch {
		case err != nil:
			return in, err
		case id < 0:
			return in, a.stranger("", target)
		}
		in.First = []int32{id}
	}
	whole, err := a.tok.Encode(a.ctx, []string{text}, tokenizer.Flags{AddSpecial: true})
	if err != nil {
		return in, err
	}
	in.IDs = whole[0]
	if source == "" {
		return in, nil
	}
	id, err := a.language(source)
	switch {
	case err != nil:
		return in, err
	case id < 0:
		return in, a.stranger(source, "")
	}
	bare, err := a.tok.Encode(a.ctx, []string{text}, tokenizer.Flags{})
	if err != nil {
		return in, err
	}
	around := len(in.IDs) - len(bare[0])
	for before := 0; before <= around; before++ {
		if !slices.Equal(in.IDs[before:before+len(bare[0])], bare[0]) {
			continue
		}
		places := 0
		for i := range in.IDs {
			if inside := i >= before && i < before+len(bare[0]); !inside && !slices.Contains(a.ends(), in.IDs[i]) {
				in.IDs[i] = id
				places++
			}
		}
		if places == 1 {
			return in, nil
		}
		break
	}
	return in, fmt.Errorf(
		"%w: source_lang: the tokenizer's files do not say where the source language's token stands: leave it out",
		protocol.ErrUnsupported,
	)
}

// marked puts a mark before the text. The mark is ours, and control tokens in the text are none.
func (a *asker) marked(text, mark string) (Input, error) {
	as, err := a.tok.Encode(a.ctx, []string{strings.TrimSpace(mark)}, tokenizer.Flags{ParseSpecial: true})
	if err != nil {
		return Input{}, err
	}
	plain, err := a.tok.Encode(a.ctx, []string{strings.TrimSpace(mark)}, tokenizer.Flags{})
	if err != nil {
		return Input{}, err
	}
	if slices.Equal(as[0], plain[0]) { // a piece of the vocabulary, which is found in the text as any other
		lists, err := a.tok.Encode(a.ctx, []string{mark + text}, tokenizer.Flags{AddSpecial: true})
		if err != nil {
			return Input{}, err
		}
		return Input{IDs: lists[0]}, nil
	}
	lists, err := a.tok.Encode(a.ctx, []string{text}, tokenizer.Flags{AddSpecial: true})
	if err != nil {
		return Input{}, err
	}
	return Input{IDs: slices.Concat(as[0], lists[0])}, nil
}

// asked says in words what to do, as T5 was trained with.
func (a *asker) asked(text, source, target string) (Input, error) {
	from, to := word(source), word(target)
	if from == "" || to == "" {
		return Input{}, fmt.Errorf(
			"%w: source_lang and target_lang: this model is told in words what to translate, and needs both: codes as en, or words as English",
			protocol.ErrInvalid,
		)
	}
	lists, err := a.tok.Encode(a.ctx, []string{"translate " + from + " to " + to + ": " + text}, tokenizer.Flags{AddSpecial: true})
	if err != nil {
		return Input{}, err
	}
	return Input{IDs: lists[0]}, nil
}

// word is a language's English name: of a code, or as it is given.
func word(code string) string {
	if w, ok := words()[strings.ToLower(code)]; ok {
		return w
	}
	if len(code) <= 3 || strings.ContainsFunc(code, func(r rune) bool { return r != '-' && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z') }) {
		return ""
	}
	return strings.ToUpper(code[:1]) + code[1:]
}

// words are the languages that T5 and Flan-T5 were trained with in number, by their ISO 639-1 codes.
func words() map[string]string {
	return map[string]string{
		"en": "English",
		"de": "German",
		"fr": "French",
		"ro": "Romanian",
		"es": "Spanish",
		"it": "Italian",
		"pt": "Portuguese",
		"nl": "Dutch",
		"pl": "Polish",
		"cs": "Czech",
		"ru": "Russian",
		"tr": "Turkish",
		"ja": "Japanese",
		"zh": "Chinese",
		"ar": "Arabic",
		"hi": "Hindi",
		"da": "Danish",
		"sv": "Swedish",
		"fi": "Finnish",
		"no": "Norwegian",
		"hu": "Hungarian",
		"el": "Greek",
		"bg": "Bulgarian",
		"vi": "Vietnamese",
	}
}

// shownMost is how many languages a message lists.
const shownMost = 20

// stranger is the error of a language that there is no token for.
func (a *asker) stranger(source, target string) error {
	names, err := a.names()
	if err != nil {
		return err
	}
	return unknown(source, target, names)
}

// names are the languages that the tokenizer has tokens for.
func (a *asker) names() ([]string, error) {
	v, err := a.tok.Vocabulary(a.ctx)
	if err != nil {
		return nil, err
	}
	found := map[string]bool{}
	for id, piece := range v.Pieces {
		if name := codeOf(string(piece), id < len(v.Control) && v.Control[id]); name != "" {
			found[name] = true
		}
	}
	return slices.Sorted(maps.Keys(found)), nil
}

// unknown says which languages there are in place of one that is none.
func unknown(source, target string, names []string) error {
	field, code := "target_lang", target
	if target == "" {
		field, code = "source_lang", source
	}
	if len(names) == 0 {
		return fmt.Errorf(
			"%w: %s: the model's tokenizer knows no languages: leave source_lang and target_lang out",
			protocol.ErrUnsupported,
			field,
		)
	}
	if n := len(names); n > shownMost {
		names = append(names[:shownMost:shownMost], fmt.Sprintf("… (%d)", n))
	}
	return fmt.Errorf("%w: %s: %q is none of this model's languages: %s", protocol.ErrInvalid, field, code, strings.Join(names, ", "))
}

// codeOf is the language that a token stands for; "": none. Codes are de_DE and deu_Latn, where they are
// control tokens, and what __de__, >>deu<< and <2de> have in them.
func codeOf(piece string, control bool) string {
	piece = strings.TrimPrefix(piece, "▁")
	for _, form := range [][2]string{{">>", "<<"}, {"<2", ">"}, {"__", "__"}} {
		if rest, ok := strings.CutPrefix(piece, form[0]); ok {
			if name, ok := strings.CutSuffix(rest, form[1]); ok && letters(name, 2, 16) {
				return name
			}
		}
	}
	language, region, ok := strings.Cut(piece, "_")
	if control && ok && letters(language, 2, 3) && letters(region, 2, 4) {
		return piece
	}
	return ""
}

// letters reports whether a name is of so many letters, with lines and digits between.
func letters(s string, least, most int) bool {
	return len(s) >= least && len(s) <= most && !strings.ContainsFunc(s, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '_' || r == '-')
	})
}
