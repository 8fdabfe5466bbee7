// Package models is the catalogue of models: a folder into which files are dropped while the service runs,
// what their headers say, and which of them are loaded.
//
// The folder is the truth, and it is read again as a whole, as the adapters folder is. Models are not copied:
// they are as large as the disk of a small board. A model whose files have changed, or are gone, is no longer
// given to new requests; who has it loaded keeps the files that were mapped.
//
//	Dir/NAME.gguf, Dir/NAME-00001-of-0000K.gguf or Dir/NAME/ ──settled, headers read──▶ available ◀──Pool──▶ loaded
//
// Two halves know nothing of each other but names: a Folder says which models there are and what each needs;
// a Pool says which are loaded, within the memory that there is. Neither may know a protocol, or how a model
// is computed. Both may be used concurrently.
package models

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"edged/core/config"
	"edged/core/model/gguf"
	"edged/core/serve/watch"
)

// The states of a model in the folder. A Pool says more of those that are available.
const (
	Settling  = "settling"  // it changes, or is not whole: Error says what is missing
	Available = "available" // a request may name it
	Rejected  = "rejected"  // Error says why
)

// ErrNotFound means that no model of that name is available. Its sentence lists those that are.
var ErrNotFound = errors.New("no such model")

// ErrPassing means that a model cannot be read now, and perhaps later: it is still being copied, or the
// plugin that was asked has ended.
var ErrPassing = errors.New("it may pass")

// Passing marks an error as one that is ErrPassing, and leaves its text alone; nil stays.
func Passing(err error) error {
	if err == nil {
		return nil
	}
	return passingError{err}
}

type passingError struct{ error }

func (e passingError) Unwrap() error      { return e.error }
func (passingError) Is(target error) bool { return target == ErrPassing }

// State describes one model.
type State struct {
	Name  string
	Path  string // a GGUF file, the first part of one, or a folder
	State string
	Error string
	Note  string // what else would have this name, and why it is not served; "": nothing
	Facts
}

// Facts are read from a model's headers.
type Facts struct {
	Kind       string // "decoder", "encoder", "encoder-decoder"
	Family     string
	Tasks      string // what it is for, such as "generate, embed"
	Title      string // what the files call it
	Format     string // of most weights, such as "Q4_0"
	Context    int    // positions that it was made for
	Parameters int64
	Bytes      int64 // of its weights, as they are stored
	Needs      int64 // bytes of memory, at least; 0: not known
}

// Options configure a Folder.
type Options struct {
	Dir    string        // "": there is no folder
	Fixed  []State       // models that are named by path: Name and Path. They come before those of the folder
	Settle time.Duration // a drop, and a removal, counts when nothing changed for so long; 0: 1 s
	Rescan time.Duration // the folder is read at least this often; 0: 30 s
	// Read says what the headers of a model say; nil: Headers. Its error is why the model cannot be served;
	// one that is ErrPassing counts when it has stayed for a while.
	Read   func(ctx context.Context, path string) (Facts, error)
	Log    *slog.Logger
	Notify func() // told, without a lock held, that a state changed; nil: nobody is
}

// patience is how many times Settle a model that is not whole may be quiet before it is rejected: a copy over
// a slow network stalls for seconds, and a download for more. What no further bytes could mend is rejected at
// once.
const patience = 10

// maxRefused bounds the entries that cannot be models and are told as rejected ones all the same.
const maxRefused = 32

// maxModels bounds the models of a folder.
const maxModels = 256

// Folder is the catalogue.
type Folder struct {
	o   Options
	log *slog.Logger

	mu      sync.Mutex
	names   map[string]*entry
	refused []State // entries of the folder that cannot be models, under names that no model has; sorted

	// The following belong to the goroutine that scans.
	strays  []stray // entries of the folder that are not served
	trouble string  // why the folder could not be read the last time
}

