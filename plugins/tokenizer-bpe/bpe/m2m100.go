package bpe

import (
	"path/filepath"
	"strings"

	"edged/plugins/tokenizer-bpe/bpe/split"
)

// renamed is the tokenizer of a SentencePiece model whose pieces have the ids of another vocabulary.
type renamed struct {
	pieces *Tokenizer
	ids    []int32 // by the id of a piece
}

func (m *renamed) encode(w *work, s string, _, _ bool) error {
	n := len(w.out)
	out, err := m.pieces.Encode(w.out, s, Options{})
	if err != nil {
		return err
	}
	w.out = out
	for i := n; i < len(out); i++ {
		out[i] = m.ids[out[i]]
	}
	return nil
}

// fromM2M100 reads the tokenizer of M2M-100 folders: sentencepiece.bpe.model cuts a text into pieces, vocab.json has their ids, and behind
// those stands a token for each language, of which the source's is put before a text.
func fromM2M100(dir string, spm *spmModel, c *folderConfig) (*Parts, error) {
	vocab, err := readVocabJSON(filepath.Join(dir, "vocab.json"))
	if err != nil {
		return nil, err
	}
	bare := *c
	bare.extra, bare.template = nil, ""
	f, err := spm.file(&bare, nil, "")
	if err != nil {
		return nil, err
	}
	inner, err := fromFile(f, &bare, "")
	if err != nil {
		return nil, err
	}
	names := map[string]string{"bos_token": "<s>", "eos_token": "</s>", "sep_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
	spec := &classSpec{tokens: names}
	size := len(vocab.text)
	for _, code := range m2mLanguages(c.word("language_codes", "m2m100")) {
		vocab.text = append(vocab.text, "__"+code+"__")
		vocab.n++
	}
	for _, text := range vocab.text[size:] {
		c.extra = append(c.extra, hfAdded{Content: text, Special: true})
	}
	b := &hfBuilder{file: &hfFile{}, config: c, spec: spec, t: &Parts{Class: "M2M100Tokenizer"}, classes: split.HuggingFaceClasses(), alone: true}
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
	ids := indexAll(vocab.text[:size])
	m := &renamed{pieces: New(*inner), ids: make([]int32, len(inner.Vocabulary.text))}
	for i, s := range inner.Vocabulary.text {
		m.ids[i] = t.Info.Unknown
		if id, ok := ids.find(s); ok && int32(i) != inner.Info.Unknown {
			m.ids[i] = id
		}
	}
	t.Model = m
	if err := b.addedTokens(); err != nil {
		return nil, err
	}
	source := "__" + c.word("src_lang", "en") + "__"
	for id, s := range vocab.text[size:] {
		if s == source {
			t.Prefix = []int32{int32(size + id)}
		}
	}
	if t.Info.EOS >= 0 {
		t.Suffix = []int32{t.Info.EOS}
	}
	if err := b.spmDecoding(spm, ""); err != nil {
		return nil, err
	}
	t.Info.ChatTemplate = c.template
	return t, nil
}

// m2mLanguages are the languages of M2M-100 in the order of their tokens' ids, or those of the models for WMT 21.
func m2mLanguages(which string) []string {
	if which == "wmt21" {
		return strings.Fields("en ha is ja cs ru zh de")
	}
	return strings.Fields(`af am ar ast az ba be bg bn br bs ca ceb cs cy da de el en es et fa ff fi fr fy ga gd gl gu ha he hi hr ht hu hy id ig ilo
		is it ja jv ka kk km kn ko lb lg ln lo lt lv mg mk ml mn mr ms my ne nl no ns oc or pa pl ps pt ro ru sd si sk sl so sq sr ss su sv sw ta th tl
		tn tr uk ur uz vi wo xh yi yo zh zu`)
}
