package adapters

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"edged/core/config"
	"edged/core/model/lora"
	"edged/core/serve/watch"
)

// maxStrays bounds the entries that are remembered so that they are logged once.
const maxStrays = 256

// maxRemoved bounds the removed names that are remembered.
const maxRemoved = 1024

// sighting describes the entry of the folder for one name, as a scan found it.
type sighting struct {
	name, file string
	print      string    // equal while nothing changed
	newest     time.Time // the latest change of a file; zero: not known
	rival      string    // a second file of the name
}

// The files of a PEFT folder, where they lie in the folder of the adapters itself.
const (
	looseConfig = "adapter_config.json"
	looseModel  = "adapter_model.safetensors"
)

// look reads the folder: what may be an adapter, by name. What cannot be one is logged, once, and kept for refusals.
func (f *Folder) look(ctx context.Context) ([]sighting, error) {
	list, err := watch.List(f.o.Dir)
	if err != nil {
		return nil, err
	}
	strays := map[string]string{}
	var found []sighting
	for _, file := range list {
		if watch.Passing(file) {
			continue
		}
		name, why := f.judge(file)
		if why == "" {
			if last := len(found) - 1; last >= 0 && found[last].name == name {
				found[last].rival = file
				continue
			}
			found = append(found, sighting{name: name, file: file})
			continue
		}
		if why != silent && len(strays) < maxStrays {
			strays[file] = why
		}
	}
	if strays[looseConfig] != "" && strays[looseModel] != "" {
		delete(strays, looseConfig) // one sentence is enough for both
	}
	found = f.limit(found, strays)
	for file, why := range strays {
		if f.strays[file] != why {
			f.log.WarnContext(ctx, "not taken as an adapter", "path", filepath.Join(f.o.Dir, file), "err", why)
		}
	}
	f.strays = strays
	for i := range found {
		f.choose(&found[i])
		found[i].print, found[i].newest = fingerprint(filepath.Join(f.o.Dir, found[i].file), len(f.keys) > 0)
	}
	return found, nil
}

// silent is the reason that judge gives for an entry that is obviously no adapter, such as a signature beside one.
const silent = "-"

// noGGUF is the reason that judge gives for other files. Most of them are no mistake, so only the log has it.
const noGGUF = "a file that is no .gguf: an adapter is a PEFT folder or a .gguf file"

// judge tells the name of the adapter that an entry of the folder is, or why it is none.
func (f *Folder) judge(file string) (name, why string) {
	info, err := os.Stat(filepath.Join(f.o.Dir, file)) // a link counts as what it leads to
	name, isGGUF := strings.CutSuffix(file, ".gguf")
	switch {
	case strings.HasSuffix(file, SignatureSuffix), file == "lost+found":
		return "", silent
	case err == nil && !info.IsDir() && !isGGUF:
		return "", looseFile(file)
	case !config.ValidFileName(name):
		return "", "its name must match " + config.NamePattern
	case isGGUF:
		return name, ""
	}
	return name, "" // a dangling link, too: its author wants to know
}

// looseFile says why a file beside the adapters is none, and what to do where it is most likely a part of one.
func looseFile(file string) string {
	switch {
	case file == looseConfig || file == looseModel:
		return "a file of a PEFT folder: put both " + looseConfig + " and " + looseModel + " into a folder NAME/"
	case strings.HasSuffix(file, ".safetensors"):
		return "a file of a PEFT folder: put it into a folder NAME/ as " + looseModel + ", and its " + looseConfig + " beside it"
	}
	return noGGUF
}

