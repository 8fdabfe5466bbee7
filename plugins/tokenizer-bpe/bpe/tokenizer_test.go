package bpe_test

import (
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"edged/plugins/tokenizer-bpe/bpe"
	"edged/plugins/tokenizer-bpe/bpe/bpetest"
	"edged/plugins/tokenizer-bpe/bpe/ggufvocab"
	"edged/plugins/tokenizer-bpe/bpe/huggingface"
	"edged/test/oracle"
)

// TestDecode: control tokens are text only when asked for, and ids are checked.
func TestDecode(t *testing.T) {
	tok := loadMemory(t, bpetest.SmallVocabulary())
	for _, tt := range []struct {
		ids     []int32
		special bool
		want    string
	}{
		{[]int32{256, 258, 257}, false, "ababc"},
		{[]int32{256, 258, 257}, true, "ab<|im_end|>abc"},
		{[]int32{260}, false, "keep"},
		{nil, true, ""},
	} {
		got, err := tok.Decode(tt.ids, tt.special)
		if err != nil || string(got) != tt.want {
			t.Errorf("%v: %q, %v", tt.ids, got, err)
		}
	}
	for _, id := range []int32{-1, 261, 1 << 30} {
		if _, err := tok.Decode([]int32{0, id}, false); !errors.Is(err, bpe.ErrText) {
			t.Errorf("%d: error %v", id, err)
		}
	}
}

// TestSpecialTokens: control tokens are parsed where that is asked for, tokens that a user may write always.
func TestSpecialTokens(t *testing.T) {
	tok := loadMemory(t, bpetest.SmallVocabulary())
	for _, tt := range []struct {
		text  string
		parse bool
		want  []int32
	}{
		{"ab<|im_end|>ab", true, []int32{256, 258, 256}},
		{"<|im_end|><|user|>", true, []int32{258, 259}},
		{"abkeepab", false, []int32{256, 260, 256}},
		{"abkeepab", true, []int32{256, 260, 256}},
	} {
		got, err := tok.Encode(nil, tt.text, bpe.Options{ParseSpecial: tt.parse})
		if err != nil || !slices.Equal(got, tt.want) {
			t.Errorf("%q, parse %t: %v, want %v, %v", tt.text, tt.parse, got, tt.want, err)
		}
	}
	got, err := tok.Encode(nil, "<|im_end|>", bpe.Options{})
	if err != nil || slices.Contains(got, 258) {
		t.Errorf("typed text became a control token: %v, %v", got, err)
	}
}

// TestGuard: a guarded text holds no control token, and comes back.
func TestGuard(t *testing.T) {
	m := bpetest.SmallVocabulary()
	tokens := slices.Clone(m["tokenizer.ggml.tokens"].([]string))
	tokens[259] = "§" // a control token of one character
	tok := loadMemory(t, m.With("tokenizer.ggml.tokens", tokens))
	for _, s := range []string{
		"", "hello", "<|im_end|>", "a<|im_end|>b", "<|im_", "<", "§", "a§b§", "\ufdd0", "\ufdd1", "\ufdd10\ufdd0", "<|im\ufdd0_end|>", "<<|im_end|><|im_end|>", "\ufdd12a7\ufdd1",
	} {
		g := tok.Guard(s)
		if strings.Contains(g, "<|im_end|>") || strings.Contains(g, "§") || strings.Contains(g+"|im_end|>", "<|im_end|>") {
			t.Errorf("%q is guarded as %q", s, g)
		}
		if back := tok.Unguard(g); back != s {
			t.Errorf("%q came back as %q", s, back)
		}
		ids, err := tok.EncodeRendered(nil, "<|im_end|>"+g+"<|im_end|>", true)
		if err != nil || len(ids) < 2 || ids[0] != 258 || ids[len(ids)-1] != 258 || slices.Contains(ids[1:len(ids)-1], 258) || slices.Contains(ids, 259) {
			t.Errorf("%q: %v, %v", s, ids, err)
		}
	}
}

// TestEncodeAppends: dst is appended to, and its scratch is not shared.
func TestEncodeAppends(t *testing.T) {
	tok := loadMemory(t, bpetest.SmallVocabulary())
	a, err := tok.Encode([]int32{7}, "ab", bpe.Options{})
	if err != nil {
		t.Fatal(err)
	}
	b, err := tok.Encode(nil, "abc", bpe.Options{})
	if err != nil || !slices.Equal(a, []int32{7, 256}) || !slices.Equal(b, []int32{257}) {
		t.Errorf("%v %v %v", a, b, err)
	}
}

// FuzzEncode: byte-level BPE gives the very bytes back.
func FuzzEncode(f *testing.F) {
	demo, err := huggingface.Read(filepath.Join(oracle.Repo(f), "demo", "hf-nf4"))
	if err != nil {
		f.Fatal(err)
	}
	toks := []*bpe.Tokenizer{demo, loadMemory(f, bpetest.PairVocabulary("llama-bpe")), loadMemory(f, bpetest.PairVocabulary("deepseek-llm")), loadMemory(f, bpetest.SmallVocabulary())}
	f.Add("I'LL  go\n\n to ½ 12345's é\u0301!! <|im_end|>")
	f.Add("\xff\xc3(a\xed\xa0\x80")
	f.Fuzz(func(t *testing.T, text string) {
		for _, tok := range toks {
			for _, parse := range []bool{false, true} {
				ids, err := tok.Encode(nil, text, bpe.Options{ParseSpecial: parse})
				if err != nil {
					t.Fatal(err)
				}
				back, err := tok.Decode(ids, true)
				if err != nil {
					t.Fatal(err)
				}
				if string(back) != bpe.ValidUTF8(text) {
					t.Errorf("%q came back as %q", text, back)
				}
			}
			if g := tok.Guard(bpe.ValidUTF8(text)); tok.Unguard(g) != bpe.ValidUTF8(text) {
				t.Errorf("%q is guarded as %q", text, g)
			}
		}
	})
}

func loadMemory(tb testing.TB, m bpetest.Metadata) *bpe.Tokenizer {
	tb.Helper()
	tok, err := ggufvocab.Read("memory", m)
	if err != nil {
		tb.Fatal(err)
	}
	return tok
}
