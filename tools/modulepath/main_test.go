package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const elsewhere = "git.example.org/house/edged"

// outside is a plugin in a module of its own.
const outside = `package main

import (
	"fmt"

	"` + elsewhere + `/core/pluginlog"
	"` + elsewhere + `/core/protocol"
	"` + elsewhere + `/core/protocol/edgedpb"
	"` + elsewhere + `/core/protocol/tokenizer"
)

func main() {
	fmt.Println(edgedpb.File_edged_v1_tokens_proto.Options())
	_ = protocol.ServePlugin(protocol.ServeConfig{
		Name: protocol.PluginTokenizer, Plugin: tokenizer.Plugin{}, Log: pluginlog.New(),
	})
}
`

// TestMove moves a copy of this module, and builds a plugin of another module against it.
func TestMove(t *testing.T) {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	list, err := output("git", "-C", root, "ls-files", "--", "*.go", "*.proto", "*.s", "go.mod", "go.sum",
		"core/protocol/edgedpb/sums.txt", "Makefile", ".golangci.yml")
	if err != nil {
		t.Skip("not a git checkout: ", err)
	}
	dir := t.TempDir()
	for file := range strings.FieldsSeq(list) {
		data, err := os.ReadFile(filepath.Join(root, file))
		if os.IsNotExist(err) {
			continue // removed, and not yet committed
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, file)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, file), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	run := func(in, name string, args ...string) string {
		t.Helper()
		cmd := exec.Command(name, args...)
		cmd.Dir = in
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
		}
		return string(out)
	}
	run(dir, "git", "init", "-q")
	t.Chdir(dir)
	if err := move("no path"); err == nil {
		t.Error("a path that is none was taken")
	}
	if err := move(elsewhere); err != nil {
		t.Fatal(err)
	}

	// -e: data that tests embed was not copied.
	for pkg := range strings.Lines(run(dir, "go", "list", "-e", "-deps", "-test", "./...")) {
		if strings.HasPrefix(pkg, "edged/") {
			t.Errorf("still imported: %s", pkg)
		}
	}
	if text := run(dir, "git", "grep", "--no-index", "-nE", elsewhere, "Makefile", ".golangci.yml"); strings.Count(text, elsewhere) < 6 {
		t.Errorf("settings were left out:\n%s", text)
	}
	run(dir, "go", "test", "./core/protocol/edgedpb")

	other := t.TempDir()
	run(other, "go", "mod", "init", "example.org/plugin")
	run(other, "go", "mod", "edit", "-require", elsewhere+"@v0.0.0", "-replace", elsewhere+"@v0.0.0="+dir)
	sums, err := os.ReadFile(filepath.Join(root, "go.sum"))
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{"go.sum": sums, "main.go": []byte(outside)} {
		if err := os.WriteFile(filepath.Join(other, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	run(other, "go", "build", "-mod=mod", "-o", "plugin", ".")
	out, _ := exec.Command(filepath.Join(other, "plugin")).CombinedOutput() // started by hand, it ends with an error
	if !strings.Contains(string(out), elsewhere+"/core/protocol/edgedpb") {
		t.Errorf("the descriptors say %s", out)
	}
}
