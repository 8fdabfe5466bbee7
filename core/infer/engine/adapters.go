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

	"edged/core/infer/engine/compute"
	"edged/core/model/digest"
	"edged/core/model/lora"
	"edged/core/protocol"
	"edged/core/protocol/backend"
)

// adapter is one loaded adapter; the loop owns it.
type adapter struct {
	info  backend.AdapterInfo
	file  io.Closer // the lora.Adapter that bound reads
	bound compute.Adapter
	// invocation calls it, see lora.Adapter; nil: it is always on.
	invocation []int32
	users      int  // jobs that name it, waiting or running
	unloading  bool // to be freed when the last user is gone; unknown to new requests
}

// free ends an adapter that nobody uses.
func (a *adapter) free(log *slog.Logger) {
	a.bound.Close()
	if err := a.file.Close(); err != nil {
		log.Warn("adapter did not close", "adapter", a.info.ID, "err", err)
	}
}

// loadAdapter opens an adapter outside of the loop, which goes on meanwhile, and hands it to the loop.
func (m *loaded) loadAdapter(ctx context.Context, req backend.AdapterRequest, log *slog.Logger) (backend.AdapterInfo, error) {
	var info backend.AdapterInfo
	sum := strings.ToLower(req.SHA256)
	if sum == "" {
		files, err := lora.Files(req.Path)
		if err == nil {
			sum, err = digest.Files(files)
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
	file, err := lora.Open(req.Path, m.file)
	if err != nil {
		return info, fmt.Errorf("engine: %w: adapter %s: %w", protocol.ErrModel, req.Name, err)
	}
	if file.SHA256 != sum {
		return info, errors.Join(fmt.Errorf("engine: %w: adapter %s: %s has sha256 %s instead of %s: its files changed",
			protocol.ErrModel, req.Name, req.Path, file.SHA256, sum), file.Close())
	}
	info = backend.AdapterInfo{
		ID: id, SHA256: sum, Rank: file.Rank, Targets: file.Targets, Kind: string(file.Kind), Base: file.Base,
	}
	info.Virtual = file.Virtual()
	if info.Virtual > m.size.Context-2 {
		return info, errors.Join(fmt.Errorf("engine: %w: adapter %s: a soft prompt of %d virtual tokens leaves nothing of a context of %d",
			protocol.ErrModel, req.Name, info.Virtual, m.size.Context), file.Close())
	}
	bound, err := m.model.LoadAdapter(file)
	if err != nil {
		return info, errors.Join(fmt.Errorf("engine: %w: adapter %s: %w", protocol.ErrModel, req.Name, err), file.Close())
	}
	info.Bytes = bound.Bytes()
	_ = file.Relax() // a hint
	if err := m.loop.proved(ctx, &adapter{info: info, file: file, bound: bound, invocation: file.Invocation}); err != nil {
		bound.Close()
		return info, errors.Join(fmt.Errorf("engine: adapter %s: %w", req.Name, err), file.Close())
	}
	if !sameBase(info.Base, m.info.Name) {
		log.WarnContext(ctx, "adapter names another base model than the one that is loaded", "adapter", req.Name, "base", info.Base, "model", m.info.Name)
	}
	for _, note := range file.Notes {
		log.WarnContext(ctx, "adapter files disagree", "adapter", req.Name, "note", note)
	}
	log.InfoContext(ctx, "adapter loaded", "adapter", req.Name, "id", id, "kind", info.Kind, "rank", info.Rank, "virtual_tokens", info.Virtual, "bytes", info.Bytes)
	return info, nil
}

// sameBase reports whether what an adapter was trained on may be the model by that name: the last part of one
// is in the other, written without what is no letter or digit. Names are a hint (a folder, a hub's name, a
// quantised copy's name), so another one is worth a warning; what cannot be served differs in shapes.
func sameBase(base, model string) bool {
	plain := func(s string) string {
		s = strings.TrimRight(s, "/")
		s = strings.ToLower(s[strings.LastIndexByte(s, '/')+1:])
		return strings.Map(func(r rune) rune {
			if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
				return r
			}
			return -1
		}, s)
	}
	a, b := plain(base), plain(model)
	return strings.Contains(a, b) || strings.Contains(b, a)
}

// adapterID names an adapter by what it is: another life of this backend gives the same one the same id, and never
// another one.
func adapterID(path, sum string) string {
	h := sha256.Sum256([]byte(path + "\x00" + sum))
	return hex.EncodeToString(h[:12])
}

// acquire gives a new job its adapters. The error is protocol.ErrAdapterNotFound.
func (l *loop) acquire(j *job) error {
	for _, u := range j.Req.Adapters {
		a := l.adapters[u.ID]
		if a == nil || a.unloading {
			l.releaseAdapters(j)
			return fmt.Errorf("engine: %w: %q", protocol.ErrAdapterNotFound, u.ID)
		}
		a.users++
		j.adapters = append(j.adapters, a)
	}
	if err := l.prependVirtual(j); err != nil {
		l.releaseAdapters(j)
		return err
	}
	l.activate(j)
	l.describe(j)
	return nil
}

// prependVirtual puts the virtual tokens of a job's soft prompts before its prompt: the ids -1, -2, … of all
// of them in order, which the model looks up in the job's adapters. From here on they are tokens of the
// prompt like others: they take positions and pages, and the prefix cache finds them, by the content of the
// adapters.
func (l *loop) prependVirtual(j *job) error {
	n := 0
	for i, a := range j.adapters {
		if a.info.Virtual > 0 && j.Req.Adapters[i].Scale != 1 {
			return fmt.Errorf("engine: %w: adapter %q is a soft prompt, which has no scale but 1: got %g", protocol.ErrInvalid, a.info.ID, j.Req.Adapters[i].Scale)
		}
		n += a.info.Virtual
	}
	if n == 0 {
		return nil
	}
	tokens, room := n+len(j.Req.PromptIDs), l.size.Context
	if j.scoring {
		tokens, room = n+j.branches[0].History(), room+1
	}
	if tokens >= room {
		return fmt.Errorf("engine: %w: %d tokens behind %d virtual ones of soft prompts; with at least one for the answer the context holds %d",
			protocol.ErrContextLength, tokens-n, n, l.size.Context)
	}
	if j.scoring || j.sum != nil {
		j.PrependIDs(n)
		return nil
	}
	return j.Prepend(n, l.size.Context)
}

// release frees an adapter that is to leave and has no users.
func (l *loop) release(a *adapter) {
	if a.unloading && a.users == 0 {
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
	a.unloading = false
	return a.info, true
}

// unload marks an adapter to leave. The error is protocol.ErrAdapterNotFound.
func (l *loop) unload(id string) error {
	a := l.adapters[id]
	if a == nil || a.unloading {
		return fmt.Errorf("engine: %w: %q", protocol.ErrAdapterNotFound, id)
	}
	a.unloading = true
	l.release(a)
	return nil
}
