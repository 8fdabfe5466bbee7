package huggingface

import (
	"encoding/json"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"edged/plugins/tokenizer-bpe/bpe"
	"edged/plugins/tokenizer-bpe/bpe/split"
	"edged/plugins/tokenizer-bpe/bpe/transformers"
	"edged/test/oracle"
)

func demoJSON(tb testing.TB) []byte {
	tb.Helper()
	data, err := os.ReadFile(filepath.Join(oracle.Repo(tb), "demo", "hf-nf4", "tokenizer.json"))
	if err != nil {
		tb.Fatal(err)
	}
	return data
}

// readJSON builds a tokenizer from the text of a tokenizer.json alone.
func readJSON(data []byte) (*bpe.Tokenizer, error) {
	p, err := fromJSON(data, &transformers.Config{})
	if err != nil {
		return nil, err
	}
	return bpe.New(*p), nil
}

func TestTokenizerJSONRefusals(t *testing.T) {
	demo := demoJSON(t)
	with := func(key, value string) []byte {
		return patched(t, demo, map[string]json.RawMessage{key: json.RawMessage(value)})
	}
	model := func(key, value string) []byte {
		m := patched(t, field(t, demo, "model"), map[string]json.RawMessage{key: json.RawMessage(value)})
		return with("model", string(m))
	}
	deep := `{"type":"NFC"}`
	for range 30 {
		deep = `{"type":"Sequence","normalizers":[` + deep + `]}`
	}
	tests := []struct {
		name string
		data []byte
		want string
	}{
		{"no JSON", []byte("{"), "unexpected end"},
		{"a list", []byte("[]"), "cannot unmarshal"},
		{"empty", []byte("{}"), `model.type is ""`},
		{"vocabulary of another model", model("vocab", `[["a", 0.5]]`), "not of the form that a BPE model has"},
		{"unknown model", model("type", `"Oracle"`), `model.type is "Oracle"`},
		{"unigram without scores", with("model", `{"type":"Unigram","vocab":["a"]}`), "model.vocab: entry 0"},
		{"unigram of texts", with("model", `{"type":"Unigram","vocab":[["a","b"]]}`), "model.vocab: entry 0"},
		{"unigram with a foreign unknown token", with("model", `{"type":"Unigram","unk_id":7,"vocab":[["a",-1]]}`), "model.unk_id is 7"},
		{"unigram with a long token", with("model", `{"type":"Unigram","unk_id":0,"vocab":[["`+strings.Repeat("a", 2000)+`",-1]]}`), "2000 bytes"},
		{"no vocabulary", model("vocab", `{}`), "model.vocab is empty"},
		{"vocabulary of texts", model("vocab", `{"a":"b"}`), "model.vocab is not of the expected form"},
		{"negative id", model("vocab", `{"a":-1}`), `"a" has the id -1`},
		{"huge id", model("vocab", `{"a":123456789012}`), "ids go from 0"},
		{"sparse ids", model("vocab", `{"a":1000000}`), "too sparse"},
		{"merge of three", model("merges", `["a b c"]`), "model.merges: entry 0"},
		{"merge of one", model("merges", `[["a"]]`), "model.merges: entry 0"},
		{"merges of numbers", model("merges", `[1]`), "model.merges: entry 0"},
		{"merge of no token", model("merges", `["a ☃"]`), "which is not in the vocabulary"},
		{"dropout", model("dropout", `0.1`), "random"},
		{"normalizer", with("normalizer", `{"type":"Odd"}`), `normalizer: type "Odd" is not supported`},
		{"normalizer without a type", with("normalizer", `{}`), "has no type"},
		{"charsmap that is no base64", with("normalizer", `{"type":"Precompiled","precompiled_charsmap":"?"}`), "not base64"},
		{"charsmap with a long trie", with("normalizer", `{"type":"Precompiled","precompiled_charsmap":"AAQAAAAA"}`), "longer than the map"},
		{"charsmap", with("normalizer", `{"type":"Precompiled","precompiled_charsmap":"AAAA"}`), "Precompiled"},
		{"nested too deep", with("normalizer", deep), "nested deeper"},
		{"pattern", with("pre_tokenizer", `{"type":"Split","pattern":{"Regex":"("},"behavior":"Isolated","invert":false}`), "pre_tokenizer: Split"},
		{"what no counterpart has", with("pre_tokenizer", `{"type":"Split","pattern":{"Regex":"a\\Kb"},"behavior":"Isolated","invert":false}`), "not supported"},
		{"behaviour", with("pre_tokenizer", `{"type":"Split","pattern":{"Regex":"a"},"behavior":"Eaten","invert":false}`), `"Eaten" is unknown`},
		{"pre-tokenizer", with("pre_tokenizer", `{"type":"Odd"}`), `type "Odd" is not supported`},
		{"length", with("pre_tokenizer", `{"type":"FixedLength","length":0}`), "length 0"},
		{"metaspace", with("pre_tokenizer", `{"type":"Metaspace","replacement":"__"}`), "not one character"},
		{"decoder", with("decoder", `{"type":"Odd"}`), `decoder: type "Odd"`},
		{"post-processor", with("post_processor", `{"type":"Odd"}`), `post_processor: type "Odd"`},
		{"template with a foreign token", with("post_processor", `{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"x","type_id":0}},{"Sequence":{"id":"A","type_id":0}}],"special_tokens":{}}`), `names the token "x"`},
		{"template with a foreign id", with("post_processor", `{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"x","type_id":0}},{"Sequence":{"id":"A","type_id":0}}],"special_tokens":{"x":{"id":"x","ids":[99999999],"tokens":["x"]}}}`), "99999999 is not in the vocabulary"},
		{"template without the text", with("post_processor", `{"type":"TemplateProcessing","single":[],"special_tokens":{}}`), "leaves the text out"},
		{"long added token", with("added_tokens", `[{"id":2048,"content":"`+strings.Repeat("x", 300)+`"}]`), "300 bytes"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "tokenizer.json"), tt.data, 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := Read(dir)
			if !errors.Is(err, bpe.ErrModel) || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("error %v, want %q", err, tt.want)
			}
		})
	}
}

