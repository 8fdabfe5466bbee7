package jinja

import (
	"math"
	"math/big"
	"strconv"
)

func filterAbs(ev *evaluator, v value, a *args) value {
	ev.bind("abs", a, nil, 0)
	if u, ok := v.(*undefined); ok {
		ev.used(u)
	}
	if !isNumber(v) {
		ev.fail("TypeError", "bad operand type for abs(): '%s'", typeName(v))
	}
	if f, ok := v.(float64); ok {
		return math.Abs(f)
	}
	if compareNumbers(v, int64(0)) < 0 {
		return ev.arithmetic("-", int64(0), v)
	}
	i, b, _ := whole(v)
	return normal(bigOf(i, b))
}

func filterFileSize(ev *evaluator, v value, a *args) value {
	p := ev.bind("filesizeformat", a, []string{"binary"}, 0)
	f := ev.toFloat(v)
	base, names := 1000.0, []string{"kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB"}
	if p[0] != missing && ev.truth(p[0]) {
		base, names = 1024, []string{"KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB"}
	}
	switch {
	case f == 1:
		return "1 Byte"
	case f < base:
		return ev.str(ev.truncate(f)) + " Bytes"
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
func (ev *evaluator) toFloat(v value) float64 {
	if f, ok := ev.asFloat(v); ok {
		return f
	}
	if s, ok := text(v); ok {
		ev.fail("ValueError", "could not convert string to float: %s", ev.repr(s))
	}
	ev.fail("TypeError", "float() argument must be a string or a real number, not '%s'", typeName(v))
	return 0
}

func (ev *evaluator) asFloat(v value) (float64, bool) {
	if u, ok := v.(*undefined); ok {
		ev.used(u)
	}
	if isNumber(v) {
		return ev.float(v), true
	}
	if s, ok := text(v); ok {
		ev.work(len(s) / 16)
		return parseFloat(s)
	}
	return 0, false
}

func filterFloat(ev *evaluator, v value, a *args) value {
	p := ev.bind("float", a, []string{"default"}, 0)
	if f, ok := ev.asFloat(v); ok {
		return f
	}
	return or(p[0], 0.0)
}

func filterInt(ev *evaluator, v value, a *args) value {
	p := ev.bind("int", a, []string{"default", "base"}, 0)
	none := or(p[0], int64(0))
	if u, ok := v.(*undefined); ok {
		ev.used(u)
	}
	if f, ok := v.(float64); ok {
		if math.IsNaN(f) {
			return none
		}
		return ev.truncate(f)
	}
	if i, b, ok := whole(v); ok {
		return normal(bigOf(i, b))
	}
	s, ok := text(v)
	if !ok {
		return none
	}
	base, isWhole := index(or(p[1], int64(10)))
	if !isWhole {
		base = 1 // none: the text is tried as a float
	}
	ev.work(len(s) / 4)
	ev.alloc(int64(len(s)))
	if base == 0 || base >= 2 && base <= 36 {
		if i, ok := parseInt(s, int(base)); ok {
			return i
		}
	}
	if f, ok := parseFloat(s); ok && !math.IsNaN(f) && !math.IsInf(f, 0) {
		return ev.truncate(f)
	}
	return none
}

func filterRound(ev *evaluator, v value, a *args) value {
	p := ev.bind("round", a, []string{"precision", "method"}, 0)
	method, _ := text(or(p[1], "common"))
	precision := or(p[0], int64(0))
	if u, ok := v.(*undefined); ok {
		ev.used(u)
	}
	switch method {
	case "common":
		if !isNumber(v) {
			ev.fail("TypeError", "type %s doesn't define __round__ method", typeName(v))
		}
		if precision == nil { // round(v, None): a whole number
			if f, ok := v.(float64); ok {
				return ev.truncate(math.RoundToEven(f))
			}
			precision = int64(0)
		}
		n := max(min(ev.wholeArg("precision", precision), 1000), -1000)
		if f, ok := v.(float64); ok {
			return ev.round(f, int(n))
		}
		return ev.roundWhole(v, n)
	case "ceil", "floor":
		scale := ev.binary("**", int64(10), precision)
		f := ev.binary("*", v, scale)
		if !isNumber(f) {
			ev.fail("TypeError", "must be real number, not %s", typeName(f))
		}
		if g, ok := f.(float64); ok {
			if method == "ceil" {
				f = ev.truncate(math.Ceil(g))
			} else {
				f = ev.truncate(math.Floor(g))
			}
		}
		return ev.arithmetic("/", f, scale)
	}
	ev.fail("FilterArgumentError", "method must be common, ceil or floor")
	return nil
}

// round is round(f, n): to the nearest, and to the even one of two that are as near.
func (ev *evaluator) round(f float64, n int) float64 {
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

func (ev *evaluator) roundWhole(v value, n int64) value {
	i, b, _ := whole(v)
	if n >= 0 {
		return normal(bigOf(i, b))
	}
	scale := new(big.Int).Exp(big.NewInt(10), big.NewInt(-n), nil)
	x := bigOf(i, b)
	q, r := new(big.Int).DivMod(x, scale, new(big.Int))
	r.Mul(r, big.NewInt(2))
	if c := r.Cmp(scale); c > 0 || c == 0 && q.Bit(0) == 1 {
		q.Add(q, big.NewInt(1))
	}
	return normal(q.Mul(q, scale))
}
