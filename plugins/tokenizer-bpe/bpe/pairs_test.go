package bpe

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"edged/test/oracle"
)

// TestPairsOfFile: a GGUF file of a cross-encoder puts two texts together as the folder does that it was made of.
func TestPairsOfFile(t *testing.T) {
	dir := filepath.Join(oracle.Dir(t), "encoders")
	for _, name := range []string{"bert-rank", "xlmr-rank", "modernbert-rank"} {
		folder, err := FromFolder(filepath.Join(dir, name, "hf"))
		if err != nil {
			t.Fatal(err)
		}
		file := loadGGUF(t, filepath.Join(dir, name, name+"-F16.gguf"))
		for _, p := range [][2]string{{"Is the window open?", "The kitchen window is open."}, {"a", ""}, {"", ""}} {
			ids, types, err := folder.EncodePair(p[0], p[1], Options{}, 0)
			if err != nil {
				t.Fatal(err)
			}
			got, kinds, err := file.EncodePair(p[0], p[1], Options{}, 0)
			if err != nil || !slices.Equal(got, ids) || !slices.Equal(kinds, types) {
				t.Errorf("%s, %q: %v %v, want %v %v; %v", name, p, got, kinds, ids, types, err)
			}
		}
	}
}

// TestCutPairs: the longer text loses first, as tokenizers' strategy longest_first has it; the expected lengths are that library's.
func TestCutPairs(t *testing.T) {
	list := func(n int) []int32 { return make([]int32, n) }
	for _, c := range []struct{ a, b, most, x, y int }{
		{5, 5, 10, 5, 5},
		{5, 5, 9, 4, 5},
		{3, 20, 10, 3, 7},
		{20, 3, 10, 7, 3},
		{20, 30, 11, 5, 6},
		{30, 20, 11, 6, 5},
		{4, 4, 1, 0, 1},
		{4, 4, 0, 0, 0},
	} {
		x, y := longestFirst(list(c.a), list(c.b), c.most)
		if len(x) != c.x || len(y) != c.y {
			t.Errorf("%d and %d to %d: %d and %d, want %d and %d", c.a, c.b, c.most, len(x), len(y), c.x, c.y)
		}
	}
}

// TestEncodeCut: a text that is cut keeps what stands around it.
func TestEncodeCut(t *testing.T) {
	tok, err := FromFolder(filepath.Join(oracle.Dir(t), "encoders", "bert-mean", "hf"))
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Repeat("window ", 50)
	whole, err := tok.Encode(nil, text, Options{AddSpecial: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, most := range []int{0, len(whole), len(whole) + 1} {
		if got, err := tok.EncodeCut(text, Options{AddSpecial: true}, most); err != nil || !slices.Equal(got, whole) {
			t.Errorf("cut to %d: %v, %v", most, got, err)
		}
	}
	for most := 1; most < len(whole); most++ {
		got, err := tok.EncodeCut(text, Options{AddSpecial: true}, most)
		if err != nil || len(got) != most || got[0] != whole[0] || most > 1 && got[most-1] != whole[len(whole)-1] {
			t.Fatalf("cut to %d: %v, %v", most, got, err)
		}
	}
}

// TestSentenceFiles: what sentence-transformers' files say, and what is wrong with them.
func TestSentenceFiles(t *testing.T) {
	from := filepath.Join(oracle.Dir(t), "encoders/bert-mean/hf")
	for _, c := range []struct {
		name, length, prompts string
		want                  Info
		fails                 bool
	}{
		{name: "none", want: Info{MaxTokens: 64}},
		{name: "length", length: `{"max_seq_length": 128}`, want: Info{MaxTokens: 128}},
		{name: "null", length: `{"max_seq_length": null}`, want: Info{MaxTokens: 64}},
		{name: "prompts", prompts: `{"prompts":{"query":"query: ","document":""},"default_prompt_name":"query"}`, want: Info{MaxTokens: 64, Prompt: "query: "}},
		{name: "no default", prompts: `{"prompts":{"query":"query: "},"default_prompt_name":null}`, want: Info{MaxTokens: 64}},
		{name: "unknown default", prompts: `{"prompts":{},"default_prompt_name":"x"}`, fails: true},
		{name: "no JSON", prompts: `{`, fails: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			for _, name := range []string{"tokenizer.json", "tokenizer_config.json", "config.json"} {
				if err := os.Symlink(filepath.Join(from, name), filepath.Join(dir, name)); err != nil {
					t.Fatal(err)
				}
			}
			for name, text := range map[string]string{"sentence_bert_config.json": c.length, "config_sentence_transformers.json": c.prompts} {
				if text != "" {
					if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
						t.Fatal(err)
					}
				}
			}
			tok, err := FromFolder(dir)
			if c.fails {
				if err == nil {
					t.Error("no error")
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if i := tok.Info(); i.MaxTokens != c.want.MaxTokens || i.Prompt != c.want.Prompt {
				t.Errorf("%d tokens, prompt %q: want %+v", i.MaxTokens, i.Prompt, c.want)
			}
		})
	}
}
