package engine

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"

	"edged/core/protocol"
	"edged/core/protocol/backend"
	"edged/core/weights"
)

// adapter is one loaded adapter; the loop owns it.
type adapter struct {
	info   backend.AdapterInfo
	file   io.Closer // the weights.Adapter that bound reads
	bound  bound
	users  int  // jobs that name it, waiting or running
	leaves bool // to be freed when the last user is gone; unknown to new requests
}

// free ends an adapter that nobody uses.
func (a *adapter) free(log *slog.Logger) {
	a.bound.Close()
	if err := a.file.Close(); err != nil {
		log.Warn("adapter did not close", "adapter", a.info.ID, "err", err)
	}
}

// loadAdapter opens an adapter outside of the loop, which goes on meanwhile, and has the loop adopt it.
func (m *loaded) loadAdapter(ctx context.Context, req backend.AdapterRequest, log *slog.Logger) (backend.AdapterInfo, error) {
	var info backend.AdapterInfo
	sum := strings.ToLower(req.SHA256)
	if sum == "" {
		files, err := weights.AdapterFiles(req.Path)
		if err == nil {
			sum, err = weights.HashFiles(files)
		}
		if err != nil {
			return info, fmt.Errorf("engine: %w: adapter %s: %w", protocol.ErrModel, req.Name, err)
		}
	}
	id := adapterID(req.Path, sum)
	known := false
	if err := m.loop.do(ctx, func() { info, known = m.loop.known(id) }); err != nil || known {
		return info, err
	}
	file, err := weights.OpenAdapter(req.Path, m.file)
	if err != nil {
		return info, fmt.Errorf("engine: %w: adapter %s: %w", protocol.ErrModel, req.Name, err)
	}
	if file.SHA256 != sum {
		return info, errors.Join(fmt.Errorf("engine: %w: adapter %s: %s has sha256 %s instead of %s: its files changed",
			protocol.ErrModel, req.Name, req.Path, file.SHA256, sum), file.Close())
	}
	info = backend.AdapterInfo{ID: id, SHA256: sum, Rank: file.Rank, Targets: file.Targets}
	var refused error
	// Once the loop has it, only the loop may close it, so this wait has no end but the loop's.
	err = m.loop.do(context.WithoutCancel(ctx), func() { info, refused = m.loop.adopt(info, file, file) })
	switch {
	case err != nil:
		return info, errors.Join(err, file.Close())
	case refused != nil:
		return info, errors.Join(fmt.Errorf("engine: %w: adapter %s: %w", protocol.ErrModel, req.Name, refused), file.Close())
	}
	log.InfoContext(ctx, "adapter loaded", "adapter", req.Name, "id", id, "rank", info.Rank, "bytes", info.Bytes)
	return info, nil
}

// adapterID names an adapter by what it is: another life of this backend gives the same one the same id, and never
// another one.
func adapterID(path, sum string) string {
	h := sha256.Sum256([]byte(path + "\x00" + sum))
	return hex.EncodeToString(h[:12])
}

// acquire gives a new job its adapters. The error is protocol.ErrAdapterNotFound.
func (l *loop) acquire(j *job) error {
	var uses []use
	for _, u := range j.req.Adapters {
		a := l.adapters[u.ID]
		if a == nil || a.leaves {
			l.dismiss(j)
			return fmt.Errorf("engine: %w: %q", protocol.ErrAdapterNotFound, u.ID)
		}
		a.users++
		j.adapters = append(j.adapters, a)
		uses = append(uses, use{bound: a.bound, scale: u.Scale})
	}
	j.bound = l.model.bind(uses)
	j.describe()
	return nil
}

// dismiss gives a job's adapters back.
func (l *loop) dismiss(j *job) {
	for _, a := range j.adapters {
		a.users--
		l.release(a)
	}
	j.adapters, j.bound = nil, nil
}

// release frees an adapter that is to leave and has no users.
func (l *loop) release(a *adapter) {
	if a.leaves && a.users == 0 {
		delete(l.adapters, a.info.ID)
		a.free(l.log)
		l.log.Info("adapter freed", "adapter", a.info.ID)
	}
}

// known returns the info of a loaded adapter and keeps it where it was about to leave.
func (l *loop) known(id string) (backend.AdapterInfo, bool) {
	a := l.adapters[id]
	if a == nil {
		return backend.AdapterInfo{}, false
	}
	a.leaves = false
	return a.info, true
}

// adopt binds an opened adapter. Where that succeeds, the loop owns owner, what is to be closed after the last use of it.
func (l *loop) adopt(info backend.AdapterInfo, file *weights.Adapter, owner io.Closer) (backend.AdapterInfo, error) {
	b, err := l.model.loadAdapter(file)
	if err != nil {
		return info, err
	}
	info.Bytes = b.Bytes()
	l.adapters[info.ID] = &adapter{info: info, file: owner, bound: b}
	return info, nil
}

// unload marks an adapter to leave. The error is protocol.ErrAdapterNotFound.
func (l *loop) unload(id string) error {
	a := l.adapters[id]
	if a == nil || a.leaves {
		return fmt.Errorf("engine: %w: %q", protocol.ErrAdapterNotFound, id)
	}
	a.leaves = true
	l.release(a)
	return nil
}
