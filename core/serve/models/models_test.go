package models

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"edged/test/oracle"
)

// watched runs the catalogue of a folder; its Read takes files whose text begins with "good", and calls others
// unfinished, or bad for good where they begin with "never".
func watched(t *testing.T, fixed ...State) (f *Folder, dir string, changes <-chan struct{}) {
	t.Helper()
	dir = t.TempDir()
	changed := make(chan struct{}, 1)
	f = New(Options{
		Dir: dir, Fixed: fixed, Settle: 20 * time.Millisecond, Rescan: 50 * time.Millisecond,
		Read: func(_ context.Context, path string) (Facts, error) {
			list, err := files(path)
			if err != nil {
				return Facts{}, err
			}
			for _, file := range list {
				text, err := os.ReadFile(file)
				if err != nil {
					return Facts{}, err
				}
				if !strings.HasPrefix(string(text), "good") {
					err := fmt.Errorf("%s: it is cut off", filepath.Base(file))
					if strings.HasPrefix(string(text), "never") {
						return Facts{}, err
					}
					return Facts{}, Passing(err)
				}
			}
			return Facts{Family: "llama", Needs: 7}, nil
		},
		Notify: func() {
			select {
			case changed <- struct{}{}:
			default:
			}
		},
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); _ = f.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	return f, dir, changed
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// until waits until the catalogue says something.
func until(t *testing.T, f *Folder, changes <-chan struct{}, what string, so func(map[string]State) bool) {
	t.Helper()
	end := time.After(30 * time.Second)
	for {
		all := map[string]State{}
		for _, s := range f.States() {
			all[s.Name] = s
		}
		if so(all) {
			return
		}
		select {
		case <-changes:
		case <-end:
			t.Fatalf("%s: not within 30 s: %+v", what, all)
		}
	}
}

func TestFolder(t *testing.T) {
	f, dir, changes := watched(t)
	write(t, filepath.Join(dir, "a.gguf"), "good")
	write(t, filepath.Join(dir, "split-00001-of-00002.gguf"), "good")
	write(t, filepath.Join(dir, "split-00002-of-00002.gguf"), "good")
	write(t, filepath.Join(dir, "folder", "config.json"), "good")
	write(t, filepath.Join(dir, "bad.gguf"), "not")
	write(t, filepath.Join(dir, "README.md"), "notes")
	write(t, filepath.Join(dir, "coming.gguf.part"), "go")
	write(t, filepath.Join(dir, "no name.gguf"), "good")
	until(t, f, changes, "three are there and one is not taken", func(all map[string]State) bool {
		return len(all) == 5 && strings.HasPrefix(all["no-name"].Error, `"no name.gguf": its name must match`) && all["no-name"].State == Rejected && all["a"].State == Available && all["split"].State == Available && all["folder"].State == Available && all["bad"].State == Rejected
	})
	if s, _, err := f.Lookup("split"); err != nil || s.Path != filepath.Join(dir, "split-00001-of-00002.gguf") || s.Family != "llama" {
		t.Errorf("%+v, %v", s, err)
	}
	if _, _, err := f.Lookup("bad"); !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), "cut off") {
		t.Errorf("%v", err)
	}
	if _, _, err := f.Lookup("nobody"); !errors.Is(err, ErrNotFound) || !strings.HasSuffix(err.Error(), "there are a, folder, split") {
		t.Errorf("%v", err)
	}
	_, before, err := f.Lookup("a")
	if err != nil {
		t.Fatal(err)
	}

	// A copy that goes on is waited for, and is another version then.
	write(t, filepath.Join(dir, "a.gguf"), "half")
	until(t, f, changes, "the half copy is told", func(all map[string]State) bool {
		return all["a"].State == Settling && strings.Contains(all["a"].Error, "cut off")
	})
	write(t, filepath.Join(dir, "a.gguf"), "good and new")
	until(t, f, changes, "the whole copy is there", func(all map[string]State) bool { return all["a"].State == Available })
	if _, after, err := f.Lookup("a"); err != nil || after == before {
		t.Errorf("version %d after %d: %v", after, before, err)
	}
	if err := os.Rename(filepath.Join(dir, "coming.gguf.part"), filepath.Join(dir, "coming.gguf")); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "coming.gguf"), "good")
	if err := os.Remove(filepath.Join(dir, "a.gguf")); err != nil {
		t.Fatal(err)
	}
	until(t, f, changes, "one came and one went", func(all map[string]State) bool {
		_, there := all["a"]
		return !there && all["coming"].State == Available
	})
}

