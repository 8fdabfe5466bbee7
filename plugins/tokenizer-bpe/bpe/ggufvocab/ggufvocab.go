package ggufvocab

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"edged/core/model/gguf"
	"edged/plugins/tokenizer-bpe/bpe"
	"edged/plugins/tokenizer-bpe/bpe/model"
	"edged/plugins/tokenizer-bpe/bpe/pretokenize"
	"edged/plugins/tokenizer-bpe/bpe/split"
	"edged/plugins/tokenizer-bpe/bpe/vocab"
)

// Metadata gives access to the metadata of a GGUF file; *gguf.File has these methods. Getters return an error
// that names the key.
type Metadata interface {
	Has(key string) bool
	String(key string) (string, error)
	Bool(key string) (bool, error)
	Uint(key string) (uint64, error)
	Strings(key string) ([]string, error)
	Ints(key string) ([]int64, error)
	Floats(key string) ([]float64, error)
}

var _ Metadata = (*gguf.File)(nil)

// The keys, as https://github.com/ggml-org/ggml/blob/master/docs/gguf.md and llama.cpp's src/llama-arch.cpp name them.
const (
	keyModel        = "tokenizer.ggml.model"
	keyPre          = "tokenizer.ggml.pre"
	keyTokens       = "tokenizer.ggml.tokens"
	keyTypes        = "tokenizer.ggml.token_type"
	keyScores       = "tokenizer.ggml.scores"
	keyMerges       = "tokenizer.ggml.merges"
	keyAddBOS       = "tokenizer.ggml.add_bos_token"
	keyAddEOS       = "tokenizer.ggml.add_eos_token"
	keyExtraSpaces  = "tokenizer.ggml.remove_extra_whitespaces"
	keyCharsmap     = "tokenizer.ggml.precompiled_charsmap"
	keySpacePrefix  = "tokenizer.ggml.add_space_prefix"
	keyLowercase    = "tokenizer.ggml.normalizer.lowercase"
	keyStripAccents = "tokenizer.ggml.normalizer.strip_accents"
	keyBOS          = "tokenizer.ggml.bos_token_id"
	keyEOS          = "tokenizer.ggml.eos_token_id"
	keyEOT          = "tokenizer.ggml.eot_token_id"
	keyEOM          = "tokenizer.ggml.eom_token_id"
	keyUnknown      = "tokenizer.ggml.unknown_token_id"
	keySeparator    = "tokenizer.ggml.seperator_token_id" // so spelt in the files
	keyPad          = "tokenizer.ggml.padding_token_id"
	keyMask         = "tokenizer.ggml.mask_token_id"
	keyAddSeparator = "tokenizer.ggml.add_sep_token"
	keyTemplate     = "tokenizer.chat_template"
	keyToolTemplate = "tokenizer.chat_template.tool_use"
	keyName         = "general.name"
	keyArchitecture = "general.architecture"
)

// vocabularyDefaults is one value of tokenizer.ggml.model with what llama.cpp assumes where the file is silent.
type vocabularyDefaults struct {
	kind                    string
	bos, eos, unk, sep, pad int32
}

func models() map[string]vocabularyDefaults {
	return map[string]vocabularyDefaults{
		"llama":  {kind: bpe.KindSPM, bos: 1, eos: 2, unk: 0, sep: -1, pad: -1},
		"gpt2":   {kind: bpe.KindBPE, bos: -1, eos: -1, unk: -1, sep: -1, pad: -1},
		"gemma4": {kind: bpe.KindSPM, bos: -1, eos: -1, unk: -1, sep: -1, pad: -1},
		"t5":     {kind: bpe.KindUnigram, bos: -1, eos: 1, unk: 2, sep: -1, pad: 0},
		"rwkv":   {kind: bpe.KindRWKV, bos: -1, eos: -1, unk: -1, sep: -1, pad: -1},
		"bert":   {kind: bpe.KindWordPiece, bos: 101, eos: -1, unk: 100, sep: 102, pad: 0},
	}
}

// loader reads the parts of one file; the first error stays.
type loader struct {
	meta Metadata
	err  error
}

// Read reads the tokenizer of a GGUF file. name is the file's, for errors.
func Read(name string, meta Metadata) (*bpe.Tokenizer, error) {
	l := &loader{meta: meta}
	t, err := l.load()
	if err != nil {
		return nil, fmt.Errorf("bpe: %s: %w: %w", name, bpe.ErrModel, err)
	}
	return t, nil
}

