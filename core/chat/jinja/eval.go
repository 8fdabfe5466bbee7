package jinja

import (
	"context"
	"fmt"
	"time"
	"unicode/utf8"
)

// evaluator is one rendering.
type evaluator struct {
	ctx        context.Context //nolint:containedctx // lives for one rendering
	vars       *dict
	globals    map[string]value
	exported   map[string]value // what the template set at its top, for blocks
	now        func() time.Time
	out        *buffer
	line       int
	autoescape bool

	fuel      int64 // steps until the next look at the context
	steps     int64 // steps left behind that
	bytes     int64 // left
	maxSteps  int64
	maxBytes  int64
	maxOutput int
	depth     int
	macros    int
}

// buffer collects text: the template's, or that of a block that is captured.
type buffer struct{ b []byte }

// frame holds the variables of one call of a function.
type frame struct {
	slots  []value
	parent *frame
}

// lookEvery is how many steps pass between two looks at the context.
const lookEvery = 1024

func newEvaluator(ctx context.Context, in Input) *evaluator {
	ev := &evaluator{
		ctx: ctx, now: in.Now, out: &buffer{}, vars: &dict{},
		maxSteps: in.Limits.Steps, maxBytes: in.Limits.Bytes, maxOutput: in.Limits.Output,
	}
	if in.Variables != nil {
		ev.vars = &in.Variables.d
	}
	if ev.maxSteps == 0 {
		ev.maxSteps = 1_000_000
	}
	if ev.maxBytes == 0 {
		ev.maxBytes = 24 << 20
	}
	if ev.maxOutput == 0 {
		ev.maxOutput = 16 << 20
	}
	ev.steps, ev.bytes = ev.maxSteps, ev.maxBytes
	return ev
}

// fail ends the rendering as an exception of Python would.
func (ev *evaluator) fail(kind, format string, args ...any) {
	panic(&Error{kind, shorten(fmt.Sprintf(format, args...)), ev.line})
}

// shorten keeps a sentence to a length that can be shown.
func shorten(s string) string {
	const most = 2000
	if len(s) <= most {
		return s
	}
	cut := most
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + "…"
}

// stop ends the rendering because of a limit.
func (ev *evaluator) stop(format string, args ...any) {
	panic(stopped{fmt.Errorf("%w: line %d: "+format, append([]any{ErrRunaway, ev.line}, args...)...)})
}

// check looks at the context and takes the next steps out of what is left.
func (ev *evaluator) check() {
	if err := ev.ctx.Err(); err != nil {
		panic(stopped{err})
	}
	if ev.steps+ev.fuel <= 0 {
		ev.stop("more than %d steps", ev.maxSteps)
	}
	ev.steps += ev.fuel
	ev.fuel = min(lookEvery, ev.steps)
	ev.steps -= ev.fuel
}

// work counts n steps more than one.
func (ev *evaluator) work(n int) {
	ev.fuel -= int64(n)
	if ev.fuel <= 0 {
		ev.check()
	}
}

// alloc counts bytes before they are made.
func (ev *evaluator) alloc(n int64) {
	if n > ev.bytes || n < 0 {
		ev.stop("more than %d MiB of values", ev.maxBytes>>20)
	}
	ev.bytes -= n
}

// down counts a level of depth and a step; up leaves it. What fails on the way ends the rendering, so nothing is undone.
func (ev *evaluator) down() {
	ev.fuel--
	if ev.fuel <= 0 {
		ev.check()
	}
	ev.depth++
	if ev.depth > maxDepth {
		ev.stop("nested deeper than %d levels", maxDepth)
	}
}

func (ev *evaluator) up() { ev.depth-- }

// write appends to what is collected now.
func (ev *evaluator) write(s string) {
	ev.room1(len(s))
	ev.out.b = append(ev.out.b, s...)
}

