package reply

import (
	"bytes"
	"context"
	"errors"
	"testing"
)

func TestInk(t *testing.T) {
	refused := errors.New("refused")
	for _, c := range []struct {
		name   string
		pieces []string // "!" restarts
		err    error
		shown  string // on a terminal, with notes in brackets
		held   string // elsewhere
	}{
		{"plain", []string{"a", "b"}, nil, "ab\n", "ab\n"},
		{"a line", []string{"a", "b\n"}, nil, "ab\n", "ab\n"},
		{"nothing", nil, nil, "", ""},
		{"same again", []string{"ab", "!", "a", "b", "c"}, nil, "abc\n", "abc\n"},
		{"same in one piece", []string{"ab", "!", "abcd"}, nil, "abcd\n", "abcd\n"},
		{"same to the end", []string{"ab", "!", "ab"}, nil, "ab\n", "ab\n"},
		{"ends within", []string{"abc", "!", "ab"}, nil, "abc\n[the answer begins anew: attempt 2]ab\n", "ab\n"},
		{"another text", []string{"ab", "!", "a", "x", "y"}, nil, "ab\n[the answer begins anew: attempt 2]axy\n", "axy\n"},
		{"another text after a line", []string{"ab\n", "!", "x"}, nil, "ab\n[the answer begins anew: attempt 2]x\n", "x\n"},
		{"twice", []string{"ab", "!", "a", "!", "abc"}, nil, "abc\n", "abc\n"},
		{"twice another text", []string{"ab", "!", "x", "!", "y"}, nil, "ab\n[the answer begins anew: attempt 2]x\n[the answer begins anew: attempt 3]y\n", "y\n"},
		{"refused", []string{"ab"}, refused, "ab\n", ""},
		{"refused while it repeats", []string{"ab", "!", "a"}, refused, "ab\n", ""},
		{"cancelled", []string{"ab", "!", "x"}, context.Canceled, "ab\n[the answer begins anew: attempt 2]x\n", "x\n"},
	} {
		for _, hold := range []bool{false, true} {
			want := c.shown
			if hold {
				want = c.held
			}
			var out bytes.Buffer
			k := &Ink{W: &out, Hold: hold, Note: func(line string) { out.WriteString("[" + line + "]") }}
			attempt := '1'
			for _, p := range c.pieces {
				if p == "!" {
					attempt++
					k.Restart("attempt " + string(attempt))
				} else {
					k.Delta(p)
				}
				if hold && out.Len() > 0 {
					t.Errorf("%s: %q before the end", c.name, out.String())
				}
			}
			k.End(c.err)
			if out.String() != want {
				t.Errorf("%s, hold %v: %q, want %q", c.name, hold, out.String(), want)
			}
		}
	}
}
