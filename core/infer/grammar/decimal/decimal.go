package decimal

import (
	"math/big"
	"strings"

	"edged/core/infer/grammar/expression"
)

// Numbers have at most this many digits before and after the point, so that every reader keeps them.
const (
	MaxWhole    = 15
	MaxFraction = 15
)

// Bound is one end of a range.
type Bound struct {
	At   *big.Rat
	Open bool // at itself is outside
}

// Within is a number from lo to hi; nil: there is none.
func Within(lo, hi Bound, whole bool) *expression.Expr {
	zero := new(big.Rat)
	out := expression.Alternative()
	if hi.At.Sign() >= 0 { // the part from zero on
		from := Bound{At: zero}
		if lo.At.Sign() >= 0 {
			from = lo
		}
		if e := positive(from, hi, whole); e != nil {
			out.Subs = append(out.Subs, e)
		}
	}
	if lo.At.Sign() < 0 { // the part below zero, which is written by its distance from it
		from := Bound{zero, true}
		if hi.At.Sign() < 0 || hi.At.Sign() == 0 && hi.Open {
			from = Bound{new(big.Rat).Neg(hi.At), hi.Open}
		}
		if e := positive(from, Bound{new(big.Rat).Neg(lo.At), lo.Open}, whole); e != nil {
			out.Subs = append(out.Subs, expression.Sequence(expression.Literal("-"), e))
		}
	}
	if len(out.Subs) == 0 {
		return nil
	}
	return out
}

// positive is a number from lo to hi, neither of which is below zero; nil: there is none.
func positive(lo, hi Bound, whole bool) *expression.Expr {
	if c := lo.At.Cmp(hi.At); c > 0 || c == 0 && (lo.Open || hi.Open) {
		return nil
	}
	a, fa, oka := split(lo.At)
	b, fb, okb := split(hi.At)
	one := big.NewInt(1)
	if !oka || !okb { // more decimal places than numbers have here: keep to whole numbers
		whole = true
	}
	if whole {
		if lo.Open || lo.At.Cmp(new(big.Rat).SetInt(a)) > 0 {
			a = new(big.Int).Add(a, one)
		}
		if hi.Open && hi.At.IsInt() {
			b = new(big.Int).Sub(b, one)
		}
		if a.Cmp(b) > 0 {
			return nil
		}
		return between(a.String(), b.String())
	}
	out := expression.Alternative()
	if a.Cmp(b) == 0 {
		e, ends := within(fa, fb, lo.Open, hi.Open)
		return fraction(a.String(), e, ends)
	}
	e, ends := atLeast(fa, lo.Open)
	if e := fraction(a.String(), e, ends); e != nil {
		out.Subs = append(out.Subs, e)
	}
	if from, to := new(big.Int).Add(a, one), new(big.Int).Sub(b, one); from.Cmp(to) <= 0 {
		out.Subs = append(
			out.Subs,
			expression.Sequence(
				between(from.String(), to.String()),
				expression.Repeat(expression.Sequence(expression.Literal("."), places(1)), 0, 1),
			),
		)
	}
	e, ends = atMost(fb, hi.Open)
	if e := fraction(b.String(), e, ends); e != nil {
		out.Subs = append(out.Subs, e)
	}
	return out
}

// split is the whole part and the decimal places, without zeros at their end. False: there are more than
// numbers have here.
func split(r *big.Rat) (*big.Int, string, bool) {
	n := new(big.Int).Quo(r.Num(), r.Denom())
	text := r.FloatString(MaxFraction - 1)
	places := strings.TrimRight(text[strings.IndexByte(text, '.')+1:], "0")
	back, ok := new(big.Rat).SetString(text)
	return n, places, ok && back.Cmp(r) == 0
}

// fraction is a whole part with decimal places e; ends: none are needed. e may be nil: none can be.
func fraction(n string, e *expression.Expr, ends bool) *expression.Expr {
	switch {
	case e == nil && !ends:
		return nil
	case e == nil:
		return expression.Literal(n)
	case ends:
		return expression.Sequence(expression.Literal(n), expression.Repeat(expression.Sequence(expression.Literal("."), e), 0, 1))
	}
	return expression.Sequence(expression.Literal(n), expression.Literal("."), e)
}

func digits(lo, hi byte) *expression.Expr {
	if lo > hi {
		return nil
	}
	return expression.Class(expression.Span{Lo: rune(lo), Hi: rune(hi)})
}

