package syntax

import (
	"slices"
	"strings"

	"edged/core/chat/jinja/value"
)

// Bounds of a template's form. Python stops at about a thousand frames of its own, so no template that works
// there is near.
const (
	maxNesting = 400 // levels of the grammar inside each other: a hundred brackets
	maxChain   = 500 // operators, attributes or filters one after the other
)

// parser builds the tree of a template by recursive descent, one function for each level of binding.
type parser struct {
	lex    *lexer
	cur    token
	ahead  *token
	depth  int
	loops  int // for loops around, in this function
	blocks map[string]bool
	ends   [][]string
	seen   mentions
}

// mentions counts how often the names were read that a function or a loop provides only where they are used.
type mentions struct{ loop, caller, kwargs, varargs int }

func (p *parser) fail(line int, format string, args ...any) {
	panic(syntaxError(line, format, args...))
}

func (p *parser) next() token {
	t := p.cur
	if p.ahead != nil {
		p.cur, p.ahead = *p.ahead, nil
	} else {
		p.cur = p.lex.next()
	}
	return t
}

func (p *parser) look() token {
	if p.ahead == nil {
		t := p.lex.next()
		p.ahead = &t
	}
	return *p.ahead
}

func (p *parser) skipName(name string) bool {
	if p.cur.is(name) {
		p.next()
		return true
	}
	return false
}

func (p *parser) skipOp(op string) bool {
	if p.cur.op(op) {
		p.next()
		return true
	}
	return false
}

func (p *parser) expectOp(op string) token {
	if !p.cur.op(op) {
		p.fail(p.cur.line, "expected '%s', got '%s'", op, p.cur)
	}
	return p.next()
}

func (p *parser) expectName() token {
	if p.cur.kind != kName {
		p.fail(p.cur.line, "expected a name, got '%s'", p.cur)
	}
	return p.next()
}

func (p *parser) expectKind(k kind, what string) {
	if p.cur.kind != k {
		p.fail(p.cur.line, "expected '%s', got '%s'", what, p.cur)
	}
	p.next()
}

// enter counts a level of nesting; its result leaves it.
func (p *parser) enter() func() {
	p.depth++
	if p.depth > maxNesting {
		p.fail(p.cur.line, "nested deeper than %d levels", maxNesting)
	}
	return func() { p.depth-- }
}

// chain counts one more link at the same level.
func (p *parser) chain(n *int) {
	*n++
	if *n > maxChain {
		p.fail(p.cur.line, "more than %d operators in a row", maxChain)
	}
}

// statements reads up to a tag that is one of ends (nil: to the end of the template), which becomes the current token.
func (p *parser) statements(ends ...string) []Stmt {
	defer p.enter()()
	if ends != nil {
		p.skipOp(":")
		p.expectKind(kBlockEnd, "%}")
		p.ends = append(p.ends, ends)
		defer func() { p.ends = p.ends[:len(p.ends)-1] }()
	}
	var body []Stmt
	var out *Output
	add := func(e Expr, line int) {
		if out == nil {
			out = &Output{}
			body = append(body, out)
		}
		out.Parts = append(out.Parts, e)
		out.Lines = append(out.Lines, line)
	}
	for {
		switch line := p.cur.line; p.cur.kind {
		case kEOF:
			if ends != nil {
				p.fail(line, "unexpected end of the template: %s is missing", strings.Join(ends, " or "))
			}
			return body
		case kData:
			add(&Data{p.next().text}, line)
		case kVarBegin:
			p.next()
			e := p.tuple(true, nil, false)
			if fixed(e, maxNesting) {
				fold(e)
			}
			add(e, line)
			p.expectKind(kVarEnd, "}}")
		case kBlockBegin:
			out = nil
			p.next()
			if p.cur.kind == kName && slices.Contains(ends, p.cur.text) {
				return body
			}
			body = append(body, p.statement())
			p.expectKind(kBlockEnd, "%}")
		default:
			p.fail(line, "unexpected '%s'", p.cur)
		}
	}
}

// body reads statements up to the one tag end, and that tag.
func (p *parser) body(end string) []Stmt {
	b := p.statements(end)
	p.next()
	return b
}

