package mmap

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// A DanglingLinkError is the error for a link that leads to nothing, as a copy of a downloader's cache leaves
// them. It counts as fs.ErrNotExist.
type DanglingLinkError struct{ Path, To string }

func (l *DanglingLinkError) Error() string {
	return fmt.Sprintf("%s is a link to %s, which is not there: copy it again with what its links lead to (cp -rL, rsync -rL)", l.Path, l.To)
}

// Is makes it an fs.ErrNotExist.
func (l *DanglingLinkError) Is(target error) bool { return target == fs.ErrNotExist }

// Absent reports whether err says that an optional file is not there at all: a link that leads to nothing is
// a file that is lost.
func Absent(err error) bool {
	_, lost := errors.AsType[*DanglingLinkError](err)
	return errors.Is(err, fs.ErrNotExist) && !lost
}

// Explain makes a DanglingLinkError of err, which says that path is not there, where path is one; else it returns err.
func Explain(path string, err error) error {
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	to, readErr := os.Readlink(path)
	if readErr != nil {
		return err
	}
	return &DanglingLinkError{path, to}
}
