package huggingface

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"edged/plugins/tokenizer-bpe/bpe"
	"edged/plugins/tokenizer-bpe/bpe/decode"
	"edged/plugins/tokenizer-bpe/bpe/model"
	"edged/plugins/tokenizer-bpe/bpe/normalize"
	"edged/plugins/tokenizer-bpe/bpe/pretokenize"
	"edged/plugins/tokenizer-bpe/bpe/split"
	"edged/plugins/tokenizer-bpe/bpe/tokenizerjson"
	"edged/plugins/tokenizer-bpe/bpe/transformers"
	"edged/plugins/tokenizer-bpe/bpe/vocab"
)

// fromJSON builds a tokenizer from the text of a tokenizer.json.
func fromJSON(data []byte, c *transformers.Config) (*bpe.Parts, error) {
	var f tokenizerjson.File
	data = tokenizerjson.TrimBOM(data)
	if err := json.Unmarshal(data, &f); err != nil {
		return nil, err
	}
	b := &builder{file: &f, config: c, out: &bpe.Parts{}, classes: split.HuggingFaceClasses()}
	b.chooseClass(c.PickClass(bytes.Contains(data, []byte(`"ByteLevel"`))))
	if err := b.build(); err != nil {
		return nil, err
	}
	return b.out, nil
}

// builder makes the parts of a tokenizer of a tokenizer.json, or of what another file was turned into, and of
// the folder's other files. Where a class of transformers reads the folder, what that builds takes the place
// of the file's parts.
type builder struct {
	file            *tokenizerjson.File
	config          *transformers.Config
	class           *transformers.Class // nil: the file is taken as it is
	classConfig     *transformers.ClassConfig
	classParts      transformers.ClassParts
	out             *bpe.Parts
	classes         *split.Classes
	decode          *decode.Decoder
	words           pretokenize.Words
	added           *addedTokens
	hidden          []bool // by id: tokens that the model must not choose
	noTokenizerJSON bool   // there is no tokenizer.json
	// patternBudget is how many steps the normalizer's patterns may take on the texts of added tokens.
	patternBudget split.Budget
}

// chooseClass sets the class that builds the tokenizer. A class over a file of another sort of model cannot;
// then the file is taken as it is.
func (b *builder) chooseClass(name string) {
	b.out.Class = name
	if name == "" {
		return
	}
	class := transformers.ClassByName(name)
	kind := b.file.Model.ModelType()
	switch {
	case class == nil:
		b.note("%s does not read tokenizer.json, which is taken as it is: ids may differ from those of transformers", name)
	case class.Model != "" && class.Model != kind:
		b.note("%s is a class for a %s model and tokenizer.json holds a %s model, which is taken as it is", name, class.Model, kind)
	default:
		b.class = class
	}
}

func (b *builder) note(format string, args ...any) {
	b.out.Notes = append(b.out.Notes, fmt.Sprintf(format, args...))
}

func (b *builder) build() error {
	if err := b.rebuild(); err != nil {
		return err
	}
	if err := b.checkModel(); err != nil {
		return err
	}
	var err error
	if b.decode, err = decode.Read(b.file.Decoder); err != nil {
		return fmt.Errorf("decoder: %w", err)
	}
	if err = b.vocabulary(); err != nil {
		return err
	}
	if b.out.Normalize, err = normalize.Read(b.file.Normalizer, b.classes); err != nil {
		return fmt.Errorf("normalizer: %w", err)
	}
	if b.words, err = pretokenize.Read(b.file.PreTokenizer, b.classes); err != nil {
		return fmt.Errorf("pre_tokenizer: %w", err)
	}
	if err = b.model(); err != nil {
		return fmt.Errorf("model: %w", err)
	}
	b.out.StartMatters = b.words.StartMatters
	if err = b.addedTokens(); err != nil {
		return fmt.Errorf("normalizer: %w", err)
	}
	if err = b.tokensAround(); err != nil {
		return fmt.Errorf("post_processor: %w", err)
	}
	if err = b.decoding(); err != nil {
		return err
	}
	b.out.Info.ChatTemplate, b.out.Info.NamedTemplates = b.config.Template, b.config.NamedTemplates
	return nil
}

