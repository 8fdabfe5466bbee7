package syntax

import (
	"math/big"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"edged/core/chat/jinja/value"
)

// kind is the kind of a token.
type kind uint8

const (
	kEOF kind = iota
	kData
	kVarBegin
	kVarEnd
	kBlockBegin
	kBlockEnd
	kName
	kString
	kInt
	kFloat
	kOp
)

// token is one piece of a template. text holds data, a name, a string's value or an operator; num a number's value.
type token struct {
	kind kind
	line int
	text string
	num  value.Value
}

func (t token) is(name string) bool { return t.kind == kName && t.text == name }

func (t token) op(op string) bool { return t.kind == kOp && t.text == op }

func (t token) String() string {
	switch t.kind {
	case kEOF:
		return "end of template"
	case kVarEnd:
		return "}}"
	case kBlockEnd:
		return "%}"
	case kVarBegin:
		return "{{"
	case kBlockBegin:
		return "{%"
	case kInt, kFloat:
		return "a number"
	case kData:
		return "text"
	}
	if len(t.text) > 40 {
		return t.text[:40] + "…"
	}
	return t.text
}

// lexer cuts a template into tokens, one when it is asked, with trim_blocks and lstrip_blocks: the line end behind a
// block or a comment goes, and the blanks before one that stands alone at the beginning of its line.
type lexer struct {
	src     string
	pos     int
	line    int
	in      kind   // 0 in text, kVarBegin or kBlockBegin inside a tag
	open    []byte // closing brackets that are owed
	starts  bool   // the last match ended with a line end, or there was none yet
	pending []token
}

// newLexer makes every line end "\n" and drops one at the end.
func newLexer(source string) *lexer {
	source = newlines(source)
	return &lexer{src: strings.TrimSuffix(source, "\n"), line: 1, starts: true}
}

func newlines(s string) string {
	if strings.IndexByte(s, '\r') < 0 {
		return s
	}
	return strings.ReplaceAll(strings.ReplaceAll(s, "\r\n", "\n"), "\r", "\n")
}

func (l *lexer) fail(format string, args ...any) { panic(syntaxError(l.line, format, args...)) }

// next returns the next token, kEOF at the end and ever after.
func (l *lexer) next() token {
	for {
		if len(l.pending) > 0 {
			t := l.pending[0]
			l.pending = l.pending[1:]
			return t
		}
		if l.in != 0 {
			return l.tag()
		}
		if l.pos >= len(l.src) {
			return token{kind: kEOF, line: l.line}
		}
		l.text()
	}
}

func (l *lexer) emit(k kind, text string) {
	l.pending = append(l.pending, token{kind: k, line: l.line, text: text})
}

// advance moves to pos and counts the lines on the way.
func (l *lexer) advance(to int) {
	l.line += strings.Count(l.src[l.pos:to], "\n")
	if to > l.pos {
		l.starts = l.src[to-1] == '\n'
	}
	l.pos = to
}

// text reads up to the next tag and into it.
func (l *lexer) text() {
	rest := l.src[l.pos:]
	at := 0
	for {
		i := strings.IndexByte(rest[at:], '{')
		if i < 0 || at+i+1 >= len(rest) {
			l.emit(kData, rest)
			l.advance(len(l.src))
			return
		}
		at += i
		if c := rest[at+1]; c == '{' || c == '%' || c == '#' {
			break
		}
		at++
	}
	data, mark := rest[:at], rest[at+1]
	sign := byte(0)
	if at+2 < len(rest) && (rest[at+2] == '-' || rest[at+2] == '+') {
		sign = rest[at+2]
	}
	if data := l.strip(data, sign, mark == '{'); data != "" {
		l.emit(kData, data)
	}
	begin := l.pos + at
	end := begin + 2
	if sign != 0 {
		end++
	}
	switch mark {
	case '{':
		l.advance(end)
		l.emit(kVarBegin, "")
		l.in = kVarBegin
	case '#':
		l.advance(end)
		l.comment()
	default:
		if after, ok := l.rawTag(end, "raw", false); ok {
			l.advance(after)
			l.raw()
			return
		}
		l.advance(end)
		l.emit(kBlockBegin, "")
		l.in = kBlockBegin
	}
}

// strip takes the whitespace before a tag away as its sign says.
func (l *lexer) strip(data string, sign byte, variable bool) string {
	switch {
	case sign == '-':
		return value.TrimRight(data)
	case sign == '+' || variable:
		return data
	}
	start := strings.LastIndexByte(data, '\n') + 1
	if (start > 0 || l.starts) && value.TrimRight(data[start:]) == "" {
		return data[:start]
	}
	return data
}

// comment skips to the end of a comment.
func (l *lexer) comment() {
	i := strings.Index(l.src[l.pos:], "#}")
	if i < 0 {
		l.fail("a comment is not closed: '#}' is missing")
	}
	at := l.pos + i
	sign := byte(0)
	if at > l.pos {
		sign = l.src[at-1]
	}
	l.advance(l.after(at+2, sign))
}

