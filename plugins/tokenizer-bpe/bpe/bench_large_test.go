package bpe_test

import (
	"os"
	"testing"
)

// BenchmarkEncodeFile encodes the file that EDGED_BENCH_TEXT names, whole, with each kind of tokenizer: what a change costs on
// megabytes of real text. It is skipped without the file.
func BenchmarkEncodeFile(b *testing.B) {
	path := os.Getenv("EDGED_BENCH_TEXT")
	if path == "" {
		b.Skip("EDGED_BENCH_TEXT names no file")
	}
	text, err := os.ReadFile(path)
	if err != nil {
		b.Fatal(err)
	}
	benchmarkEncode(b, string(text))
}
