package models

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"time"

	"edged/core/serve/watch"
)

// throttle is the least time between two looks that hints ask for, relative to Settle: a copy makes thousands
// of events.
const throttle = 20

// maxReason bounds the text of a reason: names of tensors come from the file, and may be long.
const maxReason = 600

// Open looks at the folder and decides nothing yet: what is there is settling.
func (f *Folder) Open(ctx context.Context) {
	if f.o.Dir != "" {
		f.rescan(ctx, true)
	}
}

// First decides about everything that the folder holds, so that a node that says it is online knows its
// models. It waits for what has not settled yet, but not for what keeps changing. The error is ctx's end.
func (f *Folder) First(ctx context.Context) error {
	if f.o.Dir == "" {
		return nil
	}
	end := time.Now().Add(2 * f.o.Settle)
	f.Open(ctx)
	for {
		f.rescan(ctx, false)
		next, at := f.due(time.Now())
		if next != nil {
			f.take(ctx, next)
			if ctx.Err() != nil {
				return ctx.Err()
			}
			continue
		}
		if at.IsZero() || at.After(end) {
			return ctx.Err()
		}
		if err := watch.Pause(ctx, at, nil); err != nil {
			return err
		}
	}
}

// Run keeps the catalogue in step with the folder until ctx ends, which is nil.
func (f *Folder) Run(ctx context.Context) error {
	if f.o.Dir == "" {
		<-ctx.Done()
		return nil
	}
	w := watch.New(ctx, f.log, "models")
	defer w.Close()
	for ctx.Err() == nil {
		began := time.Now()
		f.rescan(ctx, false)
		w.Follow(f.o.Dir, f.entries())
		next, at := f.due(time.Now())
		if next != nil {
			f.take(ctx, next)
			continue
		}
		if tick := began.Add(f.o.Rescan); at.IsZero() || tick.Before(at) {
			at = tick
		}
		if watch.Pause(ctx, at, w.Hints()) != nil {
			return nil
		}
		if soon := began.Add(f.o.Settle / throttle); time.Now().Before(soon) && watch.Pause(ctx, soon, nil) != nil {
			return nil
		}
	}
	return nil
}

// entries are the models of the folder by the names of their files.
func (f *Folder) entries() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []string
	for _, e := range f.names {
		if !e.fixed {
			out = append(out, filepath.Base(e.Path))
		}
	}
	return out
}

