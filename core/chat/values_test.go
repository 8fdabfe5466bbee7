//go:build linux

package chat_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"edged/core/chat"
	"edged/test/oracle"
)

// What rendering one conversation of 64 kB may cost: the time of a thread, which is asserted while fuzzing and not in tests, whose
// machine may be busy or small, and the bytes by which the heap grows.
const (
	mostTime  = 200 * time.Millisecond
	mostBytes = 64 << 20
)

// spent are the processor time of this thread, and the heap.
func spent(t *testing.T) (time.Duration, uint64) {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_THREAD, &u); err != nil {
		t.Fatal(err)
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()), m.HeapSys
}

// readers are templates that look at all of what they are given, in each of the ways in which chat templates do.
func readers(tb testing.TB) map[string]*chat.Template {
	tb.Helper()
	out := map[string]*chat.Template{}
	add := func(name, source string) {
		if tmpl, err := chat.Compile(source); err == nil {
			out[name] = tmpl
		}
	}
	for i, source := range []string{
		`{{ messages }}{{ tools }}{{ vars }}{{ messages|string|length }}`,
		`{{ messages|tojson }}{{ tools|tojson(indent=4) }}{% for m in messages %}{{ m|tojson(sort_keys=true) }}{% endfor %}`,
		`{% macro walk(v) %}{% if v is mapping %}{% for k, x in v|dictsort %}{{ k }}={{ walk(x) }}{% endfor %}{% elif v is string %}{{ v|trim|e }}{% ` +
			`elif v is iterable %}{% for x in v %}{{ walk(x) }}{% endfor %}{% else %}{{ v }}{% endif %}{% endmacro %}{{ walk(messages) }}{{ walk(tools) }}{{ walk(vars) }}`,
		`{% for m in messages %}{{ m.role|upper }}{% for n in messages if n.role == m.role %}{{ n.content == m.content }}{% endfor %}{% endfor %}`,
		`{% for m in messages %}{{ m.content.split('</think>')[-1].strip('\n').replace(' ', '  ')|title }}{{ m.content[::-1]|indent }}{% endfor %}`,
		`{{ messages|map(attribute='content')|map('string')|sort|unique|join(', ') }}{{ tools|groupby('type')|list }}{{ messages|sum(start=[])|string }}`,
		`{% for k, v in vars.items() %}{{ "%s %r" % (k, v) }}{{ v * 3 + v }}{{ v ** 2 }}{{ v|int }}{{ v|float|round(3) }}{{ v ~ v }}{% endfor %}`,
		`{{ messages == tools }}{{ messages in [tools] }}{{ vars|dictsort(by='value') }}{{ [messages, messages]|min }}{{ {vars|string: 1} }}`,
	} {
		add(fmt.Sprint("own ", i), source)
	}
	dir, _ := filepath.Glob(filepath.Join(oracle.Dir(tb), "text", "chat", "templates", "*"))
	for _, path := range dir {
		if source, err := os.ReadFile(path); err == nil {
			add(filepath.Base(path), string(source))
		}
	}
	return out
}

