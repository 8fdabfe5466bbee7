package schema

import (
	"errors"
	"fmt"
	"slices"

	"edged/core/infer/grammar/expression"
	"edged/core/infer/grammar/jsonvalue"
	"edged/core/infer/grammar/regex"
)

// object is the expression of an object.
func (r *schemaReader) object(f facts, path string) (*expression.Expr, error) {
	if err := r.noneOf(f, 'o', path); err != nil {
		return nil, err
	}
	o := objectReader{
		schemaReader: r,
		f:            f,
		path:         path,
		must:         setOf(texts(f["required"])),
		listed:       map[string]bool{},
		members:      &expression.Expr{Op: expression.OpMembers, Parts: &expression.Parts{}},
	}
	if err := o.names(); err != nil {
		return nil, err
	}
	if err := o.properties(); err != nil {
		return nil, err
	}
	if err := o.others(); err != nil {
		return nil, err
	}
	if err := o.bounds(); err != nil {
		return nil, err
	}
	return expression.Sequence(expression.Literal("{"), o.members, expression.Literal("}")), nil
}

// noneOf refuses excluded values of a type whose values cannot be told apart while they are written.
func (r *schemaReader) noneOf(f facts, kind byte, path string) error {
	if not := f["!enum"]; not != nil {
		for _, v := range not.Items {
			if v.Kind == kind {
				return expression.Unsupportedf("schema: %s: an object or a list in what not excludes", nameOf(path))
			}
		}
	}
	return nil
}

// objectReader reads one object.
type objectReader struct {
	*schemaReader
	f       facts
	path    string
	must    map[string]bool
	listed  map[string]bool // names that others must not have
	members *expression.Expr
	more    *jsonvalue.Value // schema of other properties; nil: not said
	open    bool             // there may be others
	allowed []string         // the only names, where propertyNames lists them
	finite  bool             // it does
	naming  []facts          // what propertyNames says; nil: nothing
}

// names reads what the names of properties may be.
func (o *objectReader) names() error {
	v := o.f["propertyNames"]
	if v == nil {
		return nil
	}
	all, err := o.expand(v, in(o.path, "propertyNames"), 0)
	if err != nil {
		return err
	}
	o.finite = true
	for _, f := range all {
		vs, err := o.values(f)
		if err != nil {
			return err
		}
		types, err := o.possible(f)
		if err != nil {
			return err
		}
		if vs == nil && slices.Contains(types, "string") {
			o.finite = false
			o.naming = append(o.naming, f)
		}
		for _, v := range vs {
			ok, err := o.holds(f, v)
			if err != nil {
				return err
			}
			if ok && v.Kind == 's' {
				o.allowed = append(o.allowed, v.Text)
			}
		}
	}
	if !o.finite {
		o.naming, o.allowed = all, nil
	}
	return nil
}

// named tells whether a property may have a name.
func (o *objectReader) named(name string) (bool, error) {
	if v := o.f["propertyNames"]; v != nil {
		return o.valid(v, &jsonvalue.Value{Kind: 's', Text: name})
	}
	return true, nil
}

func (o *objectReader) add(name string, e *expression.Expr) {
	o.listed[name] = true
	o.members.Subs = append(o.members.Subs, expression.Sequence(expression.Literal(jsonvalue.Quote(name)+": "), e))
	o.members.Must = append(o.members.Must, o.must[name])
}

// schemaOf returns the schema of a property, with those of the patterns that its name matches.
func (o *objectReader) schemaOf(name string, own *jsonvalue.Value) (*jsonvalue.Value, error) {
	matched, err := o.matching(o.f, name)
	if err != nil {
		return nil, err
	}
	for _, m := range matched {
		if own == nil {
			own = m
		} else {
			own = both(own, m)
		}
	}
	return own, nil
}

// properties adds those that have a name in the schema.
func (o *objectReader) properties() error {
	props := o.f["properties"]
	o.more = o.f["additionalProperties"]
	lists := false // it lists properties that there may be
	if props != nil {
		for _, k := range props.Keys {
			lists = lists || props.Fields[k].Kind != 'f'
		}
	}
	if o.more == nil && !lists && o.f["patternProperties"] == nil {
		o.more = &jsonvalue.Value{Kind: 't'}
	}
	o.open = o.more != nil && o.more.Kind != 'f'
	if props != nil {
		for _, name := range props.Keys {
			ok, err := o.named(name)
			if err != nil {
				return err
			}
			v, err := o.schemaOf(name, props.Fields[name])
			if err != nil {
				return err
			}
			if !ok || v.Kind == 'f' {
				o.listed[name] = true // it must not be there
				if o.must[name] {
					return expression.Syntaxf(
						"schema: %s: %s is required and not allowed",
						nameOf(in(o.path, "required")),
						expression.Excerpt(name),
					)
				}
				continue
			}
			e, err := o.read(v, in(in(o.path, "properties"), name))
			if err != nil {
				return err
			}
			o.add(name, e)
		}
	}
	var other *expression.Expr // of a property that is not listed
	for _, name := range append(texts(o.f["required"]), o.allowed...) {
		if o.listed[name] || !o.must[name] && !o.open {
			continue
		}
		ok, err := o.named(name)
		if err != nil {
			return err
		}
		v, err := o.schemaOf(name, nil)
		if err != nil {
			return err
		}
		if !ok || v == nil && !o.open && o.more != nil || v != nil && v.Kind == 'f' {
			return expression.Syntaxf(
				"schema: %s: %s is required and not allowed",
				nameOf(in(o.path, "required")),
				expression.Excerpt(name),
			)
		}
		if v != nil {
			e, err := o.shared(v, in(o.path, "patternProperties"))
			if err != nil {
				return err
			}
			o.add(name, e)
			continue
		}
		if other == nil {
			if other, err = o.shared(o.more, in(o.path, "additionalProperties")); err != nil {
				return err
			}
		}
		o.add(name, other)
	}
	return nil
}

