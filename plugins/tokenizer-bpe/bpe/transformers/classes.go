package transformers

import (
	"edged/plugins/tokenizer-bpe/bpe/split"
	"edged/plugins/tokenizer-bpe/bpe/tokenizerjson"
	"edged/plugins/tokenizer-bpe/bpe/vocab"
)

// clipPattern and nougatPattern are the patterns of the classes of those names.
const (
	clipPattern   = `<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+`
	nougatPattern = "[\\(\\)\\[\\]\\{\\}]|([!\\\"#\\$%\\&'\\*\\+,\\-\\./:;<=>\\?\\\\\\^_`\\|\\~])\\1*"
)

// ClassByName is the class of a name; nil for those that only take a tokenizer.json as it is, and for those
// that do not read it.
func ClassByName(name string) *Class { return classSpecs()[name] }

// classSpecs are the classes of transformers 5.24.0 that build a tokenizer of their own. Source: the constructors in
// models/*/tokenization_*.py.
func classSpecs() map[string]*Class {
	llama := func(c *ClassConfig, p *ClassParts) {
		p.PreTokenizer = tokenizerjson.Metaspace(byLegacy(c, false), false)
		p.Decoder = sentencePieceDecoder(c.Bool("add_prefix_space", true))
		p.FuseUnknown, p.ByteFallback = true, true
	}
	roberta := func(prefix bool) *Class {
		return &Class{Model: "BPE", Tokens: robertaTokens(), Build: gpt2Parts(prefix, nil), Post: bertAround()}
	}
	bert := func() *Class {
		return &Class{Model: "WordPiece", Tokens: bertTokens(), Build: wordPieceParts, Post: bertAround()}
	}
	spaces := []any{tokenizerjson.ReplacePattern(` {2,}`, " ")}
	cleaned := func(*ClassConfig) any {
		return tokenizerjson.Normalizers(
			tokenizerjson.ReplacePattern(`\s{2,}|[\n\r\t]`, " "),
			tokenizerjson.OfType("NFC"),
			tokenizerjson.StripEnds(false, true),
		)
	}
	xlmRoberta := func(id func(c *ClassConfig) int64) func(c *ClassConfig, p *ClassParts) {
		return unigramParts(byPrefix, true, onlyCharsmap, id)
	}
	t5Tokens := named("eos", "</s>", "unk", "<unk>", "pad", "<pad>")
	return map[string]*Class{
		"LlamaTokenizer": {Model: "BPE", Tokens: named("unk", "<unk>", "bos", "<s>", "eos", "</s>"), Build: llama},
		"CodeLlamaTokenizer": {
			Model:  "BPE",
			Tokens: named("unk", "<unk>", "bos", "<s>", "eos", "</s>"),
			Extra: func(*Config) []string {
				return []string{"▁<PRE>", "▁<MID>", "▁<SUF>", "▁<EOT>", "<FILL_ME>"}
			},
			Build: func(c *ClassConfig, p *ClassParts) {
				scheme := "never"
				if c.Bool("add_prefix_space", true) {
					scheme = "first"
				}
				p.PreTokenizer, p.Decoder = tokenizerjson.Metaspace(scheme, false), sentencePieceDecoder(true)
				p.Unknown, p.FuseUnknown, p.ByteFallback = c.text("unk_token"), true, true
			},
			Post: around([]string{"bos_token"}, nil),
		},
		"GemmaTokenizer": {
			Model:  "BPE",
			Tokens: named("unk", "<unk>", "bos", "<bos>", "eos", "<eos>", "pad", "<pad>", "mask", "<mask>"),
			Build:  gemmaParts(false),
		},
		"Siglip2Tokenizer": {
			Model:  "BPE",
			Tokens: named("unk", "<unk>", "bos", "<bos>", "eos", "<eos>", "pad", "<pad>", "mask", "<mask>"),
			Build:  gemmaParts(true),
		},
		"Qwen2Tokenizer": {
			Model: "BPE", Tokens: named("unk", "<|endoftext|>", "eos", "<|endoftext|>", "pad", "<|endoftext|>"),
			Build: qwenParts(split.PatternQwen2), MarkSpecial: true,
		},
		"Qwen3_5Tokenizer": {
			Model: "BPE", Tokens: named("unk", "<|endoftext|>", "eos", "<|endoftext|>", "pad", "<|endoftext|>"),
			Build: qwenParts(split.PatternQwen35),
		},
		"GPT2Tokenizer":    {Model: "BPE", Tokens: endOfText(), Build: gpt2Parts(false, nil)},
		"CodeGenTokenizer": {Model: "BPE", Tokens: endOfText(), Build: gpt2Parts(false, nil)},
		"GPTNeoXTokenizer": {
			Model: "BPE", Tokens: named("unk", "<|endoftext|>", "bos", "<|endoftext|>", "eos", "<|endoftext|>", "pad", "<|padding|>"),
			Build: gpt2Parts(false, tokenizerjson.OfType("NFC")), Post: nothingAround,
		},
		"CohereTokenizer": {
			Model: "BPE",
			Tokens: named(
				"unk",
				"<UNK>",
				"bos",
				"<BOS_TOKEN>",
				"eos",
				"<|END_OF_TURN_TOKEN|>",
				"pad",
				"<PAD>",
				"cls",
				"<CLS>",
				"sep",
				"<SEP>",
				"mask",
				"<MASK_TOKEN>",
			),
			Build: func(c *ClassConfig, p *ClassParts) {
				gpt2Parts(false, tokenizerjson.OfType("NFC"))(c, p)
				p.PreTokenizer = tokenizerjson.PreTokenizers(
					tokenizerjson.Object{"type": "Digits", "individual_digits": true},
					p.PreTokenizer,
				)
			},
			MarkSpecial: true,
		},
		"RobertaTokenizer":    roberta(false),
		"LayoutLMv3Tokenizer": roberta(true),
		"LukeTokenizer":       roberta(false),
		"BlenderbotTokenizer": {Model: "BPE", Tokens: robertaTokens(), maskLStrip: true, Build: gpt2Parts(true, nil)},
		"MarkupLMTokenizer":   {Model: "BPE", Tokens: robertaTokens(), maskLStrip: true, Build: gpt2Parts(false, nil), Post: bertAround()},
		"DebertaTokenizer": {
			Model: "BPE",
			Tokens: named(
				"bos",
				"[CLS]",
				"eos",
				"[SEP]",
				"sep",
				"[SEP]",
				"cls",
				"[CLS]",
				"unk",
				"[UNK]",
				"pad",
				"[PAD]",
				"mask",
				"[MASK]",
			),
			maskLStrip: true,
			Build:      gpt2Parts(false, nil),
			Post:       bertAround(),
		},
		"WhisperTokenizer": {
			Model: "BPE", Tokens: endOfText(), Build: gpt2Parts(false, nil),
			Post: func(c *ClassConfig) ([]string, []string) {
				before := []string{"<|startoftranscript|>"}
				if !c.Bool("predict_timestamps", false) {
					before = append(before, "<|notimestamps|>")
				}
				return before, []string{c.text("eos_token")}
			},
		},
		"CLIPTokenizer": {
			Model: "BPE", Tokens: named("unk", "<|endoftext|>", "bos", "<|startoftext|>", "eos", "<|endoftext|>", "pad", "<|endoftext|>"),
			Build: func(c *ClassConfig, p *ClassParts) {
				p.Normalizer = tokenizerjson.Normalizers(
					tokenizerjson.OfType("NFC"),
					tokenizerjson.ReplacePattern(`\s+`, " "),
					tokenizerjson.OfType("Lowercase"),
				)
				p.PreTokenizer = tokenizerjson.PreTokenizers(
					tokenizerjson.Object{
						"type":     "Split",
						"pattern":  tokenizerjson.Object{"Regex": clipPattern},
						"behavior": "Removed",
						"invert":   true,
					},
					tokenizerjson.ByteLevel(false, true),
				)
				p.Decoder = tokenizerjson.ByteLevel(true, true)
				p.Suffix, p.Unknown, p.TrimWord = "</w>", c.text("unk_token"), "</w>"
			},
			Post: around([]string{"bos_token"}, []string{"eos_token"}),
		},
		"NougatTokenizer": {
			Model: "BPE", Tokens: named("unk", "<unk>", "bos", "<s>", "eos", "</s>", "pad", "<pad>"),
			Build: func(c *ClassConfig, p *ClassParts) {
				isolated := func(pattern string) tokenizerjson.Object {
					return tokenizerjson.Object{
						"type":     "Split",
						"pattern":  tokenizerjson.Object{"String": pattern},
						"behavior": "Isolated",
						"invert":   false,
					}
				}
				p.Normalizer = tokenizerjson.OfType("NFKC")
				p.PreTokenizer = tokenizerjson.PreTokenizers(
					tokenizerjson.Object{
						"type":     "Split",
						"pattern":  tokenizerjson.Object{"String": "SPL1T-TH1S-Pl3A5E"},
						"behavior": "Removed",
						"invert":   false,
					},
					tokenizerjson.Object{
						"type":              "Digits",
						"individual_digits": true,
					},
					isolated(nougatPattern),
					isolated("\n"),
					tokenizerjson.ByteLevel(false, true),
				)
				p.Decoder = tokenizerjson.ByteLevel(true, true)
			},
			Post: around([]string{"bos_token"}, []string{"eos_token"}),
		},
		"BertTokenizer":       bert(),
		"LayoutLMv2Tokenizer": bert(),
		"SplinterTokenizer":   {Model: "WordPiece", Tokens: bertTokens(), Build: wordPieceParts, Post: bertAround()},
		"ConvBertTokenizer":   {Model: "WordPiece", Tokens: bertTokens(), FileAsIs: true, Post: bertAround()},
		"ParakeetTokenizer":   {FileAsIs: true, GroupTokens: true},
		"FunnelTokenizer": {
			Model: "WordPiece", Build: wordPieceParts, Post: bertAround(),
			Tokens: named("unk", "<unk>", "sep", "<sep>", "pad", "<pad>", "cls", "<cls>", "mask", "<mask>", "bos", "<s>", "eos", "</s>"),
		},
		"MPNetTokenizer": {
			Model: "WordPiece", maskLStrip: true, Build: wordPieceParts, Post: bertAround(),
			Tokens: named("bos", "<s>", "eos", "</s>", "sep", "</s>", "cls", "<s>", "unk", "[UNK]", "pad", "<pad>", "mask", "<mask>"),
		},
		"OpenAIGPTTokenizer": {
			Model: "BPE", Tokens: named("unk", "<unk>"),
			Build: func(c *ClassConfig, p *ClassParts) {
				p.Normalizer = tokenizerjson.Object{
					"type":                 "BertNormalizer",
					"clean_text":           true,
					"handle_chinese_chars": true,
					"strip_accents":        nil,
					"lowercase":            true,
				}
				p.PreTokenizer, p.Decoder = tokenizerjson.OfType(
					"BertPreTokenizer",
				), tokenizerjson.Object{
					"type":   "BPEDecoder",
					"suffix": "</w>",
				}
				p.Suffix, p.Unknown = "</w>", c.text("unk_token")
			},
		},
		"HerbertTokenizer": {
			Model: "BPE", Tokens: named("cls", "<s>", "unk", "<unk>", "pad", "<pad>", "mask", "<mask>", "sep", "</s>"),
			Build: func(c *ClassConfig, p *ClassParts) {
				p.Normalizer = tokenizerjson.Object{
					"type":                 "BertNormalizer",
					"clean_text":           true,
					"handle_chinese_chars": true,
					"strip_accents":        false,
					"lowercase":            false,
				}
				p.PreTokenizer, p.Decoder = tokenizerjson.OfType(
					"BertPreTokenizer",
				), tokenizerjson.Object{
					"type":   "BPEDecoder",
					"suffix": "</w>",
				}
				p.Suffix, p.Unknown = "</w>", c.text("unk_token")
			},
			Post: bertAround(),
		},
		"T5Tokenizer": {
			Model:  "Unigram",
			Tokens: t5Tokens,
			Extra:  Sentinels,
			Build:  unigramParts(always, true, onlyCharsmap, fixed(2)),
			Post:   eosAfter(),
		},
		"VideoPrismTokenizer": {
			Model:  "Unigram",
			Tokens: t5Tokens,
			Extra:  Sentinels,
			Build:  unigramParts(always, true, onlyCharsmap, fixed(2)),
		},
		"LasrTokenizer": {
			Model:       "Unigram",
			Tokens:      t5Tokens,
			Extra:       Sentinels,
			Build:       unigramParts(always, true, onlyCharsmap, fixed(3)),
			Post:        eosAfter(),
			GroupTokens: true,
		},
		"UdopTokenizer": {
			Model: "Unigram", Tokens: named("eos", "</s>", "sep", "</s>", "unk", "<unk>", "pad", "<pad>"),
			Build: unigramParts(always, true, func(*ClassConfig) any { return nil }, unknownByText(false, fixed(2))), Post: eosAfter(),
		},
		"XLMRobertaTokenizer": {
			Model:  "Unigram",
			Tokens: robertaTokens(),
			Build:  xlmRoberta(fixed(3)),
			Post:   around([]string{"bos_token"}, []string{"eos_token"}),
		},
		"CamembertTokenizer": {
			Model: "Unigram", Tokens: robertaTokens(), maskLStrip: true,
			Extra: func(*Config) []string { return []string{"<s>NOTUSED", "</s>NOTUSED", "<unk>NOTUSED"} },
			Build: xlmRoberta(unknownByText(false, fixed(0))), Post: around([]string{"bos_token"}, []string{"eos_token"}),
		},
		"AlbertTokenizer": {
			Model:  "Unigram",
			Tokens: named("bos", "[CLS]", "eos", "[SEP]", "unk", "<unk>", "sep", "[SEP]", "pad", "<pad>", "cls", "[CLS]", "mask", "[MASK]"),
			Build:  unigramParts(byPrefix, true, albertNormalizer(false, true), fixed(1)),
			Post:   bertAround(),
			PostIf: PostIfAbsent,
		},
		"XLNetTokenizer": {
			Model: "Unigram", maskLStrip: true,
			Tokens: named("bos", "<s>", "eos", "</s>", "unk", "<unk>", "sep", "<sep>", "pad", "<pad>", "cls", "<cls>", "mask", "<mask>"),
			Extra:  func(*Config) []string { return []string{"<eop>", "<eod>"} },
			Build: unigramParts(func(c *ClassConfig) string { return "always" }, true, albertNormalizer(true, false),
				func(c *ClassConfig) int64 { return c.Int("unk_id", 0) }),
			Post: around(nil, []string{"sep_token", "cls_token"}),
		},
		"RemBertTokenizer": {
			Model: "Unigram",
			Tokens: named(
				"bos",
				"[CLS]",
				"eos",
				"[SEP]",
				"unk",
				"<unk>",
				"sep",
				"[SEP]",
				"pad",
				"<pad>",
				"cls",
				"[CLS]",
				"mask",
				"[MASK]",
			),
			MarkSpecial: true,
			Post:        bertAround(),
			PostIf:      PostIfPresent,
			Build: unigramParts(byPrefix, false, func(c *ClassConfig) any {
				steps := append(quotes(), spaces...)
				if !c.Bool("keep_accents", true) {
					steps = append(steps, tokenizerjson.OfType("NFKD"), tokenizerjson.OfType("StripAccents"))
				}
				if c.Bool("do_lower_case", false) {
					steps = append(steps, tokenizerjson.OfType("Lowercase"))
				}
				return withCharsmap(steps, nil)(c)
			}, fixed(2)),
		},
		"MBartTokenizer": {
			Model: "Unigram", Tokens: robertaTokens(), maskLStrip: true,
			Build: unigramParts(always, true, func(*ClassConfig) any { return nil }, fixed(3)),
			Post: func(c *ClassConfig) ([]string, []string) {
				return nil, []string{c.text("eos_token"), c.String("src_lang", "en_XX")}
			},
		},
		"MBart50Tokenizer": {
			Model:      "Unigram",
			Tokens:     named("eos", "</s>", "sep", "</s>", "cls", "<s>", "unk", "<unk>", "pad", "<pad>", "mask", "<mask>"),
			maskLStrip: true,
			Build:      unigramParts(always, false, withCharsmap(nil, spaces), fixed(3)),
			Post: func(c *ClassConfig) ([]string, []string) {
				return []string{c.String("src_lang", "en_XX")}, []string{c.text("eos_token")}
			},
		},
		"NllbTokenizer": {
			Model: "BPE", Tokens: robertaTokens(), maskLStrip: true,
			Build: func(c *ClassConfig, p *ClassParts) {
				if c.Charsmap != nil {
					p.Normalizer = withCharsmap(nil, spaces)(c)
				}
				p.PreTokenizer, p.Decoder = tokenizerjson.Metaspace("always", true), tokenizerjson.Metaspace("always", true)
				p.Unknown, p.FuseUnknown = c.text("unk_token"), true
			},
			Post: func(c *ClassConfig) ([]string, []string) {
				lang := c.String("src_lang", "eng_Latn")
				if c.Bool("legacy_behaviour", false) {
					return nil, []string{c.text("eos_token"), lang}
				}
				return []string{lang}, []string{c.text("eos_token")}
			},
		},
		"ReformerTokenizer": {
			Model: "BPE", Tokens: named("eos", "</s>", "unk", "<unk>"), MarkSpecial: true,
			Build: func(c *ClassConfig, p *ClassParts) {
				if c.Charsmap != nil {
					p.Normalizer = withCharsmap(nil, spaces)(c)
				}
				p.PreTokenizer, p.Decoder = tokenizerjson.Metaspace("always", true), tokenizerjson.Metaspace("always", true)
				p.Unknown, p.FuseUnknown = c.text("unk_token"), true
			},
		},
		"Tipsv2Tokenizer": {
			Model: "BPE", Tokens: named("unk", "<unk>", "pad", "<pad>"),
			Build: func(c *ClassConfig, p *ClassParts) {
				var lower []any
				if c.Bool("do_lower_case", true) {
					lower = append(lower, tokenizerjson.OfType("Lowercase"))
				}
				p.Normalizer = withCharsmap(lower, nil)(c)
				p.PreTokenizer = tokenizerjson.PreTokenizers(
					tokenizerjson.OfType("WhitespaceSplit"),
					tokenizerjson.Metaspace("always", true),
				)
				p.Decoder = tokenizerjson.Decoders(
					tokenizerjson.Metaspace("always", true),
					tokenizerjson.OfType("ByteFallback"),
					tokenizerjson.OfType("Fuse"),
				)
				p.FuseUnknown, p.ByteFallback = true, true
			},
		},
		"PegasusTokenizer": {
			Model: "Unigram", Tokens: named("pad", "<pad>", "eos", "</s>", "unk", "<unk>", "mask", "<mask_2>"),
			Extra: func(c *Config) []string {
				return append(
					[]string{c.String("mask_token_sent", "<mask_1>")},
					numbered("<unk_%d>", 2, min(c.Int("offset", 103), 4096))...)
			},
			Build: unigramParts(always, false, func(c *ClassConfig) any {
				if c.Charsmap == nil {
					return tokenizerjson.Normalizers(tokenizerjson.ReplacePattern(`\n`, " "), spaces[0])
				}
				return withCharsmap(nil, spaces)(c)
			}, unknownByText(true, fixed(-1))),
			Post: eosAfter(),
		},
		"BarthezTokenizer": {
			Model:      "Unigram",
			Tokens:     robertaTokens(),
			maskLStrip: true,
			Build:      unigramParts(byPrefix, false, cleaned, fixed(3)),
		},
		"BigBirdTokenizer": {
			Model: "Unigram", maskLStrip: true, Post: bertAround(),
			Tokens: named("unk", "<unk>", "bos", "<s>", "eos", "</s>", "pad", "<pad>", "sep", "[SEP]", "mask", "[MASK]", "cls", "[CLS]"),
			Build: unigramParts(byPrefix, false, func(*ClassConfig) any {
				return tokenizerjson.Normalizers(tokenizerjson.StripEnds(false, false), tokenizerjson.ReplacePattern(` {2,}`, vocab.Blank))
			}, unknownByText(true, fixed(100))),
		},
		"DebertaV2Tokenizer": {
			Model: "Unigram", Post: bertAround(),
			Tokens: named("bos", "[CLS]", "eos", "[SEP]", "unk", "[UNK]", "sep", "[SEP]", "pad", "[PAD]", "cls", "[CLS]", "mask", "[MASK]"),
			Build: func(c *ClassConfig, p *ClassParts) {
				unigramParts(func(c *ClassConfig) string {
					if c.Bool("add_prefix_space", true) {
						return "always"
					}
					return "first"
				}, false, func(c *ClassConfig) any {
					steps := []any{}
					if c.Bool("do_lower_case", false) {
						steps = append(steps, tokenizerjson.OfType("Lowercase"))
					}
					return tokenizerjson.Normalizers(append(steps, cleaned(c))...)
				}, unknownByText(true, func(c *ClassConfig) int64 { return c.Int("unk_id", 1) }))(c, p)
				if c.Bool("split_by_punct", false) {
					p.PreTokenizer = tokenizerjson.PreTokenizers(
						tokenizerjson.Object{"type": "Punctuation", "behavior": "Isolated"},
						p.PreTokenizer,
					)
				}
			},
		},
		"LayoutXLMTokenizer": {
			Model: "Unigram", Tokens: robertaTokens(), maskLStrip: true, Post: bertAround(),
			Build: unigramParts(func(c *ClassConfig) string { return byLegacy(c, true) }, false, func(*ClassConfig) any {
				return tokenizerjson.Normalizers(tokenizerjson.StripEnds(false, true), tokenizerjson.ReplacePattern(` {2,}`, vocab.Blank))
			}, fixed(3)),
		},
		"MLukeTokenizer": {
			Model: "Unigram", Tokens: robertaTokens(), maskLStrip: true, MarkSpecial: true, Post: bertAround(),
			Build: unigramParts(always, false, func(*ClassConfig) any { return tokenizerjson.Normalizers(quotes()...) }, fixed(0)),
		},
		"XGLMTokenizer": {
			Model: "Unigram", Tokens: named("bos", "<s>", "eos", "</s>", "sep", "</s>", "cls", "<s>", "unk", "<unk>", "pad", "<pad>"),
			Extra: func(*Config) []string { return numbered("<madeupword%d>", 0, 7) },
			Build: unigramParts(byPrefix, false, withCharsmap(nil, spaces), fixed(3)),
			Post:  around([]string{"eos_token"}, nil),
		},
	}
}
