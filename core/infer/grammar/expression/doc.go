// Package expression is what a grammar is made of before it is a network: expressions of texts, as a regular
// one has them, and rules that call each other.
//
// Whatever reads a grammar makes them (gbnf, schema, regex), and package network compiles them; none of these
// is known here. The package also has what all of them share: the errors, the bounds, sets of characters, and
// Effort, the account that reading a stranger's grammar spends. A Source belongs to one goroutine; an Expr is
// not changed once it is part of another.
package expression