// others adds properties whose names the schema does not list.
func (o *objectReader) others() error {
	patterns := o.f["patternProperties"]
	if o.finite {
		return nil
	}
	pair := expression.Alternative()
	if patterns != nil {
		for i, p := range patterns.Keys {
			sub := patterns.Fields[p]
			if sub.Kind == 'f' {
				continue
			}
			others := slices.Delete(slices.Clone(patterns.Keys), i, i+1)
			if err := o.pair(pair, []string{p}, others, sub, in(in(o.path, "patternProperties"), p)); err != nil {
				return err
			}
		}
		if o.open {
			if err := o.pair(pair, nil, patterns.Keys, o.more, in(o.path, "additionalProperties")); err != nil {
				return err
			}
		}
	} else if o.open {
		if err := o.pair(pair, nil, nil, o.more, in(o.path, "additionalProperties")); err != nil {
			return err
		}
	}
	if len(pair.Subs) == 0 {
		return nil
	}
	call, err := o.rule(in(o.path, "additionalProperties"), oneOf(pair.Subs))
	o.members.Rest = call
	return err
}

// pair adds a property whose name matches some patterns and not others.
func (o *objectReader) pair(to *expression.Expr, match, not []string, v *jsonvalue.Value, path string) error {
	var names []string
	for n := range o.listed {
		names = append(names, n)
	}
	slices.Sort(names)
	var key *expression.Expr
	var err error
	if len(match)+len(not) == 0 && o.naming == nil {
		key, err = o.otherKey(names)
	} else {
		key, err = o.keyLike(match, not, names)
	}
	if errors.Is(err, regex.ErrNoText) {
		return nil // there is no such name
	}
	if err != nil {
		return err
	}
	e, err := o.shared(v, path)
	to.Subs = append(to.Subs, expression.Sequence(key, expression.Literal(": "), e))
	return err
}

// keyLike is a name that matches patterns and propertyNames, and neither other patterns nor names that are listed.
func (o *objectReader) keyLike(match, not, names []string) (*expression.Expr, error) {
	l := regex.NewLanguage(o.src.Effort)
	all := []*regex.Term{l.Cat(l.Any, l.All)}
	for _, p := range match {
		t, err := o.patternTerm(l, p, regex.Part)
		if err != nil {
			return nil, err
		}
		all = append(all, t)
	}
	for _, p := range not {
		t, err := o.patternTerm(l, p, regex.Part)
		if err != nil {
			return nil, err
		}
		all = append(all, l.Not(t))
	}
	var listed []*regex.Term
	for _, n := range names {
		listed = append(listed, l.Text(n))
	}
	all = append(all, l.Not(l.Or(listed...)))
	if o.naming != nil {
		var any []*regex.Term
		for _, f := range o.naming {
			t, least, most, err := o.textTerm(l, f, in(o.path, "propertyNames"))
			if err != nil {
				return nil, err
			}
			if least > 0 || most >= 0 {
				t = l.And(t, l.Repeat(l.Any, least, min(most, regex.MaxStates)))
			}
			any = append(any, t)
		}
		all = append(all, l.Or(any...))
	}
	m, err := l.Machine(l.And(all...))
	if errors.Is(err, regex.ErrStates) {
		return nil, regex.TooMany(err, "schema: "+nameOf(o.path)+": the names of its properties")
	}
	if err != nil {
		return nil, err
	}
	chars, err := o.textChars()
	if err != nil {
		return nil, err
	}
	return expression.Sequence(expression.Literal(`"`), m.Expr(chars), expression.Literal(`"`)), nil
}

