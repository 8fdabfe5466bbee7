package weights

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"edged/test/oracle"
)

// TestSameVocabulary compares files of one model in different containers, and of different models.
func TestSameVocabulary(t *testing.T) {
	repo, shared := oracle.Repo(t), oracle.Dir(t)
	gguf, folder := filepath.Join(repo, "demo/gguf/hearth-4m-q4_0.gguf"), filepath.Join(repo, "demo/hf-nf4")
	for _, pair := range [][2]string{{gguf, gguf}, {gguf, folder}, {folder, gguf}} {
		if err := SameVocabulary(pair[0], pair[1]); err != nil {
			t.Error(err)
		}
	}
	other, err := filepath.Glob(filepath.Join(shared, "models", "*", "*-F16.gguf"))
	if err != nil || len(other) == 0 {
		t.Fatal("no other models", err)
	}
	for _, path := range append(other[:1], filepath.Join(t.TempDir(), "none.gguf")) {
		if err := SameVocabulary(gguf, path); err == nil || strings.HasSuffix(path, "F16.gguf") && !errors.Is(err, ErrMismatch) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func TestTokenizerPieces(t *testing.T) {
	for name, c := range map[string]struct{ text, want, fails string }{
		"map":       {`{"model":{"vocab":{"a":0,"b":2}},"added_tokens":[{"id":3,"content":"<s>"}]}`, "a||b|<s>", ""},
		"scores":    {`{"model":{"vocab":[["a",-1],["b",-2.5]]}}`, "a|b", ""},
		"nothing":   {`{}`, "", ""},
		"far":       {`{"model":{"vocab":{"a":99999999}}}`, "", "99999999"},
		"negative":  {`{"added_tokens":[{"id":-1,"content":"x"}]}`, "", "-1"},
		"odd pairs": {`{"model":{"vocab":[[1,2]]}}`, "", "entry 0"},
		"odd":       {`{"model":{"vocab":7}}`, "", "unmarshal"},
		"no JSON":   {`{`, "", "JSON"},
	} {
		got, err := tokenizerPieces([]byte(c.text))
		switch {
		case c.fails != "" && (err == nil || !strings.Contains(err.Error(), c.fails)):
			t.Errorf("%s: %v, want %q", name, err, c.fails)
		case c.fails == "" && (err != nil || strings.Join(got, "|") != c.want):
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}

func FuzzTokenizerPieces(f *testing.F) {
	f.Add([]byte(`{"model":{"vocab":{"a":0,"b":2}},"added_tokens":[{"id":3,"content":"<s>"}]}`))
	f.Add([]byte(`{"model":{"vocab":[["a",-1],["b",-2.5]]}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		if list, err := tokenizerPieces(text); err == nil && len(list) > maxPieces {
			t.Errorf("%d pieces", len(list))
		}
	})
}

func TestSameVocabularyOfFolders(t *testing.T) {
	write := func(text string) string {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "tokenizer.json"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	a := write(`{"model":{"vocab":{"a":0,"b":1,"c":2}}}`)
	b := write(`{"model":{"vocab":{"a":0,"b":1}}}`) // padded to another length
	c := write(`{"model":{"vocab":{"a":0,"c":1,"b":2}}}`)
	if err := SameVocabulary(a, b); err != nil {
		t.Error(err)
	}
	if err := SameVocabulary(a, c); !errors.Is(err, ErrMismatch) || !strings.Contains(err.Error(), "token 1") {
		t.Error(err)
	}
	if err := SameVocabulary(a, t.TempDir()); err == nil {
		t.Error("a folder without a tokenizer")
	}
}
