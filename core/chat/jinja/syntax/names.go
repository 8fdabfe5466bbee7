package syntax

import (
	"slices"

	"edged/core/chat/jinja/builtin"
)

// Names are resolved when a template is compiled, by Jinja's own rules: a scope knows which names are written
// in it, and what each of its variables holds when the scope is entered. That is what makes {% set %} inside
// a loop end with the turn, and a name that is set in one branch of an if keep the value from outside in the
// other.

// Function is a piece of a template with variables of its own: the template, a macro, a recursive loop, a block.
type Function struct {
	parent *Function
	Slots  int
}

// variable is a slot of a function.
type variable struct {
	fn   *Function
	Slot int
}

// Ref is a variable as a function sees it: Hops functions outwards.
type Ref struct{ Hops, Slot int }

// Load says what a variable holds when its scope is entered.
type Load struct {
	Kind LoadKind
	of   *variable // alias
	Name string    // resolve
}

// LoadKind tells how the value of a variable is found.
type LoadKind uint8

// The kinds.
const (
	LoadParam   LoadKind = iota // nothing: it is given
	LoadResolve                 // the rendering's variable of that name
	LoadAlias                   // the value of an outer variable
	LoadMissing                 // undefined
)

// Scope lists the slots that are filled when a scope is entered.
type Scope struct {
	Enter []Entry
}

// Entry is a slot that is filled when a scope is entered.
type Entry struct {
	Slot int
	Load Load
	Of   Ref // alias: the variable as this function sees it
}

// Exported is a variable that blocks see under its name.
type Exported struct {
	Name string
	Slot int
}

// symbols are the names of one scope while it is analysed.
type symbols struct {
	parent *symbols
	fn     *Function
	refs   map[string]*variable // nil: seen in a branch that is undone
	known  map[string]*variable // every variable of this scope, also of other branches
	order  []*variable
	loads  map[*variable]Load
	stores map[string]bool
	log    []change
}

// change is a step that a branch did, to be undone and done again.
type change struct {
	name    string
	v       *variable
	load    Load
	hadRef  *variable
	hadLoad Load
	hasLoad bool
	isStore bool
}

