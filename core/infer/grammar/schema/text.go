package schema

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"edged/core/infer/grammar/expression"
	"edged/core/infer/grammar/jsonvalue"
	"edged/core/infer/grammar/regex"
)

// unescaped are the characters that stand in a JSON string as they are.
func unescaped() []expression.Span {
	return []expression.Span{{Lo: 0x20, Hi: 0x21}, {Lo: 0x23, Hi: 0x5B}, {Lo: 0x5D, Hi: 0xD7FF}, {Lo: 0xE000, Hi: 0x10FFFF}}
}

// char is one character of a JSON string, escapes included; those of surrogates are left out, since they come in pairs.
func (r *schemaReader) char() (*expression.Expr, error) {
	const name = "an escape"
	number, ok := r.refs[name]
	if !ok {
		hex := expression.Class(expression.Span{Lo: '0', Hi: '9'}, expression.Span{Lo: 'A', Hi: 'F'}, expression.Span{Lo: 'a', Hi: 'f'})
		var simple []*expression.Expr
		for _, c := range `"\/bfnrt` {
			simple = append(simple, expression.Literal(string(c)))
		}
		code := expression.Alternative(
			expression.Sequence(
				expression.Class(
					expression.Span{Lo: '0', Hi: '9'},
					expression.Span{Lo: 'A', Hi: 'C'},
					expression.Span{Lo: 'E', Hi: 'F'},
					expression.Span{Lo: 'a', Hi: 'c'},
					expression.Span{Lo: 'e', Hi: 'f'},
				),
				hex,
				hex,
				hex,
			),
			expression.Sequence(
				expression.Class(expression.Span{Lo: 'D', Hi: 'D'}, expression.Span{Lo: 'd', Hi: 'd'}),
				expression.Class(expression.Span{Lo: '0', Hi: '7'}),
				hex,
				hex,
			),
		)
		var err error
		number, err = r.src.Add(
			name,
			expression.Sequence(
				expression.Literal(`\`),
				expression.Alternative(append(simple, expression.Sequence(expression.Literal("u"), code))...),
			),
		)
		if err != nil {
			return nil, err
		}
		r.refs[name] = number
	}
	return expression.Alternative(expression.Class(unescaped()...), expression.Call(number)), nil
}

// jsonChars is one character of some spans as a JSON string writes it: escaped where it must be, and only there.
func jsonChars(spans []expression.Span) *expression.Expr {
	out := expression.Alternative()
	if plain := expression.Intersect(expression.Normalize(spans), unescaped()); len(plain) > 0 {
		out.Subs = append(out.Subs, expression.Class(plain...))
	}
	for _, s := range expression.Intersect(expression.Normalize(spans), []expression.Span{{Lo: 0, Hi: 0x1F}, {Lo: '"', Hi: '"'}, {Lo: '\\', Hi: '\\'}}) {
		for c := s.Lo; c <= s.Hi; c++ {
			out.Subs = append(out.Subs, expression.Literal(strings.Trim(jsonvalue.Quote(string(c)), `"`)))
			switch c {
			case '"':
				out.Subs[len(out.Subs)-1] = expression.Literal(`\"`)
			case '\b':
				out.Subs[len(out.Subs)-1] = expression.Literal(`\b`)
			case '\f':
				out.Subs[len(out.Subs)-1] = expression.Literal(`\f`)
			}
		}
	}
	if len(out.Subs) == 1 {
		return out.Subs[0]
	}
	return out
}

// Formats are the values of format that are held, sorted.
func Formats() []string { return slices.Sorted(maps.Keys(formats)) }

// formats are the values of format that are held, each by a regular expression of some of the texts that it
// allows. Others assert nothing.
//
//nolint:gochecknoglobals // a table
var formats = map[string]string{
	"date":                  datePattern,
	"time":                  timePattern,
	"iso-time":              timePattern,
	"date-time":             datePattern + "T" + timePattern,
	"iso-date-time":         datePattern + "T" + timePattern,
	"duration":              `P(\d{1,4}W|(\d{1,4}Y(\d{1,2}M(\d{1,3}D)?)?|\d{1,2}M(\d{1,3}D)?|\d{1,3}D)(T` + clockPattern + `)?|T` + clockPattern + `)`,
	"email":                 emailPattern,
	"idn-email":             emailPattern,
	"hostname":              hostPattern,
	"idn-hostname":          hostPattern,
	"ipv4":                  octet + `(\.` + octet + `){3}`,
	"ipv6":                  `([0-9a-f]{1,4}:){7}[0-9a-f]{1,4}`,
	"uuid":                  `[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`,
	"uri":                   uriPattern,
	"url":                   uriPattern,
	"iri":                   uriPattern,
	"uri-template":          uriPattern,
	"uri-reference":         `(` + uriPattern + `|` + pathPattern + `)`,
	"iri-reference":         `(` + uriPattern + `|` + pathPattern + `)`,
	"json-pointer":          pointerPattern,
	"relative-json-pointer": `(0|[1-9]\d?)(#|` + pointerPattern + `)`,
	"regex":                 `[A-Za-z0-9 _-]{0,60}`,
	"byte":                  `([A-Za-z0-9+/]{4}){0,60}([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?`,
}

// besides are formats beside a pattern, where a text has at most 60 characters: bounds on its parts would
// multiply with those of the pattern.
//
//nolint:gochecknoglobals // a table
var besides = map[string]string{
	"email": looseEmail, "idn-email": looseEmail, "hostname": looseHost, "idn-hostname": looseHost,
	"uri": looseURI, "url": looseURI, "iri": looseURI,
}

const (
	looseHost  = `([a-z0-9]+(-[a-z0-9]+)*\.)+[a-z]{2,10}`
	looseEmail = `[A-Za-z0-9_+-]+(\.[A-Za-z0-9_+-]+)*@` + looseHost
	looseURI   = `[a-z]+://` + looseHost + `(:[1-9]\d{1,3})?(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)*/?(\?[a-z0-9_]+=[A-Za-z0-9_.-]*)?(#[A-Za-z0-9_-]+)?`

	// Every year has these days; February has 28.
	datePattern    = `\d{4}-((0[13578]|1[02])-(0[1-9]|[12]\d|3[01])|(0[469]|11)-(0[1-9]|[12]\d|30)|02-(0[1-9]|1\d|2[0-8]))`
	timePattern    = `([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d{1,6})?(Z|[+-]([01]\d|2[0-3]):[0-5]\d)`
	clockPattern   = `(\d{1,4}H(\d{1,4}M(\d{1,4}S)?)?|\d{1,4}M(\d{1,4}S)?|\d{1,4}S)`
	hostPattern    = `[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?){0,3}\.[a-z]{2,10}`
	octet          = `(25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)`
	emailPattern   = `[A-Za-z0-9_+-]{1,20}(\.[A-Za-z0-9_+-]{1,20}){0,2}@` + hostPattern
	pathPattern    = `(/[A-Za-z0-9_~-][A-Za-z0-9._~-]{0,40}){1,8}/?`
	uriPattern     = `(https?|ftp|wss?|mqtts?)://` + hostPattern + `(:[1-9]\d{1,3})?(` + pathPattern + `)?(\?[a-z0-9_]{1,20}=[A-Za-z0-9_.-]{0,40}(&[a-z0-9_]{1,20}=[A-Za-z0-9_.-]{0,40}){0,4})?(#[A-Za-z0-9_-]{1,30})?`
	pointerPattern = `(/[A-Za-z0-9_.-]{0,30}){0,8}`
)

// textChars writes one character of a string: any of them with all of its escapes, others as they must be.
func (r *schemaReader) textChars() (regex.Chars, error) {
	everything, err := r.char()
	if err != nil {
		return nil, err
	}
	return func(spans []expression.Span) *expression.Expr {
		if len(spans) == 1 && spans[0] == expression.AnyChar()[0] {
			return everything
		}
		return r.escaped(jsonChars(spans))
	}, nil
}

// escaped makes a rule of the escapes among some characters, once for each set: there may be 34 of them.
func (r *schemaReader) escaped(e *expression.Expr) *expression.Expr {
	const few = 4
	if e.Op != expression.OpAlternative || len(e.Subs) <= few {
		return e
	}
	own := e.Subs[:0:0]
	all := expression.Alternative()
	key := "escapes of"
	for _, s := range e.Subs {
		if s.Op == expression.OpLiteral {
			all.Subs = append(all.Subs, s)
			key += " " + s.Literal
		} else {
			own = append(own, s)
		}
	}
	number, ok := r.refs[key]
	if !ok {
		var err error
		if number, err = r.src.Add("an escape", expression.Choice(all.Subs)); err != nil {
			return e
		}
		r.refs[key] = number
	}
	return expression.Alternative(append(own, expression.Call(number))...)
}

// text is the expression of a string.
func (r *schemaReader) text(f facts, path string) (*expression.Expr, error) {
	least, most, err := f.counts("minLength", "maxLength", path)
	if err != nil {
		return nil, err
	}
	var demands, texted []string // regular expressions, and how they are anchored
	demands = texts(f["pattern"])
	for _, name := range texts(f["format"]) {
		if known, ok := formats[name]; ok {
			texted = append(texted, known)
		}
	}
	var not bool
	if v := f["!enum"]; v != nil {
		for _, it := range v.Items {
			not = not || it.Kind == 's'
		}
	}
	not = not || f["!pattern"] != nil
	c, err := r.textChars()
	if err != nil {
		return nil, err
	}
	if len(demands)+len(texted) == 0 && !not {
		body, err := r.many(c(expression.AnyChar()), least, most)
		return expression.Sequence(expression.Literal(`"`), body, expression.Literal(`"`)), err
	}
	if len(demands)+len(texted) == 1 && !not {
		var pattern string
		a := regex.Whole
		if len(demands) == 1 {
			pattern, a = demands[0], regex.Part
		} else {
			pattern = texted[0]
		}
		n, err := regex.Parse(r.src.Effort, pattern)
		if err != nil {
			return nil, r.where(err, path)
		}
		if body := regex.Simple(n, a, c); body != nil {
			if lo, hi := length(body); lo >= least && (most < 0 || hi >= 0 && hi <= most) {
				return expression.Sequence(expression.Literal(`"`), body, expression.Literal(`"`)), nil
			}
		}
	}
	m, err := regex.Shortened(r.src.Effort, func(l *regex.Language) (*regex.Term, error) {
		t, _, _, err := r.textTerm(l, f, path)
		return t, err
	}, least)
	if err == nil {
		m, err = m.Counted(r.src.Effort, least, most)
	}
	if err != nil {
		return nil, r.where(regex.TooMany(err, "schema: what "+nameOf(path)+" says of a text"), path)
	}
	return expression.Sequence(expression.Literal(`"`), m.Expr(c), expression.Literal(`"`)), nil
}

// where says where the regular expression of an error stands.
func (r *schemaReader) where(err error, path string) error {
	return fmt.Errorf("%w (in the schema's %s)", err, nameOf(in(path, "pattern")))
}

// textTerm is the term of what a schema says of a text, but for its length.
func (r *schemaReader) textTerm(l *regex.Language, f facts, path string) (t *regex.Term, least, most int, err error) {
	if least, most, err = f.counts("minLength", "maxLength", path); err != nil {
		return nil, 0, 0, err
	}
	all := []*regex.Term{l.All}
	demand := func(pattern string, a regex.Anchoring, not bool) error {
		t, err := r.patternTerm(l, pattern, a)
		if err != nil {
			return r.where(err, path)
		}
		if not {
			t = l.Not(t)
		}
		all = append(all, t)
		return nil
	}
	for _, p := range texts(f["pattern"]) {
		if err := demand(p, regex.Part, false); err != nil {
			return nil, 0, 0, err
		}
	}
	for _, p := range texts(f["!pattern"]) {
		if err := demand(p, regex.Part, true); err != nil {
			return nil, 0, 0, err
		}
	}
	for _, name := range texts(f["format"]) {
		known, ok := formats[name]
		if !ok {
			continue
		}
		if loose, ok := besides[name]; ok && len(all) > 1 {
			known = loose
			all = append(all, l.Repeat(l.Any, 0, 60))
		}
		if err := demand(known, regex.Whole, false); err != nil {
			return nil, 0, 0, err
		}
	}
	if v := f["!enum"]; v != nil {
		for _, it := range v.Items {
			if it.Kind == 's' {
				all = append(all, l.Not(l.Text(it.Text)))
			}
		}
	}
	vs, err := r.values(f)
	if err != nil {
		return nil, 0, 0, err
	}
	if vs != nil {
		var any []*regex.Term
		for _, v := range vs {
			if v.Kind == 's' {
				any = append(any, l.Text(v.Text))
			}
		}
		all = append(all, l.Or(any...))
	}
	return l.And(all...), least, most, nil
}

// length is the least and the greatest number of characters of what a regular expression made, below 0:
// without bound. A text in it is one character, or its escape, which counts as one.
func length(e *expression.Expr) (lo, hi int) {
	switch e.Op {
	case expression.OpClass:
		return 1, 1
	case expression.OpLiteral:
		if e.Literal == "" {
			return 0, 0
		}
		return 1, 1
	case expression.OpRule: // an escape
		return 1, 1
	case expression.OpSequence:
		for _, s := range e.Subs {
			l, h := length(s)
			lo, hi = min(lo+l, expression.MaxNodes), regex.Sum(hi, h)
		}
		return lo, hi
	case expression.OpAlternative:
		for i, s := range e.Subs {
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
	case expression.OpRepeat:
		l, h := length(e.Subs[0])
		if lo = min(l*e.Min, expression.MaxNodes); e.Max < 0 && h != 0 || h < 0 {
			return lo, -1
		}
		return lo, min(h*max(e.Max, 0), expression.MaxNodes)
	}
	return 0, 0
}
