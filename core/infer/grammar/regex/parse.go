package regex

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"edged/core/infer/grammar/expression"
)

// Pattern is a regular expression as it was read. The dialect is that of ECMA-262, which JSON Schema's
// patterns are written in, with what RE2 has beyond it (\A, \z, \Q…\E, [:alpha:], (?i)). Where dialects
// differ about a set, a text that is written keeps to all of them: \s is the blanks that every one knows, and
// \S none that any one does.
type Pattern struct {
	op       rxOp
	subs     []*Pattern
	set      []expression.Span // of rxSet, ordered
	min, max int               // of rxRepeat; max below 0: without end
	not      bool              // of rxLook and rxEdge
	back     bool              // of rxLook: behind
}

type rxOp uint8

const (
	rxEmpty  rxOp = iota
	rxSet         // one character
	rxCat         // subs, one after the other
	rxAlt         // one of subs
	rxRepeat      // subs[0]
	rxLook        // subs[0] follows, or precedes
	rxBegin       // of the text
	rxEnd         // of the text
	rxEdge        // of a word
)

// pure says that an expression looks at nothing but what it matches.
func (n *Pattern) pure() bool {
	if n.op >= rxLook {
		return false
	}
	for _, s := range n.subs {
		if !s.pure() {
			return false
		}
	}
	return true
}

// least is the number of characters that an expression matches at least.
func (n *Pattern) least() int {
	switch n.op {
	case rxSet:
		return 1
	case rxCat:
		sum := 0
		for _, s := range n.subs {
			sum = min(sum+s.least(), expression.MaxNodes)
		}
		return sum
	case rxAlt:
		low := expression.MaxNodes
		for _, s := range n.subs {
			low = min(low, s.least())
		}
		return low
	case rxRepeat:
		return min(n.subs[0].least()*n.min, expression.MaxNodes)
	}
	return 0
}

// most is the number of characters that an expression matches at most; below 0: without bound.
func (n *Pattern) most() int {
	switch n.op {
	case rxSet:
		return 1
	case rxCat:
		total := 0
		for _, s := range n.subs {
			total = Sum(total, s.most())
		}
		return total
	case rxAlt:
		high := 0
		for _, s := range n.subs {
			m := s.most()
			if m < 0 {
				return -1
			}
			high = max(high, m)
		}
		return high
	case rxRepeat:
		m := n.subs[0].most()
		if m != 0 && (m < 0 || n.max < 0) {
			return -1
		}
		return min(m*max(n.max, 0), expression.MaxNodes)
	}
	return 0
}

// Parse reads a regular expression.
func Parse(e *expression.Effort, pattern string) (*Pattern, error) {
	if !utf8.ValidString(pattern) {
		return nil, expression.Syntaxf("regular expression %s: it is not UTF-8", expression.Excerpt(pattern))
	}
	r := &rxReader{Effort: e, text: pattern}
	out, err := r.alternatives()
	if err == nil && r.at < len(r.text) {
		err = r.wrong("a ) without its (")
	}
	return out, err
}

type rxReader struct {
	*expression.Effort
	text   string
	at     int
	depth  int
	fold   bool // (?i)
	dotAll bool // (?s)
}

func (r *rxReader) wrong(format string, args ...any) error {
	return expression.Syntaxf("regular expression %s: %s", expression.Excerpt(r.text), fmt.Sprintf(format, args...))
}

func (r *rxReader) unsupported(what string) error {
	return expression.Unsupportedf("regular expression %s: %s", expression.Excerpt(r.text), what)
}

func (r *rxReader) has(prefix string) bool { return strings.HasPrefix(r.text[r.at:], prefix) }

func (r *rxReader) take(prefix string) bool {
	if !r.has(prefix) {
		return false
	}
	r.at += len(prefix)
	return true
}

func (r *rxReader) alternatives() (*Pattern, error) {
	if r.depth++; r.depth > expression.MaxNesting {
		return nil, r.unsupported("it nests deeper than " + strconv.Itoa(expression.MaxNesting))
	}
	defer func() { r.depth-- }()
	defer func(fold, dotAll bool) { r.fold, r.dotAll = fold, dotAll }(r.fold, r.dotAll)
	var all []*Pattern
	for {
		one, err := r.row()
		if err != nil {
			return nil, err
		}
		if all = append(all, one); !r.take("|") {
			break
		}
	}
	if len(all) == 1 {
		return all[0], nil
	}
	return &Pattern{op: rxAlt, subs: all}, nil
}

