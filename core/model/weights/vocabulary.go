package weights

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"edged/core/model/gguf"
)

// SameVocabulary proves that the tokens of two models mean the same: that the pieces which stand in their
// files are equal, id by id, as far as both have some (models of one family pad their vocabularies to
// different lengths). The error is ErrMismatch and names the first piece that differs, or says why there is
// nothing to compare.
func SameVocabulary(a, b string) error {
	mine, err := pieces(a)
	if err != nil {
		return err
	}
	theirs, err := pieces(b)
	if err != nil {
		return err
	}
	n := min(len(mine), len(theirs))
	if n == 0 || max(len(mine), len(theirs))-n > max(n/64, 1024) {
		return fmt.Errorf("weights: %s: %w: its vocabulary has %d pieces, that of %s has %d", b, ErrMismatch, len(theirs), a, len(mine))
	}
	for i := range n {
		if mine[i] != theirs[i] && mine[i] != "" && theirs[i] != "" {
			return fmt.Errorf("weights: %s: %w: token %d is %.40q, in %s it is %.40q", b, ErrMismatch, i, theirs[i], a, mine[i])
		}
	}
	return nil
}

// pieces are the token pieces of a model's files, by id; "" where an id has none.
func pieces(path string) ([]string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("weights: %w", err)
	}
	if !info.IsDir() {
		f, err := gguf.Open(path)
		if err != nil {
			return nil, err
		}
		defer f.Close() //nolint:errcheck // opened for reading: nothing to lose
		list, err := f.Strings("tokenizer.ggml.tokens")
		if err != nil {
			return nil, fmt.Errorf("weights: %s: %w: vocabulary: %w", path, ErrMismatch, err)
		}
		return list, nil
	}
	path = filepath.Join(path, "tokenizer.json")
	text, err := readBounded(path, maxTokenizer)
	if err != nil {
		return nil, fmt.Errorf("weights: vocabulary: %w", err)
	}
	list, err := tokenizerPieces(text)
	if err != nil {
		return nil, fmt.Errorf("weights: %s: %w: %w", path, ErrInvalid, err)
	}
	return list, nil
}

// maxTokenizer bounds a tokenizer.json: that of a vocabulary of 256k has 33 MB.
const maxTokenizer = 128 << 20

// maxPieces bounds an id in it.
const maxPieces = 1 << 22

// tokenizerPieces reads the pieces of a tokenizer.json: its model's, a map or, where they have scores, a list
// of pairs, and those that were added.
func tokenizerPieces(text []byte) ([]string, error) {
	var file struct {
		Added []struct {
			ID      int    `json:"id"`
			Content string `json:"content"`
		} `json:"added_tokens"`
		Model struct {
			Vocab json.RawMessage `json:"vocab"`
		} `json:"model"`
	}
	if err := json.Unmarshal(text, &file); err != nil {
		return nil, err
	}
	var list []string
	set := func(id int, piece string) error {
		if id < 0 || id >= maxPieces {
			return fmt.Errorf("token %.40q has the id %d: want 0 to %d", piece, id, maxPieces-1)
		}
		for len(list) <= id {
			list = append(list, "")
		}
		list[id] = piece
		return nil
	}
	if v := file.Model.Vocab; len(v) > 0 && v[0] == '[' {
		var pairs [][]any
		if err := json.Unmarshal(v, &pairs); err != nil {
			return nil, err
		}
		for id, p := range pairs {
			piece, ok := "", false
			if len(p) > 0 {
				piece, ok = p[0].(string)
			}
			if !ok {
				return nil, fmt.Errorf("vocab: entry %d is no piece and score", id)
			}
			if err := set(id, piece); err != nil {
				return nil, err
			}
		}
	} else if len(v) > 0 {
		var ids map[string]int
		if err := json.Unmarshal(v, &ids); err != nil {
			return nil, err
		}
		for piece, id := range ids {
			if err := set(id, piece); err != nil {
				return nil, err
			}
		}
	}
	for _, a := range file.Added {
		if err := set(a.ID, a.Content); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// readBounded reads a file of at most limit bytes.
func readBounded(path string, limit int64) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Size() > limit {
		return nil, fmt.Errorf("%s: %w: %d bytes are more than %d", path, ErrInvalid, info.Size(), limit)
	}
	return os.ReadFile(path)
}
