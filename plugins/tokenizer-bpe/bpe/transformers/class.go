package transformers

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"edged/plugins/tokenizer-bpe/bpe/tokenizerjson"
	"edged/plugins/tokenizer-bpe/bpe/vocab"
)

// PickClass is the name of the class that transformers 5.24 loads for a folder, "" where that takes
// tokenizer.json as it is. byteLevel says that tokenizer.json mentions ByteLevel.
func (c *Config) PickClass(byteLevel bool) string {
	declared := c.class
	if declared == "" {
		declared = c.modelClass
	}
	family, known := familyClass(c.modelType)
	wrong := slices.Contains(misnamed(), c.modelType) || slices.Contains(misnamed(), c.modelName)
	remote := c.remoteCode && !slices.Contains(misnamed(), c.modelType)
	plain := func(name string) string { return strings.TrimSuffix(name, "Fast") }
	if !remote && declared != "" {
		if plain(declared) == "LlamaTokenizer" && !isMistral(c.modelType) && !wrong && byteLevel {
			return ""
		}
		if known && plain(declared) != family {
			if family == "" {
				return ""
			}
			name := plain(declared)
			if wrong {
				name = family
			}
			return knownClass(name)
		}
	}
	if c.class != "" {
		return knownClass(plain(c.class))
	}
	if c.modelClass != "" {
		return knownClass(plain(c.modelClass))
	}
	return knownClass(family)
}

// isMistral reports whether a family is one that Mistral's own library would read.
func isMistral(family string) bool {
	switch family {
	case "ministral", "ministral3", "mistral", "mistral3", "mistral_large4", "mixtral", "pixtral", "voxtral", "voxtral_realtime":
		return true
	}
	return false
}

// familyClass is the class of a model family, and whether transformers knows one; "" for the class that takes
// the file as it is.
func familyClass(family string) (class string, known bool) {
	if family == "" {
		return "", false
	}
	for class, families := range familyClasses() {
		if slices.Contains(families, family) {
			return class, true
		}
	}
	if slices.Contains(misnamed(), family) {
		return "", true
	}
	return "", false
}

// knownClass is the name of the class that a name is an alias of; "" for names of the class that takes the
// file as it is.
func knownClass(name string) string {
	switch name {
	case "BartTokenizer", "LEDTokenizer", "MvpTokenizer":
		return "RobertaTokenizer"
	case "LxmertTokenizer",
		"MobileBertTokenizer",
		"SqueezeBertTokenizer",
		"DistilBertTokenizer",
		"DPRContextEncoderTokenizer",
		"DPRQuestionEncoderTokenizer",
		"DPRReaderTokenizer":
		return "BertTokenizer"
	}
	if _, ok := classSpecs()[name]; ok {
		return name
	}
	if slices.Contains(pythonClasses(), name) {
		return name
	}
	return ""
}

// pythonClasses do not read tokenizer.json at all. A folder that has one all the same is served by it, with a note.
func pythonClasses() []string {
	return []string{
		"BartphoTokenizer",
		"BertGenerationTokenizer",
		"BertJapaneseTokenizer",
		"BertweetTokenizer",
		"BioGptTokenizer",
		"BlenderbotSmallTokenizer",
		"ByT5Tokenizer",
		"CTRLTokenizer",
		"CanineTokenizer",
		"ClvpTokenizer",
		"CpmAntTokenizer",
		"CpmTokenizer",
		"DiaTokenizer",
		"EsmTokenizer",
		"EsmcTokenizer",
		"FSMTTokenizer",
		"FlaubertTokenizer",
		"GPTNeoXJapaneseTokenizer",
		"GPTSw3Tokenizer",
		"M2M100Tokenizer",
		"MarianTokenizer",
		"MgpstrTokenizer",
		"MyT5Tokenizer",
		"PLBartTokenizer",
		"PerceiverTokenizer",
		"PhobertTokenizer",
		"ProphetNetTokenizer",
		"RoCBertTokenizer",
		"RoFormerTokenizer",
		"SeamlessM4TTokenizer",
		"SiglipTokenizer",
		"Speech2TextTokenizer",
		"SpeechT5Tokenizer",
		"TapasTokenizer",
		"VitsTokenizer",
		"Wav2Vec2CTCTokenizer",
		"Wav2Vec2PhonemeCTCTokenizer",
		"XLMTokenizer",
	}
}

// Class is a tokenizer class of transformers that builds parts of its own in place of those of
// tokenizer.json. The vocabulary, merges, added tokens and character map are the file's, and with most
// classes the post-processor.
type Class struct {
	Model       string                                        // BPE, Unigram or WordPiece
	Tokens      map[string]string                             // texts of special tokens by their key, where the configuration names none
	maskLStrip  bool                                          // the mask takes the white space before it along
	MarkSpecial bool                                          // all special tokens are added again as special ones
	Extra       func(c *Config) []string                      // texts of further special tokens, where the configuration lists none
	Build       func(c *ClassConfig, p *ClassParts)           // sets the parts that the class builds
	Post        func(c *ClassConfig) (before, after []string) // texts of the tokens around a text; nil: the file's post-processor decides
	PostIf      PostCondition                                 // when Post counts
	FileAsIs    bool                                          // the class builds nothing, so that only Post and GroupTokens count
	GroupTokens bool                                          // decoding drops padding and tokens that repeat the one before
}

