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

// TestTransformers renders what transformers 5.24 was asked to render. Where it failed without the template's own refusal,
// a text is not wrong.
func TestTransformers(t *testing.T) {
	dir := filepath.Join(oracle.Dir(t), "text", "chat")
	file := oracle.Read(t, dir, "cases.jsonl")
	scanner := bufio.NewScanner(bytes.NewReader(file))
	scanner.Buffer(nil, 1<<20)
	compiled := map[string]*chat.Template{}
	cases, rendered, marked, absent := 0, 0, 0, map[string]bool{}
	for scanner.Scan() {
		var c struct {
			Template, Case, Now string
			Variables           json.RawMessage
			Text, Error         *string
			RefusedByTemplate   bool `json:"refused_by_template"`
		}
		if err := json.Unmarshal(scanner.Bytes(), &c); err != nil {
			t.Fatal(err)
		}
		tmpl := compiled[c.Template]
		if tmpl == nil {
			source, err := os.ReadFile(filepath.Join(dir, "templates", c.Template+".jinja"))
			if err != nil {
				absent[c.Template] = true // its licence keeps it out
				continue
			}
			if tmpl, err = chat.Compile(string(source)); err != nil {
				t.Errorf("%s: %v", c.Template, err)
				continue
			}
			compiled[c.Template] = tmpl
		}
		cases++
		now, err := time.Parse("2006-01-02T15:04:05", c.Now)
		if err != nil {
			t.Fatal(err)
		}
		got, borders, err := tmpl.RenderMarked(t.Context(), chat.Input{Variables: c.Variables, Now: now})
		for i, at := range borders {
			if at <= 0 || at > len(got) || i > 0 && at <= borders[i-1] {
				t.Errorf("%s/%s: borders %v of %d bytes", c.Template, c.Case, borders, len(got))
			}
		}
		if err == nil {
			rendered++
		}
		if len(borders) > 0 {
			marked++
		}
		switch {
		case c.Error != nil && c.RefusedByTemplate:
			if _, ok := errors.AsType[*chat.RaisedError](err); !ok {
				t.Errorf("%s/%s: got %q, %v; want the refusal %q", c.Template, c.Case, got, err, *c.Error)
			}
		case c.Error != nil:
		case err != nil:
			t.Errorf("%s/%s: %v", c.Template, c.Case, err)
		case got != *c.Text:
			t.Errorf("%s/%s: %s", c.Template, c.Case, cmp.Diff(*c.Text, got))
		}
	}
	if cases < 1000 || marked < rendered*9/10 {
		t.Errorf("only %d cases, of %d texts %d have borders", cases, rendered, marked)
	}
}

// TestBorders: messages end where the template says, whether it writes the first one apart, in a macro or in its turn, and the time of day
// begins where it stands in the text. What is captured before it is written shows no borders.
func TestBorders(t *testing.T) {
	const vars = `{"messages": [{"role": "system", "content": "S"}, {"role": "user", "content": "Uu"}, {"role": "assistant", "content": "A"}]}`
	for _, c := range []struct {
		name, source string
		want         []string // the text up to each border
	}{
		{
			"in turn", `<s>{% for m in messages %}[{{ m.role[0] }}]{{ m.content }}{% endfor %}!`,
			[]string{"<s>", "<s>[s]S", "<s>[s]S[u]Uu", "<s>[s]S[u]Uu[a]A"},
		},
		{
			"the first apart", `{{ messages[0].content }}|{% for m in messages[1:] %}{{ m.content }}.{% endfor %}!`,
			[]string{"S|", "S|Uu.", "S|Uu.A."},
		},
		{
			"by a macro, with a search before", `{% macro show(m) %}<{{ m.content }}>{% endmacro %}{% for m in messages %}{% if m.role == "x" %}x{% endif %}{% endfor %}` +
				`{% for m in messages if m.role != "system" %}{{ show(m) }}{% endfor %}!`,
			[]string{"<Uu>", "<Uu><A>"},
		},
		{"captured", `{% set x %}{% for m in messages %}{{ m.content }}{% endfor %}{% endset %}{{ x }}!`, nil},
		{
			"time", `{% set now = strftime_now("%H:%M") %}Q{% for m in messages %}{% if loop.first %} at {{ now }} {% endif %}{{ m.content }}{% endfor %}`,
			[]string{"Q", "Q at ", "Q at 12:34 S", "Q at 12:34 SUu", "Q at 12:34 SUuA"},
		},
	} {
		tmpl, err := chat.Compile(c.source)
		if err != nil {
			t.Fatal(err)
		}
		text, borders, err := tmpl.RenderMarked(t.Context(), chat.Input{Variables: []byte(vars), Now: time.Date(2026, 11, 30, 12, 34, 0, 0, time.UTC)})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, at := range borders {
			got = append(got, text[:at])
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s: %s", c.name, diff)
		}
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

// BenchmarkRender renders a conversation of 200 messages, compiled once.
func BenchmarkRender(b *testing.B) {
	dir := filepath.Join(oracle.Dir(b), "chat", "templates")
	var messages []map[string]any
	for range 100 {
		messages = append(messages, map[string]any{"role": "user", "content": strings.Repeat("Is the front door locked? ", 8)},
			map[string]any{"role": "assistant", "content": strings.Repeat("It is. ", 20)})
	}
	raw, err := json.Marshal(messages)
	if err != nil {
		b.Fatal(err)
	}
	for _, name := range []string{"Qwen-Qwen3-0.6B", "Qwen-Qwen2.5-7B-Instruct", "ibm-granite-granite-4.0", "HuggingFaceTB-SmolLM3-3B"} {
		source, err := os.ReadFile(filepath.Join(dir, name+".jinja"))
		if err != nil {
			continue
		}
		b.Run(name, func(b *testing.B) {
			tmpl, err := chat.Compile(string(source))
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := tmpl.Render(b.Context(), chat.Input{Messages: raw, Now: time.Unix(1, 0)}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
