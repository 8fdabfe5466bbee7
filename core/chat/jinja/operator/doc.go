// Package operator implements Python's operators on values: a + b, a % b, a.b, a[b] and a[b:c], as jinja2's immutable
// sandbox lets them through, and therefore the methods that a value has, above all those of str with its two languages
// of formats.
//
// What something costs is counted in the value.Evaluation before it is done. The package knows no syntax, no
// variables and no filters.
package operator
