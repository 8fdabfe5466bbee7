// Package variables makes the variables of a rendering, from Go's values and from JSON as Python's json.loads
// reads it. It is for those who call a template; a template's own values are those of package value.
package variables
