package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestPromptsCommand lists the prompts of examples/, and tells what is wrong with a broken one.
func TestPromptsCommand(t *testing.T) {
	var out, problems bytes.Buffer
	if code := execute(t.Context(), streams{out: &out, err: &problems}, []string{"prompts", filepath.Join("..", "..", "examples", "prompts")}); code != 0 {
		t.Fatalf("%d: %s%s", code, out.String(), problems.String())
	}
	if !strings.Contains(out.String(), "translation (text, [language]): Translates a sentence.\n") {
		t.Error(out.String())
	}
	broken := filepath.Join(t.TempDir(), "broken.toml")
	if err := os.WriteFile(broken, []byte("variables = [\"a\"]\nsystem = \"{{b}}\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, flags := range [][]string{nil, {"--json"}} {
		out.Reset()
		if code := execute(t.Context(), streams{out: &out, err: &problems}, append([]string{"prompts", broken}, flags...)); code != 1 {
			t.Errorf("%d: %s", code, out.String())
		}
		if !strings.Contains(out.String(), "system: {{b}} is not listed in variables") {
			t.Error(out.String())
		}
	}
	out.Reset()
	if code := execute(t.Context(), streams{out: &out, err: &problems}, []string{"prompts", "--set", "prompts.dir="}); code == 0 {
		t.Error(out.String())
	}
}
