package gbnf

import (
	"encoding/json"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"

	"edged/core/infer/grammar/expression"
	"edged/core/infer/grammar/regex"
	"edged/core/infer/grammar/schema"
)

// Read reads rules:
//
//	name ::= alternative | alternative …
//
// An alternative is a row of items: "text", [set], [^set], ., name, ( … ), %json, %regex; each may be
// followed by *, +, ?, {n}, {n,} or {n,m}. A rule ends with its line, unless a parenthesis is open or the
// line ends with "::=" or "|"; # begins a comment.
func Read(s *expression.Source, text string) error {
	if !utf8.ValidString(text) {
		return expression.Syntaxf("it is not UTF-8")
	}
	if err := checkShown(text); err != nil {
		return err
	}
	shown, _ := CutShown(text)
	p := &parser{src: s, text: text, at: len(shown)}
	if p.take(AfterDirective) {
		if err := p.after(); err != nil {
			return err
		}
	}
	for p.space(true); p.at < len(p.text); p.space(true) {
		if err := p.rule(); err != nil {
			return err
		}
	}
	return nil
}

// parser reads the text of a grammar.
type parser struct {
	src   *expression.Source
	text  string
	at    int
	depth int
}

func (p *parser) wrong(format string, args ...any) error {
	line := 1 + strings.Count(p.text[:min(p.at, len(p.text))], "\n")
	return expression.Syntaxf("line "+strconv.Itoa(line)+": "+format, args...)
}

// space skips blanks and comments, and line ends where those mean nothing.
func (p *parser) space(lines bool) {
	for p.at < len(p.text) {
		switch c := p.text[p.at]; {
		case c == ' ' || c == '\t', lines && (c == '\n' || c == '\r'):
			p.at++
		case c == '#':
			for p.at < len(p.text) && p.text[p.at] != '\n' && p.text[p.at] != '\r' {
				p.at++
			}
		default:
			return
		}
	}
}

func (p *parser) has(prefix string) bool { return strings.HasPrefix(p.text[p.at:], prefix) }

func (p *parser) take(prefix string) bool {
	if !p.has(prefix) {
		return false
	}
	p.at += len(prefix)
	return true
}

func (p *parser) name() string {
	start := p.at
	for p.at < len(p.text) {
		c := p.text[p.at]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '_' {
			break
		}
		p.at++
	}
	return p.text[start:p.at]
}

// maxMark is the longest mark, bytes.
const maxMark = 256

// after reads what follows %after.
func (p *parser) after() error {
	dec := json.NewDecoder(strings.NewReader(p.text[p.at:]))
	var mark string
	if err := dec.Decode(&mark); err != nil || mark == "" || len(mark) > maxMark {
		return p.wrong("%%after wants a text in quotes after it, of at most %d bytes", maxMark)
	}
	p.at += int(dec.InputOffset())
	p.space(false)
	name := p.name()
	p.space(false)
	if name == "" || p.at < len(p.text) && p.text[p.at] != '\n' && p.text[p.at] != '\r' {
		return p.wrong("%%after wants the name of a rule behind its text, and nothing more")
	}
	p.src.After, p.src.Root = mark, name
	return nil
}

func (p *parser) rule() error {
	name := p.name()
	if name == "" {
		return p.wrong("want the name of a rule, not %q", p.rest())
	}
	p.space(false)
	if !p.take("::=") {
		return p.wrong("want ::= after the name %s", name)
	}
	p.space(true)
	number, err := p.src.Rule(name)
	if err != nil {
		return err
	}
	if p.src.Rules[number].Body != nil {
		return p.wrong("rule %s is defined twice", name)
	}
	body, err := p.alternatives(false)
	if err != nil {
		return err
	}
	p.src.Rules[number].Body = body
	if p.at < len(p.text) && p.text[p.at] != '\n' && p.text[p.at] != '\r' {
		return p.wrong("rule %s: %q cannot stand here", name, p.rest())
	}
	return nil
}

// rest is a little of what follows, for messages.
func (p *parser) rest() string {
	rest := p.text[p.at:]
	if i := strings.IndexByte(rest, '\n'); i >= 0 {
		rest = rest[:i]
	}
	if r := []rune(rest); len(r) > 20 {
		rest = string(r[:20]) + "…"
	}
	return rest
}

