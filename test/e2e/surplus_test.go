package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"edged/test/oracle"
)

// TestSurplusToken: a trainer added <pad> to the tokenizer and no row to the embedding. The model is served all the same; the id is refused
// in a prompt by a sentence.
func TestSurplusToken(t *testing.T) {
	base, added := oracle.Path(t, oracle.Dir(t), "models", "llama-tied", "hf"), oracle.Path(t, oracle.Cases(t), "B2")
	folder := t.TempDir()
	for _, dir := range []string{base, added} {
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			to := filepath.Join(folder, e.Name())
			_ = os.Remove(to)
			if err := os.Symlink(filepath.Join(dir, e.Name()), to); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := os.Remove(filepath.Join(folder, "config.json")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(base, "config.json"), filepath.Join(folder, "config.json")); err != nil {
		t.Fatal(err)
	}
	out, errs, code := edged(t, "generate", "--model", folder, "--prompt", "hello", "--max-tokens", "40", "--temperature", "1.5", "--output", "ids")
	if code != 0 {
		t.Fatalf("exit %d: %s", code, errs)
	}
	if strings.Contains(out, "512") {
		t.Errorf("an id without a row was sampled: %s", out)
	}
	if _, errs, code := edged(t, "generate", "--model", folder, "--ids", "1,512", "--max-tokens", "1"); code == 0 || !strings.Contains(errs, "512") {
		t.Errorf("an id without a row: exit %d, %s", code, errs)
	}
}
