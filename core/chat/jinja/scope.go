package jinja

import "slices"

// Names are resolved when a template is compiled, by Jinja's own rules: a scope knows which names are written in it, and
// what each of its variables holds when the scope is entered. That is what makes {% set %} inside a loop end with the
// turn, and a name that is set in one branch of an if keep the value from outside in the other.

// function is a piece of a template with variables of its own: the template, a macro, a recursive loop, a block.
type function struct {
	parent *function
	slots  int
}

// variable is a slot of a function.
type variable struct {
	fn   *function
	slot int
}

// ref is a variable as a function sees it: hops functions outwards.
type ref struct{ hops, slot int }

// load says what a variable holds when its scope is entered.
type load struct {
	kind loadKind
	of   *variable // alias
	name string    // resolve
}

type loadKind uint8

const (
	loadParam   loadKind = iota // nothing: it is given
	loadResolve                 // the rendering's variable of that name
	loadAlias                   // the value of an outer variable
	loadMissing                 // undefined
)

// scope is what is done when it is entered and left.
type scope struct {
	enter []entry
}

type entry struct {
	slot int
	load load
	of   ref
}

// exported is a variable that blocks see under its name.
type exported struct {
	name string
	slot int
}

// symbols are the names of one scope while it is analysed.
type symbols struct {
	parent *symbols
	fn     *function
	refs   map[string]*variable // nil: seen in a branch that is undone
	known  map[string]*variable // every variable of this scope, also of other branches
	order  []*variable
	loads  map[*variable]load
	stores map[string]bool
	log    []change
}

// change is a step that a branch did, to be undone and done again.
type change struct {
	name    string
	v       *variable
	load    load
	hadRef  *variable
	hadLoad load
	hasLoad bool
	isStore bool
}

func newSymbols(parent *symbols, fn *function) *symbols {
	return &symbols{
		parent: parent, fn: fn, refs: map[string]*variable{}, known: map[string]*variable{},
		loads: map[*variable]load{}, stores: map[string]bool{},
	}
}

func (s *symbols) find(name string) *variable {
	for ; s != nil; s = s.parent {
		if v := s.refs[name]; v != nil {
			return v
		}
	}
	return nil
}

func (s *symbols) define(name string, l load) *variable {
	v := s.known[name]
	if v == nil {
		v = &variable{s.fn, s.fn.slots}
		s.fn.slots++
		s.known[name] = v
		s.order = append(s.order, v)
	}
	had, has := s.loads[v]
	s.apply(change{name: name, v: v, load: l, hadRef: s.refs[name], hadLoad: had, hasLoad: has})
	return v
}

func (s *symbols) apply(c change) {
	if c.isStore {
		s.stores[c.name] = true
	} else {
		s.refs[c.name] = c.v
		s.loads[c.v] = c.load
	}
	s.log = append(s.log, c)
}

// undo takes back what was logged from mark on, and returns it.
func (s *symbols) undo(mark int) []change {
	done := slices.Clone(s.log[mark:])
	for _, c := range slices.Backward(done) {
		switch {
		case c.isStore:
			delete(s.stores, c.name)
		default:
			if c.hadRef == nil {
				delete(s.refs, c.name)
			} else {
				s.refs[c.name] = c.hadRef
			}
			if c.hasLoad {
				s.loads[c.v] = c.hadLoad
			} else {
				delete(s.loads, c.v)
			}
		}
	}
	s.log = s.log[:mark]
	return done
}

func (s *symbols) markStored(name string) {
	if !s.stores[name] {
		s.apply(change{name: name, isStore: true})
	}
}

func (s *symbols) store(name string) {
	s.markStored(name)
	if s.refs[name] != nil {
		return
	}
	if outer := s.parent.find(name); outer != nil {
		s.define(name, load{kind: loadAlias, of: outer})
		return
	}
	s.define(name, load{kind: loadMissing})
}

func (s *symbols) param(name string) *variable {
	s.markStored(name)
	return s.define(name, load{kind: loadParam})
}

func (s *symbols) load(name string) {
	if s.find(name) == nil {
		s.define(name, load{kind: loadResolve, name: name})
	}
}

