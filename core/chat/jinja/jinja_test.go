package jinja_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"edged/core/chat/jinja"
	"edged/core/chat/jinja/variables"
	"edged/test/oracle"
)

// input reads the variables of a rendering from JSON.
func input(tb testing.TB, raw []byte) jinja.Input {
	tb.Helper()
	v, err := variables.FromJSON(raw)
	if err != nil {
		tb.Fatal(err)
	}
	o, ok := v.Object()
	if !ok {
		tb.Fatal("the variables are no object")
	}
	return jinja.Input{Variables: o}
}

// check renders one case: text is what Jinja writes, or it errs.
func check(t *testing.T, in jinja.Input, source, text string, errs bool) {
	t.Helper()
	tmpl, err := jinja.Compile(source)
	got := ""
	if err == nil {
		got, err = tmpl.Render(t.Context(), in)
	}
	switch {
	case errs && err == nil:
		t.Errorf("%s\n gives %q, want an error", source, got)
	case !errs && err != nil:
		t.Errorf("%s\n fails: %v; want %q", source, err, text)
	case got != text:
		t.Errorf("%s\n gives %q\n want  %q", source, got, text)
	}
}

// TestFound renders what the comparison with jinja2 found, and a thousand templates that were made up (tools/jinjafuzz).
func TestFound(t *testing.T) {
	file, err := os.ReadFile(filepath.Join("testdata", "jinja2.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	var in jinja.Input
	n := 0
	for raw := range bytes.Lines(file) {
		var c struct {
			Context  json.RawMessage
			Template string
			Text     *string
		}
		if err := json.Unmarshal(raw, &c); err != nil {
			t.Fatal(err)
		}
		if c.Context != nil {
			in = input(t, c.Context)
			in.Now = time.Now
			continue
		}
		want := ""
		if c.Text != nil {
			want = *c.Text
		}
		check(t, in, c.Template, want, c.Text == nil)
		n++
	}
	if n < 900 {
		t.Errorf("only %d cases", n)
	}
}

// TestReported renders expressions that were reported to differ, with what jinja2 3.1.6 writes.
func TestReported(t *testing.T) {
	dir := oracle.Cases(t)
	context, file := oracle.Read(t, dir, "jinja-context.json"), oracle.Read(t, dir, "jinja.jsonl")
	in := input(t, context)
	scanner := bufio.NewScanner(bytes.NewReader(file))
	n := 0
	for scanner.Scan() {
		var c struct {
			Template, Text string
			Error          bool
		}
		if err := json.Unmarshal(scanner.Bytes(), &c); err != nil {
			t.Fatal(err)
		}
		check(t, in, c.Template, c.Text, c.Error)
		n++
	}
	if n < 100 {
		t.Errorf("only %d cases", n)
	}
}
