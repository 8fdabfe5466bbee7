package bpe

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
	"unicode/utf8"

	"edged/core/model/gguf"
	"edged/plugins/tokenizer-bpe/bpe/split"
	"edged/test/oracle"
)

// small is a byte-level vocabulary of a few tokens.
func small() fakeMeta {
	chars := newByteChars()
	var tokens []string
	for b := range 256 {
		tokens = append(tokens, string(chars.char[b]))
	}
	tokens = append(tokens, "ab", "abc", "<|im_end|>", "<|user|>", "keep")
	types := make([]int64, len(tokens))
	for i := range types {
		types[i] = int64(normal)
	}
	types[258], types[259], types[260] = int64(control), int64(control), int64(userDefined)
	return fakeMeta{keyModel: "gpt2", keyPre: "gpt-2", keyTokens: tokens, keyTypes: types, keyMerges: []string{"a b", "ab c"}}
}

func TestGGUFRefusals(t *testing.T) {
	m := small()
	huge := make([]string, maxTokens+1)
	tests := []struct {
		name string
		meta fakeMeta
		want string
	}{
		{"no vocabulary", m.without(keyModel), "no tokenizer.ggml.model"},
		{"unknown model", m.with(keyModel, "plamo2"), `tokenizer.ggml.model is "plamo2": supported are`},
		{"unigram without scores", m.with(keyModel, "t5"), "no tokenizer.ggml.scores"},
		{"unigram with a broken map", m.with(keyModel, "t5").with(keyScores, make([]float64, 261)).with(keyCharsmap, []int64{1, 2}), "shorter than its header"},
		{"model of another type", m.with(keyModel, true), keyModel},
		{"unknown pre-tokenizer", m.with(keyPre, "klingon"), `unknown pre-tokenizer "klingon": known are`},
		{"no tokens", m.without(keyTokens), keyTokens},
		{"empty tokens", m.with(keyTokens, []string{}).with(keyTypes, []int64{}), "empty"},
		{"too many tokens", m.with(keyTokens, huge), "at most"},
		{"token not UTF-8", m.with(keyTokens, []string{"\xff"}).with(keyTypes, []int64{1}), "token 0 is not valid UTF-8"},
		{"too few types", m.with(keyTypes, []int64{1}), "1 entries for 261 tokens"},
		{"no merges", m.without(keyMerges), "no tokenizer.ggml.merges"},
		{"merges of numbers", m.with(keyMerges, []int64{1}), keyMerges},
		{"long control token", m.with(keyTokens, append(slices.Clone(m[keyTokens].([]string)[:258]), strings.Repeat("x", 300), "<|user|>", "keep")), "300 bytes"},
		{"scores too few", fakeMeta{keyModel: "llama", keyTokens: []string{"<unk>", "<s>", "</s>", "a"}, keyScores: []float64{1}}, "1 entries for 4 tokens"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := FromGGUF("some.gguf", tt.meta)
			if !errors.Is(err, ErrModel) || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), "some.gguf") {
				t.Errorf("error %v, want %q", err, tt.want)
			}
		})
	}
}

