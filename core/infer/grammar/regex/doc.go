// Package regex turns regular expressions into expressions of the texts that they match.
//
// The dialect is that of ECMA-262, which JSON Schema's patterns are written in, with what RE2 has beyond it
// (see Pattern). One that looks at its ends only becomes an expression part by part. One that looks around
// itself, or that has to hold together with other demands, becomes a term of a Language, whose derivatives
// are the states of a Machine.
//
// The package decides what a pattern means, and within which bounds; it knows neither JSON nor networks.
// Everything that it makes spends an expression.Effort.
package regex
