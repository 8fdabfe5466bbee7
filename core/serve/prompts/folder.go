package prompts

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"

	"edged/core/config"
	"edged/core/serve/dispatch"
	"edged/core/serve/door/fields"
)

// Extension of a preset's file; before it stands the preset's name.
const Extension = ".toml"

// maxPresets bounds a folder.
const maxPresets = 1024

// Options configure a Folder.
type Options struct {
	Dir    string        // "": there are no presets, for ever
	Rescan time.Duration // the folder is read at least this often; 0: 30 s
	Log    *slog.Logger
	Notify func() // told, without a lock held, that a state changed; nil: nobody is
}

// State describes one preset.
type State struct {
	Name   string
	Preset *Preset // what is served; nil: nothing
	Error  string  // why the file, as it is now, is not; "": it is
}

// Folder is the presets of a folder.
type Folder struct {
	o Options

	mu    sync.Mutex
	names map[string]*entry
	why   string // the folder could not be read
	over  string // what was passed over of it, as it was logged last
}

// entry is one name.
type entry struct {
	preset *Preset
	err    string
	sum    [sha256.Size]byte // of the file that was read last
}

// Open reads a folder. What is broken of it is told by States and the log.
func Open(ctx context.Context, o Options) *Folder {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Rescan <= 0 {
		o.Rescan = 30 * time.Second
	}
	f := &Folder{o: o, names: map[string]*entry{}}
	f.scan(ctx)
	return f
}

// Run reads the folder again whenever it may have changed, until ctx ends; nil.
func (f *Folder) Run(ctx context.Context) error {
	if f.o.Dir == "" {
		<-ctx.Done()
		return nil
	}
	events, failures := make(chan fsnotify.Event), make(chan error)
	if w, err := fsnotify.NewWatcher(); err != nil {
		f.o.Log.WarnContext(ctx, "changes of the prompts folder are found by the rescan only", "err", err)
	} else {
		defer w.Close() //nolint:errcheck // it was only read from
		if err := w.Add(f.o.Dir); err != nil {
			f.o.Log.WarnContext(ctx, "changes of the prompts folder are found by the rescan only", "path", f.o.Dir, "err", err)
		}
		events, failures = w.Events, w.Errors
	}
	ticker := time.NewTicker(f.o.Rescan)
	defer ticker.Stop()
	f.scan(ctx) // what changed before the watch
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-events:
		case err := <-failures: // events were lost
			f.o.Log.DebugContext(ctx, "events of the prompts folder were lost", "err", err)
		case <-ticker.C:
		}
		f.scan(ctx)
	}
}

// scan reads the folder. A file that is being written is read again at its next event.
func (f *Folder) scan(ctx context.Context) {
	if f.o.Dir == "" {
		return
	}
	files, over, err := Files(f.o.Dir)
	f.mu.Lock()
	changed := false
	if err != nil {
		if f.why != err.Error() {
			f.o.Log.WarnContext(ctx, "the prompts folder cannot be read", "path", f.o.Dir, "err", err)
			f.why = err.Error()
		}
		f.mu.Unlock()
		return // what is served stays
	}
	f.why = ""
	if text := Names(over); text != f.over {
		if f.over = text; text != "" {
			f.o.Log.InfoContext(ctx, "a prompt is a file whose name ends in "+Extension+": others are passed over", "path", f.o.Dir, "names", text)
		}
	}
	there := map[string]bool{}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), Extension)
		there[name] = true
		changed = f.read(ctx, name, file) || changed
	}
	for name := range f.names {
		if !there[name] {
			f.o.Log.InfoContext(ctx, "a prompt was removed", "prompt", name)
			delete(f.names, name)
			changed = true
		}
	}
	f.mu.Unlock()
	if changed && f.o.Notify != nil {
		f.o.Notify()
	}
}

