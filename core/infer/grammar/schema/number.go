package schema

import (
	"math/big"
	"slices"
	"strconv"
	"strings"

	"edged/core/infer/grammar/decimal"
	"edged/core/infer/grammar/expression"
	"edged/core/infer/grammar/jsonvalue"
	"edged/core/infer/grammar/regex"
)

// number reads a JSON number that is not out of all proportion.
func number(v *jsonvalue.Value) (*big.Rat, bool) {
	if v == nil || v.Kind != 'n' || len(v.Text) > 400 {
		return nil, false
	}
	if i := strings.IndexAny(v.Text, "eE"); i >= 0 && len(strings.TrimLeft(v.Text[i+1:], "+-0")) > 3 {
		return nil, false
	}
	return new(big.Rat).SetString(v.Text)
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

// bounds are those that a schema sets, or those that numbers have here.
func bounds(f facts, path string) (lo, hi decimal.Bound, err error) {
	lo, hi = decimal.Bound{At: new(big.Rat).SetInt64(-1e15)}, decimal.Bound{At: new(big.Rat).SetInt64(1e15)}
	low, high := false, false // set by the schema
	for _, k := range []string{"minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum"} {
		v := f[k]
		if v == nil || v.Kind == 't' || v.Kind == 'f' {
			continue // of draft 4: it is about the bound beside it
		}
		n, ok := number(v)
		if !ok {
			return lo, hi, expression.Syntaxf("schema: %s is %s: want a number", nameOf(in(path, k)), expression.Excerpt(v.String()))
		}
		least := k == "minimum" || k == "exclusiveMinimum"
		b := decimal.Bound{At: n, Open: strings.HasPrefix(k, "exclusive")}
		if open := f["exclusive"+strings.ToUpper(k[:1])+k[1:]]; open != nil && open.Kind == 't' {
			b.Open = true
		}
		if least {
			if c := n.Cmp(lo.At); !low || c > 0 || c == 0 && b.Open {
				lo, low = b, true
			}
		} else if c := n.Cmp(hi.At); !high || c < 0 || c == 0 && b.Open {
			hi, high = b, true
		}
	}
	// Numbers have at most 15 digits, unless a bound leaves none of those.
	usual := new(big.Rat).SetInt64(1e15)
	minus := new(big.Rat).Neg(usual)
	ten := new(big.Rat).SetInt64(10)
	if !low && hi.At.Cmp(minus) < 0 {
		lo = decimal.Bound{At: new(big.Rat).Mul(hi.At, ten)}
	} else if lo.At.Cmp(minus) < 0 && hi.At.Cmp(minus) >= 0 {
		lo = decimal.Bound{At: minus}
	}
	if !high && lo.At.Cmp(usual) > 0 {
		hi = decimal.Bound{At: new(big.Rat).Mul(lo.At, ten)}
	} else if hi.At.Cmp(usual) > 0 && lo.At.Cmp(usual) <= 0 {
		hi = decimal.Bound{At: usual}
	}
	return lo, hi, nil
}

// number is the expression of a number within the bounds that the schema sets.
func (r *schemaReader) number(f facts, path string, whole bool) (*expression.Expr, error) {
	for _, name := range texts(f["format"]) { // of OpenAPI
		if limit := map[string]string{"int32": "2147483647", "int64": "999999999999999"}[name]; limit != "" {
			whole = true
			least, most := jsonvalue.NewObject(), jsonvalue.NewObject()
			least.Set("minimum", &jsonvalue.Value{Kind: 'n', Text: "-" + limit})
			most.Set("maximum", &jsonvalue.Value{Kind: 'n', Text: limit})
			merged, err := r.merge(facts{"minimum": least.Fields["minimum"], "maximum": most.Fields["maximum"]}, f, path)
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
		for _, it := range v.Items {
			if n, ok := number(it); ok {
				not = append(not, n)
			}
		}
	}
	if m := f["multipleOf"]; m != nil {
		step, ok := number(m)
		if !ok || step.Sign() <= 0 {
			return nil, expression.Syntaxf(
				"schema: %s is %s: want a number above 0",
				nameOf(in(path, "multipleOf")),
				expression.Excerpt(m.String()),
			)
		}
		if len(not) > 0 {
			return nil, expression.Unsupportedf("schema: %s beside numbers that not excludes", nameOf(in(path, "multipleOf")))
		}
		if !whole || !step.IsInt() || step.Num().Cmp(big.NewInt(1)) != 0 {
			return r.multiples(lo, hi, step, whole, path)
		}
	}
	digit := expression.Class(expression.Span{Lo: '0', Hi: '9'})
	minus := expression.Repeat(expression.Literal("-"), 0, 1)
	body := expression.Alternative(
		expression.Literal("0"),
		expression.Sequence(expression.Class(expression.Span{Lo: '1', Hi: '9'}), expression.Repeat(digit, 0, decimal.MaxWhole-1)),
	)
	switch {
	case bounded || len(not) > 0:
	case whole:
		return expression.Sequence(minus, body), nil
	default:
		exponent := expression.Sequence(
			expression.Class(expression.Span{Lo: 'E', Hi: 'E'}, expression.Span{Lo: 'e', Hi: 'e'}),
			expression.Repeat(expression.Class(expression.Span{Lo: '+', Hi: '+'}, expression.Span{Lo: '-', Hi: '-'}), 0, 1),
			expression.Repeat(digit, 1, 2),
		)
		return expression.Sequence(
			minus,
			body,
			expression.Repeat(expression.Sequence(expression.Literal("."), expression.Repeat(digit, 1, decimal.MaxFraction)), 0, 1),
			expression.Repeat(exponent, 0, 1),
		), nil
	}
	slices.SortFunc(not, func(a, b *big.Rat) int { return a.Cmp(b) })
	out := expression.Alternative()
	for _, n := range append(not, nil) { // the ranges between those that are excluded
		to := hi
		if n != nil {
			if n.Cmp(lo.At) < 0 || n.Cmp(hi.At) > 0 {
				continue
			}
			to = decimal.Bound{At: n, Open: true}
		}
		if err := r.src.Spend(40); err != nil {
			return nil, err
		}
		if e := decimal.Within(lo, to, whole); e != nil {
			out.Subs = append(out.Subs, e)
		}
		if n != nil {
			lo = decimal.Bound{At: n, Open: true}
		}
	}
	switch len(out.Subs) {
	case 0:
		return nil, expression.Syntaxf("schema: %s: no number is within its bounds", nameOf(path))
	case 1:
		return out.Subs[0], nil
	}
	return out, nil
}

// maxMultiples bounds the multiples that are listed one by one.
const maxMultiples = 1000

// multiples are the numbers from lo to hi that are multiples of step: one by one where they are few, and
// otherwise by what is left of their digits when they are divided. Of a step that leaves too much, those are
// written that are nearest to zero.
func (r *schemaReader) multiples(lo, hi decimal.Bound, step *big.Rat, whole bool, path string) (*expression.Expr, error) {
	if whole && !step.IsInt() {
		step = new(big.Rat).SetInt(step.Num())
	}
	one := big.NewInt(1)
	from, to := quotient(lo.At, step, true), quotient(hi.At, step, false)
	if lo.Open && new(big.Rat).Mul(new(big.Rat).SetInt(from), step).Cmp(lo.At) == 0 {
		from.Add(from, one)
	}
	if hi.Open && new(big.Rat).Mul(new(big.Rat).SetInt(to), step).Cmp(hi.At) == 0 {
		to.Sub(to, one)
	}
	if from.Cmp(to) > 0 {
		return nil, expression.Syntaxf("schema: %s: no multiple is within its bounds", nameOf(in(path, "multipleOf")))
	}
	places := 0
	for scaled := new(big.Rat).Set(step); !scaled.IsInt(); places++ {
		if places == decimal.MaxFraction {
			return nil, expression.Unsupportedf(
				"schema: %s with more than %d decimal places",
				nameOf(in(path, "multipleOf")),
				decimal.MaxFraction,
			)
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
	var all []*expression.Expr
	for n := new(big.Int).Set(from); n.Cmp(to) <= 0; n.Add(n, one) {
		if err := r.src.Spend(20); err != nil {
			return nil, err
		}
		all = append(all, expression.Literal(decimalText(new(big.Rat).Mul(new(big.Rat).SetInt(n), step))))
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

// divisible are the numbers from lo to hi with at most so many decimal places whose digits, read as a whole
// number with all of those places, are divisible by n.
func (r *schemaReader) divisible(lo, hi decimal.Bound, n, places int, path string) (*expression.Expr, error) {
	e := decimal.Within(lo, hi, places == 0)
	if e == nil {
		return nil, expression.Syntaxf("schema: %s: no multiple is within its bounds", nameOf(in(path, "multipleOf")))
	}
	l := regex.NewLanguage(r.src.Effort)
	m, err := l.Machine(l.Expr(e))
	if err != nil {
		return nil, regex.TooMany(err, "schema: "+nameOf(in(path, "multipleOf")))
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
	out := &regex.Machine{}
	number := map[state]int32{{after: -1}: 0}
	todo := []state{{after: -1}}
	for d := '0'; d <= '9'; d++ {
		out.Classes = append(out.Classes, []expression.Span{{Lo: d, Hi: d}})
	}
	out.Classes = append(out.Classes, []expression.Span{{Lo: '-', Hi: '-'}}, []expression.Span{{Lo: '.', Hi: '.'}})
	class := func(c rune) int {
		return slices.IndexFunc(m.Classes, func(set []expression.Span) bool {
			return slices.ContainsFunc(set, func(s expression.Span) bool { return s.Lo <= c && c <= s.Hi })
		})
	}
	for i := 0; i < len(todo); i++ {
		s := todo[i]
		row := make([]int32, len(out.Classes))
		if err := r.src.Spend(4 + 2*len(row)); err != nil {
			return nil, err
		}
		for k := range row {
			c := out.Classes[k][0].Lo
			row[k] = -1
			from := class(c)
			if from < 0 || m.Next[s.at][from] < 0 {
				continue
			}
			next := state{int(m.Next[s.at][from]), s.rest, s.after}
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
		out.Next, out.Ends = append(out.Next, row), append(out.Ends, m.Ends[s.at] && ended(s) && s.after != 0)
		if len(todo) > 2*regex.MaxStates {
			return nil, regex.TooMany(regex.ErrStates, "schema: "+nameOf(in(path, "multipleOf")))
		}
	}
	if out, err = out.Trim(); err != nil {
		return nil, regex.TooMany(err, "schema: "+nameOf(in(path, "multipleOf")))
	}
	return out.Expr(regex.PlainChars), nil
}
