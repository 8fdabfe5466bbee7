package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"edged/test/oracle"
)

// `edged check MODEL` says of one model what a person wants to know before it is served.
func TestCheckModel(t *testing.T) {
	t.Parallel()
	repo, dir := oracle.Repo(t), t.TempDir()
	gguf := filepath.Join(repo, "demo/gguf/hearth-4m-q4_0.gguf")
	if err := os.Symlink(gguf, filepath.Join(dir, "hearth.gguf")); err != nil {
		t.Fatal(err)
	}
	text := filepath.Join(dir, "letter.txt")
	if err := os.WriteFile(text, []byte("no model"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "hearth"), 0o700); err != nil { // the service takes the file, and so does this command
		t.Fatal(err)
	}
	conf := filepath.Join(dir, "edged.toml")
	if err := os.WriteFile(conf, fmt.Appendf(nil, "[node]\nname = \"t\"\n[models]\ndir = %q\n", dir), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		model string
		code  int
		want  []string // expressions, each of which a line matches
	}{
		{"hearth", 0, []string{
			`^ok +model +hearth\.gguf: llama, decoder, [0-9.]+ million parameters, 512 positions; for: generate, embed$`, `^ok +formats +Q4_0 .* in \d+ matrices, `,
			`^ok +memory +`, `^ok +speed +about [0-9.]+ tokens/s \(a token reads [0-9.]+ MiB, memory gives [0-9.]+ GB/s\), and [0-9.]+m?s for 1,000 tokens`,
		}},
		{filepath.Join(repo, "demo/hf-nf4"), 0, []string{`^ok +formats +NF4 `, `^ok +speed +about `}},
		{filepath.Join(repo, "demo/hf-nf4/config.json"), 1, []string{`^problem +model .*is a part of a model: name the folder that it is in, .*hf-nf4$`}},
		{"nobody", 1, []string{`^problem +model .*nobody.* holds no model of that name`}},
		{text, 1, []string{`^problem +model .*letter\.txt`}},
	} {
		out, errs, code := edged(t, "check", "--config", conf, c.model)
		if code != c.code {
			t.Errorf("%s: exit code %d: %s%s", c.model, code, out, errs)
		}
		for _, want := range c.want {
			found := false
			for line := range strings.Lines(out) {
				found = found || regexp.MustCompile(want).MatchString(strings.TrimSpace(line))
			}
			if !found {
				t.Errorf("%s: no line like %s in:\n%s%s", c.model, want, out, errs)
			}
		}
	}
}
