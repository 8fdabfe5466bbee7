package bpe

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"edged/plugins/tokenizer-bpe/bpe/split"
)

// Limits on the files of a folder. The largest published tokenizer.json, Gemma 3's, has 33 MB.
const (
	maxTokenizerFile = 256 << 20
	maxConfigFile    = 16 << 20
)

// hfFile is tokenizer.json. Source: https://github.com/huggingface/tokenizers, tokenizers/src.
type hfFile struct {
	Added         []hfAdded       `json:"added_tokens"`
	Normalizer    json.RawMessage `json:"normalizer"`
	PreTokenizer  json.RawMessage `json:"pre_tokenizer"`
	PostProcessor json.RawMessage `json:"post_processor"`
	Decoder       json.RawMessage `json:"decoder"`
	Model         hfModel         `json:"model"`
}

type hfAdded struct {
	ID         int64  `json:"id"`
	Content    string `json:"content"`
	SingleWord bool   `json:"single_word"`
	LStrip     bool   `json:"lstrip"`
	RStrip     bool   `json:"rstrip"`
	Normalized bool   `json:"normalized"`
	Special    bool   `json:"special"`
}

type hfModel struct {
	Type         string   `json:"type"`
	Dropout      *float64 `json:"dropout"`
	Unknown      *string  `json:"unk_token"`
	Prefix       *string  `json:"continuing_subword_prefix"`
	Suffix       *string  `json:"end_of_word_suffix"`
	FuseUnknown  bool     `json:"fuse_unk"`
	ByteFallback bool     `json:"byte_fallback"`
	IgnoreMerges bool     `json:"ignore_merges"`
	MaxChars     *int     `json:"max_input_chars_per_word"`
	Vocab        hfVocab  `json:"vocab"`
	Merges       hfMerges `json:"merges"`
}

// FromFolder reads the tokenizer of a Hugging Face folder: tokenizer.json, and what tokenizer_config.json,
// special_tokens_map.json, generation_config.json, config.json and chat_template.jinja add.
func FromFolder(dir string) (*Tokenizer, error) {
	path := filepath.Join(dir, "tokenizer.json")
	data, err := readFile(path, maxTokenizerFile)
	if errors.Is(err, fs.ErrNotExist) {
		for _, other := range []string{"tokenizer.model", "vocab.json", "vocab.txt"} {
			if _, err := os.Stat(filepath.Join(dir, other)); err == nil {
				return nil, fmt.Errorf("bpe: %s: %w: the folder has %s but no tokenizer.json, which transformers' save_pretrained writes", dir, ErrModel, other)
			}
		}
		return nil, fmt.Errorf("bpe: %s: %w: the folder has no tokenizer.json", dir, ErrModel)
	}
	if err != nil {
		return nil, fmt.Errorf("bpe: %w: %w", ErrModel, err)
	}
	c, err := readFolderConfig(dir)
	if err != nil {
		return nil, fmt.Errorf("bpe: %w: %w", ErrModel, err)
	}
	t, err := fromJSON(data, c)
	if err != nil {
		return nil, fmt.Errorf("bpe: %s: %w: %w", path, ErrModel, err)
	}
	return t, nil
}

// readFile reads a regular file of limited size.
func readFile(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // it was only read
	s, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !s.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", path)
	}
	if s.Size() > limit {
		return nil, fmt.Errorf("%s has %d bytes: at most %d are supported", path, s.Size(), limit)
	}
	data := make([]byte, s.Size())
	_, err = io.ReadFull(f, data)
	return data, err
}

// fromJSON builds a tokenizer from the text of a tokenizer.json.
func fromJSON(data []byte, c *folderConfig) (*Tokenizer, error) {
	var f hfFile
	if err := json.Unmarshal(data, &f); err != nil {
		return nil, err
	}
	b := &hfBuilder{file: &f, config: c, t: &Tokenizer{}, classes: split.NewClasses()}
	if err := b.build(); err != nil {
		return nil, err
	}
	return b.t, nil
}

// hfBuilder puts a tokenizer together.
type hfBuilder struct {
	file    *hfFile
	config  *folderConfig
	t       *Tokenizer
	classes *split.Classes
	decode  hfDecoder
	words   hfWords
}

func (b *hfBuilder) build() error {
	if err := b.checkModel(); err != nil {
		return err
	}
	var err error
	if b.decode, err = readDecoder(b.file.Decoder); err != nil {
		return fmt.Errorf("decoder: %w", err)
	}
	if err = b.vocabulary(); err != nil {
		return err
	}
	n := hfNormalizers{classes: b.classes}
	normalize, err := n.read(b.file.Normalizer, 0)
	if err != nil {
		return fmt.Errorf("normalizer: %w", err)
	}
	b.t.normalize = normalize
	w := hfPreTokenizers{classes: b.classes}
	if b.words, err = w.read(b.file.PreTokenizer); err != nil {
		return fmt.Errorf("pre_tokenizer: %w", err)
	}
	if err = b.model(); err != nil {
		return fmt.Errorf("model: %w", err)
	}
	b.addedTokens()
	if err = b.around(); err != nil {
		return fmt.Errorf("post_processor: %w", err)
	}
	b.t.info.ChatTemplate = b.config.template
	b.t.stripSpace = b.decode.stripSpace
	b.t.pieces = pieces(b.t.vocab, b.decode.piece)
	return b.t.finish()
}

