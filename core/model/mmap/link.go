package mmap

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// A DanglingLink is the error for a link that leads to nothing, as a copy of a downloader's cache leaves them. It counts as
// fs.ErrNotExist.
type DanglingLink struct{ Path, To string }

func (l *DanglingLink) Error() string {
	return fmt.Sprintf("%s is a link to %s, which is not there: copy it again with what its links lead to (cp -rL, rsync -rL)", l.Path, l.To)
}

// Is makes it an fs.ErrNotExist.
func (l *DanglingLink) Is(target error) bool { return target == fs.ErrNotExist }

// Explain makes a DanglingLink of err, which says that path is not there, where path is one; else it returns err.
func Explain(path string, err error) error {
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	to, readErr := os.Readlink(path)
	if readErr != nil {
		return err
	}
	return &DanglingLink{path, to}
}
