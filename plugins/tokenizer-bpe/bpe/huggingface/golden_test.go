package huggingface

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"edged/plugins/tokenizer-bpe/bpe"
	"edged/plugins/tokenizer-bpe/bpe/bpetest"
	"edged/test/oracle"
)

// TestTokenizerJSONLikeHuggingFace: the ids of Hugging Face's library for every part of a tokenizer.json that is
// supported.
func TestTokenizerJSONLikeHuggingFace(t *testing.T) {
	bases := map[string]string{
		"demo":    filepath.Join(oracle.Repo(t), "demo", "hf-nf4"),
		"mixtral": filepath.Join(oracle.Dir(t), "models", "mixtral", "hf"),
	}
	for _, line := range bpetest.GoldenLines(t, "huggingface.jsonl.gz") {
		var g struct {
			Name, Base string
			Patch      map[string]json.RawMessage
			Model      map[string]json.RawMessage
			Cases      []struct {
				Text string
				Add  bool
				IDs  []int32
			}
		}
		if err := json.Unmarshal(line, &g); err != nil {
			t.Fatal(err)
		}
		t.Run(g.Name, func(t *testing.T) {
			data, err := os.ReadFile(filepath.Join(bases[g.Base], "tokenizer.json"))
			if err != nil {
				t.Fatal(err)
			}
			tok, err := readJSON(patched(t, patched(t, data, g.Patch), map[string]json.RawMessage{"model": patched(t, field(t, data, "model"), g.Model)}))
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range g.Cases {
				got, err := tok.Encode(nil, c.Text, bpe.Options{AddSpecial: c.Add, ParseSpecial: true})
				if err != nil {
					t.Fatal(err)
				}
				if !slices.Equal(got, c.IDs) {
					t.Errorf("%q, special %t:\nwant %v\ngot  %v", c.Text, c.Add, c.IDs, got)
				}
			}
		})
	}
}

func field(t *testing.T, data []byte, name string) json.RawMessage {
	t.Helper()
	var o map[string]json.RawMessage
	if err := json.Unmarshal(data, &o); err != nil {
		t.Fatal(err)
	}
	return o[name]
}

func patched(t *testing.T, data []byte, fields map[string]json.RawMessage) []byte {
	t.Helper()
	var o map[string]json.RawMessage
	if err := json.Unmarshal(data, &o); err != nil {
		t.Fatal(err)
	}
	maps.Copy(o, fields)
	out, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	return out
}
