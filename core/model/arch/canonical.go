package arch

import (
	"cmp"
	"fmt"
	"reflect"
	"slices"
	"strconv"
)

// Canonical is a Spec as text, the same for equal ones in every process and every build, and different for
// different ones. What is kept on disk under a name that depends on the Spec derives the name from it:
//
//	struct   {Name=value Name=value}, by the names of the fields, without those that are zero
//	Op, Position, Fix: the type's name, then the struct
//	slice    [value value]
//	string   as Go quotes it
//	number   decimal; a float is the shortest text that reads as the same bits
//	pointer  what it points to
//
// A field or type that is added changes no text that does not use it. A field that is renamed, a constant
// that gets another number or a field that gets another meaning changes names or, worse, does not:
// TestCanonical holds examples; a change that alters one must raise the version of every format that uses
// this text.
func (s *Spec) Canonical() string {
	return string(appendCanonical(nil, reflect.ValueOf(s).Elem()))
}

func appendCanonical(b []byte, v reflect.Value) []byte {
	switch v.Kind() { //nolint:exhaustive // a Spec has no others, which its test makes sure of
	case reflect.Struct:
		return appendFields(b, v)
	case reflect.Slice, reflect.Array:
		b = append(b, '[')
		for i := range v.Len() {
			if i > 0 {
				b = append(b, ' ')
			}
			b = appendCanonical(b, v.Index(i))
		}
		return append(b, ']')
	case reflect.Interface:
		if v.IsNil() {
			return append(b, "nil"...)
		}
		return appendCanonical(append(b, v.Elem().Type().Name()...), v.Elem())
	case reflect.Pointer:
		if v.IsNil() {
			return append(b, "nil"...)
		}
		return appendCanonical(b, v.Elem())
	case reflect.String:
		return strconv.AppendQuote(b, v.String())
	case reflect.Bool:
		return strconv.AppendBool(b, v.Bool())
	case reflect.Int:
		return strconv.AppendInt(b, v.Int(), 10)
	case reflect.Uint8:
		return strconv.AppendUint(b, v.Uint(), 10)
	case reflect.Float32:
		return strconv.AppendFloat(b, v.Float(), 'g', -1, 32)
	case reflect.Float64:
		return strconv.AppendFloat(b, v.Float(), 'g', -1, 64)
	default:
		panic(fmt.Sprintf("arch: a Spec has a %s, which has no canonical text yet", v.Type()))
	}
}

func appendFields(b []byte, v reflect.Value) []byte {
	t := v.Type()
	fields := make([]int, 0, t.NumField())
	for i := range t.NumField() {
		// IsZero takes a negative zero for another number, as its bits are.
		if !v.Field(i).IsZero() {
			fields = append(fields, i)
		}
	}
	slices.SortFunc(fields, func(x, y int) int { return cmp.Compare(t.Field(x).Name, t.Field(y).Name) })
	b = append(b, '{')
	for n, i := range fields {
		if n > 0 {
			b = append(b, ' ')
		}
		b = append(append(b, t.Field(i).Name...), '=')
		b = appendCanonical(b, v.Field(i))
	}
	return append(b, '}')
}
