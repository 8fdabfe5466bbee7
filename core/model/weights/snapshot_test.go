package weights_test

import (
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"edged/core/model/arch"
	"edged/core/model/weights"
)

// TestCopiedSnapshot: links of a downloader's cache that lead nowhere, and byte order marks, are named as what they are.
func TestCopiedSnapshot(t *testing.T) {
	check := func(path, name, want string) {
		t.Helper()
		_, err := weights.Open(path)
		if err == nil || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "a model folder holds") {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, name := range []string{"config.json", "model.safetensors", "generation_config.json"} {
		dir := tiny("llama").WriteHF(t)
		path := filepath.Join(dir, name)
		if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		if err := os.Symlink("../../blobs/0a1b", path); err != nil {
			t.Fatal(err)
		}
		check(dir, name, "is a link to ../../blobs/0a1b, which is not there")
	}
	file := filepath.Join(t.TempDir(), "m.GGUF")
	if err := os.Symlink("/nowhere/0a1b", file); err != nil {
		t.Fatal(err)
	}
	check(file, "m.GGUF", "is a link to /nowhere/0a1b")
	for _, mark := range []string{"\xEF\xBB\xBF", "\xFF\xFE"} {
		dir := tiny("llama").WriteHF(t)
		path := filepath.Join(dir, "config.json")
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		write(t, path, append([]byte(mark), text...))
		check(dir, "config.json", "begins with a byte order mark")
	}
}

// TestStoredHead: a head that stands beside an embedding which the configuration calls the head counts, and is named where it is
// another one.
func TestStoredHead(t *testing.T) {
	tied := tiny("llama")
	tied.Config["tie_word_embeddings"] = true
	m := open(t, tied.WriteHF(t))
	if m.Spec.Head.Tied || len(m.Notes()) != 1 || !strings.Contains(m.Notes()[0], "lm_head.weight") {
		t.Errorf("tied %v, notes %q", m.Spec.Head.Tied, m.Notes())
	}
	if m := open(t, tiny("llama").WriteHF(t)); len(m.Notes()) != 0 {
		t.Errorf("notes %q", m.Notes())
	}
}

// TestHeadless: an embedder's folder has neither a head nor a prefix of its names; without its class a head is missing.
func TestHeadless(t *testing.T) {
	m := tiny("qwen3")
	delete(m.Tensors, "lm_head.weight")
	for name, shape := range maps.Clone(m.Tensors) {
		delete(m.Tensors, name)
		m.Tensors[strings.TrimPrefix(name, "model.")] = shape
	}
	check := func(class string) (*weights.Model, error) {
		m.Config["architectures"] = []string{class}
		return weights.Open(m.WriteHF(t))
	}
	w, err := check("Qwen3Model")
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if !w.Spec.Head.Tied || len(w.Notes()) != 1 || !strings.Contains(w.Notes()[0], "no output head") {
		t.Errorf("tied %v, notes %q", w.Spec.Head.Tied, w.Notes())
	}
	if _, err := check("Qwen3ForCausalLM"); err == nil || !strings.Contains(err.Error(), "lm_head.weight") {
		t.Errorf("%v: want a missing head", err)
	}
}

// TestEmbedderFolder: what sentence-transformers says about pooling counts for decoders; steps that are not served do not keep them
// from generating.
func TestEmbedderFolder(t *testing.T) {
	const transformer, pooling = `{"idx":0,"path":"","type":"sentence_transformers.models.Transformer"}`, `{"idx":1,"path":"1_Pooling","type":"sentence_transformers.models.Pooling"}`
	for _, c := range []struct {
		name, modules, pooling string
		want                   arch.PoolKind
		notes                  int
	}{
		{"last", "[" + transformer + "," + pooling + "]", `{"pooling_mode_lasttoken": true}`, arch.PoolLast, 0},
		{"first", "[" + transformer + "," + pooling + "]", `{"pooling_mode": "cls"}`, arch.PoolCLS, 0},
		{"greatest", "[" + transformer + "," + pooling + "]", `{"pooling_mode_max_tokens": true}`, arch.PoolMean, 1},
		{"odd step", "[" + transformer + "," + pooling + `,{"idx":2,"path":"2_CNN","type":"sentence_transformers.models.CNN"}]`, `{"pooling_mode_lasttoken": true}`, arch.PoolMean, 1},
	} {
		dir := tiny("llama").WriteHF(t)
		if err := os.Mkdir(filepath.Join(dir, "1_Pooling"), 0o700); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, "modules.json"), []byte(c.modules))
		write(t, filepath.Join(dir, "1_Pooling", "config.json"), []byte(c.pooling))
		m := open(t, dir)
		if m.Spec.Pool.Kind != c.want || !m.Spec.Pool.Normalize || len(m.Notes()) != c.notes {
			t.Errorf("%s: %+v, notes %q", c.name, m.Spec.Pool, m.Notes())
		}
	}
}
