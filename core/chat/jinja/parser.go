package jinja

import (
	"slices"
	"strings"
)

// Bounds of a template's form. Python stops at about a thousand frames of its own, so no template that works there is near.
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
func (p *parser) statements(ends ...string) []stmt {
	defer p.enter()()
	if ends != nil {
		p.skipOp(":")
		p.expectKind(kBlockEnd, "%}")
		p.ends = append(p.ends, ends)
		defer func() { p.ends = p.ends[:len(p.ends)-1] }()
	}
	var body []stmt
	var out *outputStmt
	add := func(e expr, line int) {
		if out == nil {
			out = &outputStmt{}
			body = append(body, out)
		}
		out.parts = append(out.parts, e)
		out.lines = append(out.lines, line)
	}
	for {
		switch line := p.cur.line; p.cur.kind {
		case kEOF:
			if ends != nil {
				p.fail(line, "unexpected end of the template: %s is missing", strings.Join(ends, " or "))
			}
			return body
		case kData:
			add(&dataPart{p.next().text}, line)
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
			if s := p.statement(); s != nil {
				body = append(body, s)
			}
			p.expectKind(kBlockEnd, "%}")
		default:
			p.fail(line, "unexpected '%s'", p.cur)
		}
	}
}

// body reads statements up to the one tag end, and that tag.
func (p *parser) body(end string) []stmt {
	b := p.statements(end)
	p.next()
	return b
}

