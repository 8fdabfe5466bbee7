package adapters

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"edged/core/model/digest"
	"edged/core/model/gguf"
	"edged/core/model/lora"
	"edged/core/model/safetensors"
	"edged/core/protocol"
)

var (
	errMoved  = errors.New("it changed while it was copied")
	errDeadly = fmt.Errorf("the backend died %d times in a row while it loaded this adapter", deaths)
)

// take looks at a drop that has settled: it becomes the next generation of its name, or is refused. An error
// is ctx's end.
func (f *Folder) take(ctx context.Context, e *entry) error {
	f.mu.Lock()
	print := e.print
	path := filepath.Join(f.o.Dir, e.file)
	news := e.told == "" && e.set(Verifying, "") // another try of what was rejected is no news
	f.mu.Unlock()
	if news {
		f.o.Notify()
	}
	c, signer, err := f.copyIn(path)
	if c != nil {
		defer func() {
			f.mu.Lock()
			f.drop(c)
			f.mu.Unlock()
		}()
	}
	if now, _ := fingerprint(path, len(f.keys) > 0); now != print {
		err = errMoved
	}
	var g *Generation
	if err == nil {
		g, err = f.proveHeld(ctx, e, c, signer)
	}
	if c != nil {
		err = inWordsOf(path, f.store.path(c.sha256), err)
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	f.conclude(ctx, e, print, g, err)
	return nil
}

// conclude makes g what is served of a name, or says why nothing changed.
func (f *Folder) conclude(ctx context.Context, e *entry, print string, g *Generation, err error) {
	f.mu.Lock()
	if f.names[e.name] != e || e.print != print || errors.Is(err, errMoved) {
		e.print = "" // whatever the next look sees is news
		e.set(Settling, "")
		f.mu.Unlock()
		f.o.Notify()
		return
	}
	switch {
	case err == nil:
		e.done = true
		e.set(Active, "")
		if g == e.current {
			f.dirty = true // its signer may be another
			break
		}
		g.content.refs++
		f.replace(e, g)
		f.swaps++
		info := &g.content.info
		f.log.InfoContext(ctx, "adapter active", "adapter", e.name, "generation", g.number, "sha256", g.content.sha256,
			"rank", info.Rank, "targets", info.Targets, "bytes", info.Bytes)
	case unfinished(err) && time.Since(e.changed) < patience*f.o.Settle:
		e.done, e.retry = true, e.changed.Add(patience*f.o.Settle)
		e.set(Settling, err.Error())
	default:
		e.done = true
		f.refuse(e, err)
		if e.told != e.err {
			e.told = e.err
			f.log.WarnContext(ctx, "adapter rejected", "adapter", e.name, "serving_generation", generationOf(e.current), "err", e.err)
		}
	}
	f.mu.Unlock()
	f.o.Notify()
	f.saveIndex(ctx)
}

func generationOf(g *Generation) int {
	if g == nil {
		return 0
	}
	return g.number
}

// refuse rejects a drop. What may pass by itself is tried again. f.mu is held.
func (f *Folder) refuse(e *entry, why error) {
	e.set(Rejected, why.Error())
	for _, passes := range []error{syscall.ENOSPC, syscall.EDQUOT, syscall.EIO, fs.ErrPermission, protocol.ErrNoMemory, errNoBackend} {
		if errors.Is(why, passes) {
			e.retry = time.Now().Add(f.o.Rescan)
		}
	}
}

// unfinishedError is about a drop that may still be on its way: a file is missing, or ends too soon.
type unfinishedError struct{ error }

func (e unfinishedError) Unwrap() error { return e.error }

func unfinished(err error) bool {
	var e unfinishedError
	return errors.As(err, &e)
}

// errNoBackend is about a backend that will not come back soon.
var errNoBackend = errors.New("there is no backend to prove it with")

// copyIn copies a drop into the store, checks what can be checked of the copy without a model, and returns it with a
// reference, which the caller gives back where it is not nil.
func (f *Folder) copyIn(path string) (c *content, signer string, err error) {
	originals, err := lora.Files(path)
	switch {
	case err == nil:
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, lora.ErrInvalid):
		if _, denied := os.ReadDir(path); errors.Is(denied, fs.ErrPermission) {
			return nil, "", denied
		}
		return nil, "", unfinishedError{err}
	default:
		return nil, "", err
	}
	sum, err := f.sumOf(originals)
	if errors.Is(err, fs.ErrNotExist) {
		err = unfinishedError{err}
	}
	if err != nil {
		return nil, "", err
	}
	f.mu.Lock()
	c = f.hold(sum)
	f.mu.Unlock()
	if !f.store.has(sum) {
		// Its hash is taken from the copy: what was read above may have changed meanwhile.
		if err := f.copyFiles(originals, sum); err != nil {
			return c, "", err
		}
	}
	_, err = lora.ReadHeader(f.store.path(sum))
	switch {
	case errors.Is(err, gguf.ErrFormat), errors.Is(err, safetensors.ErrFormat): // most often it is cut off
		return c, "", unfinishedError{err}
	case err != nil:
		return c, "", err
	}
	if len(f.keys) > 0 {
		copies, err := lora.Files(f.store.path(sum))
		if err != nil {
			return c, "", err
		}
		if signer, err = verify(f.keys, originals, copies); err != nil {
			return c, "", err
		}
	}
	return c, signer, nil
}

