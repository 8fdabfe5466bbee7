package grammar

import (
	"regexp/syntax"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// anchoring says what of a text a regular expression has to match.
type anchoring bool

const (
	whole anchoring = true  // all of it
	part  anchoring = false // some of it, as "pattern" of JSON Schema has it
)

// chars makes an expression of one character of some spans: as it is, or as a JSON string writes it.
type chars func(spans []span) *expr

func plainChars(spans []span) *expr { return class(spans...) }

// regex reads a regular expression in RE2's syntax (package regexp/syntax), which is what JSON Schema's dialect has in common with it:
// no look-around, no back references; ^ and $ only at the ends.
func regex(e *effort, pattern string, a anchoring, c chars) (*expr, error) {
	const set = 700 // about the ranges of the largest
	if err := e.spend(len(pattern) + set*strings.Count(pattern, `\p`)); err != nil {
		return nil, err
	}
	re, err := syntax.Parse(widenEscapes(pattern), syntax.Perl)
	if err != nil {
		return nil, wrong("regular expression %s: %v", short(pattern), err)
	}
	r := &regexReader{pattern: pattern, chars: c}
	var all []*expr
	for _, one := range branches(re) {
		items := row(one)
		head, tail := a == part, a == part
		for len(items) > 0 && items[0].Op == syntax.OpBeginText {
			items, head = items[1:], false
		}
		for n := len(items); n > 0 && items[n-1].Op == syntax.OpEndText; n-- {
			items, tail = items[:n-1], false
		}
		body := seq()
		if head {
			body.subs = append(body.subs, repeat(c(every()), 0, -1))
		}
		for _, it := range items {
			e, err := r.read(it, 0)
			if err != nil {
				return nil, err
			}
			body.subs = append(body.subs, e)
		}
		if tail {
			body.subs = append(body.subs, repeat(c(every()), 0, -1))
		}
		all = append(all, body)
	}
	if len(all) == 1 {
		return all[0], nil
	}
	return alt(all...), nil
}

func every() []span { return []span{{0, utf8.MaxRune}} }

// branches are the alternatives at the top, through groups.
func branches(re *syntax.Regexp) []*syntax.Regexp {
	switch re.Op {
	case syntax.OpCapture:
		return branches(re.Sub[0])
	case syntax.OpAlternate:
		var out []*syntax.Regexp
		for _, s := range re.Sub {
			out = append(out, branches(s)...)
		}
		return out
	}
	return []*syntax.Regexp{re}
}

// row are the parts of a sequence; the first and the last through groups, since anchors may stand there.
func row(re *syntax.Regexp) []*syntax.Regexp {
	switch re.Op {
	case syntax.OpConcat:
		out := slices.Clone(re.Sub)
		if first := out[0]; first.Op == syntax.OpCapture && first.Sub[0].Op != syntax.OpAlternate {
			out = append(row(first.Sub[0]), out[1:]...)
		}
		if last := out[len(out)-1]; last.Op == syntax.OpCapture && last.Sub[0].Op != syntax.OpAlternate {
			out = append(out[:len(out)-1:len(out)-1], row(last.Sub[0])...)
		}
		return out
	case syntax.OpEmptyMatch:
		return nil
	}
	return []*syntax.Regexp{re}
}

type regexReader struct {
	pattern string
	chars   chars
}

func (r *regexReader) read(re *syntax.Regexp, depth int) (*expr, error) {
	if depth > maxNesting {
		return nil, unsupported("regular expression %s: it nests deeper than %d", short(r.pattern), maxNesting)
	}
	var subs []*expr
	for _, s := range re.Sub {
		e, err := r.read(s, depth+1)
		if err != nil {
			return nil, err
		}
		subs = append(subs, e)
	}
	switch re.Op {
	case syntax.OpEmptyMatch:
		return seq(), nil
	case syntax.OpNoMatch:
		return alt(), nil
	case syntax.OpLiteral:
		out := seq()
		for _, c := range re.Rune {
			spans := []span{{c, c}}
			if re.Flags&syntax.FoldCase != 0 {
				for f := unicode.SimpleFold(c); f != c; f = unicode.SimpleFold(f) {
					spans = append(spans, span{f, f})
				}
				spans = ordered(spans)
			}
			out.subs = append(out.subs, r.chars(spans))
		}
		return out, nil
	case syntax.OpCharClass:
		var spans []span
		for i := 0; i+1 < len(re.Rune); i += 2 {
			spans = append(spans, span{re.Rune[i], re.Rune[i+1]})
		}
		return r.chars(spans), nil
	case syntax.OpAnyChar:
		return r.chars(every()), nil
	case syntax.OpAnyCharNotNL:
		return r.chars(except([]span{{'\n', '\n'}, {'\r', '\r'}})), nil
	case syntax.OpCapture:
		return subs[0], nil
	case syntax.OpStar:
		return repeat(subs[0], 0, -1), nil
	case syntax.OpPlus:
		return repeat(subs[0], 1, -1), nil
	case syntax.OpQuest:
		return repeat(subs[0], 0, 1), nil
	case syntax.OpRepeat:
		return repeat(subs[0], re.Min, re.Max), nil
	case syntax.OpConcat:
		return seq(subs...), nil
	case syntax.OpAlternate:
		return alt(subs...), nil // as they are: length counts their characters
	case syntax.OpBeginText, syntax.OpEndText, syntax.OpBeginLine, syntax.OpEndLine:
		return nil, unsupported("regular expression %s: ^ and $ other than at its ends", short(r.pattern))
	}
	return nil, unsupported(`regular expression %s: \b and \B`, short(r.pattern))
}

// widenEscapes writes \uHHHH, which JavaScript knows, as \x{HHHH}.
func widenEscapes(pattern string) string {
	if !strings.Contains(pattern, `\u`) {
		return pattern
	}
	var b strings.Builder
	for i := 0; i < len(pattern); i++ {
		switch {
		case pattern[i] != '\\' || i+1 == len(pattern):
			b.WriteByte(pattern[i])
		case pattern[i+1] == 'u' && i+6 <= len(pattern) && isHex(pattern[i+2:i+6]):
			b.WriteString(`\x{` + pattern[i+2:i+6] + `}`)
			i += 5
		default:
			b.WriteString(pattern[i : i+2])
			i++
		}
	}
	return b.String()
}

func isHex(s string) bool {
	_, err := strconv.ParseUint(s, 16, 32)
	return err == nil
}

// short is a text for messages.
func short(s string) string {
	if r := []rune(s); len(r) > 60 {
		s = string(r[:60]) + "…"
	}
	return strconv.Quote(s)
}
