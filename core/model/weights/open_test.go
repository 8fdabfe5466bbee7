package weights_test

import (
	"path/filepath"
	"testing"

	"edged/core/model/weights"
	"edged/test/oracle"
)

func TestOpenOracles(t *testing.T) {
	dir := oracle.Dir(t)
	var paths []string
	for _, pattern := range []string{"models/*/*.gguf", "models/*/hf", "nf4/llama-tied-nf4-dq"} {
		found, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil || len(found) == 0 {
			t.Fatalf("%s: %d files, %v", pattern, len(found), err)
		}
		paths = append(paths, found...)
	}
	for _, path := range paths {
		rel, _ := filepath.Rel(dir, path)
		t.Run(rel, func(t *testing.T) {
			m, err := weights.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			defer m.Close()
			t.Logf("%s %q %+v", m.Spec.Family, m.Name, hyperOf(m))
			if len(m.Names()) == 0 || m.Matrix("output.weight") == nil {
				t.Errorf("%d tensors, output %v", len(m.Names()), m.Matrix("output.weight"))
			}
		})
	}
}
