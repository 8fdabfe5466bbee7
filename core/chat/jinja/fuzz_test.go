//go:build linux

package jinja_test

import (
	"errors"
	"flag"
	"maps"
	"runtime"
	"slices"
	"syscall"
	"testing"
	"time"

	"edged/core/chat/jinja"
	"edged/core/chat/jinja/value"
)

// slow is how much of a processor's time one input may take. Tests do not ask for it; fuzzing by hand does:
//
//	go test ./core/chat/jinja -run '^$' -fuzz FuzzRender -fuzztime 10m -slow 200ms
var slow = flag.Duration("slow", 0, "how much processor time one fuzzed template may take; 0: not measured")

// fuzzContext is what fuzzed templates see: a value of each kind.
const fuzzContext = `{"messages":[{"role":"user","content":"Hi <x>"},{"role":"assistant","content":"é\n","tool_calls":[{"function":{"name":"f","arguments":{"a":1.0,"b":[null,true]}}}]}],
	"tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object","properties":{"items":{"type":"string"}}}}}],
	"n":3,"f":2.5,"big":12345678901234567890123,"s":"Hello World","l":[3,1,2],"d":{"b":2,"a":1,"items":[1]},"z":null,"t":true,"e":{}}`

// FuzzRender: whatever a template is, it ends within its bounds, in time and in memory, with a text or an error.
func FuzzRender(f *testing.F) {
	if named := hostile(); *slow > 0 { // tests run them in TestHostile
		for _, name := range slices.Sorted(maps.Keys(named)) {
			f.Add(named[name])
		}
	}
	for _, source := range []string{
		`{% for m in messages %}{{ m['content'] | trim }}{% if not loop.last %}, {% endif %}{% endfor %}`,
		`{% macro f(a, b=2) %}{{ a | tojson(indent=2) }}{{ caller() if caller }}{% endmacro %}{{ f(messages) }}{% call(x) f(1) %}{{ x }}{% endcall %}`,
		`{%- set ns = namespace(x=0) -%}{%- for i in l if i > 1 -%}{%- set ns.x = ns.x + i -%}{%- else -%}e{%- endfor -%}{{ ns.x }}`,
		`{% filter upper %}{% with a = s, b = 1 %}{{ a[::-1] ~ b }}{% endwith %}{% endfilter %}{% raw %}{{ x }}{% endraw %}{# c #}`,
		`{{ "%05.1f|%-5s|%x" % (f, s, n) }}{{ "{:>10}{0!r}".format(s) }}{{ l|sort|map('string')|join(',') }}{{ d.items()|list }}`,
		`{% set x %}{% generation %}a{% endgeneration %}{% endset %}{{ x }}{% autoescape true %}{{ '<' ~ x }}{% endautoescape %}`,
		`{{ messages|selectattr('role', 'eq', 'user')|map(attribute='content')|first }}{{ tools|tojson }}{{ big ** 3 // 7 % 5 }}`,
		`{% for a in [1, [2]] recursive %}{{ loop(a) if a is iterable else a }}{% endfor %}{{ raise_exception('no') }}`,
	} {
		f.Add(source)
	}
	in := input(f, []byte(fuzzContext))
	in.Now = func() time.Time { return time.Unix(1767322800, 0) }
	f.Fuzz(func(t *testing.T, source string) {
		if len(source) > 64<<10 {
			return
		}
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		var took time.Duration
		var err error
		for try := 0; try == 0 || *slow > 0 && took > *slow && try < 3; try++ { // a collection of garbage is not its fault
			started := threadTime(t)
			var tmpl *jinja.Template
			if tmpl, err = jinja.Compile(source); err == nil {
				_, err = tmpl.Render(t.Context(), in)
			}
			took = threadTime(t) - started
		}
		runtime.ReadMemStats(&after)
		var failed *value.Error
		var raised *value.RaisedError
		if err != nil && !errors.As(err, &failed) && !errors.As(err, &raised) && !errors.Is(err, value.ErrRunaway) {
			t.Errorf("an error of no kind: %v", err)
		}
		if grown := after.HeapSys - min(before.HeapSys, after.HeapSys); grown > 64<<20 {
			t.Errorf("the heap grew by %d MiB", grown>>20)
		}
		if *slow > 0 && took > *slow {
			t.Errorf("took %v: %.200q", took, source)
		}
	})
}

// threadTime is the processor time that this thread has had.
func threadTime(t *testing.T) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_THREAD, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