// checkModel refuses what is not supported, each with the reason.
func (b *hfBuilder) checkModel() error {
	m := &b.file.Model
	if m.Type == "" && len(m.Merges.pairs) > 0 {
		m.Type = "BPE" // files from before 2021 do not name it
	}
	switch {
	case m.Vocab.list || m.Type == "Unigram":
		return errors.New("model.type is Unigram (T5, XLM-RoBERTa): supported are BPE and WordPiece")
	case m.Type != "BPE" && m.Type != "WordPiece":
		return fmt.Errorf("model.type is %q: supported are BPE and WordPiece", m.Type)
	case m.Vocab.n == 0:
		return errors.New("model.vocab is empty")
	case m.Dropout != nil && *m.Dropout != 0:
		return fmt.Errorf("model.dropout is %g: ids would be random", *m.Dropout)
	case m.Type == "BPE" && m.Prefix != nil && *m.Prefix != "":
		return fmt.Errorf("model.continuing_subword_prefix is %q, which is not supported with BPE", *m.Prefix)
	case m.Type == "BPE" && m.Suffix != nil && *m.Suffix != "":
		return fmt.Errorf("model.end_of_word_suffix is %q (CLIP, XLM), which is not supported", *m.Suffix)
	}
	return nil
}

// vocabulary joins the model's tokens and the added ones, and finds the ids with a meaning.
func (b *hfBuilder) vocabulary() error {
	text := b.file.Model.Vocab.text
	known := index{}
	known.init(text)
	for id := range text {
		known.add(int32(id))
	}
	if len(b.file.Added) > maxTokens {
		return fmt.Errorf("added_tokens has %d entries: at most %d are supported", len(b.file.Added), maxTokens)
	}
	for i := range b.file.Added {
		a := &b.file.Added[i]
		if id, ok := known.find(a.Content); ok {
			a.ID = int64(id) // the model's id counts, whatever stands here
			continue
		}
		switch {
		case a.ID < 0 || a.ID >= maxTokens || a.ID > int64(len(text)+8*len(b.file.Added)+1024):
			return fmt.Errorf("added_tokens[%d]: %q has the id %d, in a vocabulary of %d tokens", i, a.Content, a.ID, len(text))
		case int(a.ID) < len(text) && text[a.ID] != "":
			return fmt.Errorf("added_tokens[%d]: %q has the id %d, which is that of %q", i, a.Content, a.ID, text[a.ID])
		}
		for int64(len(text)) <= a.ID {
			text = append(text, "")
		}
		text[a.ID] = a.Content
	}
	kinds := make([]kind, len(text))
	for id, s := range text {
		kinds[id] = normal
		if s == "" {
			kinds[id] = unused
		}
		if _, ok := parseByte(s); ok && (b.file.Model.ByteFallback || b.decode.byteFallback) {
			kinds[id] = byteToken
		}
	}
	for i, a := range b.file.Added {
		if len(a.Content) > maxAddedLength {
			return fmt.Errorf("added_tokens[%d] has %d bytes: at most %d are supported", i, len(a.Content), maxAddedLength)
		}
		kinds[a.ID] = userDefined
		if a.Special {
			kinds[a.ID] = control
		}
	}
	i := &b.t.info
	i.Kind = KindBPE
	if b.file.Model.Type == "WordPiece" {
		i.Kind = KindWordPiece
	} else if b.file.Model.ByteFallback {
		i.Kind = KindSPM
	}
	byText := func(s string) int32 {
		if s == "" {
			return -1
		}
		return int32(slices.Index(text, s))
	}
	c := b.config
	i.BOS = first(byText(c.bos), c.id(c.bosID, len(text)))
	i.EOS = first(byText(c.eos), c.id(c.firstEOS(), len(text)))
	i.Pad = first(byText(c.pad), -1)
	i.EOT = -1
	i.Unknown = -1
	if b.file.Model.Unknown != nil {
		i.Unknown = byText(*b.file.Model.Unknown)
		if i.Unknown < 0 && b.file.Model.Type == "WordPiece" {
			return fmt.Errorf("model.unk_token %q is not in the vocabulary", *b.file.Model.Unknown)
		}
	}
	endings(i, -1, text, kinds)
	for _, id := range c.eosIDs {
		if id := c.id(id, len(text)); id >= 0 {
			i.EOG = append(i.EOG, id)
		}
	}
	var err error
	b.t.vocab, err = newVocabulary(text, kinds, func(id int) bool { return kinds[id] == control })
	return err
}

func first(ids ...int32) int32 {
	for _, id := range ids {
		if id >= 0 {
			return id
		}
	}
	return -1
}