func (l *loader) load() (*bpe.Tokenizer, error) {
	if !l.meta.Has(keyModel) {
		return nil, fmt.Errorf("the file has no %s: it holds no vocabulary", keyModel)
	}
	modelName := l.string(keyModel)
	pre := l.string(keyPre)
	if l.err != nil {
		return nil, l.err
	}
	m, ok := models()[modelName]
	if !ok {
		return nil, fmt.Errorf(
			"%s is %q: supported are gpt2 (byte-level BPE), llama and gemma4 (SentencePiece BPE), t5 (SentencePiece unigram), bert (WordPiece) and rwkv",
			keyModel,
			modelName,
		)
	}
	if modelName == "gemma4" {
		pre = "gemma4"
	}
	t := &bpe.Parts{LongestFirst: true}
	t.Info = bpe.Info{Kind: m.kind, ChatTemplate: l.string(keyTemplate)}
	if tools := l.string(keyToolTemplate); tools != "" {
		t.Info.NamedTemplates = map[string]string{"tool_use": tools}
	}
	v, err := l.vocabulary(t, m)
	if err != nil {
		return nil, err
	}
	t.Vocabulary = v
	switch {
	case modelName == "llama":
		err = l.spm(t)
	case modelName == "bert":
		err = l.bert(t)
	case modelName == "t5":
		err = l.unigram(t)
	case modelName == "rwkv":
		err = l.rwkv(t)
	default:
		err = l.bpe(t, pre)
	}
	if err == nil {
		err = l.err
	}
	if err != nil {
		return nil, err
	}
	list := l.added(t)
	for _, a := range list {
		if len(a.Text) > vocab.MaxAddedLength {
			return nil, fmt.Errorf(
				"%s: token %d is to be found in any text and has %d bytes: at most %d are supported",
				keyTokens,
				a.ID,
				len(a.Text),
				vocab.MaxAddedLength,
			)
		}
	}
	t.Added = list
	l.pairs(t)
	if l.err != nil {
		return nil, l.err
	}
	return bpe.New(*t), nil
}

// vocabulary reads tokens, types and the ids with a meaning, and corrects the types as llama.cpp does.
func (l *loader) vocabulary(t *bpe.Parts, m vocabularyDefaults) (*vocab.Vocabulary, error) {
	text := l.strings(keyTokens)
	if l.err != nil {
		return nil, l.err
	}
	if len(text) > vocab.MaxTokens {
		return nil, fmt.Errorf("%s has %d entries: at most %d are supported", keyTokens, len(text), vocab.MaxTokens)
	}
	for id, s := range text {
		if s == "" {
			text[id] = fmt.Sprintf("[EMPTY_%d]", id)
		} else if !utf8.ValidString(s) {
			return nil, fmt.Errorf("%s: token %d is not valid UTF-8", keyTokens, id)
		}
	}
	kinds := make([]vocab.Type, len(text))
	for id := range kinds {
		kinds[id] = vocab.Normal
	}
	if l.meta.Has(keyTypes) {
		types := l.ints(keyTypes)
		if len(types) < len(text) && l.err == nil {
			return nil, fmt.Errorf("%s has %d entries for %d tokens", keyTypes, len(types), len(text))
		}
		for id := range kinds {
			if l.err == nil && types[id] >= 0 && types[id] <= int64(vocab.Byte) {
				kinds[id] = vocab.Type(types[id])
			}
		}
	}
	var scores []float32
	if l.meta.Has(keyScores) && (m.kind == bpe.KindSPM || m.kind == bpe.KindUnigram) {
		list := l.floats(keyScores)
		if len(list) < len(text) && l.err == nil {
			return nil, fmt.Errorf("%s has %d entries for %d tokens", keyScores, len(list), len(text))
		}
		if l.err == nil {
			scores = make([]float32, len(text))
			for id := range scores {
				scores[id] = float32(list[id])
			}
		}
	}
	i := &t.Info
	i.BOS = l.id(keyBOS, m.bos, len(text))
	i.EOS = l.id(keyEOS, m.eos, len(text))
	i.EOT = l.id(keyEOT, -1, len(text))
	i.Unknown = l.id(keyUnknown, m.unk, len(text))
	i.Mask = l.id(keyMask, -1, len(text))
	i.Pad = l.id(keyPad, m.pad, len(text))
	eom := l.id(keyEOM, -1, len(text))
	if l.err != nil {
		return nil, l.err
	}
	if m.kind == bpe.KindBPE && i.BOS < 0 && len(text) > 11 && kinds[11] == vocab.Control {
		// llama.cpp's default for byte-level BPE is Falcon's <|endoftext|>.
		i.BOS = 11
		if i.EOS < 0 {
			i.EOS = 11
		}
	}
	e := vocab.FindEnds(text, kinds, i.EOS, i.EOT, eom, m.kind == bpe.KindWordPiece)
	i.EOT, i.EOG = e.EOT, e.EOG
	v, err := vocab.New(text, kinds, func(id int) bool { return kinds[id].IsSpecial() || kinds[id] == vocab.Unused })
	if err != nil {
		return nil, err
	}
	v.Scores = scores
	return v, nil
}

