package reply

import (
	"bytes"
	"testing"
)

func TestInk(t *testing.T) {
	for _, c := range []struct {
		name   string
		pieces []string // "!" restarts
		want   string
	}{
		{"plain", []string{"a", "b"}, "ab"},
		{"same again", []string{"ab", "!", "a", "b", "c"}, "abc"},
		{"same in one piece", []string{"ab", "!", "abcd"}, "abcd"},
		{"ends within", []string{"abc", "!", "ab"}, "abc"},
		{"another text", []string{"ab", "!", "a", "x", "y"}, "ab\naxy"},
		{"twice", []string{"ab", "!", "a", "!", "abc"}, "abc"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var out bytes.Buffer
			k := &Ink{W: &out}
			for _, p := range c.pieces {
				if p == "!" {
					k.Restart()
				} else {
					k.Delta(p)
				}
			}
			if out.String() != c.want {
				t.Errorf("%q, want %q", out.String(), c.want)
			}
		})
	}
}