// entry is one model.
type entry struct {
	State

	fixed   bool
	print   string    // what the files looked like
	changed time.Time // when they began to
	missing time.Time // since when they are gone; zero: they are there
	done    bool      // this print was dealt with
	retry   time.Time // of what was not whole; zero: never
	version int       // counts contents that became available
	told    string    // the reason that was logged
}

// New returns the catalogue of a folder that is not read yet.
func New(o Options) *Folder {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Notify == nil {
		o.Notify = func() {}
	}
	if o.Rescan <= 0 {
		o.Rescan = 30 * time.Second
	}
	if o.Settle <= 0 {
		o.Settle = time.Second
	}
	if o.Read == nil {
		o.Read = func(_ context.Context, path string) (Facts, error) { return Headers(path) }
	}
	f := &Folder{o: o, log: o.Log, names: map[string]*entry{}}
	for _, s := range o.Fixed {
		f.names[s.Name] = &entry{State: State{Name: s.Name, Path: s.Path, State: Available}, fixed: true, done: true, version: 1}
	}
	return f
}

// Tell takes over what is known of a model that was named by path, once its backend has said it.
func (f *Folder) Tell(name string, facts Facts) {
	f.mu.Lock()
	e := f.names[name]
	news := e != nil && e.Facts != facts
	if news {
		e.Facts = facts
	}
	f.mu.Unlock()
	if news {
		f.o.Notify()
	}
}

// Reject takes a model out of what requests may name, since the plugins could not load it whatever else is in
// memory. It counts for the files of that version only, and until they change; models that are named by path
// stay, since the service is there for them.
func (f *Folder) Reject(name string, version int, why error) {
	f.mu.Lock()
	e := f.names[name]
	news := e != nil && !e.fixed && e.version == version && e.State.State == Available
	if news {
		e.Facts = Facts{}
		e.set(Rejected, why.Error())
		e.told = e.Error
		f.log.Warn("model rejected", "model", name, "err", e.Error)
	}
	f.mu.Unlock()
	if news {
		f.o.Notify()
	}
}

// Lookup returns a model that is available, and a number that is another one once its files were replaced.
// The error wraps ErrNotFound.
func (f *Folder) Lookup(name string) (s State, version int, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	e := f.names[name]
	switch {
	case e != nil && e.State.State == Available:
		return e.State, e.version, nil
	case e != nil && e.State.State == Rejected:
		return s, 0, fmt.Errorf("%w: %q cannot be served: %s", ErrNotFound, name, e.Error)
	case e != nil:
		return s, 0, fmt.Errorf("%w: %q is not complete yet; %s", ErrNotFound, name, f.offer())
	}
	for _, s := range f.refused {
		if s.Name == name {
			return State{}, 0, fmt.Errorf("%w: %q cannot be served: %s", ErrNotFound, name, s.Error)
		}
	}
	return s, 0, fmt.Errorf("%w: %q; %s", ErrNotFound, name, f.offer())
}

// Why says why a model of the folder is not available; "": it is, or there is none of that name.
func (f *Folder) Why(name string) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch e := f.names[name]; {
	case e == nil || e.State.State == Available:
		return ""
	case e.State.State == Settling && e.Error == "":
		return "its files are changing"
	default:
		return e.Error
	}
}

