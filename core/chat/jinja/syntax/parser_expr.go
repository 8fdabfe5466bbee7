package syntax

import (
	"slices"
	"strings"
)

// target reads what can be assigned to: a name, several, or (with ns) an attribute of a namespace.
func (p *parser) target(ns bool, ends ...string) Expr {
	line := p.cur.line
	e := p.list(func() Expr { return p.primary(ns) }, ends, false)
	p.assignable(e, line)
	return e
}

func (p *parser) assignable(e Expr, line int) {
	switch t := e.(type) {
	case *Name, *NamespaceTarget:
		return
	case *Tuple:
		for _, item := range t.Items {
			p.assignable(item, line)
		}
		return
	}
	p.fail(line, "this cannot be assigned to: want a name, or several")
}

// tuple reads an expression, or several apart by commas as a tuple.
func (p *parser) tuple(cond bool, ends []string, parens bool) Expr {
	return p.list(func() Expr {
		if cond {
			return p.expression()
		}
		return p.or()
	}, ends, parens)
}

func (p *parser) list(parse func() Expr, ends []string, parens bool) Expr {
	defer p.enter()()
	var items []Expr
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
	return &Tuple{items}
}

func (p *parser) expression() Expr {
	defer p.enter()()
	e := p.or()
	n := 0
	for p.cur.is("if") {
		line := p.next().line
		p.chain(&n)
		c := &Cond{Then: e, Line: line}
		c.Test = p.or()
		if p.skipName("else") {
			c.Else = p.expression()
		}
		e = c
	}
	return e
}

func (p *parser) or() Expr {
	defer p.enter()()
	e := p.and()
	for n := 0; p.skipName("or"); {
		p.chain(&n)
		e = &Or{e, p.and()}
	}
	return e
}

func (p *parser) and() Expr {
	e := p.not()
	for n := 0; p.skipName("and"); {
		p.chain(&n)
		e = &And{e, p.not()}
	}
	return e
}

func (p *parser) not() Expr {
	if p.cur.is("not") {
		defer p.enter()()
		p.next()
		return &Not{p.not()}
	}
	return p.compare()
}

func (p *parser) compare() Expr {
	first := p.sum()
	c := &Compare{First: first}
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
			if len(c.Ops) == 0 {
				return first
			}
			return c
		}
		c.Ops = append(c.Ops, op)
		c.Rest = append(c.Rest, p.sum())
	}
}

func (p *parser) sum() Expr {
	e := p.concat()
	for n := 0; p.cur.op("+") || p.cur.op("-"); {
		p.chain(&n)
		op := p.next().text
		e = &Binary{op, e, p.concat()}
	}
	return e
}

func (p *parser) concat() Expr {
	e := p.product()
	if !p.cur.op("~") {
		return e
	}
	c := &Concat{Parts: []Expr{e}}
	for p.skipOp("~") {
		c.Parts = append(c.Parts, p.product())
	}
	return c
}

func (p *parser) product() Expr {
	e := p.power()
	for n := 0; p.cur.kind == kOp && slices.Contains([]string{"*", "/", "//", "%"}, p.cur.text); {
		p.chain(&n)
		op := p.next().text
		e = &Binary{op, e, p.power()}
	}
	return e
}

func (p *parser) power() Expr {
	e := p.unary(true)
	for n := 0; p.skipOp("**"); {
		p.chain(&n)
		e = &Binary{"**", e, p.unary(true)}
	}
	return e
}

func (p *parser) unary(filters bool) Expr {
	defer p.enter()()
	var e Expr
	switch {
	case p.skipOp("-"):
		e = &Sign{true, p.unary(false)}
	case p.skipOp("+"):
		e = &Sign{false, p.unary(false)}
	default:
		e = p.primary(false)
	}
	e = p.postfix(e)
	if filters {
		e = p.filters(e)
	}
	return e
}

