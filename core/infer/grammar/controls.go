package grammar

import (
	"encoding/json"
	"slices"
	"strings"
)

// tokenBegin and tokenEnd stand around the name of a control token in the bytes that a grammar is about. They are in no
// UTF-8, so that no text is taken for one.
const (
	tokenBegin = 0xff
	tokenEnd   = 0xfe
)

// maxShown is how many control tokens a grammar may show.
const maxShown = 64

// shownDirective begins the line of a grammar that names control tokens which are a part of the text.
const shownDirective = "%shown "

// TokenPiece is the piece of a control token that is written like this, for NewVocabulary and Matcher.Advance.
func TokenPiece(text []byte) []byte {
	out := make([]byte, 0, len(text)+2)
	return append(append(append(out, tokenBegin), text...), tokenEnd)
}

// Show puts the line before a grammar that makes control tokens a part of the answer's text. Without a grammar the answer
// stays free. What is shown already stays so.
func Show(tokens []string, text string) string {
	if len(tokens) == 0 {
		return text
	}
	before, _ := Shown(text)
	_, text = shownLine(text)
	for _, t := range before {
		if !slices.Contains(tokens, t) {
			tokens = append(slices.Clone(tokens), t)
		}
	}
	quoted := make([]string, len(tokens))
	for i, t := range tokens {
		quoted[i] = quote(t)
	}
	return shownDirective + "[" + strings.Join(quoted, ", ") + "]\n" + text
}

// ShownOnly is what is left of a grammar where the answer is free: the line of Show, "" where there is none.
func ShownOnly(text string) string {
	line, _ := shownLine(text)
	return line
}

// Shown are the control tokens that are a part of the text, and whether the grammar says more than that.
func Shown(text string) (tokens []string, more bool) {
	line, rest := shownLine(text)
	if raw, ok := strings.CutPrefix(line, shownDirective); ok {
		_ = json.Unmarshal([]byte(raw), &tokens) // a line that Parse refuses shows nothing
	}
	return tokens, strings.TrimSpace(rest) != ""
}

// Tokens are the control tokens that a grammar names with %token.
func (a *Automaton) Tokens() []string { return a.g.named }

// shownLine cuts the line of Show off a grammar.
func shownLine(text string) (line, rest string) {
	if !strings.HasPrefix(text, shownDirective) {
		return "", text
	}
	if i := strings.IndexByte(text, '\n'); i >= 0 {
		return text[:i+1], text[i+1:]
	}
	return text, ""
}

// checkShown says what is wrong with the line of Show.
func checkShown(text string) error {
	line, _ := shownLine(text)
	if line == "" {
		return nil
	}
	var tokens []string
	if err := json.Unmarshal([]byte(strings.TrimPrefix(line, shownDirective)), &tokens); err != nil {
		return wrong("line 1: %%shown wants a list of texts")
	}
	if len(tokens) > maxShown {
		return wrong("line 1: %%shown names %d tokens, and at most %d are taken", len(tokens), maxShown)
	}
	return nil
}