func (r *rxReader) row() (*Pattern, error) {
	out := &Pattern{op: rxCat}
	for r.at < len(r.text) && !r.has("|") && !r.has(")") {
		if err := r.Spend(4); err != nil {
			return nil, err
		}
		item, err := r.atom()
		if err != nil {
			return nil, err
		}
		if item == nil {
			continue
		}
		if item, err = r.repeated(item); err != nil {
			return nil, err
		}
		if item.op == rxCat {
			out.subs = append(out.subs, item.subs...)
		} else {
			out.subs = append(out.subs, item)
		}
	}
	if len(out.subs) == 1 {
		return out.subs[0], nil
	}
	return out, nil
}

// repeated reads what may follow an item. How eagerly it is repeated does not change what is matched.
func (r *rxReader) repeated(item *Pattern) (*Pattern, error) {
	least, most, ok, err := r.counts()
	if err != nil || !ok {
		return item, err
	}
	r.take("?")
	if r.at < len(r.text) && strings.ContainsRune("*+?", rune(r.text[r.at])) {
		return nil, r.wrong("a repetition of a repetition")
	}
	if item.op == rxBegin || item.op == rxEnd || item.op == rxEdge || item.op == rxLook {
		if least == 0 {
			return &Pattern{op: rxEmpty}, nil
		}
		return item, nil
	}
	return &Pattern{op: rxRepeat, subs: []*Pattern{item}, min: least, max: most}, nil
}

// counts reads *, +, ?, {2}, {2,} or {2,5}. Any other { stands for itself.
func (r *rxReader) counts() (least, most int, ok bool, err error) {
	switch {
	case r.take("*"):
		return 0, -1, true, nil
	case r.take("+"):
		return 1, -1, true, nil
	case r.take("?"):
		return 0, 1, true, nil
	case !r.has("{"):
		return 0, 0, false, nil
	}
	end := strings.IndexByte(r.text[r.at:], '}')
	if end < 0 {
		return 0, 0, false, nil
	}
	from, to, comma := strings.Cut(r.text[r.at+1:r.at+end], ",")
	if !allDigits(from) || comma && to != "" && !allDigits(to) {
		return 0, 0, false, nil
	}
	least, most = atoi(from), -1
	switch {
	case !comma:
		most = least
	case to != "":
		most = atoi(to)
	}
	r.at += end + 1
	if least > expression.MaxCount || most > expression.MaxCount {
		return 0, 0, false, r.wrong("a repetition of more than %d times", expression.MaxCount)
	}
	if most >= 0 && most < least {
		return 0, 0, false, r.wrong("a repetition of %d to %d times", least, most)
	}
	return least, most, true, nil
}

func allDigits(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }

func atoi(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		return expression.MaxCount + 1
	}
	return n
}

// atom reads one item; nil: it was nothing but flags.
func (r *rxReader) atom() (*Pattern, error) {
	switch c, size := utf8.DecodeRuneInString(r.text[r.at:]); {
	case c == '(':
		r.at++
		return r.group()
	case c == '[':
		r.at++
		set, err := r.class()
		return &Pattern{op: rxSet, set: set}, err
	case c == '.':
		r.at++
		if r.dotAll {
			return &Pattern{op: rxSet, set: expression.AnyChar()}, nil
		}
		return &Pattern{
			op:  rxSet,
			set: expression.Complement([]expression.Span{{Lo: '\n', Hi: '\n'}, {Lo: '\r', Hi: '\r'}, {Lo: 0x2028, Hi: 0x2029}}),
		}, nil
	case c == '^':
		r.at++
		return &Pattern{op: rxBegin}, nil
	case c == '$':
		r.at++
		return &Pattern{op: rxEnd}, nil
	case c == '\\':
		r.at++
		return r.escape()
	case c == '*' || c == '+' || c == '?':
		return nil, r.wrong("nothing stands before %c", c)
	default:
		r.at += size
		return r.one(c), nil
	}
}

func (r *rxReader) one(c rune) *Pattern {
	return &Pattern{op: rxSet, set: r.folded([]expression.Span{{Lo: c, Hi: c}})}
}

