package jinja_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"edged/core/chat/jinja"
	"edged/core/chat/jinja/value"
)

// hostile are templates that would take for ever, or all memory, where nothing counted them.
func hostile() map[string]string {
	ns := `{% set ns = namespace(x='aaaaaaaaaaaaaaaa', l=[1], n=2, g=[1]) %}`
	forever := `{% for a in range(99999) %}{% for b in range(99999) %}`
	end := `{% endfor %}{% endfor %}`
	return map[string]string{
		"text times number":         `{{ 'a' * 10**9 }}`,
		"list times number":         `{{ ([0] * 10**9)|length }}`,
		"tuple times huge":          `{{ ((0,) * 10**18)|length }}`,
		"loops":                     forever + end,
		"loops of nothing":          `{% for a in range(99999) %}{% for b in [] %}{% endfor %}{{ range(99999)|list|length }}{% endfor %}`,
		"range":                     `{% for a in range(100000000000) %}{% endfor %}`,
		"doubling text":             ns + `{% for a in range(99) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}{{ ns.x|length }}`,
		"doubling by +":             ns + `{% for a in range(99) %}{% set ns.x = ns.x + ns.x %}{% endfor %}`,
		"doubling list":             ns + `{% for a in range(99) %}{% set ns.l = ns.l + ns.l %}{% endfor %}`,
		"doubling by replace":       ns + `{% for a in range(99) %}{% set ns.x = ns.x|replace('a', 'aa') %}{% endfor %}`,
		"replace blow-up":           ns + `{{ ('a' * 100000).replace('', 'b' * 100000)|length }}`,
		"join blow-up":              `{{ ('b' * 100000).join('a' * 100000)|length }}`,
		"join filter":               `{{ (range(99999)|join('b' * 100000))|length }}`,
		"squaring numbers":          ns + `{% for a in range(99) %}{% set ns.n = ns.n * ns.n %}{% endfor %}`,
		"power":                     `{{ 10 ** 10 ** 10 }}{{ 7 ** 99999999 }}`,
		"powers of powers":          `{% for i in range(9999) %}{% set x = (3 ** 80000) * (5 ** 20000) %}{% endfor %}`,
		"nested values printed":     ns + `{% for a in range(60) %}{% set ns.l = [ns.l, ns.l] %}{% endfor %}{{ ns.l }}`,
		"nested values as json":     ns + `{% for a in range(60) %}{% set ns.l = {'a': ns.l, 'b': ns.l} %}{% endfor %}{{ ns.l|tojson(indent=9) }}`,
		"nested values equal":       ns + `{% set ns.m = [1] %}{% for a in range(60) %}{% set ns.l = [ns.l, ns.l] %}{% set ns.m = [ns.m, ns.m] %}{% endfor %}{{ ns.l == ns.m }}`,
		"nested tuples as keys":     ns + `{% set ns.t = (1,) %}{% for a in range(60) %}{% set ns.t = (ns.t, ns.t) %}{% endfor %}{{ {ns.t: 1} }}`,
		"deep values":               ns + `{% for a in range(99999) %}{% set ns.l = [ns.l] %}{% endfor %}{{ ns.l }}`,
		"deep generators":           ns + `{% for a in range(99999) %}{% set ns.g = ns.g|map('upper') %}{% endfor %}{{ ns.g|list }}`,
		"deep selects":              ns + `{% for a in range(99999) %}{% set ns.g = ns.g|select %}{% endfor %}{% for x in ns.g %}{% endfor %}`,
		"deep reversed":             ns + `{% for a in range(99999) %}{% set ns.g = ns.g|items %}{% endfor %}{{ ns.g|first }}`,
		"contains itself":           ns + `{% set ns.self = ns %}{{ ns }}`,
		"contains itself in a list": ns + `{% set ns.l = [ns, ns] %}{{ ns.l }}{{ ns.l == [ns, 1] }}{{ ns.l|tojson }}`,
		"json indent":               `{{ [[[[[[1]]]]]]|tojson(indent=10**9) }}`,
		"json indent of text":       `{{ [[[[[[[[1]]]]]]]]|tojson(indent='a' * 9999999) }}`,
		"json separators":           `{{ range(99999)|list|tojson(separators=('a' * 99999, ':'))|length }}`,
		"width of %":                `{{ '%999999999d' % 1 }}`,
		"precision of %":            `{{ '%.999999999f' % 1.5 }}`,
		"star width of %":           `{{ '%*d' % (10**12, 1) }}`,
		"width of format":           `{{ '{:>999999999}'.format('a') }}`,
		"zeros of format":           `{{ '{:0999999999,}'.format(1) }}`,
		"nested format":             `{{ '{:{}}'.format('a', 999999999) }}`,
		"center":                    `{{ 'a'.center(10**10) }}`,
		"center filter":             `{{ 'a'|center(10**10) }}`,
		"zfill":                     `{{ 'a'.zfill(10**10) }}`,
		"ljust":                     `{{ 'a'.ljust(10**18)|length }}`,
		"expandtabs":                `{{ '\t\t\t'.expandtabs(10**12) }}`,
		"indent":                    `{{ ('a\n' * 99999)|indent(99999) }}`,
		"indent by text":            `{{ ('a\n' * 99999)|indent('b' * 99999) }}`,
		"batch fill":                `{{ [1]|batch(10**12, 0)|list|length }}`,
		"slice of many":             `{{ [1]|slice(10**12)|list|length }}`,
		"wordwrap":                  `{{ ('a ' * 99999)|wordwrap(1, wrapstring='b' * 99999) }}`,
		"truncate":                  `{{ ('a' * 99999)|truncate(50000, end='b' * 40000) }}` + forever + end,
		"recursion":                 `{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}`,
		"mutual recursion":          `{% macro g() %}{{ f() }}{% endmacro %}{% macro f() %}{{ g() }}{{ g() }}{% endmacro %}{{ f() }}`,
		"branching recursion":       `{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(150) }}`,
		"recursive loop":            `{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}`,
		"callers":                   `{% macro f() %}{% call f() %}{% endcall %}{% endmacro %}{{ f() }}`,
		"output":                    forever + `{{ 'a' * 100 }}` + end,
		"set block":                 ns + forever + `{% set ns.x %}{{ ns.x }}{{ ns.x }}{% endset %}` + end,
		"filter block":              forever + `{% filter upper %}{{ 'ß' * 1000 }}{% endfilter %}` + end,
		"upper grows":               `{{ ('ΐ' * 9999999)|upper|length }}`,
		"escape grows":              `{{ ('&' * 9999999)|e|length }}`,
		"urlencode grows":           `{{ ('é' * 5000000)|urlencode|length }}`,
		"repr grows":                `{{ [('\x01' * 9999999)]|string|length }}`,
		"find in long text":         `{% set s = 'a' * 9999999 %}{% for i in range(99999) %}{% if s.find('b') > 0 %}{% endif %}{% endfor %}`,
		"in long text":              `{% set s = 'a' * 9999999 %}{% for i in range(99999) %}{{ 'b' in s }}{% endfor %}`,
		"length of long text":       `{% set s = 'é' * 4999999 %}{% for i in range(99999) %}{{ s|length }}{% endfor %}`,
		"index of long text":        `{% set s = 'é' * 4999999 %}{% for i in range(99999) %}{{ s[4000000] }}{% endfor %}`,
		"strip of long text":        `{% set s = 'ab' * 4999999 %}{% for i in range(99999) %}{{ s.strip('ab') }}{% endfor %}`,
		"equal long texts":          `{% set s = 'a' * 9999999 %}{% set t = 'a' * 9999999 %}{% for i in range(99999) %}{{ s == t }}{% endfor %}`,
		"split of long text":        `{% set s = 'a ' * 999999 %}{% for i in range(99999) %}{{ s.split()|length }}{% endfor %}`,
		"sort":                      `{% set s = range(99999)|list %}{% for i in range(99999) %}{{ s|sort|length }}{% endfor %}`,
		"sort of long texts":        `{% set s = ['a' * 5000000, 'a' * 5000000 ~ 'b'] %}{% for i in range(99999) %}{{ s|sort|length }}{% endfor %}`,
		"unique":                    `{{ range(99999)|unique|list|length }}{{ range(99999)|map('string')|unique|list|length }}` + forever + end,
		"list in list":              `{% set s = range(99999)|list %}{% for i in range(99999) %}{{ i in s }}{% endfor %}`,
		"dict from keys":            `{{ dict.fromkeys(range(99999), 1)|length }}` + forever + end,
		"translate grows":           `{{ ('a' * 99999).translate({97: 'b' * 99999})|length }}`,
		"sum of lists":              `{{ ([range(999)|list] * 9999)|sum(start=[])|length }}`,
		"cycling joiner":            `{% set j = joiner('a' * 9999999) %}` + forever + `{{ j() }}` + end,
		"striptags":                 `{{ ('<' * 999999 ~ '>')|striptags }}` + forever + end,
		"urlize":                    `{% for i in range(999) %}{{ ('http://a.b ' * 9999)|urlize|length }}{% endfor %}`,
		"star arguments":            `{% macro f() %}{{ varargs|length }}{% endmacro %}{% for i in range(9999) %}{{ f(*range(99999)) }}{% endfor %}`,
		"format map":                `{% for i in range(99999) %}{{ ('{}' * 9999).format(*range(9999))|length }}{% endfor %}`,
		"loop length":               forever + `{{ loop.length }}{{ loop.cycle(1, 2) }}{{ loop.changed(1) }}` + end,
		"strftime":                  `{{ strftime_now('%c' * 2000000)|length }}`,
		"pprint":                    ns + `{% for a in range(60) %}{% set ns.l = [ns.l, ns.l] %}{% endfor %}{{ ns.l|pprint }}`,
		"xmlattr":                   `{% for i in range(9999) %}{{ {'a': 'b' * 99999}|xmlattr|length }}{% endfor %}`,
	}
}