// room1 counts n more bytes of output.
func (ev *evaluator) room1(n int) {
	if need := len(ev.out.b) + n; need > cap(ev.out.b) {
		if need > ev.maxOutput {
			ev.stop("more than %d bytes of text", ev.maxOutput)
		}
		size := max(need, min(2*cap(ev.out.b), ev.maxOutput), 64)
		ev.alloc(int64(size))
		b := make([]byte, len(ev.out.b), size)
		copy(b, ev.out.b)
		ev.out.b = b
	}
}

// capture collects what run writes.
func (ev *evaluator) capture(run func() flow) (string, flow) {
	outer := ev.out
	ev.out = &buffer{}
	how := run()
	ev.alloc(int64(len(ev.out.b)))
	s := string(ev.out.b)
	ev.out = outer
	return s, how
}

func (ev *evaluator) frame(fn *function, parent *frame) *frame {
	ev.alloc(int64(fn.slots)*sizeValue + 64)
	f := &frame{slots: make([]value, fn.slots), parent: parent}
	for i := range f.slots {
		f.slots[i] = missing
	}
	return f
}

func (f *frame) at(r ref) *value {
	for range r.hops {
		f = f.parent
	}
	return &f.slots[r.slot]
}

// lookup finds a name outside the template's own variables.
func (ev *evaluator) lookup(name string) value {
	if v, ok := ev.exported[name]; ok {
		return v
	}
	if v, ok := ev.vars.text(name); ok {
		return v
	}
	if v, ok := ev.global(name); ok {
		return v
	}
	return missing
}

func (ev *evaluator) enterScope(s *scope, f *frame) {
	for i := range s.enter {
		e := &s.enter[i]
		ev.work(1)
		switch e.load.kind {
		case loadResolve:
			f.slots[e.slot] = ev.lookup(e.load.name)
		case loadAlias:
			f.slots[e.slot] = *f.at(e.of)
		case loadMissing:
			f.slots[e.slot] = missing
		}
	}
}

// run executes statements until one jumps.
func (ev *evaluator) run(body []stmt, f *frame) flow {
	for _, s := range body {
		ev.down()
		how := s.exec(ev, f)
		ev.up()
		if how != goOn {
			return how
		}
	}
	return goOn
}

func (s *outputStmt) exec(ev *evaluator, f *frame) flow {
	for i, e := range s.parts {
		ev.line = s.lines[i]
		if d, ok := e.(*dataPart); ok {
			ev.write(d.text)
			continue
		}
		v := e.eval(ev, f)
		if ev.autoescape {
			ev.write(string(ev.escape(v)))
			continue
		}
		ev.print(v)
	}
	return goOn
}

// print writes str(v).
func (ev *evaluator) print(v value) {
	if s, ok := text(v); ok {
		ev.write(s)
		return
	}
	ev.write(ev.str(v))
}

func (d *dataPart) eval(*evaluator, *frame) value { return d.text }

func (s *setStmt) exec(ev *evaluator, f *frame) flow {
	ev.line = s.line
	ev.namespaces(s.target, f)
	v := s.value.eval(ev, f)
	ev.assign(s.target, v, f)
	ev.export(s.export, f)
	return goOn
}

func (ev *evaluator) export(names []exported, f *frame) {
	for _, e := range names {
		if ev.exported == nil {
			ev.exported = map[string]value{}
		}
		ev.exported[e.name] = f.slots[e.slot]
	}
}

// namespaces checks that the attributes of a target are a namespace's, before its value is computed.
func (ev *evaluator) namespaces(target expr, f *frame) {
	switch t := target.(type) {
	case *nsTarget:
		if _, ok := (*f.at(t.ref)).(*namespace); !ok {
			ev.fail("TemplateRuntimeError", "cannot assign attribute on non-namespace object")
		}
	case *tupleExpr:
		for _, item := range t.items {
			ev.namespaces(item, f)
		}
	}
}

func (ev *evaluator) assign(target expr, v value, f *frame) {
	switch t := target.(type) {
	case *nameExpr:
		*f.at(t.ref) = v
	case *nsTarget:
		ns, ok := (*f.at(t.ref)).(*namespace)
		if !ok {
			ev.fail("TypeError", "cannot assign attribute on non-namespace object")
		}
		ev.setAttr(ns, t.attr, v)
	case *tupleExpr:
		items := ev.unpack(v, len(t.items))
		for i, item := range t.items {
			ev.assign(item, items[i], f)
		}
	}
}

