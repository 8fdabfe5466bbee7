package adapters

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// dropPrefix begins the names under which drops are written: with a dot, so that no Folder looks at them.
const dropPrefix = ".adding-"

// Drop is an adapter on its way into a folder of adapters. It is written beside its place and moved there in
// one step, so that a Folder, or whoever else reads the folder, never sees a half. A Drop is one goroutine's.
type Drop struct{ dir, tmp string }

// abandoned is how long nothing of a Drop has changed whose owner must have died.
const abandoned = 24 * time.Hour

// Begin makes a Drop for a folder of adapters, which must be there. Its owner calls Discard in the end,
// whatever came of it; what owners left that died before is removed now.
func Begin(dir string) (*Drop, error) {
	left, _ := filepath.Glob(filepath.Join(dir, dropPrefix+"*")) // a folder with a bracket in its name keeps them
	for _, path := range left {
		if info, err := os.Lstat(path); err == nil && time.Since(info.ModTime()) > abandoned {
			_ = os.RemoveAll(path) // it may be another user's
		}
	}
	tmp, err := os.MkdirTemp(dir, dropPrefix)
	if err != nil {
		return nil, err
	}
	d := &Drop{dir, tmp}
	if err := os.Chmod(tmp, 0o755); err != nil { //nolint:gosec // the service may be another user than who adds
		d.Discard()
		return nil, err
	}
	return d, nil
}

// Path returns the folder that holds the files until then.
func (d *Drop) Path() string { return d.tmp }

// Write adds a file, whose name is no path, and returns its bytes. A name that is there already is an error.
func (d *Drop) Write(name string, from io.Reader) (int64, error) {
	if name != filepath.Base(name) {
		return 0, &fs.PathError{Op: "write", Path: name, Err: fs.ErrInvalid}
	}
	out, err := os.OpenFile(filepath.Join(d.tmp, name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644) //nolint:gosec // as above
	if err != nil {
		return 0, err
	}
	n, err := io.Copy(out, from)
	return n, errors.Join(err, out.Close())
}

// AsFolder makes the files the folder of that name, in the place of what has it.
func (d *Drop) AsFolder(name string) error {
	final := filepath.Join(d.dir, name)
	err := unix.Renameat2(unix.AT_FDCWD, d.tmp, unix.AT_FDCWD, final, unix.RENAME_EXCHANGE)
	if errors.Is(err, unix.ENOENT) {
		return os.Rename(d.tmp, final)
	}
	if err != nil { // a file system without exchange: for a moment, neither is there
		old := d.tmp + "-old"
		if err := os.Rename(final, old); err != nil {
			return err
		}
		defer os.RemoveAll(old) //nolint:errcheck // a name that nobody looks at
		return os.Rename(d.tmp, final)
	}
	return nil // what was there is Discard's
}

// AsFile makes the one file of that name, with its signature or without one, what is there under it.
func (d *Drop) AsFile(name string) error {
	from, final := filepath.Join(d.tmp, name), filepath.Join(d.dir, name)
	err := os.Rename(from+SignatureSuffix, final+SignatureSuffix)
	if errors.Is(err, fs.ErrNotExist) {
		err = os.Remove(final + SignatureSuffix)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.Rename(from, final)
}

// Discard removes what is left of it.
func (d *Drop) Discard() { _ = os.RemoveAll(d.tmp) } // a name that nobody looks at
