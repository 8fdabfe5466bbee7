// Package value has Python's values as a chat template meets them: their kinds, and what can be done with one without
// knowing its methods. They are counted, compared, hashed, iterated, computed with and printed as CPython 3.12 does it.
//
// It also has the account that all of this is charged to: an Evaluation knows how many steps and bytes a rendering may
// still use, and ends it by a panic that Ended turns into an error again. So nothing here returns an error.
//
// It knows neither templates nor operators, attributes and methods (package operator), filters and tests
// (builtin). Values of other classes, such as macros, join as an Instance. Values may be shared between
// renderings; an Evaluation may not.
package value
