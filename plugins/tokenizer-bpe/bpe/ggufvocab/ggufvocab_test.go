package ggufvocab

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"edged/core/model/gguf"
	"edged/plugins/tokenizer-bpe/bpe"
	"edged/plugins/tokenizer-bpe/bpe/bpetest"
	"edged/plugins/tokenizer-bpe/bpe/vocab"
)

func TestGGUFRefusals(t *testing.T) {
	m := bpetest.SmallVocabulary()
	huge := make([]string, vocab.MaxTokens+1)
	tests := []struct {
		name string
		meta bpetest.Metadata
		want string
	}{
		{"no vocabulary", m.Without(keyModel), "no tokenizer.ggml.model"},
		{"unknown model", m.With(keyModel, "plamo2"), `tokenizer.ggml.model is "plamo2": supported are`},
		{"unigram without scores", m.With(keyModel, "t5"), "no tokenizer.ggml.scores"},
		{"unigram with a broken map", m.With(keyModel, "t5").With(keyScores, make([]float64, 261)).With(keyCharsmap, []int64{1, 2}), "shorter than its header"},
		{"model of another type", m.With(keyModel, true), keyModel},
		{"unknown pre-tokenizer", m.With(keyPre, "klingon"), `unknown pre-tokenizer "klingon": known are`},
		{"no tokens", m.Without(keyTokens), keyTokens},
		{"empty tokens", m.With(keyTokens, []string{}).With(keyTypes, []int64{}), "empty"},
		{"too many tokens", m.With(keyTokens, huge), "at most"},
		{"token not UTF-8", m.With(keyTokens, []string{"\xff"}).With(keyTypes, []int64{1}), "token 0 is not valid UTF-8"},
		{"too few types", m.With(keyTypes, []int64{1}), "1 entries for 261 tokens"},
		{"no merges", m.Without(keyMerges), "no tokenizer.ggml.merges"},
		{"merges of numbers", m.With(keyMerges, []int64{1}), keyMerges},
		{"long control token", m.With(keyTokens, append(slices.Clone(m[keyTokens].([]string)[:258]), strings.Repeat("x", 300), "<|user|>", "keep")), "300 bytes"},
		{"scores too few", bpetest.Metadata{keyModel: "llama", keyTokens: []string{"<unk>", "<s>", "</s>", "a"}, keyScores: []float64{1}}, "1 entries for 4 tokens"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Read("some.gguf", tt.meta)
			if !errors.Is(err, bpe.ErrModel) || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), "some.gguf") {
				t.Errorf("error %v, want %q", err, tt.want)
			}
		})
	}
}

// TestNoSuchEnds: a file that wants a BOS or EOS and names none is served without, and says so.
func TestNoSuchEnds(t *testing.T) {
	m := bpetest.SmallVocabulary()
	plain, err := loadMemory(t, m).Encode(nil, "ab c", bpe.Options{AddSpecial: true})
	if err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]string{keyAddBOS: "there is no BOS id", keyAddEOS: "there is no EOS id"} {
		tok := loadMemory(t, m.With(key, true))
		ids, err := tok.Encode(nil, "ab c", bpe.Options{AddSpecial: true})
		if err != nil || !slices.Equal(ids, plain) {
			t.Errorf("%s: ids %v, want %v (%v)", key, ids, plain, err)
		}
		if notes := tok.Notes(); len(notes) != 1 || !strings.Contains(notes[0], want) {
			t.Errorf("%s: notes %q", key, notes)
		}
		if i := tok.Info(); i.AddBOS || i.AddEOS {
			t.Errorf("%s: %+v", key, i)
		}
	}
}