func (p *parser) statement() Stmt {
	t := p.cur
	if t.kind != kName {
		p.fail(t.line, "a tag's name is expected, got '%s'", t)
	}
	switch t.text {
	case "for":
		return p.parseFor()
	case "if":
		return p.parseIf()
	case "set":
		return p.parseSet()
	case "macro":
		return p.parseMacro()
	case "call":
		return p.parseCallBlock()
	case "filter":
		p.next()
		f := p.filter(nil, true)
		return &FilterBlock{Line: t.line, Filter: f, Body: p.body("endfilter")}
	case "with":
		return p.parseWith()
	case "block":
		return p.parseBlock()
	case "autoescape":
		p.next()
		on := p.expression()
		return &Autoescape{Line: t.line, On: on, Body: p.body("endautoescape")}
	case "print":
		p.next()
		out := &Output{}
		for p.cur.kind != kBlockEnd {
			if len(out.Parts) > 0 {
				p.expectOp(",")
			}
			out.Lines = append(out.Lines, p.cur.line)
			out.Parts = append(out.Parts, p.expression())
		}
		return out
	case "generation":
		p.next()
		m := &Macro{Line: t.line, Name: "caller", Anonymous: true}
		p.macroBody(m, "endgeneration")
		return &CallBlock{Line: t.line, Macro: m}
	case "break", "continue":
		p.next()
		if p.loops == 0 {
			p.fail(t.line, "'%s' stands outside a loop", t.text)
		}
		if t.text == "break" {
			return &Jump{}
		}
		return &Jump{Again: true}
	case "include", "import", "from", "extends":
		return p.parseLoader()
	}
	for _, ends := range p.ends {
		if slices.Contains(ends, t.text) {
			p.fail(t.line, "'%s' comes too early: %s is missing", t.text, strings.Join(p.ends[len(p.ends)-1], " or "))
		}
	}
	p.fail(t.line, "unknown tag '%s'", t.text)
	return nil
}

// function parses what is a function of its own: loops around it do not count for break.
func (p *parser) function(parse func()) {
	loops := p.loops
	p.loops = 0
	parse()
	p.loops = loops
}

// macroBody parses a macro's body and notes which special names it uses.
func (p *parser) macroBody(m *Macro, end string) {
	before := p.seen
	p.function(func() { m.Body = p.body(end) })
	m.UsesCaller = p.seen.caller > before.caller
	m.usesKwargs = p.seen.kwargs > before.kwargs
	m.usesVarargs = p.seen.varargs > before.varargs
	for i, param := range m.Params {
		switch param.Name {
		case "caller":
			if m.UsesCaller && i < len(m.Params)-len(m.Defaults) {
				p.fail(m.Line, "a parameter caller is given by the call: leave it out, or give it a default")
			}
			m.Explicit, m.UsesCaller = true, false
		case "kwargs":
			m.usesKwargs = false
		case "varargs":
			m.usesVarargs = false
		}
	}
}

func (p *parser) parseFor() Stmt {
	s := &For{Line: p.next().line}
	s.Target = p.target(false, "in")
	if !p.skipName("in") {
		p.fail(p.cur.line, "expected 'in', got '%s'", p.cur)
	}
	s.Over = p.tuple(false, []string{"recursive"}, false)
	if p.skipName("if") {
		s.Test = p.expression()
	}
	s.Recursive = p.skipName("recursive")
	before := p.seen.loop
	p.loops++
	s.Body = p.statements("endfor", "else")
	p.loops--
	s.UsesLoop = s.Recursive || p.seen.loop > before
	if p.next().text == "else" {
		s.Else = p.body("endfor")
	}
	return s
}

func (p *parser) parseIf() Stmt {
	first := &If{Line: p.next().line}
	for s := first; ; {
		s.Test = p.tuple(false, nil, false)
		s.Body = p.statements("elif", "else", "endif")
		switch t := p.next(); t.text {
		case "elif":
			s = &If{Line: t.line}
			first.Elifs = append(first.Elifs, s)
			continue
		case "else":
			first.Else = p.body("endif")
		}
		return first
	}
}

func (p *parser) parseSet() Stmt {
	line := p.next().line
	target := p.target(true)
	if p.skipOp("=") {
		return &Set{Line: line, Target: target, Value: p.tuple(true, nil, false)}
	}
	var f Expr
	if p.cur.op("|") {
		f = p.filter(nil, false)
	}
	return &SetBlock{Line: line, Target: target, Filter: f, Body: p.body("endset")}
}

