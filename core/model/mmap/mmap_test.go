package mmap_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"edged/core/model/mmap"
)

func TestOpen(t *testing.T) {
	page := os.Getpagesize()
	for _, n := range []int{0, 1, page - 1, page, page + 1, 3 * page} {
		want := bytes.Repeat([]byte{7}, n)
		path := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(path, want, 0o600); err != nil {
			t.Fatal(err)
		}
		m, err := mmap.Open(path)
		if err != nil {
			t.Fatalf("%d bytes: %v", n, err)
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(m.Bytes(), want) || m.Len() != n {
			t.Errorf("%d bytes: mapped %d bytes that differ", n, m.Len())
		}
		for _, a := range []mmap.Advice{mmap.WillNeed, mmap.Sequential, mmap.Random, mmap.DontNeed} {
			if err := m.Advise(a); err != nil {
				t.Errorf("%d bytes: advise %d: %v", n, a, err)
			}
		}
		if !bytes.Equal(m.Bytes(), want) {
			t.Errorf("%d bytes: advice changed the data", n)
		}
		for range 2 {
			if err := m.Close(); err != nil {
				t.Errorf("%d bytes: close: %v", n, err)
			}
		}
		if m.Bytes() != nil {
			t.Errorf("%d bytes: memory after Close", n)
		}
		if err := m.Advise(mmap.WillNeed); !errors.Is(err, mmap.ErrClosed) {
			t.Errorf("%d bytes: advise after Close: %v", n, err)
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	if _, err := mmap.Open(filepath.Join(t.TempDir(), "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("absent file: %v", err)
	}
	if _, err := mmap.Open(t.TempDir()); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("folder: %v", err)
	}
}

func TestAnonymous(t *testing.T) {
	page := os.Getpagesize()
	m, err := mmap.Anonymous(4*page + 5)
	if err != nil {
		t.Fatal(err)
	}
	b := m.Bytes()
	for i := range b {
		if b[i] != 0 {
			t.Fatalf("byte %d is %d at first", i, b[i])
		}
		b[i] = 9
	}
	if err := m.Advise(mmap.HugePage); err != nil && !errors.Is(err, errors.ErrUnsupported) {
		t.Error(err)
	}
	if err := m.AdviseRange(page+1, 2*page, mmap.DontNeed); err != nil {
		t.Error(err)
	}
	for i := range b {
		want := byte(9)
		if i >= 2*page && i < 3*page {
			want = 0 // the only whole page inside the range
		}
		if b[i] != want {
			t.Fatalf("byte %d is %d after DontNeed, want %d", i, b[i], want)
		}
	}
	for _, r := range [][2]int{{-1, 1}, {0, -1}, {0, len(b) + 1}, {len(b) + 1, 0}, {1, len(b)}} {
		if err := m.AdviseRange(r[0], r[1], mmap.WillNeed); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("advise on [%d, +%d): %v", r[0], r[1], err)
		}
	}
	if err := m.Close(); err != nil {
		t.Error(err)
	}
	if m, err := mmap.Anonymous(0); err != nil || m.Len() != 0 || m.Close() != nil {
		t.Errorf("empty: %v", err)
	}
	if _, err := mmap.Anonymous(-1); err == nil {
		t.Error("negative size accepted")
	}
}