// branches analyses alternatives: what is stored in one of them may be unset in another.
func (s *symbols) branches(visits ...func()) {
	var all [][]change
	for _, visit := range visits {
		mark := len(s.log)
		visit()
		all = append(all, s.undo(mark))
	}
	var stored []string
	for _, changes := range all {
		for _, c := range changes {
			if c.isStore && !s.stores[c.name] && !slices.Contains(stored, c.name) {
				stored = append(stored, c.name)
			}
		}
	}
	for _, changes := range all {
		for _, c := range changes {
			if c.isStore {
				s.markStored(c.name)
				continue
			}
			c.hadRef = s.refs[c.name]
			c.hadLoad, c.hasLoad = s.loads[c.v]
			s.apply(c)
		}
	}
	for _, name := range stored {
		l := load{kind: loadResolve, name: name}
		if outer := s.parent.find(name); outer != nil {
			l = load{kind: loadAlias, of: outer}
		}
		s.define(name, l)
	}
}

// visit notes the names that an expression reads or, as a target, writes.
func (s *symbols) expr(e expr) { eachName(e, s.load) }

func (s *symbols) target(e expr, param bool) {
	switch t := e.(type) {
	case *nameExpr:
		if param {
			s.param(t.name)
		} else {
			s.store(t.name)
		}
	case *tupleExpr:
		for _, item := range t.items {
			s.target(item, param)
		}
	case *nsTarget:
		s.load(t.name)
	}
}

func (s *symbols) stmts(list []stmt) {
	for _, st := range list {
		s.stmt(st)
	}
}

// stmt notes the names of a statement as far as they belong to this scope.
func (s *symbols) stmt(st stmt) {
	switch t := st.(type) {
	case *outputStmt:
		for _, e := range t.parts {
			s.expr(e)
		}
	case *setStmt:
		s.expr(t.value)
		s.target(t.target, false)
	case *setBlock:
		s.target(t.target, false)
	case *forStmt:
		s.expr(t.over)
	case *ifStmt:
		s.ifStmt(t)
	case *macroStmt:
		s.store(t.name)
	case *callBlock:
		if t.call != nil {
			s.expr(t.call)
		}
	case *filterBlock:
		s.expr(t.filter)
	case *withStmt:
		for _, v := range t.values {
			s.expr(v)
		}
	case *loaderStmt:
		s.expr(t.name)
		for _, n := range t.targets {
			s.store(n.name)
		}
	}
}

func (s *symbols) ifStmt(t *ifStmt) {
	s.expr(t.test)
	s.branches(
		func() { s.stmts(t.body) },
		func() {
			for _, e := range t.elifs {
				s.ifStmt(e)
			}
		},
		func() { s.stmts(t.or) },
	)
}

// eachName calls f for every name that an expression reads.
func eachName(e expr, f func(string)) {
	switch t := e.(type) {
	case *nameExpr:
		f(t.name)
	default:
		eachPart(e, func(part expr) { eachName(part, f) })
	}
}

// eachPart calls f for the expressions inside another, in their order.
func eachPart(e expr, f func(expr)) {
	some := func(list ...expr) {
		for _, p := range list {
			if p != nil {
				f(p)
			}
		}
	}
	args := func(a callArgs) {
		some(a.pos...)
		some(a.named...)
		some(a.star, a.map_)
	}
	switch t := e.(type) {
	case *listExpr:
		some(t.items...)
	case *tupleExpr:
		some(t.items...)
	case *dictExpr:
		for i := range t.keys {
			some(t.keys[i], t.vals[i])
		}
	case *attrExpr:
		some(t.of)
	case *itemExpr:
		some(t.of, t.key)
	case *sliceExpr:
		some(t.from, t.to, t.step)
	case *callExpr:
		some(t.of)
		args(t.args)
	case *filterExpr:
		some(t.of)
		args(t.args)
	case *testExpr:
		some(t.of)
		args(t.args)
	case *condExpr:
		some(t.test, t.then, t.or)
	case *andExpr:
		some(t.a, t.b)
	case *orExpr:
		some(t.a, t.b)
	case *notExpr:
		some(t.a)
	case *signExpr:
		some(t.a)
	case *binExpr:
		some(t.a, t.b)
	case *compareExpr:
		some(t.first)
		some(t.rest...)
	case *concatExpr:
		some(t.parts...)
	}
}

