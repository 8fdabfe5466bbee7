package grammar

import (
	"math/big"
	"strconv"
	"strings"
)

// Numbers have at most this many digits before and after the point, so that every reader keeps them.
const (
	maxWhole    = 15
	maxFraction = 15
)

// number reads a JSON number that is not out of all proportion.
func number(v *value) (*big.Rat, bool) {
	if v == nil || v.kind != 'n' || len(v.text) > 64 {
		return nil, false
	}
	if i := strings.IndexAny(v.text, "eE"); i >= 0 && len(strings.TrimLeft(v.text[i+1:], "+-0")) > 3 {
		return nil, false
	}
	return new(big.Rat).SetString(v.text)
}

// sameNumber is a text that the spellings of one number have in common: its digits without zeros around them, and the
// power of ten of the last one.
func sameNumber(text string) string {
	digits, exponent := text, 0
	if i := strings.IndexAny(text, "eE"); i >= 0 {
		n, err := strconv.Atoi(text[i+1:])
		if err != nil || n < -1e15 || n > 1e15 {
			return text
		}
		digits, exponent = text[:i], n
	}
	sign := ""
	if rest, ok := strings.CutPrefix(digits, "-"); ok {
		sign, digits = "-", rest
	}
	if before, after, ok := strings.Cut(digits, "."); ok {
		digits, exponent = before+after, exponent-len(after)
	}
	digits = strings.TrimLeft(digits, "0")
	short := strings.TrimRight(digits, "0")
	if short == "" {
		return "0"
	}
	return sign + short + "e" + strconv.Itoa(exponent+len(digits)-len(short))
}

// bound is one end of a range.
type bound struct {
	at   *big.Rat
	open bool // at itself is outside
}

// numberOf is the expression of a number within the bounds that the schema sets.
func numberOf(f facts, path string, whole bool) (*expr, error) {
	bounded := false
	lo := bound{at: new(big.Rat).SetInt64(-1e15)}
	hi := bound{at: new(big.Rat).SetInt64(1e15)}
	for _, k := range []string{"minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum"} {
		v := f[k]
		if v == nil {
			continue
		}
		n, ok := number(v)
		switch {
		case (v.kind == 't' || v.kind == 'f'):
			return nil, unsupported("schema: %s as true or false: write the bound itself", in(path, k))
		case !ok:
			return nil, wrong("schema: %s is %s: want a number", in(path, k), short(v.String()))
		}
		bounded = true
		b := bound{n, strings.HasPrefix(k, "exclusive")}
		if least := k == "minimum" || k == "exclusiveMinimum"; least {
			if c := n.Cmp(lo.at); c > 0 || c == 0 && b.open {
				lo = b
			}
		} else if c := n.Cmp(hi.at); c < 0 || c == 0 && b.open {
			hi = b
		}
	}
	digit := class(span{'0', '9'})
	minus := repeat(lit("-"), 0, 1)
	body := alt(lit("0"), seq(class(span{'1', '9'}), repeat(digit, 0, maxWhole-1)))
	switch {
	case !bounded && whole:
		return seq(minus, body), nil
	case !bounded:
		exponent := seq(class(span{'E', 'E'}, span{'e', 'e'}), repeat(class(span{'+', '+'}, span{'-', '-'}), 0, 1), repeat(digit, 1, 2))
		return seq(minus, body, repeat(seq(lit("."), repeat(digit, 1, maxFraction)), 0, 1), repeat(exponent, 0, 1)), nil
	}
	zero := new(big.Rat)
	out := alt()
	if hi.at.Sign() >= 0 { // the part from zero on
		from := bound{at: zero}
		if lo.at.Sign() >= 0 {
			from = lo
		}
		if e := positive(from, hi, whole); e != nil {
			out.subs = append(out.subs, e)
		}
	}
	if lo.at.Sign() < 0 { // the part below zero, which is written by its distance from it
		from := bound{zero, true}
		if hi.at.Sign() < 0 {
			from = bound{new(big.Rat).Neg(hi.at), hi.open}
		}
		if e := positive(from, bound{new(big.Rat).Neg(lo.at), lo.open}, whole); e != nil {
			out.subs = append(out.subs, seq(lit("-"), e))
		}
	}
	if len(out.subs) == 0 {
		return nil, wrong("schema: %s: no number is within its bounds", nameOf(path))
	}
	return out, nil
}

// positive is a number from lo to hi, neither of which is below zero; nil: there is none.
func positive(lo, hi bound, whole bool) *expr {
	if c := lo.at.Cmp(hi.at); c > 0 || c == 0 && (lo.open || hi.open) {
		return nil
	}
	a, fa, oka := split(lo.at)
	b, fb, okb := split(hi.at)
	one := big.NewInt(1)
	if !oka || !okb { // more decimal places than numbers have here: keep to whole numbers
		whole = true
	}
	if whole {
		if lo.open || lo.at.Cmp(new(big.Rat).SetInt(a)) > 0 {
			a = new(big.Int).Add(a, one)
		}
		if hi.open && hi.at.IsInt() {
			b = new(big.Int).Sub(b, one)
		}
		if a.Cmp(b) > 0 {
			return nil
		}
		return between(a.String(), b.String())
	}
	out := alt()
	if a.Cmp(b) == 0 {
		e, ends := within(fa, fb, lo.open, hi.open)
		return fraction(a.String(), e, ends)
	}
	e, ends := atLeast(fa, lo.open)
	if e := fraction(a.String(), e, ends); e != nil {
		out.subs = append(out.subs, e)
	}
	if from, to := new(big.Int).Add(a, one), new(big.Int).Sub(b, one); from.Cmp(to) <= 0 {
		out.subs = append(out.subs, seq(between(from.String(), to.String()), repeat(seq(lit("."), places(1)), 0, 1)))
	}
	e, ends = atMost(fb, hi.open)
	if e := fraction(b.String(), e, ends); e != nil {
		out.subs = append(out.subs, e)
	}
	return out
}