// spm sets up SentencePiece BPE.
func (l *loader) spm(t *bpe.Parts) error {
	prefix := l.bool(keySpacePrefix, true)
	t.RawBytes = true
	t.StripSpace = prefix
	t.Model = model.NewScoreBPE(t.Vocabulary, t.Info.Unknown, prefix)
	t.Pieces = vocab.Pieces(t.Vocabulary, vocab.Unblank)
	l.around(t, true, t.Info.EOS)
	return l.err
}

// bert sets up WordPiece.
func (l *loader) bert(t *bpe.Parts) error {
	lower := l.bool(keyLowercase, true)
	accents := l.bool(keyStripAccents, lower)
	sep := l.id(keySeparator, 102, len(t.Vocabulary.Text))
	if l.err != nil {
		return l.err
	}
	m := model.NewBlankWordPiece(t.Vocabulary, func(id int) bool { return t.Vocabulary.Types[id].IsSpecial() })
	m.Unknown = t.Info.Unknown
	m.Words = pretokenize.NewBERT(lower, accents).Words
	t.Model = m
	t.StripSpace = true
	t.Pieces = vocab.Pieces(t.Vocabulary, vocab.Unblank)
	t.Prefix, t.Suffix = []int32{t.Info.BOS}, []int32{sep}
	if t.Info.EOS < 0 {
		t.Info.EOS = sep
	}
	return nil
}

// bpe sets up byte-level BPE, and Gemma 4's BPE on characters.
func (l *loader) bpe(t *bpe.Parts, pre string) error {
	family, err := split.ByName(pre, split.NewClasses())
	if err != nil {
		return fmt.Errorf("%s: %w", keyPre, err)
	}
	t.Info.Pre = pre
	var pairs []string
	switch {
	case l.meta.Has(keyMerges):
		pairs = l.strings(keyMerges)
	case pre != "kimi-k2": // llama.cpp takes those without merges
		return fmt.Errorf("the file has no %s", keyMerges)
	}
	if l.err != nil {
		return l.err
	}
	merges, err := model.NewMerges(t.Vocabulary, len(pairs), func(i int) (left, right string, ok bool) {
		// The first character may be a space.
		if m := pairs[i]; len(m) > 0 {
			if at := strings.IndexByte(m[1:], ' '); at >= 0 {
				return m[:at+1], m[at+2:], true
			}
		}
		return "", "", true // llama.cpp: a merge of nothing
	}, nil, "", nil)
	if err != nil {
		return fmt.Errorf("%s: %w", keyMerges, err)
	}
	if family.Raw {
		t.Info.Kind = bpe.KindSPM
		m := &model.CharBPE{Merges: merges, Bytes: vocab.ByteTokens(t.Vocabulary), Unknown: -1, WholeLineFeeds: family.Lines}
		t.Model = &model.PerWord{Model: m, Start: family.Splitter, Rest: family.Splitter, Blanks: true}
		t.Pieces = vocab.Pieces(t.Vocabulary, vocab.Unblank)
	} else {
		t.Info.Kind = bpe.KindBPE
		chars := vocab.NewByteChars()
		m := &model.ByteBPE{Merges: merges, Unknown: -1}
		for b := range m.Symbols {
			m.Symbols[b] = merges.Symbol(string(chars.Char[b]))
		}
		if family.IgnoreMerges {
			m.Whole = vocab.DecodedTexts(t.Vocabulary, chars)
		}
		t.Model = &model.PerWord{Model: m, Start: family.Splitter, Rest: family.Splitter}
		t.Pieces = vocab.Pieces(t.Vocabulary, func(dst []byte, s string) []byte {
			dst, _ = chars.Decode(dst, s)
			return dst
		})
	}
	l.around(t, family.AddBOS, t.Info.EOS)
	if pre == "gemma4" || pre == "granite-embed-multi-311m" {
		// The files say that no BOS is wanted, and the model is useless without (llama.cpp corrects it too).
		t.Prefix = []int32{t.Info.BOS}
	}
	return l.err
}

