package jinja

import (
	"html"
	"regexp"
	"strings"
)

// striptags takes tags and comments out of a text, makes whitespace single blanks and resolves entities.
func (ev *evaluator) striptags(s string) string {
	ev.work(len(s) / 8)
	w := &writer{ev: ev}
	pos := 0
	for {
		start := strings.IndexByte(s[pos:], '<')
		if start < 0 {
			break
		}
		start += pos
		mark, skip := ">", 0
		if strings.HasPrefix(s[start:], "<!--") {
			mark, skip = "-->", 4
		}
		if start+skip > len(s) {
			break
		}
		end := strings.Index(s[start+skip:], mark)
		if end < 0 {
			break
		}
		w.add(s[pos:start])
		pos = start + skip + end + len(mark)
	}
	w.add(s[pos:])
	s = w.String()
	ev.alloc(2 * int64(len(s)))
	return ev.unescape(strings.Join(strings.FieldsFunc(s, isSpace), " "))
}

func (ev *evaluator) unescape(s string) string {
	ev.work(len(s) / 8)
	ev.alloc(int64(len(s)))
	return html.UnescapeString(s)
}

var (
	httpURL = regexp.MustCompile(`(?i)^((https?://|www\.)(([\w%-]+\.)+)?([a-z]{2,63}|xn--[\w%]{2,59})|([\w%-]{2,63}\.)+(com|net|int|edu|gov|org|info|mil)|(https?://)((([\d]{1,3})(\.[\d]{1,3}){3})|(\[([\da-f]{0,4}:){2}([\da-f]{0,4}:?){1,6}\])))(:[\d]{1,5})?([/?#]\S*)?$`)
	mailURL = regexp.MustCompile(`^\S+@\w[\w.-]*\.\w+$`)
	scheme  = regexp.MustCompile(`^([\w.+-]{2,}:(/){0,2})$`)
	opening = regexp.MustCompile(`^([(<]|&lt;)+`)
	closing = regexp.MustCompile(`([)>.,\n]|&gt;)+$`)
	blanks  = regexp.MustCompile(`\s+`)
)

func filterURLize(ev *evaluator, v value, a *args) value {
	p := ev.bind("urlize", a, []string{"trim_url_limit", "nofollow", "target", "rel", "extra_schemes"}, 0)
	rels := map[string]bool{"noopener": true}
	if p[1] != missing && ev.truth(p[1]) {
		rels["nofollow"] = true
	}
	if r, ok := text(or(p[3], nil)); ok {
		for _, part := range strings.FieldsFunc(r, isSpace) {
			ev.alloc(64)
			rels[part] = true
		}
	}
	var names []value
	for r := range rels {
		names = append(names, r)
	}
	attrs := ` rel="` + string(ev.escape(ev.joinItems(" ", each(ev.sorted(names, names, missing)), ev.str))) + `"`
	if t := or(p[2], nil); t != nil && ev.truth(t) {
		attrs += ` target="` + string(ev.escape(t)) + `"`
	}
	var schemes []string
	if extra := or(p[4], nil); extra != nil {
		for _, e := range ev.items(extra) {
			s := ev.textArg("extra_schemes", e)
			if !scheme.MatchString(s) {
				ev.fail("FilterArgumentError", "%s is not a valid URI scheme prefix.", ev.repr(s))
			}
			schemes = append(schemes, s)
		}
	}
	limit := or(p[0], nil)
	s := string(ev.escape(v))
	ev.work(8 * len(s)) // four patterns for each word
	ev.alloc(int64(len(s)))
	w := &writer{ev: ev}
	for s != "" {
		at := blanks.FindStringIndex(s)
		if at == nil {
			at = []int{len(s), len(s)}
		}
		w.add(ev.urlizeWord(s[:at[0]], attrs, schemes, limit))
		w.add(s[at[0]:at[1]])
		s = s[at[1]:]
	}
	return marked(w.String(), ev.autoescape)
}

func (ev *evaluator) urlizeWord(word, attrs string, schemes []string, limit value) string {
	head := opening.FindString(word)
	middle := word[len(head):]
	tail := closing.FindString(middle)
	middle = middle[:len(middle)-len(tail)]
	for _, pair := range [][2]string{{"(", ")"}, {"<", ">"}, {"&lt;", "&gt;"}} {
		open := strings.Count(middle, pair[0])
		if open <= strings.Count(middle, pair[1]) {
			continue
		}
		for range min(open, strings.Count(tail, pair[1])) {
			end := strings.Index(tail, pair[1]) + len(pair[1])
			ev.alloc(int64(len(middle) + end))
			middle += tail[:end]
			tail = tail[end:]
		}
	}
	shown := middle
	if limit != nil && httpURL.MatchString(middle) && ev.holds(">", int64(ev.count(middle)), limit) {
		_, _, _, n := ev.span(nil, limit, nil, int64(ev.count(middle)))
		shown = ev.cut(middle, n) + "..."
	}
	ev.alloc(3*int64(len(word)) + int64(len(attrs)) + 64)
	switch {
	case httpURL.MatchString(middle):
		to := middle
		if !strings.HasPrefix(middle, "https://") && !strings.HasPrefix(middle, "http://") {
			to = "https://" + middle
		}
		middle = `<a href="` + to + `"` + attrs + `>` + shown + `</a>`
	case strings.HasPrefix(middle, "mailto:") && mailURL.MatchString(middle[7:]):
		middle = `<a href="` + middle + `">` + middle[7:] + `</a>`
	case strings.Contains(middle, "@") && !strings.HasPrefix(middle, "www.") && middle[0] != '@' && !strings.Contains(middle, ":") && mailURL.MatchString(middle):
		middle = `<a href="mailto:` + middle + `">` + middle + `</a>`
	default:
		for _, s := range schemes {
			if middle != s && strings.HasPrefix(middle, s) {
				middle = `<a href="` + middle + `"` + attrs + `>` + middle + `</a>`
			}
		}
	}
	return head + middle + tail
}
