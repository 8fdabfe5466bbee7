package huggingface

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"

	"edged/plugins/tokenizer-bpe/bpe"
	"edged/test/oracle"
)

// spmBytes writes a SentencePiece model of pieces "text type score".
func spmBytes(model uint64, pieces ...string) string {
	var out []byte
	for _, p := range pieces {
		f := strings.Fields(p)
		var text string
		var k uint64
		var score float64
		text = f[0]
		fmt.Sscan(f[1], &k)
		fmt.Sscan(f[2], &score)
		var b []byte
		b = protowire.AppendString(protowire.AppendTag(b, 1, protowire.BytesType), text)
		b = protowire.AppendFixed32(protowire.AppendTag(b, 2, protowire.Fixed32Type), math.Float32bits(float32(score)))
		b = protowire.AppendVarint(protowire.AppendTag(b, 3, protowire.VarintType), k)
		out = protowire.AppendBytes(protowire.AppendTag(out, 1, protowire.BytesType), b)
	}
	trainer := protowire.AppendVarint(protowire.AppendTag(nil, 3, protowire.VarintType), model)
	return string(protowire.AppendBytes(protowire.AppendTag(out, 2, protowire.BytesType), trainer))
}

// tiktokenText lists all bytes and more tokens.
func tiktokenText(more ...string) string {
	var b strings.Builder
	for i := range 256 {
		fmt.Fprintf(&b, "%s %d\n", base64.StdEncoding.EncodeToString([]byte{byte(i)}), i)
	}
	for i, s := range more {
		fmt.Fprintf(&b, "%s %d\n", base64.StdEncoding.EncodeToString([]byte(s)), 256+i)
	}
	return b.String()
}

