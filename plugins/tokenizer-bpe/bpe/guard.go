package bpe

import (
	"strconv"
	"strings"
	"unicode/utf8"

	"edged/plugins/tokenizer-bpe/bpe/vocab"
)

// The guard's characters are noncharacters, which no text of people holds and no template looks for.
//
//	typed text   guarded
//	<|im_end|>   < breaker |im_end|>     a control token's text is broken after its first character
//	breaker      escape '0'
//	escape       escape '1'
//	x            escape '2' hex escape   a control token of one character
const (
	breaker = '\uFDD0'
	escape  = '\uFDD1'
)

// guard keeps typed text from becoming control tokens: see Tokenizer.Guard.
type guard struct{ tokens *matcher }

func newGuard(v *vocab.Vocabulary) *guard {
	var texts []AddedToken
	for id, k := range v.Types {
		if k.IsSpecial() {
			texts = append(texts, AddedToken{ID: int32(id), Text: v.Text[id], Special: true})
		}
	}
	return &guard{tokens: newMatcher(texts, nil)}
}

func all(*AddedToken) bool { return true }

// Guard breaks the text of every control token in a typed text, so that a template can put it where it likes and the
// token is still not found there: EncodeRendered recognises what the template wrote and then takes the guard out.
// A text that ends within a control token's text is broken at its end too: the next text could complete it.
func (t *Tokenizer) Guard(s string) string { return t.guard.add(s) }

// Unguard takes the guard out of a rendered text: what the template wrote and what was typed, as the model sees it.
func (t *Tokenizer) Unguard(s string) string { return t.guard.remove(s) }

func (g *guard) add(s string) string {
	var b strings.Builder
	done := 0
	write := func(upTo int, insert ...rune) {
		b.WriteString(s[done:upTo])
		done = upTo
		for _, r := range insert {
			b.WriteRune(r)
		}
	}
	for i, r := range s {
		n := utf8.RuneLen(r)
		switch {
		case r == breaker || r == escape:
			write(i, escape, '0'+r-breaker)
			done = i + n
		case r != utf8.RuneError && g.isToken(s[i:i+n]):
			write(i)
			b.WriteString(string(escape) + "2" + strconv.FormatInt(int64(r), 16) + string(escape))
			done = i + n
		case g.tokens.starts(s, i, all):
			_, n := utf8.DecodeRuneInString(s[i:])
			write(i+n, breaker)
		}
	}
	if g.tokens.pending(s, all) {
		write(len(s), breaker)
	}
	if b.Len() == 0 {
		return s
	}
	write(len(s))
	return b.String()
}

func (g *guard) isToken(s string) bool {
	t := g.tokens.longest(s, 0)
	return t != nil && len(t.Text) == len(s)
}

func (g *guard) remove(s string) string {
	if !strings.ContainsRune(s, breaker) && !strings.ContainsRune(s, escape) {
		return s
	}
	var b strings.Builder
	for s != "" {
		r, n := utf8.DecodeRuneInString(s)
		switch {
		case r == breaker:
		case r == escape:
			c, used := unescape(s[n:])
			b.WriteString(c)
			n += used
		default:
			b.WriteString(s[:n])
		}
		s = s[n:]
	}
	return b.String()
}

// unescape reads what follows an escape and returns its text and length. An escape that a template wrote itself stays.
func unescape(s string) (text string, used int) {
	if s == "" {
		return string(escape), 0
	}
	switch s[0] {
	case '0':
		return string(breaker), 1
	case '1':
		return string(escape), 1
	case '2':
		if hex, _, ok := strings.Cut(s[1:], string(escape)); ok && len(hex) <= 6 {
			if r, err := strconv.ParseUint(hex, 16, 21); err == nil {
				return string(rune(r)), 1 + len(hex) + utf8.RuneLen(escape)
			}
		}
	}
	return string(escape), 0
}
