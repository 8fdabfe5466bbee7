package client

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"edged/cmd/edged/cli"
	"edged/core/config"
)

// TestAddNoAdapter: what cannot be read as an adapter is not copied, and what has its name stays.
func TestAddNoAdapter(t *testing.T) {
	from, dir := t.TempDir(), t.TempDir()
	for path, text := range map[string]string{
		filepath.Join(from, "adapter_model.safetensors"): "weights", filepath.Join(from, "adapter_config.json"): "{}", filepath.Join(from, "letter.txt"): "Dear",
		filepath.Join(from, "cut.gguf"): "GGUF", filepath.Join(dir, "cut.gguf"): "served",
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c := &config.Config{Adapters: config.Adapters{Dir: dir}}
	for file, says := range map[string]string{
		"adapter_model.safetensors": "is a part of an adapter: name the folder that it is in, " + from,
		"adapter_config.json":       "is a part of an adapter: name the folder that it is in, " + from,
		"letter.txt":                "nothing was copied: ",
		"cut.gguf":                  "nothing was copied: ",
		"":                          "nothing was copied: ",
		"nothing":                   "no such file",
	} {
		var out, errs bytes.Buffer
		a := &app{&cli.App{Streams: cli.Streams{Out: &out, Err: &errs}}}
		err := a.addAdapter(t.Context(), c, &folderFlags{}, filepath.Join(from, file), "")
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", file, err)
		}
		t.Log(err)
	}
	list, err := os.ReadDir(dir)
	if err != nil || len(list) != 1 {
		t.Errorf("%v, %v", list, err)
	}
	if data, err := os.ReadFile(filepath.Join(dir, "cut.gguf")); errors.Is(err, fs.ErrNotExist) || string(data) != "served" {
		t.Errorf("%q, %v", data, err)
	}
}

// TestAddAdapter: one that can be read is copied under its name.
func TestAddAdapter(t *testing.T) {
	dir := t.TempDir()
	a := &app{&cli.App{Streams: cli.Streams{Out: &bytes.Buffer{}, Err: &bytes.Buffer{}}}}
	c := &config.Config{Adapters: config.Adapters{Dir: dir}}
	if err := a.addAdapter(t.Context(), c, &folderFlags{}, filepath.Join("../../../demo/adapters", "deutsch"), "pirate"); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"adapter_config.json", "adapter_model.safetensors"} {
		if _, err := os.Stat(filepath.Join(dir, "pirate", file)); err != nil {
			t.Error(err)
		}
	}
}