func (p *parser) parseWith() Stmt {
	s := &With{Line: p.next().line}
	for p.cur.kind != kBlockEnd {
		if len(s.Targets) > 0 {
			p.expectOp(",")
		}
		s.Targets = append(s.Targets, p.target(false))
		p.expectOp("=")
		s.Values = append(s.Values, p.expression())
	}
	s.Body = p.body("endwith")
	return s
}

func (p *parser) parseBlock() Stmt {
	s := &Block{Line: p.next().line}
	s.name = p.expectName().text
	if p.blocks[s.name] {
		p.fail(s.Line, "block '%s' is defined twice", s.name)
	}
	p.blocks[s.name] = true
	s.scoped = p.skipName("scoped")
	required := p.skipName("required")
	p.function(func() { s.Body = p.body("endblock") })
	if required {
		for _, b := range s.Body {
			out, ok := b.(*Output)
			if !ok {
				p.fail(s.Line, "a required block holds nothing but whitespace")
			}
			for _, part := range out.Parts {
				if d, ok := part.(*Data); !ok || value.TrimLeft(d.Text) != "" {
					p.fail(s.Line, "a required block holds nothing but whitespace")
				}
			}
		}
	}
	p.skipName(s.name)
	return s
}

func (p *parser) parseLoader() Stmt {
	t := p.next()
	s := &Loader{Line: t.line, Tag: t.text}
	s.Name = p.expression()
	switch t.text {
	case "include":
		if p.cur.is("ignore") && p.look().is("missing") {
			p.next()
			p.next()
			s.missing = true
		}
	case "import":
		if !p.skipName("as") {
			p.fail(p.cur.line, "expected 'as', got '%s'", p.cur)
		}
		s.targets = append(s.targets, &Name{Name: p.expectName().text})
	case "from":
		if !p.skipName("import") {
			p.fail(p.cur.line, "expected 'import', got '%s'", p.cur)
		}
		for {
			name := p.expectName().text
			if p.skipName("as") {
				name = p.expectName().text
			}
			s.targets = append(s.targets, &Name{Name: name})
			if !p.skipOp(",") {
				break
			}
		}
	}
	if (p.cur.is("with") || p.cur.is("without")) && p.look().is("context") {
		p.next()
		p.next()
	}
	return s
}

// signature reads a macro's parameters.
func (p *parser) signature(m *Macro) {
	p.expectOp("(")
	for !p.cur.op(")") {
		if len(m.Params) > 0 {
			p.expectOp(",")
		}
		t := p.expectName()
		if reserved(t.text) {
			p.fail(t.line, "'%s' cannot be assigned", t.text)
		}
		for _, other := range m.Params {
			if other.Name == t.text {
				p.fail(t.line, "the parameter '%s' stands twice", t.text)
			}
		}
		m.Params = append(m.Params, &Name{Name: t.text, line: t.line})
		if p.skipOp("=") {
			m.Defaults = append(m.Defaults, p.expression())
		} else if len(m.Defaults) > 0 {
			p.fail(t.line, "the parameter '%s' without a default follows one with a default", t.text)
		}
	}
	p.expectOp(")")
}

func reserved(name string) bool {
	switch name {
	case "true", "false", "none", "True", "False", "None":
		return true
	}
	return false
}

func (p *parser) parseMacro() Stmt {
	m := &Macro{Line: p.next().line}
	t := p.expectName()
	if reserved(t.text) {
		p.fail(t.line, "'%s' cannot be assigned", t.text)
	}
	m.Name = t.text
	p.signature(m)
	p.macroBody(m, "endmacro")
	return m
}

func (p *parser) parseCallBlock() Stmt {
	s := &CallBlock{Line: p.next().line, Macro: &Macro{Name: "caller", Anonymous: true}}
	s.Macro.Line = s.Line
	if p.cur.op("(") {
		p.signature(s.Macro)
	}
	call, ok := p.expression().(*Call)
	if !ok {
		p.fail(s.Line, "a call is expected after 'call'")
	}
	s.Call = call
	p.macroBody(s.Macro, "endcall")
	return s
}