// unpack reads exactly n items.
func (ev *evaluator) unpack(v value, n int) []value {
	next := ev.iter(v)
	if next == nil {
		ev.fail("TypeError", "cannot unpack non-iterable %s object", typeName(v))
	}
	items := ev.room(n)
	for {
		item, ok := next()
		switch {
		case ok && len(items) == n:
			ev.fail("ValueError", "too many values to unpack (expected %d)", n)
		case !ok && len(items) < n:
			ev.fail("ValueError", "not enough values to unpack (expected %d, got %d)", n, len(items))
		case !ok:
			return items
		}
		items = append(items, item)
	}
}

func (ev *evaluator) setAttr(ns *namespace, name string, v value) {
	if name != "" && name[0] == '_' {
		ev.fail("SecurityError", "Chat templates cannot store underscore-prefixed attributes on a namespace, but got %s. Please rename the attribute.", ev.repr(name))
	}
	ev.put(ns.d, name, v)
}

func (s *setBlock) exec(ev *evaluator, f *frame) flow {
	ev.line = s.line
	ev.enterScope(s.scope, f)
	out, how := ev.capture(func() flow { return ev.run(s.body, f) })
	if how != goOn {
		return how
	}
	var v value = out
	if s.filter != nil {
		v = ev.blockFilter(s.filter, out, f)
	}
	if ev.autoescape {
		v = ev.markup(v)
	}
	ev.assign(s.target, v, f)
	ev.export(s.export, f)
	return goOn
}

// blockFilter applies the filters of a block to its text.
func (ev *evaluator) blockFilter(e expr, out string, f *frame) value {
	chain := e.(*filterExpr)
	var of value = out
	if inner, ok := chain.of.(*filterExpr); ok {
		of = ev.blockFilter(inner, out, f)
	} else if ev.autoescape {
		of = markup(out)
	}
	return chain.apply(ev, of, f)
}

func (s *ifStmt) exec(ev *evaluator, f *frame) flow {
	ev.line = s.line
	if ev.truth(s.test.eval(ev, f)) {
		return ev.run(s.body, f)
	}
	for _, e := range s.elifs {
		ev.line = e.line
		if ev.truth(e.test.eval(ev, f)) {
			return ev.run(e.body, f)
		}
	}
	return ev.run(s.or, f)
}

func (s *forStmt) exec(ev *evaluator, f *frame) flow {
	ev.line = s.line
	over := s.over.eval(ev, f)
	if !s.recursive {
		return s.turns(ev, f, over, nil, 0)
	}
	var recurse func(over value, depth int) value
	recurse = func(over value, depth int) value {
		ev.intoMacro()
		in := ev.frame(s.fn, f)
		out, _ := ev.capture(func() flow { return s.turns(ev, in, over, recurse, depth) })
		ev.macros--
		if ev.autoescape {
			return markup(out)
		}
		return out
	}
	ev.print(recurse(over, 0))
	return goOn
}

// turns runs the loop.
func (s *forStmt) turns(ev *evaluator, f *frame, over value, recurse func(value, int) value, depth int) flow {
	next := ev.iterate(over)
	sized := over
	if s.test != nil {
		sized = nil
		all := next
		next = func() (value, bool) {
			ev.down()
			defer ev.up()
			for {
				item, ok := all()
				if !ok {
					return nil, false
				}
				ev.enterScope(s.testScope, f)
				ev.assign(s.testTarget, item, f)
				if ev.truth(s.test.eval(ev, f)) {
					return item, true
				}
			}
		}
	}
	var lp *loop
	if s.usesLoop {
		ev.alloc(sizeIter)
		lp = &loop{ev: ev, next: next, n: -1, index0: -1, recurse: recurse, depth0: depth, before: missing, current: missing, after: missing, changed: missing}
		if sized != nil {
			lp.n = ev.length(over)
		}
		next = lp.advance
	}
	finished := false // a turn came to its end: jumps do not count, as in Jinja
	for {
		ev.work(1)
		item, ok := next()
		if !ok {
			break
		}
		ev.assign(s.target, item, f)
		if lp != nil {
			f.slots[s.loop.slot] = lp
		}
		ev.enterScope(s.bodyScope, f)
		how := ev.run(s.body, f)
		if how == goBreak {
			break
		}
		if how == goOn {
			finished = true
		}
		ev.line = s.line
	}
	if s.or != nil && !finished {
		ev.enterScope(s.orScope, f)
		return ev.run(s.or, f)
	}
	return goOn
}

