package jinja

type testFunc func(ev *evaluator, v value, a *args) value

// testCalled finds one of Jinja's tests; nil: there is none.
func testCalled(name string) testFunc {
	compare := func(op string) testFunc {
		return func(ev *evaluator, v value, a *args) value {
			return ev.holds(op, v, ev.bind(op, a, []string{""}, 1)[0])
		}
	}
	remainder := func(name string, want int64) testFunc {
		return func(ev *evaluator, v value, a *args) value {
			ev.bind(name, a, nil, 0)
			return ev.equal(ev.binary("%", v, int64(2)), want)
		}
	}
	switch name {
	case "odd":
		return remainder("odd", 1)
	case "even":
		return remainder("even", 0)
	case "divisibleby":
		return func(ev *evaluator, v value, a *args) value {
			return ev.equal(ev.binary("%", v, ev.bind("divisibleby", a, []string{"num"}, 1)[0]), int64(0))
		}
	case "defined":
		return is(func(_ *evaluator, v value) bool { _, ok := v.(*undefined); return !ok })
	case "undefined":
		return is(func(_ *evaluator, v value) bool { _, ok := v.(*undefined); return ok })
	case "filter":
		return is(func(ev *evaluator, v value) bool {
			ev.hash(v)
			name, ok := text(v)
			return ok && filterCalled(name) != nil
		})
	case "test":
		return is(func(ev *evaluator, v value) bool {
			ev.hash(v)
			name, ok := text(v)
			return ok && testCalled(name) != nil
		})
	case "none":
		return is(func(_ *evaluator, v value) bool { return v == nil })
	case "boolean":
		return is(func(_ *evaluator, v value) bool { _, ok := v.(bool); return ok })
	case "false":
		return is(func(_ *evaluator, v value) bool { b, ok := v.(bool); return ok && !b })
	case "true":
		return is(func(_ *evaluator, v value) bool { b, ok := v.(bool); return ok && b })
	case "integer":
		return is(func(_ *evaluator, v value) bool {
			_, _, ok := whole(v)
			_, isBool := v.(bool)
			return ok && !isBool
		})
	case "float":
		return is(func(_ *evaluator, v value) bool { _, ok := v.(float64); return ok })
	case "lower":
		return is(func(ev *evaluator, v value) bool { return oneCase(ev.str(v), isLower, isUpper) })
	case "upper":
		return is(func(ev *evaluator, v value) bool { return oneCase(ev.str(v), isUpper, isLower) })
	case "string":
		return is(func(_ *evaluator, v value) bool { _, ok := text(v); return ok })
	case "mapping":
		return is(func(_ *evaluator, v value) bool { _, ok := v.(*dict); return ok })
	case "number":
		return is(func(_ *evaluator, v value) bool { return isNumber(v) })
	case "sequence":
		return is(func(_ *evaluator, v value) bool {
			switch v.(type) {
			case string, markup, *list, *tuple, *dict, *span, *undefined:
				return true
			}
			return false
		})
	case "iterable":
		return is(func(ev *evaluator, v value) bool { return ev.iter(v) != nil })
	case "callable":
		return is(func(_ *evaluator, v value) bool {
			switch v.(type) {
			case *callable, *macro, *loop, *joiner, *undefined:
				return true
			}
			return false
		})
	case "sameas":
		return func(ev *evaluator, v value, a *args) value {
			return same(v, ev.bind("sameas", a, []string{"other"}, 1)[0])
		}
	case "escaped":
		return is(func(_ *evaluator, v value) bool { _, ok := v.(markup); return ok })
	case "in":
		return func(ev *evaluator, v value, a *args) value {
			return ev.contains(ev.bind("in", a, []string{"seq"}, 1)[0], v)
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

func is(f func(ev *evaluator, v value) bool) testFunc {
	return func(ev *evaluator, v value, a *args) value {
		ev.bind("test", a, nil, 0)
		if s, ok := text(v); ok {
			ev.work(len(s) / 64)
		}
		return f(ev, v)
	}
}

// same is Python's "is" as far as a template can tell: equal numbers and texts of one type are one object.
func same(a, b value) bool {
	switch x := a.(type) {
	case nil, bool, int64, float64, string, markup:
		return x == b
	}
	return a == b
}
