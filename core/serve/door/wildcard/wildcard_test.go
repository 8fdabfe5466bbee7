package wildcard_test

import (
	"testing"

	"edged/core/serve/door/wildcard"
)

func TestMatch(t *testing.T) {
	for _, test := range []struct {
		filter, topic string
		want          bool
	}{
		{"a", "a", true},
		{"a", "b", false},
		{"a", "a/b", false},
		{"a/b", "a", false},
		{"+", "a", true},
		{"+", "a/b", false},
		{"a/+", "a/b", true},
		{"a/+", "a", false},
		{"a/+/c", "a/b/c", true},
		{"a/+/c", "a/b/d", false},
		{"#", "a/b/c", true},
		{"a/#", "a", true},
		{"a/#", "a/b/c", true},
		{"a/#", "ab", false},
		{"a/+/#", "a/b", true},
		{"a/+/#", "a", false},
		{"+/+", "/a", true},
		{"a//b", "a//b", true},
		{"a/+", "a/", true},
		{"+/+", "/", true},
		{"#", "$SYS/x", false},
		{"+/x", "$SYS/x", false},
		{"$SYS/#", "$SYS/x", true},
		{"#", "", true},
	} {
		if got := wildcard.Match(test.filter, test.topic); got != test.want {
			t.Errorf("Match(%q, %q) = %v", test.filter, test.topic, got)
		}
	}
}