// after is the position behind a closing mark and the whitespace that it takes along.
func (l *lexer) after(pos int, sign byte) int {
	switch {
	case sign == '-':
		return len(l.src) - len(value.TrimLeft(l.src[pos:]))
	case sign != '+' && pos < len(l.src) && l.src[pos] == '\n':
		return pos + 1
	}
	return pos
}

// rawTag reads "raw %}" or "endraw %}" at pos, and says where it ends.
func (l *lexer) rawTag(pos int, word string, trim bool) (int, bool) {
	rest := value.TrimLeft(l.src[pos:])
	if !strings.HasPrefix(rest, word) {
		return 0, false
	}
	rest = value.TrimLeft(rest[len(word):])
	sign := byte(0)
	if rest != "" && (rest[0] == '-' || rest[0] == '+' && trim) {
		sign = rest[0]
		rest = rest[1:]
	}
	if !strings.HasPrefix(rest, "%}") {
		return 0, false
	}
	end := len(l.src) - len(rest) + 2
	if sign == '-' || trim {
		end = l.after(end, sign)
	}
	return end, true
}

// raw emits what stands between raw and endraw.
func (l *lexer) raw() {
	for at := l.pos; ; at += 2 {
		i := strings.Index(l.src[at:], "{%")
		if i < 0 {
			l.fail("a raw block is not closed: '{%% endraw %%}' is missing")
		}
		at += i
		begin, sign := at+2, byte(0)
		if begin < len(l.src) && (l.src[begin] == '-' || l.src[begin] == '+') {
			sign = l.src[begin]
			begin++
		}
		end, ok := l.rawTag(begin, "endraw", true)
		if !ok {
			continue
		}
		if data := l.strip(l.src[l.pos:at], sign, false); data != "" {
			l.emit(kData, data)
		}
		l.advance(end)
		return
	}
}

// operators of two characters, then of one.
const pairs = "// ** == != >= <="

const singles = "+-/*%~[](){}><=.:|,;"

// tag reads one token inside a tag.
func (l *lexer) tag() token {
	l.advance(len(l.src) - len(value.TrimLeft(l.src[l.pos:])))
	if l.pos >= len(l.src) {
		return token{kind: kEOF, line: l.line}
	}
	rest := l.src[l.pos:]
	t := token{line: l.line}
	if len(l.open) == 0 && l.closes(rest, &t) {
		return t
	}
	c := rest[0]
	switch {
	case c >= '0' && c <= '9':
		return l.number(rest, t)
	case c == '\'' || c == '"':
		return l.string(rest, t)
	}
	if n := value.WordLength(rest); n > 0 {
		t.kind, t.text = kName, rest[:n]
		if !value.Identifier(t.text) {
			l.fail("%q is not a name", t.text)
		}
		l.advance(l.pos + n)
		return t
	}
	t.kind = kOp
	switch {
	case len(rest) > 1 && strings.Contains(pairs, rest[:2]) && rest[1] != ' ' && rest[0] != ' ':
		t.text = rest[:2]
	case strings.IndexByte(singles, c) >= 0:
		t.text = rest[:1]
	default:
		r, _ := utf8.DecodeRuneInString(rest)
		l.fail("unexpected character %q", r)
	}
	l.balance(t.text)
	l.advance(l.pos + len(t.text))
	return t
}

// closes reads the end of the tag.
func (l *lexer) closes(rest string, t *token) bool {
	mark, sign := "}}", byte(0)
	if l.in == kBlockBegin {
		mark = "%}"
	}
	if rest[0] == '-' || rest[0] == '+' && l.in == kBlockBegin {
		sign = rest[0]
		rest = rest[1:]
	}
	if !strings.HasPrefix(rest, mark) {
		return false
	}
	end := len(l.src) - len(rest) + 2
	t.kind = kVarEnd
	if l.in == kBlockBegin {
		t.kind = kBlockEnd
		end = l.after(end, sign)
	} else if sign == '-' {
		end = l.after(end, sign)
	}
	l.in = 0
	l.advance(end)
	return true
}

func (l *lexer) balance(op string) {
	switch op {
	case "(":
		l.open = append(l.open, ')')
	case "[":
		l.open = append(l.open, ']')
	case "{":
		l.open = append(l.open, '}')
	case ")", "]", "}":
		if len(l.open) == 0 {
			l.fail("unexpected '%s'", op)
		}
		want := l.open[len(l.open)-1]
		if want != op[0] {
			l.fail("unexpected '%s', expected '%c'", op, want)
		}
		l.open = l.open[:len(l.open)-1]
	}
}

// digits is the length of digits that may stand apart by single underscores.
func digits(s string) int {
	n := 0
	for n < len(s) {
		switch {
		case s[n] >= '0' && s[n] <= '9':
			n++
		case s[n] == '_' && n > 0 && n+1 < len(s) && s[n+1] >= '0' && s[n+1] <= '9':
			n++
		default:
			return n
		}
	}
	return n
}

