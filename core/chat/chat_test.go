package chat_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"edged/core/chat"
	"edged/test/oracle"
)

func TestOracle(t *testing.T) {
	dir := filepath.Join(oracle.Dir(t), "chat")
	file, err := os.ReadFile(filepath.Join(dir, "cases.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	scanner := bufio.NewScanner(bytes.NewReader(file))
	scanner.Buffer(nil, 1<<20)
	cases := 0
	for scanner.Scan() {
		var c struct {
			Template, Case, Now string
			Variables           json.RawMessage
			Text, Error         *string
		}
		if err := json.Unmarshal(scanner.Bytes(), &c); err != nil {
			t.Fatal(err)
		}
		cases++
		t.Run(c.Template+"/"+c.Case, func(t *testing.T) {
			source, err := os.ReadFile(filepath.Join(dir, "templates", c.Template+".jinja"))
			if err != nil {
				t.Fatal(err)
			}
			tmpl, err := chat.Compile(string(source))
			if err != nil {
				t.Fatal(err)
			}
			now, err := time.Parse("2006-01-02T15:04:05", c.Now)
			if err != nil {
				t.Fatal(err)
			}
			got, err := tmpl.Render(t.Context(), chat.Input{Variables: c.Variables, Now: now})
			if c.Error != nil {
				var raised *chat.RaisedError
				if !errors.As(err, &raised) || "TemplateError: "+raised.Message != *c.Error {
					t.Fatalf("got %q, %v; want the refusal %q", got, err, *c.Error)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(*c.Text, got); diff != "" {
				t.Error(diff)
			}
		})
	}
	if cases < 100 {
		t.Errorf("only %d cases", cases)
	}
}

func render(t *testing.T, source, vars string) (string, error) {
	t.Helper()
	tmpl, err := chat.Compile(source)
	if err != nil {
		return "", err
	}
	return tmpl.Render(t.Context(), chat.Input{Variables: json.RawMessage(vars), AddGenerationPrompt: true, BOS: "<s>", Now: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)})
}

// The wanted texts are what Python's jinja2 3.1 writes with trim_blocks and lstrip_blocks.
func TestRender(t *testing.T) {
	for name, c := range map[string]struct{ source, vars, want string }{
		"json keeps order":     {`{{ x | tojson }}`, `{"x":{"b":1,"a":[1.5,null,true,"ä\n<&\"\\"]}}`, `{"b": 1, "a": [1.5, null, true, "ä\n<&\"\\"]}`},
		"json indented":        {`{{ x | tojson(indent=2) }}`, `{"x":{"b":{"c":[]},"a":[1,2]}}`, "{\n  \"b\": {\n    \"c\": []\n  },\n  \"a\": [\n    1,\n    2\n  ]\n}"},
		"json floats":          {`{{ x | tojson }}`, `{"x":[1.0,1e16,1e-5,0.0001,123456789012]}`, `[1.0, 1e+16, 1e-05, 0.0001, 123456789012]`},
		"json sorted":          {`{{ x | tojson(sort_keys=true, separators=(',', ':')) }}`, `{"x":{"b":1,"a":"é"}}`, `{"a":"é","b":1}`},
		"loop trims":           {"{% for m in x %}\n  {{ m }}\n{% endfor %}\nend", `{"x":[1,2]}`, "  1\n  2\nend"},
		"loop dashes":          {"a {%- for m in x -%}  {{ m }} {%- endfor -%} b", `{"x":[1,2]}`, "a12b"},
		"nested set":           {"{% set ns = namespace(n=0) %}\n{% for m in x %}{% set ns.n = ns.n + m %}{% endfor %}{{ ns.n }}", `{"x":[1,2,3]}`, "6"},
		"macro":                {"{% macro f(a, b=2) %}\n[{{ a }}{{ b }}]\n{% endmacro %}\n{{ f(1) }}{{ f(1, b=3) }}", `{}`, "[12]\n[13]\n"},
		"closing mark in text": {`{{ "%}" }}{% set a = "}}" %}{{ a }}`, `{}`, "%}}}"},
		"raw":                  {`{% raw %}{{ y }}{% endraw %}x`, `{}`, "{{ y }}x"},
		"comment":              {"a{# {% for #}b", `{}`, "ab"},
		"clock":                {`{{ strftime_now("%d %b %Y, %-d %H:%M %j %A") }}`, `{}`, "02 Jan 2026, 2 03:04 002 Friday"},
		"ranges":               {`{% for i in range(3) %}{{ i }}{% endfor %}{% for i in range(4, 0, -2) %}{{ i }}{% endfor %}`, `{}`, "01242"},
		"bos":                  {`{{ bos_token }}{{ add_generation_prompt }}`, `{}`, "<s>True"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := render(t, c.source, c.vars)
			if err != nil || got != c.want {
				t.Errorf("got %q, %v; want %q", got, err, c.want)
			}
		})
	}
}

func TestBounds(t *testing.T) {
	for name, source := range map[string]string{
		"loops":     `{% for a in range(9999) %}{% for b in range(9999) %}{% for c in range(9999) %}{% endfor %}{% endfor %}{% endfor %}`,
		"range":     `{% for a in range(100000000000) %}{% endfor %}`,
		"recursion": `{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}`,
		"doubling":  `{% set ns = namespace(x='aaaaaaaaaaaaaaaa') %}{% for a in range(200) %}{% set ns.x = ns.x ~ ns.x %}{% for b in range(70) %}{% endfor %}{% endfor %}`,
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := render(t, source, `{}`); !errors.Is(err, chat.ErrRunaway) {
				t.Errorf("got %v, want ErrRunaway", err)
			}
		})
	}
}

func TestBadTemplates(t *testing.T) {
	for _, source := range []string{
		`{% for %}`, `{{ x `, `{% if x %}`, `{# never closed`, `{{ ` + strings.Repeat("(", 200) + `1` + strings.Repeat(")", 200) + ` }}`,
		strings.Repeat("a", chat.MaxSource+1), `{{ x.y.z() }}`, `{{ undefined_function() }}`, `{{ messages[0]['content'].read() }}`,
	} {
		if got, err := render(t, source, `{}`); err == nil {
			t.Errorf("%.40q gives %q, want an error", source, got)
		}
	}
}

func TestBadInput(t *testing.T) {
	tmpl, err := chat.Compile(`x`)
	if err != nil {
		t.Fatal(err)
	}
	for name, in := range map[string]chat.Input{
		"messages":  {Messages: json.RawMessage(`{"role":"user"}`)},
		"syntax":    {Messages: json.RawMessage(`[`)},
		"trailing":  {Messages: json.RawMessage(`[] []`)},
		"variables": {Variables: json.RawMessage(`[]`)},
		"reserved":  {Variables: json.RawMessage(`{"__edged_tick":1}`)},
		"deep":      {Messages: json.RawMessage(strings.Repeat("[", 1000) + strings.Repeat("]", 1000))},
	} {
		if got, err := tmpl.Render(t.Context(), in); err == nil {
			t.Errorf("%s: got %q, want an error", name, got)
		}
	}
}

func FuzzCompile(f *testing.F) {
	f.Add(`{% for m in messages %}{{ m['content'] | trim }}{% endfor %}`)
	f.Add(`{% macro f(a) %}{{ a | tojson(indent=2) }}{% endmacro %}{{ f(messages) }}`)
	f.Fuzz(func(t *testing.T, source string) {
		tmpl, err := chat.Compile(source)
		if err != nil {
			return
		}
		_, _ = tmpl.Render(t.Context(), chat.Input{Messages: json.RawMessage(`[{"role":"user","content":"x"}]`)})
	})
}