// binder gives every name its variable and every filter and test its function.
type binder struct {
	soft     bool // in a branch: an unknown filter fails when it is reached, not here
	top      bool // what is set here is seen by blocks
	anyBlock bool
	line     int
}

func (b *binder) fail(format string, args ...any) { panic(syntaxError(b.line, format, args...)) }

// scope turns the symbols of a finished scope into what is done when it is entered.
func (b *binder) scope(s *symbols) *scope {
	out := &scope{}
	for _, v := range s.order {
		l, ok := s.loads[v]
		if !ok || l.kind == loadParam {
			continue
		}
		e := entry{slot: v.slot, load: l}
		if l.kind == loadAlias {
			e.of = reference(l.of, s.fn)
		}
		out.enter = append(out.enter, e)
	}
	return out
}

func reference(v *variable, from *function) ref {
	r := ref{slot: v.slot}
	for fn := from; fn != v.fn; fn = fn.parent {
		r.hops++
	}
	return r
}

func (b *binder) ref(s *symbols, name string) ref {
	v := s.find(name)
	if v == nil { // the arguments of a set block's filter belong to no scope's analysis
		root := s
		for root.parent != nil {
			root = root.parent
		}
		v = root.define(name, load{kind: loadResolve, name: name})
	}
	return reference(v, s.fn)
}

func (b *binder) expr(s *symbols, e expr) {
	soft := b.soft
	switch t := e.(type) {
	case nil:
		return
	case *nameExpr:
		t.ref = b.ref(s, t.name)
		return
	case *nsTarget:
		t.ref = b.ref(s, t.name)
		return
	case *filterExpr:
		t.f = filterCalled(t.name)
		if t.f == nil && !b.soft {
			b.fail("no filter named '%s'", t.name)
		}
	case *testExpr:
		t.f = testCalled(t.name)
		if t.f == nil && !b.soft {
			b.fail("no test named '%s'", t.name)
		}
	case *condExpr:
		b.soft = true
	}
	eachPart(e, func(part expr) { b.expr(s, part) })
	b.soft = soft
}

func (b *binder) stmts(s *symbols, list []stmt) {
	for _, st := range list {
		b.stmt(s, st)
	}
}

// inner binds in a scope inside this one, where nothing is soft or seen by blocks.
func (b *binder) inner(bind func()) {
	soft, top := b.soft, b.top
	b.soft, b.top = false, false
	bind()
	b.soft, b.top = soft, top
}

// export lists the names of a target that blocks see.
func (b *binder) export(s *symbols, target expr) []exported {
	if !b.top || !b.anyBlock {
		return nil
	}
	switch t := target.(type) {
	case *nameExpr:
		return []exported{{t.name, s.find(t.name).slot}}
	case *tupleExpr:
		var out []exported
		for _, item := range t.items {
			out = append(out, b.export(s, item)...)
		}
		return out
	}
	return nil
}

func (b *binder) stmt(s *symbols, st stmt) {
	switch t := st.(type) {
	case *outputStmt:
		for i, e := range t.parts {
			b.line = t.lines[i]
			b.expr(s, e)
		}
	case *setStmt:
		b.line = t.line
		b.expr(s, t.value)
		b.expr(s, t.target)
		t.export = b.export(s, t.target)
	case *setBlock:
		b.line = t.line
		b.expr(s, t.target)
		t.export = b.export(s, t.target)
		in := newSymbols(s, s.fn)
		in.stmts(t.body)
		b.inner(func() {
			b.stmts(in, t.body)
			b.expr(in, t.filter)
		})
		t.scope = b.scope(in)
	case *forStmt:
		b.forStmt(s, t)
	case *ifStmt:
		b.ifStmt(s, t)
	case *macroStmt:
		b.line = t.line
		v := s.find(t.name)
		t.ref = reference(v, s.fn)
		if b.top && b.anyBlock {
			t.export = []exported{{t.name, v.slot}}
		}
		b.macro(s, t)
	case *callBlock:
		b.line = t.line
		if t.call != nil {
			b.expr(s, t.call)
		}
		b.macro(s, t.macro)
	case *filterBlock:
		b.line = t.line
		in := newSymbols(s, s.fn)
		in.stmts(t.body)
		in.expr(t.filter)
		b.inner(func() {
			b.stmts(in, t.body)
			b.line = t.line
			b.expr(in, t.filter)
		})
		t.scope = b.scope(in)
	case *withStmt:
		b.line = t.line
		in := newSymbols(s, s.fn)
		for _, target := range t.targets {
			in.target(target, true)
		}
		in.stmts(t.body)
		for _, v := range t.values {
			b.expr(s, v)
		}
		b.inner(func() {
			for _, target := range t.targets {
				b.expr(in, target)
			}
			b.stmts(in, t.body)
		})
		t.scope = b.scope(in)
	case *autoescapeStmt:
		b.line = t.line
		in := newSymbols(s, s.fn)
		in.expr(t.on)
		in.stmts(t.body)
		b.inner(func() {
			b.expr(in, t.on)
			b.stmts(in, t.body)
		})
		t.scope = b.scope(in)
	case *blockStmt:
		b.block(s, t)
	case *loaderStmt:
		b.line = t.line
		b.expr(s, t.name)
		for _, n := range t.targets {
			b.expr(s, n)
		}
	}
}

