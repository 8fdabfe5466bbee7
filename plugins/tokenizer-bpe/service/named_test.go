package service

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"edged/core/protocol/tokenizer"
	"edged/test/oracle"
)

// TestNamedTemplates: with tools the template for them is taken, in the list of tokenizer_config.json and as a file.
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
			s, _ := load(t, dir)
			with, err := s.EncodeChat(t.Context(), tokenizer.Chat{Messages: in.Messages, Tools: in.Tools})
			if err != nil {
				t.Fatal(err)
			}
			without, err := s.EncodeChat(t.Context(), tokenizer.Chat{Messages: in.Messages})
			if err != nil {
				t.Fatal(err)
			}
			if i := strings.Index(with.Text, "TOOLS ["); i < 0 || i > len("<|begin_of_text|>") || strings.Contains(without.Text, "TOOLS") {
				t.Errorf("with tools %q, without %q", with.Text, without.Text)
			}
		})
	}
}
