package gbnf

import (
	"encoding/json"
	"strings"

	"edged/core/infer/grammar/expression"
)

// TokenBegin and TokenEnd stand around the name of a control token in the bytes that a grammar is about. They are in no
// UTF-8, so that no text is taken for one.
const (
	TokenBegin = 0xff
	TokenEnd   = 0xfe
)

// maxShown is how many control tokens a grammar may show.
const maxShown = 64

// ShownDirective begins the line of a grammar that names control tokens which are a part of the text.
const ShownDirective = "%shown "

// TokenPiece is the piece of a control token that is written like this, for NewVocabulary and Matcher.Advance.
func TokenPiece(text []byte) []byte {
	out := make([]byte, 0, len(text)+2)
	return append(append(append(out, TokenBegin), text...), TokenEnd)
}

// CutShown cuts the line of Show off a grammar.
func CutShown(text string) (line, rest string) {
	if !strings.HasPrefix(text, ShownDirective) {
		return "", text
	}
	if i := strings.IndexByte(text, '\n'); i >= 0 {
		return text[:i+1], text[i+1:]
	}
	return text, ""
}

// checkShown says what is wrong with the line of Show.
func checkShown(text string) error {
	line, _ := CutShown(text)
	if line == "" {
		return nil
	}
	var tokens []string
	if err := json.Unmarshal([]byte(strings.TrimPrefix(line, ShownDirective)), &tokens); err != nil {
		return expression.Syntaxf("line 1: %%shown wants a list of texts")
	}
	if len(tokens) > maxShown {
		return expression.Syntaxf("line 1: %%shown names %d tokens, and at most %d are taken", len(tokens), maxShown)
	}
	return nil
}

// AfterDirective begins the first line of a grammar that holds only what follows a mark.
const AfterDirective = "%after "
