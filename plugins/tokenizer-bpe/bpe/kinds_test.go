package bpe_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"edged/plugins/tokenizer-bpe/bpe"
	"edged/plugins/tokenizer-bpe/bpe/huggingface"
	"edged/test/oracle"
)

// kindCase is a line of text/tokenizers/KIND/cases.jsonl.
type kindCase struct {
	Text           string  `json:"text"`
	AddSpecial     bool    `json:"add_special"`
	ParseSpecial   bool    `json:"parse_special"`
	IDs            []int32 `json:"ids"`
	Decoded        *string `json:"decoded"`
	WithoutSpecial *string `json:"decoded_without_special"`
}

// kindCases reads one file. A line with U+0085 in it was cut in two when the file was made: what remains of the first half
// has no ids, and the second half follows on the same line.
func kindCases(t *testing.T, path string) []kindCase {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var out []kindCase
	for line := range bytes.Lines(data) {
		var c kindCase
		if err := json.Unmarshal(line, &c); err != nil {
			c = kindCase{}
			if err := json.Unmarshal(line[bytes.LastIndex(line, []byte(`{"text":`)):], &c); err != nil {
				t.Fatalf("%s: %v", path, err)
			}
		}
		out = append(out, c)
	}
	return out
}

// TestOracleAddedTokens: special tokens that only tokenizer_config.json names, and one beyond the rows of the embedding.
func TestOracleAddedTokens(t *testing.T) {
	for _, tt := range []struct {
		dir, text string
		id        int32
	}{
		{"C1", "hi <|eot_id|> you", 511},
		{"B2", "hi <pad> you", 512},
	} {
		dir := oracle.Path(t, oracle.Cases(t), tt.dir)
		tok, err := huggingface.Read(dir)
		if err != nil {
			t.Fatal(err)
		}
		ids, err := tok.Encode(nil, tt.text, bpe.Options{ParseSpecial: true})
		if err != nil || !slices.Contains(ids, tt.id) {
			t.Errorf("%s: %v, error %v", tt.dir, ids, err)
		}
		if ids, _ = tok.Encode(nil, tt.text, bpe.Options{}); slices.Contains(ids, tt.id) {
			t.Errorf("%s: a typed text became the token", tt.dir)
		}
	}
}

// TestOracleKinds: ids and decoded texts of transformers' AutoTokenizer, for folders of every sort.
func TestOracleKinds(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(oracle.Dir(t), "text", "tokenizers", "*", "cases.jsonl"))
	if err != nil || len(files) == 0 {
		t.Skipf("there are no kinds, error %v", err)
	}
	if dir := os.Getenv("EDGED_TOKENIZER_KINDS"); dir != "" { // kinds made by hand, see tools/tokenizerkinds
		if files, err = filepath.Glob(filepath.Join(dir, "*", "cases.jsonl")); err != nil {
			t.Fatal(err)
		}
	}
	for _, file := range files {
		dir := filepath.Dir(file)
		t.Run(filepath.Base(dir), func(t *testing.T) {
			tok, err := huggingface.Read(dir)
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range kindCases(t, file) {
				got, err := tok.Encode(nil, c.Text, bpe.Options{AddSpecial: c.AddSpecial, ParseSpecial: c.ParseSpecial})
				if err != nil {
					t.Error(err)
					continue
				}
				if !slices.Equal(got, c.IDs) {
					t.Errorf("%q, special %t, parse %t:\nwant %v\ngot  %v", c.Text, c.AddSpecial, c.ParseSpecial, c.IDs, got)
				}
				for special, want := range map[bool]*string{true: c.Decoded, false: c.WithoutSpecial} {
					if want == nil {
						continue
					}
					text, err := tok.Decode(c.IDs, special)
					if err != nil {
						t.Error(err)
					} else if string(text) != *want {
						t.Errorf("decode %v, special %t:\nwant %q\ngot  %q", c.IDs, special, *want, text)
					}
				}
			}
		})
	}
}

