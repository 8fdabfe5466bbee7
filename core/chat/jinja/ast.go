package jinja

// expr is an expression. eval gives its value; what goes wrong on the way is a panic with *Error (see Template.Render).
type expr interface {
	eval(ev *evaluator, f *frame) value
}

// stmt is a statement.
type stmt interface {
	exec(ev *evaluator, f *frame) flow
}

// flow is how a statement ended.
type flow uint8

const (
	goOn flow = iota
	goBreak
	goContinue
)

type (
	constant struct{ v value }
	nameExpr struct {
		name string
		line int
		ref  ref
	}
	listExpr  struct{ items []expr }
	tupleExpr struct{ items []expr }
	dictExpr  struct{ keys, vals []expr }
	attrExpr  struct {
		of   expr
		name string
	}
	itemExpr struct {
		of, key expr
		folded  bool // Jinja computes it when it compiles, where a slice of what has none is undefined
	}
	sliceExpr struct{ from, to, step expr } // nil: absent
	callExpr  struct {
		of   expr
		args callArgs
	}
	filterExpr struct {
		of   expr // nil: the text of the block around it
		name string
		args callArgs
		f    filterFunc
	}
	testExpr struct {
		of   expr
		name string
		args callArgs
		f    testFunc
	}
	condExpr struct {
		test, then, or expr // or nil: undefined
		line           int
	}
	andExpr  struct{ a, b expr }
	orExpr   struct{ a, b expr }
	notExpr  struct{ a expr }
	signExpr struct {
		minus bool
		a     expr
	}
	binExpr struct {
		op   string
		a, b expr
	}
	compareExpr struct {
		first expr
		ops   []string
		rest  []expr
	}
	concatExpr struct{ parts []expr }

	// nsTarget is the target of {% set ns.x = … %}.
	nsTarget struct {
		name, attr string
		ref        ref
	}
)

type callArgs struct {
	pos        []expr
	names      []string
	named      []expr
	star, map_ expr // *args, **kwargs; nil: none
}

type (
	outputStmt struct {
		parts []expr // constants that are texts of the template are *dataPart
		lines []int
	}
	dataPart struct{ text string }

	setStmt struct {
		line   int
		target expr
		value  expr
		export []exported
	}
	setBlock struct {
		line   int
		target expr
		filter expr // nil: none
		body   []stmt
		scope  *scope
		export []exported
	}
	forStmt struct {
		line      int
		target    expr
		over      expr
		test      expr // nil: none
		body, or  []stmt
		recursive bool
		usesLoop  bool

		loop       *variable // the variable "loop" of the body
		testTarget expr      // the target as the test sees it
		bodyScope  *scope
		testScope  *scope
		orScope    *scope
		fn         *function // of a recursive loop
	}
	ifStmt struct {
		line     int
		test     expr
		body, or []stmt
		elifs    []*ifStmt
	}
	macroStmt struct {
		line     int
		name     string
		params   []*nameExpr
		defaults []expr
		body     []stmt
		ref      ref
		fn       *function
		scope    *scope
		caller   *variable // nil: not used
		kwargs   *variable
		varargs  *variable
		export   []exported
		explicit bool // has a parameter caller

		anonymous bool // the caller of a call block

		usesCaller, usesKwargs, usesVarargs bool
	}
	callBlock struct {
		line  int
		call  *callExpr // nil: the generation tag
		macro *macroStmt
	}
	filterBlock struct {
		line   int
		filter expr
		body   []stmt
		scope  *scope
	}
	withStmt struct {
		line    int
		targets []expr
		values  []expr
		body    []stmt
		scope   *scope
	}
	autoescapeStmt struct {
		line  int
		on    expr
		body  []stmt
		scope *scope
	}
	blockStmt struct {
		line   int
		name   string
		scoped bool
		body   []stmt
		fn     *function
		scope  *scope
	}
	// loaderStmt is a tag that wants another template: there is none.
	loaderStmt struct {
		line    int
		tag     string
		name    expr
		targets []*nameExpr
		missing bool // ignore missing
	}
	jumpStmt struct{ flow flow }
)
