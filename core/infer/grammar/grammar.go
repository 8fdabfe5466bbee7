// Package grammar holds generated text to a form: it turns a grammar into sets of tokens that may come next.
//
// The one written form is GBNF, as llama.cpp's users know it, with two additions that stand where a literal may stand:
//
//	%json {…}     a JSON value that the schema describes (see schema.go for the subset)
//	%regex "…"    a text that the whole regular expression matches (RE2 syntax; the quotes and escapes are JSON's)
//	%token "…"    the control token that is written like this, never the same characters in other tokens
//
// and two that stand on the first lines:
//
//	%shown ["…", …]    control tokens that are a part of the answer's text, as those of %token are
//	%after "…" name    the text is free; from each "…" in it on, it keeps to the rule of that name until that is complete
//
// All of it becomes one form: a network of rules over bytes, in which a rule may call rules. What the texts so far allow is
// a state: a set of places in the network, each with the stack of calls that it returns to. States are made when they are
// first reached and kept, with the set of tokens that may follow, so that most steps look both up.
//
//	text ─Parse─▶ Grammar ─Bind(Vocabulary)─▶ Automaton ─Start(limit)─▶ Matcher: Next, Advance, Next, Advance, …
//
// A state knows its distance to the nearest end, in bytes and in tokens. A token after which the answer could not be
// completed within the limit is not allowed, so an answer that is cut off by its limit does not happen.
//
// Grammars come from strangers. Everything is bounded: the text, the network, the depth of calls, the places of a state,
// the work for one set of tokens, and what is kept. A grammar beyond a bound is refused or fails its own request.
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
)

// What can be wrong with a grammar.
var (
	// ErrSyntax means that the grammar cannot be read, or describes no text at all.
	ErrSyntax = errors.New("grammar: wrong")
	// ErrUnsupported means something that could be right and is not served; the message names it and where it stands.
	ErrUnsupported = errors.New("grammar: not supported")
	// ErrTooLarge means that a bound is exceeded.
	ErrTooLarge = errors.New("grammar: too large")
	// ErrEffort means that the steps that were allowed did not suffice; it is ErrTooLarge, too.
	ErrEffort = fmt.Errorf("%w: too much work", ErrTooLarge)
	// ErrTooShort means that the limit is below the shortest text.
	ErrTooShort = errors.New("grammar: limit too small")
	// ErrRefused means that a token is not one of those that may come next.
	ErrRefused = errors.New("grammar: the text does not follow it")
)

// Bounds of one grammar.
const (
	MaxText    = 1 << 20 // bytes
	maxNodes   = 1 << 17 // of the network, edges included
	maxCount   = 1 << 20 // of repetitions, lengths and items
	maxNesting = 128     // of groups, of schemas
	maxRules   = 1 << 14
	maxFrames  = 512     // depth of calls
	maxPlaces  = 4096    // of one state, and what is looked at to find them
	maxKept    = 8 << 20 // bytes of states and sets that an automaton keeps
)

// Schema is the text of a grammar of one JSON value. The schema is one JSON value too, and nothing else: see json.Valid.
func Schema(schema []byte) string { return "root ::= %json " + string(schema) + "\n" }

// Regex is the text of a grammar of the texts that a regular expression matches as a whole.
func Regex(pattern string) string { return "root ::= %regex " + quote(pattern) + "\n" }

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

// directive begins the first line of a grammar that holds only what follows a mark.
const directive = "%after "

// After makes a grammar of texts that are free, but for what follows each mark: that keeps to a rule of the grammar.
func After(mark, rule, text string) string {
	return directive + quote(mark) + " " + rule + "\n" + text
}

// IsAfter tells whether a grammar is one that After made.
func IsAfter(text string) bool {
	_, body := shownLine(text)
	return strings.HasPrefix(body, directive)
}

// Mark is the mark of a grammar that After made.
func Mark(text string) (mark string, ok bool) {
	_, body := shownLine(text)
	rest, ok := strings.CutPrefix(body, directive)
	if !ok {
		return "", false
	}
	err := json.NewDecoder(strings.NewReader(rest)).Decode(&mark)
	return mark, err == nil && mark != ""
}