// decoding sets up Decode.
func (b *builder) decoding() error {
	t, c := b.out, b.config
	var err error
	if t.Pieces, err = b.decode.Pieces(t.Vocabulary); err != nil {
		return fmt.Errorf("decoder: %w", err)
	}
	t.Decoder = b.decode
	t.Skipped = b.added.isSpecial
	t.Texts = slices.Clone(t.Vocabulary.Text)
	for id, a := range b.added.byID {
		t.Texts[id] = a.Content
		if a.Normalized && t.Normalize != nil { // shown as it is searched, and then not even known as special
			if t.Texts[id], err = t.Normalize(a.Content, &b.patternBudget); err != nil {
				return fmt.Errorf("normalizer: %w", err)
			}
		}
	}
	b.decode.CleanUp = c.Bool("clean_up_tokenization_spaces", false) &&
		(b.file.Model.Type != "BPE" || c.Bool("clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output", false))
	b.decode.TrimWord = b.classParts.TrimWord
	t.Grouped = b.class != nil && b.class.GroupTokens
	return nil
}

// rebuild puts what the class builds in the place of the file's parts, and notes where that changes anything.
func (b *builder) rebuild() error {
	if b.class == nil {
		return nil
	}
	f, m := b.file, &b.file.Model
	b.classConfig = &transformers.ClassConfig{Config: b.config, Class: b.class, Vocab: &m.Vocab, Charsmap: precompiled(f.Normalizer)}
	p := &b.classParts
	if b.class.FileAsIs {
		return nil
	}
	b.class.Build(b.classConfig, p)
	var changed []string
	for _, part := range []struct {
		name string
		file *json.RawMessage
		own  any
	}{{"normalizer", &f.Normalizer, p.Normalizer}, {"pre_tokenizer", &f.PreTokenizer, p.PreTokenizer}, {"decoder", &f.Decoder, p.Decoder}} {
		own, err := json.Marshal(part.own)
		if err != nil {
			return fmt.Errorf("%s: %w", part.name, err)
		}
		if !sameJSON(*part.file, own, part.name == "decoder") {
			changed = append(changed, part.name)
		}
		*part.file = own
	}
	if len(changed) > 0 && !b.noTokenizerJSON {
		b.note(
			"%s builds its own %s, other than what tokenizer.json has: transformers goes by the class, and so do these ids",
			b.out.Class,
			strings.Join(changed, " and "),
		)
	}
	m.Type = b.class.Model
	m.Prefix, m.Suffix, m.Unknown, m.UnknownID, m.Dropout, m.MaxChars = nil, nil, nil, nil, nil, nil
	m.FuseUnknown, m.ByteFallback, m.IgnoreMerges = p.FuseUnknown, p.ByteFallback, false
	if p.Unknown != "" {
		m.Unknown = &p.Unknown
	}
	if p.Suffix != "" {
		m.Suffix = &p.Suffix
	}
	if m.Type == "Unigram" && p.UnknownID >= 0 {
		m.UnknownID = &p.UnknownID
	}
	return nil
}

// precompiled finds the character map of a normalizer: alone, or in a sequence.
func precompiled(raw json.RawMessage) json.RawMessage {
	if tokenizerjson.IsNull(raw) {
		return nil
	}
	kind, parts, err := tokenizerjson.PartType(raw, 0, "normalizers")
	if err != nil {
		return nil
	}
	if kind == "Precompiled" {
		return raw
	}
	for _, p := range parts {
		if kind, _, err := tokenizerjson.PartType(p, 0, "normalizers"); err == nil && kind == "Precompiled" {
			return p
		}
	}
	return nil
}

