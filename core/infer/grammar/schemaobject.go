package grammar

import (
	"errors"
	"fmt"
	"slices"
)

// object is the expression of an object.
func (r *schemaReader) object(f facts, path string) (*expr, error) {
	if err := r.noneOf(f, 'o', path); err != nil {
		return nil, err
	}
	o := objectReader{schemaReader: r, f: f, path: path, must: setOf(texts(f["required"])), listed: map[string]bool{}, members: &expr{op: opMember, parts: &parts{}}}
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
	return seq(lit("{"), o.members, lit("}")), nil
}

// noneOf refuses excluded values of a type whose values cannot be told apart while they are written.
func (r *schemaReader) noneOf(f facts, kind byte, path string) error {
	if not := f["!enum"]; not != nil {
		for _, v := range not.items {
			if v.kind == kind {
				return unsupported("schema: %s: an object or a list in what not excludes", nameOf(path))
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
	members *expr
	more    *value   // schema of other properties; nil: not said
	open    bool     // there may be others
	allowed []string // the only names, where propertyNames lists them
	finite  bool     // it does
	naming  []facts  // what propertyNames says; nil: nothing
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
			if ok && v.kind == 's' {
				o.allowed = append(o.allowed, v.text)
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
		return o.valid(v, &value{kind: 's', text: name})
	}
	return true, nil
}

func (o *objectReader) add(name string, e *expr) {
	o.listed[name] = true
	o.members.subs = append(o.members.subs, seq(lit(quote(name)+": "), e))
	o.members.must = append(o.members.must, o.must[name])
}

// schemaOf is what a property must be, patterns that its name matches included.
func (o *objectReader) schemaOf(name string, own *value) (*value, error) {
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
		for _, k := range props.keys {
			lists = lists || props.fields[k].kind != 'f'
		}
	}
	if o.more == nil && !lists && o.f["patternProperties"] == nil {
		o.more = &value{kind: 't'}
	}
	o.open = o.more != nil && o.more.kind != 'f'
	if props != nil {
		for _, name := range props.keys {
			ok, err := o.named(name)
			if err != nil {
				return err
			}
			v, err := o.schemaOf(name, props.fields[name])
			if err != nil {
				return err
			}
			if !ok || v.kind == 'f' {
				o.listed[name] = true // it must not be there
				if o.must[name] {
					return wrong("schema: %s: %s is required and not allowed", nameOf(in(o.path, "required")), short(name))
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
	var other *expr // of a property that is not listed
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
		if !ok || v == nil && !o.open && o.more != nil || v != nil && v.kind == 'f' {
			return wrong("schema: %s: %s is required and not allowed", nameOf(in(o.path, "required")), short(name))
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
	pair := alt()
	if patterns != nil {
		for i, p := range patterns.keys {
			sub := patterns.fields[p]
			if sub.kind == 'f' {
				continue
			}
			others := slices.Delete(slices.Clone(patterns.keys), i, i+1)
			if err := o.pair(pair, []string{p}, others, sub, in(in(o.path, "patternProperties"), p)); err != nil {
				return err
			}
		}
		if o.open {
			if err := o.pair(pair, nil, patterns.keys, o.more, in(o.path, "additionalProperties")); err != nil {
				return err
			}
		}
	} else if o.open {
		if err := o.pair(pair, nil, nil, o.more, in(o.path, "additionalProperties")); err != nil {
			return err
		}
	}
	if len(pair.subs) == 0 {
		return nil
	}
	call, err := o.rule(in(o.path, "additionalProperties"), oneOf(pair.subs))
	o.members.rest = call
	return err
}

// pair adds a property whose name matches some patterns and not others.
func (o *objectReader) pair(to *expr, match, not []string, v *value, path string) error {
	var names []string
	for n := range o.listed {
		names = append(names, n)
	}
	slices.Sort(names)
	var key *expr
	var err error
	if len(match)+len(not) == 0 && o.naming == nil {
		key, err = o.otherKey(names)
	} else {
		key, err = o.keyLike(match, not, names)
	}
	if errors.Is(err, errNoText) {
		return nil // there is no such name
	}
	if err != nil {
		return err
	}
	e, err := o.shared(v, path)
	to.subs = append(to.subs, seq(key, lit(": "), e))
	return err
}

// keyLike is a name that matches patterns and propertyNames, and neither other patterns nor names that are listed.
func (o *objectReader) keyLike(match, not, names []string) (*expr, error) {
	l := newLanguage(o.src.effort)
	all := []*term{l.cat(l.any, l.all)}
	for _, p := range match {
		t, err := o.patternTerm(l, p, part)
		if err != nil {
			return nil, err
		}
		all = append(all, t)
	}
	for _, p := range not {
		t, err := o.patternTerm(l, p, part)
		if err != nil {
			return nil, err
		}
		all = append(all, l.not(t))
	}
	var listed []*term
	for _, n := range names {
		listed = append(listed, l.text(n))
	}
	all = append(all, l.not(l.or(listed...)))
	if o.naming != nil {
		var any []*term
		for _, f := range o.naming {
			t, least, most, err := o.textTerm(l, f, in(o.path, "propertyNames"))
			if err != nil {
				return nil, err
			}
			if least > 0 || most >= 0 {
				t = l.and(t, l.repeat(l.any, least, min(most, maxStates)))
			}
			any = append(any, t)
		}
		all = append(all, l.or(any...))
	}
	m, err := l.machine(l.and(all...))
	if errors.Is(err, errStates) {
		return nil, tooMany(err, "schema: "+nameOf(o.path)+": the names of its properties")
	}
	if err != nil {
		return nil, err
	}
	chars, err := o.textChars()
	if err != nil {
		return nil, err
	}
	return seq(lit(`"`), m.expr(chars), lit(`"`)), nil
}

// bounds holds the number of properties.
func (o *objectReader) bounds() error {
	least, most, err := o.f.counts("minProperties", "maxProperties", o.path)
	if err != nil {
		return err
	}
	m := o.members
	needed := 0
	for _, must := range m.must {
		if must {
			needed++
		}
	}
	if m.rest != nil && least > len(m.subs)+1 {
		if err := o.distinct(least - needed); err != nil {
			return err
		}
		needed = least
	}
	if least <= needed && (most < 0 || most >= len(m.subs) && m.rest == nil) {
		if m.rest != nil {
			m.subs = append(m.subs, seq(m.rest, repeat(seq(lit(", "), m.rest), 0, -1)))
			m.must = append(m.must, false)
			m.rest = nil
		}
		return nil
	}
	const counted = 256 // properties; each is there once for each number
	if max(least, most) > counted && m.rest == nil && least > len(m.subs) {
		return wrong("schema: %s: there are %d properties and minProperties is %d", nameOf(o.path), len(m.subs), least)
	}
	if most > counted {
		most = max(least, counted)
	}
	if least > 2*counted {
		return unsupported("schema: %s above %d", nameOf(in(o.path, "minProperties")), 2*counted)
	}
	m.counted, m.min, m.max = true, least, most
	for i, sub := range m.subs {
		if m.subs[i], err = o.rule(in(o.path, "properties"), sub); err != nil {
			return err
		}
	}
	return nil
}

// distinct adds n properties that must be there and are not listed. So that they differ, the name of each begins with letters
// of another part of the alphabet.
func (o *objectReader) distinct(n int) error {
	const letters = 'z' - 'a' + 1
	if n > letters || o.f["patternProperties"] != nil {
		return unsupported("schema: %s beyond the properties that are listed and %d, or beside patternProperties: others cannot be told to differ",
			nameOf(in(o.path, "minProperties")), letters)
	}
	for i := range n {
		first, last := 'a'+letters*i/n, 'a'+letters*(i+1)/n-1
		pair := alt()
		const small = 'a' - 'A'
		begin := fmt.Sprintf("^[%c-%c%c-%c]", first, last, first-small, last-small)
		if err := o.pair(pair, []string{begin}, nil, o.more, in(o.path, "additionalProperties")); err != nil {
			return err
		}
		if len(pair.subs) == 0 {
			return unsupported("schema: %s: no name of its others begins with %c to %c, by which they are told to differ", nameOf(in(o.path, "minProperties")), first, last)
		}
		one, err := o.rule(in(o.path, "additionalProperties"), oneOf(pair.subs))
		if err != nil {
			return err
		}
		o.members.subs, o.members.must = append(o.members.subs, one), append(o.members.must, true)
	}
	return nil
}

// otherKey is a key that is none of some names. With names it holds no escapes, which could spell one of them.
func (r *schemaReader) otherKey(names []string) (*expr, error) {
	if len(names) == 0 {
		char, err := r.char()
		return seq(lit(`"`), repeat(char, 1, -1), lit(`"`)), err
	}
	var left [][]rune
	for _, n := range names {
		left = append(left, []rune(n))
	}
	tail := repeat(class(unescaped()...), 0, -1)
	number, err := r.src.add("the rest of a key", seq(tail, lit(`"`)))
	if err != nil {
		return nil, err
	}
	return seq(lit(`"`), notAmong(left, call1(number), true)), nil
}

// notAmong is a text and its closing quote that is none of some names; rest is what may follow once it is none of them.
func notAmong(names [][]rune, rest *expr, begins bool) *expr {
	groups := map[rune][][]rune{}
	ends := begins // nor is it empty
	var firsts []span
	for _, n := range names {
		if len(n) == 0 {
			ends = true
			continue
		}
		if groups[n[0]] == nil {
			firsts = append(firsts, span{n[0], n[0]})
		}
		groups[n[0]] = append(groups[n[0]], n[1:])
	}
	out := alt()
	if !ends {
		out.subs = append(out.subs, lit(`"`))
	}
	firsts = ordered(firsts)
	if other := common(unescaped(), except(firsts)); len(other) > 0 {
		out.subs = append(out.subs, seq(class(other...), rest))
	}
	for _, s := range firsts {
		for c := s.lo; c <= s.hi; c++ {
			if one := common(unescaped(), []span{{c, c}}); len(one) > 0 {
				out.subs = append(out.subs, seq(class(one...), notAmong(groups[c], rest, false)))
			}
		}
	}
	return out
}