func TestFolders(t *testing.T) {
	write := func(t *testing.T, files map[string]string) string {
		t.Helper()
		dir := t.TempDir()
		for name, text := range files {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		return dir
	}
	demo := string(demoJSON(t))
	t.Run("what the files say", func(t *testing.T) {
		dir := write(t, map[string]string{
			"tokenizer.json":         demo,
			"tokenizer_config.json":  `{"bos_token":{"content":"<|im_start|>"},"eos_token":"<|im_end|>","pad_token":null,"chat_template":[{"name":"tool_use","template":"T"},{"name":"default","template":"D"}]}`,
			"generation_config.json": `{"eos_token_id":[2,7]}`,
			"config.json":            `{"bos_token_id":5,"eos_token_id":9}`,
		})
		tok, err := Read(dir)
		if err != nil {
			t.Fatal(err)
		}
		i := tok.Info()
		if i.BOS != 1 || i.EOS != 2 || i.Pad != -1 || i.ChatTemplate != "D" || !slices.Equal(i.EOG, []int32{0, 2, 7, 9}) || i.AddBOS || i.Kind != bpe.KindBPE || i.Pre != "qwen2" {
			t.Errorf("%+v", i)
		}
	})
	t.Run("bare Infinity", func(t *testing.T) {
		tok, err := Read(write(t, map[string]string{
			"tokenizer.json": demo, "tokenizer_config.json": `{"model_max_length": Infinity}`, "config.json": `{"model_type": "llama", "x": -Infinity, "bos_token_id": 3}`,
		}))
		if err != nil || tok.Info().BOS != 3 {
			t.Errorf("%v", err)
		}
	})
	t.Run("a template of its own", func(t *testing.T) {
		tok, err := Read(write(t, map[string]string{"tokenizer.json": demo, "tokenizer_config.json": `{"chat_template":"C"}`, "chat_template.jinja": "J"}))
		if err != nil || tok.Info().ChatTemplate != "J" {
			t.Errorf("%v", err)
		}
	})
	t.Run("the file's post-processor decides, not the configuration", func(t *testing.T) {
		for _, config := range []string{
			`{"tokenizer_class":"LlamaTokenizerFast","bos_token":"<|im_start|>"}`,
			`{"tokenizer_class":"LlamaTokenizer","bos_token":"<|im_start|>","add_bos_token":true}`,
			`{"tokenizer_class":"PreTrainedTokenizerFast","bos_token":"<|im_start|>","add_bos_token":true}`,
		} {
			tok, err := Read(write(t, map[string]string{"tokenizer.json": demo, "tokenizer_config.json": config}))
			if err != nil || tok.Info().AddBOS || tok.Class() != "" || len(tok.Notes()) > 0 {
				t.Errorf("%s: %v", config, err)
			}
		}
	})
	t.Run("a class against the file is named", func(t *testing.T) {
		for config, want := range map[string]string{
			`{"tokenizer_class":"GPT2Tokenizer"}`:     "GPT2Tokenizer builds its own pre_tokenizer, other",
			`{"tokenizer_class":"BertTokenizerFast"}`: "BertTokenizer is a class for a WordPiece model",
			`{"tokenizer_class":"XLMTokenizer"}`:      "XLMTokenizer does not read tokenizer.json",
		} {
			tok, err := Read(write(t, map[string]string{"tokenizer.json": demo, "tokenizer_config.json": config}))
			if err != nil || len(tok.Notes()) != 1 || !strings.Contains(tok.Notes()[0], want) {
				t.Errorf("%s: %v, error %v", config, tok.Notes(), err)
			}
		}
	})
	t.Run("an added token's id is the next one, whatever the file says", func(t *testing.T) {
		for _, id := range []string{"99999999", "5"} {
			tok, err := Read(write(t, map[string]string{"tokenizer.json": string(patched(t, []byte(demo), map[string]json.RawMessage{
				"added_tokens": json.RawMessage(`[{"id":` + id + `,"content":"<|x|>"}]`),
			}))}))
			if err != nil {
				t.Fatal(err)
			}
			if ids, err := tok.Encode(nil, "<|x|>", bpe.Options{}); err != nil || !slices.Equal(ids, []int32{int32(tok.Info().Tokens - 1)}) {
				t.Errorf("ids %v, error %v", ids, err)
			}
		}
	})
	for name, tt := range map[string]struct {
		files map[string]string
		want  string
	}{
		"empty":              {nil, "no tokenizer.json"},
		"sentencepiece only": {map[string]string{"tokenizer.model": "x"}, "it is no SentencePiece model"},
		"broken config":      {map[string]string{"tokenizer.json": demo, "tokenizer_config.json": `{`}, "tokenizer_config.json"},
		"odd token":          {map[string]string{"tokenizer.json": demo, "tokenizer_config.json": `{"bos_token":{"content":7}}`}, "neither a text nor an object"},
		"odd template":       {map[string]string{"tokenizer.json": demo, "tokenizer_config.json": `{"chat_template":7}`}, "chat_template is neither"},
		"odd ids":            {map[string]string{"tokenizer.json": demo, "generation_config.json": `{"eos_token_id":"x"}`}, "neither a number"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Read(write(t, tt.files))
			if !errors.Is(err, bpe.ErrModel) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
		})
	}
}

