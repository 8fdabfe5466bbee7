package main

import "testing"

func TestWithoutLineEnd(t *testing.T) {
	for in, want := range map[string]string{
		"a\n": "a", "a\r\n": "a", "a\n\n": "a\n", "a": "a", "a\r": "a\r", "a\nb": "a\nb", "\n": "", "": "",
	} {
		if got := withoutLineEnd(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}