// offer lists what is available. f.mu is held.
func (f *Folder) offer() string {
	var names []string
	for name, e := range f.names {
		if e.State.State == Available {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return "this node has no models"
	}
	slices.Sort(names)
	const most = 20
	if len(names) > most {
		names = append(names[:most], "…")
	}
	return "there are " + strings.Join(names, ", ")
}

// States returns what is known of every model: those that are named by path first, the others sorted, and
// then what of the folder cannot be a model, as rejected ones.
func (f *Folder) States() []State {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := make([]State, 0, len(f.names))
	for _, e := range f.names {
		out = append(out, e.State)
	}
	slices.SortFunc(out, func(a, b State) int {
		if fixedA, fixedB := f.names[a.Name].fixed, f.names[b.Name].fixed; fixedA != fixedB {
			if fixedA {
				return -1
			}
			return 1
		}
		return strings.Compare(a.Name, b.Name)
	})
	return append(out, f.refused...)
}

// refusals are the states of entries that cannot be models: each under its name as far as that is one, with a
// number behind it where another has that. Those of another model's name are told as its note.
func refusals(dir string, strays []stray, taken map[string]bool) []State {
	var out []State
	given := map[string]bool{}
	for _, s := range strays {
		if s.name != "" {
			continue
		}
		if len(out) == maxRefused {
			break
		}
		name := config.FreeName(Name(s.file), func(name string) bool { return taken[name] || given[name] })
		given[name] = true
		out = append(
			out,
			State{Name: name, Path: filepath.Join(dir, s.file), State: Rejected, Error: fmt.Sprintf("%.128q: %s", s.file, s.why)},
		)
	}
	slices.SortFunc(out, func(a, b State) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// Find returns the path of the model of that name in a folder, for who names a model before there is a catalogue.
func Find(dir, name string) (string, error) {
	seen, _, err := look(dir, nil, nil)
	if err != nil {
		return "", err
	}
	var names []string
	for _, s := range seen {
		if s.name == name {
			return filepath.Join(dir, s.file), nil
		}
		names = append(names, s.name)
	}
	if len(names) == 0 {
		return "", fmt.Errorf("%w: %q: %s holds no model", ErrNotFound, name, dir)
	}
	return "", fmt.Errorf("%w: %q; %s holds %s", ErrNotFound, name, dir, strings.Join(names, ", "))
}

// Look lists the models of a folder by their names, sorted, and what of it cannot be one: by the entry of the
// folder, why. path is that of the model which is named by its path, and whose name is its own; "": none is.
func Look(dir, path string) (names []string, refused map[string]string, err error) {
	var fixed map[string]string
	if path != "" {
		fixed = map[string]string{Name(path): path}
	}
	seen, strays, err := look(dir, fixed, nil)
	for _, s := range seen {
		names = append(names, s.name)
	}
	refused = map[string]string{}
	for _, s := range strays {
		refused[s.file] = s.why
	}
	slices.Sort(names)
	return names, refused, err
}

// Name is the name of a model's file or folder, as clients write it.
func Name(path string) string {
	name := strings.TrimSuffix(filepath.Base(path), ".gguf")
	if prefix, _, _, ok := gguf.SplitName(path); ok {
		name = filepath.Base(prefix)
	}
	name = strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '.', r == '_', r == '-':
			return r
		}
		return '-'
	}, name)
	return name
}

// sighting describes the entry of the folder for one name, as a scan found it.
type sighting struct {
	name, file string
}

// stray is an entry of the folder that is not served as a model.
type stray struct {
	name, file, why string // name: that it would have; "": none
}

// look reads a folder: what may be a model, and what cannot be one. fixed are the paths of models that are
// named by path, by their names, and known the files of those that were found before: both keep their names,
// and known ones their places where there are too many. Of two that are new, a file goes before a folder.
func look(dir string, fixed, known map[string]string) (found []sighting, strays []stray, err error) {
	list, err := watch.List(dir)
	if err != nil {
		return nil, nil, err
	}
	var there []sighting
	for _, file := range list {
		if watch.Passing(file) {
			continue
		}
		name, why := judge(dir, file)
		switch path := fixed[name]; {
		case why == silent:
		case why != "":
			strays = append(strays, stray{"", file, why})
		case path != "" && same(path, filepath.Join(dir, file)):
			found = append(found, sighting{name, file})
		case path != "":
			strays = append(strays, stray{name, file, "its name is that of the configured model, " + path + ": give it another"})
		default:
			there = append(there, sighting{name, file})
		}
	}
	slices.SortStableFunc(there, func(a, b sighting) int {
		rank := func(s sighting) int {
			switch {
			case known[s.name] == s.file:
				return 0
			case known[s.name] != "":
				return 1
			case strings.HasSuffix(s.file, ".gguf"):
				return 2
			}
			return 3
		}
		return rank(a) - rank(b)
	})
	taken := map[string]string{}
	for _, s := range there {
		switch first := taken[s.name]; {
		case first != "":
			strays = append(strays, stray{s.name, s.file, "its name is that of " + first + ", which is served: give it another"})
		case len(found) >= maxModels:
			strays = append(strays, stray{"", s.file, fmt.Sprintf("there are %d others already, and that is the most", maxModels)})
		default:
			taken[s.name] = s.file
			found = append(found, s)
		}
	}
	return found, strays, nil
}

