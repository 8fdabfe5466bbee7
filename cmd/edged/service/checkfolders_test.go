package service

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"edged/core/config"
)

// TestCheckFolders: what is wrong with the folders of models and prompts is found before the service starts.
func TestCheckFolders(t *testing.T) {
	root := t.TempDir()
	file := func(path, text string) {
		t.Helper()
		path = filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	link := func(name, to string) {
		target, err := filepath.Abs(filepath.Join("../../../demo", to))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(target, filepath.Join(root, name)); err != nil {
			t.Fatal(err)
		}
	}
	file("models/has space.gguf", "")
	link("models/a.gguf", "gguf/hearth-4m-q4_0.gguf")
	link("models/b", "hf-nf4")
	file("broken/a.gguf", "GGUF")
	link("broken/b", "hf-nf4")
	file("prompts/good.toml", `user = "hello"`)
	file("prompts/late.TOML", `user = "hello"`)
	file("prompts/folder.toml/x", "")
	file("prompts/open.toml", "user = \"hello\nsystem = \"x\"")
	file("prompts/schema.toml", `schema = '{"type":'`)
	file("notes", "")
	models, presets := filepath.Join(root, "models"), filepath.Join(root, "prompts")
	type found struct {
		word string
		says []string
	}
	for _, c := range []struct {
		name    string
		models  config.Models
		prompts string
		path    string
		want    []found
	}{
		{"all is there", config.Models{Dir: models, Pinned: []string{"a", "main"}}, "", "/x/main.gguf", []found{
			{"ok", []string{"2 models"}},
			{"note", []string{filepath.Join(models, "has space.gguf"), config.NamePattern}},
		}},
		{"the configured model has the name of another", config.Models{Dir: models}, "", "/x/a.gguf", []found{
			{"ok", []string{"1 model"}},
			{"note", []string{filepath.Join(models, "a.gguf"), "its name is that of the configured model, /x/a.gguf"}},
			{"note", nil},
		}},
		{"a model is broken", config.Models{Dir: filepath.Join(root, "broken")}, "", "", []found{
			{"note", []string{"a: ", "cut off"}},
			{"ok", []string{"1 model that can be served"}},
		}},
		{"an unknown pinned model", config.Models{Dir: models, Pinned: []string{"a", "c"}}, "", "", []found{
			{"ok", nil},
			{"note", nil},
			{"problem", []string{"models.pinned", `"c"`, "there are a, b"}},
		}},
		{"a pinned model and no folder", config.Models{Pinned: []string{"c"}}, "", "", []found{{"problem", []string{"models.pinned", `"c"`, "no models"}}}},
		{"no models folder", config.Models{Dir: filepath.Join(root, "none")}, "", "", []found{{"problem", []string{"models.dir", filepath.Join(root, "none"), "is not there"}}}},
		{"a models folder that is a file", config.Models{Dir: filepath.Join(root, "notes")}, "", "", []found{{"problem", []string{"models.dir", "notes"}}}},
		{"the usual models folder is not made", config.Models{Dir: config.Default().Models.Dir}, "", "", nil},
		{"no prompts folder", config.Models{}, filepath.Join(root, "none"), "", []found{{"problem", []string{"prompts.dir", "is not there"}}}},
		{"broken prompts", config.Models{}, presets, "", []found{
			{"problem", []string{filepath.Join(presets, "open.toml"), "line 1"}},
			{"problem", []string{filepath.Join(presets, "schema.toml"), "schema"}},
			{"ok", []string{"1 prompt that can be used"}},
			{"note", []string{"folder.toml/, late.TOML"}},
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			k := &checker{quiet: true, c: &config.Config{Models: c.models, Prompts: config.Prompts{Dir: c.prompts}, Model: config.Model{Path: c.path}}}
			k.models()
			k.prompts(t.Context())
			if c.want == nil { // what this machine has there is not known
				if k.failed() {
					t.Errorf("%+v", k.found)
				}
				return
			}
			if len(k.found) != len(c.want) {
				t.Fatalf("%+v", k.found)
			}
			for i, want := range c.want {
				got := k.found[i]
				word := "problem"
				if got.OK {
					word = map[bool]string{true: "note", false: "ok"}[got.Note]
				}
				if word != want.word || word != "ok" && got.Fix == "" {
					t.Errorf("%+v, want %s", got, want.word)
				}
				for _, s := range want.says {
					if !strings.Contains(got.Detail, s) {
						t.Errorf("%q does not say %q", got.Detail, s)
					}
				}
			}
		})
	}
}
