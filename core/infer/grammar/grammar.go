// Package grammar holds generated text to a form: it turns a grammar into sets of tokens that may come next.
//
// The one written form is GBNF, as llama.cpp's users know it, with two additions that stand where a literal may stand:
//
//	%json {…}     a JSON value that the schema describes (see package schema for the subset)
//	%regex "…"    a text that the whole regular expression matches (RE2 syntax; the quotes and escapes are JSON's)
//	%token "…"    the control token that is written like this, never the same characters in other tokens
//
// and two that stand on the first lines:
//
//	%shown ["…", …]    control tokens that are a part of the answer's text, as those of %token are
//	%after "…" name    the text is free; from each "…" in it on, it keeps to the rule of that name until that is complete
//
// All of it becomes one form: a network of rules over bytes, in which a rule may call rules. What the texts
// so far allow is a state: a set of places in the network, each with the stack of calls that it returns to.
// States are made when they are first reached and kept, with the set of tokens that may follow, so that most
// steps look both up.
//
//	text ─Parse─▶ Grammar ─Bind(Vocabulary)─▶ Automaton ─Start(limit)─▶ Matcher: Next, Advance, Next, Advance, …
//	      gbnf ─┬─▶ expression ─▶ network
//	    schema ─┤
//	     regex ─┘
//
// This package writes the texts of grammars and follows their networks with a vocabulary. Reading is done
// below it: gbnf reads rules, schema and regex what stands in them; all of them make expressions, which
// package network compiles.
//
// A state knows its distance to the nearest end, in bytes and in tokens. A token after which the answer could not be
// completed within the limit is not allowed, so an answer that is cut off by its limit does not happen.
//
// Grammars come from strangers. Everything is bounded: the text, the network, the depth of calls, the places
// of a state, the work for one set of tokens, and what is kept. A grammar beyond a bound is refused or fails
// its own request.
//
// It must not know requests, logits or models. A Grammar and a Vocabulary are immutable; an Automaton may be used
// concurrently; a Matcher belongs to one goroutine.
package grammar

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"edged/core/infer/grammar/expression"
	"edged/core/infer/grammar/gbnf"
	"edged/core/infer/grammar/jsonvalue"
	"edged/core/infer/grammar/network"
)

// What can be wrong with a grammar, as Parse says it.
var (
	// ErrSyntax means that the grammar cannot be read, or describes no text at all.
	ErrSyntax = expression.ErrSyntax
	// ErrUnsupported means something that could be right and is not served; the message names it and where it stands.
	ErrUnsupported = expression.ErrUnsupported
	// ErrTooLarge means that a bound is exceeded.
	ErrTooLarge = expression.ErrTooLarge
	// ErrEffort means that the steps that were allowed did not suffice; it is ErrTooLarge, too.
	ErrEffort = expression.ErrEffort
)

// What can be wrong with a text of it.
var (
	// ErrTooShort means that the limit is below the shortest text.
	ErrTooShort = errors.New("grammar: limit too small")
	// ErrRefused means that a token is not one of those that may come next.
	ErrRefused = errors.New("grammar: the text does not follow it")
)

// MaxText is how many bytes the text of a grammar may have.
const MaxText = 1 << 20

// Schema is the text of a grammar of one JSON value. The schema is one JSON value too, and nothing else: see
// json.Valid.
func Schema(schema []byte) string { return "root ::= %json " + string(schema) + "\n" }

// Regex is the text of a grammar of the texts that a regular expression matches as a whole.
func Regex(pattern string) string { return "root ::= %regex " + jsonvalue.Quote(pattern) + "\n" }

// Choices is the text of a grammar of some texts.
func Choices(texts []string) string {
	var b strings.Builder
	b.WriteString("root ::= ")
	for i, t := range texts {
		if i > 0 {
			b.WriteString(" | ")
		}
		b.WriteString(Literal(t))
	}
	b.WriteString("\n")
	return b.String()
}

// After makes a grammar of texts that are free, but for what follows each mark: that keeps to a rule of the grammar.
func After(mark, rule, text string) string {
	return gbnf.AfterDirective + jsonvalue.Quote(mark) + " " + rule + "\n" + text
}

// IsAfter tells whether a grammar is one that After made.
func IsAfter(text string) bool {
	_, body := gbnf.CutShown(text)
	return strings.HasPrefix(body, gbnf.AfterDirective)
}

// Mark is the mark of a grammar that After made.
func Mark(text string) (mark string, ok bool) {
	_, body := gbnf.CutShown(text)
	rest, ok := strings.CutPrefix(body, gbnf.AfterDirective)
	if !ok {
		return "", false
	}
	err := json.NewDecoder(strings.NewReader(rest)).Decode(&mark)
	return mark, err == nil && mark != ""
}

// Whole is a grammar without what After put before it: it holds whole texts, from its rule root on.
func Whole(text string) string {
	shown, body := gbnf.CutShown(text)
	if !strings.HasPrefix(body, gbnf.AfterDirective) {
		return text
	}
	_, rest, _ := strings.Cut(body, "\n")
	return shown + rest
}

// Literal writes a text as GBNF.
func Literal(text string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range text {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r < 0x20 || r == 0x7f:
			fmt.Fprintf(&b, `\x%02x`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// Grammar is a compiled grammar: the set of texts that an answer may be.
type Grammar struct {
	net   *network.Network
	after string   // the mark behind which a text begins; "": it is the whole answer
	named []string // control tokens that %token names
}

// Parse reads a grammar and proves that it can be followed. The errors are ErrSyntax, ErrUnsupported,
// ErrTooLarge (with ErrEffort where it is the work) and the context's. It takes 0.2 s at most on a desktop,
// and 64 MiB, whatever the text.
func Parse(ctx context.Context, text string) (*Grammar, error) {
	return parse(ctx, text, expression.MaxEffort)
}

// ParseQuick is Parse for who cannot wait: it gives up with ErrEffort after some milliseconds, where Parse may still
// read the grammar.
func ParseQuick(ctx context.Context, text string) (*Grammar, error) {
	return parse(ctx, text, expression.MaxEffort/128)
}

func parse(ctx context.Context, text string, steps int) (*Grammar, error) {
	if len(text) > MaxText {
		return nil, fmt.Errorf("%w: %d bytes, and at most %d are taken", expression.ErrTooLarge, len(text), MaxText)
	}
	s := expression.NewSource(ctx, steps)
	if err := s.Spend(len(text) / 4); err != nil {
		return nil, err
	}
	if err := gbnf.Read(s, text); err != nil {
		return nil, err
	}
	net, err := network.Compile(s)
	if err != nil {
		return nil, err
	}
	return &Grammar{net, s.After, s.Named}, nil
}