// TestOddVocabularies: files that are wrong in ways that llama.cpp forgives load here too, and encode without a panic.
func TestOddVocabularies(t *testing.T) {
	m := bpetest.SmallVocabulary()
	metas := map[string]bpetest.Metadata{
		"ids out of range":      m.With(keyBOS, uint64(1<<40)).With(keyEOS, uint64(9999)),
		"types out of range":    m.With(keyTypes, make([]int64, 261)),
		"merges of nothing":     m.With(keyMerges, []string{"", "x", " ", "a b"}),
		"merges of no tokens":   m.With(keyMerges, []string{"a b", "ab x", "abx y", "é ü"}),
		"empty token":           m.With(keyTokens, append([]string{""}, m[keyTokens].([]string)[1:]...)),
		"equal tokens":          m.With(keyTokens, slices.Repeat([]string{"a"}, 261)),
		"sentencepiece, bare":   {keyModel: "llama", keyTokens: []string{"<unk>", "<s>", "</s>", "a", "▁a", "aa"}},
		"sentencepiece, scores": {keyModel: "llama", keyTokens: []string{"<unk>", "<s>", "</s>", "a"}, keyScores: []float64{0, 0, 0, 1e300}},
		"one token":             {keyModel: "gemma4", keyTokens: []string{"a"}, keyMerges: []string{}, keyBOS: uint64(0)},
		"bert of 200":           {keyModel: "bert", keyTokens: slices.Repeat([]string{"▁a", "b", "c"}, 67)},
	}
	for name, meta := range metas {
		t.Run(name, func(t *testing.T) {
			tok := loadMemory(t, meta)
			for _, text := range []string{"", "a", "ab abc é\x00 <|im_end|>", "\xff\xfe", strings.Repeat("ab", 100)} {
				for _, o := range []bpe.Options{{}, {AddSpecial: true}, {ParseSpecial: true}} {
					ids, err := tok.Encode(nil, text, o)
					if err != nil {
						t.Fatal(err)
					}
					if _, err := tok.Decode(ids, true); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
}

// FuzzScores: SentencePiece with byte fallback, and the cut at blanks against the whole text.
func FuzzScores(f *testing.F) {
	tokens := []string{"<unk>", "<s>", "</s>", "▁", "a", "b", "▁a", "ab", "▁ab", "▁▁", "é", "aé"}
	scores := []float64{0, 0, 0, -1, -2, -3, -0.5, -0.25, -0.125, -4, -5, -6}
	types := []int64{2, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1}
	const digits = "0123456789ABCDEF"
	for b := range 256 {
		tokens = append(tokens, "<0x"+digits[b>>4:b>>4+1]+digits[b&15:b&15+1]+">")
		scores, types = append(scores, 0), append(types, int64(vocab.Byte))
	}
	meta := bpetest.Metadata{keyModel: "llama", keyTokens: tokens, keyScores: scores, keyTypes: types, keySpacePrefix: false}
	cutTok := loadMemory(f, meta)
	whole := loadMemory(f, meta.With(keyTokens, append(slices.Clone(tokens[:11]), append([]string{"b▁never"}, tokens[12:]...)...)))
	f.Add("ab  a b \x80é")
	f.Fuzz(func(t *testing.T, text string) {
		if strings.Contains(text, "▁") || strings.Contains(text, "aé") || strings.Contains(text, "never") {
			t.Skip()
		}
		ids, err := cutTok.Encode(nil, text, bpe.Options{})
		if err != nil {
			t.Fatal(err)
		}
		back, err := cutTok.Decode(ids, true)
		// A broken character may take bytes of a blank along, as in llama.cpp: then the blank comes back.
		if err != nil || utf8.ValidString(text) && string(back) != text {
			t.Errorf("%q came back as %q, %v", text, back, err)
		}
		other, err := whole.Encode(nil, text, bpe.Options{})
		if err != nil || !slices.Equal(ids, other) {
			t.Errorf("%q: %v cut at blanks, %v whole", text, ids, other)
		}
	})
}

// FuzzGGUF: no panic, whatever a file's metadata says.
func FuzzGGUF(f *testing.F) {
	m := bpetest.SmallVocabulary()
	for _, model := range []string{"gpt2", "llama", "bert", "gemma4"} {
		var w gguf.Writer
		w.Put(keyModel, model)
		w.Put(keyPre, "llama-bpe")
		w.Put(keyTokens, m[keyTokens].([]string))
		w.Put(keyMerges, m[keyMerges].([]string))
		w.Put(keyBOS, uint32(3))
		var b strings.Builder
		if _, err := w.WriteTo(&b); err != nil {
			f.Fatal(err)
		}
		f.Add([]byte(b.String()))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		file, err := gguf.Parse("fuzz.gguf", data)
		if err != nil {
			t.Skip()
		}
		tok, err := Read("fuzz.gguf", file)
		if err != nil {
			if !utf8.ValidString(err.Error()) && utf8.Valid(data) {
				t.Errorf("error %q", err)
			}
			return
		}
		ids, err := tok.Encode(nil, "ab a  é\n<|im_end|>", bpe.Options{ParseSpecial: true, AddSpecial: true})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tok.Decode(ids, true); err != nil {
			t.Error(err)
		}
	})
}

// TestPreTokenizersLikeLlamaCpp: llama.cpp's ids of texts that meet every branch of the patterns.
func TestPreTokenizersLikeLlamaCpp(t *testing.T) {
	toks := map[string]*bpe.Tokenizer{}
	for _, line := range bpetest.GoldenLines(t, "pretokenizers.jsonl.gz") {
		var c struct {
			Text string
			IDs  []struct {
				Pre []string
				IDs []int32
			}
		}
		if err := json.Unmarshal(line, &c); err != nil {
			t.Fatal(err)
		}
		for _, answer := range c.IDs {
			for _, pre := range answer.Pre {
				if toks[pre] == nil {
					toks[pre] = loadMemory(t, bpetest.PairVocabulary(pre))
				}
				got, err := toks[pre].Encode(nil, c.Text, bpe.Options{})
				if err != nil {
					t.Fatal(err)
				}
				if !slices.Equal(got, answer.IDs) {
					t.Errorf("%s: %q:\nwant %v\ngot  %v", pre, c.Text, answer.IDs, got)
				}
			}
		}
	}
	if len(toks) != 15 {
		t.Errorf("%d pre-tokenizers were compared", len(toks))
	}
}

// TestRWKV: the longest token at each place, over bytes that the file writes with escapes.
func TestRWKV(t *testing.T) {
	tok := loadMemory(t, bpetest.Metadata{keyModel: "rwkv", keyTokens: []string{"<s>", `\x00`, `\xe2\x82`, `\xac`, "a", "ab", "abc", "b", `\n`}})
	ids, err := tok.Encode(nil, "ab€\x00abcb\n", bpe.Options{AddSpecial: true})
	if want := []int32{5, 2, 3, 1, 6, 7, 8}; err != nil || !slices.Equal(ids, want) {
		t.Fatalf("ids %v, want %v, error %v", ids, want, err)
	}
	if text, err := tok.Decode(ids, true); err != nil || string(text) != "ab€\x00abcb\n" {
		t.Errorf("%q, error %v", text, err)
	}
}

func loadMemory(tb testing.TB, m bpetest.Metadata) *bpe.Tokenizer {
	tb.Helper()
	tok, err := Read("memory", m)
	if err != nil {
		tb.Fatal(err)
	}
	return tok
}