// around sets what AddSpecial puts around a text.
func (l *loader) around(t *bpe.Parts, addBOS bool, eos int32) {
	if l.bool(keyAddBOS, addBOS) {
		t.Prefix = []int32{t.Info.BOS}
	}
	if l.bool(keyAddEOS, false) {
		t.Suffix = []int32{eos}
	}
}

// pairs sets what stands between two texts: what ends the first, and a separator where the file asks for one.
func (l *loader) pairs(t *bpe.Parts) {
	if len(t.Prefix) == 0 || len(t.Suffix) == 0 || !l.meta.Has(keyAddSeparator) {
		return
	}
	between := t.Suffix
	if l.bool(keyAddSeparator, false) {
		if sep := l.id(keySeparator, -1, len(t.Vocabulary.Text)); sep >= 0 {
			between = append(slices.Clone(between), sep)
		}
	}
	second := int32(0)
	if t.Info.Kind == bpe.KindWordPiece {
		second = 1
	}
	t.JoinPair(between, second)
}

// added lists the tokens that are found in a text before it is cut into words, with the white space that some
// take along: GGUF files do not say, llama.cpp goes by the model's name.
func (l *loader) added(t *bpe.Parts) []bpe.AddedToken {
	name, pre, arch := strings.ToLower(l.string(keyName)), l.string(keyPre), l.string(keyArchitecture)
	phi3 := strings.Contains(name, "phi-3") || strings.Contains(name, "phi3")
	lstrip := ""
	switch {
	case slices.Contains([]string{"jina-v2-de", "jina-v2-es", "jina-v2-code"}, pre), arch == "nomic-bert-moe", arch == "jina-bert-v3":
		lstrip = "<mask>"
	case strings.Contains(name, "modern-bert"):
		lstrip = "[MASK]"
	}
	var list []bpe.AddedToken
	for id, k := range t.Vocabulary.Types {
		if !k.IsSpecial() && k != vocab.UserDefined {
			continue
		}
		a := bpe.AddedToken{ID: int32(id), Text: t.Vocabulary.Text[id], Special: k.IsSpecial()}
		a.LStrip = a.Text == lstrip
		a.RStrip = phi3 && a.Text != "<unk>" && a.Text != "<s>" && a.Text != "<|endoftext|>"
		list = append(list, a)
	}
	return list
}

func (l *loader) record(err error) {
	if l.err == nil {
		l.err = err
	}
}

// string returns a text, "" where the file has none.
func (l *loader) string(key string) string {
	s, err := l.meta.String(key)
	if errors.Is(err, gguf.ErrMissing) || !l.meta.Has(key) {
		return ""
	}
	l.record(err)
	return s
}

func (l *loader) bool(key string, otherwise bool) bool {
	if !l.meta.Has(key) {
		return otherwise
	}
	b, err := l.meta.Bool(key)
	l.record(err)
	return b
}

// id returns a token's id. As in llama.cpp, one that is not in the vocabulary counts as not given.
func (l *loader) id(key string, otherwise int32, n int) int32 {
	if otherwise >= int32(n) {
		otherwise = -1
	}
	if !l.meta.Has(key) {
		return otherwise
	}
	u, err := l.meta.Uint(key)
	if err != nil || u >= uint64(n) {
		return otherwise
	}
	return int32(u)
}

func (l *loader) strings(key string) []string {
	s, err := l.meta.Strings(key)
	l.record(err)
	return s
}

func (l *loader) ints(key string) []int64 {
	s, err := l.meta.Ints(key)
	l.record(err)
	return s
}

func (l *loader) floats(key string) []float64 {
	s, err := l.meta.Floats(key)
	l.record(err)
	return s
}
