package syntax

import (
	"fmt"

	"edged/core/chat/jinja/value"
)

func syntaxError(line int, format string, args ...any) *value.Error {
	return &value.Error{Kind: "TemplateSyntaxError", Message: fmt.Sprintf(format, args...), Line: line}
}

// Template is a template whose names are resolved.
type Template struct {
	Body     []Stmt
	Scope    *Scope
	Function *Function
}

// Parse reads a template. The error is a *value.Error that names the line.
func Parse(source string) (t *Template, err error) {
	defer func() {
		switch r := recover().(type) {
		case nil:
		case *value.Error:
			t, err = nil, r
		default:
			panic(r)
		}
	}()
	p := &parser{lex: newLexer(source), blocks: map[string]bool{}}
	p.cur = p.lex.next()
	t = &Template{Function: &Function{}}
	t.Body = p.statements()
	s := newSymbols(nil, t.Function)
	s.stmts(t.Body)
	b := &binder{top: true, anyBlock: len(p.blocks) > 0}
	b.stmts(s, t.Body)
	t.Scope = b.scope(s)
	return t, nil
}