// Whole is a grammar without what After put before it: it holds whole texts, from its rule root on.
func Whole(text string) string {
	shown, body := shownLine(text)
	if !strings.HasPrefix(body, directive) {
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

func quote(s string) string {
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(s); err != nil {
		return `""` // a string always encodes
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// Grammar is a network of rules.
type Grammar struct {
	nodes []node
	rules []rule
	root  int32    // rule
	after string   // the mark behind which a text begins; "": it is the whole answer
	named []string // control tokens that %token names
	alive []bool
	class [256]uint8 // bytes that no edge tells apart are of one class
	least []byte     // of each class: one of its bytes
}

// node is a place in a rule.
type node struct {
	edges []edge
	eps   []int32
	calls []call
	end   bool // of its rule; it has nothing else then
}

// edge is passed by one byte of lo to hi.
type edge struct {
	to     int32
	lo, hi byte
}

// call is passed by a text of a rule.
type call struct{ rule, back int32 }

type rule struct {
	name       string
	start, end int32
}

// Parse reads a grammar and proves that it can be followed. The errors are ErrSyntax, ErrUnsupported, ErrTooLarge (with
// ErrEffort where it is the work) and the context's. It takes 0.2 s at most on a desktop, and 64 MiB, whatever the text.
func Parse(ctx context.Context, text string) (*Grammar, error) { return parse(ctx, text, maxEffort) }

// ParseQuick is Parse for who cannot wait: it gives up with ErrEffort after some milliseconds, where Parse may still
// read the grammar.
func ParseQuick(ctx context.Context, text string) (*Grammar, error) {
	return parse(ctx, text, maxEffort/128)
}

func parse(ctx context.Context, text string, steps int) (*Grammar, error) {
	if len(text) > MaxText {
		return nil, fmt.Errorf("%w: %d bytes, and at most %d are taken", ErrTooLarge, len(text), MaxText)
	}
	s := &source{names: map[string]int{}, root: "root", effort: newEffort(ctx, steps)}
	if err := s.spend(len(text) / 4); err != nil {
		return nil, err
	}
	if err := s.gbnf(text); err != nil {
		return nil, err
	}
	c := &compiler{src: s}
	return c.compile()
}

// source is a grammar as expressions, before it becomes a network.
type source struct {
	*effort
	names map[string]int // of rules
	rules []definition
	root  string
	after string
	named []string // control tokens that %token names
}

type definition struct {
	name string
	body *expr // nil: named, not defined
}

// op says what an expression is.
type op uint8

const (
	opEmpty   op = iota // the empty text
	opLit               // lit
	opClass             // one character of class
	opSeq               // subs, one after the other
	opAlt               // one of subs
	opRepeat            // subs[0], min to max times; max below 0: without end
	opRule              // a text of rule
	opMember            // subs in their order, between them ", "; must says which cannot be left out; see emitMembers
	opMachine           // a text that leads along moves from state 0 to one of ends
)

// expr is an expression. Expressions may share parts. There may be a hundred thousand of them, so that what few have stands
// apart.
type expr struct {
	op       op
	rule     int32
	lit      string
	class    []span
	subs     []*expr
	min, max int
	*parts   // of opMember and opMachine
}

// parts are what only the two largest expressions have.
type parts struct {
	must    []bool
	rest    *expr    // of opMember: one more member, repeated; nil: there are no others
	counted bool     // of opMember: there are min to max members
	moves   [][]move // of opMachine, by state
	ends    []bool   // of opMachine, by state
}

// span is a range of code points.
type span struct{ lo, hi rune }

func lit(s string) *expr { return &expr{op: opLit, lit: s} }

func seq(subs ...*expr) *expr { return &expr{op: opSeq, subs: subs} }

func alt(subs ...*expr) *expr { return &expr{op: opAlt, subs: subs} }

func class(spans ...span) *expr { return &expr{op: opClass, class: spans} }

func repeat(sub *expr, least, most int) *expr {
	return &expr{op: opRepeat, subs: []*expr{sub}, min: least, max: most}
}

func call1(rule int) *expr { return &expr{op: opRule, rule: int32(rule)} }

// rule is the number of a rule, which need not be defined yet.
func (s *source) rule(name string) (int, error) {
	if i, ok := s.names[name]; ok {
		return i, nil
	}
	i, err := s.add(name, nil)
	s.names[name] = i
	return i, err
}

// add makes a rule that no text can name.
func (s *source) add(name string, body *expr) (int, error) {
	if len(s.rules) >= maxRules {
		return 0, fmt.Errorf("%w: more than %d rules", ErrTooLarge, maxRules)
	}
	s.rules = append(s.rules, definition{name, body})
	return len(s.rules) - 1, nil
}

func wrong(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrSyntax, fmt.Sprintf(format, args...))
}

func unsupported(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrUnsupported, fmt.Sprintf(format, args...))
}
