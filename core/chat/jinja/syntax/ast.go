package syntax

import (
	"edged/core/chat/jinja/builtin"
	"edged/core/chat/jinja/value"
)

// Expr is an expression, or the target of an assignment.
type Expr interface{ expr() }

// Stmt is a statement.
type Stmt interface{ stmt() }

type (
	// Constant is a literal: None, a bool, a number or a text.
	Constant struct{ Value value.Value }

	// Name is a variable that is read, or the target that is written.
	Name struct {
		Name string
		line int
		Ref  Ref
	}

	// List is [a, b].
	List struct{ Items []Expr }

	// Tuple is (a, b), also as a target.
	Tuple struct{ Items []Expr }

	// Dict is {a: b}.
	Dict struct{ Keys, Values []Expr }

	// Attr is a.b.
	Attr struct {
		Of   Expr
		Name string
	}

	// Item is a[b]; the key is a sliceExpr in a[b:c].
	Item struct {
		Of, Key Expr
		Folded  bool // Jinja computes it when it compiles, where a slice of what has none is undefined
	}

	// Slice is b:c:d inside brackets.
	Slice struct{ From, To, Step Expr } // nil: absent

	// Call is a(b).
	Call struct {
		Of   Expr
		Args Args
	}

	// Filter is a|b, with the function of that name.
	Filter struct {
		Of   Expr // nil: the text of the block around it
		Name string
		Args Args
		Func builtin.FilterFunc
	}

	// Test is a is b, with the function of that name.
	Test struct {
		Of   Expr
		Name string
		Args Args
		Func builtin.TestFunc
	}

	// Cond is a if b else c.
	Cond struct {
		Test, Then, Else Expr // or nil: undefined
		Line             int
	}

	// And is a and b.
	And struct{ A, B Expr }

	// Or is a or b.
	Or struct{ A, B Expr }

	// Not is not a.
	Not struct{ A Expr }

	// Sign is -a or +a.
	Sign struct {
		Minus bool
		A     Expr
	}

	// Binary is an operation on two numbers, texts or lists.
	Binary struct {
		Op   string
		A, B Expr
	}

	// Compare is a < b < c: each operator stands before one of rest.
	Compare struct {
		First Expr
		Ops   []string
		Rest  []Expr
	}

	// Concat is a ~ b.
	Concat struct{ Parts []Expr }

	// NamespaceTarget is the target of {% set ns.x = … %}.
	NamespaceTarget struct {
		name, Attr string
		Ref        Ref
	}
)

// Args holds the arguments of a call.
type Args struct {
	Pos            []Expr
	Names          []string
	Named          []Expr
	Star, StarStar Expr // *args, **kwargs; nil: none
}

type (
	// Output is {{ a }} and the text between tags.
	Output struct {
		Parts []Expr // constants that are texts of the template are *dataPart
		Lines []int
	}

	// Data is text between tags.
	Data struct{ Text string }

	// Set is {% set a = b %}.
	Set struct {
		Line   int
		Target Expr
		Value  Expr
		Export []Exported
	}

	// SetBlock is {% set a %}…{% endset %}.
	SetBlock struct {
		Line   int
		Target Expr
		Filter Expr // nil: none
		Body   []Stmt
		Scope  *Scope
		Export []Exported
	}

	// For is {% for a in b if c %}…{% else %}…{% endfor %}.
	For struct {
		Line       int
		Target     Expr
		Over       Expr
		Test       Expr // nil: none
		Body, Else []Stmt
		Recursive  bool
		UsesLoop   bool

		Loop       *variable // the variable "loop" of the body
		TestTarget Expr      // the target as the test sees it
		BodyScope  *Scope
		TestScope  *Scope
		OrScope    *Scope
		Function   *Function // of a recursive loop
	}

	// If is {% if a %}…{% elif b %}…{% else %}…{% endif %}.
	If struct {
		Line       int
		Test       Expr
		Body, Else []Stmt
		Elifs      []*If
	}

	// Macro is {% macro a(b) %}…{% endmacro %}, or the inside of a call block.
	Macro struct {
		Line     int
		Name     string
		Params   []*Name
		Defaults []Expr
		Body     []Stmt
		Ref      Ref
		Function *Function
		Scope    *Scope
		Caller   *variable // nil: not used
		Kwargs   *variable
		Varargs  *variable
		Export   []Exported
		Explicit bool // has a parameter caller

		Anonymous bool // the caller of a call block

		UsesCaller, usesKwargs, usesVarargs bool
	}

	// CallBlock is {% call(a) b(c) %}…{% endcall %}, or the tag generation.
	CallBlock struct {
		Line  int
		Call  *Call // nil: the generation tag
		Macro *Macro
	}

	// FilterBlock is {% filter a %}…{% endfilter %}.
	FilterBlock struct {
		Line   int
		Filter Expr
		Body   []Stmt
		Scope  *Scope
	}

	// With is {% with a = b %}…{% endwith %}.
	With struct {
		Line    int
		Targets []Expr
		Values  []Expr
		Body    []Stmt
		Scope   *Scope
	}

	// Autoescape is {% autoescape a %}…{% endautoescape %}.
	Autoescape struct {
		Line  int
		On    Expr
		Body  []Stmt
		Scope *Scope
	}

	// Block is {% block a %}…{% endblock %}.
	Block struct {
		Line     int
		name     string
		scoped   bool
		Body     []Stmt
		Function *Function
		Scope    *Scope
	}
	// Loader is a tag that wants another template: there is none.
	Loader struct {
		Line    int
		Tag     string
		Name    Expr
		targets []*Name
		missing bool // ignore missing
	}

	// Jump is {% break %} or, again, {% continue %}.
	Jump struct{ Again bool }
)

func (*Name) expr() {}

func (*Attr) expr() {}

func (*Item) expr() {}

func (*Call) expr() {}

func (*Filter) expr() {}

func (*Test) expr() {}

func (*Compare) expr() {}

func (*Binary) expr() {}

func (*And) expr() {}

func (*Or) expr() {}

func (*Not) expr() {}

func (*Cond) expr() {}

func (*Concat) expr() {}

func (*List) expr() {}

func (*Tuple) expr() {}

func (*Dict) expr() {}

func (*Sign) expr() {}

func (*Slice) expr() {}

func (*Constant) expr() {}

func (*Data) expr() {}

func (*NamespaceTarget) expr() {}

func (*Output) stmt() {}

func (*Set) stmt() {}

func (*SetBlock) stmt() {}

func (*For) stmt() {}

func (*If) stmt() {}

func (*Macro) stmt() {}

func (*CallBlock) stmt() {}

func (*FilterBlock) stmt() {}

func (*With) stmt() {}

func (*Autoescape) stmt() {}

func (*Block) stmt() {}

func (*Loader) stmt() {}

func (*Jump) stmt() {}
