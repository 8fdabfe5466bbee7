package gguf

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"edged/core/model/mmap"
)

// Keys of a file that was split, as llama-gguf-split writes them: the number of parts and of a part (from 0)
// in each, and how many tensors all have together.
const (
	splitCountKey   = "split.count"
	splitNoKey      = "split.no"
	splitTensorsKey = "split.tensors.count"
)

// maxParts is the largest number of parts that the five digits of a part's name, and the uint16 of its key, can count.
const maxParts = 1<<16 - 1

// namedParts bounds how many missing files an error names.
const namedParts = 4

// A Part is a file of an open File: the only one, or one of those that it was split into.
type Part struct {
	Path    string
	Mapping *mmap.Mapping
}

// Parts lists the files that were opened, the first part first; none for a parsed File. The slice is the file's own.
func (f *File) Parts() []Part { return f.parts }

// SplitName takes the name of a part, PREFIX-00002-of-00005.gguf, apart: its prefix with the folder, its
// number from 1, and how many there are. ok is false for any other name.
func SplitName(path string) (prefix string, no, count int, ok bool) {
	const tail = "-00000-of-00000.gguf"
	at := len(path) - len(tail)
	if at < 0 {
		return "", 0, 0, false
	}
	end := path[at:]
	no, err := strconv.Atoi(end[1:6])
	count, err2 := strconv.Atoi(end[10:15])
	if err != nil || err2 != nil || no < 1 || no > count || end != PartName("", no, count) {
		return "", 0, 0, false
	}
	return path[:at], no, count, true
}

// PartName is the name that all writers give to part no of count.
func PartName(prefix string, no, count int) string {
	return fmt.Sprintf("%s-%05d-of-%05d.gguf", prefix, no, count)
}

// join makes f, the opened part that a caller named, the whole: metadata of the first part, tensors of all. On an error
// everything but f is closed.
func (f *File) join() (*File, error) {
	if !f.Has(splitCountKey) {
		return f, nil
	}
	count, err := f.Uint(splitCountKey)
	if err != nil || count < 2 {
		return f, err
	}
	no, err := f.Uint(splitNoKey)
	if err != nil {
		return nil, err
	}
	if count > maxParts || no >= count {
		return nil, fmt.Errorf("gguf: %s: %w: it is part %d of %d, counted from 0", f.Path, ErrFormat, no, count)
	}
	prefix, _, _, ok := SplitName(f.Path)
	if want := PartName("", int(no)+1, int(count)); !ok || !strings.HasSuffix(f.Path, want) {
		return nil, fmt.Errorf("gguf: %s: it is part %d of %d of a split file, and the others are found by its name: that must end with %s",
			f.Path, no+1, count, want)
	}
	if err := complete(f.Path, prefix, int(count)); err != nil {
		return nil, err
	}
	files := make([]*File, count)
	files[no] = f
	closing := func(err error) (*File, error) {
		for _, p := range files {
			if p != nil && p != f {
				err = errors.Join(err, p.Close())
			}
		}
		return nil, err
	}
	for i := range files {
		if files[i] == nil {
			if files[i], err = openPart(PartName(prefix, i+1, int(count)), i); err != nil {
				return closing(err)
			}
		}
	}
	whole, err := merge(files)
	if err != nil {
		return closing(err)
	}
	return whole, nil
}

// complete names the parts that are not there.
func complete(path, prefix string, count int) error {
	var missing []string
	n := 0
	for i := range count {
		name := PartName(prefix, i+1, count)
		if _, err := os.Stat(name); !errors.Is(err, fs.ErrNotExist) {
			continue // one that cannot be looked at says why when it is opened
		}
		if n++; n <= namedParts {
			missing = append(missing, filepath.Base(name))
		}
	}
	if n == 0 {
		return nil
	}
	names := strings.Join(missing, ", ")
	if n > namedParts {
		names += fmt.Sprintf(" and %d more", n-namedParts)
	}
	return fmt.Errorf(
		"gguf: %s: it is one of %d parts of a model, and %d of them cannot be found beside it: %s: %w",
		path,
		count,
		n,
		names,
		fs.ErrNotExist,
	)
}

// openPart opens part i, counted from 0.
func openPart(path string, i int) (*File, error) {
	f, err := openOne(path)
	if err != nil {
		return nil, err
	}
	no, err := f.Uint(splitNoKey)
	if err == nil && no != uint64(i) {
		err = fmt.Errorf("gguf: %s: %w: its name says part %d, its key %s says part %d", path, ErrFormat, i+1, splitNoKey, no+1)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// merge adds the tensors and mappings of all parts to the first.
func merge(files []*File) (*File, error) {
	whole := *files[0]
	whole.tensors, whole.byName, whole.parts = nil, map[string]int{}, nil
	for i, p := range files {
		for _, t := range p.tensors {
			if other, ok := whole.byName[t.Name]; ok {
				return nil, fmt.Errorf(
					"gguf: %s: %w: tensor %q stands in part %d, too",
					p.Path,
					ErrFormat,
					t.Name,
					whole.tensors[other].Part+1,
				)
			}
			if len(whole.tensors) == maxTensors {
				return nil, fmt.Errorf("gguf: %s: %w: the parts have more than %d tensors together", p.Path, ErrFormat, maxTensors)
			}
			t.Part = i
			whole.byName[t.Name] = len(whole.tensors)
			whole.tensors = append(whole.tensors, t)
		}
		whole.parts = append(whole.parts, p.parts...)
	}
	if whole.Has(splitTensorsKey) {
		n, err := whole.Uint(splitTensorsKey)
		if err != nil {
			return nil, err
		}
		if n != uint64(len(whole.tensors)) {
			return nil, fmt.Errorf("gguf: %s: %w: %s says %d tensors, its %d parts have %d: they do not belong together",
				whole.Path, ErrFormat, splitTensorsKey, n, len(files), len(whole.tensors))
		}
	}
	return &whole, nil
}