// encoderCase is a line of encoders/NAME/oracle/tokens.jsonl.
type encoderCase struct {
	Text   string  `json:"text"`
	Pair   *string `json:"pair"`
	Target bool    `json:"target"`
	IDs    []int32 `json:"ids"`
	Types  []int32 `json:"types"`
	Bare   []int32 `json:"ids_bare"`
}

// TestOracleEncoders: the tokenizers of encoders and encoder-decoders: the folder's ids by transformers, the GGUF file's by
// llama.cpp, which splits some texts otherwise.
func TestOracleEncoders(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(oracle.Dir(t), "encoders", "*", "oracle", "tokens.jsonl"))
	if err != nil || len(files) == 0 {
		t.Skipf("there are no encoders, error %v", err)
	}
	for _, file := range files {
		dir := filepath.Dir(filepath.Dir(file))
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var cases, pairs []encoderCase
		for line := range bytes.Lines(data) {
			var c encoderCase
			if err := json.Unmarshal(line, &c); err != nil {
				t.Fatal(err)
			}
			if c.Pair == nil && !c.Target {
				cases = append(cases, c)
			}
			if c.Pair != nil {
				pairs = append(pairs, c)
			}
		}
		check := func(t *testing.T, tok *bpe.Tokenizer, differ map[string][]int32) {
			for _, c := range cases {
				for _, special := range []bool{true, false} {
					want := c.Bare
					if special {
						want = c.IDs
						if d, ok := differ[c.Text]; ok {
							want = d
						}
					} else if _, ok := differ[c.Text]; ok || want == nil {
						continue
					}
					got, err := tok.Encode(nil, c.Text, bpe.Options{AddSpecial: special, ParseSpecial: true})
					if err != nil || !slices.Equal(got, want) {
						t.Errorf("%q, special %t, error %v:\nwant %v\ngot  %v", c.Text, special, err, want, got)
					}
				}
			}
		}
		checkPairs := func(t *testing.T, tok *bpe.Tokenizer, typed bool) {
			for _, c := range pairs {
				ids, types, err := tok.EncodePair(c.Text, *c.Pair, bpe.Options{ParseSpecial: true}, 0)
				if err != nil || !slices.Equal(ids, c.IDs) || typed && c.Types != nil && !slices.Equal(types, c.Types) {
					t.Errorf("%q and %q, error %v:\nwant %v, types %v\ngot  %v, types %v", c.Text, *c.Pair, err, c.IDs, c.Types, ids, types)
				}
			}
		}
		t.Run(filepath.Base(dir)+"/hf", func(t *testing.T) {
			tok, err := huggingface.Read(filepath.Join(dir, "hf"))
			if err != nil {
				t.Fatal(err)
			}
			check(t, tok, nil)
			checkPairs(t, tok, true)
		})
		ggufs, _ := filepath.Glob(filepath.Join(dir, "*.gguf"))
		if len(ggufs) == 0 || strings.HasSuffix(dir, "-rank") { // llama.cpp's ids are not recorded for these
			continue
		}
		t.Run(filepath.Base(dir)+"/gguf", func(t *testing.T) {
			check(t, loadGGUF(t, ggufs[0]), tokensDiffer(t, dir))
		})
	}
}

// tokensDiffer are the texts that llama.cpp splits otherwise, with its ids.
func tokensDiffer(t *testing.T, dir string) map[string][]int32 {
	t.Helper()
	out := map[string][]int32{}
	files, _ := filepath.Glob(filepath.Join(dir, "oracle", "*.json"))
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var o struct {
			GGUF struct {
				Differ []struct {
					Text string  `json:"text"`
					IDs  []int32 `json:"ids_gguf"`
				} `json:"tokens_differ"`
			} `json:"gguf"`
		}
		if err := json.Unmarshal(data, &o); err != nil {
			continue
		}
		for _, d := range o.GGUF.Differ {
			out[d.Text] = d.IDs
		}
	}
	return out
}
