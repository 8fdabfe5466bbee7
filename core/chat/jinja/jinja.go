// Package jinja renders Jinja2 templates as Python's jinja2 3.1.6 does in the way that Hugging Face's transformers 5.24
// sets it up for chat templates: the immutable sandbox, trim_blocks and lstrip_blocks, loop controls, the tag
// generation, a tojson that writes json.dumps(ensure_ascii=False), raise_exception and strftime_now.
//
// This package is the interpreter: it walks the tree that package syntax made of a template, keeps the
// variables and the text, and calls macros. Values are Python's (package value), and so are their operators
// and methods (operator); filters, tests and functions are those of builtin. Callers make their variables
// with package variables.
//
// A template is untrusted. It reaches neither files nor network, and everything whose size it decides is counted before
// it is made: steps, depth, bytes and output have limits, a context ends a rendering, and none of its work is left
// behind. What is not there: other templates (include, import, extends), translations, async, complex numbers, sets and
// bytes. The package knows nothing of chats or tokens. A Template may render concurrently.
package jinja

import (
	"context"
	"time"

	"edged/core/chat/jinja/syntax"
	"edged/core/chat/jinja/variables"
)

// Limits bound one rendering. Zero values mean the defaults that are named.
type Limits struct {
	Steps  int64 // expressions evaluated, items passed and 64-byte pieces of texts looked at; 0: 1,000,000
	Bytes  int64 // of all that is made, kept or not; 0: 24 MiB
	Output int   // bytes of the text; 0: 16 MiB
}

// Template is a compiled template.
type Template struct{ tree *syntax.Template }

// Compile parses a template. The error is a *value.Error that names the line.
func Compile(source string) (*Template, error) {
	t, err := syntax.Parse(source)
	if err != nil {
		return nil, err
	}
	return &Template{t}, nil
}

// Input holds the variables, the clock and the limits of a rendering.
type Input struct {
	Variables *variables.Object
	Now       func() time.Time // what strftime_now formats; nil: there is no such function
	Limits    Limits
	Marks     *Marks // filled in by Render; nil: nobody asks
}

// Render writes the template's text. Its error is a *value.RaisedError where the template refuses, a
// *value.Error where it fails, and wraps value.ErrRunaway or is the context's where it was ended.
func (t *Template) Render(ctx context.Context, in Input) (out string, err error) {
	ev := newEvaluator(ctx, in)
	defer func() {
		if ended := ev.Ended(recover()); ended != nil {
			out, err = "", ended
		}
	}()
	ev.Check()
	f := ev.frame(t.tree.Function, nil)
	ev.enterScope(t.tree.Scope, f)
	ev.run(t.tree.Body, f)
	return string(ev.out.b), nil
}