// PostCondition says when a class's post-processor counts.
type PostCondition uint8

// When Class.Post counts.
const (
	PostAlways    PostCondition = iota
	PostIfAbsent                // where the file has none
	PostIfPresent               // where the file has one; else nothing goes around a text
)

// ClassConfig holds the settings that a class reads: the folder's configuration and parts of its tokenizer.json.
type ClassConfig struct {
	*Config
	Class    *Class
	Charsmap json.RawMessage // the file's Precompiled normalizer; nil: there is none
	Vocab    *tokenizerjson.Vocab
}

// text is a special token's text.
func (c *ClassConfig) text(name string) string { return c.TokenText(name, c.Class) }

// ClassParts are the parts that a class builds.
type ClassParts struct {
	Normalizer, PreTokenizer, Decoder any
	Unknown                           string // unk_token of BPE and WordPiece; "" for none
	UnknownID                         int64  // unk_id of Unigram
	Suffix                            string
	FuseUnknown, ByteFallback         bool
	TrimWord                          string // what the class's decode replaces by a space before it trims: CLIP
}

func bertNormalizer(c *ClassConfig, lower, clean bool) tokenizerjson.Object {
	o := tokenizerjson.Object{
		"type": "BertNormalizer", "clean_text": clean, "handle_chinese_chars": c.Bool("tokenize_chinese_chars", true),
		"strip_accents": nil, "lowercase": lower,
	}
	if raw, ok := c.Settings["strip_accents"]; ok {
		o["strip_accents"] = raw
	}
	return o
}

// wordPieceParts is BERT's form of a class.
func wordPieceParts(c *ClassConfig, p *ClassParts) {
	p.Normalizer = bertNormalizer(c, c.Bool("do_lower_case", true), c.Bool("clean_text", true))
	p.PreTokenizer = tokenizerjson.OfType("BertPreTokenizer")
	p.Decoder = tokenizerjson.Object{"type": "WordPiece", "prefix": "##", "cleanup": true}
	p.Unknown = c.text("unk_token")
}

// gpt2Parts is the byte-level form of a class.
func gpt2Parts(prefix bool, normalizer any) func(c *ClassConfig, p *ClassParts) {
	return func(c *ClassConfig, p *ClassParts) {
		p.Normalizer = normalizer
		p.PreTokenizer = tokenizerjson.ByteLevel(c.Bool("add_prefix_space", prefix), true)
		p.Decoder = tokenizerjson.ByteLevel(true, true)
	}
}

// qwenParts is Qwen's form with a pattern of its own.
func qwenParts(pattern string) func(c *ClassConfig, p *ClassParts) {
	return func(c *ClassConfig, p *ClassParts) {
		p.Normalizer = tokenizerjson.OfType("NFC")
		p.PreTokenizer = tokenizerjson.PreTokenizers(
			tokenizerjson.Object{
				"type":     "Split",
				"pattern":  tokenizerjson.Object{"Regex": pattern},
				"behavior": "Isolated",
				"invert":   false,
			},
			tokenizerjson.ByteLevel(c.Bool("add_prefix_space", false), false),
		)
		p.Decoder = tokenizerjson.ByteLevel(true, true)
	}
}

// sentencePieceDecoder writes blanks as spaces and byte tokens as bytes.
func sentencePieceDecoder(strip bool) tokenizerjson.Object {
	steps := []any{tokenizerjson.ReplaceText(vocab.Blank, " "), tokenizerjson.OfType("ByteFallback"), tokenizerjson.OfType("Fuse")}
	if strip {
		steps = append(steps, tokenizerjson.Object{"type": "Strip", "content": " ", "start": 1, "stop": 0})
	}
	return tokenizerjson.Decoders(steps...)
}

// gemmaParts splits nothing and writes spaces as blanks.
func gemmaParts(lower bool) func(c *ClassConfig, p *ClassParts) {
	return func(c *ClassConfig, p *ClassParts) {
		p.Normalizer = tokenizerjson.ReplaceText(" ", vocab.Blank)
		if lower {
			p.Normalizer = tokenizerjson.Normalizers(tokenizerjson.OfType("Lowercase"), p.Normalizer)
		}
		p.PreTokenizer = tokenizerjson.Object{
			"type":     "Split",
			"pattern":  tokenizerjson.Object{"String": " "},
			"behavior": "MergedWithPrevious",
			"invert":   false,
		}
		p.Decoder = sentencePieceDecoder(false)
		p.Unknown, p.FuseUnknown, p.ByteFallback = c.text("unk_token"), true, true
	}
}

