package config

import (
	"slices"
	"strings"
	"testing"
)

// TestFreeName: whatever the text, what comes of it is a name, and one that nobody has.
func TestFreeName(t *testing.T) {
	long := strings.Repeat("x", 70)
	taken := []string{"a", "b", "b-2", long[:64]}
	for text, want := range map[string]string{
		"pirate": "pirate", "sp ace": "sp-ace", `a\b/c`: "a-b-c", "é\xff": "--", "": "-", "a": "a-2", "b": "b-3", long: long[:62] + "-2",
	} {
		got := FreeName(text, func(name string) bool { return slices.Contains(taken, name) })
		if got != want || !ValidName(got) {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}
