package bpe

import (
	"bytes"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"edged/plugins/tokenizer-bpe/bpe/split"
)

// FromFolder reads the tokenizer of a Hugging Face folder as transformers 5.24 does: tokenizer.json, and what
// tokenizer_config.json, special_tokens_map.json, generation_config.json, config.json and chat_template.jinja add. The class
// that these name may build parts of the tokenizer itself: see classSpec.
//
// Without a tokenizer.json it reads what there is: tekken.json (as mistral-common does), a SentencePiece model or a tiktoken
// file, vocab.json with merges.txt, vocab.txt, or Marian's two SentencePiece models.
func FromFolder(dir string) (*Tokenizer, error) {
	c, err := readFolderConfig(dir)
	if err != nil {
		return nil, fmt.Errorf("bpe: %w: %w", ErrModel, err)
	}
	for _, form := range folderForms() {
		name := form.find(dir)
		if name == "" {
			continue
		}
		path := filepath.Join(dir, name)
		data, err := readFile(path, maxTokenizerFile)
		if err != nil {
			return nil, fmt.Errorf("bpe: %w: %w", ErrModel, err)
		}
		t, err := form.read(dir, data, c)
		if err != nil {
			return nil, fmt.Errorf("bpe: %s: %w: %w", path, ErrModel, err)
		}
		if err := sentenceFiles(t, dir, c); err != nil {
			return nil, fmt.Errorf("bpe: %w: %w", ErrModel, err)
		}
		return New(*t), nil
	}
	return nil, fmt.Errorf("bpe: %s: %w: the folder has no tokenizer.json, nor any other file of a tokenizer", dir, ErrModel)
}

// folderForm is one way in which a folder holds a tokenizer.
type folderForm struct {
	names []string // the file that tells it
	read  func(dir string, data []byte, c *folderConfig) (*Parts, error)
}

// folderForms are tried in this order.
func folderForms() []folderForm {
	return []folderForm{
		{[]string{"tokenizer.json"}, func(_ string, data []byte, c *folderConfig) (*Parts, error) { return fromJSON(data, c) }},
		{[]string{"tekken.json"}, fromTekken},
		{[]string{"source.spm"}, fromMarian},
		{
			[]string{"tokenizer.model", "spiece.model", "sentencepiece.bpe.model", "sentencepiece.model", "spm.model", "tokenizer.model.v3", "tiktoken.model", "*.tiktoken"},
			fromModelFile,
		},
		{[]string{"merges.txt"}, fromMerges},
		{[]string{"vocab.txt"}, fromWordList},
	}
}

func (f *folderForm) find(dir string) string {
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
func fromFile(f *hfFile, c *folderConfig, class string) (*Parts, error) {
	b := &hfBuilder{file: f, config: c, t: &Parts{}, classes: split.HuggingFaceClasses(), alone: true}
	b.chooseClass(class)
	if err := b.build(); err != nil {
		return nil, err
	}
	return b.t, nil
}

func fromTekken(_ string, data []byte, c *folderConfig) (*Parts, error) {
	f, err := tekkenFile(data)
	if err != nil {
		return nil, err
	}
	for name, text := range map[string]string{"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"} {
		if _, given := c.tokens[name]; !given && slices.ContainsFunc(f.Added, func(a hfAdded) bool { return a.Content == text }) {
			c.tokens[name] = &hfAdded{Content: text, Special: true}
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
func fromModelFile(dir string, data []byte, c *folderConfig) (*Parts, error) {
	class := c.pickClass(false)
	spec := classSpecs()[class]
	if spec != nil && spec.keepsFile {
		spec = nil
	}
	m, err := parseSentencePiece(data)
	if err != nil {
		f, err2 := tiktokenFile(data, c)
		if err2 != nil {
			if bytes.ContainsRune(data[:min(len(data), 64)], 0) || !bytes.Contains(data[:min(len(data), 4096)], []byte("\n")) {
				return nil, err
			}
			return nil, fmt.Errorf("it is neither a SentencePiece model nor a tiktoken file: %w", err2)
		}
		if spec != nil && spec.model == "BPE" {
			return fromFile(f, c, class)
		}
		return fromFile(f, c, "")
	}
	if class == "M2M100Tokenizer" {
		return fromM2M100(dir, m, c)
	}
	f, err := m.file(c, spec, class)
	if err != nil {
		return nil, err
	}
	if spec == nil {
		class = ""
	}
	return fromFile(f, c, class)
}

// fromMerges reads vocab.json and merges.txt, which only a class can complete.
func fromMerges(dir string, data []byte, c *folderConfig) (*Parts, error) {
	vocab, err := readFile(filepath.Join(dir, "vocab.json"), maxTokenizerFile)
	if err != nil {
		return nil, err
	}
	f := &hfFile{Model: hfModel{Type: "BPE"}}
	if err := json.Unmarshal(plainJSON(vocab), &f.Model.Vocab); err != nil {
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
		if len(f.Model.Merges.pairs) >= maxMerges {
			return nil, fmt.Errorf("it has more than the %d merges that are supported", maxMerges)
		}
		f.Model.Merges.pairs = append(f.Model.Merges.pairs, [2]string{string(left), string(right)})
	}
	return fromFile(f, c, classOr(c, "BPE", "GPT2Tokenizer"))
}

// fromWordList reads vocab.txt: a token a line.
func fromWordList(_ string, data []byte, c *folderConfig) (*Parts, error) {
	f := &hfFile{Model: hfModel{Type: "WordPiece"}}
	v := &f.Model.Vocab
	known := map[string]int{}
	for line := range bytes.Lines(data) {
		s := strings.TrimRight(string(line), " \t\r\n")
		if len(v.text) >= maxTokens {
			return nil, fmt.Errorf("it has more than the %d tokens that are supported", maxTokens)
		}
		if at, twice := known[s]; twice { // the last counts
			v.text[at] = ""
		}
		known[s] = len(v.text)
		v.text = append(v.text, s)
	}
	v.n = len(known)
	return fromFile(f, c, classOr(c, "WordPiece", "BertTokenizer"))
}

// classOr is the folder's class if it is one for the model, else another.
func classOr(c *folderConfig, model, otherwise string) string {
	class := c.pickClass(false)
	if spec := classSpecs()[class]; spec != nil && spec.model == model {
		return class
	}
	return otherwise
}
