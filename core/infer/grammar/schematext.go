package grammar

import (
	"fmt"
	"strings"
)

// unescaped are the characters that stand in a JSON string as they are.
func unescaped() []span {
	return []span{{0x20, 0x21}, {0x23, 0x5B}, {0x5D, 0xD7FF}, {0xE000, 0x10FFFF}}
}

// char is one character of a JSON string, escapes included; those of surrogates are left out, since they come in pairs.
func (r *schemaReader) char() (*expr, error) {
	const name = "an escape"
	number, ok := r.refs[name]
	if !ok {
		hex := class(span{'0', '9'}, span{'A', 'F'}, span{'a', 'f'})
		var simple []*expr
		for _, c := range `"\/bfnrt` {
			simple = append(simple, lit(string(c)))
		}
		code := alt(
			seq(class(span{'0', '9'}, span{'A', 'C'}, span{'E', 'F'}, span{'a', 'c'}, span{'e', 'f'}), hex, hex, hex),
			seq(class(span{'D', 'D'}, span{'d', 'd'}), class(span{'0', '7'}), hex, hex),
		)
		var err error
		number, err = r.src.add(name, seq(lit(`\`), alt(append(simple, seq(lit("u"), code))...)))
		if err != nil {
			return nil, err
		}
		r.refs[name] = number
	}
	return alt(class(unescaped()...), call1(number)), nil
}

// jsonChars is one character of some spans as a JSON string writes it: escaped where it must be, and only there.
func jsonChars(spans []span) *expr {
	out := alt()
	if plain := common(ordered(spans), unescaped()); len(plain) > 0 {
		out.subs = append(out.subs, class(plain...))
	}
	for _, s := range common(ordered(spans), []span{{0, 0x1F}, {'"', '"'}, {'\\', '\\'}}) {
		for c := s.lo; c <= s.hi; c++ {
			out.subs = append(out.subs, lit(strings.Trim(quote(string(c)), `"`)))
			switch c {
			case '"':
				out.subs[len(out.subs)-1] = lit(`\"`)
			case '\b':
				out.subs[len(out.subs)-1] = lit(`\b`)
			case '\f':
				out.subs[len(out.subs)-1] = lit(`\f`)
			}
		}
	}
	if len(out.subs) == 1 {
		return out.subs[0]
	}
	return out
}

// formats are the values of format that are served, each by a regular expression of some of the texts that it allows.
//
//nolint:gochecknoglobals // a table
var formats = map[string]string{
	"date":      datePattern,
	"time":      timePattern,
	"date-time": datePattern + "T" + timePattern,
	"duration":  `P(\d{1,4}W|(\d{1,4}Y(\d{1,2}M(\d{1,3}D)?)?|\d{1,2}M(\d{1,3}D)?|\d{1,3}D)(T` + clockPattern + `)?|T` + clockPattern + `)`,
	"email":     `[a-z0-9_+-]{1,20}(\.[a-z0-9_+-]{1,20}){0,2}@` + hostPattern,
	"hostname":  hostPattern,
	"ipv4":      octet + `(\.` + octet + `){3}`,
	"ipv6":      `([0-9a-f]{1,4}:){7}[0-9a-f]{1,4}`,
	"uuid":      `[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`,
}

const (
	// Every year has these days; February has 28.
	datePattern  = `\d{4}-((0[13578]|1[02])-(0[1-9]|[12]\d|3[01])|(0[469]|11)-(0[1-9]|[12]\d|30)|02-(0[1-9]|1\d|2[0-8]))`
	timePattern  = `([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d{1,6})?(Z|[+-]([01]\d|2[0-3]):[0-5]\d)`
	clockPattern = `(\d{1,4}H(\d{1,4}M(\d{1,4}S)?)?|\d{1,4}M(\d{1,4}S)?|\d{1,4}S)`
	hostPattern  = `[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?){0,3}\.[a-z]{2,10}`
	octet        = `(25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)`
)

// text is the expression of a string.
func (r *schemaReader) text(f facts, path string) (*expr, error) {
	least, most, err := f.counts("minLength", "maxLength", path)
	if err != nil {
		return nil, err
	}
	pattern, format := f["pattern"], f["format"]
	switch {
	case pattern == nil && format == nil:
		char, err := r.char()
		return seq(lit(`"`), repeat(char, least, most), lit(`"`)), err
	case pattern != nil && format != nil:
		return nil, unsupported("schema: %s beside pattern", in(path, "format"))
	case pattern != nil && pattern.kind != 's', format != nil && format.kind != 's':
		return nil, wrong("schema: %s: pattern and format are texts", nameOf(path))
	}
	var body *expr
	name := "pattern"
	if pattern != nil {
		everything, err := r.char()
		if err != nil {
			return nil, err
		}
		body, err = regex(r.src.effort, pattern.text, part, func(spans []span) *expr {
			if len(spans) == 1 && spans[0] == every()[0] {
				return everything
			}
			return jsonChars(spans)
		})
		if err != nil {
			return nil, fmt.Errorf("%w (in the schema's %s)", err, in(path, "pattern"))
		}
	} else {
		name = "format"
		known, ok := formats[format.text]
		if !ok {
			return nil, unsupported("schema: %s: %s", in(path, "format"), short(format.text))
		}
		if body, err = regex(r.src.effort, known, whole, plainChars); err != nil {
			return nil, err
		}
	}
	if lo, hi := length(body); lo < least || most >= 0 && (hi < 0 || hi > most) {
		return nil, unsupported("schema: %s beside minLength or maxLength that it does not keep by itself", in(path, name))
	}
	return seq(lit(`"`), body, lit(`"`)), nil
}

// length is the least and the greatest number of characters of what a regular expression made, below 0: without bound. A
// text in it is one character, or its escape, which counts as one.
func length(e *expr) (lo, hi int) {
	switch e.op {
	case opClass:
		return 1, 1
	case opLit:
		if e.lit == "" {
			return 0, 0
		}
		return 1, 1
	case opRule: // an escape
		return 1, 1
	case opSeq:
		for _, s := range e.subs {
			l, h := length(s)
			lo, hi = min(lo+l, maxNodes), sum(hi, h)
		}
		return lo, hi
	case opAlt:
		for i, s := range e.subs {
			l, h := length(s)
			if i == 0 {
				lo, hi = l, h
				continue
			}
			lo = min(lo, l)
			if hi = max(hi, h); h < 0 {
				hi = -1
			}
		}
		return lo, hi
	case opRepeat:
		l, h := length(e.subs[0])
		if lo = min(l*e.min, maxNodes); e.max < 0 && h != 0 || h < 0 {
			return lo, -1
		}
		return lo, min(h*max(e.max, 0), maxNodes)
	}
	return 0, 0
}

func sum(a, b int) int {
	if a < 0 || b < 0 {
		return -1
	}
	return min(a+b, maxNodes)
}
