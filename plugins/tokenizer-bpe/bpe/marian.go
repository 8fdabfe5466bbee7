package bpe

import (
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"edged/plugins/tokenizer-bpe/bpe/split"
)

// marian is the tokenizer of OPUS-MT folders: source.spm cuts a text into pieces, and vocab.json has their ids. A text that
// starts with a language code, >>deu<<, has that as its first token. Answers are read with target_vocab.json where source
// and target have separate vocabularies.
type marian struct {
	normalizer spmNormalizer
	pieces     *unigram
	ids        *index // of vocab.json
	unknown    int32
}

func (m *marian) encode(w *work, s string, _, _ bool) error {
	if strings.HasPrefix(s, ">>") {
		if end := strings.Index(s, "<<"); end > 0 {
			w.out = append(w.out, m.id(s[:end+2]))
			s = s[end+2:]
		}
	}
	s = m.normalizer.normalize(s)
	if s == "" {
		return nil
	}
	return m.pieces.walk(w, s, func(_ int32, text string) { w.out = append(w.out, m.id(text)) })
}

func (m *marian) id(text string) int32 {
	if id, ok := m.ids.find(text); ok {
		return id
	}
	return m.unknown
}

// fromMarian reads source.spm, vocab.json and, where there is one, target_vocab.json.
func fromMarian(dir string, data []byte, c *folderConfig) (*Parts, error) {
	spm, err := parseSentencePiece(data)
	if err != nil {
		return nil, err
	}
	if spm.bpe {
		return nil, errors.New("its model is BPE: Marian's are unigram")
	}
	vocab, err := readVocabJSON(filepath.Join(dir, "vocab.json"))
	if err != nil {
		return nil, err
	}
	shown := vocab
	if c.flag("separate_vocabs", false) {
		if shown, err = readVocabJSON(filepath.Join(dir, "target_vocab.json")); err != nil {
			return nil, err
		}
	}
	names := map[string]string{"unk_token": "<unk>", "eos_token": "</s>", "pad_token": "<pad>"}
	spec := &classSpec{tokens: names}
	b := &hfBuilder{file: &hfFile{}, config: c, spec: spec, t: &Parts{Class: "MarianTokenizer"}, classes: split.HuggingFaceClasses(), alone: true}
	b.file.Model = hfModel{Type: "WordLevel", Vocab: *vocab}
	unk := c.tokenText("unk_token", spec)
	b.file.Model.Unknown = &unk
	if b.decode, err = readDecoder(nil); err != nil {
		return nil, err
	}
	if err := b.vocabulary(); err != nil {
		return nil, err
	}
	t := b.t
	m := &marian{unknown: t.Info.Unknown, ids: indexAll(vocab.text)}
	if m.pieces, err = spm.unigram(); err != nil {
		return nil, err
	}
	m.normalizer = spmNormalizer{prefix: spm.prefix, squeeze: spm.squeeze, escape: spm.escape}
	if len(spm.charsmap) > 0 {
		if m.normalizer.charsmap, err = newCharsmap(spm.charsmap); err != nil {
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
	for id, text := range shown.text {
		if _, ok := b.found.byID[int64(id)]; !ok && id < len(t.Texts) {
			t.Texts[id] = text
		}
	}
	t.Info.ChatTemplate = c.template
	return t, nil
}

// spmDecoding sets how ids become a text: what SentencePiece makes of the pieces between special tokens, with those as they are and after
// each of them what is told.
func (b *hfBuilder) spmDecoding(spm *spmModel, after string) error {
	if err := b.decoding(); err != nil {
		return err
	}
	t := b.t
	t.Pieces = pieces(t.Vocabulary, unblank)
	mute := map[string]bool{} // SentencePiece writes its control pieces as nothing
	for id, k := range spm.kind {
		mute[spm.text[id]] = k == control
	}
	d := &hfDecoder{given: true, trimWord: b.decode.trimWord, cleanUp: b.decode.cleanUp}
	t.Decoder = d
	d.add(func(tokens []string, _ *split.Budget) ([]string, error) {
		var out strings.Builder
		group := ""
		flush := func() {
			out.WriteString(strings.TrimPrefix(strings.ReplaceAll(group, blank, " "), " "))
			group = ""
		}
		for _, s := range tokens {
			if !t.Skipped[s] {
				if !mute[s] {
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
	return nil
}

func readVocabJSON(path string) (*hfVocab, error) {
	data, err := readFile(path, maxTokenizerFile)
	if err != nil {
		return nil, err
	}
	v := &hfVocab{}
	if err := json.Unmarshal(plainJSON(data), v); err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Base(path), err)
	}
	if v.list || v.n == 0 {
		return nil, fmt.Errorf("%s is no object of texts and ids", filepath.Base(path))
	}
	return v, nil
}

// unigram is the model's search as SentencePiece runs it: in single precision, with user-defined pieces preferred.
func (m *spmModel) unigram() (*unigram, error) {
	least, most := float32(0), float32(0)
	first := true
	for id, k := range m.kind {
		if k == normal {
			if first {
				least, most, first = m.score[id], m.score[id], false
			}
			least, most = min(least, m.score[id]), max(most, m.score[id])
		}
	}
	text, score := make([]string, len(m.text)), make([]float64, len(m.text))
	for id, k := range m.kind {
		switch k {
		case normal:
			text[id], score[id] = m.text[id], float64(m.score[id])
		case userDefined:
			text[id], score[id] = m.text[id], float64(float32(len(m.text[id]))*most-0.1)
		}
	}
	u, err := newUnigram(text, score, int32(max(m.unknown, 0)), make([]bool, len(text)))
	if err != nil {
		return nil, err
	}
	u.penalty, u.single = float64(least-unknownPenalty), true
	return u, nil
}
