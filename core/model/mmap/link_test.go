package mmap_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"edged/core/model/mmap"
)

func TestDanglingLink(t *testing.T) {
	dir := t.TempDir()
	link, missing := filepath.Join(dir, "link"), filepath.Join(dir, "missing")
	if err := os.Symlink("../blobs/0a1b", link); err != nil {
		t.Fatal(err)
	}
	var dangling *mmap.DanglingLinkError
	_, err := mmap.Open(link)
	if !errors.As(err, &dangling) || !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), link+" is a link to ../blobs/0a1b, which is not there") {
		t.Errorf("%v", err)
	}
	if _, err = mmap.Open(missing); errors.As(err, &dangling) || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
	if other := errors.New("other"); !errors.Is(mmap.Explain(link, other), other) {
		t.Error("another error was changed")
	}
}
