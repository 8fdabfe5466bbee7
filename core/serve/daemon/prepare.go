package daemon

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"edged/core/protocol"
	"edged/core/protocol/backend"
	"edged/core/protocol/tokenizer"
)

// LoadTokenizer makes a tokenizer plugin ready for a model.
func LoadTokenizer(ctx context.Context, t tokenizer.Tokenizer, path string) (tokenizer.Info, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return tokenizer.Info{}, fmt.Errorf("%s: %w", path, err)
	}
	return t.Load(ctx, path)
}

// LoadBackend makes a backend plugin ready for a model: it loads the weights and hands over the vocabulary of
// a tokenizer that has the same model loaded. The vocabulary is fetched for each life of the backend instead
// of being kept: that of a 152k-token model takes 10 MB here, and the whole daemon is to stay below 40.
func LoadBackend(
	ctx context.Context,
	b backend.Backend,
	t tokenizer.Tokenizer,
	req backend.LoadRequest,
	progress func(backend.LoadProgress),
) (backend.ModelInfo, error) {
	path, err := filepath.Abs(req.Path)
	if err != nil {
		return backend.ModelInfo{}, fmt.Errorf("%s: %w", req.Path, err)
	}
	req.Path = path
	info, err := b.Load(ctx, req, progress)
	if err != nil {
		return info, err
	}
	vocab, err := t.Vocabulary(ctx)
	if err != nil {
		return info, err
	}
	if surplus(vocab, info.VocabRows) > maxSurplus {
		return info, fmt.Errorf("%s: %w: its vocabulary has %d pieces and its embedding only %d rows: the files do not belong together",
			req.Path, protocol.ErrModel, len(vocab.Pieces), info.VocabRows)
	}
	return info, b.SetVocabulary(ctx, vocab)
}

// maxSurplus is how many pieces of ordinary text may stand behind the last row of an embedding before the
// tokenizer is taken for another model's. Trainers add a few tokens, mostly a <pad>, without making the
// embedding longer; such ids are never sampled, and a prompt that holds one is refused by the backend.
const maxSurplus = 64

// surplus counts the pieces of ordinary text for which an embedding has no row.
func surplus(v backend.Vocabulary, rows int) int {
	n := 0
	for i := max(rows, 0); rows > 0 && i < len(v.Pieces); i++ {
		if i >= len(v.Control) || !v.Control[i] {
			n++
		}
	}
	return n
}

// CacheDir returns the folder for derived files outside `edged run`, in the user's cache; "" where there is none.
func CacheDir() string {
	dir, err := os.UserCacheDir()
	if err != nil {
		return ""
	}
	dir = filepath.Join(dir, "edged")
	if os.MkdirAll(dir, 0o700) != nil {
		return ""
	}
	return dir
}
