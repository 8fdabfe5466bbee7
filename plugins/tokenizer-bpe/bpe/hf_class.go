package bpe

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// pickClass says which class transformers 5.24 loads for a folder: "" for the one that takes tokenizer.json as it is.
// byteLevel says that tokenizer.json mentions ByteLevel.
func (c *folderConfig) pickClass(byteLevel bool) string {
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

// familyClass is the class that stands for a family.
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

// knownClass resolves the names that are another class's, and drops those that stand for the file.
func knownClass(name string) string {
	switch name {
	case "BartTokenizer", "LEDTokenizer", "MvpTokenizer":
		return "RobertaTokenizer"
	case "LxmertTokenizer", "MobileBertTokenizer", "SqueezeBertTokenizer", "DistilBertTokenizer", "DPRContextEncoderTokenizer", "DPRQuestionEncoderTokenizer", "DPRReaderTokenizer":
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

// pythonClasses do not read tokenizer.json at all: where it is there all the same, it is taken as it is, and a note says
// so.
func pythonClasses() []string {
	return []string{
		"BartphoTokenizer", "BertGenerationTokenizer", "BertJapaneseTokenizer", "BertweetTokenizer", "BioGptTokenizer", "BlenderbotSmallTokenizer",
		"ByT5Tokenizer", "CTRLTokenizer", "CanineTokenizer", "ClvpTokenizer", "CpmAntTokenizer", "CpmTokenizer", "DiaTokenizer", "EsmTokenizer",
		"EsmcTokenizer", "FSMTTokenizer", "FlaubertTokenizer", "GPTNeoXJapaneseTokenizer", "GPTSw3Tokenizer", "M2M100Tokenizer", "MarianTokenizer",
		"MgpstrTokenizer", "MyT5Tokenizer", "PLBartTokenizer", "PerceiverTokenizer", "PhobertTokenizer", "ProphetNetTokenizer", "RoCBertTokenizer",
		"RoFormerTokenizer", "SeamlessM4TTokenizer", "SiglipTokenizer", "Speech2TextTokenizer", "SpeechT5Tokenizer", "TapasTokenizer", "VitsTokenizer",
		"Wav2Vec2CTCTokenizer", "Wav2Vec2PhonemeCTCTokenizer", "XLMTokenizer",
	}
}

// classSpec is what a class of transformers builds in place of what tokenizer.json says: it keeps the file's vocabulary,
// merges, added tokens, character map and, mostly, post-processor.
type classSpec struct {
	model          string            // BPE, Unigram or WordPiece
	tokens         map[string]string // special tokens where the configuration names none
	maskTakesSpace bool              // the mask takes the white space before it along
	markAll        bool              // special tokens are marked as such again
	extra          func(c *folderConfig) []string
	build          func(c *classConfig, p *hfParts)
	post           func(c *classConfig) (before, after []string) // token texts; nil: the file's
	postIf         postCondition
	keepsFile      bool // the class takes the file as it is, and sets the post-processor only
	grouped        bool // decoding drops padding and tokens that repeat the one before
}

// postCondition says when a class's post-processor counts.
type postCondition uint8

const (
	postAlways   postCondition = iota
	postIfSilent               // where the file has none
	postIfGiven                // where the file has one; else nothing goes around a text
)

// classConfig is what a class sees.
type classConfig struct {
	*folderConfig
	spec     *classSpec
	charsmap json.RawMessage // the file's Precompiled normalizer; nil: there is none
	vocab    *hfVocab
}

// text is a special token's text.
func (c *classConfig) text(name string) string { return c.tokenText(name, c.spec) }

// hfParts are the parts that a class builds.
type hfParts struct {
	normalizer, pre, decoder any
	unknown                  string // unk_token of BPE and WordPiece; "" for none
	unknownID                int64  // unk_id of Unigram
	suffix                   string
	fuse, fallback           bool
	trimWord                 string // what the class's decode replaces by a space before it trims: CLIP
}

type object = map[string]any

func metaspace(scheme string, cut bool) object {
	return object{"type": "Metaspace", "replacement": blank, "prepend_scheme": scheme, "split": cut}
}

func byteLevel(prefix, pattern bool) object {
	return object{"type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": true, "use_regex": pattern}
}

func replaceText(old, by string) object {
	return object{"type": "Replace", "pattern": object{"String": old}, "content": by}
}

func replacePattern(old, by string) object {
	return object{"type": "Replace", "pattern": object{"Regex": old}, "content": by}
}

func ofType(kind string) object { return object{"type": kind} }

func stripEnds(left, right bool) object {
	return object{"type": "Strip", "strip_left": left, "strip_right": right}
}

func normalizers(parts ...any) object { return object{"type": "Sequence", "normalizers": parts} }

func preTokenizers(parts ...any) object { return object{"type": "Sequence", "pretokenizers": parts} }

func decoders(parts ...any) object { return object{"type": "Sequence", "decoders": parts} }

func bertNormalizer(c *classConfig, lower, clean bool) object {
	o := object{
		"type": "BertNormalizer", "clean_text": clean, "handle_chinese_chars": c.flag("tokenize_chinese_chars", true),
		"strip_accents": nil, "lowercase": lower,
	}
	if raw, ok := c.settings["strip_accents"]; ok {
		o["strip_accents"] = raw
	}
	return o
}

// wordPieceParts is BERT's form of a class.
func wordPieceParts(c *classConfig, p *hfParts) {
	p.normalizer = bertNormalizer(c, c.flag("do_lower_case", true), c.flag("clean_text", true))
	p.pre = ofType("BertPreTokenizer")
	p.decoder = object{"type": "WordPiece", "prefix": "##", "cleanup": true}
	p.unknown = c.text("unk_token")
}

// gpt2Parts is the byte-level form of a class.
func gpt2Parts(prefix bool, normalizer any) func(c *classConfig, p *hfParts) {
	return func(c *classConfig, p *hfParts) {
		p.normalizer = normalizer
		p.pre = byteLevel(c.flag("add_prefix_space", prefix), true)
		p.decoder = byteLevel(true, true)
	}
}

// qwenParts is Qwen's form with a pattern of its own.
func qwenParts(pattern string) func(c *classConfig, p *hfParts) {
	return func(c *classConfig, p *hfParts) {
		p.normalizer = ofType("NFC")
		p.pre = preTokenizers(
			object{"type": "Split", "pattern": object{"Regex": pattern}, "behavior": "Isolated", "invert": false},
			byteLevel(c.flag("add_prefix_space", false), false),
		)
		p.decoder = byteLevel(true, true)
	}
}

// sentencePieceDecoder writes blanks as spaces and byte tokens as bytes.
func sentencePieceDecoder(strip bool) object {
	steps := []any{replaceText(blank, " "), ofType("ByteFallback"), ofType("Fuse")}
	if strip {
		steps = append(steps, object{"type": "Strip", "content": " ", "start": 1, "stop": 0})
	}
	return decoders(steps...)
}

// gemmaParts splits nothing and writes spaces as blanks.
func gemmaParts(lower bool) func(c *classConfig, p *hfParts) {
	return func(c *classConfig, p *hfParts) {
		p.normalizer = replaceText(" ", blank)
		if lower {
			p.normalizer = normalizers(ofType("Lowercase"), p.normalizer)
		}
		p.pre = object{"type": "Split", "pattern": object{"String": " "}, "behavior": "MergedWithPrevious", "invert": false}
		p.decoder = sentencePieceDecoder(false)
		p.unknown, p.fuse, p.fallback = c.text("unk_token"), true, true
	}
}

// unigramParts cuts at white space (where cut says so) and blanks. id finds the unknown token.
func unigramParts(scheme func(c *classConfig) string, cut bool, normalizer func(c *classConfig) any, id func(c *classConfig) int64) func(c *classConfig, p *hfParts) {
	return func(c *classConfig, p *hfParts) {
		p.normalizer = normalizer(c)
		s := scheme(c)
		p.pre = metaspace(s, true)
		if cut {
			p.pre = preTokenizers(ofType("WhitespaceSplit"), p.pre)
		}
		p.decoder = metaspace(s, true)
		p.unknownID = id(c)
	}
}

func always(*classConfig) string { return "always" }

// byPrefix takes add_prefix_space.
func byPrefix(c *classConfig) string {
	if c.flag("add_prefix_space", true) {
		return "always"
	}
	return "never"
}

// byLegacy takes add_prefix_space and legacy.
func byLegacy(c *classConfig, legacy bool) string {
	switch {
	case !c.flag("add_prefix_space", true):
		return "never"
	case c.flag("legacy", legacy):
		return "always"
	}
	return "first"
}

func fixed(id int64) func(c *classConfig) int64 { return func(*classConfig) int64 { return id } }

// unknownByText finds the unknown token's text in the vocabulary. zero says that only one with the score 0 counts.
func unknownByText(zero bool, otherwise func(c *classConfig) int64) func(c *classConfig) int64 {
	return func(c *classConfig) int64 {
		text := c.text("unk_token")
		for id, s := range c.vocab.text {
			if s == text && (!zero || c.vocab.score[id] == 0) {
				return int64(id)
			}
		}
		return otherwise(c)
	}
}

// onlyCharsmap is the file's character map, or nothing.
func onlyCharsmap(c *classConfig) any {
	if c.charsmap == nil {
		return nil
	}
	return c.charsmap
}

// withCharsmap puts steps around the file's character map.
func withCharsmap(before, after []any) func(c *classConfig) any {
	return func(c *classConfig) any {
		steps := slices.Clone(before)
		if c.charsmap != nil {
			steps = append(steps, c.charsmap)
		}
		return normalizers(append(steps, after...)...)
	}
}

func quotes() []any { return []any{replaceText("``", `"`), replaceText("''", `"`)} }

// albertNormalizer is Albert's and XLNet's.
func albertNormalizer(keepAccents bool, lower bool) func(c *classConfig) any {
	return func(c *classConfig) any {
		steps := quotes()
		if keepAccents || !c.flag("keep_accents", false) {
			steps = append(steps, ofType("NFKD"), ofType("StripAccents"))
		}
		if c.flag("do_lower_case", lower) {
			steps = append(steps, ofType("Lowercase"))
		}
		return withCharsmap(steps, nil)(c)
	}
}

// around names the tokens that go around a text by their keys.
func around(before, after []string) func(c *classConfig) ([]string, []string) {
	texts := func(c *classConfig, keys []string) []string {
		var out []string
		for _, k := range keys {
			if strings.HasSuffix(k, "_token") {
				k = c.text(k)
			}
			out = append(out, k)
		}
		return out
	}
	return func(c *classConfig) ([]string, []string) { return texts(c, before), texts(c, after) }
}

func bertAround() func(c *classConfig) ([]string, []string) {
	return around([]string{"cls_token"}, []string{"sep_token"})
}

func eosAfter() func(c *classConfig) ([]string, []string) {
	return around(nil, []string{"eos_token"})
}

func nothingAround(*classConfig) ([]string, []string) { return nil, nil }

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

// sentinels are T5's <extra_id_0> and on.
func sentinels(c *folderConfig) []string {
	var out []string
	for i := range min(max(c.number("extra_ids", 100), 0), 4096) {
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