// A model that is named by its path comes first and is not found twice, also where it lies in the folder.
func TestNamedByPath(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "z.gguf"), "good")
	write(t, filepath.Join(dir, "a.gguf"), "good")
	f := New(Options{
		Dir: dir, Fixed: []State{{Name: "z", Path: filepath.Join(dir, "z.gguf")}}, Settle: time.Millisecond,
		Read: func(context.Context, string) (Facts, error) { return Facts{}, nil },
	})
	if err := f.First(t.Context()); err != nil {
		t.Fatal(err)
	}
	all := f.States()
	if len(all) != 2 || all[0].Name != "z" || all[1].Name != "a" || all[1].State != Available {
		t.Errorf("%+v", all)
	}
	f.Tell("z", Facts{Family: "gpt2"})
	if s, _, err := f.Lookup("z"); err != nil || s.Family != "gpt2" {
		t.Errorf("%+v, %v", s, err)
	}
}

// TestOneName: of two models with one name the first stays, whatever the second is, and the second is told; it follows where the first goes.
func TestOneName(t *testing.T) {
	elsewhere := filepath.Join(t.TempDir(), "main.gguf")
	write(t, elsewhere, "good")
	f, dir, changes := watched(t, State{Name: "main", Path: elsewhere})
	file, folder := filepath.Join(dir, "a.gguf"), filepath.Join(dir, "a")
	says := func(note string, path string) bool {
		return strings.HasPrefix(note, path+" is not served: its name is that of ") && strings.HasSuffix(note, ": give it another")
	}
	write(t, file, "good")
	until(t, f, changes, "a file is there", func(all map[string]State) bool { return all["a"].State == Available && all["a"].Note == "" })
	_, version, _ := f.Lookup("a")
	write(t, filepath.Join(folder, "config.json"), "good")
	until(t, f, changes, "a folder of its name is told", func(all map[string]State) bool { return says(all["a"].Note, folder) })
	if s, now, err := f.Lookup("a"); err != nil || s.Path != file || now != version {
		t.Errorf("%+v, version %d after %d, %v", s, now, version, err)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	until(t, f, changes, "the folder follows", func(all map[string]State) bool {
		return all["a"].Path == folder && all["a"].State == Available && all["a"].Note == ""
	})
	write(t, file, "good")
	until(t, f, changes, "now the file is the second", func(all map[string]State) bool { return all["a"].Path == folder && says(all["a"].Note, file) })
	other := filepath.Join(dir, "main.gguf")
	write(t, other, "good")
	until(t, f, changes, "the name of the configured model", func(all map[string]State) bool {
		return all["main"].Path == elsewhere && says(all["main"].Note, other) && strings.Contains(all["main"].Note, elsewhere)
	})
	// Who looks for the first time takes the file.
	names, refused, err := Look(dir, elsewhere)
	if err != nil || len(names) != 1 || names[0] != "a" || !strings.Contains(refused["a"], "a.gguf") || !strings.Contains(refused["main.gguf"], elsewhere) {
		t.Errorf("%v, %v, %v", names, refused, err)
	}
	// A link to the configured model is the same model.
	if err := os.Remove(other); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(elsewhere, other); err != nil {
		t.Fatal(err)
	}
	until(t, f, changes, "nothing to tell of a link", func(all map[string]State) bool { return all["main"].Note == "" })
}

// TestOrphan: a part of a split model whose first part is not there is told once it has lain there for a while, and once for all of its parts.
func TestOrphan(t *testing.T) {
	dir := t.TempDir()
	old := time.Now().Add(-time.Hour)
	for name, at := range map[string]time.Time{
		"m-00002-of-00003.gguf": old, "m-00003-of-00003.gguf": old, // the first is missing
		"n-00002-of-00002.gguf": time.Now(), // it may be on its way
		"o-00001-of-00002.gguf": old, "o-00002-of-00002.gguf": old,
	} {
		write(t, filepath.Join(dir, name), "GGUF")
		if err := os.Chtimes(filepath.Join(dir, name), at, at); err != nil {
			t.Fatal(err)
		}
	}
	names, refused, err := Look(dir, "")
	if err != nil || len(names) != 1 || names[0] != "o" {
		t.Errorf("%v, %v", names, err)
	}
	if why := refused["m-00002-of-00003.gguf"]; len(refused) != 1 || !strings.Contains(why, "part 2 of 3") || !strings.Contains(why, "m-00001-of-00003.gguf, is not there") {
		t.Errorf("%q", refused)
	}
}

// TestReject: what could not be loaded is offered no more, until its files change; a report about files that were replaced counts nothing, and
// models that are named by path stay.
func TestReject(t *testing.T) {
	elsewhere := filepath.Join(t.TempDir(), "main.gguf")
	write(t, elsewhere, "good")
	f, dir, changes := watched(t, State{Name: "main", Path: elsewhere})
	file := filepath.Join(dir, "a.gguf")
	write(t, file, "good")
	until(t, f, changes, "a file is there", func(all map[string]State) bool { return all["a"].State == Available })
	_, version, _ := f.Lookup("a")
	f.Reject("a", version-1, errors.New("it was another file"))
	f.Reject("main", 1, errors.New("it has no tokenizer"))
	for _, name := range []string{"a", "main"} {
		if _, _, err := f.Lookup(name); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	f.Reject("a", version, errors.New("it has no tokenizer"))
	if _, _, err := f.Lookup("a"); !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), "no tokenizer") {
		t.Errorf("%v", err)
	}
	write(t, file, "good, and longer")
	until(t, f, changes, "it was mended", func(all map[string]State) bool { return all["a"].State == Available && all["a"].Error == "" })
}

