package grammar

import (
	"math/big"
	"slices"
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
	if v == nil || v.kind != 'n' || len(v.text) > 400 {
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
		if err != nil || n < -1e9 || n > 1e9 {
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

// bounds are those that a schema sets, or those that numbers have here.
func bounds(f facts, path string) (lo, hi bound, err error) {
	lo, hi = bound{at: new(big.Rat).SetInt64(-1e15)}, bound{at: new(big.Rat).SetInt64(1e15)}
	low, high := false, false // set by the schema
	for _, k := range []string{"minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum"} {
		v := f[k]
		if v == nil || v.kind == 't' || v.kind == 'f' {
			continue // of draft 4: it is about the bound beside it
		}
		n, ok := number(v)
		if !ok {
			return lo, hi, wrong("schema: %s is %s: want a number", nameOf(in(path, k)), short(v.String()))
		}
		least := k == "minimum" || k == "exclusiveMinimum"
		b := bound{n, strings.HasPrefix(k, "exclusive")}
		if open := f["exclusive"+strings.ToUpper(k[:1])+k[1:]]; open != nil && open.kind == 't' {
			b.open = true
		}
		if least {
			if c := n.Cmp(lo.at); !low || c > 0 || c == 0 && b.open {
				lo, low = b, true
			}
		} else if c := n.Cmp(hi.at); !high || c < 0 || c == 0 && b.open {
			hi, high = b, true
		}
	}
	// Numbers have at most 15 digits, unless a bound leaves none of those.
	usual := new(big.Rat).SetInt64(1e15)
	minus := new(big.Rat).Neg(usual)
	ten := new(big.Rat).SetInt64(10)
	if !low && hi.at.Cmp(minus) < 0 {
		lo = bound{at: new(big.Rat).Mul(hi.at, ten)}
	} else if lo.at.Cmp(minus) < 0 && hi.at.Cmp(minus) >= 0 {
		lo = bound{at: minus}
	}
	if !high && lo.at.Cmp(usual) > 0 {
		hi = bound{at: new(big.Rat).Mul(lo.at, ten)}
	} else if hi.at.Cmp(usual) > 0 && lo.at.Cmp(usual) <= 0 {
		hi = bound{at: usual}
	}
	return lo, hi, nil
}

// number is the expression of a number within the bounds that the schema sets.
func (r *schemaReader) number(f facts, path string, whole bool) (*expr, error) {
	for _, name := range texts(f["format"]) { // of OpenAPI
		if limit := map[string]string{"int32": "2147483647", "int64": "999999999999999"}[name]; limit != "" {
			whole = true
			least, most := object(), object()
			least.set("minimum", &value{kind: 'n', text: "-" + limit})
			most.set("maximum", &value{kind: 'n', text: limit})
			merged, err := r.merge(facts{"minimum": least.fields["minimum"], "maximum": most.fields["maximum"]}, f, path)
			if err != nil {
				return nil, err
			}
			f = merged
		}
	}
	bounded := false
	for _, k := range []string{"minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum"} {
		bounded = bounded || f[k] != nil
	}
	lo, hi, err := bounds(f, path)
	if err != nil {
		return nil, err
	}
	var not []*big.Rat // numbers that are excluded
	if v := f["!enum"]; v != nil {
		for _, it := range v.items {
			if n, ok := number(it); ok {
				not = append(not, n)
			}
		}
	}
	if m := f["multipleOf"]; m != nil {
		step, ok := number(m)
		if !ok || step.Sign() <= 0 {
			return nil, wrong("schema: %s is %s: want a number above 0", nameOf(in(path, "multipleOf")), short(m.String()))
		}
		if len(not) > 0 {
			return nil, unsupported("schema: %s beside numbers that not excludes", nameOf(in(path, "multipleOf")))
		}
		if !whole || !step.IsInt() || step.Num().Cmp(big.NewInt(1)) != 0 {
			return r.multiples(lo, hi, step, whole, path)
		}
	}
	digit := class(span{'0', '9'})
	minus := repeat(lit("-"), 0, 1)
	body := alt(lit("0"), seq(class(span{'1', '9'}), repeat(digit, 0, maxWhole-1)))
	switch {
	case bounded || len(not) > 0:
	case whole:
		return seq(minus, body), nil
	default:
		exponent := seq(class(span{'E', 'E'}, span{'e', 'e'}), repeat(class(span{'+', '+'}, span{'-', '-'}), 0, 1), repeat(digit, 1, 2))
		return seq(minus, body, repeat(seq(lit("."), repeat(digit, 1, maxFraction)), 0, 1), repeat(exponent, 0, 1)), nil
	}
	slices.SortFunc(not, func(a, b *big.Rat) int { return a.Cmp(b) })
	out := alt()
	for _, n := range append(not, nil) { // the ranges between those that are excluded
		to := hi
		if n != nil {
			if n.Cmp(lo.at) < 0 || n.Cmp(hi.at) > 0 {
				continue
			}
			to = bound{n, true}
		}
		if err := r.src.spend(40); err != nil {
			return nil, err
		}
		if e := within2(lo, to, whole); e != nil {
			out.subs = append(out.subs, e)
		}
		if n != nil {
			lo = bound{n, true}
		}
	}
	switch len(out.subs) {
	case 0:
		return nil, wrong("schema: %s: no number is within its bounds", nameOf(path))
	case 1:
		return out.subs[0], nil
	}
	return out, nil
}

// within2 is a number from lo to hi; nil: there is none.
func within2(lo, hi bound, whole bool) *expr {
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
		if hi.at.Sign() < 0 || hi.at.Sign() == 0 && hi.open {
			from = bound{new(big.Rat).Neg(hi.at), hi.open}
		}
		if e := positive(from, bound{new(big.Rat).Neg(lo.at), lo.open}, whole); e != nil {
			out.subs = append(out.subs, seq(lit("-"), e))
		}
	}
	if len(out.subs) == 0 {
		return nil
	}
	return out
}

// maxMultiples bounds the multiples that are listed one by one.
const maxMultiples = 1000

// multiples are the numbers from lo to hi that are multiples of step: one by one where they are few, and otherwise by
// what is left of their digits when they are divided. Of a step that leaves too much, those are written that are nearest to zero.
func (r *schemaReader) multiples(lo, hi bound, step *big.Rat, whole bool, path string) (*expr, error) {
	if whole && !step.IsInt() {
		step = new(big.Rat).SetInt(step.Num())
	}
	one := big.NewInt(1)
	from, to := quotient(lo.at, step, true), quotient(hi.at, step, false)
	if lo.open && new(big.Rat).Mul(new(big.Rat).SetInt(from), step).Cmp(lo.at) == 0 {
		from.Add(from, one)
	}
	if hi.open && new(big.Rat).Mul(new(big.Rat).SetInt(to), step).Cmp(hi.at) == 0 {
		to.Sub(to, one)
	}
	if from.Cmp(to) > 0 {
		return nil, wrong("schema: %s: no multiple is within its bounds", nameOf(in(path, "multipleOf")))
	}
	places := 0
	for scaled := new(big.Rat).Set(step); !scaled.IsInt(); places++ {
		if places == maxFraction {
			return nil, unsupported("schema: %s with more than %d decimal places", nameOf(in(path, "multipleOf")), maxFraction)
		}
		scaled.Mul(scaled, new(big.Rat).SetInt64(10))
	}
	few := big.NewInt(maxMultiples)
	if new(big.Int).Sub(to, from).Cmp(few) > 0 {
		scaled := new(big.Rat).Mul(step, new(big.Rat).SetInt(new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(places)), nil)))
		const residues = 128
		if n := scaled.Num(); n.IsInt64() && n.Int64() <= residues {
			return r.divisible(lo, hi, int(n.Int64()), places, path)
		}
		switch half := big.NewInt(maxMultiples / 2); {
		case from.Sign() >= 0:
			to = new(big.Int).Add(from, few)
		case to.Sign() <= 0:
			from = new(big.Int).Sub(to, few)
		default:
			if low := new(big.Int).Neg(half); from.Cmp(low) < 0 {
				from = low
			}
			if to.Cmp(half) > 0 {
				to = half
			}
		}
	}
	var all []*expr
	for n := new(big.Int).Set(from); n.Cmp(to) <= 0; n.Add(n, one) {
		if err := r.src.spend(20); err != nil {
			return nil, err
		}
		all = append(all, lit(decimal(new(big.Rat).Mul(new(big.Rat).SetInt(n), step))))
	}
	return oneOf(all), nil
}

