package builtin

import (
	"math"
	"math/big"
	"strconv"

	"edged/core/chat/jinja/operator"
	"edged/core/chat/jinja/value"
)

func filterAbs(ev *value.Evaluation, v value.Value, a *value.Args) value.Value {
	ev.Bind("abs", a, nil, 0)
	if u, ok := v.(*value.Undefined); ok {
		ev.UseUndefined(u)
	}
	if !value.IsNumber(v) {
		ev.Fail("TypeError", "bad operand type for abs(): '%s'", value.TypeName(v))
	}
	if f, ok := v.(float64); ok {
		return math.Abs(f)
	}
	if value.CompareNumbers(v, int64(0)) < 0 {
		return ev.Arithmetic("-", int64(0), v)
	}
	i, b, _ := value.Int(v)
	return value.FromBig(value.Big(i, b))
}

func filterFileSize(ev *value.Evaluation, v value.Value, a *value.Args) value.Value {
	p := ev.Bind("filesizeformat", a, []string{"binary"}, 0)
	f := toFloat(ev, v)
	base, names := 1000.0, []string{"kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB"}
	if p[0] != value.Missing && value.Truth(p[0]) {
		base, names = 1024, []string{"KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB"}
	}
	switch {
	case f == 1:
		return "1 Byte"
	case f < base:
		return ev.Str(operator.Truncate(ev, f)) + " Bytes"
	}
	unit := base
	for i, name := range names {
		unit *= base
		if f < unit || i == len(names)-1 {
			return strconv.FormatFloat(base*f/unit, 'f', 1, 64) + " " + name
		}
	}
	return ""
}

// toFloat is float(v), which ends the rendering where it is none.
func toFloat(ev *value.Evaluation, v value.Value) float64 {
	if f, ok := asFloat(ev, v); ok {
		return f
	}
	if s, ok := value.Text(v); ok {
		ev.Fail("ValueError", "could not convert string to float: %s", ev.Repr(s))
	}
	ev.Fail("TypeError", "float() argument must be a string or a real number, not '%s'", value.TypeName(v))
	return 0
}

func asFloat(ev *value.Evaluation, v value.Value) (float64, bool) {
	if u, ok := v.(*value.Undefined); ok {
		ev.UseUndefined(u)
	}
	if value.IsNumber(v) {
		return ev.Float(v), true
	}
	if s, ok := value.Text(v); ok {
		ev.Work(len(s) / 16)
		return value.ParseFloat(s)
	}
	return 0, false
}

func filterFloat(ev *value.Evaluation, v value.Value, a *value.Args) value.Value {
	p := ev.Bind("float", a, []string{"default"}, 0)
	if f, ok := asFloat(ev, v); ok {
		return f
	}
	return value.OrDefault(p[0], 0.0)
}

func filterInt(ev *value.Evaluation, v value.Value, a *value.Args) value.Value {
	p := ev.Bind("int", a, []string{"default", "base"}, 0)
	none := value.OrDefault(p[0], int64(0))
	if u, ok := v.(*value.Undefined); ok {
		ev.UseUndefined(u)
	}
	if f, ok := v.(float64); ok {
		if math.IsNaN(f) {
			return none
		}
		return operator.Truncate(ev, f)
	}
	if i, b, ok := value.Int(v); ok {
		return value.FromBig(value.Big(i, b))
	}
	s, ok := value.Text(v)
	if !ok {
		return none
	}
	base, isWhole := value.Index(value.OrDefault(p[1], int64(10)))
	if !isWhole {
		base = 1 // none: the text is tried as a float
	}
	ev.Work(len(s) / 4)
	ev.Alloc(int64(len(s)))
	if base == 0 || base >= 2 && base <= 36 {
		if i, ok := value.ParseInt(s, int(base)); ok {
			return i
		}
	}
	if f, ok := value.ParseFloat(s); ok && !math.IsNaN(f) && !math.IsInf(f, 0) {
		return operator.Truncate(ev, f)
	}
	return none
}

func filterRound(ev *value.Evaluation, v value.Value, a *value.Args) value.Value {
	p := ev.Bind("round", a, []string{"precision", "method"}, 0)
	method, _ := value.Text(value.OrDefault(p[1], "common"))
	precision := value.OrDefault(p[0], int64(0))
	if u, ok := v.(*value.Undefined); ok {
		ev.UseUndefined(u)
	}
	switch method {
	case "common":
		if !value.IsNumber(v) {
			ev.Fail("TypeError", "type %s doesn't define __round__ method", value.TypeName(v))
		}
		if precision == nil { // round(v, None): a whole number
			if f, ok := v.(float64); ok {
				return operator.Truncate(ev, math.RoundToEven(f))
			}
			precision = int64(0)
		}
		n := max(min(ev.IntArg("precision", precision), 1000), -1000)
		if f, ok := v.(float64); ok {
			return round(f, int(n))
		}
		return roundWhole(v, n)
	case "ceil", "floor":
		scale := operator.Binary(ev, "**", int64(10), precision)
		f := operator.Binary(ev, "*", v, scale)
		if !value.IsNumber(f) {
			ev.Fail("TypeError", "must be real number, not %s", value.TypeName(f))
		}
		if g, ok := f.(float64); ok {
			if method == "ceil" {
				f = operator.Truncate(ev, math.Ceil(g))
			} else {
				f = operator.Truncate(ev, math.Floor(g))
			}
		}
		return ev.Arithmetic("/", f, scale)
	}
	ev.Fail("FilterArgumentError", "method must be common, ceil or floor")
	return nil
}

// round is round(f, n): to the nearest, and to the even one of two that are as near.
func round(f float64, n int) float64 {
	switch {
	case math.IsNaN(f) || math.IsInf(f, 0) || n > 322:
		return f
	case n < -308:
		return math.Copysign(0, f)
	case n >= 0:
		r, err := strconv.ParseFloat(strconv.FormatFloat(f, 'f', n, 64), 64)
		if err != nil {
			return f
		}
		return r
	}
	scale := math.Pow(10, float64(-n))
	return math.RoundToEven(f/scale) * scale
}

func roundWhole(v value.Value, n int64) value.Value {
	i, b, _ := value.Int(v)
	if n >= 0 {
		return value.FromBig(value.Big(i, b))
	}
	scale := new(big.Int).Exp(big.NewInt(10), big.NewInt(-n), nil)
	x := value.Big(i, b)
	q, r := new(big.Int).DivMod(x, scale, new(big.Int))
	r.Mul(r, big.NewInt(2))
	if c := r.Cmp(scale); c > 0 || c == 0 && q.Bit(0) == 1 {
		q.Add(q, big.NewInt(1))
	}
	return value.FromBig(q.Mul(q, scale))
}
