package service

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestPromptsCommand lists the prompts of examples/, and tells what is wrong with a broken one.
func TestPromptsCommand(t *testing.T) {
	out, problems, code := command(t, "", "prompts", filepath.Join("..", "..", "..", "examples", "prompts"))
	if code != 0 {
		t.Fatalf("%d: %s%s", code, out, problems)
	}
	if !strings.Contains(out, "translation (text, [language]): Translates a sentence.\n") {
		t.Error(out)
	}
	broken := filepath.Join(t.TempDir(), "broken.toml")
	if err := os.WriteFile(broken, []byte("variables = [\"a\"]\nsystem = \"{{b}}\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, flags := range [][]string{nil, {"--json"}} {
		out, _, code := command(t, "", append([]string{"prompts", broken}, flags...)...)
		if code != 1 {
			t.Errorf("%d: %s", code, out)
		}
		if !strings.Contains(out, "system: {{b}} is not listed in variables") {
			t.Error(out)
		}
	}
	if err := os.WriteFile(filepath.Join(filepath.Dir(broken), "late.TOML"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, notes, _ := command(t, "", "prompts", filepath.Dir(broken)); !strings.Contains(notes, "passed over in") || !strings.Contains(notes, "late.TOML") {
		t.Errorf("a file that is passed over: %q", notes)
	}
	if out, _, code := command(t, "", "prompts", "--set", "prompts.dir="); code == 0 {
		t.Error(out)
	}
}