// TestNoSuchEnds: a file that wants a BOS or EOS and names none is served without, and says so.
func TestNoSuchEnds(t *testing.T) {
	m := small()
	plain, err := m.mustLoad(t).Encode(nil, "ab c", Options{AddSpecial: true})
	if err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]string{keyAddBOS: "there is no BOS id", keyAddEOS: "there is no EOS id"} {
		tok := m.with(key, true).mustLoad(t)
		ids, err := tok.Encode(nil, "ab c", Options{AddSpecial: true})
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

// TestBareNumbers: what Python writes where JSON has no number is no error in the files beside a tokenizer.json.
func TestBareNumbers(t *testing.T) {
	for in, want := range map[string]string{
		`{"a": Infinity, "b": [-Infinity,NaN], "c": "NaN \\" , "d": "\"Infinity"}`: `{"a": null, "b": [null,null], "c": "NaN \\" , "d": "\"Infinity"}`,
		`{"a": 1}`: `{"a": 1}`, `"NaN\`: `"NaN\`, `NaN`: `null`, ``: ``,
	} {
		if got := string(finiteJSON([]byte(in))); got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
}

// TestOddVocabularies: files that are wrong in ways that llama.cpp forgives load here too, and encode without a panic.
func TestOddVocabularies(t *testing.T) {
	m := small()
	metas := map[string]fakeMeta{
		"ids out of range":      m.with(keyBOS, uint64(1<<40)).with(keyEOS, uint64(9999)),
		"types out of range":    m.with(keyTypes, make([]int64, 261)),
		"merges of nothing":     m.with(keyMerges, []string{"", "x", " ", "a b"}),
		"merges of no tokens":   m.with(keyMerges, []string{"a b", "ab x", "abx y", "é ü"}),
		"empty token":           m.with(keyTokens, append([]string{""}, m[keyTokens].([]string)[1:]...)),
		"equal tokens":          m.with(keyTokens, slices.Repeat([]string{"a"}, 261)),
		"sentencepiece, bare":   {keyModel: "llama", keyTokens: []string{"<unk>", "<s>", "</s>", "a", "▁a", "aa"}},
		"sentencepiece, scores": {keyModel: "llama", keyTokens: []string{"<unk>", "<s>", "</s>", "a"}, keyScores: []float64{0, 0, 0, 1e300}},
		"one token":             {keyModel: "gemma4", keyTokens: []string{"a"}, keyMerges: []string{}, keyBOS: uint64(0)},
		"bert of 200":           {keyModel: "bert", keyTokens: slices.Repeat([]string{"▁a", "b", "c"}, 67)},
	}
	for name, meta := range metas {
		t.Run(name, func(t *testing.T) {
			tok := meta.mustLoad(t)
			for _, text := range []string{"", "a", "ab abc é\x00 <|im_end|>", "\xff\xfe", strings.Repeat("ab", 100)} {
				for _, o := range []Options{{}, {AddSpecial: true}, {ParseSpecial: true}} {
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

func demoJSON(tb testing.TB) []byte {
	tb.Helper()
	data, err := os.ReadFile(filepath.Join(oracle.Repo(tb), "demo", "hf-nf4", "tokenizer.json"))
	if err != nil {
		tb.Fatal(err)
	}
	return data
}

// readJSON builds a tokenizer from the text of a tokenizer.json alone.
func readJSON(data []byte) (*Tokenizer, error) {
	p, err := fromJSON(data, &folderConfig{})
	if err != nil {
		return nil, err
	}
	return New(*p), nil
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
			_, err := FromFolder(dir)
			if !errors.Is(err, ErrModel) || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") {
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
		tok, err := FromFolder(dir)
		if err != nil {
			t.Fatal(err)
		}
		i := tok.Info()
		if i.BOS != 1 || i.EOS != 2 || i.Pad != -1 || i.ChatTemplate != "D" || !slices.Equal(i.EOG, []int32{0, 2, 7, 9}) || i.AddBOS || i.Kind != KindBPE || i.Pre != "qwen2" {
			t.Errorf("%+v", i)
		}
	})
	t.Run("bare Infinity", func(t *testing.T) {
		tok, err := FromFolder(write(t, map[string]string{
			"tokenizer.json": demo, "tokenizer_config.json": `{"model_max_length": Infinity}`, "config.json": `{"model_type": "llama", "x": -Infinity, "bos_token_id": 3}`,
		}))
		if err != nil || tok.Info().BOS != 3 {
			t.Errorf("%v", err)
		}
	})
	t.Run("a template of its own", func(t *testing.T) {
		tok, err := FromFolder(write(t, map[string]string{"tokenizer.json": demo, "tokenizer_config.json": `{"chat_template":"C"}`, "chat_template.jinja": "J"}))
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
			tok, err := FromFolder(write(t, map[string]string{"tokenizer.json": demo, "tokenizer_config.json": config}))
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
			tok, err := FromFolder(write(t, map[string]string{"tokenizer.json": demo, "tokenizer_config.json": config}))
			if err != nil || len(tok.Notes()) != 1 || !strings.Contains(tok.Notes()[0], want) {
				t.Errorf("%s: %v, error %v", config, tok.Notes(), err)
			}
		}
	})
	t.Run("an added token's id is the next one, whatever the file says", func(t *testing.T) {
		for _, id := range []string{"99999999", "5"} {
			tok, err := FromFolder(write(t, map[string]string{"tokenizer.json": string(patched(t, []byte(demo), map[string]json.RawMessage{
				"added_tokens": json.RawMessage(`[{"id":` + id + `,"content":"<|x|>"}]`),
			}))}))
			if err != nil {
				t.Fatal(err)
			}
			if ids, err := tok.Encode(nil, "<|x|>", Options{}); err != nil || !slices.Equal(ids, []int32{int32(tok.Info().Tokens - 1)}) {
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
			_, err := FromFolder(write(t, tt.files))
			if !errors.Is(err, ErrModel) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
		})
	}
}

// TestDecode: control tokens are text only when asked for, and ids are checked.
func TestDecode(t *testing.T) {
	tok := small().mustLoad(t)
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
		if _, err := tok.Decode([]int32{0, id}, false); !errors.Is(err, ErrText) {
			t.Errorf("%d: error %v", id, err)
		}
	}
}

// TestSpecialTokens: control tokens are parsed where that is asked for, tokens that a user may write always.
func TestSpecialTokens(t *testing.T) {
	tok := small().mustLoad(t)
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
		got, err := tok.Encode(nil, tt.text, Options{ParseSpecial: tt.parse})
		if err != nil || !slices.Equal(got, tt.want) {
			t.Errorf("%q, parse %t: %v, want %v, %v", tt.text, tt.parse, got, tt.want, err)
		}
	}
	got, err := tok.Encode(nil, "<|im_end|>", Options{})
	if err != nil || slices.Contains(got, 258) {
		t.Errorf("typed text became a control token: %v, %v", got, err)
	}
}

// TestPrefersLongTokens: of added tokens that overlap, the longest wins as in llama.cpp, wherever it starts; Hugging
// Face's first match wins.
func TestOverlappingTokens(t *testing.T) {
	tokens := []AddedToken{{ID: 1, Text: "<ab>"}, {ID: 2, Text: "b><cde"}, {ID: 3, Text: "\n"}, {ID: 4, Text: "\n\n\n"}, {ID: 5, Text: "x", RStrip: true, LStrip: true}, {ID: 6, Text: "cde", SingleWord: true}}
	m := newMatcher(tokens, split.HuggingFaceClasses())
	show := func(f []fragment) (ids []int32) {
		for _, x := range f {
			ids = append(ids, x.token)
		}
		return ids
	}
	for _, tt := range []struct {
		text               string
		byLength, leftmost []int32
	}{
		{"<ab><cde", []int32{-1, 2}, []int32{1, -1, 6}},
		{"\n\n\n\n\n", []int32{4, 3, 3}, []int32{4, 3, 3}},
		{"a  x  b", []int32{-1, 5, -1}, []int32{-1, 5, -1}},
		{" x x ", []int32{5, 5}, []int32{5, 5}},
		{"", nil, nil},
		{"cdef cde", []int32{6, -1, 6}, []int32{-1, 6}},
	} {
		if got := show(m.byLength(tt.text, all)); !slices.Equal(got, tt.byLength) {
			t.Errorf("%q by length: %v, want %v", tt.text, got, tt.byLength)
		}
		if got := show(m.leftmost(tt.text, all)); !slices.Equal(got, tt.leftmost) {
			t.Errorf("%q leftmost: %v, want %v", tt.text, got, tt.leftmost)
		}
	}
}

// TestGuard: a guarded text holds no control token, and comes back.
func TestGuard(t *testing.T) {
	m := small()
	tokens := slices.Clone(m[keyTokens].([]string))
	tokens[259] = "§" // a control token of one character
	tok := m.with(keyTokens, tokens).mustLoad(t)
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
	tok := small().mustLoad(t)
	a, err := tok.Encode([]int32{7}, "ab", Options{})
	if err != nil {
		t.Fatal(err)
	}
	b, err := tok.Encode(nil, "abc", Options{})
	if err != nil || !slices.Equal(a, []int32{7, 256}) || !slices.Equal(b, []int32{257}) {
		t.Errorf("%v %v %v", a, b, err)
	}
}

// FuzzEncode: byte-level BPE gives the very bytes back.
func FuzzEncode(f *testing.F) {
	demo, err := readJSON(demoJSON(f))
	if err != nil {
		f.Fatal(err)
	}
	toks := []*Tokenizer{demo, pairVocabulary("llama-bpe").mustLoad(f), pairVocabulary("deepseek-llm").mustLoad(f), small().mustLoad(f)}
	f.Add("I'LL  go\n\n to ½ 12345's é\u0301!! <|im_end|>")
	f.Add("\xff\xc3(a\xed\xa0\x80")
	f.Fuzz(func(t *testing.T, text string) {
		for _, tok := range toks {
			for _, parse := range []bool{false, true} {
				ids, err := tok.Encode(nil, text, Options{ParseSpecial: parse})
				if err != nil {
					t.Fatal(err)
				}
				back, err := tok.Decode(ids, true)
				if err != nil {
					t.Fatal(err)
				}
				if string(back) != validUTF8(text) {
					t.Errorf("%q came back as %q", text, back)
				}
			}
			if g := tok.Guard(validUTF8(text)); tok.Unguard(g) != validUTF8(text) {
				t.Errorf("%q is guarded as %q", text, g)
			}
		}
	})
}

// FuzzScores: SentencePiece with byte fallback, and the cut at blanks against the whole text.
func FuzzScores(f *testing.F) {
	tokens := []string{"<unk>", "<s>", "</s>", "▁", "a", "b", "▁a", "ab", "▁ab", "▁▁", "é", "aé"}
	scores := []float64{0, 0, 0, -1, -2, -3, -0.5, -0.25, -0.125, -4, -5, -6}
	types := []int64{2, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1}
	const digits = "0123456789ABCDEF"
	for b := range 256 {
		tokens = append(tokens, "<0x"+digits[b>>4:b>>4+1]+digits[b&15:b&15+1]+">")
		scores, types = append(scores, 0), append(types, int64(byteToken))
	}
	meta := fakeMeta{keyModel: "llama", keyTokens: tokens, keyScores: scores, keyTypes: types, keySpacePrefix: false}
	cutTok := meta.mustLoad(f)
	whole := meta.with(keyTokens, append(slices.Clone(tokens[:11]), append([]string{"b▁never"}, tokens[12:]...)...)).mustLoad(f)
	f.Add("ab  a b \x80é")
	f.Fuzz(func(t *testing.T, text string) {
		if strings.Contains(text, "▁") || strings.Contains(text, "aé") || strings.Contains(text, "never") {
			t.Skip()
		}
		ids, err := cutTok.Encode(nil, text, Options{})
		if err != nil {
			t.Fatal(err)
		}
		back, err := cutTok.Decode(ids, true)
		// A broken character may take bytes of a blank along, as in llama.cpp: then the blank comes back.
		if err != nil || utf8.ValidString(text) && string(back) != text {
			t.Errorf("%q came back as %q, %v", text, back, err)
		}
		other, err := whole.Encode(nil, text, Options{})
		if err != nil || !slices.Equal(ids, other) {
			t.Errorf("%q: %v cut at blanks, %v whole", text, ids, other)
		}
	})
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
			ids, err := tok.Encode(nil, text, Options{ParseSpecial: true, AddSpecial: true})
			if err != nil {
				continue // a pattern that takes too long
			}
			if _, err := tok.Decode(ids, true); err != nil {
				t.Error(err)
			}
		}
	})
}

// FuzzGGUF: no panic, whatever a file's metadata says.
func FuzzGGUF(f *testing.F) {
	m := small()
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
		tok, err := FromGGUF("fuzz.gguf", file)
		if err != nil {
			if !utf8.ValidString(err.Error()) && utf8.Valid(data) {
				t.Errorf("error %q", err)
			}
			return
		}
		ids, err := tok.Encode(nil, "ab a  é\n<|im_end|>", Options{ParseSpecial: true, AddSpecial: true})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tok.Decode(ids, true); err != nil {
			t.Error(err)
		}
	})
}