// TestRejectedAtOnce: what no further bytes could mend is rejected when it has settled, and not after the patience that a copy gets.
func TestRejectedAtOnce(t *testing.T) {
	dir := t.TempDir()
	f := New(Options{
		Dir: dir, Settle: time.Millisecond,
		Read: func(_ context.Context, path string) (Facts, error) {
			if strings.Contains(path, "short") {
				return Facts{}, Passing(errors.New("it is cut off"))
			}
			return Facts{}, errors.New("it is another kind of file")
		},
	})
	for _, name := range []string{"bad", "short"} {
		write(t, filepath.Join(dir, name+".gguf"), name)
	}
	f.rescan(t.Context(), false)
	f.mu.Lock()
	for _, e := range f.names { // they have been quiet for long enough, and for less than a copy may be
		e.changed = time.Now().Add(-2 * f.o.Settle)
		f.o.Settle = time.Hour
	}
	bad, short := f.names["bad"], f.names["short"]
	f.mu.Unlock()
	f.take(t.Context(), bad)
	f.take(t.Context(), short)
	if bad.State.State != Rejected || !strings.Contains(bad.Error, "another kind") || short.State.State != Settling || !strings.Contains(short.Error, "cut off") {
		t.Errorf("%+v, %+v", bad.State, short.State)
	}
}