// hostileValues are messages that are made to be slow to read, compare or print.
func hostileValues() map[string]string {
	user := func(content string) string { return `[{"role":"user","content":` + content + `}]` }
	many := func(n int, item string) string {
		return "[" + strings.Repeat(item+",", n-1) + item + "]"
	}
	nested := func(n int, open, inner, end string) string {
		return strings.Repeat(open, n) + inner + strings.Repeat(end, n)
	}
	var keys strings.Builder
	for i := range 5000 {
		fmt.Fprintf(&keys, `"k%d":%d,`, i, i)
	}
	return map[string]string{
		"digits":        user(strings.Repeat("9", 60_000)),
		"4,300 digits":  user(many(14, strings.Repeat("9", 4300))),
		"a large power": user(`[1e308,-1e308,1e-400,1e99999999,0.1e-99999999]`),
		"long decimals": user("0." + strings.Repeat("1", 60_000)),
		"deep lists":    user(nested(199, "[", "1", "]")),
		"too deep":      user(nested(30_000, "[", "", "]")),
		"deep objects":  user(nested(150, `{"content":`, `"x"`, "}")),
		"wide":          user("{" + keys.String() + `"z":null}`),
		"same keys":     user("{" + strings.Repeat(`"a":1,`, 9000) + `"a":2}`),
		"messages":      many(1800, `{"role":"user","content":"x"}`),
		"calls":         many(400, `{"role":"assistant","content":null,"tool_calls":[{"function":{"name":"f","arguments":{"a":[1.0,null,"é"]}}}]}`),
		"control":       user(`"` + strings.Repeat(`\u0001`, 10_000) + `"`),
		"surrogates":    user(`"` + strings.Repeat(`\ud83d\ude00\ud800`, 3000) + `"`),
		"markup":        user(`"` + strings.Repeat("<&>'{{", 10_000) + `"`),
		"line ends":     user(`"` + strings.Repeat(`\n`, 30_000) + `"`),
		"thinking":      user(`"` + strings.Repeat("<think></think>", 4000) + `"`),
		"combining":     user(`"` + strings.Repeat("İΐß", 9000) + `"`),
		"methods":       `[{"role":"user","content":"x","items":1,"get":2,"keys":3,"update":{"a":1},"__class__":4}]`,
		"a text":        `"messages"`,
		"nothing":       `null`,
	}
}

// renders renders a conversation by a template, and holds it to its cost: not more than most, 0 for no bound on time.
func renders(t *testing.T, name string, tmpl *chat.Template, in chat.Input, most time.Duration) {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var took time.Duration
	for try := 0; ; try++ { // a collection of garbage on this thread is not its fault
		began, before := spent(t)
		_, err := tmpl.Render(t.Context(), in)
		ended, after := spent(t)
		took = ended - began
		if grown := after - min(before, after); grown > mostBytes {
			t.Errorf("%s: the heap grew by %d MiB (%v)", name, grown>>20, err)
		}
		if most == 0 || took <= most {
			return
		}
		if try == 2 {
			t.Errorf("%s: took %v (%v)", name, took, err)
			return
		}
	}
}

// TestHostileValues: whatever a conversation holds, templates end within their bounds, with a text or an error.
func TestHostileValues(t *testing.T) {
	all := readers(t)
	for name, messages := range hostileValues() {
		for reader, tmpl := range all {
			if !strings.HasPrefix(reader, "own") && os.Getenv("EDGED_SOAK") != "1" {
				continue
			}
			in := chat.Input{Messages: json.RawMessage(messages), Variables: json.RawMessage(`{"vars":` + messages + `}`), AddGenerationPrompt: true, Now: time.Unix(1, 0)}
			if name == "calls" {
				in.Tools = in.Messages
			}
			renders(t, name+" by "+reader, tmpl, in, 0)
		}
	}
}

// FuzzValues: the same for whatever messages, tools and variables are.
func FuzzValues(f *testing.F) {
	all := readers(f)
	var names []string
	for name := range all {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, messages := range hostileValues() {
		for i := range 8 {
			f.Add(uint8(i), []byte(messages), []byte(`[{"type":"function","function":{"name":"f"}}]`), []byte(`{"vars":`+messages+`}`))
		}
	}
	for i := range names {
		f.Add(uint8(i), []byte(`[{"role":"user","content":"x"},{"role":"assistant","content":"","reasoning":"r"}]`), []byte(`[]`), []byte(`{"enable_thinking":true}`)) //nolint:gosec // fewer than 256
	}
	most := time.Duration(0)
	if flag.Lookup("test.fuzz").Value.String() != "" || flag.Lookup("test.fuzzworker").Value.String() == "true" {
		most = mostTime
	}
	f.Fuzz(func(t *testing.T, which uint8, messages, tools, variables []byte) {
		if len(messages)+len(tools)+len(variables) > 128<<10 {
			return
		}
		name := names[int(which)%len(names)]
		renders(t, name, all[name], chat.Input{Messages: messages, Tools: tools, Variables: variables, Now: time.Unix(1, 0)}, most)
	})
}