// quotient is a/b rounded up, or down.
func quotient(a, b *big.Rat, up bool) *big.Int {
	q := new(big.Rat).Quo(a, b)
	n, rest := new(big.Int).DivMod(q.Num(), q.Denom(), new(big.Int))
	if up && rest.Sign() > 0 {
		n.Add(n, big.NewInt(1))
	}
	return n
}

// divisible are the numbers from lo to hi with at most so many decimal places whose digits, read as a whole number with all of
// those places, are divisible by n.
func (r *schemaReader) divisible(lo, hi bound, n, places int, path string) (*expr, error) {
	e := within2(lo, hi, places == 0)
	if e == nil {
		return nil, wrong("schema: %s: no multiple is within its bounds", nameOf(in(path, "multipleOf")))
	}
	l := newLanguage(r.src.effort)
	m, err := l.machine(l.expr(e))
	if err != nil {
		return nil, tooMany(err, "schema: "+nameOf(in(path, "multipleOf")))
	}
	type state struct {
		at, rest int
		after    int // digits behind the point; -1: there is none
	}
	// ended says that what is left of the digits is 0 once the places that are not written are.
	ended := func(s state) bool {
		rest := s.rest
		for range places - max(s.after, 0) {
			rest = rest * 10 % n
		}
		return rest == 0
	}
	out := &machine{}
	number := map[state]int32{{after: -1}: 0}
	todo := []state{{after: -1}}
	for d := '0'; d <= '9'; d++ {
		out.classes = append(out.classes, []span{{d, d}})
	}
	out.classes = append(out.classes, []span{{'-', '-'}}, []span{{'.', '.'}})
	class := func(c rune) int {
		return slices.IndexFunc(m.classes, func(set []span) bool {
			return slices.ContainsFunc(set, func(s span) bool { return s.lo <= c && c <= s.hi })
		})
	}
	for i := 0; i < len(todo); i++ {
		s := todo[i]
		row := make([]int32, len(out.classes))
		if err := r.src.spend(4 + 2*len(row)); err != nil {
			return nil, err
		}
		for k := range row {
			c := out.classes[k][0].lo
			row[k] = -1
			from := class(c)
			if from < 0 || m.next[s.at][from] < 0 {
				continue
			}
			next := state{int(m.next[s.at][from]), s.rest, s.after}
			switch {
			case c == '.':
				next.after = 0
			case c == '-':
			case s.after == places:
				continue // no further places
			default:
				next.rest = (s.rest*10 + int(c-'0')) % n
				if s.after >= 0 {
					next.after++
				}
			}
			to, ok := number[next]
			if !ok {
				to = int32(len(todo))
				number[next] = to
				todo = append(todo, next)
			}
			row[k] = to
		}
		out.next, out.ends = append(out.next, row), append(out.ends, m.ends[s.at] && ended(s) && s.after != 0)
		if len(todo) > 2*maxStates {
			return nil, tooMany(errStates, "schema: "+nameOf(in(path, "multipleOf")))
		}
	}
	if out, err = out.trim(); err != nil {
		return nil, tooMany(err, "schema: "+nameOf(in(path, "multipleOf")))
	}
	return out.expr(plainChars), nil
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