// rescan reads the folder and takes in what changed. When it cannot be read, everything stays as it is. At
// the first look, what has lain there unchanged is taken at once.
func (f *Folder) rescan(ctx context.Context, first bool) {
	now := time.Now()
	f.mu.Lock()
	known, fixed := map[string]string{}, map[string]string{}
	for name, e := range f.names {
		if e.fixed {
			fixed[name] = e.Path
		} else {
			known[name] = filepath.Base(e.Path)
		}
	}
	f.mu.Unlock()
	seen, strays, err := look(f.o.Dir, fixed, known)
	trouble := ""
	if err != nil && !isNotExist(err) {
		trouble = err.Error()
	}
	if trouble != f.trouble && trouble != "" {
		f.log.WarnContext(ctx, "the models folder cannot be read: what is known stays", "path", f.o.Dir, "err", err)
	}
	f.trouble = trouble
	if trouble != "" {
		return
	}
	notes := map[string]string{}
	for _, s := range strays {
		path := filepath.Join(f.o.Dir, s.file)
		if !slices.Contains(f.strays, s) {
			f.log.WarnContext(ctx, "not taken as a model", "path", path, "err", s.why)
		}
		if s.name != "" {
			notes[s.name] = path + " is not served: " + s.why
		}
	}
	f.strays = strays
	type look struct {
		sighting
		path, print string
		newest      time.Time
	}
	var looks []look
	for _, s := range seen {
		path := filepath.Join(f.o.Dir, s.file)
		if fixed[s.name] != "" {
			continue // the configured model itself
		}
		print, newest := fingerprint(path)
		looks = append(looks, look{s, path, print, newest})
	}
	f.mu.Lock()
	news := false
	there := map[string]bool{}
	for _, s := range looks {
		there[s.name] = true
		e := f.names[s.name]
		if e == nil {
			e = &entry{State: State{Name: s.name}}
			f.names[s.name] = e
		}
		e.missing = time.Time{}
		if e.Path == s.path && e.print == s.print {
			continue
		}
		e.Path, e.print, e.changed, e.done, e.retry, e.told = s.path, s.print, now, false, time.Time{}, ""
		if first && !s.newest.IsZero() && now.Sub(s.newest) > f.o.Settle {
			e.changed = now.Add(-f.o.Settle)
		}
		e.set(Settling, "")
		news = true
	}
	taken := map[string]bool{}
	for name := range f.names {
		taken[name] = true
	}
	refused := refusals(f.o.Dir, strays, taken)
	news = news || !slices.Equal(refused, f.refused)
	f.refused = refused
	for name, e := range f.names {
		if note := notes[name]; e.Note != note {
			e.Note, news = note, true
		}
		switch {
		case e.fixed || there[name]:
		case e.missing.IsZero():
			e.missing = now // it may be on its way back
			e.print, e.done = "", true
		case now.Sub(e.missing) >= f.o.Settle:
			delete(f.names, name)
			f.log.InfoContext(ctx, "model removed", "model", name)
			news = true
		}
	}
	f.mu.Unlock()
	if news {
		f.o.Notify()
	}
}

// set changes a state. f.mu is held.
func (e *entry) set(state, why string) {
	if len(why) > maxReason {
		why = why[:maxReason] + "…"
	}
	e.State.State, e.Error = state, why
}

// due returns the model that has been quiet for long enough and for the longest, or when there may be one.
func (f *Folder) due(now time.Time) (next *entry, at time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	sooner := func(t time.Time) {
		if at.IsZero() || t.Before(at) {
			at = t
		}
	}
	for _, e := range f.names {
		when := e.changed.Add(f.o.Settle)
		switch {
		case !e.missing.IsZero():
			sooner(e.missing.Add(f.o.Settle))
			continue
		case e.done && e.retry.IsZero():
			continue
		case e.done:
			when = e.retry
		}
		sooner(when)
		if !now.Before(when) && (next == nil || e.changed.Before(next.changed) || e.changed.Equal(next.changed) && e.Name < next.Name) {
			next = e
		}
	}
	return next, at
}

// take reads the headers of a model that has settled.
func (f *Folder) take(ctx context.Context, e *entry) {
	f.mu.Lock()
	path, print := e.Path, e.print
	f.mu.Unlock()
	facts, err := f.o.Read(ctx, path)
	if ctx.Err() != nil {
		return
	}
	now, _ := fingerprint(path)
	f.mu.Lock()
	switch {
	case f.names[e.Name] != e || e.print != print || now != print:
		e.print = "" // whatever the next look sees is news
	case err == nil:
		e.Facts, e.done, e.retry = facts, true, time.Time{}
		e.version++
		e.set(Available, "")
		f.log.InfoContext(ctx, "model found", "model", e.Name, "family", facts.Family, "format", facts.Format, "bytes", facts.Bytes)
	case errors.Is(err, ErrPassing) && time.Since(e.changed) < patience*f.o.Settle:
		e.done, e.retry = true, e.changed.Add(patience*f.o.Settle)
		e.set(Settling, err.Error())
	default:
		e.Facts = Facts{}
		e.done, e.retry = true, time.Time{}
		e.set(Rejected, err.Error())
		if e.told != e.Error {
			e.told = e.Error
			f.log.WarnContext(ctx, "model rejected", "model", e.Name, "err", e.Error)
		}
	}
	f.mu.Unlock()
	f.o.Notify()
}
