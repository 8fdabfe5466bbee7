package pluginhost_test

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"edged/core/protocol"
	"edged/core/serve/pluginhost"
)

func TestFind(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, mode := range map[string]os.FileMode{"backend-good": 0o755, "backend-data": 0o644, "tokenizer-bpe": 0o755, "other": 0o755} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/true\n"), mode); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "backend-folder"), 0o755); err != nil {
		t.Fatal(err)
	}
	path, err := pluginhost.Find(dir, "backend-good")
	if err != nil || path != filepath.Join(dir, "backend-good") {
		t.Errorf("%s, %v", path, err)
	}
	for name, words := range map[string][]string{
		"backend-bad":           {dir, "which has backend-good, tokenizer-bpe", "plugins.dir"},
		"backend-data":          {"not executable"},
		"backend-folder":        {"not a file"},
		"../x":                  {"not a name"},
		"":                      {"not a name"},
		".hidden":               {"not a name"},
		strings.Repeat("x", 65): {"not a name"},
	} {
		_, err := pluginhost.Find(dir, name)
		if !errors.Is(err, pluginhost.ErrNotFound) {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for _, w := range words {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%s: %v does not say %q", name, err, w)
			}
		}
		if strings.Contains(err.Error(), "other") {
			t.Errorf("%s: %v names a file that is no plugin", name, err)
		}
	}
	_, err = pluginhost.Find("", "backend-nowhere")
	if !errors.Is(err, pluginhost.ErrNotFound) || !strings.Contains(err.Error(), pluginhost.SystemDir) || !strings.Contains(err.Error(), "plugins (") {
		t.Errorf("default places: %v", err)
	}
}

func TestResolveBackend(t *testing.T) {
	t.Parallel()
	auto := pluginhost.ResolveBackend(pluginhost.Auto)
	if runtime.GOARCH == "amd64" && auto != "generic" {
		t.Errorf("auto is %q", auto)
	}
	if pluginhost.ResolveBackend("") != auto || pluginhost.ResolveBackend("mine") != "mine" {
		t.Error("names")
	}
}

func TestAutoTakesWhatIsInstalled(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	o := options(quiet(), "ok")
	if err := os.Symlink(o.Path, filepath.Join(dir, "backend-generic")); err != nil {
		t.Fatal(err)
	}
	o.Path, o.Name, o.Dir = "", pluginhost.Auto, dir
	p := start(t, o)
	if p.Name() != "backend-generic" {
		t.Errorf("started %s", p.Name())
	}
	o.Kind, o.Name = protocol.PluginTokenizer, ""
	if _, err := pluginhost.Start(t.Context(), o); !errors.Is(err, pluginhost.ErrNotFound) {
		t.Errorf("a tokenizer without a name: %v", err)
	}
}
