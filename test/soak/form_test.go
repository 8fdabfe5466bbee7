package soak

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"

	"edged/core/infer/grammar"
	"edged/core/infer/grammar/grammartest"
	"edged/core/protocol/tokenizer"
)

// formKind is what an answer is held to.
type formKind int

const (
	inSchema formKind = iota
	inRegex
	inChoices
	inGBNF
	inCalls
	kindsOfForm
)

func (k formKind) String() string {
	return [kindsOfForm]string{"json_schema", "regex", "choice", "GBNF", "tool calls"}[k]
}

// form is a grammar, and what tells without it whether a text keeps to it.
type form struct {
	kind    formKind
	grammar string // "": free
	valid   func(text string) error
}

// form makes one: of few that come again and again, or a new one. Some are not served.
func (r *rig) form(rng *rand.Rand) form {
	seed := rng.Uint64N(6)
	if rng.IntN(2) == 0 {
		seed = rng.Uint64()
	}
	own := rand.New(rand.NewPCG(seed, 3))
	switch kind := formKind(rng.IntN(int(kindsOfForm))); kind {
	case inSchema:
		schema := grammartest.Schema(seed)
		if rng.IntN(20) == 0 {
			schema = `{"type":"integer","divisibleBy":3}`
		}
		return form{kind, grammar.Schema([]byte(schema)), func(text string) error { return grammartest.Validate(schema, []byte(text)) }}
	case inRegex:
		pattern := fmt.Sprintf(`(%s){%d,%d}( [^a]+)?[0-9]*`, []string{"[a-f]+x?", "on|off", "é|ü|.", `\d\d:\d\d`}[own.IntN(4)], own.IntN(3), 3+own.IntN(20))
		whole := regexp.MustCompile(`^(?:` + pattern + `)$`)
		return form{kind, grammar.Regex(pattern), func(text string) error { return want(whole.MatchString(text)) }}
	case inChoices:
		all := make([]string, 1+own.IntN(40))
		for i := range all {
			all[i] = fmt.Sprintf("the %c%x lamp\n", rune(0x3b1+i), own.Uint32()>>own.IntN(32))
		}
		return form{kind, grammar.Choices(all), func(text string) error { return want(slices.Contains(all, text)) }}
	case inGBNF:
		word := fmt.Sprintf("w%x", own.Uint32())
		text := "root ::= " + grammar.Literal(word+": ") + ` ("a" | "(" inner ")" | [0-9]{1,3})+ ";"` + "\ninner ::= \"\" | \"(\" inner \")\"\n"
		whole := regexp.MustCompile(`^` + word + `: (a|[()]|[0-9])+;$`)
		return form{kind, text, func(text string) error {
			return want(whole.MatchString(text) && strings.Count(text, "(") == strings.Count(text, ")"))
		}}
	default:
		return r.calls(seed, kind)
	}
}

// calls is the form of an answer that is nothing but calls of two tools, as the model's template has it.
func (r *rig) calls(seed uint64, kind formKind) form {
	schemas := map[string]string{}
	var tools []string
	for i, name := range []string{"light", "blind"} {
		schemas[name] = fmt.Sprintf(`{"type":"object","properties":{"room":{"enum":["hall","shed%d"]},"value":%s},"required":["room"]}`, i, grammartest.Schema(seed%1000+uint64(i)))
		if strings.Contains(schemas[name], `"$ref"`) { // its definitions stand at the root of a schema
			schemas[name] = fmt.Sprintf(`{"type":"object","properties":{"level":{"type":"integer","minimum":%d}},"required":["level"]}`, i)
		}
		tools = append(tools, fmt.Sprintf(`{"type":"function","function":{"name":%q,"parameters":%s}}`, name, schemas[name]))
	}
	out, err := r.tok.EncodeChat(r.t.Context(), tokenizer.Chat{
		Messages: json.RawMessage(`[{"role":"user","content":"On!"}]`), Tools: json.RawMessage("[" + strings.Join(tools, ",") + "]"), Template: "{{ tools }}",
	})
	if err != nil {
		r.t.Error(err)
		return form{}
	}
	return form{kind, out.Grammar, func(text string) error {
		parsed, err := r.tok.ParseTools(r.t.Context(), text)
		if err != nil || len(parsed.Calls) != 1 || parsed.Text != "" {
			return fmt.Errorf("read as %+v: %w", parsed, err)
		}
		return grammartest.Validate(schemas[parsed.Calls[0].Name], parsed.Calls[0].Arguments)
	}}
}

func want(kept bool) error {
	if !kept {
		return errors.New("it does not keep to the form")
	}
	return nil
}
