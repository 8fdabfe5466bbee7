package jinja

import (
	"slices"
	"strings"
)

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
		var op string
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
	names := []string{p.expectName().text}
	for n := 0; p.skipOp("."); p.chain(&n) {
		names = append(names, p.expectName().text)
	}
	return strings.Join(names, ".")
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