// folded adds the other cases of a set where case does not matter.
func (r *rxReader) folded(set []expression.Span) []expression.Span {
	const large = 1 << 12 // characters; beyond it only ASCII's
	if !r.fold {
		return set
	}
	n := 0
	for _, s := range set {
		n += int(s.Hi-s.Lo) + 1
	}
	out := append([]expression.Span(nil), set...)
	for _, s := range set {
		hi := s.Hi
		if n > large {
			hi = min(hi, utf8.RuneSelf-1)
		}
		for c := s.Lo; c <= hi; c++ {
			for f := unicode.SimpleFold(c); f != c; f = unicode.SimpleFold(f) {
				out = append(out, expression.Span{Lo: f, Hi: f})
			}
		}
	}
	return expression.Normalize(out)
}

func (r *rxReader) group() (*Pattern, error) {
	look := &Pattern{op: rxLook}
	switch {
	case !r.take("?"), r.take(":"):
		return r.closed()
	case r.take("="):
	case r.take("!"):
		look.not = true
	case r.take("<="):
		look.back = true
	case r.take("<!"):
		look.back, look.not = true, true
	case r.has("P="), r.has("P>"), r.has("("):
		return nil, r.unsupported("it refers back to a group")
	case r.has(">"), r.has("|"), r.has("#"):
		return nil, r.unsupported("(?" + r.text[r.at:r.at+1])
	case r.take("P<"), r.take("<"):
		end := strings.IndexByte(r.text[r.at:], '>')
		if end < 1 {
			return nil, r.wrong("the name of a group does not end")
		}
		r.at += end + 1
		return r.closed()
	default:
		return r.flags()
	}
	inner, err := r.closed()
	look.subs = []*Pattern{inner}
	return look, err
}

func (r *rxReader) closed() (*Pattern, error) {
	inner, err := r.alternatives()
	if err != nil {
		return nil, err
	}
	if !r.take(")") {
		return nil, r.wrong("a ( without its )")
	}
	return inner, nil
}

// flags reads (?i) and (?i:…).
func (r *rxReader) flags() (*Pattern, error) {
	fold, dotAll := r.fold, r.dotAll
	on := true
	for r.at < len(r.text) {
		c := r.text[r.at]
		r.at++
		switch c {
		case 'i':
			fold = on
		case 's':
			dotAll = on
		case 'u', 'U':
		case '-':
			on = false
		case ')':
			r.fold, r.dotAll = fold, dotAll
			return nil, nil
		case ':':
			defer func(fold, dotAll bool) { r.fold, r.dotAll = fold, dotAll }(r.fold, r.dotAll)
			r.fold, r.dotAll = fold, dotAll
			return r.closed()
		default:
			return nil, r.unsupported("the flag " + string(rune(c)))
		}
	}
	return nil, r.wrong("a ( without its )")
}

// escape reads what follows a backslash outside of brackets.
func (r *rxReader) escape() (*Pattern, error) {
	if r.at >= len(r.text) {
		return nil, r.wrong("a backslash at the end")
	}
	switch c := r.text[r.at]; {
	case c == 'b' || c == 'B':
		r.at++
		return &Pattern{op: rxEdge, not: c == 'B'}, nil
	case c == 'A':
		r.at++
		return &Pattern{op: rxBegin}, nil
	case c == 'z' || c == 'Z':
		r.at++
		return &Pattern{op: rxEnd}, nil
	case c >= '1' && c <= '9', c == 'k' && strings.HasPrefix(r.text[r.at+1:], "<"):
		return nil, r.unsupported("it refers back to a group")
	case c == 'Q':
		r.at++
		text, rest, _ := strings.Cut(r.text[r.at:], `\E`)
		r.at = len(r.text) - len(rest)
		out := &Pattern{op: rxCat}
		for _, c := range text {
			out.subs = append(out.subs, r.one(c))
		}
		return out, nil
	}
	lo, _, err := r.escaped()
	return &Pattern{op: rxSet, set: r.folded(lo)}, err
}

// The blanks that all dialects know, and those that one of them does.
func blanks() []expression.Span {
	return []expression.Span{{Lo: '\t', Hi: '\n'}, {Lo: '\f', Hi: '\r'}, {Lo: ' ', Hi: ' '}}
}