// refusals are the states of entries that cannot be adapters, though somebody may have meant them to be some:
// each under its name as far as that is one, with a number behind it where another has that. f.mu is held.
func (f *Folder) refusals() []State {
	var out []State
	given := map[string]bool{}
	for _, file := range slices.Sorted(maps.Keys(f.strays)) {
		why := f.strays[file]
		if why == noGGUF {
			continue
		}
		if len(out) == maxRefused {
			break
		}
		name := config.FreeName(strings.TrimSuffix(file, ".gguf"), func(name string) bool { return f.names[name] != nil || given[name] })
		given[name] = true
		out = append(out, State{Name: name, State: Rejected, Error: sentence(fmt.Sprintf("%.128q: %s", file, why)), Stray: file})
	}
	slices.SortFunc(out, func(a, b State) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// limit leaves adapters beyond the limit alone; those that are known keep their places.
func (f *Folder) limit(found []sighting, strays map[string]string) []sighting {
	most := f.o.Limits.Names
	if len(found) <= most {
		return found
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	slices.SortStableFunc(found, func(a, b sighting) int {
		return boolInt(f.names[a.name] == nil) - boolInt(f.names[b.name] == nil)
	})
	for _, s := range found[most:] {
		if len(strays) < maxStrays {
			strays[s.file] = fmt.Sprintf("there are %d others already, and adapters.max_count is that", most)
		}
	}
	return found[:most]
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

// choose picks the file of a name that has two: the one that was there first.
func (f *Folder) choose(s *sighting) {
	if s.rival == "" {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if e := f.names[s.name]; e != nil && e.file == s.rival {
		s.file, s.rival = s.rival, s.file
	}
}

// fingerprint changes whenever a served file, or its signature, may have. Only metadata is read: a network folder would
// pay for more every time.
func fingerprint(path string, signed bool) (print string, newest time.Time) {
	files, err := lora.Files(path)
	if err != nil {
		return err.Error(), time.Time{}
	}
	var b strings.Builder
	for _, file := range files {
		for _, p := range []string{file.Path, file.Path + SignatureSuffix} {
			line, at, err := watch.Print(p)
			if err != nil {
				if p == file.Path || signed {
					fmt.Fprintf(&b, "%s: %v\n", p, err)
				}
				continue
			}
			if at.After(newest) {
				newest = at
			}
			b.WriteString(line + "\n")
			if !signed {
				break
			}
		}
	}
	return b.String(), newest
}

// update takes what was seen into the catalogue and reports whether a state changed. f.mu is held.
func (f *Folder) update(now time.Time, seen []sighting) bool {
	news := false
	there := map[string]bool{}
	for _, s := range seen {
		there[s.name] = true
		e := f.names[s.name]
		if e == nil {
			e = &entry{name: s.name, number: f.numbers[s.name]}
			delete(f.numbers, s.name)
			f.names[s.name] = e
		}
		e.missing = time.Time{}
		news = news || e.rival != s.rival
		e.rival = s.rival
		if e.file == s.file && e.print == s.print && e.state != Draining {
			continue
		}
		e.file, e.print, e.changed, e.done, e.retry, e.told = s.file, s.print, now, false, time.Time{}, ""
		news = e.set(Settling, "") || news
	}
	for name, e := range f.names {
		switch {
		case there[name] || e.state == Draining:
		case e.missing.IsZero():
			e.missing = now // it may be on its way back: rm -r and cp -r are two steps
			e.print, e.done = "", true
		case now.Sub(e.missing) >= f.o.Settle:
			f.remove(e)
			news = true
		}
	}
	refused := f.refusals()
	same := slices.EqualFunc(refused, f.refused, func(a, b State) bool { return a.Name == b.Name && a.Error == b.Error })
	f.refused = refused
	return news || !same
}

// remove ends the service of a name whose file is gone. f.mu is held.
func (f *Folder) remove(e *entry) {
	e.file, e.rival = "", ""
	served := e.current != nil
	if served {
		f.replace(e, nil)
	}
	f.log.Info("adapter removed", "adapter", e.name, "generation", e.number, "draining", e.old)
	if e.old == 0 {
		f.forget(e)
		return
	}
	e.set(Draining, "")
}

// forget takes a name out of the catalogue. f.mu is held.
func (f *Folder) forget(e *entry) {
	delete(f.names, e.name)
	if e.number > 0 && len(f.numbers) < maxRemoved {
		f.numbers[e.name] = e.number
	}
}

// due returns the name that has been quiet for long enough and for the longest, or when there may be one.
func (f *Folder) due(now time.Time) (next *entry, at time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	sooner := func(t time.Time) {
		if at.IsZero() || t.Before(at) {
			at = t
		}
	}
	for _, e := range f.names {
		switch {
		case e.state == Draining:
		case !e.missing.IsZero():
			sooner(e.missing.Add(f.o.Settle))
		case e.done && e.retry.IsZero():
		case e.done:
			sooner(e.retry)
			if !now.Before(e.retry) {
				e.done, e.retry = false, time.Time{}
				next = older(next, e)
			}
		default:
			sooner(e.changed.Add(f.o.Settle))
			if now.Sub(e.changed) >= f.o.Settle {
				next = older(next, e)
			}
		}
	}
	return next, at
}

// older returns the one of two names that changed first.
func older(a, b *entry) *entry {
	if a == nil || b.changed.Before(a.changed) || b.changed.Equal(a.changed) && b.name < a.name {
		return b
	}
	return a
}

// rescan reads the folder and takes in what changed. When it cannot be read, everything stays as it is.
func (f *Folder) rescan(ctx context.Context) {
	now := time.Now()
	seen, err := f.look(ctx)
	trouble := ""
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		trouble = err.Error()
	}
	if trouble != f.trouble && trouble != "" {
		f.log.WarnContext(ctx, "the adapters folder cannot be read: what is served stays", "path", f.o.Dir, "err", err)
	}
	f.trouble = trouble
	if trouble != "" {
		return
	}
	f.mu.Lock()
	news := f.update(now, seen)
	f.mu.Unlock()
	if news {
		f.o.Notify()
	}
	f.saveIndex(ctx)
}

// saveIndex writes what is served, where that changed.
func (f *Folder) saveIndex(ctx context.Context) {
	f.mu.Lock()
	if !f.dirty {
		f.mu.Unlock()
		return
	}
	f.dirty = false
	index := map[string]known{}
	for name, e := range f.names {
		if g := e.current; g != nil {
			index[name] = known{SHA256: g.content.sha256, Generation: g.number, Signer: g.signer}
		}
	}
	f.mu.Unlock()
	if err := f.store.writeIndex(index); err != nil {
		f.log.WarnContext(ctx, "what is served was not written down: a restart will prove it anew", "path", f.o.Store, "err", err)
	}
}
