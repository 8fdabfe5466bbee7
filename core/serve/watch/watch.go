// Package watch looks at a folder into which people drop files while the service runs. File system events are
// hints and no more: who gets one reads the folder again, and a ticker of theirs makes up for hints that are
// lost.
//
// It must not know what the files are. A Watcher belongs to one goroutine.
package watch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"
)

// Watcher turns file system events into hints. Where a machine has no watches left it gives none, and the
// owner's ticker finds everything, later.
type Watcher struct {
	w       *fsnotify.Watcher // nil: none
	log     *slog.Logger
	what    string // "adapters", for the log
	hint    chan struct{}
	wg      sync.WaitGroup
	watched map[string]os.FileInfo // by path: a link may lead elsewhere by now
	failed  bool                   // said once
}

// New returns a Watcher that looks at nothing yet. what names the folder in the log.
func New(ctx context.Context, log *slog.Logger, what string) *Watcher {
	w := &Watcher{log: log, what: what, hint: make(chan struct{}, 1), watched: map[string]os.FileInfo{}}
	inner, err := fsnotify.NewWatcher()
	if err != nil {
		log.WarnContext(ctx, "changes of a folder are found by the rescan only", "folder", what, "err", err)
		return w
	}
	w.w = inner
	w.wg.Go(w.listen)
	return w
}

// listen turns every event, and every error, which is an overflow most of the time, into a hint.
func (w *Watcher) listen() {
	for {
		select {
		case _, ok := <-w.w.Events:
			if !ok {
				return
			}
		case _, ok := <-w.w.Errors:
			if !ok {
				return
			}
		}
		select {
		case w.hint <- struct{}{}:
		default:
		}
	}
}

// Hints holds a value when something may have changed.
func (w *Watcher) Hints() <-chan struct{} { return w.hint }

// Follow says what to look at: the folder, and those of its entries that are folders themselves. A new watch
// is a hint: something may have happened before it.
func (w *Watcher) Follow(dir string, files []string) {
	if w.w == nil {
		return
	}
	want := map[string]bool{dir: true}
	for _, file := range files {
		// By the folder that a link leads to: the watch of a path whose link was turned would end with the old folder.
		if real, err := filepath.EvalSymlinks(filepath.Join(dir, file)); err == nil {
			want[real] = true
		}
	}
	for path := range w.watched {
		if !want[path] {
			_ = w.w.Remove(path) // it may be gone already
			delete(w.watched, path)
		}
	}
	for path := range want {
		info, err := os.Stat(path)
		if err != nil || !info.IsDir() {
			continue // of files, the folder tells
		}
		if old, ok := w.watched[path]; ok {
			if os.SameFile(old, info) {
				continue
			}
			_ = w.w.Remove(path)
		}
		if err := w.w.Add(path); err != nil {
			if !w.failed {
				w.log.Warn("changes of a folder are found by the rescan only", "folder", w.what, "path", path, "err", err)
			}
			w.failed = true
			continue
		}
		w.watched[path] = info
		select {
		case w.hint <- struct{}{}:
		default:
		}
	}
}

// Close ends the watches.
func (w *Watcher) Close() {
	if w.w != nil {
		if err := w.w.Close(); err != nil {
			w.log.Warn("the watches of a folder did not close", "folder", w.what, "err", err)
		}
		w.wg.Wait()
	}
}

// Passing tells the names that copying tools and editors use for what is not complete: they come and go. One with a
// backslash is what an archive from another system made of a path, and is told as what cannot be taken.
func Passing(file string) bool {
	if strings.Contains(file, `\`) {
		return false
	}
	if strings.HasPrefix(file, ".") || strings.HasSuffix(file, "~") || strings.HasPrefix(file, "#") {
		return true
	}
	switch strings.ToLower(filepath.Ext(file)) {
	case ".part", ".partial", ".tmp", ".temp", ".swp", ".swx", ".filepart", ".crdownload", ".download", ".incomplete":
		return true
	}
	return false
}

// maxEntries bounds what is read of a folder. One of more is somebody's download folder.
const maxEntries = 1 << 14

// List lists a folder, sorted so that NAME stands before NAME.gguf.
func List(dir string) ([]string, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer d.Close() //nolint:errcheck // opened for reading: nothing to lose
	names, err := d.Readdirnames(maxEntries + 1)
	switch {
	case err != nil && !errors.Is(err, io.EOF):
		return nil, err
	case len(names) > maxEntries:
		return nil, fmt.Errorf("%s holds more than %d entries: it is a folder of something else", dir, maxEntries)
	}
	slices.SortFunc(names, func(a, b string) int {
		return strings.Compare(strings.TrimSuffix(a, ".gguf")+"\x00"+a, strings.TrimSuffix(b, ".gguf")+"\x00"+b)
	})
	return names, nil
}

// Print changes whenever a file may have: its kind, its place on the disk, its length and its times. newest
// is the latest of those times. Only metadata is read: a network folder would pay for more every time.
func Print(path string) (print string, newest time.Time, err error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", time.Time{}, err
	}
	at := changeTime(info)
	return fmt.Sprintf(
		"%s %v %d %d %d %d",
		filepath.Base(path),
		info.Mode(),
		inode(info),
		info.Size(),
		info.ModTime().UnixNano(),
		at.UnixNano(),
	), at, nil
}

// Pause waits until a time, a hint or ctx's end, which is the error. hints may be nil.
func Pause(ctx context.Context, at time.Time, hints <-chan struct{}) error {
	t := time.NewTimer(time.Until(at))
	defer t.Stop()
	select {
	case <-t.C:
	case <-hints:
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}