// TestHostile holds every one of them to its bounds: an error that says which, a heap that stays small, and nothing left
// behind.
func TestHostile(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(50))
	for name, source := range hostile() {
		t.Run(name, func(t *testing.T) {
			tmpl, err := jinja.Compile(source)
			if err != nil {
				t.Fatal(err)
			}
			in := input(t, []byte(`{}`))
			in.Now = func() time.Time { return time.Unix(1, 0) }
			runtime.GC()
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			goroutines := runtime.NumGoroutine()
			got, err := tmpl.Render(t.Context(), in)
			runtime.ReadMemStats(&after)
			var failed *value.Error
			if !errors.Is(err, value.ErrRunaway) && !errors.As(err, &failed) {
				t.Errorf("gives %.60q, %v", got, err)
			}
			if made := after.TotalAlloc - before.TotalAlloc; after.HeapSys > before.HeapSys+64<<20 {
				t.Errorf("the heap grew by %d MiB, %d MiB were made", (after.HeapSys-before.HeapSys)>>20, made>>20)
			}
			if n := runtime.NumGoroutine(); n > goroutines {
				t.Errorf("%d goroutines more", n-goroutines)
			}
		})
	}
}

// TestInterrupted ends a rendering from outside.
func TestInterrupted(t *testing.T) {
	tmpl, err := jinja.Compile(`{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}`)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		time.Sleep(5 * time.Millisecond)
		cancel()
	}()
	in := jinja.Input{Limits: jinja.Limits{Steps: 1 << 60}}
	if _, err := tmpl.Render(ctx, in); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
}

