// Package exactmath holds elementary functions that give the same bits on every architecture. Those of
// package math do not: some have assembly on one architecture only, and Go fuses multiply and add on arm64.
// Here every product is rounded before it is added to. They are within a few units in the last place of a
// float64, which rounding to float32 hides.
//
// They are for what is computed once for a model or for a row. The kernels have their own, for what is
// computed for every value.
package exactmath
