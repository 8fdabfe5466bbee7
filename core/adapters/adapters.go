// Package adapters is the catalogue of LoRA adapters: what lies in the folder under which name, what the backend said of it,
// and which bytes a request that names it is pinned to.
//
// It must not know MQTT or how an adapter is applied: all proof on tensors is the backend's, behind Prover. A Folder may
// be used concurrently.
package adapters

import (
	"cmp"
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

	"edged/core/protocol"
	"edged/core/protocol/backend"
	"edged/core/weights"
)

// Prover loads an adapter beside the served model, which proves that it fits. It is a part of backend.Backend.
type Prover interface {
	LoadAdapter(ctx context.Context, req backend.AdapterRequest) (backend.AdapterInfo, error)
}

// The states of a name.
const (
	Verifying = "verifying" // found, and not yet proved by the backend
	Active    = "active"
	Rejected  = "rejected" // Error says why
)

// State is what is known of one name.
type State struct {
	Name       string
	State      string
	Generation int // from 1; 0: none was ever served
	SHA256     string
	Rank       int
	Targets    []string
	Bytes      int64
	Error      string
}

// maxAdapters bounds the names of one folder; what is beyond is left alone and logged.
const maxAdapters = 1024

// Folder is the catalogue of one folder.
type Folder struct {
	dir    string
	log    *slog.Logger
	notify func(State)

	mu    sync.Mutex
	names map[string]*entry
}

type entry struct {
	state   State
	current *Generation // nil: nothing to serve
}

// Generation is one content of a name. Its fields never change.
type Generation struct {
	Name   string
	Number int
	SHA256 string
	Path   string

	mu   sync.Mutex
	life uint64
	id   string // in that life of the backend
}

// New returns the catalogue of a folder that is not read yet; dir "" is an empty one for ever. notify, which may be nil,
// is told every change of a name's state.
func New(dir string, log *slog.Logger, notify func(State)) *Folder {
	if notify == nil {
		notify = func(State) {}
	}
	return &Folder{dir: dir, log: log, notify: notify, names: map[string]*entry{}}
}

// Scan reads the folder. What cannot be an adapter is logged or rejected under its name; only a folder that is there and
// cannot be read is an error. No folder is an empty one.
func (f *Folder) Scan(ctx context.Context) error {
	if f.dir == "" {
		return nil
	}
	list, err := os.ReadDir(f.dir)
	if errors.Is(err, fs.ErrNotExist) {
		f.log.InfoContext(ctx, "there is no adapters folder", "path", f.dir)
		return nil
	}
	if err != nil {
		return fmt.Errorf("adapters: %w", err)
	}
	for _, d := range candidates(list) {
		if err := ctx.Err(); err != nil {
			return err
		}
		if d.reason != "" {
			f.log.WarnContext(ctx, "not taken as an adapter", "path", filepath.Join(f.dir, d.file), "err", d.reason)
			continue
		}
		f.add(ctx, d)
	}
	return nil
}

// candidate is an entry of the folder that is meant as an adapter.
type candidate struct {
	name, file string
	reason     string // why it is none after all
	twin       bool   // the same name was there before
}

// candidates picks what may be an adapter, sorted by file name: NAME/ stands before NAME.gguf.
func candidates(list []fs.DirEntry) []candidate {
	var out []candidate
	seen := map[string]bool{}
	for _, e := range list {
		file := e.Name()
		if passing(file) {
			continue
		}
		name, isGGUF := strings.CutSuffix(file, ".gguf")
		c := candidate{name: name, file: file}
		switch {
		case !isGGUF && e.Type().IsRegular():
			if strings.HasSuffix(file, ".minisig") {
				continue
			}
			c.reason = "a file that is no .gguf: an adapter is a PEFT folder or a .gguf file"
		case !validName(name):
			c.reason = "its name must match [A-Za-z0-9._-]{1,64}"
		case len(seen) >= maxAdapters:
			c.reason = fmt.Sprintf("there are %d others already", maxAdapters)
		default:
			c.twin = seen[name]
			seen[name] = true
		}
		out = append(out, c)
	}
	slices.SortFunc(out, func(a, b candidate) int { return cmp.Compare(a.file, b.file) })
	return out
}

// passing tells the names that copying tools and editors use for what is not complete: they come and go.
func passing(file string) bool {
	if strings.HasPrefix(file, ".") || strings.HasSuffix(file, "~") || strings.HasPrefix(file, "#") {
		return true
	}
	switch strings.ToLower(filepath.Ext(file)) {
	case ".part", ".partial", ".tmp", ".temp", ".swp", ".swx", ".filepart", ".crdownload":
		return true
	}
	return false
}

func validName(name string) bool {
	if name == "" || len(name) > 64 || name == "." || name == ".." {
		return false
	}
	for _, c := range []byte(name) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '.', c == '_', c == '-':
		default:
			return false
		}
	}
	return true
}

// add takes a candidate into the catalogue.
func (f *Folder) add(ctx context.Context, c candidate) {
	path := filepath.Join(f.dir, c.file)
	if c.twin {
		f.log.WarnContext(ctx, "adapter rejected", "adapter", c.name, "path", path,
			"err", "the folder and the .gguf file have one name: the folder is used")
		return
	}
	sum, err := hash(path)
	if err != nil {
		f.reject(ctx, c.name, nil, err)
		return
	}
	f.mu.Lock()
	g := &Generation{Name: c.name, Number: 1, SHA256: sum, Path: path}
	state := State{Name: c.name, State: Verifying, SHA256: sum}
	f.names[c.name] = &entry{state: state, current: g}
	f.mu.Unlock()
	f.notify(state)
}