func (p *parser) alternatives(nested bool) (*expression.Expr, error) {
	if p.depth++; p.depth > expression.MaxNesting {
		return nil, p.wrong("more than %d parentheses are open", expression.MaxNesting)
	}
	defer func() { p.depth-- }()
	var all []*expression.Expr
	for {
		one, err := p.row(nested)
		if err != nil {
			return nil, err
		}
		all = append(all, one)
		if !p.take("|") {
			break
		}
		p.space(true)
	}
	if len(all) == 1 {
		return all[0], nil
	}
	return expression.Choice(all), nil
}

func (p *parser) row(nested bool) (*expression.Expr, error) {
	row := expression.Sequence()
	for {
		p.space(nested)
		item, err := p.item()
		if err != nil {
			return nil, err
		}
		if item == nil {
			return row, nil
		}
		if item, err = p.repeated(item); err != nil {
			return nil, err
		}
		row.Subs = append(row.Subs, item)
	}
}

// item reads one item; nil: there is none.
func (p *parser) item() (*expression.Expr, error) {
	if p.at >= len(p.text) {
		return nil, nil
	}
	if err := p.src.Spend(4); err != nil {
		return nil, err
	}
	switch c := p.text[p.at]; {
	case c == '"':
		return p.literal()
	case c == '[':
		return p.set()
	case c == '.':
		p.at++
		return expression.Class(expression.Span{Lo: 0, Hi: utf8.MaxRune}), nil
	case c == '(':
		p.at++
		p.space(true)
		inner, err := p.alternatives(true)
		if err != nil {
			return nil, err
		}
		if !p.take(")") {
			return nil, p.wrong("a parenthesis is not closed before %q", p.rest())
		}
		return inner, nil
	case c == '%':
		return p.embedded()
	case c == '<' || c == '!':
		return nil, expression.Unsupportedf("tokens as items, such as <token>: write their text")
	}
	name := p.name()
	if name == "" {
		return nil, nil
	}
	number, err := p.src.Rule(name)
	if err != nil {
		return nil, err
	}
	return expression.Call(number), nil
}

// embedded reads %json and %regex.
func (p *parser) embedded() (*expression.Expr, error) {
	p.at++
	kind := p.name()
	p.space(true)
	const decoder = 100 // what one takes, in steps
	if err := p.src.Spend(decoder); err != nil {
		return nil, err
	}
	if kind != "json" && kind != "regex" && kind != "token" {
		return nil, p.wrong("%%%s is not known: there are %%json, %%regex and %%token", kind)
	}
	dec := json.NewDecoder(strings.NewReader(p.text[p.at:]))
	var raw json.RawMessage
	if err := dec.Decode(&raw); err != nil {
		return nil, p.wrong("%%%s wants JSON after it: %v", kind, err)
	}
	p.at += int(dec.InputOffset())
	if kind == "json" {
		return schema.Read(p.src, raw)
	}
	var pattern string
	if err := json.Unmarshal(raw, &pattern); err != nil {
		return nil, p.wrong("%%%s wants a text in quotes after it", kind)
	}
	if kind == "token" {
		if pattern == "" || len(pattern) > maxMark {
			return nil, p.wrong("%%token wants a text of 1 to %d bytes", maxMark)
		}
		p.src.Named = append(p.src.Named, pattern)
		return expression.Literal(string(TokenPiece([]byte(pattern)))), nil
	}
	return regex.Expression(p.src.Effort, pattern, regex.Whole, regex.PlainChars)
}

// repeated reads what may follow an item.
func (p *parser) repeated(item *expression.Expr) (*expression.Expr, error) {
	for p.at < len(p.text) {
		switch p.text[p.at] {
		case '*':
			p.at++
			item = expression.Repeat(item, 0, -1)
		case '+':
			p.at++
			item = expression.Repeat(item, 1, -1)
		case '?':
			p.at++
			item = expression.Repeat(item, 0, 1)
		case '{':
			p.at++
			least, most, err := p.counts()
			if err != nil {
				return nil, err
			}
			item = expression.Repeat(item, least, most)
		default:
			return item, nil
		}
	}
	return item, nil
}

