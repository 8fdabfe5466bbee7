package transformer

import (
	"path/filepath"
	"strings"
	"testing"

	"edged/test/oracle"
)

// TestOracleFourBitGGUF runs a file of each of the types that llama-quantize writes with one to four bits, at both
// precisions, against the reference on the dequantised weights.
func TestOracleFourBitGGUF(t *testing.T) {
	dir := filepath.Join(oracle.Dir(t), "fourbit", "gguf")
	files, err := filepath.Glob(filepath.Join(dir, "*.gguf"))
	if err != nil {
		t.Fatal(err)
	}
	ran := 0
	for _, file := range files {
		if strings.HasSuffix(file, ".imatrix.gguf") {
			continue
		}
		ran++
		stem := filepath.Join(dir, "oracle", strings.TrimSuffix(filepath.Base(file), ".gguf"))
		var want oracleFile
		readJSON(t, stem+".json", &want)
		for name, o := range precisions() {
			t.Run(filepath.Base(file)+"/"+name, func(t *testing.T) {
				l := limitsFor("llama", name, true)
				r, _ := openRunner(t, file, o)
				res := r.prompts(&want, stem, l)
				t.Logf("oracle: %s, %s: %v", filepath.Base(file), name, res)
				res.check(t, l)
			})
		}
	}
	if ran == 0 {
		t.Fatalf("no files in %s", dir)
	}
}

// TestOracleFourBitFolders runs a folder of each quantised kind that transformers' libraries write.
func TestOracleFourBitFolders(t *testing.T) {
	dir := filepath.Join(oracle.Dir(t), "fourbit")
	cases, err := filepath.Glob(filepath.Join(dir, "*", "case.json"))
	if err != nil || len(cases) == 0 {
		t.Fatal(err, len(cases))
	}
	for _, c := range cases {
		base := filepath.Dir(c)
		stem := filepath.Join(base, "oracle", "hf")
		var want oracleFile
		readJSON(t, stem+".json", &want)
		for name, o := range precisions() {
			t.Run(filepath.Base(base)+"/"+name, func(t *testing.T) {
				l := limitsFor("llama", name, true)
				r, _ := openRunner(t, filepath.Join(base, "hf"), o)
				res := r.prompts(&want, stem, l)
				t.Logf("oracle: %s, %s: %v", filepath.Base(base), name, res)
				res.check(t, l)
			})
		}
	}
}
