package bpe

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"slices"
	"strings"

	"edged/core/model/mmap"
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
	UnknownID    *int64   `json:"unk_id"` // Unigram
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

// readFile reads a regular file of limited size.
func readFile(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, mmap.Explain(path, err)
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
func fromJSON(data []byte, c *folderConfig) (*Parts, error) {
	var f hfFile
	data = plainJSON(data)
	if err := json.Unmarshal(data, &f); err != nil {
		return nil, err
	}
	b := &hfBuilder{file: &f, config: c, t: &Parts{}, classes: split.HuggingFaceClasses()}
	b.chooseClass(c.pickClass(bytes.Contains(data, []byte(`"ByteLevel"`))))
	if err := b.build(); err != nil {
		return nil, err
	}
	return b.t, nil
}

// hfBuilder puts a tokenizer together.
type hfBuilder struct {
	file    *hfFile
	config  *folderConfig
	spec    *classSpec // nil: the file is taken as it is
	class   *classConfig
	parts   hfParts
	t       *Parts
	classes *split.Classes
	decode  *hfDecoder
	words   hfWords
	found   *addedTokens
	hidden  []bool // by id: tokens that the model must not choose
	alone   bool   // there is no tokenizer.json
	// patterns is what the added tokens' texts have for the normalizer.
	patterns split.Budget
}

// chooseClass sets the class that builds the tokenizer. A class over a file of another sort of model cannot; then the file
// is taken as it is.
func (b *hfBuilder) chooseClass(name string) {
	b.t.Class = name
	if name == "" {
		return
	}
	spec := classSpecs()[name]
	kind := b.file.Model.kind()
	switch {
	case spec == nil:
		b.note("%s does not read tokenizer.json, which is taken as it is: ids may differ from those of transformers", name)
	case spec.model != "" && spec.model != kind:
		b.note("%s is a class for a %s model and tokenizer.json holds a %s model, which is taken as it is", name, spec.model, kind)
	default:
		b.spec = spec
	}
}

// kind is the model's type, which files from before 2021 do not name.
func (m *hfModel) kind() string {
	switch {
	case m.Type != "":
	case m.Vocab.list:
		return "Unigram"
	case len(m.Merges.pairs) > 0:
		return "BPE"
	}
	return m.Type
}

func (b *hfBuilder) note(format string, args ...any) {
	b.t.Notes = append(b.t.Notes, fmt.Sprintf(format, args...))
}

func (b *hfBuilder) build() error {
	if err := b.rebuild(); err != nil {
		return err
	}
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
	if b.t.Normalize, err = n.read(b.file.Normalizer, 0); err != nil {
		return fmt.Errorf("normalizer: %w", err)
	}
	w := hfPreTokenizers{classes: b.classes}
	if b.words, err = w.read(b.file.PreTokenizer); err != nil {
		return fmt.Errorf("pre_tokenizer: %w", err)
	}
	if err = b.model(); err != nil {
		return fmt.Errorf("model: %w", err)
	}
	b.t.StartMatters = b.words.firstMatters
	if err = b.addedTokens(); err != nil {
		return fmt.Errorf("normalizer: %w", err)
	}
	if err = b.around(); err != nil {
		return fmt.Errorf("post_processor: %w", err)
	}
	if err = b.decoding(); err != nil {
		return err
	}
	b.t.Info.ChatTemplate, b.t.Info.NamedTemplates = b.config.template, b.config.templates
	return nil
}

// decoding sets up Decode.
func (b *hfBuilder) decoding() error {
	t, c := b.t, b.config
	var err error
	if t.Pieces, err = b.decode.pieces(t.Vocabulary); err != nil {
		return fmt.Errorf("decoder: %w", err)
	}
	t.Decoder = b.decode
	t.Skipped = b.found.isSpec
	t.Texts = slices.Clone(t.Vocabulary.text)
	for id, a := range b.found.byID {
		t.Texts[id] = a.Content
		if a.Normalized && t.Normalize != nil { // shown as it is searched, and then not even known as special
			if t.Texts[id], err = t.Normalize(a.Content, &b.patterns); err != nil {
				return fmt.Errorf("normalizer: %w", err)
			}
		}
	}
	b.decode.cleanUp = c.flag("clean_up_tokenization_spaces", false) &&
		(b.file.Model.Type != "BPE" || c.flag("clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output", false))
	b.decode.trimWord = b.parts.trimWord
	t.Grouped = b.spec != nil && b.spec.grouped
	return nil
}

// rebuild puts what the class builds in the place of the file's parts, and notes where that changes anything.
func (b *hfBuilder) rebuild() error {
	if b.spec == nil {
		return nil
	}
	f, m := b.file, &b.file.Model
	b.class = &classConfig{folderConfig: b.config, spec: b.spec, vocab: &m.Vocab, charsmap: precompiled(f.Normalizer)}
	p := &b.parts
	if b.spec.keepsFile {
		return nil
	}
	b.spec.build(b.class, p)
	var changed []string
	for _, part := range []struct {
		name string
		file *json.RawMessage
		own  any
	}{{"normalizer", &f.Normalizer, p.normalizer}, {"pre_tokenizer", &f.PreTokenizer, p.pre}, {"decoder", &f.Decoder, p.decoder}} {
		own, err := json.Marshal(part.own)
		if err != nil {
			return fmt.Errorf("%s: %w", part.name, err)
		}
		if !sameJSON(*part.file, own, part.name == "decoder") {
			changed = append(changed, part.name)
		}
		*part.file = own
	}
	if len(changed) > 0 && !b.alone {
		b.note("%s builds its own %s, other than what tokenizer.json has: transformers goes by the class, and so do these ids", b.t.Class, strings.Join(changed, " and "))
	}
	m.Type = b.spec.model
	m.Prefix, m.Suffix, m.Unknown, m.UnknownID, m.Dropout, m.MaxChars = nil, nil, nil, nil, nil, nil
	m.FuseUnknown, m.ByteFallback, m.IgnoreMerges = p.fuse, p.fallback, false
	if p.unknown != "" {
		m.Unknown = &p.unknown
	}
	if p.suffix != "" {
		m.Suffix = &p.suffix
	}
	if m.Type == "Unigram" && p.unknownID >= 0 {
		m.UnknownID = &p.unknownID
	}
	return nil
}

// precompiled finds the character map of a normalizer: alone, or in a sequence.
func precompiled(raw json.RawMessage) json.RawMessage {
	if isNull(raw) {
		return nil
	}
	kind, parts, err := hfType(raw, 0, "normalizers")
	if err != nil {
		return nil
	}
	if kind == "Precompiled" {
		return raw
	}
	for _, p := range parts {
		if kind, _, err := hfType(p, 0, "normalizers"); err == nil && kind == "Precompiled" {
			return p
		}
	}
	return nil
}

// sameJSON reports whether two parts say the same.
func sameJSON(a, b json.RawMessage, decoder bool) bool {
	var x, y any
	if isNull(a) || isNull(b) {
		return isNull(a) == isNull(b)
	}
	if json.Unmarshal(a, &x) != nil || json.Unmarshal(b, &y) != nil {
		return false
	}
	p, q := simplified(x), simplified(y)
	if isByteLevel(p) && isByteLevel(q) && decoder {
		return true // its settings are the pre-tokenizer's
	}
	return reflect.DeepEqual(p, q)
}

func isByteLevel(x any) bool {
	o, ok := x.(object)
	return ok && o["type"] == "ByteLevel"
}

// simplified drops what changes no ids, and a sequence of one.
func simplified(x any) any {
	o, ok := x.(object)
	if !ok {
		return x
	}
	delete(o, "trim_offsets")
	if o["type"] == "ByteLevel" && o["use_regex"] == nil {
		o["use_regex"] = true
	}
	for _, list := range []string{"normalizers", "pretokenizers", "decoders"} {
		parts, ok := o[list].([]any)
		if !ok {
			continue
		}
		if len(parts) == 1 {
			return simplified(parts[0])
		}
		for i := range parts {
			parts[i] = simplified(parts[i])
		}
	}
	return o
}

// checkModel refuses what is not supported, each with the reason.
func (b *hfBuilder) checkModel() error {
	m := &b.file.Model
	m.Type = m.kind()
	switch {
	case !slices.Contains([]string{"BPE", "Unigram", "WordPiece", "WordLevel"}, m.Type):
		return fmt.Errorf("model.type is %q: supported are BPE, Unigram, WordPiece and WordLevel", m.Type)
	case m.Vocab.n == 0:
		return errors.New("model.vocab is empty")
	case m.Vocab.list != (m.Type == "Unigram"):
		return fmt.Errorf("model.vocab is not of the form that a %s model has", m.Type)
	case m.Dropout != nil && *m.Dropout != 0:
		return fmt.Errorf("model.dropout is %g: ids would be random", *m.Dropout)
	}
	return nil
}

// vocabulary joins the model's tokens and the added ones, and finds the ids with a meaning.
func (b *hfBuilder) vocabulary() error {
	if err := b.findAdded(); err != nil {
		return err
	}
	text, err := b.found.extend(slices.Clone(b.file.Model.Vocab.text))
	if err != nil {
		return err
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
	for id, a := range b.found.byID {
		kinds[id] = userDefined
		if b.found.isSpec[a.Content] {
			kinds[id] = control
		}
	}
	if err := b.meanings(text, kinds); err != nil {
		return err
	}
	// The model knows nothing of tokens that were added to it, and control tokens are never what a text becomes.
	b.hidden = make([]bool, len(text))
	for id := range b.hidden {
		own := id < len(b.file.Model.Vocab.text) && b.file.Model.Vocab.text[id] != ""
		b.hidden[id] = kinds[id] == control || !own
	}
	b.t.Vocabulary, err = newVocabulary(text, kinds, func(id int) bool { return b.hidden[id] })
	return err
}

// findAdded collects the added tokens.
func (b *hfBuilder) findAdded() error {
	text := b.file.Model.Vocab.text
	known := newIndex(text)
	for id, t := range slices.Backward(text) { // of equal texts the last counts
		if t != "" {
			known.add(int32(id))
		}
	}
	if len(b.file.Added) > maxTokens {
		return fmt.Errorf("added_tokens has %d entries: at most %d are supported", len(b.file.Added), maxTokens)
	}
	b.found = newAddedTokens(known, b.file.Model.Vocab.n)
	b.folderTokens(b.found)
	return nil
}

// meanings finds the ids with a meaning, and the tokens that end an answer.
func (b *hfBuilder) meanings(text []string, kinds []kind) error {
	i, m, c := &b.t.Info, &b.file.Model, b.config
	switch {
	case m.Type == "WordPiece":
		i.Kind = KindWordPiece
	case m.Type == "Unigram":
		i.Kind = KindUnigram
	case m.Type == "WordLevel":
		i.Kind = KindWordLevel
	case m.ByteFallback:
		i.Kind = KindSPM
	default:
		i.Kind = KindBPE
	}
	byText := func(s string) int32 {
		if id, ok := b.found.id(s); ok && s != "" {
			return int32(id)
		}
		return -1
	}
	i.BOS = first(byText(c.tokenText("bos_token", b.spec)), c.id(c.bosID, len(text)))
	i.EOS = first(byText(c.tokenText("eos_token", b.spec)), c.id(c.firstEOS(), len(text)))
	i.Mask = byText(c.tokenText("mask_token", b.spec))
	i.Pad = byText(c.tokenText("pad_token", b.spec))
	i.EOT, i.Unknown = -1, -1
	if u := textOr(m.Unknown, ""); u != "" {
		i.Unknown = byText(u)
		if i.Unknown < 0 && m.Type != "BPE" {
			return fmt.Errorf("model.unk_token %q is not in the vocabulary", u)
		}
	}
	if id := m.UnknownID; id != nil && m.Type == "Unigram" {
		if *id < 0 || *id >= int64(len(m.Vocab.text)) {
			return fmt.Errorf("model.unk_id is %d, in a vocabulary of %d tokens", *id, len(m.Vocab.text))
		}
		i.Unknown = int32(*id)
	}
	e := findEnds(text, kinds, i.EOS, -1, -1, m.Type == "WordPiece")
	i.EOT, i.EOG = e.eot, e.eog
	for _, id := range c.eosIDs {
		if id := c.id(id, len(text)); id >= 0 {
			i.EOG = append(i.EOG, id)
		}
	}
	return nil
}

func first(ids ...int32) int32 {
	for _, id := range ids {
		if id >= 0 {
			return id
		}
	}
	return -1
}

// model sets up the model.
func (b *hfBuilder) model() error {
	if b.words.bytes && b.file.Model.Type != "BPE" { // these models take ByteLevel's characters as they are
		b.words = b.words.mapped()
	}
	switch b.file.Model.Type {
	case "WordPiece":
		return b.wordPiece()
	case "WordLevel":
		b.t.Model = b.words.run(newWordLevel(b.t.Vocabulary, b.file.Model.Vocab.text, b.t.Info.Unknown))
		return nil
	case "Unigram":
		return b.unigram()
	}
	return b.bpe()
}

func (b *hfBuilder) wordPiece() error {
	m, t := &b.file.Model, b.t
	w := newSubwords(t.Vocabulary, b.hidden, textOr(m.Prefix, "##"))
	w.unknown = t.Info.Unknown
	if w.unknown < 0 { // the library's name of it
		if id, ok := b.found.id("[UNK]"); ok {
			w.unknown = int32(id)
		}
	}
	w.maxChars = 100
	if m.MaxChars != nil && *m.MaxChars > 0 {
		w.maxChars = *m.MaxChars
	}
	t.Model = b.words.run(w)
	return nil
}

func (b *hfBuilder) unigram() error {
	v := &b.file.Model.Vocab
	isControl := make([]bool, len(v.text))
	for id := range isControl {
		isControl[id] = b.t.Vocabulary.kind[id] == control
	}
	u, err := newUnigram(v.text, v.score, b.t.Info.Unknown, isControl)
	if err != nil {
		return err
	}
	if b.file.Model.ByteFallback {
		u.withBytes()
	}
	b.t.Model = b.words.run(u)
	return nil
}

func (b *hfBuilder) bpe() error {
	m, t := &b.file.Model, b.t
	syms := &symbols{vocab: t.Vocabulary}
	hidden := map[string]bool{}
	for id, k := range t.Vocabulary.kind {
		if k == control {
			hidden[t.Vocabulary.text[id]] = true
		}
	}
	prefix, suffix := textOr(m.Prefix, ""), textOr(m.Suffix, "")
	merges, err := syms.build(len(m.Merges.pairs), func(i int) (left, right string, ok bool) {
		return m.Merges.pairs[i][0], m.Merges.pairs[i][1], true
	}, m.Merges.ranks, prefix, func(s string) bool { return hidden[s] })
	if err != nil {
		return err
	}
	unknown := t.Info.Unknown
	if b.words.bytes && prefix == "" && suffix == "" && !m.ByteFallback {
		chars := newByteChars()
		bytes := &byteBPE{syms: syms, merges: merges, unknown: unknown, fuse: m.FuseUnknown}
		for c := range bytes.sym {
			bytes.sym[c] = -1
			if id, ok := t.Vocabulary.lookup(string(chars.char[c])); ok {
				bytes.sym[c] = id
			}
		}
		if m.IgnoreMerges {
			bytes.whole = wholeWords(t.Vocabulary, chars)
		}
		t.Model = b.words.run(bytes)
		t.Info.Pre = b.words.name
		return nil
	}
	words := b.words
	if words.bytes { // the model works on characters: ByteLevel's are written out
		words = words.mapped()
	}
	cm := &charBPE{
		syms: syms, merges: merges, unknown: unknown, fuse: m.FuseUnknown, whole: m.IgnoreMerges, fallback: true,
		prefix: prefix, suffix: suffix,
	}
	for c := range cm.bytes {
		cm.bytes[c] = -1
	}
	if m.ByteFallback {
		cm.bytes = namedBytes(t.Vocabulary)
	}
	cut := !m.IgnoreMerges && prefix == "" && suffix == ""
	for _, p := range m.Merges.pairs {
		cut = cut && !split.Crosses(p[0]+p[1])
	}
	m2 := words.run(cm)
	m2.atBlanks = cut
	t.Model = m2
	return nil
}

// addedTokens sets up the matchers.
func (b *hfBuilder) addedTokens() error {
	t := b.t
	size := 0
	for _, a := range b.found.byID {
		size += len(a.Content)
	}
	b.patterns = split.NewBudget(size)
	raw, late := b.found.lists(func(id int64) bool { return t.Vocabulary.kind[id].special() })
	everywhere := slices.Clone(raw)
	for i := range late {
		if late[i].Special {
			everywhere = append(everywhere, late[i])
		}
		if t.Normalize != nil {
			var err error
			if late[i].Text, err = t.Normalize(late[i].Text, &b.patterns); err != nil {
				return err
			}
		}
	}
	t.Added, t.AddedNormalized, t.AddedWritten, t.WordClasses = raw, late, everywhere, b.classes
	return nil
}

// around sets what AddSpecial puts around a text: what the class says, else what the file says. add_bos_token and
// add_eos_token of tokenizer_config.json count for nothing beside a tokenizer.json.
func (b *hfBuilder) around() error {
	if silent := isNull(b.file.PostProcessor); b.spec == nil || b.spec.post == nil || b.spec.postIf == postIfSilent && !silent || b.spec.postIf == postIfGiven && silent {
		if b.alone {
			return b.flags()
		}
		p := hfPostProcessors{t: b.t}
		if err := p.read(b.file.PostProcessor, 0); err != nil {
			return err
		}
		b.t.Prefix, b.t.Suffix, b.t.Pair = p.prefix, p.suffix, p.pair
		return nil
	}
	defer func() { // a class that puts the file's tokens around one text has the file's form of two
		p := hfPostProcessors{t: b.t}
		if p.read(b.file.PostProcessor, 0) == nil && slices.Equal(p.prefix, b.t.Prefix) && slices.Equal(p.suffix, b.t.Suffix) {
			b.t.Pair = p.pair
		}
	}()
	before, after := b.spec.post(b.class)
	for _, side := range []struct {
		texts []string
		ids   *[]int32
	}{{before, &b.t.Prefix}, {after, &b.t.Suffix}} {
		for _, s := range side.texts {
			id, ok := b.found.id(s)
			if !ok {
				return fmt.Errorf("%s puts %q around a text, which is not in the vocabulary", b.t.Class, s)
			}
			*side.ids = append(*side.ids, int32(id))
		}
	}
	return nil
}

// flags sets what add_bos_token and add_eos_token say.
func (b *hfBuilder) flags() error {
	if b.config.flag("add_bos_token", false) && b.t.Info.BOS >= 0 {
		b.t.Prefix = []int32{b.t.Info.BOS}
	}
	if b.config.flag("add_eos_token", false) && b.t.Info.EOS >= 0 {
		b.t.Suffix = []int32{b.t.Info.EOS}
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
