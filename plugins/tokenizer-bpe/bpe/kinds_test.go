package bpe

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"testing"

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
		dir := filepath.Join(filepath.Dir(oracle.Dir(t)), "cases", tt.dir)
		if _, err := os.Stat(dir); err != nil {
			t.Skip(err)
		}
		tok, err := FromFolder(dir)
		if err != nil {
			t.Fatal(err)
		}
		ids, err := tok.Encode(nil, tt.text, Options{ParseSpecial: true})
		if err != nil || !slices.Contains(ids, tt.id) {
			t.Errorf("%s: %v, error %v", tt.dir, ids, err)
		}
		if ids, _ = tok.Encode(nil, tt.text, Options{}); slices.Contains(ids, tt.id) {
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
			tok, err := FromFolder(dir)
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range kindCases(t, file) {
				got, err := tok.Encode(nil, c.Text, Options{AddSpecial: c.AddSpecial, ParseSpecial: c.ParseSpecial})
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
