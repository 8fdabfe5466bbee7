package split

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// translate turns a pattern of Oniguruma's Ruby syntax, which Hugging Face's tokenizers use, into one of regexp2's .NET
// syntax. Sets of characters are those of the library (Unicode 16), possessive quantifiers become atomic groups, and
// classes within classes and intersections are computed. What has no counterpart is refused.
func translate(p string, changes map[string]change) (string, error) {
	t := &translator{in: p, changes: changes}
	if err := t.alternatives(0); err != nil {
		return "", err
	}
	if t.at < len(p) {
		return "", errors.New("a parenthesis closes that none opened")
	}
	return string(t.out), nil
}

const maxPatternDepth = 200

// maxTranslated bounds what a pattern becomes: sets are written out, so that a few characters may become kilobytes. The
// largest published one, of Kimi K2, becomes 27 KB.
const maxTranslated = 256 << 10

var errLarge = fmt.Errorf("its sets of characters have more than %d bytes when they are written out", maxTranslated)

type translator struct {
	in      string
	at      int
	out     []byte
	changes map[string]change // of the sets of package unicode
	word    string            // wordText, once it was needed
	// fold says that letters match without regard to case, free that white space and comments do not count.
	fold, free bool
}

func (t *translator) next() byte {
	if t.at < len(t.in) {
		return t.in[t.at]
	}
	return 0
}

func (t *translator) has(s string) bool { return strings.HasPrefix(t.in[t.at:], s) }

// alternatives reads up to the parenthesis that closes the group, or the end.
func (t *translator) alternatives(depth int) error {
	if depth > maxPatternDepth {
		return fmt.Errorf("groups are nested deeper than %d", maxPatternDepth)
	}
	fold, free := t.fold, t.free
	defer func() { t.fold, t.free = fold, free }()
	for t.at < len(t.in) && t.next() != ')' {
		if t.next() == '|' {
			t.at++
			t.out = append(t.out, '|')
			continue
		}
		if t.free && (strings.IndexByte(" \t\r\n\f\v", t.next()) >= 0) {
			t.at++
			continue
		}
		if t.free && t.next() == '#' {
			end := strings.IndexByte(t.in[t.at:], '\n')
			if end < 0 {
				end = len(t.in) - t.at - 1
			}
			t.at += end + 1
			continue
		}
		if err := t.piece(depth); err != nil {
			return err
		}
	}
	return nil
}

// piece reads an atom and its quantifiers.
func (t *translator) piece(depth int) error {
	start := len(t.out)
	canRepeat, err := t.atom(depth)
	if err != nil {
		return err
	}
	if len(t.out) > maxTranslated {
		return errLarge
	}
	if !canRepeat {
		return nil
	}
	for repeated := false; ; repeated = true {
		q, possessive, ok := t.quantifier()
		if !ok {
			return nil
		}
		if repeated { // .NET takes one quantifier only
			t.enclose(start, "(?:")
		}
		t.write(q)
		if possessive {
			t.enclose(start, "(?>")
		}
	}
}

func (t *translator) write(s string) { t.out = append(t.out, s...) }

// enclose puts what was written from start on into a group.
func (t *translator) enclose(start int, open string) {
	t.out = append(slices.Insert(t.out, start, []byte(open)...), ')')
}

// wordText is \w in a class.
func (t *translator) wordText() string {
	if t.word == "" {
		t.word = wordText(t.changes)
	}
	return t.word
}