// TestHeadersPassing: of a file that ends early more may come; of another kind of file nothing does.
func TestHeadersPassing(t *testing.T) {
	data, err := os.ReadFile(filepath.Join(oracle.Repo(t), "demo", "gguf", "hearth-4m-q4_0.gguf"))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, c := range map[string]struct {
		data    string
		passing bool
	}{
		"empty": {"", true}, "header": {string(data[:1000]), true}, "tensors": {string(data[:len(data)-1]), true}, "zeros": {strings.Repeat("\x00", 4096), true},
		"notes": {"some notes", false}, "family": {strings.Replace(string(data), "\x05\x00\x00\x00\x00\x00\x00\x00llama", "\x05\x00\x00\x00\x00\x00\x00\x00xxxxx", 1), false},
	} {
		path := filepath.Join(dir, name+".gguf")
		write(t, path, c.data)
		if _, err := Headers(path); err == nil || errors.Is(err, ErrPassing) != c.passing {
			t.Errorf("%s: %v", name, err)
		}
	}
	write(t, filepath.Join(dir, "folder", "config.json"), `{"model_type":"llama"`)
	if _, err := Headers(filepath.Join(dir, "folder")); !errors.Is(err, ErrPassing) {
		t.Errorf("a folder whose files are still coming: %v", err)
	}
	if _, err := Headers(filepath.Join(dir, "part-00001-of-00002.gguf")); !errors.Is(err, ErrPassing) {
		t.Errorf("a part that is still coming: %v", err)
	}
}

// TestRefused: entries that cannot be models are told under names that no model has.
func TestRefused(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"has space.gguf", "has-space.gguf", "has:space.gguf", "ä.gguf", strings.Repeat("x", 70) + ".gguf", "notes.txt"} {
		write(t, filepath.Join(dir, name), "good")
	}
	if err := os.MkdirAll(filepath.Join(dir, "lost+found"), 0o700); err != nil {
		t.Fatal(err)
	}
	f := New(Options{Dir: dir, Settle: time.Millisecond, Read: func(context.Context, string) (Facts, error) { return Facts{}, nil }})
	if err := f.First(t.Context()); err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, s := range f.States() {
		if s.State == Rejected {
			got[s.Name] = filepath.Base(s.Path)
		} else if s.Name != "has-space" {
			t.Errorf("%+v", s)
		}
	}
	want := map[string]string{
		"has-space-2": "has space.gguf", "has-space-3": "has:space.gguf", "-": "ä.gguf", strings.Repeat("x", 64): strings.Repeat("x", 70) + ".gguf",
	}
	if !maps.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if _, _, err := f.Lookup("has-space-2"); !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), `"has space.gguf": its name must match`) {
		t.Errorf("%v", err)
	}
	if err := os.Remove(filepath.Join(dir, "ä.gguf")); err != nil {
		t.Fatal(err)
	}
	f.rescan(t.Context(), false)
	if s := f.States(); len(s) != 4 {
		t.Errorf("what is gone is told: %+v", s)
	}
}

func TestFind(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "b-00001-of-00003.gguf"), "")
	if path, err := Find(dir, "b"); err != nil || path != filepath.Join(dir, "b-00001-of-00003.gguf") {
		t.Errorf("%s, %v", path, err)
	}
	if _, err := Find(dir, "a"); !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), "holds b") {
		t.Errorf("%v", err)
	}
	for path, want := range map[string]string{"/m/x.gguf": "x", "/m/x-00001-of-00002.gguf": "x", "/m/a b": "a-b", "x-1-of-2.gguf": "x-1-of-2"} {
		if got := Name(path); got != want {
			t.Errorf("%s is called %s, want %s", path, got, want)
		}
	}
}

func TestHeaders(t *testing.T) {
	for _, file := range []string{"gguf/hearth-4m-q4_0.gguf", "hf-nf4"} {
		path := filepath.Join(oracle.Repo(t), "demo", filepath.FromSlash(file))
		facts, err := Headers(path)
		if err != nil {
			t.Fatal(err)
		}
		if facts.Kind != "decoder" || facts.Family == "" || facts.Bytes == 0 || facts.Parameters == 0 || facts.Format == "" || facts.Context == 0 {
			t.Errorf("%s: %+v", file, facts)
		}
	}
	if _, err := Headers(filepath.Join(t.TempDir(), "none.gguf")); err == nil {
		t.Error("a file that is not there has headers")
	}
}
