package bpe_test

import (
	"bufio"
	"compress/gzip"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"edged/core/model/gguf"
	"edged/plugins/tokenizer-bpe/bpe"
	"edged/plugins/tokenizer-bpe/bpe/ggufvocab"
	"edged/plugins/tokenizer-bpe/bpe/huggingface"
	"edged/test/oracle"
)

// oracleCase is one line of the reference answers: llama.cpp's ids, and those of Hugging Face's JavaScript library where
// they differ.
type oracleCase struct {
	Category     string  `json:"category"`
	Text         string  `json:"text"`
	BytesHex     string  `json:"bytes_hex"`
	AddSpecial   bool    `json:"add_special"`
	ParseSpecial bool    `json:"parse_special"`
	IDs          []int32 `json:"ids"`
	IDsHF        []int32 `json:"ids_hf_js"`
	Detok        *string `json:"detok"`
}

func readCases(tb testing.TB, path string) []oracleCase {
	tb.Helper()
	f, err := os.Open(path)
	if err != nil {
		tb.Fatal(err)
	}
	defer f.Close()
	var out []oracleCase
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var c oracleCase
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			tb.Fatalf("%s: %v", path, err)
		}
		out = append(out, c)
	}
	if err := lines.Err(); err != nil {
		tb.Fatal(err)
	}
	return out
}

// vocabFile decompresses one of llama.cpp's vocabulary-only files.
func vocabFile(tb testing.TB, name string) string {
	tb.Helper()
	src, err := os.Open(filepath.Join(oracle.Dir(tb), "tokenizer", "vocab", "ggml-vocab-"+name+".gguf.gz"))
	if err != nil {
		tb.Fatal(err)
	}
	defer src.Close()
	z, err := gzip.NewReader(src)
	if err != nil {
		tb.Fatal(err)
	}
	path := filepath.Join(tb.TempDir(), name+".gguf")
	dst, err := os.Create(path)
	if err != nil {
		tb.Fatal(err)
	}
	if _, err := io.Copy(dst, z); err != nil {
		tb.Fatal(err)
	}
	if err := dst.Close(); err != nil {
		tb.Fatal(err)
	}
	return path
}

func loadGGUF(tb testing.TB, path string) *bpe.Tokenizer {
	tb.Helper()
	f, err := gguf.Open(path)
	if err != nil {
		tb.Fatal(err)
	}
	defer f.Close()
	tok, err := ggufvocab.Read(path, f)
	if err != nil {
		tb.Fatal(err)
	}
	return tok
}

// TestOracleVocabularies: the ids of llama.cpp for its own five vocabularies: every case with valid UTF-8, and invalid ones
// but for surrogates.
func TestOracleVocabularies(t *testing.T) {
	for _, name := range []string{"llama-bpe", "qwen2", "gpt-2", "llama-spm", "bert-bge"} {
		t.Run(name, func(t *testing.T) {
			tok := loadGGUF(t, vocabFile(t, name))
			for i, c := range readCases(t, filepath.Join(oracle.Dir(t), "tokenizer", "cases", name+".jsonl")) {
				text := c.Text
				if c.BytesHex != "" {
					b, err := hex.DecodeString(c.BytesHex)
					if err != nil {
						t.Fatal(err)
					}
					text = string(b)
				}
				got, err := tok.Encode(nil, text, bpe.Options{AddSpecial: c.AddSpecial, ParseSpecial: c.ParseSpecial})
				if err != nil {
					t.Fatal(err)
				}
				if strings.HasPrefix(c.BytesHex, "eda0") && name != "llama-spm" {
					continue // a surrogate in UTF-8: three bytes that start no character here, one character there
				}
				if diff := cmp.Diff(c.IDs, got, cmpopts.EquateEmpty()); diff != "" {
					t.Errorf("case %d (%s), %q, special %t, parse %t (-want +got):\n%s", i, c.Category, text, c.AddSpecial, c.ParseSpecial, diff)
				}
				if _, err := tok.Decode(got, true); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// TestOracleModels: the ids of llama.cpp for the GGUF file of each small model, those of Hugging Face for its folder.
func TestOracleModels(t *testing.T) {
	for _, name := range []string{"llama-tied", "qwen2", "gpt2", "mixtral"} {
		dir := filepath.Join(oracle.Dir(t), "models", name)
		cases := readCases(t, filepath.Join(dir, "oracle", "tokens.jsonl"))
		t.Run(name+"/gguf", func(t *testing.T) {
			files, err := filepath.Glob(filepath.Join(dir, "*-F16.gguf"))
			if err != nil || len(files) != 1 {
				t.Fatalf("files %v, error %v", files, err)
			}
			check(t, loadGGUF(t, files[0]), cases, func(c oracleCase) []int32 { return c.IDs })
		})
		t.Run(name+"/hf", func(t *testing.T) {
			tok, err := huggingface.Read(filepath.Join(dir, "hf"))
			if err != nil {
				t.Fatal(err)
			}
			check(t, tok, cases, func(c oracleCase) []int32 {
				if c.IDsHF != nil {
					return c.IDsHF
				}
				return c.IDs
			})
		})
	}
}

func check(t *testing.T, tok *bpe.Tokenizer, cases []oracleCase, want func(c oracleCase) []int32) {
	t.Helper()
	for _, c := range cases {
		got, err := tok.Encode(nil, c.Text, bpe.Options{AddSpecial: c.AddSpecial, ParseSpecial: c.ParseSpecial})
		if err != nil {
			t.Fatal(err)
		}
		if w := want(c); fmt.Sprint(w) != fmt.Sprint(got) {
			t.Errorf("%q, special %t, parse %t:\nwant %v\ngot  %v", c.Text, c.AddSpecial, c.ParseSpecial, w, got)
		}
	}
}

// TestOracleDecode: llama.cpp's texts of whole lists of ids, for the two vocabularies where it does not clean up spaces
// (which a stream of pieces cannot do).
func TestOracleDecode(t *testing.T) {
	for _, name := range []string{"qwen2", "llama-spm"} {
		t.Run(name, func(t *testing.T) {
			tok := loadGGUF(t, vocabFile(t, name))
			for _, c := range readCases(t, filepath.Join(oracle.Dir(t), "tokenizer", "cases", name+".jsonl")) {
				if c.Detok == nil || c.BytesHex != "" || len(c.IDs) == 0 || c.IDs[0] == tok.Info().BOS {
					continue // after a BOS that is shown, llama.cpp keeps the space of the text
				}
				got, err := tok.Decode(c.IDs, true)
				if err != nil {
					t.Fatal(err)
				}
				if string(got) != *c.Detok {
					t.Errorf("%v: %q, want %q", c.IDs, got, *c.Detok)
				}
			}
		})
	}
}