func anyBlanks() []expression.Span {
	return []expression.Span{
		{Lo: '\t', Hi: '\r'},
		{Lo: 0x1C, Hi: 0x1F},
		{Lo: ' ', Hi: ' '},
		{Lo: 0x85, Hi: 0x85},
		{Lo: 0xA0, Hi: 0xA0},
		{Lo: 0x1680, Hi: 0x1680},
		{Lo: 0x180E, Hi: 0x180E},
		{Lo: 0x2000, Hi: 0x200A},
		{Lo: 0x2028, Hi: 0x2029},
		{Lo: 0x202F, Hi: 0x202F},
		{Lo: 0x205F, Hi: 0x205F},
		{Lo: 0x3000, Hi: 0x3000},
		{Lo: 0xFEFF, Hi: 0xFEFF},
	}
}

func words() []expression.Span {
	return []expression.Span{{Lo: '0', Hi: '9'}, {Lo: 'A', Hi: 'Z'}, {Lo: '_', Hi: '_'}, {Lo: 'a', Hi: 'z'}}
}

// escaped reads what follows a backslash and stands for a set: what is surely in it, and what may be.
func (r *rxReader) escaped() (lo, hi []expression.Span, err error) {
	same := func(s []expression.Span) ([]expression.Span, []expression.Span, error) { return s, s, nil }
	char := func(c rune) ([]expression.Span, []expression.Span, error) {
		return same([]expression.Span{{Lo: c, Hi: c}})
	}
	c, size := utf8.DecodeRuneInString(r.text[r.at:])
	r.at += size
	switch c {
	case 'd':
		return same([]expression.Span{{Lo: '0', Hi: '9'}})
	case 'D':
		return same(expression.Complement([]expression.Span{{Lo: '0', Hi: '9'}}))
	case 'w':
		return same(words())
	case 'W':
		return same(expression.Complement(words()))
	case 's':
		return blanks(), anyBlanks(), nil
	case 'S':
		return expression.Complement(anyBlanks()), expression.Complement(blanks()), nil
	case 'n':
		return char('\n')
	case 'r':
		return char('\r')
	case 't':
		return char('\t')
	case 'f':
		return char('\f')
	case 'v':
		return char('\v')
	case 'a':
		return char('\a')
	case '0':
		return char(0)
	case 'c':
		if r.at < len(r.text) && unicode.IsLetter(rune(r.text[r.at])) {
			r.at++
			return char(rune(r.text[r.at-1] & 31))
		}
		return nil, nil, r.wrong(`\c wants a letter`)
	case 'x', 'u':
		n, err := r.code(c)
		if err != nil {
			return nil, nil, err
		}
		return char(n)
	case 'p', 'P':
		set, exact, err := r.property()
		switch {
		case err != nil:
			return nil, nil, err
		case c == 'p':
			return set, set, nil
		case !exact:
			return nil, nil, r.unsupported(`\P of that property`)
		}
		return same(expression.Complement(set))
	}
	if c < utf8.RuneSelf && (unicode.IsLetter(c) || unicode.IsDigit(c)) {
		return nil, nil, r.wrong(`\%c is not an escape`, c)
	}
	return char(c)
}

// code reads the digits of \xHH, \x{H…}, \uHHHH and \u{H…}; two of surrogates are one character.
func (r *rxReader) code(c rune) (rune, error) {
	digits := r.text[r.at:]
	if braces, ok := strings.CutPrefix(digits, "{"); ok {
		inner, _, ok := strings.Cut(braces, "}")
		n, err := strconv.ParseUint(inner, 16, 32)
		if !ok || err != nil || !utf8.ValidRune(rune(n)) {
			return 0, r.wrong(`\%c{%.8s} is not a character`, c, inner)
		}
		r.at += len(inner) + 2
		return rune(n), nil
	}
	want := map[rune]int{'x': 2, 'u': 4}[c]
	hex := func(s string) (rune, bool) {
		if len(s) < want {
			return 0, false
		}
		n, err := strconv.ParseUint(s[:want], 16, 32)
		return rune(n), err == nil
	}
	n, ok := hex(digits)
	if !ok {
		return 0, r.wrong(`\%c wants %d hexadecimal digits`, c, want)
	}
	r.at += want
	if n >= 0xD800 && n < 0xDC00 && r.has(`\u`) {
		if low, ok := hex(r.text[r.at+2:]); ok && low >= 0xDC00 && low < 0xE000 {
			r.at += 2 + want
			return (n-0xD800)<<10 + (low - 0xDC00) + 0x10000, nil
		}
	}
	return n, nil
}