func (l *lexer) number(rest string, t token) token {
	n := digits(rest)
	if end := floatEnd(rest, n); end > n && (l.pos == 0 || l.src[l.pos-1] != '.') {
		f, err := strconv.ParseFloat(strings.ReplaceAll(rest[:end], "_", ""), 64)
		if err != nil && f == 0 {
			l.fail("%q is not a number", rest[:end])
		}
		t.kind, t.num = kFloat, f
		l.advance(l.pos + end)
		return t
	}
	base := 10
	if len(rest) > 2 && rest[0] == '0' {
		base = map[byte]int{'b': 2, 'o': 8, 'x': 16}[rest[1]|0x20]
	}
	if base != 10 && base != 0 {
		if n = based(rest[2:], base); n > 0 {
			n += 2
		}
	} else {
		base = 0
	}
	if n == 0 || base == 0 {
		base = 10
		n = digits(rest)
		if rest[0] == '0' { // zeros alone: what follows is another number
			n = 1
			for n < len(rest) && (rest[n] == '0' || rest[n] == '_' && n+1 < len(rest) && rest[n+1] == '0') {
				n++
			}
		}
	}
	text := strings.ReplaceAll(rest[:n], "_", "")
	if base != 10 {
		text = text[2:]
	}
	if len(text) > value.MaxDigits {
		l.fail("a number of %d digits: at most %d are taken", len(text), value.MaxDigits)
	}
	i, ok := new(big.Int).SetString(text, base)
	if !ok {
		l.fail("%q is not a number", text)
	}
	t.kind, t.num = kInt, value.FromBig(i)
	l.advance(l.pos + n)
	return t
}

// floatEnd returns the end of a number with a fraction or an exponent, or n if it has neither.
func floatEnd(s string, n int) int {
	end := n
	if n < len(s) && s[n] == '.' {
		if d := digits(s[n+1:]); d > 0 {
			end = n + 1 + d
		}
	}
	if end < len(s) && s[end]|0x20 == 'e' {
		e := end + 1
		if e < len(s) && (s[e] == '+' || s[e] == '-') {
			e++
		}
		if d := digits(s[e:]); d > 0 {
			end = e + d
		}
	}
	return end
}

func based(s string, base int) int {
	n := 0
	for n < len(s) {
		c := s[n]
		if c == '_' && n+1 < len(s) {
			c = s[n+1]
			if value.DigitValue(c) >= base {
				return n
			}
			n++
		}
		if value.DigitValue(c) >= base {
			return n
		}
		n++
	}
	return n
}

func (l *lexer) string(rest string, t token) token {
	end := 1
	for end < len(rest) && rest[end] != rest[0] {
		if rest[end] == '\\' {
			end++
		}
		end++
	}
	if end >= len(rest) {
		l.fail("a text is not closed: %c is missing", rest[0])
	}
	t.kind, t.text = kString, l.unescape(rest[1:end])
	l.advance(l.pos + end + 1)
	return t
}

// unescape resolves the escapes of a Python text; unknown ones stay as they are.
func (l *lexer) unescape(s string) string {
	if strings.IndexByte(s, '\\') < 0 {
		return s
	}
	var out strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' || i+1 == len(s) {
			out.WriteByte(s[i])
			continue
		}
		i++
		switch c := s[i]; c {
		case '\n':
		case '\\', '\'', '"':
			out.WriteByte(c)
		case 'a':
			out.WriteByte('\a')
		case 'b':
			out.WriteByte('\b')
		case 'f':
			out.WriteByte('\f')
		case 'n':
			out.WriteByte('\n')
		case 'r':
			out.WriteByte('\r')
		case 't':
			out.WriteByte('\t')
		case 'v':
			out.WriteByte('\v')
		case 'x', 'u', 'U':
			n := map[byte]int{'x': 2, 'u': 4, 'U': 8}[c]
			if i+n >= len(s) {
				l.fail("truncated \\%c escape in a text", c)
			}
			code, err := strconv.ParseUint(s[i+1:i+1+n], 16, 32)
			if err != nil || code > unicode.MaxRune {
				l.fail("%q is not an escape of a character", s[i-1:i+1+n])
			}
			i += n
			out.WriteRune(rune(code))
		case 'N':
			l.fail("characters by name (\\N) are not known here: write \\u and the number")
		case '0', '1', '2', '3', '4', '5', '6', '7':
			code := 0
			n := 0
			for n < 3 && i+n < len(s) && s[i+n] >= '0' && s[i+n] <= '7' {
				code = code*8 + int(s[i+n]-'0')
				n++
			}
			i += n - 1
			out.WriteRune(rune(code))
		default:
			out.WriteByte('\\')
			out.WriteByte(c)
		}
	}
	return out.String()
}