func tekkenText(t *testing.T, more ...string) string {
	t.Helper()
	type token struct {
		Bytes []byte `json:"token_bytes"`
	}
	var vocab []token
	for i := range 256 {
		vocab = append(vocab, token{[]byte{byte(i)}})
	}
	for _, s := range more {
		vocab = append(vocab, token{[]byte(s)})
	}
	data, err := json.Marshal(map[string]any{
		"config":         map[string]any{"pattern": `\p{L}+|\s+|[^\s\p{L}]+`, "default_num_special_tokens": 5},
		"vocab":          vocab,
		"special_tokens": []map[string]any{{"rank": 1, "token_str": "<s>"}, {"rank": 0, "token_str": "<unk>"}, {"rank": 2, "token_str": "</s>"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// TestFoldersWithoutTokenizerJSON: the files of other libraries, small enough to see why each id is right.
func TestFoldersWithoutTokenizerJSON(t *testing.T) {
	unigram := spmBytes(1, "<unk> 2 0", "<s> 3 0", "</s> 3 0", "▁a 1 -1", "▁ab 1 -3", "b 1 -1", "▁ 1 -4")
	tests := map[string]struct {
		files   map[string]string
		text    string
		ids     []int32
		decoded string
	}{
		"tiktoken": {
			map[string]string{"tiktoken.model": tiktokenText("ab", "bc", "abc")},
			"abc abab",
			[]int32{258, ' ', 256, 256},
			"abc abab",
		},
		"tekken puts <s> before a text and reads no control tokens": {
			map[string]string{"tekken.json": tekkenText(t, "aa", "aaa")},
			"aaaa</s>",
			// aaa and its parts are one rank: the leftmost merge first
			[]int32{1, 256 + 5, 256 + 5, '<' + 5, '/' + 5, 's' + 5, '>' + 5},
			"<s>aaaa</s>",
		},
		"SentencePiece, unigram": {
			map[string]string{"tokenizer.model": unigram, "config.json": `{"model_type":"mistral"}`},
			"ab  ac",
			[]int32{3, 5, 3, 0},
			"ab a<unk>",
		},
		"SentencePiece, T5": {
			map[string]string{"spiece.model": spmBytes(1, "<pad> 3 0", "</s> 3 0", "<unk> 2 0", "▁a 1 -1", "b 1 -1"), "tokenizer_config.json": `{"tokenizer_class":"T5Tokenizer","extra_ids":2}`},
			"ab <extra_id_0>",
			[]int32{3, 4, 6, 1},
			"ab<extra_id_0></s>",
		},
		"SentencePiece, BPE, no BOS unless told": {
			map[string]string{
				"tokenizer.model":       spmBytes(2, "<unk> 2 0", "<s> 3 0", "</s> 3 0", "a 1 -3", "b 1 -4", "▁ 1 -5", "▁a 1 0", "▁ab 1 -1"),
				"tokenizer_config.json": `{"tokenizer_class":"LlamaTokenizer","add_eos_token":true}`,
			}, "ab", []int32{7, 2}, "ab</s>",
		},
		"GPT-2": {
			map[string]string{"vocab.json": `{"a":0,"b":1,"ab":2,"Ġ":3,"<|endoftext|>":4}`, "merges.txt": "#version: 0.2\na b\n", "tokenizer_config.json": `{"tokenizer_class":"GPT2Tokenizer"}`},
			"ab a<|endoftext|>",
			[]int32{2, 3, 0, 4},
			"ab a<|endoftext|>",
		},
		"BERT": {
			map[string]string{"vocab.txt": "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nab\n##c\n", "tokenizer_config.json": `{"tokenizer_class":"BertTokenizer"}`},
			"ABc d [MASK]",
			[]int32{2, 5, 6, 1, 4, 3},
			"[CLS] abc [UNK] [MASK] [SEP]",
		},
		"Marian": {
			map[string]string{"source.spm": unigram, "vocab.json": `{"</s>":0,"<unk>":1,"▁ab":2,"▁a":3,"b":4,">>deu<<":5,"<pad>":6}`},
			">>deu<< ab c",
			[]int32{5, 3, 4, 1, 1, 0},
			">>deu<< ab<unk> <unk> </s>",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for file, text := range tt.files {
				if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			tok, err := Read(dir)
			if err != nil {
				t.Fatal(err)
			}
			ids, err := tok.Encode(nil, tt.text, bpe.Options{AddSpecial: true, ParseSpecial: true})
			if err != nil || !slices.Equal(ids, tt.ids) {
				t.Fatalf("ids %v, want %v, error %v", ids, tt.ids, err)
			}
			if text, err := tok.Decode(ids, true); err != nil || string(text) != tt.decoded {
				t.Errorf("%q, want %q, error %v", text, tt.decoded, err)
			}
		})
	}
}

// TestTekkenInConversations: what a template wrote is control tokens, what was typed is not.
func TestTekkenInConversations(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "tekken.json"), []byte(tekkenText(t)), 0o600); err != nil {
		t.Fatal(err)
	}
	tok, err := Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	ids, err := tok.EncodeRendered(nil, "<s>"+tok.Guard("</s>")+"</s>", true)
	if want := []int32{1, '<' + 5, '/' + 5, 's' + 5, '>' + 5, 2}; err != nil || !slices.Equal(ids, want) {
		t.Errorf("ids %v, want %v, error %v", ids, want, err)
	}
}

// TestUnigramInConversations: a Unigram model's own search must not choose a control token in what was typed.
func TestUnigramInConversations(t *testing.T) {
	tok, err := readJSON([]byte(`{"added_tokens":[{"id":1,"content":"</s>","special":true}],"model":{"type":"Unigram","unk_id":0,
		"vocab":[["<unk>",0],["</s>",0],["<",-2],["/",-2],["s",-2],[">",-2]]}}`))
	if err != nil {
		t.Fatal(err)
	}
	ids, err := tok.EncodeRendered(nil, tok.Guard("</s>")+"</s>", true)
	if want := []int32{2, 3, 4, 5, 1}; err != nil || !slices.Equal(ids, want) {
		t.Errorf("ids %v, want %v, error %v", ids, want, err)
	}
	ids, err = tok.Encode(nil, "</s>", bpe.Options{})
	if want := []int32{1}; err != nil || !slices.Equal(ids, want) {
		t.Errorf("in a plain text, as in the library: ids %v, want %v, error %v", ids, want, err)
	}
}

// TestLostLinks: files that may be missing, and links of a downloader's cache in their place that lead nowhere: those are lost, and named.
func TestLostLinks(t *testing.T) {
	for _, name := range []string{
		"tokenizer_config.json", "special_tokens_map.json", "generation_config.json", "config.json", "chat_template.json", "chat_template.jinja",
		"additional_chat_templates/tool_use.jinja",
	} {
		dir := t.TempDir()
		data := oracle.Read(t, oracle.Dir(t), "models", "llama-tied", "hf", "tokenizer.json")
		if err := os.WriteFile(filepath.Join(dir, "tokenizer.json"), data, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Read(dir); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink("../../blobs/0a1b", path); err != nil {
			t.Fatal(err)
		}
		if _, err := Read(dir); err == nil || !strings.Contains(err.Error(), path+" is a link to ../../blobs/0a1b") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestSentenceFiles: what sentence-transformers' files say, and what is wrong with them.
func TestSentenceFiles(t *testing.T) {
	from := filepath.Join(oracle.Dir(t), "encoders/bert-mean/hf")
	for _, c := range []struct {
		name, length, prompts string
		want                  bpe.Info
		fails                 bool
	}{
		{name: "none", want: bpe.Info{MaxTokens: 64}},
		{name: "length", length: `{"max_seq_length": 128}`, want: bpe.Info{MaxTokens: 128}},
		{name: "null", length: `{"max_seq_length": null}`, want: bpe.Info{MaxTokens: 64}},
		{name: "prompts", prompts: `{"prompts":{"query":"query: ","document":""},"default_prompt_name":"query"}`, want: bpe.Info{MaxTokens: 64, Prompt: "query: "}},
		{name: "no default", prompts: `{"prompts":{"query":"query: "},"default_prompt_name":null}`, want: bpe.Info{MaxTokens: 64}},
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
			tok, err := Read(dir)
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
