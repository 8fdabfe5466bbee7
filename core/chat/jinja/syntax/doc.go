// Package syntax reads a template: a lexer with Jinja's whitespace control, a parser by recursive descent, and the
// resolution of names that Jinja's compiler does (names.go). What comes out is a tree in which each variable has its
// slot, and each filter and test its function.
//
// It is held to jinja2 3.1.6 with trim_blocks, lstrip_blocks, loop controls and transformers' tag generation;
// it knows neither other templates nor translations. A tree is bounded in depth, is evaluated by package
// jinja, and is not changed once it is parsed, so any number may evaluate it at once.
package syntax