// quantifier reads one quantifier. Ruby knows no possessive intervals: {1,3}+ repeats what {1,3} repeats.
func (t *translator) quantifier() (q string, possessive, ok bool) {
	switch c := t.next(); c {
	case '?', '*', '+':
		t.at++
		q = string(c)
		switch t.next() {
		case '+':
			t.at++
			return q, true, true
		case '?':
			t.at++
			return q + "?", false, true
		}
		return q, false, true
	case '{':
		end := strings.IndexByte(t.in[t.at:], '}')
		if end < 0 {
			return "", false, false
		}
		low, high, both := strings.Cut(t.in[t.at+1:t.at+end], ",")
		isNumber := func(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" && len(s) <= 5 }
		if !(isNumber(low) || both && low == "" && isNumber(high)) || both && high != "" && !isNumber(high) {
			return "", false, false
		}
		t.at += end + 1
		if low == "" {
			low = "0"
		}
		q = "{" + low
		if both {
			q += "," + high
		}
		q += "}"
		if t.next() == '?' {
			t.at++
			q += "?"
		}
		return q, false, true
	}
	return "", false, false
}

// atom reads one atom; canRepeat is false for what no quantifier follows.
func (t *translator) atom(depth int) (canRepeat bool, err error) {
	switch c := t.next(); c {
	case '(':
		return t.group(depth)
	case '[':
		set, text, err := t.class(0)
		if err != nil {
			return false, err
		}
		if text == "" {
			text = set.text()
		}
		t.write(text)
		return true, nil
	case '\\':
		return t.escape()
	case '^', '$':
		t.at++
		t.out = append(t.out, c)
		return true, nil
	}
	r, n := utf8.DecodeRuneInString(t.in[t.at:])
	t.at += n
	t.literal(r)
	return true, nil
}

// literal writes a character; without regard to case two letters have a third form.
func (t *translator) literal(r rune) {
	switch {
	case t.fold && (r == 's' || r == 'S'):
		t.write("[s\u017F]")
	case t.fold && (r == 'k' || r == 'K'):
		t.write("[k\u212A]")
	case r == '.':
		t.out = append(t.out, '.')
	case r == '{' || r == '}' || r == '#' || r == ' ':
		t.write(`\` + string(r))
	default:
		t.out = utf8.AppendRune(t.out, r)
	}
}

// group reads a group.
func (t *translator) group(depth int) (bool, error) {
	open := t.at
	t.at++
	closed := func() (bool, error) {
		if err := t.alternatives(depth + 1); err != nil {
			return false, err
		}
		if t.next() != ')' {
			return false, errors.New("a parenthesis is not closed")
		}
		t.at++
		t.out = append(t.out, ')')
		return true, nil
	}
	if !t.has("?") {
		t.out = append(t.out, '(')
		return closed()
	}
	for _, kind := range []string{"?:", "?=", "?!", "?<=", "?<!", "?>"} {
		if t.has(kind) {
			t.at += len(kind)
			t.write("(" + kind)
			return closed()
		}
	}
	switch {
	case t.has("?#"):
		end := strings.IndexByte(t.in[t.at:], ')')
		if end < 0 {
			return false, errors.New("a comment is not closed")
		}
		t.at += end + 1
		return false, nil
	case t.has("?<"), t.has("?'"):
		end := strings.IndexAny(t.in[t.at+2:], ">'")
		if end <= 0 {
			return false, errors.New("the name of a group is not closed")
		}
		name := t.in[t.at+2 : t.at+2+end]
		t.at += end + 3
		t.write("(?<" + name + ">")
		return closed()
	}
	// Options, for a group or for what follows.
	t.at++
	on := true
	fold, free := t.fold, t.free
	var dot, noDot bool
	for {
		switch c := t.next(); c {
		case 'i':
			t.fold = on
		case 'x':
			t.free = on
		case 'm':
			dot, noDot = dot || on, noDot || !on
		case '-':
			on = false
		case ':', ')':
			t.at++
			set, clear := "", ""
			if t.fold {
				set += "i"
			} else if fold {
				clear += "i"
			}
			if dot {
				set += "s"
			}
			if noDot {
				clear += "s"
			}
			if clear != "" {
				clear = "-" + clear
			}
			options := set + clear
			if c == ')' { // until the group around it ends, its other alternatives included
				t.write("(?:")
				if options != "" {
					t.write("(?" + options + ")")
				}
				if err := t.alternatives(depth + 1); err != nil {
					return false, err
				}
				t.out = append(t.out, ')')
				t.fold, t.free = fold, free
				return false, nil
			}
			t.write("(?" + options + ":")
			ok, err := closed()
			t.fold, t.free = fold, free
			return ok, err
		default:
			return false, fmt.Errorf("the group %.12q is not supported", t.in[open:])
		}
		t.at++
	}
}

// escape reads an escape outside classes.
func (t *translator) escape() (bool, error) {
	if t.at+1 >= len(t.in) {
		return false, errors.New("it ends with a backslash")
	}
	c := t.in[t.at+1]
	switch c {
	case 'b', 'B':
		t.at += 2
		word := "[" + t.wordText() + "]"
		if c == 'b' {
			t.write("(?:(?<=" + word + ")(?!" + word + ")|(?<!" + word + ")(?=" + word + "))")
		} else {
			t.write("(?:(?<=" + word + ")(?=" + word + ")|(?<!" + word + ")(?!" + word + "))")
		}
		return true, nil
	case 'A', 'z', 'Z', 'G':
		t.at += 2
		t.write(`\` + string(c))
		return true, nil
	case 'R':
		t.at += 2
		t.write("(?>\\r\\n|[\\n-\\r\u0085\u2028\u2029])")
		return true, nil
	case 'X', 'K', 'g', 'y', 'Y', 'O', 'N':
		return false, fmt.Errorf(`\%c is not supported`, c)
	case 'k':
		end := strings.IndexByte(t.in[t.at:], '>')
		if !strings.HasPrefix(t.in[t.at:], `\k<`) || end < 0 {
			return false, errors.New(`\k is not followed by a name`)
		}
		t.write(t.in[t.at : t.at+end+1])
		t.at += end + 1
		return true, nil
	}
	if c >= '1' && c <= '9' {
		end := t.at + 1
		for end < len(t.in) && t.in[end] >= '0' && t.in[end] <= '9' {
			end++
		}
		t.write(`(?:\` + t.in[t.at+1:end] + ")")
		t.at = end
		return true, nil
	}
	set, text, r, err := t.item(false)
	switch {
	case err != nil:
		return false, err
	case text != "":
		t.write("[" + text + "]")
	case set != nil:
		t.write(set.text())
	case strings.ContainsRune(`\.+*?()|[]{}^$# `, r):
		t.write(`\` + string(r))
	default:
		t.literal(r)
	}
	return true, nil
}

// item reads an escape that stands for characters: a set (with the text that says it in a class, where there
// is one), or one character.
func (t *translator) item(inClass bool) (set runeSet, text string, r rune, err error) {
	t.at++ // the backslash
	r, n := utf8.DecodeRuneInString(t.in[t.at:])
	if n == 0 {
		return nil, "", 0, errors.New("it ends with a backslash")
	}
	t.at += n
	named := func(name string, negated bool) (runeSet, string, rune, error) {
		set, text, err := property(name, t.changes)
		if name == "word" && negated && inClass {
			set, _, err = posix(name, t.changes)
		}
		if negated {
			set, text = set.complement(), ""
		}
		return set, text, 0, err
	}
	switch r {
	case 'w', 'd', 's', 'h':
		return named(map[rune]string{'w': "word", 'd': "Nd", 's': "space", 'h': "xdigit"}[r], false)
	case 'W', 'D', 'S', 'H':
		return named(map[rune]string{'W': "word", 'D': "Nd", 'S': "space", 'H': "xdigit"}[r], true)
	case 'p', 'P':
		end := strings.IndexByte(t.in[t.at:], '}')
		if t.next() != '{' || end < 0 {
			return nil, "", 0, fmt.Errorf(`\%c is not followed by a name in braces`, r)
		}
		name, not := strings.CutPrefix(t.in[t.at+1:t.at+end], "^")
		t.at += end + 1
		return named(name, not != (r == 'P'))
	case 'n':
		return nil, "", '\n', nil
	case 't':
		return nil, "", '\t', nil
	case 'r':
		return nil, "", '\r', nil
	case 'f':
		return nil, "", '\f', nil
	case 'v':
		return nil, "", '\v', nil
	case 'a':
		return nil, "", '\a', nil
	case 'e':
		return nil, "", 0x1B, nil
	case 'x', 'u':
		r, err := t.hex(r == 'u')
		return nil, "", r, err
	case '0':
		end := t.at
		for end < len(t.in) && end < t.at+2 && t.in[end] >= '0' && t.in[end] <= '7' {
			end++
		}
		v, _ := strconv.ParseUint("0"+t.in[t.at:end], 8, 16)
		t.at = end
		return nil, "", rune(v), nil
	}
	return nil, "", r, nil
}

// hex reads \xHH, \x{H…} and \uHHHH.
func (t *translator) hex(four bool) (rune, error) {
	from, end := t.at, t.at
	if !four && t.next() == '{' {
		from++
		if end = strings.IndexByte(t.in[from:], '}'); end < 0 {
			return 0, errors.New(`\x{ is not closed`)
		}
		end += from
		t.at = end + 1
	} else {
		most := 2
		if four {
			most = 4
		}
		for end < len(t.in) && end < from+most && strings.IndexByte("0123456789abcdefABCDEF", t.in[end]) >= 0 {
			end++
		}
		t.at = end
	}
	v, err := strconv.ParseUint(t.in[from:end], 16, 32)
	if err != nil || v > unicode.MaxRune {
		return 0, fmt.Errorf("%q is no character's number", t.in[from:end])
	}
	return rune(v), nil
}

// class reads a bracketed class. It returns its text where that says it all, and otherwise its set: of classes within
// classes, intersections and complements of properties.
func (t *translator) class(depth int) (set runeSet, text string, err error) {
	if depth > maxPatternDepth {
		return nil, "", fmt.Errorf("classes are nested deeper than %d", maxPatternDepth)
	}
	t.at++
	not := t.next() == '^'
	if not {
		t.at++
	}
	var b strings.Builder
	plain := true // b says it all
	var both []runeSet
	add := func(s runeSet, asText string) {
		set = append(set, s...)
		plain = plain && asText != ""
		b.WriteString(asText)
	}
	for first := true; ; first = false {
		switch {
		case t.at >= len(t.in):
			return nil, "", errors.New("a class does not end")
		case b.Len() > maxTranslated || len(set) > maxTranslated:
			return nil, "", errLarge
		case t.next() == ']' && !first:
			t.at++
			set = set.sorted()
			for _, s := range both {
				set = set.and(s)
			}
			if t.fold {
				set = set.folded()
			}
			if not {
				set = set.complement()
			}
			if !plain {
				return set, "", nil
			}
			if not {
				return set, "[^" + b.String() + "]", nil
			}
			return set, "[" + b.String() + "]", nil
		case t.has("[:"):
			end := strings.Index(t.in[t.at:], ":]")
			if end < 0 {
				return nil, "", errors.New("a class [: does not end")
			}
			name, negated := strings.CutPrefix(t.in[t.at+2:t.at+end], "^")
			t.at += end + 2
			s, asText, err := posix(name, t.changes)
			if err != nil {
				return nil, "", err
			}
			if negated {
				s, asText = s.complement(), ""
			}
			add(s, asText)
		case t.next() == '[':
			s, _, err := t.class(depth + 1)
			if err != nil {
				return nil, "", err
			}
			add(s, "")
		case t.has("&&"):
			t.at += 2
			both = append(both, set.sorted())
			set, plain = nil, false
		default:
			if err := t.classItem(add); err != nil {
				return nil, "", err
			}
		}
	}
}

// classItem reads a character, a range or an escape of a class.
func (t *translator) classItem(add func(s runeSet, text string)) error {
	one := func() (runeSet, string, rune, error) {
		if t.next() == '\\' {
			if t.has(`\b`) {
				t.at += 2
				return nil, "", '\b', nil
			}
			return t.item(true)
		}
		r, n := utf8.DecodeRuneInString(t.in[t.at:])
		t.at += n
		return nil, "", r, nil
	}
	set, text, lo, err := one()
	if err != nil {
		return err
	}
	if set != nil {
		if text == t.wordText() { // in a class \w is [:word:], which has no fractions
			set, text, err = posix("word", t.changes)
		}
		add(set, text)
		return err
	}
	hi := lo
	if t.next() == '-' && t.at+1 < len(t.in) && t.in[t.at+1] != ']' && t.in[t.at+1] != '[' {
		mark := t.at
		t.at++
		var set runeSet
		if set, _, hi, err = one(); err != nil {
			return err
		}
		if set != nil { // a minus before a set is a minus
			t.at, hi = mark, lo
		} else if hi < lo {
			return fmt.Errorf("a class has the range %q to %q, which is empty", lo, hi)
		}
	}
	text = classText(runeSet{{lo, hi}})
	if t.fold {
		var more []rune
		for _, x := range [][2]rune{{'s', 0x17F}, {'S', 0x17F}, {'k', 0x212A}, {'K', 0x212A}} {
			if lo <= x[0] && x[0] <= hi {
				more = append(more, x[1])
			}
		}
		text += string(more)
	}
	add(runeSet{{lo, hi}}, text)
	return nil
}

// runeSet is a set of characters as ranges.
type runeSet []span

// sorted joins ranges that touch.
func (s runeSet) sorted() runeSet {
	s = slices.Clone(s)
	slices.SortFunc(s, func(a, b span) int { return int(a.lo - b.lo) })
	out := s[:0]
	for _, x := range s {
		if n := len(out); n > 0 && x.lo <= out[n-1].hi+1 {
			out[n-1].hi = max(out[n-1].hi, x.hi)
		} else {
			out = append(out, x)
		}
	}
	return out
}

func (s runeSet) complement() runeSet {
	var out runeSet
	next := rune(0)
	for _, x := range s.sorted() {
		if next < x.lo {
			out = append(out, span{next, x.lo - 1})
		}
		next = x.hi + 1
	}
	if next <= unicode.MaxRune {
		out = append(out, span{next, unicode.MaxRune})
	}
	return out
}

func (s runeSet) and(o runeSet) runeSet {
	return append(s.complement(), o.complement()...).complement()
}

// folded adds the other case of every character.
func (s runeSet) folded() runeSet {
	out := slices.Clone(s)
	for _, c := range append([]unicode.CaseRange{{Lo: 'ß', Hi: 'ß'}}, unicode.CaseRanges...) { // no other has another case
		for _, x := range s {
			for r := max(x.lo, rune(c.Lo)); r <= min(x.hi, rune(c.Hi)); r++ {
				for f := unicode.SimpleFold(r); f != r; f = unicode.SimpleFold(f) {
					out = append(out, span{f, f})
				}
			}
		}
	}
	return out.sorted()
}

// text is the set as a class.
func (s runeSet) text() string {
	if len(s) == 0 {
		return "(?!)"
	}
	return "[" + classText(s.sorted()) + "]"
}

// classText writes ranges as they stand in a class.
func classText(s runeSet) string {
	var b strings.Builder
	char := func(r rune) {
		if r < utf8.RuneSelf && !(r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z') {
			fmt.Fprintf(&b, `\x%02X`, r)
			return
		}
		b.WriteRune(r)
	}
	for _, x := range s {
		if x.lo <= 0xDFFF && x.hi >= 0xD800 { // surrogates are no characters
			b.WriteString(classText(slices.DeleteFunc(runeSet{{x.lo, 0xD7FF}, {0xE000, x.hi}}, func(y span) bool { return y.lo > y.hi })))
			continue
		}
		char(x.lo)
		if x.hi > x.lo {
			b.WriteByte('-')
			char(x.hi)
		}
	}
	return b.String()
}

// ofTables are the characters of tables of package unicode.
func ofTables(tables ...*unicode.RangeTable) runeSet {
	var out runeSet
	add := func(lo, hi, stride rune) {
		if stride == 1 {
			out = append(out, span{lo, hi})
			return
		}
		for r := lo; r <= hi; r += stride {
			out = append(out, span{r, r})
		}
	}
	for _, t := range tables {
		for _, r := range t.R16 {
			add(rune(r.Lo), rune(r.Hi), rune(r.Stride))
		}
		for _, r := range t.R32 {
			add(rune(r.Lo), rune(r.Hi), rune(r.Stride))
		}
	}
	return out.sorted()
}

// property is a set by the name that \p{…} gives it, and its text for a class.
func property(name string, changes map[string]change) (runeSet, string, error) {
	key := strings.ToLower(strings.NewReplacer("_", "", " ", "", "-", "").Replace(name))
	if _, value, ok := strings.Cut(key, "="); ok {
		key = value
	}
	switch key {
	case "word":
		return wordSet(changes), wordText(changes), nil
	case "space", "whitespace":
		return ofTables(unicode.White_Space), `\s`, nil
	case "alphabetic":
		key = "alpha"
	case "punct":
		key = "punctuation" // unlike [:punct:] without symbols
	case "any":
		return runeSet{{0, unicode.MaxRune}}, `\x00-` + string(unicode.MaxRune), nil
	}
	long := map[string]string{
		"letter":          "L",
		"uppercaseletter": "Lu",
		"lowercaseletter": "Ll",
		"titlecaseletter": "Lt",
		"modifierletter":  "Lm",
		"otherletter":     "Lo",
		"number":          "N",
		"decimalnumber":   "Nd",
		"mark":            "M",
		"punctuation":     "P",
		"symbol":          "S",
		"separator":       "Z",
		"other":           "C",
	}
	for general, table := range unicode.Categories {
		if !strings.EqualFold(key, general) && long[key] != general {
			continue
		}
		if general == "C" || general == "Cn" { // with what is not assigned
			set := append(runeSet{}, changes["L"].add...)
			for _, c := range []string{"N", "M", "P", "S"} {
				set = append(set, changes[c].add...)
			}
			assigned := append(slices.Clone(set), ofTables(unicode.L, unicode.M, unicode.N, unicode.P, unicode.S, unicode.Z)...)
			if general == "Cn" {
				assigned = append(assigned, ofTables(unicode.Cc, unicode.Cf, unicode.Co, unicode.Cs)...)
			}
			return assigned.complement(), "", nil
		}
		more := changes[general].add
		return append(ofTables(table), more...).sorted(), `\p{` + general + "}" + classText(more), nil
	}
	if set, text, err := posix(key, changes); err == nil {
		return set, text, nil
	}
	script := strings.TrimPrefix(key, "is")
	for s, table := range unicode.Scripts {
		if strings.EqualFold(strings.ReplaceAll(s, "_", ""), script) {
			set := ofTables(table)
			if s == "Han" {
				set = append(set, span{0x2EBF0, 0x2EE5D}).sorted()
			}
			return set, classText(set), nil
		}
	}
	for s, table := range unicode.Properties {
		if strings.EqualFold(strings.ReplaceAll(s, "_", ""), key) {
			set := ofTables(table)
			return set, classText(set), nil
		}
	}
	return nil, "", fmt.Errorf(`\p{%s} is not known`, name)
}

// posix is a set by the name that [:…:] gives it.
func posix(name string, changes map[string]change) (runeSet, string, error) {
	join := func(sets ...runeSet) (runeSet, string, error) {
		var all runeSet
		for _, s := range sets {
			all = append(all, s...)
		}
		all = all.sorted()
		return all, classText(all), nil
	}
	of := func(name string) runeSet { return changes[name].add }
	switch strings.ToLower(name) {
	case "alpha":
		return join(ofTables(unicode.L, unicode.Nl, unicode.Other_Alphabetic), of("alpha"))
	case "alnum":
		return join(ofTables(unicode.L, unicode.Nl, unicode.Nd, unicode.Other_Alphabetic), of("alpha"), of("Nd"))
	case "digit":
		return join(ofTables(unicode.Nd), of("Nd"))
	case "upper":
		return join(ofTables(unicode.Lu, unicode.Other_Uppercase), of("Lu"))
	case "lower":
		return join(ofTables(unicode.Ll, unicode.Other_Lowercase), of("Ll"))
	case "punct":
		return join(ofTables(unicode.P, unicode.S), of("P"), of("S"))
	case "space":
		return join(ofTables(unicode.White_Space))
	case "blank":
		return join(ofTables(unicode.Zs), runeSet{{'\t', '\t'}})
	case "cntrl":
		return join(ofTables(unicode.Cc))
	case "xdigit":
		return join(runeSet{{'0', '9'}, {'A', 'F'}, {'a', 'f'}})
	case "ascii":
		return join(runeSet{{0, 0x7F}})
	case "word":
		set := wordSet(changes).and(runeSet{{0xB2, 0xB3}, {0xB9, 0xB9}, {0xBC, 0xBE}}.complement())
		return set, classText(set), nil
	case "graph", "print":
		set := ofTables(unicode.L, unicode.M, unicode.N, unicode.P, unicode.S, unicode.Cf, unicode.Co, unicode.Cs)
		for _, c := range []string{"L", "M", "N", "P", "S"} {
			set = append(set, of(c)...)
		}
		if strings.EqualFold(name, "print") {
			set = append(set, ofTables(unicode.Zs)...)
		}
		return join(set)
	}
	return nil, "", fmt.Errorf("[:%s:] is not known", name)
}

// wordSet is \w.
func wordSet(changes map[string]change) runeSet {
	return append(
		ofTables(unicode.L, unicode.M, unicode.Nd, unicode.Nl, unicode.Pc, unicode.Other_Alphabetic),
		changes["word"].add...).sorted()
}

// wordText is \w in a class.
func wordText(changes map[string]change) string {
	return `\p{L}\p{M}\p{Nd}\p{Nl}\p{Pc}` + classText(
		ofTables(unicode.Other_Alphabetic).and(ofTables(unicode.M).complement()),
	) + classText(
		changes["word"].add,
	)
}