// places are any decimal places, at least so many.
func places(least int) *expression.Expr {
	return expression.Repeat(digits('0', '9'), least, MaxFraction)
}

// join adds d followed by rest to out. rest nil: nothing may follow; ends: nothing need follow.
func join(out, d, rest *expression.Expr, ends bool) {
	switch {
	case d == nil || rest == nil && !ends:
	case rest == nil:
		out.Subs = append(out.Subs, d)
	case ends:
		out.Subs = append(out.Subs, expression.Sequence(d, expression.Repeat(rest, 0, 1)))
	default:
		out.Subs = append(out.Subs, expression.Sequence(d, rest))
	}
}

func some(e *expression.Expr) *expression.Expr {
	if len(e.Subs) == 0 {
		return nil
	}
	return e
}

// atLeast are the decimal places from f on (beyond f, where open), and whether there need be none.
func atLeast(f string, open bool) (e *expression.Expr, ends bool) {
	out := expression.Alternative()
	switch {
	case f == "" && !open:
		return places(1), true
	case f == "":
		return expression.Sequence(expression.Repeat(expression.Literal("0"), 0, MaxFraction-1), digits('1', '9'), places(0)), false
	}
	join(out, digits(f[0]+1, '9'), places(1), true)
	rest, restEnds := atLeast(f[1:], open)
	join(out, expression.Literal(f[:1]), rest, restEnds)
	return some(out), false
}

// atMost are the decimal places up to f (below f, where open).
func atMost(f string, open bool) (e *expression.Expr, ends bool) {
	out := expression.Alternative()
	switch {
	case f == "" && open:
		return nil, false
	case f == "":
		return expression.Repeat(expression.Literal("0"), 1, 2), true
	}
	join(out, digits('0', f[0]-1), places(1), true)
	rest, restEnds := atMost(f[1:], open)
	join(out, expression.Literal(f[:1]), rest, restEnds)
	return some(out), true
}

// within are the decimal places from a to b.
func within(a, b string, openA, openB bool) (e *expression.Expr, ends bool) {
	ends = a == "" && !openA && (b != "" || !openB)
	if a == "" && b == "" {
		if openA || openB {
			return nil, false
		}
		return expression.Repeat(expression.Literal("0"), 1, 2), true
	}
	first := func(s string) (byte, string) {
		if s == "" {
			return '0', ""
		}
		return s[0], s[1:]
	}
	x, restA := first(a)
	y, restB := first(b)
	out := expression.Alternative()
	switch {
	case x > y:
		return nil, ends
	case x == y:
		rest, restEnds := within(restA, restB, openA, openB)
		join(out, digits(x, x), rest, restEnds)
	default:
		rest, restEnds := atLeast(restA, openA)
		join(out, digits(x, x), rest, restEnds)
		join(out, digits(x+1, y-1), places(1), true)
		rest, restEnds = atMost(restB, openB)
		join(out, digits(y, y), rest, restEnds)
	}
	return some(out), ends
}

// between is a whole number from a to b, digits without zeros before them.
func between(a, b string) *expression.Expr {
	out := expression.Alternative()
	for n := len(a); n <= len(b); n++ {
		lo, hi := "1"+strings.Repeat("0", n-1), strings.Repeat("9", n)
		if n == len(a) {
			lo = a
		}
		if n == len(b) {
			hi = b
		}
		out.Subs = append(out.Subs, sameLength(lo, hi))
	}
	if len(out.Subs) == 1 {
		return out.Subs[0]
	}
	return out
}

func sameLength(a, b string) *expression.Expr {
	switch {
	case a == "":
		return expression.Sequence()
	case strings.Trim(a, "0") == "" && strings.Trim(b, "9") == "":
		return expression.Repeat(digits('0', '9'), len(a), len(a))
	case a[0] == b[0]:
		return expression.Sequence(expression.Literal(a[:1]), sameLength(a[1:], b[1:]))
	}
	n := len(a) - 1
	out := expression.Alternative(expression.Sequence(expression.Literal(a[:1]), sameLength(a[1:], strings.Repeat("9", n))))
	if d := digits(a[0]+1, b[0]-1); d != nil {
		out.Subs = append(out.Subs, expression.Sequence(d, expression.Repeat(digits('0', '9'), n, n)))
	}
	out.Subs = append(out.Subs, expression.Sequence(expression.Literal(b[:1]), sameLength(strings.Repeat("0", n), b[1:])))
	return out
}