// sameJSON reports whether two parts say the same.
func sameJSON(a, b json.RawMessage, decoder bool) bool {
	var x, y any
	if tokenizerjson.IsNull(a) || tokenizerjson.IsNull(b) {
		return tokenizerjson.IsNull(a) == tokenizerjson.IsNull(b)
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
	o, ok := x.(tokenizerjson.Object)
	return ok && o["type"] == "ByteLevel"
}

// simplified drops what changes no ids, and a sequence of one.
func simplified(x any) any {
	o, ok := x.(tokenizerjson.Object)
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
func (b *builder) checkModel() error {
	m := &b.file.Model
	m.Type = m.ModelType()
	switch {
	case !slices.Contains([]string{"BPE", "Unigram", "WordPiece", "WordLevel"}, m.Type):
		return fmt.Errorf("model.type is %q: supported are BPE, Unigram, WordPiece and WordLevel", m.Type)
	case m.Vocab.Count == 0:
		return errors.New("model.vocab is empty")
	case m.Vocab.IsList != (m.Type == "Unigram"):
		return fmt.Errorf("model.vocab is not of the form that a %s model has", m.Type)
	case m.Dropout != nil && *m.Dropout != 0:
		return fmt.Errorf("model.dropout is %g: ids would be random", *m.Dropout)
	}
	return nil
}

// vocabulary joins the model's tokens and the added ones, and finds the ids with a meaning.
func (b *builder) vocabulary() error {
	if err := b.findAdded(); err != nil {
		return err
	}
	text, err := b.added.extend(slices.Clone(b.file.Model.Vocab.Texts))
	if err != nil {
		return err
	}
	kinds := make([]vocab.Type, len(text))
	for id, s := range text {
		kinds[id] = vocab.Normal
		if s == "" {
			kinds[id] = vocab.Unused
		}
		if _, ok := vocab.ParseByte(s); ok && (b.file.Model.ByteFallback || b.decode.ByteFallback) {
			kinds[id] = vocab.Byte
		}
	}
	for id, a := range b.added.byID {
		kinds[id] = vocab.UserDefined
		if b.added.isSpecial[a.Content] {
			kinds[id] = vocab.Control
		}
	}
	if err := b.specialIDs(text, kinds); err != nil {
		return err
	}
	// The model knows nothing of tokens that were added to it, and control tokens are never what a text becomes.
	b.hidden = make([]bool, len(text))
	for id := range b.hidden {
		own := id < len(b.file.Model.Vocab.Texts) && b.file.Model.Vocab.Texts[id] != ""
		b.hidden[id] = kinds[id] == vocab.Control || !own
	}
	b.out.Vocabulary, err = vocab.New(text, kinds, func(id int) bool { return b.hidden[id] })
	return err
}

// findAdded collects the added tokens.
func (b *builder) findAdded() error {
	text := b.file.Model.Vocab.Texts
	known := vocab.NewIndex(text)
	for id, t := range slices.Backward(text) { // of equal texts the last counts
		if t != "" {
			known.Add(int32(id))
		}
	}
	if len(b.file.Added) > vocab.MaxTokens {
		return fmt.Errorf("added_tokens has %d entries: at most %d are supported", len(b.file.Added), vocab.MaxTokens)
	}
	b.added = newAddedTokens(known, b.file.Model.Vocab.Count)
	b.folderTokens(b.added)
	return nil
}

// specialIDs finds the ids with a meaning, and the tokens that end an answer.
func (b *builder) specialIDs(text []string, kinds []vocab.Type) error {
	i, m, c := &b.out.Info, &b.file.Model, b.config
	switch {
	case m.Type == "WordPiece":
		i.Kind = bpe.KindWordPiece
	case m.Type == "Unigram":
		i.Kind = bpe.KindUnigram
	case m.Type == "WordLevel":
		i.Kind = bpe.KindWordLevel
	case m.ByteFallback:
		i.Kind = bpe.KindSPM
	default:
		i.Kind = bpe.KindBPE
	}
	byText := func(s string) int32 {
		if id, ok := b.added.id(s); ok && s != "" {
			return int32(id)
		}
		return -1
	}
	i.BOS = first(byText(c.TokenText("bos_token", b.class)), c.ValidID(c.BOSID, len(text)))
	i.EOS = first(byText(c.TokenText("eos_token", b.class)), c.ValidID(c.FirstEOS(), len(text)))
	i.Mask = byText(c.TokenText("mask_token", b.class))
	i.Pad = byText(c.TokenText("pad_token", b.class))
	i.EOT, i.Unknown = -1, -1
	if u := tokenizerjson.Or(m.Unknown, ""); u != "" {
		i.Unknown = byText(u)
		if i.Unknown < 0 && m.Type != "BPE" {
			return fmt.Errorf("model.unk_token %q is not in the vocabulary", u)
		}
	}
	if id := m.UnknownID; id != nil && m.Type == "Unigram" {
		if *id < 0 || *id >= int64(len(m.Vocab.Texts)) {
			return fmt.Errorf("model.unk_id is %d, in a vocabulary of %d tokens", *id, len(m.Vocab.Texts))
		}
		i.Unknown = int32(*id)
	}
	e := vocab.FindEnds(text, kinds, i.EOS, -1, -1, m.Type == "WordPiece")
	i.EOT, i.EOG = e.EOT, e.EOG
	for _, id := range c.EOSIDs {
		if id := c.ValidID(id, len(text)); id >= 0 {
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
func (b *builder) model() error {
	if b.words.Bytes && b.file.Model.Type != "BPE" { // these models take ByteLevel's characters as they are
		b.words = b.words.WithByteChars()
	}
	switch b.file.Model.Type {
	case "WordPiece":
		return b.wordPiece()
	case "WordLevel":
		b.out.Model = onWords(b.words, model.NewWordLevel(b.out.Vocabulary, b.file.Model.Vocab.Texts, b.out.Info.Unknown))
		return nil
	case "Unigram":
		return b.unigram()
	}
	return b.bpe()
}

func (b *builder) wordPiece() error {
	m, t := &b.file.Model, b.out
	w := model.NewWordPiece(t.Vocabulary, b.hidden, tokenizerjson.Or(m.Prefix, "##"))
	w.Unknown = t.Info.Unknown
	if w.Unknown < 0 { // the library's name of it
		if id, ok := b.added.id("[UNK]"); ok {
			w.Unknown = int32(id)
		}
	}
	w.MaxChars = 100
	if m.MaxChars != nil && *m.MaxChars > 0 {
		w.MaxChars = *m.MaxChars
	}
	t.Model = onWords(b.words, w)
	return nil
}

func (b *builder) unigram() error {
	v := &b.file.Model.Vocab
	isControl := make([]bool, len(v.Texts))
	for id := range isControl {
		isControl[id] = b.out.Vocabulary.Types[id] == vocab.Control
	}
	u, err := model.NewUnigram(v.Texts, v.Scores, b.out.Info.Unknown, isControl)
	if err != nil {
		return err
	}
	if b.file.Model.ByteFallback {
		u.UseByteTokens()
	}
	b.out.Model = onWords(b.words, u)
	return nil
}

func (b *builder) bpe() error {
	m, t := &b.file.Model, b.out
	hidden := map[string]bool{}
	for id, k := range t.Vocabulary.Types {
		if k == vocab.Control {
			hidden[t.Vocabulary.Text[id]] = true
		}
	}
	prefix, suffix := tokenizerjson.Or(m.Prefix, ""), tokenizerjson.Or(m.Suffix, "")
	merges, err := model.NewMerges(t.Vocabulary, len(m.Merges.Pairs), func(i int) (left, right string, ok bool) {
		return m.Merges.Pairs[i][0], m.Merges.Pairs[i][1], true
	}, m.Merges.Ranks, prefix, func(s string) bool { return hidden[s] })
	if err != nil {
		return err
	}
	unknown := t.Info.Unknown
	if b.words.Bytes && prefix == "" && suffix == "" && !m.ByteFallback {
		chars := vocab.NewByteChars()
		bytes := &model.ByteBPE{Merges: merges, Unknown: unknown, FuseUnknown: m.FuseUnknown}
		for c := range bytes.Symbols {
			bytes.Symbols[c] = -1
			if id, ok := t.Vocabulary.Lookup(string(chars.Char[c])); ok {
				bytes.Symbols[c] = id
			}
		}
		if m.IgnoreMerges {
			bytes.Whole = vocab.DecodedTexts(t.Vocabulary, chars)
		}
		t.Model = onWords(b.words, bytes)
		t.Info.Pre = b.words.Name
		return nil
	}
	words := b.words
	if words.Bytes { // the model works on characters: ByteLevel's are written out
		words = words.WithByteChars()
	}
	cm := &model.CharBPE{
		Merges: merges, Unknown: unknown, FuseUnknown: m.FuseUnknown, Whole: m.IgnoreMerges, AllBytes: true,
		Prefix: prefix, Suffix: suffix,
	}
	for c := range cm.Bytes {
		cm.Bytes[c] = -1
	}
	if m.ByteFallback {
		cm.Bytes = vocab.NamedBytes(t.Vocabulary)
	}
	cut := !m.IgnoreMerges && prefix == "" && suffix == ""
	for _, p := range m.Merges.Pairs {
		cut = cut && !split.Crosses(p[0]+p[1])
	}
	perWord := onWords(words, cm)
	perWord.CutAtBlanks = cut
	t.Model = perWord
	return nil
}

// addedTokens sets the tokens that are found in a text before it is cut into words.
func (b *builder) addedTokens() error {
	t := b.out
	size := 0
	for _, a := range b.added.byID {
		size += len(a.Content)
	}
	b.patternBudget = split.NewBudget(size)
	raw, normalized := b.added.lists(func(id int64) bool { return t.Vocabulary.Types[id].IsSpecial() })
	everywhere := slices.Clone(raw)
	for i := range normalized {
		if normalized[i].Special {
			everywhere = append(everywhere, normalized[i])
		}
		if t.Normalize != nil {
			var err error
			if normalized[i].Text, err = t.Normalize(normalized[i].Text, &b.patternBudget); err != nil {
				return err
			}
		}
	}
	t.Added, t.AddedNormalized, t.AddedWritten, t.WordClasses = raw, normalized, everywhere, b.classes
	return nil
}

// tokensAround sets what AddSpecial puts around a text: what the class says, else what the file says. add_bos_token and
// add_eos_token of tokenizer_config.json count for nothing beside a tokenizer.json.
func (b *builder) tokensAround() error {
	if absent := tokenizerjson.IsNull(
		b.file.PostProcessor,
	); b.class == nil || b.class.Post == nil || b.class.PostIf == transformers.PostIfAbsent && !absent ||
		b.class.PostIf == transformers.PostIfPresent && absent {
		if b.noTokenizerJSON {
			return b.flags()
		}
		p := postProcessorReader{t: b.out}
		if err := p.read(b.file.PostProcessor, 0); err != nil {
			return err
		}
		b.out.Prefix, b.out.Suffix, b.out.Pair = p.prefix, p.suffix, p.pair
		return nil
	}
	defer func() { // where the class puts the same tokens around one text as the file, the file also says how two are put together
		p := postProcessorReader{t: b.out}
		if p.read(b.file.PostProcessor, 0) == nil && slices.Equal(p.prefix, b.out.Prefix) && slices.Equal(p.suffix, b.out.Suffix) {
			b.out.Pair = p.pair
		}
	}()
	before, after := b.class.Post(b.classConfig)
	for _, side := range []struct {
		texts []string
		ids   *[]int32
	}{{before, &b.out.Prefix}, {after, &b.out.Suffix}} {
		for _, s := range side.texts {
			id, ok := b.added.id(s)
			if !ok {
				return fmt.Errorf("%s puts %q around a text, which is not in the vocabulary", b.out.Class, s)
			}
			*side.ids = append(*side.ids, int32(id))
		}
	}
	return nil
}

// flags sets what add_bos_token and add_eos_token say.
func (b *builder) flags() error {
	if b.config.Bool("add_bos_token", false) && b.out.Info.BOS >= 0 {
		b.out.Prefix = []int32{b.out.Info.BOS}
	}
	if b.config.Bool("add_eos_token", false) && b.out.Info.EOS >= 0 {
		b.out.Suffix = []int32{b.out.Info.EOS}
	}
	return nil
}

// onWords is a model that encodes the words of a pre-tokenizer one by one.
func onWords(w pretokenize.Words, m model.WordModel) *model.PerWord {
	return &model.PerWord{Model: m, Start: w.Start, Rest: w.Rest}
}