func (b *binder) ifStmt(s *symbols, t *ifStmt) {
	soft := b.soft
	b.soft = true
	b.line = t.line
	b.expr(s, t.test)
	b.stmts(s, t.body)
	for _, e := range t.elifs {
		b.ifStmt(s, e)
	}
	b.stmts(s, t.or)
	b.soft = soft
}

func (b *binder) forStmt(s *symbols, t *forStmt) {
	b.line = t.line
	b.expr(s, t.over)
	fn := s.fn
	if t.recursive {
		fn = &function{parent: s.fn}
		t.fn = fn
	}
	body := newSymbols(s, fn)
	if t.usesLoop {
		t.loop = body.param("loop")
	}
	body.target(t.target, true)
	body.stmts(t.body)
	b.inner(func() {
		if t.test != nil {
			// The test has variables of its own for the same target; the body's are filled after it.
			in := newSymbols(s, fn)
			in.target(t.target, true)
			in.expr(t.test)
			b.expr(in, t.test)
			t.testScope = b.scope(in)
			t.testTarget = copyTarget(t.target)
			b.expr(in, t.testTarget)
		}
		b.expr(body, t.target)
		b.stmts(body, t.body)
	})
	t.bodyScope = b.scope(body)
	if t.or != nil {
		or := newSymbols(s, fn)
		or.stmts(t.or)
		b.inner(func() { b.stmts(or, t.or) })
		t.orScope = b.scope(or)
	}
}

func copyTarget(e expr) expr {
	switch t := e.(type) {
	case *nameExpr:
		c := *t
		return &c
	case *tupleExpr:
		c := &tupleExpr{}
		for _, item := range t.items {
			c.items = append(c.items, copyTarget(item))
		}
		return c
	}
	return e
}

func (b *binder) macro(s *symbols, m *macroStmt) {
	m.fn = &function{parent: s.fn}
	in := newSymbols(s, m.fn)
	for _, p := range m.params {
		in.param(p.name)
	}
	for _, d := range m.defaults {
		in.expr(d)
	}
	in.stmts(m.body)
	if m.usesCaller {
		m.caller = in.param("caller")
	}
	if m.usesKwargs {
		m.kwargs = in.param("kwargs")
	}
	if m.usesVarargs {
		m.varargs = in.param("varargs")
	}
	b.inner(func() {
		for _, p := range m.params {
			b.expr(in, p)
		}
		for _, d := range m.defaults {
			b.expr(in, d)
		}
		b.stmts(in, m.body)
	})
	m.scope = b.scope(in)
}

// block binds a block, which sees no variables of the scopes around it unless it is scoped. It is done last, when all
// that the template sets is known.
func (b *binder) block(s *symbols, t *blockStmt) {
	t.fn = &function{}
	var outer *symbols
	if t.scoped {
		t.fn.parent = s.fn
		outer = s
	}
	in := newSymbols(outer, t.fn)
	in.stmts(t.body)
	b.inner(func() { b.stmts(in, t.body) })
	t.scope = b.scope(in)
}
