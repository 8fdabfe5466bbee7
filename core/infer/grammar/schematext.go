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

// formats are the values of format that are held, each by a regular expression of some of the texts that it allows. Others
// assert nothing.
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

// besides are formats beside a pattern, where a text has at most 60 characters: bounds on its parts would multiply with those of
// the pattern.
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
func (r *schemaReader) textChars() (chars, error) {
	everything, err := r.char()
	if err != nil {
		return nil, err
	}
	return func(spans []span) *expr {
		if len(spans) == 1 && spans[0] == every()[0] {
			return everything
		}
		return r.escaped(jsonChars(spans))
	}, nil
}

// escaped makes a rule of the escapes among some characters, once for each set: there may be 34 of them.
func (r *schemaReader) escaped(e *expr) *expr {
	const few = 4
	if e.op != opAlt || len(e.subs) <= few {
		return e
	}
	own := e.subs[:0:0]
	all := alt()
	key := "escapes of"
	for _, s := range e.subs {
		if s.op == opLit {
			all.subs = append(all.subs, s)
			key += " " + s.lit
		} else {
			own = append(own, s)
		}
	}
	number, ok := r.refs[key]
	if !ok {
		var err error
		if number, err = r.src.add("an escape", literals(all.subs)); err != nil {
			return e
		}
		r.refs[key] = number
	}
	return alt(append(own, call1(number))...)
}

// text is the expression of a string.
func (r *schemaReader) text(f facts, path string) (*expr, error) {
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
		for _, it := range v.items {
			not = not || it.kind == 's'
		}
	}
	not = not || f["!pattern"] != nil
	c, err := r.textChars()
	if err != nil {
		return nil, err
	}
	if len(demands)+len(texted) == 0 && !not {
		body, err := r.many(c(every()), least, most)
		return seq(lit(`"`), body, lit(`"`)), err
	}
	if len(demands)+len(texted) == 1 && !not {
		var pattern string
		a := whole
		if len(demands) == 1 {
			pattern, a = demands[0], part
		} else {
			pattern = texted[0]
		}
		n, err := readRx(r.src.effort, pattern)
		if err != nil {
			return nil, r.where(err, path)
		}
		if body := simple(n, a, c); body != nil {
			if lo, hi := length(body); lo >= least && (most < 0 || hi >= 0 && hi <= most) {
				return seq(lit(`"`), body, lit(`"`)), nil
			}
		}
	}
	m, err := shortened(r.src.effort, func(l *language) (*term, error) {
		t, _, _, err := r.textTerm(l, f, path)
		return t, err
	}, least)
	if err == nil {
		m, err = m.counted(r.src.effort, least, most)
	}
	if err != nil {
		return nil, r.where(tooMany(err, "schema: what "+nameOf(path)+" says of a text"), path)
	}
	return seq(lit(`"`), m.expr(c), lit(`"`)), nil
}

// where says where the regular expression of an error stands.
func (r *schemaReader) where(err error, path string) error {
	return fmt.Errorf("%w (in the schema's %s)", err, nameOf(in(path, "pattern")))
}

// textTerm is the term of what a schema says of a text, but for its length.
func (r *schemaReader) textTerm(l *language, f facts, path string) (t *term, least, most int, err error) {
	if least, most, err = f.counts("minLength", "maxLength", path); err != nil {
		return nil, 0, 0, err
	}
	all := []*term{l.all}
	demand := func(pattern string, a anchoring, not bool) error {
		t, err := r.patternTerm(l, pattern, a)
		if err != nil {
			return r.where(err, path)
		}
		if not {
			t = l.not(t)
		}
		all = append(all, t)
		return nil
	}
	for _, p := range texts(f["pattern"]) {
		if err := demand(p, part, false); err != nil {
			return nil, 0, 0, err
		}
	}
	for _, p := range texts(f["!pattern"]) {
		if err := demand(p, part, true); err != nil {
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
			all = append(all, l.repeat(l.any, 0, 60))
		}
		if err := demand(known, whole, false); err != nil {
			return nil, 0, 0, err
		}
	}
	if v := f["!enum"]; v != nil {
		for _, it := range v.items {
			if it.kind == 's' {
				all = append(all, l.not(l.text(it.text)))
			}
		}
	}
	vs, err := r.values(f)
	if err != nil {
		return nil, 0, 0, err
	}
	if vs != nil {
		var any []*term
		for _, v := range vs {
			if v.kind == 's' {
				any = append(any, l.text(v.text))
			}
		}
		all = append(all, l.or(any...))
	}
	return l.and(all...), least, most, nil
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
