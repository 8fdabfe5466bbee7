// Package gbnf reads the written form of grammars: GBNF as llama.cpp's users know it, with the directives that package
// grammar describes. What %json and %regex hold is read by packages schema and regex.
//
// It makes expressions of a text and knows neither networks nor tokens. Its errors name the line.
package gbnf
