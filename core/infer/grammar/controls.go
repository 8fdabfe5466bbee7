package grammar

import (
	"encoding/json"
	"slices"
	"strings"

	"edged/core/infer/grammar/gbnf"
	"edged/core/infer/grammar/jsonvalue"
)

// Show puts the line before a grammar that makes control tokens a part of the answer's text. Without a
// grammar the answer stays free. What is shown already stays so.
func Show(tokens []string, text string) string {
	if len(tokens) == 0 {
		return text
	}
	before, _ := Shown(text)
	_, text = gbnf.CutShown(text)
	for _, t := range before {
		if !slices.Contains(tokens, t) {
			tokens = append(slices.Clone(tokens), t)
		}
	}
	quoted := make([]string, len(tokens))
	for i, t := range tokens {
		quoted[i] = jsonvalue.Quote(t)
	}
	return gbnf.ShownDirective + "[" + strings.Join(quoted, ", ") + "]\n" + text
}

// ShownOnly returns the part of a grammar that counts where the answer is free: the line of Show, "" where
// there is none.
func ShownOnly(text string) string {
	line, _ := gbnf.CutShown(text)
	return line
}

// Shown are the control tokens that are a part of the text, and whether the grammar says more than that.
func Shown(text string) (tokens []string, more bool) {
	line, rest := gbnf.CutShown(text)
	if raw, ok := strings.CutPrefix(line, gbnf.ShownDirective); ok {
		_ = json.Unmarshal([]byte(raw), &tokens) // a line that Parse refuses shows nothing
	}
	return tokens, strings.TrimSpace(rest) != ""
}

// Tokens are the control tokens that a grammar names with %token.
func (a *Automaton) Tokens() []string { return a.g.named }
