// Package jinja renders Jinja2 templates as Python's jinja2 3.1.6 does in the way that Hugging Face's transformers 5.24
// sets it up for chat templates: the immutable sandbox, trim_blocks and lstrip_blocks, loop controls, the tag
// generation, a tojson that writes json.dumps(ensure_ascii=False), raise_exception and strftime_now.
//
// Values are Python's (see value.go): they print, compare, add and fail as they do there. Scope follows Jinja's compiler
// (scope.go), whitespace its lexer (lexer.go).
//
// A template is untrusted. It reaches neither files nor network, and everything whose size it decides is counted before
// it is made: steps, depth, bytes and output have limits, a context ends a rendering, and none of its work is left
// behind. What is not there: other templates (include, import, extends), translations, async, complex numbers, sets and
// bytes. The package knows nothing of chats or tokens. A Template may render concurrently.
package jinja

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// ErrRunaway is wrapped by the error of a rendering that exceeded its limits.
var ErrRunaway = errors.New("the template does not end within its bounds")

// Error is what a template did wrong: the name of Python's exception, and its sentence.
type Error struct {
	Kind    string // TypeError, UndefinedError, TemplateSyntaxError, …
	Message string
	Line    int // 0: unknown
}

func (e *Error) Error() string {
	if e.Line > 0 {
		return fmt.Sprintf("line %d: %s", e.Line, e.Message)
	}
	return e.Message
}

// RaisedError is the template's own refusal, through raise_exception.
type RaisedError struct{ Message string }

func (e *RaisedError) Error() string { return e.Message }

// stopped carries an error that ends a rendering from outside: a limit or the context.
type stopped struct{ err error }

func syntaxError(line int, format string, args ...any) *Error {
	return &Error{"TemplateSyntaxError", fmt.Sprintf(format, args...), line}
}

// Limits bound one rendering. Zero values mean the defaults that are named.
type Limits struct {
	Steps  int64 // expressions evaluated, items passed and 64-byte pieces of texts looked at; 0: 1,000,000
	Bytes  int64 // of all that is made, kept or not; 0: 24 MiB
	Output int   // bytes of the text; 0: 16 MiB
}

// Depths that do not depend on the input.
const (
	maxDepth  = 4000 // expressions, values and generators inside each other
	maxMacros = 200  // macro calls inside each other
	maxRange  = 100_000
)

// Template is a compiled template.
type Template struct {
	body  []stmt
	scope *scope
	fn    *function
}

// Compile parses a template. The error is an *Error that names the line.
func Compile(source string) (t *Template, err error) {
	defer func() {
		switch r := recover().(type) {
		case nil:
		case *Error:
			t, err = nil, r
		default:
			panic(r)
		}
	}()
	p := &parser{lex: newLexer(source), blocks: map[string]bool{}}
	p.cur = p.lex.next()
	t = &Template{fn: &function{}}
	t.body = p.statements()
	s := newSymbols(nil, t.fn)
	s.stmts(t.body)
	b := &binder{top: true, anyBlock: len(p.blocks) > 0}
	b.stmts(s, t.body)
	t.scope = b.scope(s)
	return t, nil
}

// Input is what a rendering sees.
type Input struct {
	Variables *Object
	Now       func() time.Time // what strftime_now formats; nil: there is no such function
	Limits    Limits
}

// Render writes the template's text. Its error is a *RaisedError where the template refuses, an *Error where it fails, and
// wraps ErrRunaway or is the context's where it was ended.
func (t *Template) Render(ctx context.Context, in Input) (out string, err error) {
	ev := newEvaluator(ctx, in)
	defer func() {
		switch r := recover().(type) {
		case nil:
		case *Error:
			if r.Line == 0 {
				r.Line = ev.line
			}
			out, err = "", r
		case *RaisedError:
			out, err = "", r
		case stopped:
			out, err = "", r.err
		default:
			panic(r)
		}
	}()
	ev.check()
	f := ev.frame(t.fn, nil)
	ev.enterScope(t.scope, f)
	ev.run(t.body, f)
	return string(ev.out.b), nil
}