// split is the whole part and the decimal places, without zeros at their end. False: there are more than numbers have here.
func split(r *big.Rat) (*big.Int, string, bool) {
	n := new(big.Int).Quo(r.Num(), r.Denom())
	text := r.FloatString(maxFraction - 1)
	places := strings.TrimRight(text[strings.IndexByte(text, '.')+1:], "0")
	back, ok := new(big.Rat).SetString(text)
	return n, places, ok && back.Cmp(r) == 0
}

// fraction is a whole part with decimal places e; ends: none are needed. e may be nil: none can be.
func fraction(n string, e *expr, ends bool) *expr {
	switch {
	case e == nil && !ends:
		return nil
	case e == nil:
		return lit(n)
	case ends:
		return seq(lit(n), repeat(seq(lit("."), e), 0, 1))
	}
	return seq(lit(n), lit("."), e)
}

func digits(lo, hi byte) *expr {
	if lo > hi {
		return nil
	}
	return class(span{rune(lo), rune(hi)})
}

// places are any decimal places, at least so many.
func places(least int) *expr { return repeat(digits('0', '9'), least, maxFraction) }

// join adds d followed by rest to out. rest nil: nothing may follow; ends: nothing need follow.
func join(out, d, rest *expr, ends bool) {
	switch {
	case d == nil || rest == nil && !ends:
	case rest == nil:
		out.subs = append(out.subs, d)
	case ends:
		out.subs = append(out.subs, seq(d, repeat(rest, 0, 1)))
	default:
		out.subs = append(out.subs, seq(d, rest))
	}
}

func some(e *expr) *expr {
	if len(e.subs) == 0 {
		return nil
	}
	return e
}

// atLeast are the decimal places from f on (beyond f, where open), and whether there need be none.
func atLeast(f string, open bool) (e *expr, ends bool) {
	out := alt()
	switch {
	case f == "" && !open:
		return places(1), true
	case f == "":
		return seq(repeat(lit("0"), 0, maxFraction-1), digits('1', '9'), places(0)), false
	}
	join(out, digits(f[0]+1, '9'), places(1), true)
	rest, restEnds := atLeast(f[1:], open)
	join(out, lit(f[:1]), rest, restEnds)
	return some(out), false
}

// atMost are the decimal places up to f (below f, where open).
func atMost(f string, open bool) (e *expr, ends bool) {
	out := alt()
	switch {
	case f == "" && open:
		return nil, false
	case f == "":
		return repeat(lit("0"), 1, 2), true
	}
	join(out, digits('0', f[0]-1), places(1), true)
	rest, restEnds := atMost(f[1:], open)
	join(out, lit(f[:1]), rest, restEnds)
	return some(out), true
}

// within are the decimal places from a to b.
func within(a, b string, openA, openB bool) (e *expr, ends bool) {
	ends = a == "" && !openA && (b != "" || !openB)
	if a == "" && b == "" {
		if openA || openB {
			return nil, false
		}
		return repeat(lit("0"), 1, 2), true
	}
	first := func(s string) (byte, string) {
		if s == "" {
			return '0', ""
		}
		return s[0], s[1:]
	}
	x, restA := first(a)
	y, restB := first(b)
	out := alt()
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
func between(a, b string) *expr {
	out := alt()
	for n := len(a); n <= len(b); n++ {
		lo, hi := "1"+strings.Repeat("0", n-1), strings.Repeat("9", n)
		if n == len(a) {
			lo = a
		}
		if n == len(b) {
			hi = b
		}
		out.subs = append(out.subs, sameLength(lo, hi))
	}
	if len(out.subs) == 1 {
		return out.subs[0]
	}
	return out
}

func sameLength(a, b string) *expr {
	switch {
	case a == "":
		return seq()
	case strings.Trim(a, "0") == "" && strings.Trim(b, "9") == "":
		return repeat(digits('0', '9'), len(a), len(a))
	case a[0] == b[0]:
		return seq(lit(a[:1]), sameLength(a[1:], b[1:]))
	}
	n := len(a) - 1
	out := alt(seq(lit(a[:1]), sameLength(a[1:], strings.Repeat("9", n))))
	if d := digits(a[0]+1, b[0]-1); d != nil {
		out.subs = append(out.subs, seq(d, repeat(digits('0', '9'), n, n)))
	}
	out.subs = append(out.subs, seq(lit(b[:1]), sameLength(strings.Repeat("0", n), b[1:])))
	return out
}
