package huggingface

import (
	"bytes"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"edged/plugins/tokenizer-bpe/bpe"
	"edged/plugins/tokenizer-bpe/bpe/sentencepiece"
	"edged/plugins/tokenizer-bpe/bpe/split"
	"edged/plugins/tokenizer-bpe/bpe/tokenizerjson"
	"edged/plugins/tokenizer-bpe/bpe/transformers"
	"edged/plugins/tokenizer-bpe/bpe/vocab"
)

// Read reads the tokenizer of a Hugging Face folder as transformers 5.24 does: tokenizer.json, and what
// tokenizer_config.json, special_tokens_map.json, generation_config.json, config.json and chat_template.jinja
// add. The class that these name may build parts of the tokenizer itself: see Class.
//
// Without a tokenizer.json it reads what there is: tekken.json (as mistral-common does), a SentencePiece
// model or a tiktoken file, vocab.json with merges.txt, vocab.txt, or Marian's two SentencePiece models.
func Read(dir string) (*bpe.Tokenizer, error) {
	c, err := transformers.ReadConfig(dir)
	if err != nil {
		return nil, fmt.Errorf("bpe: %w: %w", bpe.ErrModel, err)
	}
	for _, form := range folderFormats() {
		name := form.find(dir)
		if name == "" {
			continue
		}
		path := filepath.Join(dir, name)
		data, err := transformers.ReadFile(path, transformers.MaxTokenizerFile)
		if err != nil {
			return nil, fmt.Errorf("bpe: %w: %w", bpe.ErrModel, err)
		}
		t, err := form.read(dir, data, c)
		if err != nil {
			return nil, fmt.Errorf("bpe: %s: %w: %w", path, bpe.ErrModel, err)
		}
		if err := sentenceFiles(t, dir, c); err != nil {
			return nil, fmt.Errorf("bpe: %w: %w", bpe.ErrModel, err)
		}
		return bpe.New(*t), nil
	}
	return nil, fmt.Errorf("bpe: %s: %w: the folder has no tokenizer.json, nor any other file of a tokenizer", dir, bpe.ErrModel)
}

// folderFormat is one way in which a folder holds a tokenizer.
type folderFormat struct {
	names []string // the file that tells it
	read  func(dir string, data []byte, c *transformers.Config) (*bpe.Parts, error)
}

// folderFormats are tried in this order.
func folderFormats() []folderFormat {
	return []folderFormat{
		{[]string{"tokenizer.json"}, func(_ string, data []byte, c *transformers.Config) (*bpe.Parts, error) { return fromJSON(data, c) }},
		{[]string{"tekken.json"}, fromTekken},
		{[]string{"source.spm"}, fromMarian},
		{
			[]string{
				"tokenizer.model",
				"spiece.model",
				"sentencepiece.bpe.model",
				"sentencepiece.model",
				"spm.model",
				"tokenizer.model.v3",
				"tiktoken.model",
				"*.tiktoken",
			},
			fromModelFile,
		},
		{[]string{"merges.txt"}, fromMerges},
		{[]string{"vocab.txt"}, fromWordList},
	}
}

func (f *folderFormat) find(dir string) string {
	for _, name := range f.names {
		if found, _ := filepath.Glob(filepath.Join(escapeGlob(dir), name)); len(found) > 0 { // the only error is a bad pattern
			return filepath.Base(found[0])
		}
	}
	return ""
}

// escapeGlob takes the meaning from a folder's name.
func escapeGlob(s string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(s)
}

// fromFile builds a tokenizer of a file that is no tokenizer.json: then add_bos_token and add_eos_token count.
func fromFile(f *tokenizerjson.File, c *transformers.Config, class string) (*bpe.Parts, error) {
	b := &builder{file: f, config: c, out: &bpe.Parts{}, classes: split.HuggingFaceClasses(), noTokenizerJSON: true}
	b.chooseClass(class)
	if err := b.build(); err != nil {
		return nil, err
	}
	return b.out, nil
}

