package safetensors

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"edged/core/model/mmap"
)

// Names of the files of a folder.
const (
	SingleName = "model.safetensors"
	IndexName  = "model.safetensors.index.json"
)

// maxIndex bounds the index of a sharded model; the largest published ones have a few hundred kilobytes.
const maxIndex = 16 << 20

// Folder is an open model folder: one file, or all shards of an index.
type Folder struct {
	Path   string
	files  []*File
	index  string // path of the index file, "" where there is none
	byName map[string]*Tensor
}

// OpenFolder opens model.safetensors in dir, or else all shards that model.safetensors.index.json names. Each
// tensor must be in exactly one file, in the one where the index says.
func OpenFolder(dir string) (*Folder, error) {
	f := &Folder{Path: dir, byName: map[string]*Tensor{}}
	names := []string{SingleName}
	var where map[string]string
	_, err := os.Stat(filepath.Join(dir, SingleName))
	switch {
	case err == nil:
	case !errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("safetensors: %w", err)
	default:
		f.index = filepath.Join(dir, IndexName)
		if where, err = readIndex(f.index); err != nil {
			if errors.Is(err, fs.ErrNotExist) {
				for _, name := range []string{SingleName, IndexName} {
					path := filepath.Join(dir, name)
					if link, ok := errors.AsType[*mmap.DanglingLinkError](mmap.Explain(path, fs.ErrNotExist)); ok {
						return nil, fmt.Errorf("safetensors: %w", link)
					}
				}
				return nil, fmt.Errorf("safetensors: %s: neither %s nor %s is there: %w", dir, SingleName, IndexName, fs.ErrNotExist)
			}
			return nil, err
		}
		names = slices.Compact(slices.Sorted(maps.Values(where)))
	}
	if err := f.open(names, where); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func (f *Folder) open(names []string, where map[string]string) error {
	for i, name := range names {
		file, err := OpenFile(filepath.Join(f.Path, name))
		var link *mmap.DanglingLinkError
		if errors.Is(err, fs.ErrNotExist) && !errors.As(err, &link) {
			return fmt.Errorf("safetensors: %s: shard %s (%d of %d) is missing: copy it into the folder: %w",
				f.Path, name, i+1, len(names), fs.ErrNotExist)
		}
		if err != nil {
			return err
		}
		f.files = append(f.files, file)
		for j := range file.tensors {
			t := &file.tensors[j]
			if other := f.byName[t.Name]; other != nil {
				return fmt.Errorf("safetensors: %s: %w: tensor %q is in both %s and %s", f.Path, ErrFormat, t.Name, other.File, t.File)
			}
			if where != nil && where[t.Name] != name {
				return fmt.Errorf("safetensors: %s: %w: tensor %q is in %s, but the index has it in %q", f.Path, ErrFormat, t.Name, name, where[t.Name])
			}
			f.byName[t.Name] = t
		}
	}
	for _, name := range slices.Sorted(maps.Keys(where)) {
		if f.byName[name] == nil {
			return fmt.Errorf("safetensors: %s: %w: tensor %q is not in %s, where the index has it", f.Path, ErrFormat, name, where[name])
		}
	}
	return nil
}

// Tensor finds a tensor by name in any file, nil where there is none.
func (f *Folder) Tensor(name string) *Tensor { return f.byName[name] }

// Names lists the tensors of all files, sorted.
func (f *Folder) Names() []string { return slices.Sorted(maps.Keys(f.byName)) }

// Files lists the open files.
func (f *Folder) Files() []*File { return f.files }

// Index is the path of the index of a sharded model, "" where there is none.
func (f *Folder) Index() string { return f.index }

// Close unmaps all files.
func (f *Folder) Close() error {
	var errs []error
	for _, file := range f.files {
		errs = append(errs, file.Close())
	}
	return errors.Join(errs...)
}

// readIndex reads the weight_map of an index: tensor name → file name.
func readIndex(path string) (map[string]string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("safetensors: %w", err)
	}
	if info.Size() > maxIndex {
		return nil, fmt.Errorf("safetensors: %s: %w: %d bytes, more than the %d allowed", path, ErrFormat, info.Size(), maxIndex)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("safetensors: %w", err)
	}
	where, err := parseIndex(data)
	if err != nil {
		return nil, fmt.Errorf("safetensors: %s: %w: %w", path, ErrFormat, err)
	}
	return where, nil
}

func parseIndex(data []byte) (map[string]string, error) {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	r := headerReader{dec}
	var where map[string]string
	err := r.object(func(field string) error {
		if field != "weight_map" {
			var skip json.RawMessage
			return dec.Decode(&skip)
		}
		if where != nil {
			return errors.New("weight_map appears twice")
		}
		where = map[string]string{}
		return r.object(func(name string) error {
			file, err := r.str()
			if err != nil {
				return err
			}
			if _, ok := where[name]; ok {
				return fmt.Errorf("tensor %q appears twice", name)
			}
			// A shard lies beside its index: a path would let a model name any file of the system.
			if file != filepath.Base(file) || !strings.HasSuffix(file, ".safetensors") {
				return fmt.Errorf("tensor %q is in %q: want the name of a .safetensors file in the same folder", name, file)
			}
			where[name] = file
			return nil
		})
	})
	switch {
	case err != nil:
		return nil, err
	case len(where) == 0:
		return nil, errors.New("its weight_map is missing or empty")
	}
	return where, nil
}
