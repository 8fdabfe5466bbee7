// Command modulepath moves the module of the repository in the current folder to another path: go.mod, every
// import, the .proto files' go_package with the descriptors that hold it, and the settings that name
// packages. scripts/module-path calls it; it changes files and leaves the rest (a look at the difference, a
// commit) to who called it.
package main

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: scripts/module-path PATH, for instance example.org/you/edged")
		os.Exit(2)
	}
	if err := move(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "module-path:", err)
		os.Exit(1)
	}
}

// settings are the files, beside Go's and protobuf's, that name packages by their import paths.
func settings() []string {
	return []string{"Makefile", ".golangci.yml"}
}

func move(to string) error {
	from, err := output("go", "list", "-m")
	if err != nil {
		return err
	}
	if from == to {
		return fmt.Errorf("the module is %s already", to)
	}
	// It proves the path too.
	if _, err := output("go", "mod", "edit", "-module", to); err != nil {
		return fmt.Errorf("%q is no module path: %w", to, err)
	}
	list, err := output("git", "ls-files", "--cached", "--others", "--exclude-standard", "--", "*.go", "*.proto")
	if err != nil {
		return err
	}
	own := regexp.MustCompile(`(^|[^\w./-])` + regexp.QuoteMeta(from) + `/(core|plugins|quant|cmd|test|tools|demo|systemd)\b`)
	inText := func(text []byte) ([]byte, error) { //nolint:unparam // a rewrite like the other
		text = own.ReplaceAll(text, []byte("${1}"+to+"/${2}"))
		text = bytes.ReplaceAll(text, []byte("prefix("+from+")"), []byte("prefix("+to+")"))
		return bytes.ReplaceAll(text, []byte("module-path: "+from+"}"), []byte("module-path: "+to+"}")), nil
	}
	var changes []error
	for file := range strings.FieldsSeq(list) {
		if strings.HasSuffix(file, ".proto") {
			changes = append(changes, rewrite(file, inText))
			continue
		}
		changes = append(changes, rewrite(file, func(source []byte) ([]byte, error) {
			source, err := imports(file, source, from, to)
			if err == nil && strings.HasSuffix(file, ".pb.go") {
				source = descriptor(source, from, to)
			}
			return source, err
		}))
	}
	for _, file := range settings() {
		changes = append(changes, rewrite(file, inText))
	}
	if err := errors.Join(changes...); err != nil {
		return err
	}
	return sums("core/protocol/edgedpb")
}

// imports replaces the paths of a file's imports, and nothing else that looks like one.
func imports(file string, source []byte, from, to string) ([]byte, error) {
	parsed, err := parser.ParseFile(token.NewFileSet(), file, source, parser.ImportsOnly)
	if err != nil {
		return nil, err
	}
	for _, spec := range slices.Backward(parsed.Imports) {
		path, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return nil, err
		}
		if rest, own := strings.CutPrefix(path, from+"/"); own {
			at := int(spec.Path.Pos()) - 1 // positions of the only file of a set count from 1
			source = slices.Replace(source, at, at+len(spec.Path.Value), []byte(strconv.Quote(to+"/"+rest))...)
		}
	}
	return source, nil
}

// descriptor replaces the go_package in a generated file's serialised descriptor: field 8 (options) holds field 11
// (go_package), both behind their lengths, written as Go writes bytes in a string.
func descriptor(source []byte, from, to string) []byte {
	const name = "/core/protocol/edgedpb;edgedpb"
	option := func(module string) []byte {
		value := module + name
		inner := append(varint(len(value)), value...)
		inner = append([]byte("Z"), inner...)
		outer := append([]byte("B"), varint(len(inner))...)
		quoted := strconv.QuoteToASCII(string(append(outer, inner...)))
		return []byte(quoted[1 : len(quoted)-1])
	}
	return bytes.Replace(source, option(from), option(to), 1)
}

func varint(n int) []byte {
	if n < 1<<7 {
		return []byte{byte(n)}
	}
	return []byte{byte(n) | 1<<7, byte(n >> 7)} // below 16,384: longer paths are no paths
}

// sums writes sums.txt of the generated code anew, as `make proto` does.
func sums(dir string) error {
	var list bytes.Buffer
	for _, pattern := range []string{"edged/v1/*.proto", "*.pb.go"} {
		files, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			return err
		}
		for _, file := range files {
			data, err := os.ReadFile(file)
			if err != nil {
				return err
			}
			name, err := filepath.Rel(dir, file)
			if err != nil {
				return err
			}
			fmt.Fprintf(&list, "%x  %s\n", sha256.Sum256(data), name)
		}
	}
	return os.WriteFile(filepath.Join(dir, "sums.txt"), list.Bytes(), 0o644)
}

func rewrite(file string, change func([]byte) ([]byte, error)) error {
	info, err := os.Stat(file)
	if err != nil {
		return err
	}
	old, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	text, err := change(bytes.Clone(old))
	if err != nil || bytes.Equal(text, old) {
		return err
	}
	return os.WriteFile(file, text, info.Mode().Perm())
}

func output(name string, args ...string) (string, error) {
	cmd := exec.Command(name, args...)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s: %w: %s", name, err, strings.TrimSpace(errs.String()))
	}
	return strings.TrimSpace(string(out)), nil
}
