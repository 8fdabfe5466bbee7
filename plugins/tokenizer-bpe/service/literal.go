package service

import (
	"bytes"
	"encoding/json"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"
)

// literal reads a value in JSON, in Python's spelling, or in Gemma's (bare keys, texts between marks), and writes it as
// JSON. Small models mix them.
type literal struct {
	s   string
	pos int
}

// Bounds of a value that is read.
const (
	maxLiteralDepth = 64
	gemmaQuote      = `<|"|>`
)

func (p *literal) space() {
	for p.pos < len(p.s) && strings.IndexByte(" \t\r\n", p.s[p.pos]) >= 0 {
		p.pos++
	}
}

func (p *literal) skip(c byte) bool {
	p.space()
	if p.pos < len(p.s) && p.s[p.pos] == c {
		p.pos++
		return true
	}
	return false
}

func (p *literal) value(depth int) (json.RawMessage, bool) {
	p.space()
	if p.pos >= len(p.s) || depth > maxLiteralDepth {
		return nil, false
	}
	switch c := p.s[p.pos]; {
	case c == '{':
		return p.object(depth)
	case c == '[':
		return p.list(depth, ']')
	case c == '(':
		return p.list(depth, ')')
	case c == '"' || c == '\'' || strings.HasPrefix(p.s[p.pos:], gemmaQuote):
		s, ok := p.text()
		return quote(s), ok
	}
	return p.word()
}

func (p *literal) object(depth int) (json.RawMessage, bool) {
	p.pos++
	m := &members{}
	seen := map[string]int{}
	for !p.skip('}') {
		if p.pos >= len(p.s) {
			return nil, false
		}
		key, ok := p.key()
		if !ok || !p.skip(':') {
			return nil, false
		}
		v, ok := p.value(depth + 1)
		if !ok {
			return nil, false
		}
		if i, twice := seen[key]; twice {
			m.values[i] = v
		} else {
			seen[key] = len(m.keys)
			m.keys, m.values = append(m.keys, key), append(m.values, v)
		}
		if !p.skip(',') {
			if !p.skip('}') {
				return nil, false
			}
			break
		}
	}
	return m.json(), true
}

func (p *literal) key() (string, bool) {
	p.space()
	if p.pos < len(p.s) && (p.s[p.pos] == '"' || p.s[p.pos] == '\'' || strings.HasPrefix(p.s[p.pos:], gemmaQuote)) {
		return p.text()
	}
	end := strings.IndexAny(p.s[p.pos:], ":,{}[]()\"'\n")
	if end <= 0 || p.s[p.pos+end] != ':' {
		return "", false
	}
	key := strings.TrimSpace(p.s[p.pos : p.pos+end])
	p.pos += end
	return key, key != ""
}

func (p *literal) list(depth int, end byte) (json.RawMessage, bool) {
	p.pos++
	var b bytes.Buffer
	b.WriteByte('[')
	for first := true; !p.skip(end); first = false {
		v, ok := p.value(depth + 1)
		if !ok {
			return nil, false
		}
		if !first {
			b.WriteByte(',')
		}
		b.Write(v)
		if !p.skip(',') {
			if !p.skip(end) {
				return nil, false
			}
			break
		}
	}
	b.WriteByte(']')
	return b.Bytes(), true
}

// word reads a number, a truth or nothing.
func (p *literal) word() (json.RawMessage, bool) {
	end := p.pos
	for end < len(p.s) && (p.s[end] == '-' || p.s[end] == '+' || p.s[end] == '.' || p.s[end] == '_' || p.s[end] >= '0' && p.s[end] <= '9' || p.s[end]|0x20 >= 'a' && p.s[end]|0x20 <= 'z') {
		end++
	}
	w := p.s[p.pos:end]
	p.pos = end
	switch w {
	case "true", "True":
		return json.RawMessage("true"), true
	case "false", "False":
		return json.RawMessage("false"), true
	case "null", "None":
		return json.RawMessage("null"), true
	}
	if w == "" || w[0] != '-' && (w[0] < '0' || w[0] > '9') {
		return nil, false
	}
	if json.Valid([]byte(w)) {
		return json.RawMessage(w), true
	}
	if f, err := strconv.ParseFloat(w, 64); err == nil && !math.IsInf(f, 0) && !strings.ContainsAny(w, "_xXpP") { // 1. and 007
		return json.RawMessage(strconv.FormatFloat(f, 'g', -1, 64)), true
	}
	return nil, false
}

// text reads a text in quotes with the escapes of JSON and Python. Line ends in it stand for themselves.
func (p *literal) text() (string, bool) {
	if rest, ok := strings.CutPrefix(p.s[p.pos:], gemmaQuote); ok {
		s, _, closed := strings.Cut(rest, gemmaQuote)
		p.pos += len(s) + 2*len(gemmaQuote)
		return s, closed
	}
	q := p.s[p.pos]
	end := p.pos + 1
	for end < len(p.s) && p.s[end] != q {
		if p.s[end] == '\\' {
			end++
		}
		end++
	}
	if end >= len(p.s) {
		return "", false
	}
	inner := p.s[p.pos+1 : end]
	raw := p.s[p.pos : end+1]
	p.pos = end + 1
	if strings.IndexByte(inner, '\\') < 0 {
		return inner, true
	}
	var s string
	if q == '"' && json.Unmarshal([]byte(raw), &s) == nil {
		return s, true
	}
	var b strings.Builder
	for i := 0; i < len(inner); i++ {
		if inner[i] != '\\' || i+1 == len(inner) {
			b.WriteByte(inner[i])
			continue
		}
		i++
		switch c := inner[i]; c {
		case 'n':
			b.WriteByte('\n')
		case 't':
			b.WriteByte('\t')
		case 'r':
			b.WriteByte('\r')
		case '\\', '\'', '"', '/':
			b.WriteByte(c)
		case 'x', 'u', 'U':
			n := map[byte]int{'x': 2, 'u': 4, 'U': 8}[c]
			code, err := uint64(0), strconv.ErrSyntax
			if i+n < len(inner) {
				code, err = strconv.ParseUint(inner[i+1:i+1+n], 16, 32)
			}
			if err != nil || code > utf8.MaxRune {
				b.WriteString(`\` + string(c))
				continue
			}
			b.WriteRune(rune(code))
			i += n
		default:
			b.WriteString(`\` + string(c))
		}
	}
	return b.String(), true
}
