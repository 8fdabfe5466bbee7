//go:build linux

package jinja_test

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"edged/core/chat/jinja"
	"edged/core/chat/jinja/variables"
)

// TestLongTexts applies every filter, test and text method to long texts of each kind: none takes time out of proportion, and none more
// than -slow of it where that is given, with the long set. A template may do each of them once, so none may be its square.
func TestLongTexts(t *testing.T) {
	arguments := []string{"", "1", "60000", "'a'", "' '", "'-'", "'é'", "none", "'a', 'bb'", "'', 'x'", "'a', 1", "1, 1", "3, true, ' '", "1, false", "attribute='a'", "'%s'"}
	methods := strings.Fields(`capitalize casefold center count endswith expandtabs find format format_map index isalnum isalpha isascii isdecimal
		isdigit isidentifier islower isnumeric isprintable isspace istitle isupper join ljust lower lstrip partition removeprefix removesuffix
		replace rfind rindex rjust rpartition rsplit rstrip split splitlines startswith strip swapcase title translate upper zfill`)
	filters := strings.Fields(`abs attr batch capitalize center count default dictsort escape filesizeformat first float forceescape format
		groupby indent int items join last length list lower map max min pprint random reject rejectattr replace reverse round safe select
		selectattr slice sort string striptags sum title tojson trim truncate unique upper urlencode urlize wordcount wordwrap xmlattr`)
	tests := strings.Fields(`boolean callable defined divisibleby eq escaped even false filter float ge gt in integer iterable le lower lt mapping
		ne none number odd sameas sequence string test true undefined upper`)
	units := []string{"a", " ", "a ", "a!", "-", "a-", "\n", "\u00a0", "é", "<", "<a>", "&", "%", "{", "9", ".", "'", "http://a.b ", "İ", "\x01", "😀"}
	if *slow == 0 {
		arguments, units = []string{"", "1", "'a', 'bb'"}, []string{"a!é < "}
	}
	var ways []string
	for _, a := range arguments {
		for _, m := range methods {
			ways = append(ways, "s."+m+"("+a+")")
		}
		for _, f := range filters {
			ways = append(ways, "s|"+f+"("+a+")|list|length", "s|"+f+"("+a+")|string|length", "l|"+f+"("+a+")|list|length")
		}
		for _, name := range tests {
			ways = append(ways, "s is "+name+"("+a+")")
		}
	}
	ways = append(ways, "s % 1", "s % (1, 2)", "'%s' % s", "s[::-1]", "s[::2]", "s[-1]", "s in s", "s ~ s == s ~ s", "'{}'.format(s)", "s < s ~ 'b'",
		"{s: 1}[s]", "[s, s]|unique|list|length", "l|pprint|length", "[l, l]|string|length", "l == l ~ ''", "l|join(s[:100])|length", "strftime_now(s)|length")
	in := input(t, []byte(`{}`))
	in.Now = func() time.Time { return time.Unix(1, 0) }
	worst, which := time.Duration(0), ""
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for _, unit := range units {
		for _, way := range ways {
			source := "{% set s = u * 20000 %}{{ " + way + " }}"
			if strings.Contains(way, "l|") || strings.Contains(way, "l ") || strings.Contains(way, "[l") {
				source = "{% set s = u * 20000 %}{% set l = s|list %}{{ " + way + " }}"
			}
			tmpl, err := jinja.Compile(source)
			if err != nil {
				continue // there is no such filter or test
			}
			vars := &variables.Object{}
			vars.Set("u", variables.Text(unit))
			in.Variables = vars
			var took time.Duration
			for try := 0; try == 0 || *slow > 0 && took > *slow && try < 3; try++ {
				began := threadTime(t)
				_, _ = tmpl.Render(t.Context(), in)
				took = threadTime(t) - began
			}
			if took > worst {
				worst, which = took, fmt.Sprintf("%q: %s", unit, way)
			}
			if *slow > 0 && took > *slow {
				t.Errorf("%q: %s takes %v", unit, way, took)
			}
		}
	}
	t.Logf("the slowest takes %v: %s", worst, which)
}
