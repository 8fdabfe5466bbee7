package models

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"edged/test/oracle"
)

// watched runs the catalogue of a folder; its Read takes files whose text begins with "good" and calls others unfinished.
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
					return Facts{}, fmt.Errorf("%s: it is cut off", filepath.Base(file))
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
		return len(all) == 4 && all["a"].State == Available && all["split"].State == Available && all["folder"].State == Available && all["bad"].State == Rejected
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
