package gguf_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"edged/core/model/gguf"
	"edged/quant"
)

// part writes PREFIX-NO-of-COUNT.gguf, no from 1, with tensors of two values each, which hold their part's number.
func part(t *testing.T, prefix string, no, count int, all int32, tensors ...string) string {
	t.Helper()
	var w gguf.Writer
	if no == 1 {
		w.Put("general.architecture", "llama")
	}
	w.Put("split.no", uint16(no-1))
	w.Put("split.count", uint16(count))
	w.Put("split.tensors.count", all)
	for _, name := range tensors {
		w.Add(name, quant.F32, []int64{2}, []byte{byte(no), 0, 0, 0, byte(no), 0, 0, 0})
	}
	path := fmt.Sprintf("%s-%05d-of-%05d.gguf", prefix, no, count)
	if err := w.WriteFile(path); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestSplit(t *testing.T) {
	prefix := filepath.Join(t.TempDir(), "m-1-of-2")
	paths := []string{part(t, prefix, 1, 3, 3), part(t, prefix, 2, 3, 3, "b", "a"), part(t, prefix, 3, 3, 3, "c")} // the first has metadata only
	for _, path := range paths {
		f, err := gguf.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		if name, err := f.String("general.architecture"); err != nil || name != "llama" || f.Path != paths[0] {
			t.Errorf("%s: architecture %q, %v, path %s", path, name, err, f.Path)
		}
		if n := len(f.Tensors()); n != 3 || len(f.Parts()) != 3 {
			t.Fatalf("%s: %d tensors, %d parts", path, n, len(f.Parts()))
		}
		for name, no := range map[string]byte{"a": 2, "b": 2, "c": 3} {
			x := f.Tensor(name)
			p := f.Parts()[x.Part]
			if x.Data[0] != no || p.Path != paths[no-1] || p.Mapping.Bytes()[x.Offset] != no {
				t.Errorf("%s: tensor %s: data %v of part %d, %s", path, name, x.Data, x.Part, p.Path)
			}
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestSplitRefused(t *testing.T) {
	rename := func(t *testing.T, from, to string) string {
		t.Helper()
		if err := os.Rename(from, to); err != nil {
			t.Fatal(err)
		}
		return to
	}
	for _, c := range []struct {
		name string
		make func(t *testing.T, prefix string) string // the file to open
		kind error
		want []string
	}{
		{
			"first missing", func(t *testing.T, p string) string { return part(t, p, 2, 2, 1, "a") }, fs.ErrNotExist,
			[]string{"m-00002-of-00002.gguf: it is one of 2 parts", "1 of them cannot be found", ": m-00001-of-00002.gguf: "},
		},
		{
			"many missing", func(t *testing.T, p string) string { return part(t, p, 3, 65535, 1, "a") }, fs.ErrNotExist,
			[]string{"65534 of them", "m-00001-of-65535.gguf, m-00002-of-65535.gguf, m-00004-of-65535.gguf, m-00005-of-65535.gguf and 65530 more"},
		},
		{
			"renamed", func(t *testing.T, p string) string { return rename(t, part(t, p, 1, 2, 1, "a"), p+".gguf") }, nil,
			[]string{"m.gguf: it is part 1 of 2", "that must end with -00001-of-00002.gguf"},
		},
		{"another part's name", func(t *testing.T, p string) string {
			rename(t, part(t, p, 3, 3, 2, "a"), p+"-00002-of-00003.gguf")
			part(t, p, 3, 3, 2, "b")
			return part(t, p, 1, 3, 2)
		}, gguf.ErrFormat, []string{"m-00002-of-00003.gguf", "its name says part 2, its key split.no says part 3"}},
		{"no part", func(t *testing.T, p string) string {
			if err := os.WriteFile(p+"-00002-of-00002.gguf", []byte("GGUF"), 0o600); err != nil {
				t.Fatal(err)
			}
			return part(t, p, 1, 2, 1)
		}, gguf.ErrFormat, []string{"m-00002-of-00002.gguf", "cut off"}},
		{"a whole file among them", func(t *testing.T, p string) string {
			if err := os.WriteFile(p+"-00002-of-00002.gguf", sample(t), 0o600); err != nil {
				t.Fatal(err)
			}
			return part(t, p, 1, 2, 1)
		}, gguf.ErrMissing, []string{"m-00002-of-00002.gguf", "split.no"}},
		{"one tensor twice", func(t *testing.T, p string) string {
			part(t, p, 2, 2, 2, "a")
			return part(t, p, 1, 2, 2, "a")
		}, gguf.ErrFormat, []string{"m-00002-of-00002.gguf", `tensor "a" stands in part 1, too`}},
		{"too few tensors", func(t *testing.T, p string) string {
			part(t, p, 2, 2, 4, "a")
			return part(t, p, 1, 2, 4, "b")
		}, gguf.ErrFormat, []string{"split.tensors.count says 4 tensors, its 2 parts have 2"}},
		{
			"beyond its count", func(t *testing.T, p string) string { return part(t, p, 3, 2, 1, "a") }, gguf.ErrFormat,
			[]string{"it is part 2 of 2, counted from 0"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			f, err := gguf.Open(c.make(t, filepath.Join(t.TempDir(), "m")))
			if err == nil {
				t.Fatal(f.Close(), "it was opened")
			}
			if c.kind != nil && !errors.Is(err, c.kind) {
				t.Errorf("%v: want %v", err, c.kind)
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%v\nlacks %q", err, want)
				}
			}
		})
	}
}

func TestSplitName(t *testing.T) {
	for path, want := range map[string]string{
		"/a/m-00002-of-00003.gguf": "/a/m 2 3", "-00001-of-00001.gguf": " 1 1", "m-00004-of-00003.gguf": "", "m-00000-of-00003.gguf": "",
		"m-2-of-3.gguf": "", "m-+0002-of-00003.gguf": "", "m-00002-of-00003.GGUF": "", "m.gguf": "", "00002-of-00003.gguf": "",
	} {
		got := ""
		if prefix, no, count, ok := gguf.SplitName(path); ok {
			got = fmt.Sprint(prefix, " ", no, " ", count)
		}
		if got != want {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
}
