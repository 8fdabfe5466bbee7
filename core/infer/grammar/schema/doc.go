// Package schema reads JSON Schema, of every draft that is in use.
//
// A schema is turned into an expression of texts that are valid under it: of those that are written on one
// line, with one space after each comma and colon, and with the properties in the order of the schema. Not
// every valid text is among them, and none that is not valid.
//
// What is served stands in docs/constrained.md, which the tests write. A keyword that says nothing about the
// type that it stands beside is passed over, as are those that only describe and those that no draft knows:
// they assert nothing. What asserts something that is not served is ErrUnsupported, with its name and where
// it stands.
//
// An object has properties beyond those that are listed where additionalProperties is true or a schema, and where no
// properties are listed at all.
//
// Reading has three steps: expand takes combinations apart into alternatives, each of which is a set of facts about one
// value (merge.go, not.go); facts are turned into expressions type by type (object.go, array.go, text.go, number.go).
// The package knows nothing of networks, tokens or the written form of grammars.
package schema
