package loader

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"edged/core/infer/transformer"
	"edged/core/protocol/backend"
)

// threads holds the best numbers of threads, measured once for a model on a board: a file of the cache
// directory, to be deleted where it is to be measured again.
type threads struct {
	Prefill int `json:"threads_prefill"`
	Decode  int `json:"threads_decode"`
}

// tune chooses the numbers of threads that the request leaves open: as they were measured before, or by
// measuring now. Without a cache directory all cores are taken, since nobody would remember.
func (o Options) tune(ctx context.Context, t *transformer.Model, req backend.LoadRequest, hash string) error {
	prefill, decode := req.ThreadsPrefill == 0, req.ThreadsDecode == 0
	if req.CacheDir == "" || !prefill && !decode || runtime.GOMAXPROCS(0) < 2 {
		return nil
	}
	path := filepath.Join(req.CacheDir, "threads", o.tuneKey(t, req, hash)+".json")
	now := t.Info()
	if old, ok := readThreads(path); ok {
		if !prefill {
			old.Prefill = now.ThreadsPrefill
		}
		if !decode {
			old.Decode = now.ThreadsDecode
		}
		t.SetThreads(old.Prefill, old.Decode)
		return nil
	}
	if err := t.Tune(ctx, prefill, decode); err != nil {
		return fmt.Errorf("engine: thread numbers: %w", err)
	}
	found := t.Info()
	err := writeThreads(path, threads{found.ThreadsPrefill, found.ThreadsDecode})
	o.Log.InfoContext(
		ctx,
		"threads tuned",
		"threads_prefill",
		found.ThreadsPrefill,
		"threads_decode",
		found.ThreadsDecode,
		"path",
		path,
		"err",
		err,
	)
	return nil
}

// tuneKey names what a measurement holds for: the model, how it is computed, and the processors that there are.
func (o Options) tuneKey(t *transformer.Model, req backend.LoadRequest, hash string) string {
	i := t.Info()
	sum := sha256.Sum256([]byte(fmt.Sprintf("1 %s %s %v %v %d %d %d", hash, o.Kernels.Name(), i.Precision, i.KV,
		runtime.GOMAXPROCS(0), req.ThreadsPrefill, req.ThreadsDecode)))
	return hex.EncodeToString(sum[:16])
}

func readThreads(path string) (threads, bool) {
	var t threads
	text, err := os.ReadFile(path)
	if err != nil || len(text) > 4096 || json.Unmarshal(text, &t) != nil {
		return t, false
	}
	return t, t.Prefill > 0 && t.Decode > 0
}

// writeThreads writes a file that is there as a whole or not at all.
func writeThreads(path string, t threads) error {
	text, err := json.Marshal(t)
	if err != nil {
		return err
	}
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	tmp, err := os.CreateTemp(dir, ".tmp-")
	if err != nil {
		return err
	}
	_, err = tmp.Write(append(text, '\n'))
	if e := tmp.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		_ = os.Remove(tmp.Name())
	}
	return err
}
