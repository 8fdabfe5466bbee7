package main

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestInnermost(t *testing.T) {
	const (
		nop  = 0xd503201f
		ret  = 0xd65f03c0
		next = 1<<19 - 1 // -1 of 19 bits
	)
	ne := func(off int) uint32 { return 0x54000001 | uint32(off)&next<<5 }
	cbnz := func(off int) uint32 { return 0xb5000000 | uint32(off)&next<<5 }
	tbz := func(off int) uint32 { return 0x36000000 | uint32(off)&0x3fff<<5 }
	b := func(off int) uint32 { return 0x14000000 | uint32(off)&0x3ffffff }
	for _, c := range []struct {
		name     string
		insns    []uint32
		from, to int // the loop; nothing: none
	}{
		{"one", []uint32{nop, nop, cbnz(-1), ret}, 1, 3},
		{"from the start", []uint32{nop, ne(-1), ret}, 0, 2},
		{"of one bit", []uint32{nop, nop, tbz(-2), ret}, 0, 3},
		{"without a condition", []uint32{nop, nop, b(-2), ret}, 0, 3},
		{"the inner one", []uint32{nop, nop, nop, ne(-1), nop, ne(-4), ret}, 2, 4},
		{"the longest", []uint32{nop, ne(-1), nop, nop, nop, ne(-2), nop, ne(-1), ret}, 3, 6},
		{"forward only", []uint32{cbnz(2), nop, ret}, 0, 0},
	} {
		l, err := innermost(c.insns)
		if (err != nil) != (c.to == 0) {
			t.Errorf("%s: %v", c.name, err)
		}
		if d := cmp.Diff(c.insns[c.from:c.to], append([]uint32{}, l.insns...)); d != "" {
			t.Errorf("%s: %s", c.name, d)
		}
	}
}

// TestAround: a loop of two in a loop, written out.
func TestAround(t *testing.T) {
	const a, b, c, d, ret = 0xd503201f, 0xd503203f, 0xd503205f, 0xd503207f, 0xd65f03c0
	insns := []uint32{a, b, c, 0x54ffffe1, d, 0x54ffff61, ret} // b, c jumps to c; d jumps to b's place or before
	l, err := around(insns, 3)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]uint32{a, b, c, c, c, d, 0x54ffff61}, l.insns); diff != "" {
		t.Error(diff)
	}
}

func TestReadFunctions(t *testing.T) {
	funcs := map[string][]uint32{}
	readFunctions(funcs, "// func a\nTEXT ·a(SB), NOSPLIT|NOFRAME, $0-8\n\tMOVD a+0(FP), R0\n\tPCALIGN $64\n\tWORD $0xd503201f; WORD $0xd65f03c0\n\t// constants\n\tWORD $0x00000001\n")
	if d := cmp.Diff(map[string][]uint32{"a": {0xd503201f, 0xd65f03c0}}, funcs); d != "" {
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
		if _, err := around(funcs[k.name], k.inner); err != nil {
			t.Errorf("%s: %v", k.name, err)
		}
	}
}
