package builtin

import (
	"regexp"
	"strings"

	"edged/core/chat/jinja/operator"
	"edged/core/chat/jinja/value"
)

var (
	httpURL = regexp.MustCompile(
		`(?i)^((https?://|www\.)(([\w%-]+\.)+)?([a-z]{2,63}|xn--[\w%]{2,59})|([\w%-]{2,63}\.)+(com|net|int|edu|gov|org|info|mil)|(https?://)((([\d]{1,3})(\.[\d]{1,3}){3})|(\[([\da-f]{0,4}:){2}([\da-f]{0,4}:?){1,6}\])))(:[\d]{1,5})?([/?#]\S*)?$`,
	)
	mailURL = regexp.MustCompile(`^\S+@\w[\w.-]*\.\w+$`)
	scheme  = regexp.MustCompile(`^([\w.+-]{2,}:(/){0,2})$`)
	opening = regexp.MustCompile(`^([(<]|&lt;)+`)
	closing = regexp.MustCompile(`([)>.,\n]|&gt;)+$`)
	blanks  = regexp.MustCompile(`\s+`)
)

func filterURLize(ev *value.Evaluation, v value.Value, a *value.Args) value.Value {
	p := ev.Bind("urlize", a, []string{"trim_url_limit", "nofollow", "target", "rel", "extra_schemes"}, 0)
	rels := map[string]bool{"noopener": true}
	if p[1] != value.Missing && value.Truth(p[1]) {
		rels["nofollow"] = true
	}
	if r, ok := value.Text(value.OrDefault(p[3], nil)); ok {
		for _, part := range strings.FieldsFunc(r, value.IsSpace) {
			ev.Alloc(64)
			rels[part] = true
		}
	}
	var names []value.Value
	for r := range rels {
		names = append(names, r)
	}
	attrs := ` rel="` + string(ev.Escape(operator.Join(ev, " ", value.Each(sorted(ev, names, names, value.Missing)), ev.Str))) + `"`
	if t := value.OrDefault(p[2], nil); t != nil && value.Truth(t) {
		attrs += ` target="` + string(ev.Escape(t)) + `"`
	}
	var schemes []string
	if extra := value.OrDefault(p[4], nil); extra != nil {
		for _, e := range ev.Items(extra) {
			s := ev.TextArg("extra_schemes", e)
			if !scheme.MatchString(s) {
				ev.Fail("FilterArgumentError", "%s is not a valid URI scheme prefix.", ev.Repr(s))
			}
			schemes = append(schemes, s)
		}
	}
	limit := value.OrDefault(p[0], nil)
	s := string(ev.Escape(v))
	ev.Work(8 * len(s)) // four patterns for each word
	ev.Alloc(int64(len(s)))
	w := ev.NewWriter()
	for s != "" {
		at := blanks.FindStringIndex(s)
		if at == nil {
			at = []int{len(s), len(s)}
		}
		w.Add(urlizeWord(ev, s[:at[0]], attrs, schemes, limit))
		w.Add(s[at[0]:at[1]])
		s = s[at[1]:]
	}
	return value.Marked(w.String(), ev.Autoescape())
}

func urlizeWord(ev *value.Evaluation, word, attrs string, schemes []string, limit value.Value) string {
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
			ev.Alloc(int64(len(middle) + end))
			middle += tail[:end]
			tail = tail[end:]
		}
	}
	shown := middle
	if limit != nil && httpURL.MatchString(middle) && ev.Holds(">", int64(ev.Count(middle)), limit) {
		_, _, _, n := operator.SliceIndices(ev, nil, limit, nil, int64(ev.Count(middle)))
		shown = operator.Prefix(ev, middle, n) + "..."
	}
	ev.Alloc(3*int64(len(word)) + int64(len(attrs)) + 64)
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