// hash is the content hash of an adapter's files.
func hash(path string) (string, error) {
	files, err := weights.AdapterFiles(path)
	if err != nil {
		return "", err
	}
	for _, file := range files { // a pipe or a device would be read for ever
		st, err := os.Stat(file.Path)
		if err == nil && !st.Mode().IsRegular() {
			err = fmt.Errorf("%s: %w: is not a regular file", file.Path, protocol.ErrModel)
		}
		if err != nil {
			return "", err
		}
	}
	return weights.HashFiles(files)
}

// reject records why a name is not served. g is the generation that was refused; nil: it did not come so far.
func (f *Folder) reject(ctx context.Context, name string, g *Generation, why error) {
	f.mu.Lock()
	e := f.names[name]
	if e == nil {
		e = &entry{}
		f.names[name] = e
	}
	if g != nil && e.current != g {
		f.mu.Unlock()
		return // a newer one took its place meanwhile
	}
	e.current = nil
	e.state = State{Name: name, State: Rejected, SHA256: e.state.SHA256, Error: why.Error()}
	state := e.state
	f.mu.Unlock()
	f.log.WarnContext(ctx, "adapter rejected", "adapter", name, "err", why)
	f.notify(state)
}

// Prove loads every adapter into a new life of the backend, so that the first request that names one does not wait for
// it. An adapter that the backend refuses is rejected and stops nothing; an error is the backend's death, or ctx's end.
func (f *Folder) Prove(ctx context.Context, p Prover, life uint64) error {
	f.mu.Lock()
	var all []*Generation
	for _, e := range f.names {
		if e.current != nil {
			all = append(all, e.current)
		}
	}
	f.mu.Unlock()
	slices.SortFunc(all, func(a, b *Generation) int { return cmp.Compare(a.Name, b.Name) })
	for _, g := range all {
		info, err := g.load(ctx, p, life)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, protocol.ErrPluginDied):
			return fmt.Errorf("adapters: %s: %w", g.Name, err)
		case err != nil:
			f.reject(ctx, g.Name, g, err)
			continue
		}
		f.activate(ctx, g, info)
	}
	return nil
}

func (f *Folder) activate(ctx context.Context, g *Generation, info backend.AdapterInfo) {
	f.mu.Lock()
	e := f.names[g.Name]
	if e == nil || e.current != g {
		f.mu.Unlock()
		return
	}
	first := e.state.State != Active
	e.state = State{Name: g.Name, State: Active, Generation: g.Number, SHA256: g.SHA256, Rank: info.Rank, Targets: info.Targets, Bytes: info.Bytes}
	state := e.state
	f.mu.Unlock()
	if first {
		f.log.InfoContext(ctx, "adapter active", "adapter", g.Name, "generation", g.Number, "rank", info.Rank, "bytes", info.Bytes)
		f.notify(state)
	}
}

// Resolve returns the generation of a name that is served now, or, with a hash, the one of that content. It stays
// until Release. The error wraps protocol.ErrAdapterNotFound and says which names there are.
func (f *Folder) Resolve(name, sha256 string) (*Generation, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	e := f.names[name]
	switch {
	case e == nil:
		return nil, fmt.Errorf("%w: %q; %s", protocol.ErrAdapterNotFound, name, f.offer())
	case e.current == nil:
		return nil, fmt.Errorf("%w: %q was rejected: %s", protocol.ErrAdapterNotFound, name, e.state.Error)
	case sha256 != "" && e.current.SHA256 != sha256:
		return nil, fmt.Errorf("%w: %q has another content than when the request was accepted", protocol.ErrAdapterNotFound, name)
	}
	return e.current, nil
}

// offer lists what is served. f.mu is held.
func (f *Folder) offer() string {
	var names []string
	for name, e := range f.names {
		if e.current != nil {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return "this node serves no adapters"
	}
	slices.Sort(names)
	const most = 20
	if len(names) > most {
		names = append(names[:most], "…")
	}
	return "there are " + strings.Join(names, ", ")
}

// Release ends a Resolve. Generations are not replaced while the daemon runs, so nothing is freed yet.
func (f *Folder) Release(*Generation) {}

// States returns what is known of every name, sorted.
func (f *Folder) States() []State {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := make([]State, 0, len(f.names))
	for _, e := range f.names {
		out = append(out, e.state)
	}
	slices.SortFunc(out, func(a, b State) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// Use returns the generation's id in a life of the backend, where it is loaded when it is not yet.
func (g *Generation) Use(ctx context.Context, p Prover, life uint64) (string, error) {
	g.mu.Lock()
	if g.life == life && g.id != "" {
		defer g.mu.Unlock()
		return g.id, nil
	}
	g.mu.Unlock()
	info, err := g.load(ctx, p, life)
	return info.ID, err
}

// load is safe to call twice: a backend gives the same content the same id.
func (g *Generation) load(ctx context.Context, p Prover, life uint64) (backend.AdapterInfo, error) {
	info, err := p.LoadAdapter(ctx, backend.AdapterRequest{Path: g.Path, SHA256: g.SHA256, Name: g.Name})
	if err != nil {
		return info, err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.life, g.id = life, info.ID
	return info, nil
}