// bounds holds the number of properties.
func (o *objectReader) bounds() error {
	least, most, err := o.f.counts("minProperties", "maxProperties", o.path)
	if err != nil {
		return err
	}
	m := o.members
	needed := 0
	for _, must := range m.Must {
		if must {
			needed++
		}
	}
	if m.Rest != nil && least > len(m.Subs)+1 {
		if err := o.distinct(least - needed); err != nil {
			return err
		}
		needed = least
	}
	if least <= needed && (most < 0 || most >= len(m.Subs) && m.Rest == nil) {
		if m.Rest != nil {
			m.Subs = append(
				m.Subs,
				expression.Sequence(m.Rest, expression.Repeat(expression.Sequence(expression.Literal(", "), m.Rest), 0, -1)),
			)
			m.Must = append(m.Must, false)
			m.Rest = nil
		}
		return nil
	}
	const counted = 256 // properties; each is there once for each number
	if max(least, most) > counted && m.Rest == nil && least > len(m.Subs) {
		return expression.Syntaxf("schema: %s: there are %d properties and minProperties is %d", nameOf(o.path), len(m.Subs), least)
	}
	if most > counted {
		most = max(least, counted)
	}
	if least > 2*counted {
		return expression.Unsupportedf("schema: %s above %d", nameOf(in(o.path, "minProperties")), 2*counted)
	}
	m.Counted, m.Min, m.Max = true, least, most
	for i, sub := range m.Subs {
		if m.Subs[i], err = o.rule(in(o.path, "properties"), sub); err != nil {
			return err
		}
	}
	return nil
}

// distinct adds n properties that must be there and are not listed. So that they differ, the name of each
// begins with letters of another part of the alphabet.
func (o *objectReader) distinct(n int) error {
	const letters = 'z' - 'a' + 1
	if n > letters || o.f["patternProperties"] != nil {
		return expression.Unsupportedf(
			"schema: %s beyond the properties that are listed and %d, or beside patternProperties: others cannot be told to differ",
			nameOf(in(o.path, "minProperties")),
			letters,
		)
	}
	for i := range n {
		first, last := 'a'+letters*i/n, 'a'+letters*(i+1)/n-1
		pair := expression.Alternative()
		const small = 'a' - 'A'
		begin := fmt.Sprintf("^[%c-%c%c-%c]", first, last, first-small, last-small)
		if err := o.pair(pair, []string{begin}, nil, o.more, in(o.path, "additionalProperties")); err != nil {
			return err
		}
		if len(pair.Subs) == 0 {
			return expression.Unsupportedf(
				"schema: %s: no name of its others begins with %c to %c, by which they are told to differ",
				nameOf(in(o.path, "minProperties")),
				first,
				last,
			)
		}
		one, err := o.rule(in(o.path, "additionalProperties"), oneOf(pair.Subs))
		if err != nil {
			return err
		}
		o.members.Subs, o.members.Must = append(o.members.Subs, one), append(o.members.Must, true)
	}
	return nil
}

// otherKey is a key that is none of some names. With names it holds no escapes, which could spell one of them.
func (r *schemaReader) otherKey(names []string) (*expression.Expr, error) {
	if len(names) == 0 {
		char, err := r.char()
		return expression.Sequence(expression.Literal(`"`), expression.Repeat(char, 1, -1), expression.Literal(`"`)), err
	}
	var left [][]rune
	for _, n := range names {
		left = append(left, []rune(n))
	}
	tail := expression.Repeat(expression.Class(unescaped()...), 0, -1)
	number, err := r.src.Add("the rest of a key", expression.Sequence(tail, expression.Literal(`"`)))
	if err != nil {
		return nil, err
	}
	return expression.Sequence(expression.Literal(`"`), notAmong(left, expression.Call(number), true)), nil
}

// notAmong is a text and its closing quote that is none of some names; rest is what may follow once it is none of them.
func notAmong(names [][]rune, rest *expression.Expr, begins bool) *expression.Expr {
	groups := map[rune][][]rune{}
	ends := begins // nor is it empty
	var firsts []expression.Span
	for _, n := range names {
		if len(n) == 0 {
			ends = true
			continue
		}
		if groups[n[0]] == nil {
			firsts = append(firsts, expression.Span{Lo: n[0], Hi: n[0]})
		}
		groups[n[0]] = append(groups[n[0]], n[1:])
	}
	out := expression.Alternative()
	if !ends {
		out.Subs = append(out.Subs, expression.Literal(`"`))
	}
	firsts = expression.Normalize(firsts)
	if other := expression.Intersect(unescaped(), expression.Complement(firsts)); len(other) > 0 {
		out.Subs = append(out.Subs, expression.Sequence(expression.Class(other...), rest))
	}
	for _, s := range firsts {
		for c := s.Lo; c <= s.Hi; c++ {
			if one := expression.Intersect(unescaped(), []expression.Span{{Lo: c, Hi: c}}); len(one) > 0 {
				out.Subs = append(out.Subs, expression.Sequence(expression.Class(one...), notAmong(groups[c], rest, false)))
			}
		}
	}
	return out
}
