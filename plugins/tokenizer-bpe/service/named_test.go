package service

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"edged/core/model/gguf"
	"edged/core/protocol/tokenizer"
	"edged/test/oracle"
)

// TestNamedTemplates: with tools the template for them is taken, in the list of tokenizer_config.json, as a file, and
// in a GGUF file.
func TestNamedTemplates(t *testing.T) {
	cases := oracle.Path(t, oracle.Cases(t), "D1")
	talk := oracle.Read(t, cases, "talk.json")
	var in struct{ Messages, Tools json.RawMessage }
	if err := json.Unmarshal(talk, &in); err != nil {
		t.Fatal(err)
	}
	for _, kind := range []string{"list", "files"} {
		t.Run(kind, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.CopyFS(dir, os.DirFS(filepath.Join(cases, kind))); err != nil {
				t.Fatal(err)
			}
			vocabulary, err := os.ReadFile(filepath.Join(oracle.Dir(t), "models", "llama-tied", "hf", "tokenizer.json"))
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, "tokenizer.json"), vocabulary, 0o600); err != nil {
				t.Fatal(err)
			}
			choosesByTools(t, dir, in.Messages, in.Tools)
		})
	}
	t.Run("gguf", func(t *testing.T) {
		f, err := gguf.Open(filepath.Join(oracle.Dir(t), "models", "llama-tied", "llama-tied-F16.gguf"))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		var w gguf.Writer
		for _, key := range f.Keys() {
			w.Copy(f, key)
		}
		w.Put("tokenizer.chat_template.tool_use", string(oracle.Read(t, cases, "files", "additional_chat_templates", "tool_use.jinja")))
		for _, x := range f.Tensors() {
			w.Add(x.Name, x.Type.Format(), x.Dims, x.Data)
		}
		path := filepath.Join(t.TempDir(), "m.gguf")
		if err := w.WriteFile(path); err != nil {
			t.Fatal(err)
		}
		choosesByTools(t, path, in.Messages, in.Tools)
	})
}

// choosesByTools renders a conversation by a model's own templates, with tools and without.
func choosesByTools(t *testing.T, path string, messages, tools json.RawMessage) {
	t.Helper()
	s, _ := load(t, path)
	with, err := s.EncodeChat(t.Context(), tokenizer.Chat{Messages: messages, Tools: tools})
	if err != nil {
		t.Fatal(err)
	}
	without, err := s.EncodeChat(t.Context(), tokenizer.Chat{Messages: messages})
	if err != nil {
		t.Fatal(err)
	}
	if i := strings.Index(with.Text, "TOOLS ["); i < 0 || i > len("<|begin_of_text|>") || strings.Contains(without.Text, "TOOLS") {
		t.Errorf("with tools %q, without %q", with.Text, without.Text)
	}
}