func (s *filterBlock) exec(ev *evaluator, f *frame) flow {
	ev.enterScope(s.scope, f)
	out, how := ev.capture(func() flow { return ev.run(s.body, f) })
	if how != goOn {
		return how
	}
	ev.line = s.line
	ev.writeText(ev.blockFilter(s.filter, out, f))
	return goOn
}

// writeText writes what has to be a text already.
func (ev *evaluator) writeText(v value) {
	s, ok := text(v)
	if !ok {
		ev.fail("TypeError", "sequence item 0: expected str instance, %s found", typeName(v))
	}
	ev.write(s)
}

func (s *withStmt) exec(ev *evaluator, f *frame) flow {
	ev.line = s.line
	ev.enterScope(s.scope, f)
	for i, target := range s.targets {
		ev.assign(target, s.values[i].eval(ev, f), f)
	}
	return ev.run(s.body, f)
}

func (s *autoescapeStmt) exec(ev *evaluator, f *frame) flow {
	ev.line = s.line
	ev.enterScope(s.scope, f)
	was := ev.autoescape
	ev.autoescape = ev.truth(s.on.eval(ev, f))
	how := ev.run(s.body, f)
	ev.autoescape = was
	return how
}

func (s *blockStmt) exec(ev *evaluator, f *frame) flow {
	ev.line = s.line
	ev.intoMacro()
	in := ev.frame(s.fn, f)
	ev.enterScope(s.scope, in)
	ev.run(s.body, in)
	ev.macros--
	return goOn
}

func (s *loaderStmt) exec(ev *evaluator, f *frame) flow {
	ev.line = s.line
	s.name.eval(ev, f)
	ev.fail("TypeError", "'%s' wants another template, and a chat template stands alone", s.tag)
	return goOn
}

func (s jumpStmt) exec(*evaluator, *frame) flow { return s.flow }

func (ev *evaluator) truth(v value) bool { return truth(v) }

func (e *constant) eval(*evaluator, *frame) value { return e.v }

func (e *nameExpr) eval(ev *evaluator, f *frame) value {
	v := *f.at(e.ref)
	if v == missing {
		ev.alloc(96)
		return &undefined{name: e.name}
	}
	return v
}

func (e *nsTarget) eval(*evaluator, *frame) value { return nil } // written only

func (ev *evaluator) all(items []expr, f *frame) []value {
	out := ev.room(len(items))
	for _, item := range items {
		out = append(out, item.eval(ev, f))
	}
	return out
}

func (e *listExpr) eval(ev *evaluator, f *frame) value {
	ev.down()
	l := ev.newList(ev.all(e.items, f))
	ev.up()
	return l
}

func (e *tupleExpr) eval(ev *evaluator, f *frame) value {
	ev.down()
	ev.alloc(sizeList)
	t := &tuple{items: ev.all(e.items, f)}
	ev.up()
	return t
}

func (e *dictExpr) eval(ev *evaluator, f *frame) value {
	ev.down()
	d := ev.newDict()
	for i := range e.keys {
		k := e.keys[i].eval(ev, f)
		ev.put(d, k, e.vals[i].eval(ev, f))
	}
	ev.up()
	return d
}

func (e *attrExpr) eval(ev *evaluator, f *frame) value {
	ev.down()
	v := ev.attr(e.of.eval(ev, f), e.name)
	ev.up()
	return v
}

