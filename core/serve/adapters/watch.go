package adapters

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"sync"

	"github.com/fsnotify/fsnotify"
)

// watcher turns file system events into hints. Without it, for a machine that has no watches left, the ticker finds
// everything, later.
type watcher struct {
	w       *fsnotify.Watcher // nil: none
	log     *slog.Logger
	hint    chan struct{}
	wg      sync.WaitGroup
	watched map[string]os.FileInfo // by path: a link may lead elsewhere by now
	failed  bool                   // said once
}

func newWatcher(ctx context.Context, log *slog.Logger) *watcher {
	w := &watcher{log: log, hint: make(chan struct{}, 1), watched: map[string]os.FileInfo{}}
	inner, err := fsnotify.NewWatcher()
	if err != nil {
		log.WarnContext(ctx, "changes of the adapters folder are found by the rescan only", "err", err)
		return w
	}
	w.w = inner
	w.wg.Go(w.listen)
	return w
}

// listen turns every event, and every error, which is an overflow most of the time, into a hint.
func (w *watcher) listen() {
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

func (w *watcher) hints() <-chan struct{} { return w.hint }

func (w *watcher) follow(dir string, files []string) {
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
				w.log.Warn("changes of the adapters folder are found by the rescan only", "path", path, "err", err)
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

// close ends the watches.
func (w *watcher) close() {
	if w.w != nil {
		if err := w.w.Close(); err != nil {
			w.log.Warn("the watches of the adapters folder did not close", "err", err)
		}
		w.wg.Wait()
	}
}