// TestPatternsThatTakeTooLong: a text or a token on which a pattern of the file takes too long is refused; taken as it is
// it would be another text.
func TestPatternsThatTakeTooLong(t *testing.T) {
	const regex = `{"type":"Replace","pattern":{"Regex":"a+b"},"content":"c"}`
	var spent split.Budget
	n := hfNormalizers{classes: split.HuggingFaceClasses()}
	for _, raw := range []string{regex, `{"type":"Sequence","normalizers":[{"type":"NFC"},` + regex + `,{"type":"Lowercase"}]}`} {
		normalize, err := n.read(json.RawMessage(raw), 0)
		if err != nil {
			t.Fatal(err)
		}
		if s, err := normalize("aab", &spent); !errors.Is(err, split.ErrPattern) {
			t.Errorf("%s: %q, %v", raw, s, err)
		}
		b := split.NewBudget(3)
		if s, err := normalize("aab", &b); err != nil || s != "c" {
			t.Errorf("%s: %q, %v", raw, s, err)
		}
	}
	d, err := readDecoder(json.RawMessage(regex))
	if err != nil {
		t.Fatal(err)
	}
	if s, err := d.piece(nil, "aab", &spent); !errors.Is(err, split.ErrPattern) {
		t.Errorf("a piece is %q, %v", s, err)
	}
	if _, err := d.steps[0]([]string{"aab"}, &spent); !errors.Is(err, split.ErrPattern) {
		t.Errorf("decoding: %v", err)
	}
	tok, err := readJSON([]byte(`{"model":{"type":"WordLevel","unk_token":"u","vocab":{"u":0,"x":1}},"normalizer":{"type":"Replace","pattern":{"Regex":"(?:a|aa)+b"},"content":"c"}}`))
	if err != nil {
		t.Fatal(err)
	}
	if ids, err := tok.Encode(nil, strings.Repeat("a", 60), Options{}); !errors.Is(err, ErrText) || !errors.Is(err, split.ErrPattern) {
		t.Errorf("a text without end: %v, %v", ids, err)
	}
}
