package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestInnermost(t *testing.T) {
	for _, c := range []struct {
		name  string
		insns string
		want  string
	}{
		{"one", "mov x0, x1|add x0, x0, #1|cbnz x0, 0x104 <f+0x4>|ret", "add x0, x0, #1|cbnz x0, 0x104 <f+0x4>"},
		{"from the start", "add x0, x0, #1|b.ne 0x100 <f>|ret", "add x0, x0, #1|b.ne 0x100 <f>"},
		{"the inner one", "nop|mov x2, x3|add x0, x0, #1|b.ne 0x108 <f+0x8>|subs x1, x1, #1|b.ne 0x104 <f+0x4>|ret", "add x0, x0, #1|b.ne 0x108 <f+0x8>"},
		{"the longest", "nop|b.ne 0x0 <f>|nop|nop|b.ne 0x8 <f+0x8>|nop|b.ne 0x14 <f+0x14>|ret", "nop|nop|b.ne 0x8 <f+0x8>"},
		{"forward only", "cbz x0, 0x8 <f+0x8>|nop|ret", ""},
	} {
		l, err := innermost(strings.Split(c.insns, "|"))
		if (err != nil) != (c.want == "") {
			t.Errorf("%s: %v", c.name, err)
		}
		if d := cmp.Diff(c.want, strings.Join(l.insns, "|")); d != "" {
			t.Errorf("%s: %s", c.name, d)
		}
	}
}

func TestReadFunctions(t *testing.T) {
	funcs := map[string][]string{}
	readFunctions(funcs, "// func a\nTEXT ·a(SB), NOSPLIT|NOFRAME, $0-8\n\tMOVD a+0(FP), R0\n\tPCALIGN $64\n\tWORD $0xd65f03c0 // ret\n\tWORD $0xd503201f\n")
	if d := cmp.Diff(map[string][]string{"a": {"ret"}}, funcs); d != "" {
		t.Error(d)
	}
}

// TestAllThere: every kernel in the table exists and has a loop.
func TestAllThere(t *testing.T) {
	funcs, err := readFolder("../../plugins/backend-neon/neon")
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range kernels() {
		if _, err := innermost(funcs[k.name]); err != nil {
			t.Errorf("%s: %v", k.name, err)
		}
	}
}