// property reads the name that follows \p. exact: the set is all of it.
func (r *rxReader) property() (set []expression.Span, exact bool, err error) {
	if r.at >= len(r.text) {
		return nil, false, r.wrong(`\p wants a property`)
	}
	name := r.text[r.at : r.at+1]
	not := false
	if name == "{" {
		inner, _, ok := strings.Cut(r.text[r.at+1:], "}")
		if !ok {
			return nil, false, r.wrong(`\p{ without its }`)
		}
		r.at += len(inner) + 2
		name, not = strings.TrimPrefix(inner, "^"), strings.HasPrefix(inner, "^")
	} else {
		r.at++
	}
	for _, prefix := range []string{"Script=", "sc=", "Script_Extensions=", "scx=", "General_Category=", "gc="} {
		name = strings.TrimPrefix(name, prefix)
	}
	if of, ok := someOf(name); ok {
		return of, false, nil
	}
	if long, ok := categories[name]; ok {
		name = long
	}
	table := unicode.Categories[name]
	if table == nil {
		table = unicode.Scripts[name]
	}
	if table == nil {
		table = unicode.Properties[name]
	}
	switch {
	case name == "Any":
		set = expression.AnyChar()
	case name == "ASCII":
		set = []expression.Span{{Lo: 0, Hi: utf8.RuneSelf - 1}}
	case table == nil:
		return nil, false, r.unsupported(`the property \p{` + strconv.QuoteToASCII(name) + "}")
	default:
		for _, s := range table.R16 {
			set = appendRange(set, rune(s.Lo), rune(s.Hi), rune(s.Stride))
		}
		for _, s := range table.R32 {
			set = appendRange(set, rune(s.Lo), rune(s.Hi), rune(s.Stride))
		}
		set = expression.Normalize(set)
	}
	if not {
		set = expression.Complement(set)
	}
	return set, true, r.Spend(2 * len(set))
}

func appendRange(set []expression.Span, lo, hi, stride rune) []expression.Span {
	if stride == 1 {
		return append(set, expression.Span{Lo: lo, Hi: hi})
	}
	for c := lo; c <= hi; c += stride {
		set = append(set, expression.Span{Lo: c, Hi: c})
	}
	return set
}

// categories are the long names of general categories.
//
//nolint:gochecknoglobals // a table
var categories = map[string]string{
	"Letter":           "L",
	"Lowercase_Letter": "Ll",
	"Uppercase_Letter": "Lu",
	"Titlecase_Letter": "Lt",
	"Modifier_Letter":  "Lm",
	"Other_Letter":     "Lo",
	"Mark":             "M",
	"Number":           "N",
	"Decimal_Number":   "Nd",
	"Letter_Number":    "Nl",
	"Other_Number":     "No",
	"Punctuation":      "P",
	"Symbol":           "S",
	"Math_Symbol":      "Sm",
	"Currency_Symbol":  "Sc",
	"Separator":        "Z",
	"Space_Separator":  "Zs",
	"Other":            "C",
	"Control":          "Cc",
	"Alphabetic":       "L",
	"Lowercase":        "Ll",
	"Uppercase":        "Lu",
}

// someOf are characters of the properties of emoji, which Go's tables do not have: those that surely are of them.
func someOf(name string) ([]expression.Span, bool) {
	switch name {
	case "Emoji_Component":
		return []expression.Span{
			{Lo: '#', Hi: '#'},
			{Lo: '*', Hi: '*'},
			{Lo: '0', Hi: '9'},
			{Lo: 0x200D, Hi: 0x200D},
			{Lo: 0x20E3, Hi: 0x20E3},
			{Lo: 0xFE0F, Hi: 0xFE0F},
			{Lo: 0x1F1E6, Hi: 0x1F1FF},
			{Lo: 0x1F3FB, Hi: 0x1F3FF},
		}, true
	case "Extended_Pictographic", "Emoji", "Emoji_Presentation", "RGI_Emoji", "Basic_Emoji":
		return []expression.Span{
			{Lo: 0x1F300, Hi: 0x1F320},
			{Lo: 0x1F32D, Hi: 0x1F335},
			{Lo: 0x1F337, Hi: 0x1F37C},
			{Lo: 0x1F380, Hi: 0x1F393},
			{Lo: 0x1F400, Hi: 0x1F43E},
			{Lo: 0x1F600, Hi: 0x1F64F},
			{Lo: 0x1F680, Hi: 0x1F6C5},
		}, true
	}
	return nil, false
}