func fromTekken(_ string, data []byte, c *transformers.Config) (*bpe.Parts, error) {
	f, err := tekkenFile(data)
	if err != nil {
		return nil, err
	}
	for name, text := range map[string]string{"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"} {
		if _, given := c.Tokens[name]; !given &&
			slices.ContainsFunc(f.Added, func(a tokenizerjson.AddedToken) bool { return a.Content == text }) {
			c.Tokens[name] = &tokenizerjson.AddedToken{Content: text, Special: true}
		}
	}
	t, err := fromFile(f, c, "")
	if err != nil {
		return nil, err
	}
	if t.Info.BOS >= 0 {
		t.Prefix = []int32{t.Info.BOS}
	}
	t.WrittenOnly = true
	return t, nil
}

// fromModelFile reads a SentencePiece model or a tiktoken file.
func fromModelFile(dir string, data []byte, c *transformers.Config) (*bpe.Parts, error) {
	class := c.PickClass(false)
	spec := transformers.ClassByName(class)
	if spec != nil && spec.FileAsIs {
		spec = nil
	}
	m, err := sentencepiece.Parse(data)
	if err != nil {
		f, err2 := tiktokenFile(data, c)
		if err2 != nil {
			if bytes.ContainsRune(data[:min(len(data), 64)], 0) || !bytes.Contains(data[:min(len(data), 4096)], []byte("\n")) {
				return nil, err
			}
			return nil, fmt.Errorf("it is neither a SentencePiece model nor a tiktoken file: %w", err2)
		}
		if spec != nil && spec.Model == "BPE" {
			return fromFile(f, c, class)
		}
		return fromFile(f, c, "")
	}
	if class == "M2M100Tokenizer" {
		return readM2M100(dir, m, c)
	}
	f, err := spmFolder{m}.file(c, spec, class)
	if err != nil {
		return nil, err
	}
	if spec == nil {
		class = ""
	}
	return fromFile(f, c, class)
}

// fromMerges reads vocab.json and merges.txt, which only a class can complete.
func fromMerges(dir string, data []byte, c *transformers.Config) (*bpe.Parts, error) {
	list, err := transformers.ReadFile(filepath.Join(dir, "vocab.json"), transformers.MaxTokenizerFile)
	if err != nil {
		return nil, err
	}
	f := &tokenizerjson.File{Model: tokenizerjson.Model{Type: "BPE"}}
	if err := json.Unmarshal(tokenizerjson.TrimBOM(list), &f.Model.Vocab); err != nil {
		return nil, fmt.Errorf("vocab.json: %w", err)
	}
	n := 0
	for line := range bytes.Lines(data) {
		n++
		line = bytes.TrimSpace(line)
		if len(line) == 0 || bytes.HasPrefix(line, []byte("#version")) {
			continue
		}
		left, right, ok := bytes.Cut(line, []byte(" "))
		if !ok || bytes.IndexByte(right, ' ') >= 0 {
			return nil, fmt.Errorf("line %d is not two texts with a space between", n)
		}
		if len(f.Model.Merges.Pairs) >= vocab.MaxMerges {
			return nil, fmt.Errorf("it has more than the %d merges that are supported", vocab.MaxMerges)
		}
		f.Model.Merges.Pairs = append(f.Model.Merges.Pairs, [2]string{string(left), string(right)})
	}
	return fromFile(f, c, classOr(c, "BPE", "GPT2Tokenizer"))
}

// fromWordList reads vocab.txt: a token a line.
func fromWordList(_ string, data []byte, c *transformers.Config) (*bpe.Parts, error) {
	f := &tokenizerjson.File{Model: tokenizerjson.Model{Type: "WordPiece"}}
	v := &f.Model.Vocab
	known := map[string]int{}
	for line := range bytes.Lines(data) {
		s := strings.TrimRight(string(line), " \t\r\n")
		if len(v.Texts) >= vocab.MaxTokens {
			return nil, fmt.Errorf("it has more than the %d tokens that are supported", vocab.MaxTokens)
		}
		if at, twice := known[s]; twice { // the last counts
			v.Texts[at] = ""
		}
		known[s] = len(v.Texts)
		v.Texts = append(v.Texts, s)
	}
	v.Count = len(known)
	return fromFile(f, c, classOr(c, "WordPiece", "BertTokenizer"))
}

// classOr is the folder's class if it is one for the model, else another.
func classOr(c *transformers.Config, model, otherwise string) string {
	class := c.PickClass(false)
	if spec := transformers.ClassByName(class); spec != nil && spec.Model == model {
		return class
	}
	return otherwise
}
