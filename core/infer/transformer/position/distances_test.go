package position

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"edged/core/model/arch"
)

// TestBuckets compares the buckets of distances with those of transformers (testdata/buckets.txt says how it was made).
func TestBuckets(t *testing.T) {
	path := filepath.Join("testdata", "buckets.txt")
	if more := os.Getenv("EDGED_BUCKETS"); more != "" {
		path = more
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := 0
	for line := range strings.Lines(string(text)) {
		words := strings.Fields(line)
		if len(words) < 4 || words[0] == "#" {
			continue
		}
		lines++
		number := func(s string) int {
			n, err := strconv.Atoi(s)
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
		of, both := arch.Distances{Buckets: number(words[0]), Far: number(words[1])}, words[2] == "1"
		at, want := 3, 0
		for d := -400; d <= 400; d++ {
			if at < len(words) {
				if begin, b, _ := strings.Cut(words[at], ":"); number(begin) == d {
					want = number(b)
					at++
				}
			}
			if got := bucket(&of, both, d); got != want {
				t.Errorf("%d buckets to %d, both sides %v: distance %d is in bucket %d, want %d", of.Buckets, of.Far, both, d, got, want)
			}
		}
	}
	if lines == 0 {
		t.Fatal("no cases")
	}
}