// model sets up BPE or WordPiece.
func (b *hfBuilder) model() error {
	m, t := &b.file.Model, b.t
	if m.Type == "WordPiece" {
		prefix := "##"
		if m.Prefix != nil {
			prefix = *m.Prefix
		}
		if prefix == "" {
			return errors.New("continuing_subword_prefix is empty, which is not supported")
		}
		w := newWordPiece(t.vocab, prefix, func(id int) bool { return t.vocab.kind[id] == control })
		w.unknown = t.info.Unknown
		w.maxChars = 100
		if m.MaxChars != nil && *m.MaxChars > 0 {
			w.maxChars = *m.MaxChars
		}
		t.model = &hfWordPiece{model: w, words: b.words}
		return nil
	}
	syms := &symbols{vocab: t.vocab}
	hidden := map[string]bool{}
	for id, k := range t.vocab.kind {
		if k == control {
			hidden[t.vocab.text[id]] = true
		}
	}
	merges, err := syms.build(len(m.Merges.pairs), func(i int) (left, right string, ok bool) {
		return m.Merges.pairs[i][0], m.Merges.pairs[i][1], true
	}, func(s string) bool { return hidden[s] })
	if err != nil {
		return err
	}
	unknown := t.info.Unknown
	if b.words.bytes {
		chars := newByteChars()
		bytes := &byteBPE{syms: syms, merges: merges, unknown: unknown, fuse: m.FuseUnknown}
		for c := range bytes.sym {
			bytes.sym[c] = -1
			if id, ok := t.vocab.lookup(string(chars.char[c])); ok {
				bytes.sym[c] = id
			}
		}
		if m.IgnoreMerges {
			bytes.whole = wholeWords(t.vocab, chars)
		}
		t.model = &hfBytes{model: bytes, words: b.words}
		t.info.Pre = b.words.name
		return nil
	}
	cm := &charBPE{syms: syms, merges: merges, unknown: unknown, fuse: m.FuseUnknown, whole: m.IgnoreMerges, fallback: true}
	for c := range cm.bytes {
		cm.bytes[c] = -1
	}
	if m.ByteFallback {
		cm.bytes = byteTokens(t.vocab)
	}
	cut := !m.IgnoreMerges
	for _, p := range m.Merges.pairs {
		cut = cut && !split.Crosses(p[0]+p[1])
	}
	t.model = &hfChars{model: cm, words: b.words, cut: cut}
	return nil
}

// addedTokens sets up the matchers.
func (b *hfBuilder) addedTokens() {
	var raw, late, everywhere []added
	t := b.t
	for _, a := range b.file.Added {
		k := t.vocab.kind[a.ID]
		x := added{
			id: int32(a.ID), text: a.Content, special: k.special(),
			lstrip: a.LStrip, rstrip: a.RStrip, singleWord: a.SingleWord,
		}
		if !a.Normalized || t.normalize == nil {
			raw = append(raw, x)
			everywhere = append(everywhere, x)
			continue
		}
		if x.special {
			everywhere = append(everywhere, x)
		}
		x.text = t.normalize(x.text)
		late = append(late, x)
	}
	t.added = newMatcher(raw)
	if len(late) > 0 {
		t.late = newMatcher(late)
		t.parseAll = newMatcher(everywhere)
	}
}

// around sets what AddSpecial puts around a text.
func (b *hfBuilder) around() error {
	p := hfPostProcessors{t: b.t}
	if err := p.read(b.file.PostProcessor, 0); err != nil {
		return err
	}
	b.t.prefix, b.t.suffix = p.prefix, p.suffix
	c := b.config
	// These classes of transformers set the post-processor from the configuration, whatever the file says.
	switch strings.TrimSuffix(c.class, "Fast") {
	case "LlamaTokenizer", "CodeLlamaTokenizer", "GemmaTokenizer", "CohereTokenizer":
		b.t.prefix, b.t.suffix = nil, nil
		if c.addBOS == nil || *c.addBOS {
			b.t.prefix = []int32{b.t.info.BOS}
		}
		if c.addEOS != nil && *c.addEOS {
			b.t.suffix = []int32{b.t.info.EOS}
		}
	}
	return nil
}

// isNull reports whether a part of the file is absent.
func isNull(raw json.RawMessage) bool {
	return len(raw) == 0 || bytes.Equal(bytes.TrimSpace(raw), []byte("null"))
}

// maxNesting bounds how deep sequences of sequences go.
const maxNesting = 16

// hfType reads the type of a part and its nested parts.
func hfType(raw json.RawMessage, depth int, nested string) (string, []json.RawMessage, error) {
	if depth > maxNesting {
		return "", nil, fmt.Errorf("sequences are nested deeper than %d", maxNesting)
	}
	var head map[string]json.RawMessage
	if err := json.Unmarshal(raw, &head); err != nil {
		return "", nil, err
	}
	var kind string
	if err := json.Unmarshal(head["type"], &kind); err != nil {
		return "", nil, errors.New("a part has no type")
	}
	if kind != "Sequence" {
		return kind, nil, nil
	}
	var list []json.RawMessage
	if err := json.Unmarshal(head[nested], &list); err != nil {
		return "", nil, fmt.Errorf("a Sequence has no list %q", nested)
	}
	return kind, list, nil
}
