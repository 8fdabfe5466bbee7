package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"edged/core/infer/grammar/grammartest"
	"edged/test/oracle"
)

// TestSchemasOfATinyModel: what the demo model writes at temperature 1.5 under random schemas, eight answers at a time, is
// valid under them. Two hundred here; with EDGED_SOAK=1, 10,000.
func TestSchemasOfATinyModel(t *testing.T) {
	batches, lines := 1, 200
	if os.Getenv("EDGED_SOAK") != "" {
		batches, lines = 20, 500
	}
	finish := map[string]int{}
	tokens := 0
	for b := range batches {
		var in bytes.Buffer
		schemas := make([]string, lines)
		for i := range schemas {
			seed := uint64(b*lines + i)
			schemas[i] = grammartest.Schema(seed)
			fmt.Fprintf(&in, `{"prompt":"The light","temperature":1.5,"seed":%d,"max_tokens":%d,"response_format":{"type":"json_schema","schema":%s}}`+"\n", seed, 200+i%100, schemas[i])
		}
		batch := filepath.Join(t.TempDir(), fmt.Sprint(b, ".jsonl"))
		if err := os.WriteFile(batch, in.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
		out, errs, code := edged(t, "generate", "--model", filepath.Join(oracle.Repo(t), "demo/gguf/hearth-4m-q4_0.gguf"), "--batch", batch, "--parallel", "8")
		if code != 0 {
			t.Fatalf("exit %d: %s %s", code, errs, firstError(out))
		}
		i := 0
		for line := range strings.Lines(out) {
			var got struct {
				IDs    []int32 `json:"ids"`
				Text   string  `json:"text"`
				Finish string  `json:"finish_reason"`
			}
			if err := json.Unmarshal([]byte(line), &got); err != nil {
				t.Fatal(err)
			}
			if err := grammartest.Validate(schemas[i], []byte(got.Text)); err != nil {
				t.Errorf("schema %s: %q: %v", schemas[i], got.Text, err)
			}
			finish[got.Finish]++
			tokens += len(got.IDs)
			i++
		}
		if i != lines {
			t.Fatalf("%d answers to %d lines", i, lines)
		}
	}
	t.Logf("%d answers, %d tokens, %v", batches*lines, tokens, finish)
}

// firstError is the first line that failed.
func firstError(out string) string {
	for line := range strings.Lines(out) {
		if strings.HasPrefix(line, `{"error"`) {
			return line
		}
	}
	return ""
}

// TestFormsFromTheCommandLine: the flags of generate hold an answer to a form, and say what is wrong with one.
func TestFormsFromTheCommandLine(t *testing.T) {
	model := filepath.Join(oracle.Repo(t), "demo/gguf/hearth-4m-q4_0.gguf")
	write := func(name, text string) string {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for _, c := range []struct {
		args []string
		want []string
	}{
		{[]string{"--regex", "on|off"}, []string{"on", "off"}},
		{[]string{"--grammar", write("g.gbnf", "root ::= \"lamp \" [1-3]\n")}, []string{"lamp 1", "lamp 2", "lamp 3"}},
		{[]string{"--json-schema", write("s.json", `{"type":"object","properties":{"on":{"type":"boolean"}},"required":["on"]}`)}, []string{`{"on": true}`, `{"on": false}`}},
	} {
		out, errs, code := edged(t, append([]string{"generate", "--model", model, "--prompt", "The light"}, c.args...)...)
		if text := strings.TrimSuffix(out, "\n"); code != 0 || !slices.Contains(c.want, text) {
			t.Errorf("%v: exit %d, %q, %s", c.args, code, text, errs)
		}
	}
	_, errs, code := edged(t, "generate", "--model", model, "--prompt", "x", "--json-schema", write("bad.json", `{"properties":{"a":{"divisibleBy":2}}}`))
	if code != 2 || !strings.Contains(errs, "properties.a.divisibleBy") {
		t.Errorf("exit %d, %s", code, errs)
	}
	_, errs, code = edged(t, "generate", "--model", model, "--prompt", "x", "--json-schema", write("more.json", `{}"more"`))
	if code != 2 || !strings.Contains(errs, "not one JSON value") {
		t.Errorf("a schema with something behind it: exit %d, %q", code, errs)
	}
	_, errs, code = edged(t, "generate", "--model", model, "--prompt", "x", "--regex", "[ab]{50}", "--max-tokens", "10")
	if code == 0 || !strings.Contains(errs, "max_tokens") {
		t.Errorf("exit %d, %s", code, errs)
	}
}
