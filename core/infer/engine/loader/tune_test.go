package loader

import (
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"edged/core/protocol/backend"
	"edged/quant/kernel"
	"edged/test/oracle"
	"edged/test/race"
)

func TestTune(t *testing.T) {
	race.SkipArithmetic(t)
	t.Parallel()
	if runtime.GOMAXPROCS(0) < 2 {
		t.Skip("one core leaves nothing to choose")
	}
	cache := t.TempDir()
	load := func(req backend.LoadRequest) backend.ModelInfo {
		t.Helper()
		req.Path, req.CacheDir, req.Context, req.MaxSequences = filepath.Join(oracle.Repo(t), "demo", "hf-nf4"), cache, 64, 1
		m, err := Options{Kernels: kernel.Portable{}, Log: slog.New(slog.DiscardHandler)}.Open(t.Context(), req, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := m.Close(); err != nil {
			t.Error(err)
		}
		return m.Info
	}
	files := func() []string {
		t.Helper()
		found, err := filepath.Glob(filepath.Join(cache, "threads", "*.json"))
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
	first := load(backend.LoadRequest{})
	if len(files()) != 1 {
		t.Fatalf("files %v", files())
	}
	if again := load(backend.LoadRequest{}); again.ThreadsDecode != first.ThreadsDecode || again.ThreadsPrefill != first.ThreadsPrefill {
		t.Errorf("%+v, then %+v", first, again)
	}
	for _, c := range []struct {
		text            string
		prefill, decode int
	}{
		{`{"threads_prefill":1,"threads_decode":2}`, 1, 2},
		{`{"threads_prefill":2,"threads_decode":1}`, 2, 1},
		{`{"threads_prefill":1000000,"threads_decode":1}`, runtime.GOMAXPROCS(0), 1},
	} {
		if err := os.WriteFile(files()[0], []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := load(backend.LoadRequest{}); got.ThreadsPrefill != c.prefill || got.ThreadsDecode != c.decode {
			t.Errorf("%s: %d and %d threads", c.text, got.ThreadsPrefill, got.ThreadsDecode)
		}
	}
	if got := load(backend.LoadRequest{ThreadsDecode: 1, ThreadsPrefill: 1}); got.ThreadsDecode != 1 || got.ThreadsPrefill != 1 || len(files()) != 1 {
		t.Errorf("what was asked for: %+v, files %v", got, files())
	}
	for _, damaged := range []string{"", "{", `{"threads_prefill":-1,"threads_decode":1}`} { // measured again
		if err := os.WriteFile(files()[0], []byte(damaged), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := load(backend.LoadRequest{}); got.ThreadsDecode < 1 || got.ThreadsPrefill < 1 {
			t.Errorf("%q: %+v", damaged, got)
		}
		if now, ok := readThreads(files()[0]); !ok {
			t.Errorf("%q: %+v was kept", damaged, now)
		}
	}
}
