// Package jsonvalue reads JSON whose objects keep the order of their keys, and writes it as generated JSON is
// written: on one line, with a space after each comma and colon. Numbers keep their digits. It knows nothing
// of schemas.
package jsonvalue