func (p *parser) counts() (least, most int, err error) {
	p.space(false)
	least, ok := p.number()
	if !ok {
		return 0, 0, p.wrong("want a number after {")
	}
	most = least
	p.space(false)
	if p.take(",") {
		p.space(false)
		if most, ok = p.number(); !ok {
			most = -1
		}
		p.space(false)
	}
	switch {
	case !p.take("}"):
		return 0, 0, p.wrong("a repetition wants }")
	case most >= 0 && most < least:
		return 0, 0, p.wrong("a repetition of %d to %d times", least, most)
	case least > expression.MaxCount || most > expression.MaxCount:
		return 0, 0, p.wrong("a repetition of more than %d times", expression.MaxCount)
	}
	return least, most, nil
}

func (p *parser) number() (int, bool) {
	start := p.at
	for p.at < len(p.text) && p.text[p.at] >= '0' && p.text[p.at] <= '9' {
		p.at++
	}
	n, err := strconv.Atoi(p.text[start:p.at])
	if err != nil && p.at > start {
		n = math.MaxInt32
	}
	return n, p.at > start
}

func (p *parser) literal() (*expression.Expr, error) {
	p.at++
	var out []byte
	for {
		switch {
		case p.at >= len(p.text) || p.text[p.at] == '\n':
			return nil, p.wrong("a text in quotes does not end on its line")
		case p.text[p.at] == '"':
			p.at++
			return expression.Literal(string(out)), nil
		}
		r, err := p.char()
		if err != nil {
			return nil, err
		}
		out = utf8.AppendRune(out, r)
	}
}

// char reads a character of a text or a set, which may be escaped.
func (p *parser) char() (rune, error) {
	if !p.take(`\`) {
		r, n := utf8.DecodeRuneInString(p.text[p.at:])
		p.at += n
		return r, nil
	}
	if p.at >= len(p.text) {
		return 0, p.wrong("a backslash at the end")
	}
	c := p.text[p.at]
	p.at++
	var digits int
	switch c {
	case 'n':
		return '\n', nil
	case 'r':
		return '\r', nil
	case 't':
		return '\t', nil
	case '\\', '"', '[', ']', '-', '^':
		return rune(c), nil
	case 'x':
		digits = 2
	case 'u':
		digits = 4
	case 'U':
		digits = 8
	default:
		return 0, p.wrong(`\%c is not an escape: there are \n \r \t \\ \" \[ \] \- \^ \xHH \uHHHH \UHHHHHHHH`, c)
	}
	if len(p.text)-p.at < digits {
		return 0, p.wrong(`\%c wants %d hexadecimal digits`, c, digits)
	}
	n, err := strconv.ParseUint(p.text[p.at:p.at+digits], 16, 32)
	if err != nil || !utf8.ValidRune(rune(n)) {
		return 0, p.wrong(`\%c%s is not a character`, c, p.text[p.at:p.at+digits])
	}
	p.at += digits
	return rune(n), nil
}

func (p *parser) set() (*expression.Expr, error) {
	p.at++
	negated := p.take("^")
	var spans []expression.Span
	for !p.take("]") {
		if p.at >= len(p.text) || p.text[p.at] == '\n' {
			return nil, p.wrong("a set in brackets does not end on its line")
		}
		lo, err := p.char()
		if err != nil {
			return nil, err
		}
		hi := lo
		if p.has("-") && !p.has("-]") {
			p.at++
			if p.at >= len(p.text) {
				return nil, p.wrong("a set in brackets does not end on its line")
			}
			if hi, err = p.char(); err != nil {
				return nil, err
			}
			if hi < lo {
				return nil, p.wrong("the range %c-%c runs backwards", lo, hi)
			}
		}
		spans = append(spans, expression.Span{Lo: lo, Hi: hi})
	}
	spans = expression.Normalize(spans)
	if negated {
		spans = expression.Complement(spans)
	}
	if len(spans) == 0 {
		return nil, p.wrong("a set in brackets is empty")
	}
	return expression.Class(spans...), nil
}
