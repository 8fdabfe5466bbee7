package config

import (
	"strings"
	"testing"
)

func TestNodeName(t *testing.T) {
	for host, want := range map[string]string{
		"raspberrypi":           "raspberrypi",
		"pi.local":              "pi",
		"my host_1":             "my-host_1",
		"":                      "edged",
		".":                     "edged",
		"küche":                 "k--che",
		strings.Repeat("a", 99): strings.Repeat("a", 64),
	} {
		if got := nodeName(host); got != want || !ValidName(got) {
			t.Errorf("nodeName(%q) = %q, want %q", host, got, want)
		}
	}
}

func TestDistance(t *testing.T) {
	for _, test := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"a", "", 1}, {"broker", "brokr", 1}, {"mqqt", "mqtt", 1}, {"lsiten", "listen", 1}, {"abc", "xyz", 3}} {
		if got := distance(test.a, test.b); got != test.want {
			t.Errorf("distance(%q, %q) = %d, want %d", test.a, test.b, got, test.want)
		}
	}
}

func TestParseSize(t *testing.T) {
	for text, want := range map[string]Size{
		"0": 0, "1 B": 1, "512 KiB": 512 << 10, "64MiB": 64 << 20, "4GB": 4e9, "1.5 GiB": 3 << 29, "1 TiB": 1 << 40,
	} {
		got, err := parseSize(text)
		if err != nil || got != want {
			t.Errorf("parseSize(%q) = %v, %v", text, got, err)
		}
		if back, err := parseSize(got.String()); err != nil || back != got {
			t.Errorf("parseSize(%q) = %v, %v: not what String wrote", got.String(), back, err)
		}
	}
	for _, text := range []string{"", "64", "-1 B", "1e9 B", "NaN B", "Inf B", "B", "1 XB", "99999999 TiB", "1 MiB extra", "0x1 B", "1_0 B"} {
		if got, err := parseSize(text); err == nil {
			t.Errorf("parseSize(%q) = %v", text, got)
		}
	}
}

func TestKeyLines(t *testing.T) {
	const text = `top = 1
"quoted" = 2
[a] # comment = x
x = [ "y = 1", # ]
  "z = 2",
]
s = '''
k = 3
''' # done
[ b.c ]
  d.e = { f = 1 }
u = "a \" = b"
v = 'c \'
w = 1
`
	want := map[string]int{
		"top": 1, "quoted": 2, "a": 3, "a.x": 4, "a.s": 7, "b.c": 10, "b.c.d.e": 11, "b.c.u": 12, "b.c.v": 13, "b.c.w": 14,
	}
	got := keyLines(text)
	for k, n := range want {
		if got[k] != n {
			t.Errorf("line of %s: %d, want %d", k, got[k], n)
		}
	}
	for _, k := range []string{"a.y", "a.z", "a.k"} {
		if got[k] != 0 {
			t.Errorf("line of %s: %d, want none", k, got[k])
		}
	}
}