func (p *parser) primary(ns bool) Expr {
	t := p.cur
	switch t.kind {
	case kName:
		p.next()
		switch t.text {
		case "true", "True":
			return &Constant{true}
		case "false", "False":
			return &Constant{false}
		case "none", "None":
			return &Constant{nil}
		}
		if ns && p.skipOp(".") {
			return &NamespaceTarget{name: t.text, Attr: p.expectName().text}
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
		return &Name{Name: t.text, line: t.line}
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
		return &Constant{s}
	case kInt, kFloat:
		p.next()
		return &Constant{t.num}
	}
	switch {
	case p.skipOp("("):
		e := p.tuple(true, nil, true)
		p.expectOp(")")
		return e
	case p.skipOp("["):
		defer p.enter()()
		l := &List{}
		for !p.cur.op("]") {
			if len(l.Items) > 0 {
				p.expectOp(",")
				if p.cur.op("]") {
					break
				}
			}
			l.Items = append(l.Items, p.expression())
		}
		p.expectOp("]")
		return l
	case p.skipOp("{"):
		defer p.enter()()
		d := &Dict{}
		for !p.cur.op("}") {
			if len(d.Keys) > 0 {
				p.expectOp(",")
				if p.cur.op("}") {
					break
				}
			}
			d.Keys = append(d.Keys, p.expression())
			p.expectOp(":")
			d.Values = append(d.Values, p.expression())
		}
		p.expectOp("}")
		return d
	}
	p.fail(t.line, "unexpected '%s'", t)
	return nil
}

func (p *parser) postfix(e Expr) Expr {
	for n := 0; ; p.chain(&n) {
		switch {
		case p.cur.op(".") || p.cur.op("["):
			e = p.subscript(e)
		case p.cur.op("("):
			e = &Call{e, p.callArgs()}
		default:
			return e
		}
	}
}

func (p *parser) filters(e Expr) Expr {
	for n := 0; ; p.chain(&n) {
		switch {
		case p.cur.op("|"):
			e = p.filter(e, false)
		case p.cur.is("is"):
			e = p.test(e)
		case p.cur.op("("):
			e = &Call{e, p.callArgs()}
		default:
			return e
		}
	}
}

func (p *parser) subscript(e Expr) Expr {
	if p.skipOp(".") {
		t := p.next()
		switch t.kind {
		case kName:
			return &Attr{e, t.text}
		case kInt:
			return &Item{Of: e, Key: &Constant{t.num}}
		}
		p.fail(t.line, "expected a name or a number, got '%s'", t)
	}
	p.expectOp("[")
	var items []Expr
	for !p.cur.op("]") {
		if len(items) > 0 {
			p.expectOp(",")
		}
		items = append(items, p.subscribed())
	}
	p.expectOp("]")
	if len(items) == 1 {
		return &Item{Of: e, Key: items[0]}
	}
	return &Item{Of: e, Key: &Tuple{items}}
}

func (p *parser) subscribed() Expr {
	var s Slice
	if !p.cur.op(":") {
		e := p.expression()
		if !p.cur.op(":") {
			return e
		}
		s.From = e
	}
	p.expectOp(":")
	end := func() bool { return p.cur.op("]") || p.cur.op(",") }
	if !p.cur.op(":") && !end() {
		s.To = p.expression()
	}
	if p.skipOp(":") && !end() {
		s.Step = p.expression()
	}
	return &s
}

func (p *parser) callArgs() Args {
	defer p.enter()()
	line := p.expectOp("(").line
	var a Args
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
			ensure(a.Star == nil && a.StarStar == nil)
			a.Star = p.expression()
		case p.skipOp("**"):
			ensure(a.StarStar == nil)
			a.StarStar = p.expression()
		case p.cur.kind == kName && p.look().op("="):
			ensure(a.StarStar == nil)
			name := p.next().text
			p.next()
			if slices.Contains(a.Names, name) {
				p.fail(line, "the argument '%s' stands twice", name)
			}
			a.Names = append(a.Names, name)
			a.Named = append(a.Named, p.expression())
		default:
			ensure(a.Star == nil && a.StarStar == nil && len(a.Names) == 0)
			a.Pos = append(a.Pos, p.expression())
		}
	}
	p.expectOp(")")
	return a
}

// filter reads one filter or, where it begins a block, all that follow.
func (p *parser) filter(e Expr, block bool) Expr {
	for n := 0; p.cur.op("|") || block; p.chain(&n) {
		if !block {
			p.next()
		}
		block = false
		name := p.dotted()
		f := &Filter{Of: e, Name: name}
		if p.cur.op("(") {
			f.Args = p.callArgs()
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

func (p *parser) test(e Expr) Expr {
	p.next()
	negated := p.skipName("not")
	t := &Test{Of: e, Name: p.dotted()}
	switch {
	case p.cur.op("("):
		t.Args = p.callArgs()
	case (p.cur.kind == kName || p.cur.kind == kString || p.cur.kind == kInt || p.cur.kind == kFloat || p.cur.op("[") || p.cur.op("{")) &&
		!p.cur.is("else") && !p.cur.is("or") && !p.cur.is("and"):
		if p.cur.is("is") {
			p.fail(p.cur.line, "tests cannot stand one after the other with 'is'")
		}
		t.Args.Pos = []Expr{p.postfix(p.primary(false))}
	}
	if negated {
		return &Not{t}
	}
	return t
}

// fixed says whether an expression names nothing, so that Jinja computes it when it compiles.
func fixed(e Expr, depth int) bool {
	if depth == 0 {
		return false
	}
	switch e.(type) {
	case *Name, *Call:
		return false
	}
	ok := true
	eachPart(e, func(part Expr) { ok = ok && fixed(part, depth-1) })
	return ok
}

// fold marks the slices of an expression that Jinja computes when it compiles.
func fold(e Expr) {
	if item, ok := e.(*Item); ok {
		item.Folded = true
	}
	eachPart(e, fold)
}
