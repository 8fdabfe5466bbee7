package huggingface

import (
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"edged/plugins/tokenizer-bpe/bpe"
	"edged/plugins/tokenizer-bpe/bpe/decode"
	"edged/plugins/tokenizer-bpe/bpe/model"
	"edged/plugins/tokenizer-bpe/bpe/normalize"
	"edged/plugins/tokenizer-bpe/bpe/sentencepiece"
	"edged/plugins/tokenizer-bpe/bpe/split"
	"edged/plugins/tokenizer-bpe/bpe/tokenizerjson"
	"edged/plugins/tokenizer-bpe/bpe/transformers"
	"edged/plugins/tokenizer-bpe/bpe/vocab"
)

// marian is the tokenizer of OPUS-MT folders: source.spm cuts a text into pieces, and vocab.json has their
// ids. A text that starts with a language code, >>deu<<, has that as its first token. Answers are read with
// target_vocab.json where source and target have separate vocabularies.
type marian struct {
	normalizer normalize.SentencePiece
	pieces     *model.Unigram
	ids        *vocab.Index // of vocab.json
	unknown    int32
}

// Encode implements model.Model.
func (m *marian) Encode(w *model.Scratch, s string, _, _ bool) error {
	if strings.HasPrefix(s, ">>") {
		if end := strings.Index(s, "<<"); end > 0 {
			w.Out = append(w.Out, m.id(s[:end+2]))
			s = s[end+2:]
		}
	}
	s = m.normalizer.Normalize(s)
	if s == "" {
		return nil
	}
	return m.pieces.Walk(w, s, func(_ int32, text string) { w.Out = append(w.Out, m.id(text)) })
}

func (m *marian) id(text string) int32 {
	if id, ok := m.ids.Find(text); ok {
		return id
	}
	return m.unknown
}

// fromMarian reads source.spm, vocab.json and, where there is one, target_vocab.json.
func fromMarian(dir string, data []byte, c *transformers.Config) (*bpe.Parts, error) {
	spm, err := sentencepiece.Parse(data)
	if err != nil {
		return nil, err
	}
	if spm.IsBPE {
		return nil, errors.New("its model is BPE: Marian's are unigram")
	}
	source, err := readVocabJSON(filepath.Join(dir, "vocab.json"))
	if err != nil {
		return nil, err
	}
	shown := source
	if c.Bool("separate_vocabs", false) {
		if shown, err = readVocabJSON(filepath.Join(dir, "target_vocab.json")); err != nil {
			return nil, err
		}
	}
	names := map[string]string{"unk_token": "<unk>", "eos_token": "</s>", "pad_token": "<pad>"}
	spec := &transformers.Class{Tokens: names}
	b := &builder{
		file:            &tokenizerjson.File{},
		config:          c,
		class:           spec,
		out:             &bpe.Parts{Class: "MarianTokenizer"},
		classes:         split.HuggingFaceClasses(),
		noTokenizerJSON: true,
	}
	b.file.Model = tokenizerjson.Model{Type: "WordLevel", Vocab: *source}
	unk := c.TokenText("unk_token", spec)
	b.file.Model.Unknown = &unk
	if b.decode, err = decode.Read(nil); err != nil {
		return nil, err
	}
	if err := b.vocabulary(); err != nil {
		return nil, err
	}
	t := b.out
	m := &marian{unknown: t.Info.Unknown, ids: vocab.IndexAll(source.Texts)}
	if m.pieces, err = (spmFolder{spm}).unigram(); err != nil {
		return nil, err
	}
	m.normalizer = normalize.SentencePiece{AddPrefix: spm.AddPrefix, Squeeze: spm.Squeeze, Escape: spm.Escape}
	if len(spm.Charsmap) > 0 {
		if m.normalizer.Charsmap, err = normalize.NewCharsmap(spm.Charsmap); err != nil {
			return nil, err
		}
	}
	t.Model = m
	if err := b.addedTokens(); err != nil {
		return nil, err
	}
	if t.Info.EOS >= 0 {
		t.Suffix = []int32{t.Info.EOS}
	}
	if err := b.spmDecoding(spm, " "); err != nil {
		return nil, err
	}
	for id, text := range shown.Texts {
		if _, ok := b.added.byID[int64(id)]; !ok && id < len(t.Texts) {
			t.Texts[id] = text
		}
	}
	t.Info.ChatTemplate = c.Template
	return t, nil
}

// spmDecoding sets how ids become a text: special tokens are their own text with after behind each, and
// SentencePiece decodes the pieces between them.
func (b *builder) spmDecoding(spm *sentencepiece.Model, after string) error {
	if err := b.decoding(); err != nil {
		return err
	}
	t := b.out
	t.Pieces = vocab.Pieces(t.Vocabulary, vocab.Unblank)
	isControl := map[string]bool{} // SentencePiece writes these as nothing
	for id, k := range spm.Types {
		isControl[spm.Texts[id]] = k == vocab.Control
	}
	d := decode.New(func(tokens []string, _ *split.Budget) ([]string, error) {
		var out strings.Builder
		group := ""
		flush := func() {
			out.WriteString(strings.TrimPrefix(strings.ReplaceAll(group, vocab.Blank, " "), " "))
			group = ""
		}
		for _, s := range tokens {
			if !t.Skipped[s] {
				if !isControl[s] {
					group += s
				}
				continue
			}
			flush()
			out.WriteString(s + after)
		}
		flush()
		return []string{strings.TrimSpace(out.String())}, nil
	})
	d.TrimWord, d.CleanUp = b.decode.TrimWord, b.decode.CleanUp
	t.Decoder = d
	return nil
}

func readVocabJSON(path string) (*tokenizerjson.Vocab, error) {
	data, err := transformers.ReadFile(path, transformers.MaxTokenizerFile)
	if err != nil {
		return nil, err
	}
	v := &tokenizerjson.Vocab{}
	if err := json.Unmarshal(tokenizerjson.TrimBOM(data), v); err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Base(path), err)
	}
	if v.IsList || v.Count == 0 {
		return nil, fmt.Errorf("%s is no object of texts and ids", filepath.Base(path))
	}
	return v, nil
}