func (p *parser) statement() stmt {
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
		return &filterBlock{line: t.line, filter: f, body: p.body("endfilter")}
	case "with":
		return p.parseWith()
	case "block":
		return p.parseBlock()
	case "autoescape":
		p.next()
		on := p.expression()
		return &autoescapeStmt{line: t.line, on: on, body: p.body("endautoescape")}
	case "print":
		p.next()
		out := &outputStmt{}
		for p.cur.kind != kBlockEnd {
			if len(out.parts) > 0 {
				p.expectOp(",")
			}
			out.lines = append(out.lines, p.cur.line)
			out.parts = append(out.parts, p.expression())
		}
		return out
	case "generation":
		p.next()
		m := &macroStmt{line: t.line, name: "caller", anonymous: true}
		p.macroBody(m, "endgeneration")
		return &callBlock{line: t.line, macro: m}
	case "break", "continue":
		p.next()
		if p.loops == 0 {
			p.fail(t.line, "'%s' stands outside a loop", t.text)
		}
		if t.text == "break" {
			return jumpStmt{goBreak}
		}
		return jumpStmt{goContinue}
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
func (p *parser) macroBody(m *macroStmt, end string) {
	before := p.seen
	p.function(func() { m.body = p.body(end) })
	m.usesCaller = p.seen.caller > before.caller
	m.usesKwargs = p.seen.kwargs > before.kwargs
	m.usesVarargs = p.seen.varargs > before.varargs
	for i, param := range m.params {
		switch param.name {
		case "caller":
			if m.usesCaller && i < len(m.params)-len(m.defaults) {
				p.fail(m.line, "a parameter caller is given by the call: leave it out, or give it a default")
			}
			m.explicit, m.usesCaller = true, false
		case "kwargs":
			m.usesKwargs = false
		case "varargs":
			m.usesVarargs = false
		}
	}
}

func (p *parser) parseFor() stmt {
	s := &forStmt{line: p.next().line}
	s.target = p.target(false, "in")
	if !p.skipName("in") {
		p.fail(p.cur.line, "expected 'in', got '%s'", p.cur)
	}
	s.over = p.tuple(false, []string{"recursive"}, false)
	if p.skipName("if") {
		s.test = p.expression()
	}
	s.recursive = p.skipName("recursive")
	before := p.seen.loop
	p.loops++
	s.body = p.statements("endfor", "else")
	p.loops--
	s.usesLoop = s.recursive || p.seen.loop > before
	if p.next().text == "else" {
		s.or = p.body("endfor")
	}
	return s
}

func (p *parser) parseIf() stmt {
	first := &ifStmt{line: p.next().line}
	for s := first; ; {
		s.test = p.tuple(false, nil, false)
		s.body = p.statements("elif", "else", "endif")
		switch t := p.next(); t.text {
		case "elif":
			s = &ifStmt{line: t.line}
			first.elifs = append(first.elifs, s)
			continue
		case "else":
			first.or = p.body("endif")
		}
		return first
	}
}

func (p *parser) parseSet() stmt {
	line := p.next().line
	target := p.target(true)
	if p.skipOp("=") {
		return &setStmt{line: line, target: target, value: p.tuple(true, nil, false)}
	}
	var f expr
	if p.cur.op("|") {
		f = p.filter(nil, false)
	}
	return &setBlock{line: line, target: target, filter: f, body: p.body("endset")}
}

func (p *parser) parseWith() stmt {
	s := &withStmt{line: p.next().line}
	for p.cur.kind != kBlockEnd {
		if len(s.targets) > 0 {
			p.expectOp(",")
		}
		s.targets = append(s.targets, p.target(false))
		p.expectOp("=")
		s.values = append(s.values, p.expression())
	}
	s.body = p.body("endwith")
	return s
}

func (p *parser) parseBlock() stmt {
	s := &blockStmt{line: p.next().line}
	s.name = p.expectName().text
	if p.blocks[s.name] {
		p.fail(s.line, "block '%s' is defined twice", s.name)
	}
	p.blocks[s.name] = true
	s.scoped = p.skipName("scoped")
	required := p.skipName("required")
	p.function(func() { s.body = p.body("endblock") })
	if required {
		for _, b := range s.body {
			out, ok := b.(*outputStmt)
			if !ok {
				p.fail(s.line, "a required block holds nothing but whitespace")
			}
			for _, part := range out.parts {
				if d, ok := part.(*dataPart); !ok || trimLeft(d.text) != "" {
					p.fail(s.line, "a required block holds nothing but whitespace")
				}
			}
		}
	}
	p.skipName(s.name)
	return s
}

func (p *parser) parseLoader() stmt {
	t := p.next()
	s := &loaderStmt{line: t.line, tag: t.text}
	s.name = p.expression()
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
		s.targets = append(s.targets, &nameExpr{name: p.expectName().text})
	case "from":
		if !p.skipName("import") {
			p.fail(p.cur.line, "expected 'import', got '%s'", p.cur)
		}
		for {
			name := p.expectName().text
			if p.skipName("as") {
				name = p.expectName().text
			}
			s.targets = append(s.targets, &nameExpr{name: name})
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
func (p *parser) signature(m *macroStmt) {
	p.expectOp("(")
	for !p.cur.op(")") {
		if len(m.params) > 0 {
			p.expectOp(",")
		}
		t := p.expectName()
		if reserved(t.text) {
			p.fail(t.line, "'%s' cannot be assigned", t.text)
		}
		for _, other := range m.params {
			if other.name == t.text {
				p.fail(t.line, "the parameter '%s' stands twice", t.text)
			}
		}
		m.params = append(m.params, &nameExpr{name: t.text, line: t.line})
		if p.skipOp("=") {
			m.defaults = append(m.defaults, p.expression())
		} else if len(m.defaults) > 0 {
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

func (p *parser) parseMacro() stmt {
	m := &macroStmt{line: p.next().line}
	t := p.expectName()
	if reserved(t.text) {
		p.fail(t.line, "'%s' cannot be assigned", t.text)
	}
	m.name = t.text
	p.signature(m)
	p.macroBody(m, "endmacro")
	return m
}

func (p *parser) parseCallBlock() stmt {
	s := &callBlock{line: p.next().line, macro: &macroStmt{name: "caller", anonymous: true}}
	s.macro.line = s.line
	if p.cur.op("(") {
		p.signature(s.macro)
	}
	call, ok := p.expression().(*callExpr)
	if !ok {
		p.fail(s.line, "a call is expected after 'call'")
	}
	s.call = call
	p.macroBody(s.macro, "endcall")
	return s
}

// target reads what can be assigned to: a name, several, or (with ns) an attribute of a namespace.
func (p *parser) target(ns bool, ends ...string) expr {
	line := p.cur.line
	e := p.list(func() expr { return p.primary(ns) }, ends, false)
	p.assignable(e, line)
	return e
}

func (p *parser) assignable(e expr, line int) {
	switch t := e.(type) {
	case *nameExpr, *nsTarget:
		return
	case *tupleExpr:
		for _, item := range t.items {
			p.assignable(item, line)
		}
		return
	}
	p.fail(line, "this cannot be assigned to: want a name, or several")
}

// tuple reads an expression, or several apart by commas as a tuple.
func (p *parser) tuple(cond bool, ends []string, parens bool) expr {
	return p.list(func() expr {
		if cond {
			return p.expression()
		}
		return p.or()
	}, ends, parens)
}

func (p *parser) list(parse func() expr, ends []string, parens bool) expr {
	defer p.enter()()
	var items []expr
	tuple := false
	for {
		if len(items) > 0 {
			p.expectOp(",")
		}
		if p.cur.kind == kVarEnd || p.cur.kind == kBlockEnd || p.cur.op(")") || p.cur.kind == kName && slices.Contains(ends, p.cur.text) {
			break
		}
		items = append(items, parse())
		if !p.cur.op(",") {
			break
		}
		tuple = true
	}
	if !tuple {
		if len(items) > 0 {
			return items[0]
		}
		if !parens {
			p.fail(p.cur.line, "expected an expression, got '%s'", p.cur)
		}
	}
	return &tupleExpr{items}
}

func (p *parser) expression() expr {
	defer p.enter()()
	e := p.or()
	n := 0
	for p.cur.is("if") {
		line := p.next().line
		p.chain(&n)
		c := &condExpr{then: e, line: line}
		c.test = p.or()
		if p.skipName("else") {
			c.or = p.expression()
		}
		e = c
	}
	return e
}

func (p *parser) or() expr {
	defer p.enter()()
	e := p.and()
	for n := 0; p.skipName("or"); {
		p.chain(&n)
		e = &orExpr{e, p.and()}
	}
	return e
}

func (p *parser) and() expr {
	e := p.not()
	for n := 0; p.skipName("and"); {
		p.chain(&n)
		e = &andExpr{e, p.not()}
	}
	return e
}

func (p *parser) not() expr {
	if p.cur.is("not") {
		defer p.enter()()
		p.next()
		return &notExpr{p.not()}
	}
	return p.compare()
}

func (p *parser) compare() expr {
	first := p.sum()
	c := &compareExpr{first: first}
	for {
		op := ""
		switch {
		case p.cur.kind == kOp && slices.Contains([]string{"==", "!=", "<", "<=", ">", ">="}, p.cur.text):
			op = p.next().text
		case p.skipName("in"):
			op = "in"
		case p.cur.is("not") && p.look().is("in"):
			p.next()
			p.next()
			op = "not in"
		default:
			if len(c.ops) == 0 {
				return first
			}
			return c
		}
		c.ops = append(c.ops, op)
		c.rest = append(c.rest, p.sum())
	}
}

func (p *parser) sum() expr {
	e := p.concat()
	for n := 0; p.cur.op("+") || p.cur.op("-"); {
		p.chain(&n)
		op := p.next().text
		e = &binExpr{op, e, p.concat()}
	}
	return e
}

func (p *parser) concat() expr {
	e := p.product()
	if !p.cur.op("~") {
		return e
	}
	c := &concatExpr{parts: []expr{e}}
	for p.skipOp("~") {
		c.parts = append(c.parts, p.product())
	}
	return c
}

func (p *parser) product() expr {
	e := p.power()
	for n := 0; p.cur.kind == kOp && slices.Contains([]string{"*", "/", "//", "%"}, p.cur.text); {
		p.chain(&n)
		op := p.next().text
		e = &binExpr{op, e, p.power()}
	}
	return e
}

func (p *parser) power() expr {
	e := p.unary(true)
	for n := 0; p.skipOp("**"); {
		p.chain(&n)
		e = &binExpr{"**", e, p.unary(true)}
	}
	return e
}

func (p *parser) unary(filters bool) expr {
	defer p.enter()()
	var e expr
	switch {
	case p.skipOp("-"):
		e = &signExpr{true, p.unary(false)}
	case p.skipOp("+"):
		e = &signExpr{false, p.unary(false)}
	default:
		e = p.primary(false)
	}
	e = p.postfix(e)
	if filters {
		e = p.filters(e)
	}
	return e
}

func (p *parser) primary(ns bool) expr {
	t := p.cur
	switch t.kind {
	case kName:
		p.next()
		switch t.text {
		case "true", "True":
			return &constant{true}
		case "false", "False":
			return &constant{false}
		case "none", "None":
			return &constant{nil}
		}
		if ns && p.skipOp(".") {
			return &nsTarget{name: t.text, attr: p.expectName().text}
		}
		switch t.text {
		case "loop":
			p.seen.loop++
		case "caller":
			p.seen.caller++
		case "kwargs":
			p.seen.kwargs++
		case "varargs":
			p.seen.varargs++
		}
		return &nameExpr{name: t.text, line: t.line}
	case kString:
		s := p.next().text
		if p.cur.kind == kString {
			var b strings.Builder
			b.WriteString(s)
			for p.cur.kind == kString {
				b.WriteString(p.next().text)
			}
			s = b.String()
		}
		return &constant{s}
	case kInt, kFloat:
		p.next()
		return &constant{t.num}
	}
	switch {
	case p.skipOp("("):
		e := p.tuple(true, nil, true)
		p.expectOp(")")
		return e
	case p.skipOp("["):
		defer p.enter()()
		l := &listExpr{}
		for !p.cur.op("]") {
			if len(l.items) > 0 {
				p.expectOp(",")
				if p.cur.op("]") {
					break
				}
			}
			l.items = append(l.items, p.expression())
		}
		p.expectOp("]")
		return l
	case p.skipOp("{"):
		defer p.enter()()
		d := &dictExpr{}
		for !p.cur.op("}") {
			if len(d.keys) > 0 {
				p.expectOp(",")
				if p.cur.op("}") {
					break
				}
			}
			d.keys = append(d.keys, p.expression())
			p.expectOp(":")
			d.vals = append(d.vals, p.expression())
		}
		p.expectOp("}")
		return d
	}
	p.fail(t.line, "unexpected '%s'", t)
	return nil
}

func (p *parser) postfix(e expr) expr {
	for n := 0; ; p.chain(&n) {
		switch {
		case p.cur.op(".") || p.cur.op("["):
			e = p.subscript(e)
		case p.cur.op("("):
			e = &callExpr{e, p.callArgs()}
		default:
			return e
		}
	}
}

func (p *parser) filters(e expr) expr {
	for n := 0; ; p.chain(&n) {
		switch {
		case p.cur.op("|"):
			e = p.filter(e, false)
		case p.cur.is("is"):
			e = p.test(e)
		case p.cur.op("("):
			e = &callExpr{e, p.callArgs()}
		default:
			return e
		}
	}
}

func (p *parser) subscript(e expr) expr {
	if p.skipOp(".") {
		t := p.next()
		switch t.kind {
		case kName:
			return &attrExpr{e, t.text}
		case kInt:
			return &itemExpr{of: e, key: &constant{t.num}}
		}
		p.fail(t.line, "expected a name or a number, got '%s'", t)
	}
	p.expectOp("[")
	var items []expr
	for !p.cur.op("]") {
		if len(items) > 0 {
			p.expectOp(",")
		}
		items = append(items, p.subscribed())
	}
	p.expectOp("]")
	if len(items) == 1 {
		return &itemExpr{of: e, key: items[0]}
	}
	return &itemExpr{of: e, key: &tupleExpr{items}}
}

func (p *parser) subscribed() expr {
	var s sliceExpr
	if !p.cur.op(":") {
		e := p.expression()
		if !p.cur.op(":") {
			return e
		}
		s.from = e
	}
	p.expectOp(":")
	end := func() bool { return p.cur.op("]") || p.cur.op(",") }
	if !p.cur.op(":") && !end() {
		s.to = p.expression()
	}
	if p.skipOp(":") && !end() {
		s.step = p.expression()
	}
	return &s
}

func (p *parser) callArgs() callArgs {
	defer p.enter()()
	line := p.expectOp("(").line
	var a callArgs
	ensure := func(ok bool) {
		if !ok {
			p.fail(line, "the arguments of a call are in an order that is not allowed")
		}
	}
	for first := true; !p.cur.op(")"); first = false {
		if !first {
			p.expectOp(",")
			if p.cur.op(")") {
				break
			}
		}
		switch {
		case p.skipOp("*"):
			ensure(a.star == nil && a.map_ == nil)
			a.star = p.expression()
		case p.skipOp("**"):
			ensure(a.map_ == nil)
			a.map_ = p.expression()
		case p.cur.kind == kName && p.look().op("="):
			ensure(a.map_ == nil)
			name := p.next().text
			p.next()
			if slices.Contains(a.names, name) {
				p.fail(line, "the argument '%s' stands twice", name)
			}
			a.names = append(a.names, name)
			a.named = append(a.named, p.expression())
		default:
			ensure(a.star == nil && a.map_ == nil && len(a.names) == 0)
			a.pos = append(a.pos, p.expression())
		}
	}
	p.expectOp(")")
	return a
}

// filter reads one filter or, where it begins a block, all that follow.
func (p *parser) filter(e expr, block bool) expr {
	for n := 0; p.cur.op("|") || block; p.chain(&n) {
		if !block {
			p.next()
		}
		block = false
		name := p.dotted()
		f := &filterExpr{of: e, name: name}
		if p.cur.op("(") {
			f.args = p.callArgs()
		}
		e = f
	}
	return e
}

func (p *parser) dotted() string {
	name := p.expectName().text
	for n := 0; p.skipOp("."); p.chain(&n) {
		name += "." + p.expectName().text
	}
	return name
}

func (p *parser) test(e expr) expr {
	p.next()
	negated := p.skipName("not")
	t := &testExpr{of: e, name: p.dotted()}
	switch {
	case p.cur.op("("):
		t.args = p.callArgs()
	case (p.cur.kind == kName || p.cur.kind == kString || p.cur.kind == kInt || p.cur.kind == kFloat || p.cur.op("[") || p.cur.op("{")) &&
		!p.cur.is("else") && !p.cur.is("or") && !p.cur.is("and"):
		if p.cur.is("is") {
			p.fail(p.cur.line, "tests cannot stand one after the other with 'is'")
		}
		t.args.pos = []expr{p.postfix(p.primary(false))}
	}
	if negated {
		return &notExpr{t}
	}
	return t
}

// fixed says whether an expression names nothing, so that Jinja computes it when it compiles.
func fixed(e expr, depth int) bool {
	if depth == 0 {
		return false
	}
	switch e.(type) {
	case *nameExpr, *callExpr:
		return false
	}
	ok := true
	eachPart(e, func(part expr) { ok = ok && fixed(part, depth-1) })
	return ok
}

// fold marks the slices of an expression that Jinja computes when it compiles.
func fold(e expr) {
	if item, ok := e.(*itemExpr); ok {
		item.folded = true
	}
	eachPart(e, fold)
}
