package huggingface

import (
	"path/filepath"
	"strings"

	"edged/plugins/tokenizer-bpe/bpe"
	"edged/plugins/tokenizer-bpe/bpe/decode"
	"edged/plugins/tokenizer-bpe/bpe/model"
	"edged/plugins/tokenizer-bpe/bpe/sentencepiece"
	"edged/plugins/tokenizer-bpe/bpe/split"
	"edged/plugins/tokenizer-bpe/bpe/tokenizerjson"
	"edged/plugins/tokenizer-bpe/bpe/transformers"
	"edged/plugins/tokenizer-bpe/bpe/vocab"
)

// remapped cuts a text with one tokenizer and gives each of its tokens the id of another vocabulary.
type remapped struct {
	pieces *bpe.Tokenizer
	ids    []int32 // by the id of a piece
}

// Encode implements model.Model.
func (m *remapped) Encode(w *model.Scratch, s string, _, _ bool) error {
	n := len(w.Out)
	out, err := m.pieces.Encode(w.Out, s, bpe.Options{})
	if err != nil {
		return err
	}
	w.Out = out
	for i := n; i < len(out); i++ {
		out[i] = m.ids[out[i]]
	}
	return nil
}

// readM2M100 reads the tokenizer of M2M-100 folders: sentencepiece.bpe.model cuts a text into pieces,
// vocab.json has their ids, and behind those stands a token for each language, of which the source's is put
// before a text.
func readM2M100(dir string, spm *sentencepiece.Model, c *transformers.Config) (*bpe.Parts, error) {
	list, err := readVocabJSON(filepath.Join(dir, "vocab.json"))
	if err != nil {
		return nil, err
	}
	bare := *c
	bare.Extra, bare.Template = nil, ""
	f, err := spmFolder{spm}.file(&bare, nil, "")
	if err != nil {
		return nil, err
	}
	inner, err := fromFile(f, &bare, "")
	if err != nil {
		return nil, err
	}
	names := map[string]string{"bos_token": "<s>", "eos_token": "</s>", "sep_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
	spec := &transformers.Class{Tokens: names}
	size := len(list.Texts)
	for _, code := range m2mLanguages(c.String("language_codes", "m2m100")) {
		list.Texts = append(list.Texts, "__"+code+"__")
		list.Count++
	}
	for _, text := range list.Texts[size:] {
		c.Extra = append(c.Extra, tokenizerjson.AddedToken{Content: text, Special: true})
	}
	b := &builder{
		file:            &tokenizerjson.File{},
		config:          c,
		class:           spec,
		out:             &bpe.Parts{Class: "M2M100Tokenizer"},
		classes:         split.HuggingFaceClasses(),
		noTokenizerJSON: true,
	}
	b.file.Model = tokenizerjson.Model{Type: "WordLevel", Vocab: *list}
	unk := c.TokenText("unk_token", spec)
	b.file.Model.Unknown = &unk
	if b.decode, err = decode.Read(nil); err != nil {
		return nil, err
	}
	if err := b.vocabulary(); err != nil {
		return nil, err
	}
	t := b.out
	ids := vocab.IndexAll(list.Texts[:size])
	m := &remapped{pieces: bpe.New(*inner), ids: make([]int32, len(inner.Vocabulary.Text))}
	for i, s := range inner.Vocabulary.Text {
		m.ids[i] = t.Info.Unknown
		if id, ok := ids.Find(s); ok && int32(i) != inner.Info.Unknown {
			m.ids[i] = id
		}
	}
	t.Model = m
	if err := b.addedTokens(); err != nil {
		return nil, err
	}
	source := "__" + c.String("src_lang", "en") + "__"
	for id, s := range list.Texts[size:] {
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
	t.Info.ChatTemplate = c.Template
	return t, nil
}

// m2mLanguages are the languages of M2M-100 in the order of their tokens' ids, or those of the models for WMT 21.
func m2mLanguages(which string) []string {
	if which == "wmt21" {
		return strings.Fields("en ha is ja cs ru zh de")
	}
	return strings.Fields(
		`af am ar ast az ba be bg bn br bs ca ceb cs cy da de el en es et fa ff fi fr fy ga gd gl gu ha he hi hr ht hu hy id ig ilo
		is it ja jv ka kk km kn ko lb lg ln lo lt lv mg mk ml mn mr ms my ne nl no ns oc or pa pl ps pt ro ru sd si sk sl so sq sr ss su sv sw ta th tl
		tn tr uk ur uz vi wo xh yi yo zh zu`,
	)
}