func (e *itemExpr) eval(ev *evaluator, f *frame) value {
	ev.down()
	of := e.of.eval(ev, f)
	var v value
	if s, ok := e.key.(*sliceExpr); ok {
		v = ev.slice(of, s, f, e.folded)
	} else {
		v = ev.item(of, e.key.eval(ev, f))
	}
	ev.up()
	return v
}

func (e *sliceExpr) eval(ev *evaluator, _ *frame) value {
	ev.fail("TypeError", "a slice can stand alone only")
	return nil
}

func (a *callArgs) eval(ev *evaluator, f *frame) *args {
	out := &args{}
	if len(a.pos) > 0 {
		out.pos = ev.all(a.pos, f)
	}
	if len(a.named) > 0 {
		ev.alloc(48 * int64(len(a.named)))
	}
	for i, e := range a.named {
		out.named = append(out.named, kwarg{a.names[i], e.eval(ev, f)})
	}
	if a.star != nil {
		next := ev.iter(a.star.eval(ev, f))
		if next == nil {
			ev.fail("TypeError", "argument after * must be an iterable")
		}
		for {
			v, ok := next()
			if !ok {
				break
			}
			out.pos = ev.push(out.pos, v)
		}
	}
	if a.map_ != nil {
		d, ok := a.map_.eval(ev, f).(*dict)
		if !ok {
			ev.fail("TypeError", "argument after ** must be a mapping")
		}
		for _, e := range d.entries {
			name, ok := text(e.key)
			if !ok {
				ev.fail("TypeError", "keywords must be strings")
			}
			for _, k := range out.named {
				if k.name == name {
					ev.fail("TypeError", "got multiple values for keyword argument '%s'", name)
				}
			}
			ev.alloc(48)
			ev.work(len(out.named))
			out.named = append(out.named, kwarg{name, e.val})
		}
	}
	return out
}

func (e *callExpr) eval(ev *evaluator, f *frame) value {
	ev.down()
	of := e.of.eval(ev, f)
	v := ev.call(of, e.args.eval(ev, f))
	ev.up()
	return v
}

// call calls a value.
func (ev *evaluator) call(of value, a *args) value {
	switch t := of.(type) {
	case *callable:
		return t.call(ev, a)
	case *macro:
		return t.call(ev, a)
	case *loop:
		if t.recurse == nil {
			ev.fail("TypeError", "The loop must have the 'recursive' marker to be called recursively.")
		}
		p := ev.bind("loop", a, []string{"iterable"}, 1)
		return t.recurse(p[0], t.depth0+1)
	case *joiner:
		return t.call(ev, a)
	case *undefined:
		ev.used(t)
	}
	ev.fail("TypeError", "'%s' object is not callable", typeName(of))
	return nil
}

func (e *filterExpr) eval(ev *evaluator, f *frame) value {
	ev.down()
	v := e.apply(ev, e.of.eval(ev, f), f)
	ev.up()
	return v
}

func (e *filterExpr) apply(ev *evaluator, of value, f *frame) value {
	if e.f == nil {
		ev.fail("TemplateRuntimeError", "No filter named '%s' found.", e.name)
	}
	return e.f(ev, of, e.args.eval(ev, f))
}

func (e *testExpr) eval(ev *evaluator, f *frame) value {
	ev.down()
	of := e.of.eval(ev, f)
	if e.f == nil {
		ev.fail("TemplateRuntimeError", "No test named '%s' found.", e.name)
	}
	v := e.f(ev, of, e.args.eval(ev, f))
	ev.up()
	return v
}

func (e *condExpr) eval(ev *evaluator, f *frame) value {
	ev.down()
	defer ev.up()
	switch {
	case ev.truth(e.test.eval(ev, f)):
		return e.then.eval(ev, f)
	case e.or != nil:
		return e.or.eval(ev, f)
	}
	return undef(fmt.Sprintf("the inline if-expression on line %d evaluated to false and no else section was defined.", e.line))
}