// class reads a set in brackets.
func (r *rxReader) class() ([]expression.Span, error) {
	negated := r.take("^")
	var lo, hi []expression.Span // what is surely in it, and what may be
	for !r.take("]") {
		if r.at >= len(r.text) {
			return nil, r.wrong("a [ without its ]")
		}
		if err := r.Spend(2); err != nil {
			return nil, err
		}
		l, h, err := r.member()
		if err != nil {
			return nil, err
		}
		if r.has("-") && !r.has("-]") && len(l) == 1 && l[0].Lo == l[0].Hi && len(h) == 1 {
			r.at++
			to, _, err := r.member()
			if err != nil {
				return nil, err
			}
			if len(to) != 1 || to[0].Lo != to[0].Hi {
				l = append(append(l, expression.Span{Lo: '-', Hi: '-'}), to...)
			} else if l[0].Hi = to[0].Lo; l[0].Hi < l[0].Lo {
				return nil, r.wrong("the range %c-%c runs backwards", l[0].Lo, l[0].Hi)
			}
			h = l
		}
		lo, hi = append(lo, l...), append(hi, h...)
		if err := r.Spend(len(l) + len(h)); err != nil {
			return nil, err
		}
	}
	if negated {
		return expression.Complement(r.folded(expression.Normalize(hi))), nil
	}
	return r.folded(expression.Normalize(lo)), nil
}

// posix are the names of [:alpha:] and its like.
//
//nolint:gochecknoglobals // a table
var posix = map[string][]expression.Span{
	"alnum": {
		{Lo: '0', Hi: '9'},
		{Lo: 'A', Hi: 'Z'},
		{Lo: 'a', Hi: 'z'},
	},
	"alpha": {{Lo: 'A', Hi: 'Z'}, {Lo: 'a', Hi: 'z'}},
	"ascii": {{Lo: 0, Hi: 0x7F}},
	"blank": {{Lo: '\t', Hi: '\t'}, {Lo: ' ', Hi: ' '}},
	"cntrl": {
		{Lo: 0, Hi: 0x1F},
		{Lo: 0x7F, Hi: 0x7F},
	},
	"digit": {{Lo: '0', Hi: '9'}},
	"graph": {{Lo: '!', Hi: '~'}},
	"lower": {{Lo: 'a', Hi: 'z'}},
	"print": {{Lo: ' ', Hi: '~'}},
	"punct": {
		{Lo: '!', Hi: '/'},
		{Lo: ':', Hi: '@'},
		{Lo: '[', Hi: '`'},
		{Lo: '{', Hi: '~'},
	},
	"space": {{Lo: '\t', Hi: '\r'}, {Lo: ' ', Hi: ' '}},
	"upper": {{Lo: 'A', Hi: 'Z'}},
	"word": {
		{Lo: '0', Hi: '9'},
		{Lo: 'A', Hi: 'Z'},
		{Lo: '_', Hi: '_'},
		{Lo: 'a', Hi: 'z'},
	},
	"xdigit": {{Lo: '0', Hi: '9'}, {Lo: 'A', Hi: 'F'}, {Lo: 'a', Hi: 'f'}},
}

// member reads one part of a set in brackets.
func (r *rxReader) member() (lo, hi []expression.Span, err error) {
	if inner, ok := strings.CutPrefix(r.text[r.at:], "[:"); ok {
		if name, _, ok := strings.Cut(inner, ":]"); ok {
			if set, ok := posix[strings.TrimPrefix(name, "^")]; ok {
				r.at += len(name) + 4
				if strings.HasPrefix(name, "^") {
					set = expression.Complement(set)
				}
				return append([]expression.Span(nil), set...), set, nil
			}
		}
	}
	if r.take(`\`) {
		if r.at >= len(r.text) {
			return nil, nil, r.wrong("a backslash at the end")
		}
		if r.take("b") {
			return []expression.Span{{Lo: '\b', Hi: '\b'}}, []expression.Span{{Lo: '\b', Hi: '\b'}}, nil
		}
		return r.escaped()
	}
	c, size := utf8.DecodeRuneInString(r.text[r.at:])
	r.at += size
	return []expression.Span{{Lo: c, Hi: c}}, []expression.Span{{Lo: c, Hi: c}}, nil
}

// Sum adds two lengths, each of which below 0 is without bound; a sum has an upper bound.
func Sum(a, b int) int {
	if a < 0 || b < 0 {
		return -1
	}
	return min(a+b, expression.MaxNodes)
}