// unigramParts cuts at white space (where cut says so) and blanks. id finds the unknown token.
func unigramParts(
	scheme func(c *ClassConfig) string,
	cut bool,
	normalizer func(c *ClassConfig) any,
	id func(c *ClassConfig) int64,
) func(c *ClassConfig, p *ClassParts) {
	return func(c *ClassConfig, p *ClassParts) {
		p.Normalizer = normalizer(c)
		s := scheme(c)
		p.PreTokenizer = tokenizerjson.Metaspace(s, true)
		if cut {
			p.PreTokenizer = tokenizerjson.PreTokenizers(tokenizerjson.OfType("WhitespaceSplit"), p.PreTokenizer)
		}
		p.Decoder = tokenizerjson.Metaspace(s, true)
		p.UnknownID = id(c)
	}
}

func always(*ClassConfig) string { return "always" }

// byPrefix takes add_prefix_space.
func byPrefix(c *ClassConfig) string {
	if c.Bool("add_prefix_space", true) {
		return "always"
	}
	return "never"
}

// byLegacy takes add_prefix_space and legacy.
func byLegacy(c *ClassConfig, legacy bool) string {
	switch {
	case !c.Bool("add_prefix_space", true):
		return "never"
	case c.Bool("legacy", legacy):
		return "always"
	}
	return "first"
}

func fixed(id int64) func(c *ClassConfig) int64 { return func(*ClassConfig) int64 { return id } }

// unknownByText finds the unknown token's text in the vocabulary. zero says that only one with the score 0 counts.
func unknownByText(zero bool, otherwise func(c *ClassConfig) int64) func(c *ClassConfig) int64 {
	return func(c *ClassConfig) int64 {
		text := c.text("unk_token")
		for id, s := range c.Vocab.Texts {
			if s == text && (!zero || c.Vocab.Scores[id] == 0) {
				return int64(id)
			}
		}
		return otherwise(c)
	}
}

// onlyCharsmap is the file's character map, or nothing.
func onlyCharsmap(c *ClassConfig) any {
	if c.Charsmap == nil {
		return nil
	}
	return c.Charsmap
}

// withCharsmap puts steps around the file's character map.
func withCharsmap(before, after []any) func(c *ClassConfig) any {
	return func(c *ClassConfig) any {
		steps := slices.Clone(before)
		if c.Charsmap != nil {
			steps = append(steps, c.Charsmap)
		}
		return tokenizerjson.Normalizers(append(steps, after...)...)
	}
}

func quotes() []any {
	return []any{tokenizerjson.ReplaceText("``", `"`), tokenizerjson.ReplaceText("''", `"`)}
}

// albertNormalizer is Albert's and XLNet's.
func albertNormalizer(keepAccents bool, lower bool) func(c *ClassConfig) any {
	return func(c *ClassConfig) any {
		steps := quotes()
		if keepAccents || !c.Bool("keep_accents", false) {
			steps = append(steps, tokenizerjson.OfType("NFKD"), tokenizerjson.OfType("StripAccents"))
		}
		if c.Bool("do_lower_case", lower) {
			steps = append(steps, tokenizerjson.OfType("Lowercase"))
		}
		return withCharsmap(steps, nil)(c)
	}
}

// around names the tokens that go around a text by their keys.
func around(before, after []string) func(c *ClassConfig) ([]string, []string) {
	texts := func(c *ClassConfig, keys []string) []string {
		var out []string
		for _, k := range keys {
			if strings.HasSuffix(k, "_token") {
				k = c.text(k)
			}
			out = append(out, k)
		}
		return out
	}
	return func(c *ClassConfig) ([]string, []string) { return texts(c, before), texts(c, after) }
}

func bertAround() func(c *ClassConfig) ([]string, []string) {
	return around([]string{"cls_token"}, []string{"sep_token"})
}

func eosAfter() func(c *ClassConfig) ([]string, []string) {
	return around(nil, []string{"eos_token"})
}

func nothingAround(*ClassConfig) ([]string, []string) { return nil, nil }

func named(pairs ...string) map[string]string {
	m := map[string]string{}
	for i := 0; i < len(pairs); i += 2 {
		m[pairs[i]+"_token"] = pairs[i+1]
	}
	return m
}

func robertaTokens() map[string]string {
	return named("bos", "<s>", "eos", "</s>", "sep", "</s>", "cls", "<s>", "unk", "<unk>", "pad", "<pad>", "mask", "<mask>")
}

func bertTokens() map[string]string {
	return named("unk", "[UNK]", "sep", "[SEP]", "pad", "[PAD]", "cls", "[CLS]", "mask", "[MASK]")
}

func endOfText() map[string]string {
	return named("unk", "<|endoftext|>", "bos", "<|endoftext|>", "eos", "<|endoftext|>")
}

// Sentinels are T5's <extra_id_0> and on.
func Sentinels(c *Config) []string {
	var out []string
	for i := range min(max(c.Int("extra_ids", 100), 0), 4096) {
		out = append(out, fmt.Sprintf("<extra_id_%d>", i))
	}
	return out
}

func numbered(format string, from, to int64) []string {
	var out []string
	for i := from; i < to; i++ {
		out = append(out, fmt.Sprintf(format, i))
	}
	return out
}