// FuzzTokenizerJSON: no panic, and memory in proportion to the file.
func FuzzTokenizerJSON(f *testing.F) {
	demo := demoJSON(f)
	var parts map[string]json.RawMessage
	if err := json.Unmarshal(demo, &parts); err != nil {
		f.Fatal(err)
	}
	parts["model"] = json.RawMessage(`{"type":"BPE","vocab":{"a":0,"b":1,"ab":2,"\u0120":3},"merges":["a b"]}`)
	parts["added_tokens"] = json.RawMessage(`[{"id":4,"content":"<|x|>","special":true,"lstrip":true}]`)
	seed, err := json.Marshal(parts)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	for _, section := range []map[string]string{
		{"normalizer": `{"type":"Sequence","normalizers":[{"type":"NFKC"},{"type":"Prepend","prepend":"▁"},{"type":"Replace","pattern":{"String":" "},"content":"▁"}]}`},
		{"pre_tokenizer": `{"type":"Metaspace","replacement":"▁","prepend_scheme":"first","split":true}`},
		{"pre_tokenizer": `{"type":"Sequence","pretokenizers":[{"type":"Digits","individual_digits":true},{"type":"Split","pattern":{"Regex":"a+|\\s"},"behavior":"MergedWithNext","invert":true}]}`},
		{"model": `{"type":"WordPiece","unk_token":"a","vocab":{"a":0,"##b":1}}`, "normalizer": `{"type":"BertNormalizer"}`, "pre_tokenizer": `{"type":"BertPreTokenizer"}`},
	} {
		p := maps.Clone(parts)
		for k, v := range section {
			p[k] = json.RawMessage(v)
		}
		seed, err := json.Marshal(p)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 1<<16 {
			t.Skip()
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		tok, err := readJSON(data)
		runtime.ReadMemStats(&after)
		// The class table takes 3 MB while it is built, a pattern up to 100 times its text.
		if got, limit := after.TotalAlloc-before.TotalAlloc, uint64(16<<20+1024*len(data)); got > limit {
			t.Errorf("%d bytes of JSON took %d bytes of memory, more than %d", len(data), got, limit)
		}
		if err != nil {
			return
		}
		for _, text := range []string{"", "ab a  b<|x|>", "é\u0301 12\n"} {
			ids, err := tok.Encode(nil, text, bpe.Options{ParseSpecial: true, AddSpecial: true})
			if err != nil {
				continue // a pattern that takes too long
			}
			if _, err := tok.Decode(ids, true); err != nil {
				t.Error(err)
			}
		}
	})
}