// TestCompileBounds has templates whose form alone is hostile.
func TestCompileBounds(t *testing.T) {
	const n = 100_000
	for name, source := range map[string]string{
		"brackets":    `{{ ` + strings.Repeat("(", n) + `1`,
		"lists":       `{{ ` + strings.Repeat("[", n) + `1`,
		"dicts":       `{{ ` + strings.Repeat("{1:", n) + `1`,
		"nots":        `{{ ` + strings.Repeat("not ", n) + `1 }}`,
		"signs":       `{{ ` + strings.Repeat("-", n) + `1 }}`,
		"sums":        `{{ 1` + strings.Repeat("+1", n) + ` }}`,
		"powers":      `{{ 1` + strings.Repeat("**1", n) + ` }}`,
		"attributes":  `{{ a` + strings.Repeat(".a", n) + ` }}`,
		"calls":       `{{ a` + strings.Repeat("()", n) + ` }}`,
		"filters":     `{{ a` + strings.Repeat("|e", n) + ` }}`,
		"tests":       `{{ a` + strings.Repeat(" is e", n) + ` }}`,
		"conditions":  `{{ 1` + strings.Repeat(" if 1", n) + ` }}`,
		"else":        `{{ 1` + strings.Repeat(" if 1 else 1", n) + ` }}`,
		"ifs":         strings.Repeat("{% if a %}", n),
		"fors":        strings.Repeat("{% for a in b %}", n),
		"macros":      strings.Repeat("{% macro a() %}", n),
		"with":        strings.Repeat("{% with %}", n),
		"long number": `{{ ` + strings.Repeat("9", n) + ` }}`,
		"dots":        `{{ a|a` + strings.Repeat(".a", n) + ` }}`,
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := jinja.Compile(source); err == nil {
				t.Error("compiles")
			}
		})
	}
	for name, source := range map[string]string{ // wide and not deep: these are fine, and quick
		"elifs": "{% if a %}" + strings.Repeat("{% elif a %}{% set b = 1 %}", 20_000) + "{% endif %}",
		"ifs":   strings.Repeat("{% if a %}{% set b = 1 %}{% endif %}", 15_000),
		"names": func() string {
			var b strings.Builder
			for i := range 15_000 {
				fmt.Fprintf(&b, "{%% if a %%}{%% set b%d = 1 %%}{%% endif %%}", i)
			}
			return b.String()
		}(),
		"tilde": "{{ 1" + strings.Repeat("~1", n) + " }}",
		"list":  "{{ [1" + strings.Repeat(",1", n) + "]|length }}",
	} {
		t.Run("wide "+name, func(t *testing.T) {
			tmpl, err := jinja.Compile(source)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := tmpl.Render(t.Context(), jinja.Input{}); err != nil {
				t.Error(err)
			}
		})
	}
}
