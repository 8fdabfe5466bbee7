package main

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// sumsPath is the file that holds, for each unit, the checksums of what goes in and of what came out.
const sumsPath = "tools/kernelgen/kernels.sum"

const sumsHeader = `# Written by tools/kernelgen: SHA-256 of a unit's sources and flags, of its assembly, of its declarations.
`

// compilers are pinned: another version makes other bytes.
var compilers = map[string]string{
	"clang-19":                 "Debian clang version 19.1.7 (3~deb12u1)",
	"aarch64-linux-gnu-gcc-12": "aarch64-linux-gnu-gcc-12 (Debian 12.2.0-14) 12.2.0",
}

// sum is one line of the file.
type sum struct{ inputs, asm, decl string }

func digest(b []byte) string {
	h := sha256.Sum256(b)
	return hex.EncodeToString(h[:])
}

// readSums reads the file; none is an empty one.
func readSums(root string) (map[string]sum, error) {
	text, err := os.ReadFile(filepath.Join(root, sumsPath))
	if err != nil && !os.IsNotExist(err) {
		return nil, err
	}
	sums := map[string]sum{}
	for l := range strings.SplitSeq(string(text), "\n") {
		if f := strings.Fields(l); len(f) == 4 && f[0] != "#" {
			sums[f[0]] = sum{f[1], f[2], f[3]}
		}
	}
	return sums, nil
}

// writeSums writes the lines of the units that there are.
func writeSums(root string, sums map[string]sum) error {
	var b strings.Builder
	b.WriteString(sumsHeader)
	for _, u := range units() {
		s := sums[u.out]
		fmt.Fprintf(&b, "%s %s %s %s\n", u.out, s.inputs, s.asm, s.decl)
	}
	return os.WriteFile(filepath.Join(root, sumsPath), []byte(b.String()), 0o644) //nolint:gosec // source files are public
}

// stale compares a unit with its line, without a compiler.
func (u unit) stale(root string, have sum) error {
	inputs, err := u.checksum(root)
	if err != nil {
		return err
	}
	if inputs != have.inputs {
		return fmt.Errorf("%s is older than %s, its headers or its flags: run go run ./tools/kernelgen %s", u.asmPath(""), u.path(), u.out)
	}
	for _, f := range []struct{ name, sum string }{{u.asmPath(root), have.asm}, {u.declPath(root), have.decl}} {
		b, err := os.ReadFile(f.name)
		if err != nil {
			return err
		}
		if digest(b) != f.sum {
			return fmt.Errorf("%s is not what was generated: run go run ./tools/kernelgen %s", f.name, u.out)
		}
	}
	return nil
}
