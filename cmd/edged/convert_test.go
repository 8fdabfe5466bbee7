package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"edged/test/oracle"
)

// TestConvert: a PEFT folder becomes a GGUF adapter and that a folder again; nothing is left of what fails.
func TestConvert(t *testing.T) {
	dir := oracle.Dir(t)
	file := oracle.Path(t, dir, "models", "llama-tied", "llama-tied-Q4_K_M.gguf")
	folder := oracle.Path(t, dir, "models", "llama-tied", "hf")
	peft := func(kind string) string { return oracle.Path(t, dir, "adapters", "peft", kind, "adapter") }
	out := t.TempDir()
	made, back := filepath.Join(out, "a.gguf"), filepath.Join(out, "a")
	for _, c := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{peft("pattern-rslora"), made, "--model", file}, 1, "trained on another model"},
		{[]string{peft("ia3"), made, "--model", file}, 1, "no low rank"},
		{[]string{peft("lora-rslora"), made, "--model", folder}, 2, "is a folder"},
		{[]string{peft("lora-rslora"), back, "--model", file}, 2, "is a file"},
		{[]string{peft("lora-rslora"), made}, 2, "--model is missing"},
		{[]string{peft("lora-rslora"), made, "--model", file}, 0, "rank 8 on down_proj"},
		{[]string{peft("lora-rslora"), made, "--model", file}, 1, "is there already"},
		{[]string{made, back, "--model", folder, "--json"}, 0, `"rank":8`},
	} {
		stdout, stderr, code := command(t, "", append([]string{"convert"}, c.args...)...)
		if code != c.code || !strings.Contains(stdout+stderr, c.says) || code == 1 && strings.Count(stderr, "\n") > 1 {
			t.Errorf("%v: code %d, %q, %q; want %d, %q", c.args, code, stdout, stderr, c.code, c.says)
		}
	}
	left, err := os.ReadDir(out)
	if err != nil || len(left) != 2 {
		t.Errorf("%v, %v: want what was converted, and nothing else", left, err)
	}
	if _, err := os.Stat(filepath.Join(back, "adapter_model.safetensors")); err != nil {
		t.Error(err)
	}
}