// TestPatternsThatTakeTooLong: a text on which a pattern of the file takes too long is refused; taken as it is it would be another text.
func TestPatternsThatTakeTooLong(t *testing.T) {
	tok, err := readJSON([]byte(`{"model":{"type":"WordLevel","unk_token":"u","vocab":{"u":0,"x":1}},"normalizer":{"type":"Replace","pattern":{"Regex":"(?:a|aa)+b"},"content":"c"}}`))
	if err != nil {
		t.Fatal(err)
	}
	if ids, err := tok.Encode(nil, strings.Repeat("a", 60), bpe.Options{}); !errors.Is(err, bpe.ErrText) || !errors.Is(err, split.ErrPattern) {
		t.Errorf("a text without end: %v, %v", ids, err)
	}
}

// TestSlowWordPattern: the same of a pattern that cuts words.
func TestSlowWordPattern(t *testing.T) {
	tok, err := readJSON([]byte(`{"model":{"type":"WordLevel","unk_token":"u","vocab":{"u":0,"x":1}},"pre_tokenizer":{"type":"Split","pattern":{"Regex":"(?:a|aa)+b"},"behavior":"Isolated"}}`))
	if err != nil {
		t.Fatal(err)
	}
	if ids, err := tok.Encode(nil, strings.Repeat("a", 60), bpe.Options{}); !errors.Is(err, bpe.ErrText) || !errors.Is(err, split.ErrPattern) {
		t.Errorf("a text without end: %v, %v", ids, err)
	}
}