// same reports whether two paths lead to the same file or folder.
func same(a, b string) bool {
	if filepath.Clean(a) == filepath.Clean(b) {
		return true
	}
	x, errX := os.Stat(a)
	y, errY := os.Stat(b)
	return errX == nil && errY == nil && os.SameFile(x, y)
}

// silent is the reason that judge gives for an entry that is obviously no model.
const silent = "-"

// judge tells the name of the model that an entry of a folder is, or why it is none.
func judge(dir, file string) (name, why string) {
	info, err := os.Stat(filepath.Join(dir, file)) // a link counts as what it leads to
	base, isGGUF := strings.CutSuffix(file, ".gguf")
	if prefix, no, count, split := gguf.SplitName(file); split {
		if no > 1 {
			return "", orphan(dir, prefix, no, count, info)
		}
		base = prefix
	}
	switch {
	case err == nil && !info.IsDir() && !isGGUF:
		return "", silent // notes, checksums
	case file == "lost+found":
		return "", silent // of a file system's root
	case err == nil && info.IsDir() && isGGUF:
		return "", "a folder whose name ends with .gguf"
	case !config.ValidFileName(base):
		return "", "its name must match " + config.NamePattern
	}
	return base, ""
}

// orphan says what a part of a split model lacks; silent where its first part is there, which counts, where a
// part before it tells the same, or while the files may still be on their way.
func orphan(dir, prefix string, no, count int, info os.FileInfo) string {
	for before := 1; before < no; before++ {
		if _, err := os.Stat(filepath.Join(dir, gguf.PartName(prefix, before, count))); err == nil {
			return silent
		}
	}
	if info == nil || time.Since(info.ModTime()) < orphanAfter {
		return silent
	}
	return fmt.Sprintf(
		"it is part %d of %d, and the first one, %s, is not there: put all parts into the folder",
		no,
		count,
		gguf.PartName(prefix, 1, count),
	)
}

// orphanAfter is how long the first part of a split model may come later than another.
const orphanAfter = 10 * time.Second

// files are those whose change means another model.
func files(path string) ([]string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		list, err := watch.List(path)
		if err != nil {
			return nil, err
		}
		var out []string
		for _, file := range list {
			if !watch.Passing(file) {
				out = append(out, filepath.Join(path, file))
			}
		}
		return out, nil
	}
	if prefix, _, count, ok := gguf.SplitName(path); ok {
		var out []string
		for no := 1; no <= count; no++ {
			out = append(out, gguf.PartName(prefix, no, count))
		}
		return out, nil
	}
	return []string{path}, nil
}

// fingerprint changes whenever the files of a model may have.
func fingerprint(path string) (print string, newest time.Time) {
	list, err := files(path)
	if err != nil {
		return err.Error(), time.Time{}
	}
	var b strings.Builder
	for _, file := range list {
		line, at, err := watch.Print(file)
		if err != nil {
			fmt.Fprintf(&b, "%s: %v\n", file, err)
			continue
		}
		if at.After(newest) {
			newest = at
		}
		b.WriteString(line + "\n")
	}
	return b.String(), newest
}

// isNotExist is fs.ErrNotExist in an error.
func isNotExist(err error) bool { return errors.Is(err, fs.ErrNotExist) }
