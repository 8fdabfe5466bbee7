package adapters

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"edged/core/protocol"
	"edged/core/protocol/backend"
)

// drop writes a PEFT folder, or a .gguf file, with some content.
func drop(t *testing.T, dir, name, content string) {
	t.Helper()
	path := filepath.Join(dir, name)
	if strings.HasSuffix(name, ".gguf") {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	if err := os.MkdirAll(path, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"adapter_config.json", "adapter_model.safetensors"} {
		if err := os.WriteFile(filepath.Join(path, file), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// prover accepts every adapter whose name does not begin with "bad".
type prover struct {
	loads int
	dies  bool
}

func (p *prover) LoadAdapter(_ context.Context, req backend.AdapterRequest) (backend.AdapterInfo, error) {
	p.loads++
	if p.dies {
		return backend.AdapterInfo{}, protocol.ErrPluginDied
	}
	if strings.HasPrefix(req.Name, "bad") {
		return backend.AdapterInfo{}, fmt.Errorf("%s: %w: q_proj is (4, 8) and the model's is (8, 8)", req.Path, protocol.ErrModel)
	}
	return backend.AdapterInfo{ID: "id-" + req.Name, SHA256: req.SHA256, Rank: 8}, nil
}

func TestScanAndProve(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"pirate", "deutsch.gguf", "bad-shape", "twin", "twin.gguf", "white space", ".hidden", "half.gguf.part", "editing~"} {
		drop(t, dir, name, name)
	}
	for _, stray := range []string{"README.txt", "deutsch.gguf.minisig"} {
		if err := os.WriteFile(filepath.Join(dir, stray), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "empty"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("loop", filepath.Join(dir, "loop")); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(filepath.Join(dir, "pipe.gguf"), 0o600); err != nil {
		t.Fatal(err)
	}
	told := map[string][]string{}
	f := New(dir, slog.New(slog.DiscardHandler), func(s State) { told[s.Name] = append(told[s.Name], s.State) })
	if err := f.Scan(t.Context()); err != nil {
		t.Fatal(err)
	}
	p := &prover{}
	if err := f.Prove(t.Context(), p, 1); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"pirate": Active, "deutsch": Active, "twin": Active, "bad-shape": Rejected, "empty": Rejected, "loop": Rejected, "pipe": Rejected,
	}
	for _, s := range f.States() {
		if want[s.Name] != s.State {
			t.Errorf("%s is %s, want %q", s.Name, s.State, want[s.Name])
		}
		if (s.State == Rejected) != (s.Error != "") || (s.State == Active) != (s.Generation == 1 && s.Rank == 8 && len(s.SHA256) == 64) {
			t.Errorf("%s: %+v", s.Name, s)
		}
		if last := told[s.Name]; last[len(last)-1] != s.State {
			t.Errorf("%s: told %v", s.Name, last)
		}
		delete(want, s.Name)
	}
	if len(want) != 0 {
		t.Errorf("missing: %v", want)
	}

	g, err := f.Resolve("pirate", "")
	if err != nil {
		t.Fatal(err)
	}
	loads := p.loads
	if id, err := g.Use(t.Context(), p, 1); err != nil || id != "id-pirate" || p.loads != loads {
		t.Errorf("Use: %q, %v, %d more loads", id, err, p.loads-loads)
	}
	if _, err := g.Use(t.Context(), p, 2); err != nil || p.loads != loads+1 {
		t.Errorf("Use in another life: %v, %d more loads", err, p.loads-loads)
	}
	if again, err := f.Resolve("pirate", g.SHA256); err != nil || again != g {
		t.Errorf("by hash: %v, %v", again, err)
	}
	f.Release(g)
	for name, says := range map[string]string{"nobody": "there are deutsch, pirate, twin", "bad-shape": "q_proj is (4, 8)"} {
		if _, err := f.Resolve(name, ""); !errors.Is(err, protocol.ErrAdapterNotFound) || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := f.Resolve("pirate", "another"); !errors.Is(err, protocol.ErrAdapterNotFound) {
		t.Errorf("another content: %v", err)
	}
}

func TestProveStopsWhenTheBackendDies(t *testing.T) {
	dir := t.TempDir()
	drop(t, dir, "a", "a")
	f := New(dir, slog.New(slog.DiscardHandler), nil)
	if err := f.Scan(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := f.Prove(t.Context(), &prover{dies: true}, 1); !errors.Is(err, protocol.ErrPluginDied) {
		t.Errorf("got %v", err)
	}
	if s := f.States(); s[0].State != Verifying {
		t.Errorf("a death rejected it: %+v", s[0])
	}
	if err := f.Prove(t.Context(), &prover{}, 2); err != nil || f.States()[0].State != Active {
		t.Errorf("the next life: %v, %+v", err, f.States())
	}
}

func TestNoFolder(t *testing.T) {
	for _, dir := range []string{"", filepath.Join(t.TempDir(), "none")} {
		f := New(dir, slog.New(slog.DiscardHandler), nil)
		if err := f.Scan(t.Context()); err != nil {
			t.Errorf("%q: %v", dir, err)
		}
		if _, err := f.Resolve("x", ""); err == nil || !strings.Contains(err.Error(), "serves no adapters") {
			t.Errorf("%q: %v", dir, err)
		}
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := New(file, slog.New(slog.DiscardHandler), nil).Scan(t.Context()); err == nil {
		t.Error("a file was read as a folder")
	}
}