// sumOf hashes a drop where it lies, within the limits: a copy is only written of what is not in the store
// yet, since SD cards wear out.
func (f *Folder) sumOf(files []digest.File) (string, error) {
	total := int64(0)
	for _, file := range files {
		in, size, err := openRegular(file.Path)
		if err != nil {
			return "", err
		}
		if err := in.Close(); err != nil {
			return "", err
		}
		if total += size; total > f.o.Limits.Bytes {
			return "", tooLarge(file.Path, total, f.o.Limits.Bytes)
		}
	}
	return digest.Files(files)
}

// copyFiles writes the copy of a content.
func (f *Folder) copyFiles(files []digest.File, sum string) (err error) {
	tmp, err := f.store.begin()
	if err != nil {
		return noRoom(err)
	}
	left := f.o.Limits.Bytes
	for _, file := range files {
		n, err := copyFile(file.Path, filepath.Join(tmp, file.Name), left)
		if err != nil {
			return errors.Join(noRoom(err), os.RemoveAll(tmp))
		}
		left -= n
	}
	name := tmp
	if files[0].Name == ggufName {
		name = filepath.Join(tmp, ggufName)
	}
	got, err := hashOf(name)
	switch {
	case err != nil:
		return errors.Join(err, os.RemoveAll(tmp))
	case got != sum:
		return errors.Join(errMoved, os.RemoveAll(tmp))
	}
	return noRoom(f.store.commit(tmp, sum))
}

// noRoom says what a full disk means here.
func noRoom(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fmt.Errorf("its copy has no room in state.dir: free some space, and it is tried again: %w", err)
	}
	return err
}

// proveHeld proves while the model is held.
func (f *Folder) proveHeld(ctx context.Context, e *entry, c *content, signer string) (*Generation, error) {
	if f.o.Hold != nil {
		release, err := f.o.Hold(ctx)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errNoBackend, err)
		}
		defer release()
	}
	return f.prove(ctx, e, c, signer)
}

// prove loads a content beside the model, lets it answer, and holds it against what it is to replace. It returns the
// generation that it would be: the current one, where that is the same content.
func (f *Folder) prove(ctx context.Context, e *entry, c *content, signer string) (*Generation, error) {
	f.mu.Lock()
	g := e.current
	if g != nil && g.content == c {
		g.signer = signer
		proved := c.id != "" || c.proved
		f.mu.Unlock()
		if proved {
			return g, nil
		}
	} else {
		f.mu.Unlock()
	}
	f.mu.Lock()
	c.uses++ // it is not pushed out meanwhile
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		c.uses--
		f.mu.Unlock()
	}()
	for after, died := uint64(0), 0; ; died++ {
		p, life, err := f.o.Backend(ctx, after)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errNoBackend, err)
		}
		err = f.proveIn(ctx, e, c, p, life)
		if errors.Is(err, protocol.ErrPluginDied) && ctx.Err() == nil {
			if after = life; died+1 >= deaths {
				return nil, errDeadly
			}
			continue
		}
		if err != nil {
			return nil, err
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		c.proved = true
		if e.current != nil && e.current.content == c {
			return e.current, nil
		}
		return &Generation{name: e.name, number: e.number + 1, signer: signer, content: c}, nil
	}
}

func (f *Folder) proveIn(ctx context.Context, e *entry, c *content, p Prover, life uint64) error {
	info, err := f.load(ctx, c, e.name, p, life)
	if err != nil {
		return err
	}
	if err := p.Try(ctx, info.ID); err != nil {
		return fmt.Errorf("the model does not answer with it: %w", err)
	}
	return f.passGate(ctx, e, c, info.ID, p, life)
}

// inWordsOf tells an error about a copy as one about the drop, whose path its owner knows.
func inWordsOf(drop, cp string, err error) error {
	if err == nil || !strings.Contains(err.Error(), cp) {
		return err
	}
	return &retold{strings.ReplaceAll(err.Error(), cp, drop), err}
}

type retold struct {
	text string
	err  error
}

func (r *retold) Error() string { return r.text }
func (r *retold) Unwrap() error { return r.err }