func (e *andExpr) eval(ev *evaluator, f *frame) value {
	ev.down()
	v := e.a.eval(ev, f)
	if ev.truth(v) {
		v = e.b.eval(ev, f)
	}
	ev.up()
	return v
}

func (e *orExpr) eval(ev *evaluator, f *frame) value {
	ev.down()
	v := e.a.eval(ev, f)
	if !ev.truth(v) {
		v = e.b.eval(ev, f)
	}
	ev.up()
	return v
}

func (e *notExpr) eval(ev *evaluator, f *frame) value {
	ev.down()
	v := !ev.truth(e.a.eval(ev, f))
	ev.up()
	return v
}

func (e *signExpr) eval(ev *evaluator, f *frame) value {
	ev.down()
	v := e.a.eval(ev, f)
	ev.up()
	switch t := v.(type) {
	case float64:
		if e.minus {
			return -t
		}
		return t
	case *undefined:
		ev.used(t)
	}
	if !isNumber(v) {
		op := "+"
		if e.minus {
			op = "-"
		}
		ev.fail("TypeError", "bad operand type for unary %s: '%s'", op, typeName(v))
	}
	if !e.minus {
		i, b, _ := whole(v)
		if b != nil {
			return b
		}
		return i
	}
	return ev.arithmetic("-", int64(0), v)
}

func (e *binExpr) eval(ev *evaluator, f *frame) value {
	ev.down()
	a := e.a.eval(ev, f)
	b := e.b.eval(ev, f)
	v := ev.binary(e.op, a, b)
	ev.up()
	return v
}

func (e *compareExpr) eval(ev *evaluator, f *frame) value {
	ev.down()
	defer ev.up()
	a := e.first.eval(ev, f)
	for i, op := range e.ops {
		b := e.rest[i].eval(ev, f)
		if !ev.holds(op, a, b) {
			return false
		}
		a = b
	}
	return true
}

// holds is one comparison.
func (ev *evaluator) holds(op string, a, b value) bool {
	switch op {
	case "==":
		return ev.equal(a, b)
	case "!=":
		return !ev.equal(a, b)
	case "in":
		return ev.contains(b, a)
	case "not in":
		return !ev.contains(b, a)
	}
	if v, ok := ev.compareViews(op, a, b); ok {
		return v
	}
	c := ev.compare(a, b, op)
	if c == unordered {
		return false
	}
	switch op {
	case "<":
		return c < 0
	case "<=":
		return c <= 0
	case ">":
		return c > 0
	}
	return c >= 0
}

// compareViews orders keys and items of dicts as sets.
func (ev *evaluator) compareViews(op string, a, b value) (bool, bool) {
	x, ok := a.(*view)
	y, ok2 := b.(*view)
	if !ok || !ok2 || x.what == "values" || y.what == "values" {
		return false, false
	}
	n, m := len(x.d.entries), len(y.d.entries)
	switch op {
	case "<":
		return n < m && ev.subset(x, y), true
	case "<=":
		return n <= m && ev.subset(x, y), true
	case ">":
		return n > m && ev.subset(y, x), true
	}
	return n >= m && ev.subset(y, x), true
}

func (e *concatExpr) eval(ev *evaluator, f *frame) value {
	ev.down()
	vals := ev.all(e.parts, f)
	ev.up()
	if ev.autoescape {
		safe := false
		for _, v := range vals {
			if _, ok := v.(markup); ok {
				safe = true
			}
		}
		if safe {
			for i, v := range vals {
				vals[i] = string(ev.escape(v))
			}
			return markup(ev.joinTexts(vals))
		}
	}
	return ev.joinTexts(vals)
}

// joinTexts puts the texts of values together.
func (ev *evaluator) joinTexts(vals []value) string {
	total := 0
	for i, v := range vals {
		s, ok := text(v)
		if !ok {
			s = ev.str(v)
			vals[i] = s
		}
		total += len(s)
	}
	ev.alloc(int64(total))
	b := make([]byte, 0, total)
	for _, v := range vals {
		s, _ := text(v)
		b = append(b, s...)
	}
	return string(b)
}