// Files are the paths of the presets of a folder, and the names of what else lies there and is passed over,
// both sorted. Hidden files are in neither. A folder with too many presets is an error.
func Files(dir string) (files, over []string, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, nil, err
	}
	for _, e := range entries {
		switch {
		case strings.HasPrefix(e.Name(), "."):
		case strings.HasSuffix(e.Name(), Extension) && !e.IsDir():
			files = append(files, filepath.Join(dir, e.Name()))
		case e.IsDir():
			over = append(over, e.Name()+string(filepath.Separator))
		default:
			over = append(over, e.Name())
		}
	}
	if len(files) > maxPresets {
		return nil, nil, fmt.Errorf("%s holds %d presets, and at most %d are read", dir, len(files), maxPresets)
	}
	return files, over, nil
}

// Names is a list of file names for people, of which the first few stand for many.
func Names(names []string) string {
	const most = 8
	if len(names) > most {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
	}
	return strings.Join(names, ", ")
}

// read reads one file and reports whether its state changed. f.mu is held.
func (f *Folder) read(ctx context.Context, name, path string) bool {
	preset, sum, err := Read(ctx, path)
	e := f.names[name]
	if e == nil {
		e = &entry{}
		f.names[name] = e
	} else if e.sum == sum && (err == nil) == (e.err == "") {
		return false
	}
	e.sum = sum
	if err != nil {
		told := e.err == err.Error()
		e.err = err.Error()
		if !told {
			f.o.Log.WarnContext(ctx, "a prompt cannot be used", "prompt", name, "path", path, "err", err, "earlier_serves", e.preset != nil)
		}
		return !told
	}
	e.preset, e.err = preset, ""
	f.o.Log.InfoContext(ctx, "a prompt is served", "prompt", name, "sha256", preset.SHA256)
	return true
}

// Read reads a preset's file, and gives the hash of what was read.
func Read(ctx context.Context, path string) (p *Preset, sum [sha256.Size]byte, err error) {
	if name := strings.TrimSuffix(filepath.Base(path), Extension); !config.ValidName(name) {
		return nil, sum, fmt.Errorf("the name %q must match "+config.NamePattern, name)
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, sum, err
	}
	defer file.Close() //nolint:errcheck // opened for reading: nothing to lose
	info, err := file.Stat()
	if err != nil {
		return nil, sum, err
	}
	if !info.Mode().IsRegular() {
		return nil, sum, fmt.Errorf("%s is no file", path)
	}
	data, err := io.ReadAll(io.LimitReader(file, MaxFile+1))
	if err != nil {
		return nil, sum, err
	}
	p, err = Parse(ctx, data)
	return p, sha256.Sum256(data), err
}

// States are all names, sorted.
func (f *Folder) States() []State {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []State
	for _, name := range slices.Sorted(maps.Keys(f.names)) {
		e := f.names[name]
		out = append(out, State{Name: name, Preset: e.preset, Error: e.err})
	}
	return out
}

// Fill makes a request one that asks what a preset asks; see Preset.Fill.
func (f *Folder) Fill(req *dispatch.Request, name string, vars []byte) *fields.Error {
	f.mu.Lock()
	var p *Preset
	why := ""
	if e := f.names[name]; e != nil {
		p, why = e.preset, e.err
	}
	var there []string
	for _, n := range slices.Sorted(maps.Keys(f.names)) {
		if f.names[n].preset != nil {
			there = append(there, n)
		}
	}
	f.mu.Unlock()
	switch {
	case p != nil:
		return p.Fill(req, vars)
	case f.o.Dir == "":
		return fields.NoPrompt("this node has no prompts: prompts.dir is not set")
	case why != "":
		return fields.NoPrompt("%q cannot be used: %s", fields.Short(name), why)
	case len(there) == 0:
		return fields.NoPrompt("%q is not there, and neither is any other", fields.Short(name))
	}
	const most = 32
	if len(there) > most {
		there = append(there[:most], "…")
	}
	return fields.NoPrompt("%q is not there; there are: %s", fields.Short(name), strings.Join(there, ", "))
}
