package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestReadLog(t *testing.T) {
	const log = `----------------
IN: main.a
0x00011000:  d503201f  nop
0x00011004:  d65f03c0  ret

Trace 0: 0x7f0a8c0001c0 [00000000/0000000000011000/00003020/ff200000] main.a
----------------
IN: main.b
0x00012000:
OBJD-T: 1f2003d51f2003d51f2003d5

Trace 0: 0x7f0a8c0001c0 [00000000/0000000000011000/00003020/ff200000] main.a
Trace 0: 0x7f0a8c0003c0 [00000000/0000000000012000/00003020/ff200000] main.b
`
	got, err := readLog(strings.NewReader(log))
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(map[string]int64{"main.a": 4, "main.b": 3}, got); d != "" {
		t.Error(d)
	}
	if _, err := readLog(strings.NewReader("Trace 0: nothing\n")); err == nil {
		t.Error("a line without an address passed")
	}
}

func TestReport(t *testing.T) {
	var b strings.Builder
	if err := report(&b, map[string]int64{"a/b.x.abi0": 10, "y": 5}, map[string]int64{"a/b.x.abi0": 30, "y": 5}, 2); err != nil {
		t.Fatal(err)
	}
	if want := "| `b.x` | 10 | 100.0 |\n"; !strings.Contains(b.String(), want) {
		t.Errorf("%s does not contain %s", b.String(), want)
	}
}
