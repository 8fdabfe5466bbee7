package huggingface

import (
	"os"
	"path/filepath"
	"testing"
	"unicode/utf8"

	"edged/plugins/tokenizer-bpe/bpe"
)

// FuzzTokenizerParts: whatever stands in a tokenizer.json, reading it and using it ends without a panic, and what a text
// needs stays in proportion to it.
func FuzzTokenizerParts(f *testing.F) {
	for _, parts := range []string{
		`"model":{"type":"BPE","vocab":{"a":0,"b":1,"ab":2,"<unk>":3,"▁":4},"merges":["a b"],"unk_token":"<unk>","fuse_unk":true}`,
		`"model":{"type":"BPE","vocab":{"a":0,"b</w>":1,"ab</w>":2},"merges":["a b</w>"],"end_of_word_suffix":"</w>"},"decoder":{"type":"BPEDecoder"}`,
		`"model":{"type":"Unigram","unk_id":0,"vocab":[["<unk>",0],["▁a",-1],["b",-2.5]],"byte_fallback":true},"pre_tokenizer":{"type":"Metaspace","replacement":"▁","prepend_scheme":"first"}`,
		`"model":{"type":"WordPiece","unk_token":"a","vocab":{"a":0,"##b":1}},"normalizer":{"type":"BertNormalizer"},"pre_tokenizer":{"type":"BertPreTokenizer"}`,
		`"model":{"type":"WordLevel","unk_token":"a","vocab":{"a":0}},"pre_tokenizer":{"type":"Sequence","pretokenizers":[{"type":"UnicodeScripts"},{"type":"Split","pattern":{"Regex":"[a-c&&[^b]]+|\\b"},"behavior":"MergedWithNext"}]}`,
		`"model":{"type":"BPE","vocab":{"a":0},"merges":[]},"normalizer":{"type":"Precompiled","precompiled_charsmap":"BAAAAAAEAABhAA=="},"added_tokens":[{"id":9,"content":" a","lstrip":true,"rstrip":true,"normalized":true}]`,
	} {
		f.Add([]byte("{"+parts+"}"), "ab a\n<unk> é\u0301 ▁x")
	}
	f.Fuzz(func(t *testing.T, data []byte, text string) {
		if len(data) > 1<<14 || len(text) > 1<<10 {
			t.Skip("too long to be quick")
		}
		tok, err := readJSON(data)
		if err != nil {
			return
		}
		for _, o := range []bpe.Options{{}, {AddSpecial: true, ParseSpecial: true}} {
			ids, err := tok.Encode(nil, text, o)
			if err != nil {
				return
			}
			// A replacement may be as long as the file, once for each character of the text.
			if len(ids) > (len(text)+1)*(len(data)+8)*4 {
				t.Errorf("%d ids of %d bytes", len(ids), len(text))
			}
			if _, err := tok.Decode(ids, true); err != nil && len(ids) == 0 {
				t.Error(err)
			}
		}
		if _, err := tok.EncodeRendered(nil, tok.Guard(text), true); err != nil {
			return
		}
	})
}

// FuzzModelFiles: the other files of folders.
func FuzzModelFiles(f *testing.F) {
	names := []string{"tokenizer.model", "tekken.json", "vocab.txt", "source.spm", "tiktoken.model"}
	f.Add(uint8(0), []byte(spmBytes(1, "<unk> 2 0", "a 1 -1", "b 4 -2")), "ab c")
	f.Add(uint8(0), []byte(spmBytes(2, "<unk> 2 0", "a 1 -1", "b 1 -2", "ab 1 -3")), "ab c")
	f.Add(uint8(1), []byte(`{"config":{"pattern":"a|b","default_num_special_tokens":2},"vocab":[{"token_bytes":"YQ=="}],"special_tokens":[]}`), "ab")
	f.Add(uint8(2), []byte("[PAD]\n[UNK]\n[CLS]\n[SEP]\na\n##b\n"), "ab c")
	f.Add(uint8(4), []byte("YQ== 0\nYg== 1\nYWI= 2\n"), "abc")
	f.Fuzz(func(t *testing.T, which uint8, data []byte, text string) {
		if len(data) > 1<<14 || len(text) > 1<<10 {
			t.Skip("too long to be quick")
		}
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, names[int(which)%len(names)]), data, 0o600); err != nil {
			t.Fatal(err)
		}
		tok, err := Read(dir)
		if err != nil {
			if !utf8.ValidString(err.Error()) {
				t.Errorf("the error %q is no text", err)
			}
			return
		}
		ids, err := tok.Encode(nil, text, bpe.Options{AddSpecial: true, ParseSpecial: true})
		if err == nil {
			_, _ = tok.Decode(ids, true) // an error is an answer
		}
	})
}
