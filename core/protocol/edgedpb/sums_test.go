package edgedpb

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The generated code is committed, and no generator runs in tests: sums.txt, which `make proto` writes, says which .proto
// files it was made from.
func TestGeneratedCodeIsFresh(t *testing.T) {
	t.Parallel()
	list, err := os.ReadFile("sums.txt")
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{}
	for line := range strings.Lines(string(list)) {
		sum, file, ok := strings.Cut(strings.TrimSpace(line), "  ")
		if !ok {
			t.Fatalf("sums.txt: line %q", line)
		}
		want[file] = sum
	}
	var files []string
	for _, pattern := range []string{"edged/v1/*.proto", "*.pb.go"} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, found...)
	}
	if len(files) != len(want) {
		t.Errorf("sums.txt lists %d files and there are %d: run `make proto`", len(want), len(files))
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if sum := sha256.Sum256(data); hex.EncodeToString(sum[:]) != want[file] {
			t.Errorf("%s is not what the generated code was made with: run `make proto`", file)
		}
	}
}
