package builtin

import (
	"edged/core/chat/jinja/operator"
	"edged/core/chat/jinja/value"
)

// TestFunc is a test: v is name(a). Its value is taken as true or false.
type TestFunc func(ev *value.Evaluation, v value.Value, a *value.Args) value.Value

// Test finds one of Jinja's tests; nil: there is none.
func Test(name string) TestFunc {
	compare := func(op string) TestFunc {
		return func(ev *value.Evaluation, v value.Value, a *value.Args) value.Value {
			return ev.Holds(op, v, ev.Bind(op, a, []string{""}, 1)[0])
		}
	}
	remainder := func(name string, want int64) TestFunc {
		return func(ev *value.Evaluation, v value.Value, a *value.Args) value.Value {
			ev.Bind(name, a, nil, 0)
			return ev.Equal(operator.Binary(ev, "%", v, int64(2)), want)
		}
	}
	switch name {
	case "odd":
		return remainder("odd", 1)
	case "even":
		return remainder("even", 0)
	case "divisibleby":
		return func(ev *value.Evaluation, v value.Value, a *value.Args) value.Value {
			return ev.Equal(operator.Binary(ev, "%", v, ev.Bind("divisibleby", a, []string{"num"}, 1)[0]), int64(0))
		}
	case "defined":
		return is(func(_ *value.Evaluation, v value.Value) bool { _, ok := v.(*value.Undefined); return !ok })
	case "undefined":
		return is(func(_ *value.Evaluation, v value.Value) bool { _, ok := v.(*value.Undefined); return ok })
	case "filter":
		return is(func(ev *value.Evaluation, v value.Value) bool {
			ev.Hash(v)
			name, ok := value.Text(v)
			return ok && Filter(name) != nil
		})
	case "test":
		return is(func(ev *value.Evaluation, v value.Value) bool {
			ev.Hash(v)
			name, ok := value.Text(v)
			return ok && Test(name) != nil
		})
	case "none":
		return is(func(_ *value.Evaluation, v value.Value) bool { return v == nil })
	case "boolean":
		return is(func(_ *value.Evaluation, v value.Value) bool { _, ok := v.(bool); return ok })
	case "false":
		return is(func(_ *value.Evaluation, v value.Value) bool { b, ok := v.(bool); return ok && !b })
	case "true":
		return is(func(_ *value.Evaluation, v value.Value) bool { b, ok := v.(bool); return ok && b })
	case "integer":
		return is(func(_ *value.Evaluation, v value.Value) bool {
			_, _, ok := value.Int(v)
			_, isBool := v.(bool)
			return ok && !isBool
		})
	case "float":
		return is(func(_ *value.Evaluation, v value.Value) bool { _, ok := v.(float64); return ok })
	case "lower":
		return is(func(ev *value.Evaluation, v value.Value) bool {
			return operator.HasCase(ev.Str(v), operator.IsLower, operator.IsUpper)
		})
	case "upper":
		return is(func(ev *value.Evaluation, v value.Value) bool {
			return operator.HasCase(ev.Str(v), operator.IsUpper, operator.IsLower)
		})
	case "string":
		return is(func(_ *value.Evaluation, v value.Value) bool { _, ok := value.Text(v); return ok })
	case "mapping":
		return is(func(_ *value.Evaluation, v value.Value) bool { _, ok := v.(*value.Dict); return ok })
	case "number":
		return is(func(_ *value.Evaluation, v value.Value) bool { return value.IsNumber(v) })
	case "sequence":
		return is(func(_ *value.Evaluation, v value.Value) bool {
			switch v.(type) {
			case string, value.Markup, *value.List, *value.Tuple, *value.Dict, *value.Range, *value.Undefined:
				return true
			}
			return false
		})
	case "iterable":
		return is(func(ev *value.Evaluation, v value.Value) bool { return ev.Iter(v) != nil })
	case "callable":
		return is(func(_ *value.Evaluation, v value.Value) bool {
			switch v.(type) {
			case *value.Function, value.Callable, *value.Undefined:
				return true
			}
			return false
		})
	case "sameas":
		return func(ev *value.Evaluation, v value.Value, a *value.Args) value.Value {
			return same(v, ev.Bind("sameas", a, []string{"other"}, 1)[0])
		}
	case "escaped":
		return is(func(_ *value.Evaluation, v value.Value) bool { _, ok := v.(value.Markup); return ok })
	case "in":
		return func(ev *value.Evaluation, v value.Value, a *value.Args) value.Value {
			return ev.Contains(ev.Bind("in", a, []string{"seq"}, 1)[0], v)
		}
	case "==":
		return compare("==")
	case "eq":
		return compare("==")
	case "equalto":
		return compare("==")
	case "!=":
		return compare("!=")
	case "ne":
		return compare("!=")
	case ">":
		return compare(">")
	case "gt":
		return compare(">")
	case "greaterthan":
		return compare(">")
	case "ge":
		return compare(">=")
	case ">=":
		return compare(">=")
	case "<":
		return compare("<")
	case "lt":
		return compare("<")
	case "lessthan":
		return compare("<")
	case "<=":
		return compare("<=")
	case "le":
		return compare("<=")
	}
	return nil
}

func is(f func(ev *value.Evaluation, v value.Value) bool) TestFunc {
	return func(ev *value.Evaluation, v value.Value, a *value.Args) value.Value {
		ev.Bind("test", a, nil, 0)
		if s, ok := value.Text(v); ok {
			ev.Work(len(s) / 64)
		}
		return f(ev, v)
	}
}

// same is Python's "is" as far as a template can tell: equal numbers and texts of one type are one object.
func same(a, b value.Value) bool {
	switch x := a.(type) {
	case nil, bool, int64, float64, string, value.Markup:
		return x == b
	}
	return a == b
}
