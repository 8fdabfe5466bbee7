package inbox

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// The file format in the folder of a store says how its segments are to be read. It is one line, and missing
// beside segments that were written before it existed, which are of version 1. Another version's segments are
// neither read nor compacted: what this build does not know would be lost with that.
const (
	formatFile = "format"
	formatLine = "edged inbox 1\n"
)

// ErrFormat means that another build wrote the folder, in a way that this one does not read.
var ErrFormat = errors.New("its format is not known to this build")

// checkFormat refuses a folder whose segments this build cannot read.
func checkFormat(dir string) error {
	path := filepath.Join(dir, formatFile)
	data, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("inbox: %w", err)
	case string(data) != formatLine:
		return fmt.Errorf("inbox: %s: %w: it says %.60q, and this build reads %q: run the build that wrote it, or move the folder away, "+
			"with the requests that were accepted and not answered", path, ErrFormat, data, formatLine)
	}
	return nil
}

// writeFormat makes the file where it is missing; the caller syncs the folder. A crash leaves the whole file or none.
func writeFormat(dir string) error {
	path := filepath.Join(dir, formatFile)
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	f, err := os.OpenFile(path+".tmp", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("inbox: %w", err)
	}
	_, err = f.WriteString(formatLine)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(path+".tmp", path)
	}
	if err != nil {
		return fmt.Errorf("inbox: %w", err)
	}
	return nil
}