func newSymbols(parent *symbols, fn *Function) *symbols {
	return &symbols{
		parent: parent, fn: fn, refs: map[string]*variable{}, known: map[string]*variable{},
		loads: map[*variable]Load{}, stores: map[string]bool{},
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

func (s *symbols) define(name string, l Load) *variable {
	v := s.known[name]
	if v == nil {
		v = &variable{s.fn, s.fn.Slots}
		s.fn.Slots++
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
		s.define(name, Load{Kind: LoadAlias, of: outer})
		return
	}
	s.define(name, Load{Kind: LoadMissing})
}

func (s *symbols) param(name string) *variable {
	s.markStored(name)
	return s.define(name, Load{Kind: LoadParam})
}

func (s *symbols) load(name string) {
	if s.find(name) == nil {
		s.define(name, Load{Kind: LoadResolve, Name: name})
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
		l := Load{Kind: LoadResolve, Name: name}
		if outer := s.parent.find(name); outer != nil {
			l = Load{Kind: LoadAlias, of: outer}
		}
		s.define(name, l)
	}
}

// visit notes the names that an expression reads or, as a target, writes.
func (s *symbols) expr(e Expr) { eachName(e, s.load) }

func (s *symbols) target(e Expr, param bool) {
	switch t := e.(type) {
	case *Name:
		if param {
			s.param(t.Name)
		} else {
			s.store(t.Name)
		}
	case *Tuple:
		for _, item := range t.Items {
			s.target(item, param)
		}
	case *NamespaceTarget:
		s.load(t.name)
	}
}

func (s *symbols) stmts(list []Stmt) {
	for _, st := range list {
		s.stmt(st)
	}
}

// stmt notes the names of a statement as far as they belong to this scope.
func (s *symbols) stmt(st Stmt) {
	switch t := st.(type) {
	case *Output:
		for _, e := range t.Parts {
			s.expr(e)
		}
	case *Set:
		s.expr(t.Value)
		s.target(t.Target, false)
	case *SetBlock:
		s.target(t.Target, false)
	case *For:
		s.expr(t.Over)
	case *If:
		s.ifStmt(t)
	case *Macro:
		s.store(t.Name)
	case *CallBlock:
		if t.Call != nil {
			s.expr(t.Call)
		}
	case *FilterBlock:
		s.expr(t.Filter)
	case *With:
		for _, v := range t.Values {
			s.expr(v)
		}
	case *Loader:
		s.expr(t.Name)
		for _, n := range t.targets {
			s.store(n.Name)
		}
	}
}

func (s *symbols) ifStmt(t *If) {
	s.expr(t.Test)
	s.branches(
		func() { s.stmts(t.Body) },
		func() {
			for _, e := range t.Elifs {
				s.ifStmt(e)
			}
		},
		func() { s.stmts(t.Else) },
	)
}

// eachName calls f for every name that an expression reads.
func eachName(e Expr, f func(string)) {
	switch t := e.(type) {
	case *Name:
		f(t.Name)
	default:
		eachPart(e, func(part Expr) { eachName(part, f) })
	}
}

// eachPart calls f for the expressions inside another, in their order.
func eachPart(e Expr, f func(Expr)) {
	some := func(list ...Expr) {
		for _, p := range list {
			if p != nil {
				f(p)
			}
		}
	}
	args := func(a Args) {
		some(a.Pos...)
		some(a.Named...)
		some(a.Star, a.StarStar)
	}
	switch t := e.(type) {
	case *List:
		some(t.Items...)
	case *Tuple:
		some(t.Items...)
	case *Dict:
		for i := range t.Keys {
			some(t.Keys[i], t.Values[i])
		}
	case *Attr:
		some(t.Of)
	case *Item:
		some(t.Of, t.Key)
	case *Slice:
		some(t.From, t.To, t.Step)
	case *Call:
		some(t.Of)
		args(t.Args)
	case *Filter:
		some(t.Of)
		args(t.Args)
	case *Test:
		some(t.Of)
		args(t.Args)
	case *Cond:
		some(t.Test, t.Then, t.Else)
	case *And:
		some(t.A, t.B)
	case *Or:
		some(t.A, t.B)
	case *Not:
		some(t.A)
	case *Sign:
		some(t.A)
	case *Binary:
		some(t.A, t.B)
	case *Compare:
		some(t.First)
		some(t.Rest...)
	case *Concat:
		some(t.Parts...)
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
func (b *binder) scope(s *symbols) *Scope {
	out := &Scope{}
	for _, v := range s.order {
		l, ok := s.loads[v]
		if !ok || l.Kind == LoadParam {
			continue
		}
		e := Entry{Slot: v.Slot, Load: l}
		if l.Kind == LoadAlias {
			e.Of = reference(l.of, s.fn)
		}
		out.Enter = append(out.Enter, e)
	}
	return out
}

func reference(v *variable, from *Function) Ref {
	r := Ref{Slot: v.Slot}
	for fn := from; fn != v.fn; fn = fn.parent {
		r.Hops++
	}
	return r
}

func (b *binder) ref(s *symbols, name string) Ref {
	v := s.find(name)
	if v == nil { // the arguments of a set block's filter belong to no scope's analysis
		root := s
		for root.parent != nil {
			root = root.parent
		}
		v = root.define(name, Load{Kind: LoadResolve, Name: name})
	}
	return reference(v, s.fn)
}

func (b *binder) expr(s *symbols, e Expr) {
	soft := b.soft
	switch t := e.(type) {
	case nil:
		return
	case *Name:
		t.Ref = b.ref(s, t.Name)
		return
	case *NamespaceTarget:
		t.Ref = b.ref(s, t.name)
		return
	case *Filter:
		t.Func = builtin.Filter(t.Name)
		if t.Func == nil && !b.soft {
			b.fail("no filter named '%s'", t.Name)
		}
	case *Test:
		t.Func = builtin.Test(t.Name)
		if t.Func == nil && !b.soft {
			b.fail("no test named '%s'", t.Name)
		}
	case *Cond:
		b.soft = true
	}
	eachPart(e, func(part Expr) { b.expr(s, part) })
	b.soft = soft
}

func (b *binder) stmts(s *symbols, list []Stmt) {
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
func (b *binder) export(s *symbols, target Expr) []Exported {
	if !b.top || !b.anyBlock {
		return nil
	}
	switch t := target.(type) {
	case *Name:
		return []Exported{{t.Name, s.find(t.Name).Slot}}
	case *Tuple:
		var out []Exported
		for _, item := range t.Items {
			out = append(out, b.export(s, item)...)
		}
		return out
	}
	return nil
}

func (b *binder) stmt(s *symbols, st Stmt) {
	switch t := st.(type) {
	case *Output:
		for i, e := range t.Parts {
			b.line = t.Lines[i]
			b.expr(s, e)
		}
	case *Set:
		b.line = t.Line
		b.expr(s, t.Value)
		b.expr(s, t.Target)
		t.Export = b.export(s, t.Target)
	case *SetBlock:
		b.line = t.Line
		b.expr(s, t.Target)
		t.Export = b.export(s, t.Target)
		in := newSymbols(s, s.fn)
		in.stmts(t.Body)
		b.inner(func() {
			b.stmts(in, t.Body)
			b.expr(in, t.Filter)
		})
		t.Scope = b.scope(in)
	case *For:
		b.forStmt(s, t)
	case *If:
		b.ifStmt(s, t)
	case *Macro:
		b.line = t.Line
		v := s.find(t.Name)
		t.Ref = reference(v, s.fn)
		if b.top && b.anyBlock {
			t.Export = []Exported{{t.Name, v.Slot}}
		}
		b.macro(s, t)
	case *CallBlock:
		b.line = t.Line
		if t.Call != nil {
			b.expr(s, t.Call)
		}
		b.macro(s, t.Macro)
	case *FilterBlock:
		b.line = t.Line
		in := newSymbols(s, s.fn)
		in.stmts(t.Body)
		in.expr(t.Filter)
		b.inner(func() {
			b.stmts(in, t.Body)
			b.line = t.Line
			b.expr(in, t.Filter)
		})
		t.Scope = b.scope(in)
	case *With:
		b.line = t.Line
		in := newSymbols(s, s.fn)
		for _, target := range t.Targets {
			in.target(target, true)
		}
		in.stmts(t.Body)
		for _, v := range t.Values {
			b.expr(s, v)
		}
		b.inner(func() {
			for _, target := range t.Targets {
				b.expr(in, target)
			}
			b.stmts(in, t.Body)
		})
		t.Scope = b.scope(in)
	case *Autoescape:
		b.line = t.Line
		in := newSymbols(s, s.fn)
		in.expr(t.On)
		in.stmts(t.Body)
		b.inner(func() {
			b.expr(in, t.On)
			b.stmts(in, t.Body)
		})
		t.Scope = b.scope(in)
	case *Block:
		b.block(s, t)
	case *Loader:
		b.line = t.Line
		b.expr(s, t.Name)
		for _, n := range t.targets {
			b.expr(s, n)
		}
	}
}

func (b *binder) ifStmt(s *symbols, t *If) {
	soft := b.soft
	b.soft = true
	b.line = t.Line
	b.expr(s, t.Test)
	b.stmts(s, t.Body)
	for _, e := range t.Elifs {
		b.ifStmt(s, e)
	}
	b.stmts(s, t.Else)
	b.soft = soft
}

func (b *binder) forStmt(s *symbols, t *For) {
	b.line = t.Line
	b.expr(s, t.Over)
	fn := s.fn
	if t.Recursive {
		fn = &Function{parent: s.fn}
		t.Function = fn
	}
	body := newSymbols(s, fn)
	if t.UsesLoop {
		t.Loop = body.param("loop")
	}
	body.target(t.Target, true)
	body.stmts(t.Body)
	b.inner(func() {
		if t.Test != nil {
			// The test has variables of its own for the same target; the body's are filled after it.
			in := newSymbols(s, fn)
			in.target(t.Target, true)
			in.expr(t.Test)
			b.expr(in, t.Test)
			t.TestScope = b.scope(in)
			t.TestTarget = copyTarget(t.Target)
			b.expr(in, t.TestTarget)
		}
		b.expr(body, t.Target)
		b.stmts(body, t.Body)
	})
	t.BodyScope = b.scope(body)
	if t.Else != nil {
		or := newSymbols(s, fn)
		or.stmts(t.Else)
		b.inner(func() { b.stmts(or, t.Else) })
		t.OrScope = b.scope(or)
	}
}

func copyTarget(e Expr) Expr {
	switch t := e.(type) {
	case *Name:
		c := *t
		return &c
	case *Tuple:
		c := &Tuple{}
		for _, item := range t.Items {
			c.Items = append(c.Items, copyTarget(item))
		}
		return c
	}
	return e
}

func (b *binder) macro(s *symbols, m *Macro) {
	m.Function = &Function{parent: s.fn}
	in := newSymbols(s, m.Function)
	for _, p := range m.Params {
		in.param(p.Name)
	}
	for _, d := range m.Defaults {
		in.expr(d)
	}
	in.stmts(m.Body)
	if m.UsesCaller {
		m.Caller = in.param("caller")
	}
	if m.usesKwargs {
		m.Kwargs = in.param("kwargs")
	}
	if m.usesVarargs {
		m.Varargs = in.param("varargs")
	}
	b.inner(func() {
		for _, p := range m.Params {
			b.expr(in, p)
		}
		for _, d := range m.Defaults {
			b.expr(in, d)
		}
		b.stmts(in, m.Body)
	})
	m.Scope = b.scope(in)
}

// block binds a block, which sees no variables of the scopes around it unless it is scoped. It is done last, when all
// that the template sets is known.
func (b *binder) block(s *symbols, t *Block) {
	t.Function = &Function{}
	var outer *symbols
	if t.scoped {
		t.Function.parent = s.fn
		outer = s
	}
	in := newSymbols(outer, t.Function)
	in.stmts(t.Body)
	b.inner(func() { b.stmts(in, t.Body) })
	t.Scope = b.scope(in)
}
