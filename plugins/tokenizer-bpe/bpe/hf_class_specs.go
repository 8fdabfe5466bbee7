package bpe

import "edged/plugins/tokenizer-bpe/bpe/split"

// clipPattern and nougatPattern are the patterns of the classes of those names.
const (
	clipPattern   = `<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+`
	nougatPattern = "[\\(\\)\\[\\]\\{\\}]|([!\\\"#\\$%\\&'\\*\\+,\\-\\./:;<=>\\?\\\\\\^_`\\|\\~])\\1*"
)

// classSpecs are the classes of transformers 5.24.0 that build a tokenizer of their own. Source: the constructors in
// models/*/tokenization_*.py.
func classSpecs() map[string]*classSpec {
	llama := func(c *classConfig, p *hfParts) {
		p.pre = metaspace(byLegacy(c, false), false)
		p.decoder = sentencePieceDecoder(c.flag("add_prefix_space", true))
		p.fuse, p.fallback = true, true
	}
	roberta := func(prefix bool) *classSpec {
		return &classSpec{model: "BPE", tokens: robertaTokens(), build: gpt2Parts(prefix, nil), post: bertAround()}
	}
	bert := func() *classSpec {
		return &classSpec{model: "WordPiece", tokens: bertTokens(), build: wordPieceParts, post: bertAround()}
	}
	spaces := []any{replacePattern(` {2,}`, " ")}
	cleaned := func(*classConfig) any {
		return normalizers(replacePattern(`\s{2,}|[\n\r\t]`, " "), ofType("NFC"), stripEnds(false, true))
	}
	xlmRoberta := func(id func(c *classConfig) int64) func(c *classConfig, p *hfParts) {
		return unigramParts(byPrefix, true, onlyCharsmap, id)
	}
	t5Tokens := named("eos", "</s>", "unk", "<unk>", "pad", "<pad>")
	return map[string]*classSpec{
		"LlamaTokenizer": {model: "BPE", tokens: named("unk", "<unk>", "bos", "<s>", "eos", "</s>"), build: llama},
		"CodeLlamaTokenizer": {
			model:  "BPE",
			tokens: named("unk", "<unk>", "bos", "<s>", "eos", "</s>"),
			extra: func(*folderConfig) []string {
				return []string{"▁<PRE>", "▁<MID>", "▁<SUF>", "▁<EOT>", "<FILL_ME>"}
			},
			build: func(c *classConfig, p *hfParts) {
				scheme := "never"
				if c.flag("add_prefix_space", true) {
					scheme = "first"
				}
				p.pre, p.decoder = metaspace(scheme, false), sentencePieceDecoder(true)
				p.unknown, p.fuse, p.fallback = c.text("unk_token"), true, true
			},
			post: around([]string{"bos_token"}, nil),
		},
		"GemmaTokenizer":   {model: "BPE", tokens: named("unk", "<unk>", "bos", "<bos>", "eos", "<eos>", "pad", "<pad>", "mask", "<mask>"), build: gemmaParts(false)},
		"Siglip2Tokenizer": {model: "BPE", tokens: named("unk", "<unk>", "bos", "<bos>", "eos", "<eos>", "pad", "<pad>", "mask", "<mask>"), build: gemmaParts(true)},
		"Qwen2Tokenizer": {
			model: "BPE", tokens: named("unk", "<|endoftext|>", "eos", "<|endoftext|>", "pad", "<|endoftext|>"),
			build: qwenParts(split.PatternQwen2), markAll: true,
		},
		"Qwen3_5Tokenizer": {
			model: "BPE", tokens: named("unk", "<|endoftext|>", "eos", "<|endoftext|>", "pad", "<|endoftext|>"),
			build: qwenParts(split.PatternQwen35),
		},
		"GPT2Tokenizer":    {model: "BPE", tokens: endOfText(), build: gpt2Parts(false, nil)},
		"CodeGenTokenizer": {model: "BPE", tokens: endOfText(), build: gpt2Parts(false, nil)},
		"GPTNeoXTokenizer": {
			model: "BPE", tokens: named("unk", "<|endoftext|>", "bos", "<|endoftext|>", "eos", "<|endoftext|>", "pad", "<|padding|>"),
			build: gpt2Parts(false, ofType("NFC")), post: nothingAround,
		},
		"CohereTokenizer": {
			model: "BPE",
			tokens: named("unk", "<UNK>", "bos", "<BOS_TOKEN>", "eos", "<|END_OF_TURN_TOKEN|>", "pad", "<PAD>", "cls", "<CLS>", "sep", "<SEP>",
				"mask", "<MASK_TOKEN>"),
			build: func(c *classConfig, p *hfParts) {
				gpt2Parts(false, ofType("NFC"))(c, p)
				p.pre = preTokenizers(object{"type": "Digits", "individual_digits": true}, p.pre)
			},
			markAll: true,
		},
		"RobertaTokenizer":    roberta(false),
		"LayoutLMv3Tokenizer": roberta(true),
		"LukeTokenizer":       roberta(false),
		"BlenderbotTokenizer": {model: "BPE", tokens: robertaTokens(), maskTakesSpace: true, build: gpt2Parts(true, nil)},
		"MarkupLMTokenizer":   {model: "BPE", tokens: robertaTokens(), maskTakesSpace: true, build: gpt2Parts(false, nil), post: bertAround()},
		"DebertaTokenizer": {
			model: "BPE", tokens: named("bos", "[CLS]", "eos", "[SEP]", "sep", "[SEP]", "cls", "[CLS]", "unk", "[UNK]", "pad", "[PAD]", "mask", "[MASK]"),
			maskTakesSpace: true, build: gpt2Parts(false, nil), post: bertAround(),
		},
		"WhisperTokenizer": {
			model: "BPE", tokens: endOfText(), build: gpt2Parts(false, nil),
			post: func(c *classConfig) ([]string, []string) {
				before := []string{"<|startoftranscript|>"}
				if !c.flag("predict_timestamps", false) {
					before = append(before, "<|notimestamps|>")
				}
				return before, []string{c.text("eos_token")}
			},
		},
		"CLIPTokenizer": {
			model: "BPE", tokens: named("unk", "<|endoftext|>", "bos", "<|startoftext|>", "eos", "<|endoftext|>", "pad", "<|endoftext|>"),
			build: func(c *classConfig, p *hfParts) {
				p.normalizer = normalizers(ofType("NFC"), replacePattern(`\s+`, " "), ofType("Lowercase"))
				p.pre = preTokenizers(
					object{"type": "Split", "pattern": object{"Regex": clipPattern}, "behavior": "Removed", "invert": true},
					byteLevel(false, true),
				)
				p.decoder = byteLevel(true, true)
				p.suffix, p.unknown, p.trimWord = "</w>", c.text("unk_token"), "</w>"
			},
			post: around([]string{"bos_token"}, []string{"eos_token"}),
		},
		"NougatTokenizer": {
			model: "BPE", tokens: named("unk", "<unk>", "bos", "<s>", "eos", "</s>", "pad", "<pad>"),
			build: func(c *classConfig, p *hfParts) {
				isolated := func(pattern string) object {
					return object{"type": "Split", "pattern": object{"String": pattern}, "behavior": "Isolated", "invert": false}
				}
				p.normalizer = ofType("NFKC")
				p.pre = preTokenizers(
					object{"type": "Split", "pattern": object{"String": "SPL1T-TH1S-Pl3A5E"}, "behavior": "Removed", "invert": false},
					object{"type": "Digits", "individual_digits": true}, isolated(nougatPattern), isolated("\n"), byteLevel(false, true),
				)
				p.decoder = byteLevel(true, true)
			},
			post: around([]string{"bos_token"}, []string{"eos_token"}),
		},
		"BertTokenizer":       bert(),
		"LayoutLMv2Tokenizer": bert(),
		"SplinterTokenizer":   {model: "WordPiece", tokens: bertTokens(), build: wordPieceParts, post: bertAround()},
		"ConvBertTokenizer":   {model: "WordPiece", tokens: bertTokens(), keepsFile: true, post: bertAround()},
		"ParakeetTokenizer":   {keepsFile: true, grouped: true},
		"FunnelTokenizer": {
			model: "WordPiece", build: wordPieceParts, post: bertAround(),
			tokens: named("unk", "<unk>", "sep", "<sep>", "pad", "<pad>", "cls", "<cls>", "mask", "<mask>", "bos", "<s>", "eos", "</s>"),
		},
		"MPNetTokenizer": {
			model: "WordPiece", maskTakesSpace: true, build: wordPieceParts, post: bertAround(),
			tokens: named("bos", "<s>", "eos", "</s>", "sep", "</s>", "cls", "<s>", "unk", "[UNK]", "pad", "<pad>", "mask", "<mask>"),
		},
		"OpenAIGPTTokenizer": {
			model: "BPE", tokens: named("unk", "<unk>"),
			build: func(c *classConfig, p *hfParts) {
				p.normalizer = object{"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": nil, "lowercase": true}
				p.pre, p.decoder = ofType("BertPreTokenizer"), object{"type": "BPEDecoder", "suffix": "</w>"}
				p.suffix, p.unknown = "</w>", c.text("unk_token")
			},
		},
		"HerbertTokenizer": {
			model: "BPE", tokens: named("cls", "<s>", "unk", "<unk>", "pad", "<pad>", "mask", "<mask>", "sep", "</s>"),
			build: func(c *classConfig, p *hfParts) {
				p.normalizer = object{"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": false, "lowercase": false}
				p.pre, p.decoder = ofType("BertPreTokenizer"), object{"type": "BPEDecoder", "suffix": "</w>"}
				p.suffix, p.unknown = "</w>", c.text("unk_token")
			},
			post: bertAround(),
		},
		"T5Tokenizer":         {model: "Unigram", tokens: t5Tokens, extra: sentinels, build: unigramParts(always, true, onlyCharsmap, fixed(2)), post: eosAfter()},
		"VideoPrismTokenizer": {model: "Unigram", tokens: t5Tokens, extra: sentinels, build: unigramParts(always, true, onlyCharsmap, fixed(2))},
		"LasrTokenizer":       {model: "Unigram", tokens: t5Tokens, extra: sentinels, build: unigramParts(always, true, onlyCharsmap, fixed(3)), post: eosAfter(), grouped: true},
		"UdopTokenizer": {
			model: "Unigram", tokens: named("eos", "</s>", "sep", "</s>", "unk", "<unk>", "pad", "<pad>"),
			build: unigramParts(always, true, func(*classConfig) any { return nil }, unknownByText(false, fixed(2))), post: eosAfter(),
		},
		"XLMRobertaTokenizer": {model: "Unigram", tokens: robertaTokens(), build: xlmRoberta(fixed(3)), post: around([]string{"bos_token"}, []string{"eos_token"})},
		"CamembertTokenizer": {
			model: "Unigram", tokens: robertaTokens(), maskTakesSpace: true,
			extra: func(*folderConfig) []string { return []string{"<s>NOTUSED", "</s>NOTUSED", "<unk>NOTUSED"} },
			build: xlmRoberta(unknownByText(false, fixed(0))), post: around([]string{"bos_token"}, []string{"eos_token"}),
		},
		"AlbertTokenizer": {
			model: "Unigram", tokens: named("bos", "[CLS]", "eos", "[SEP]", "unk", "<unk>", "sep", "[SEP]", "pad", "<pad>", "cls", "[CLS]", "mask", "[MASK]"),
			build: unigramParts(byPrefix, true, albertNormalizer(false, true), fixed(1)),
			post:  bertAround(), postIf: postIfSilent,
		},
		"XLNetTokenizer": {
			model: "Unigram", maskTakesSpace: true,
			tokens: named("bos", "<s>", "eos", "</s>", "unk", "<unk>", "sep", "<sep>", "pad", "<pad>", "cls", "<cls>", "mask", "<mask>"),
			extra:  func(*folderConfig) []string { return []string{"<eop>", "<eod>"} },
			build: unigramParts(func(c *classConfig) string { return "always" }, true, albertNormalizer(true, false),
				func(c *classConfig) int64 { return c.number("unk_id", 0) }),
			post: around(nil, []string{"sep_token", "cls_token"}),
		},
		"RemBertTokenizer": {
			model: "Unigram", tokens: named("bos", "[CLS]", "eos", "[SEP]", "unk", "<unk>", "sep", "[SEP]", "pad", "<pad>", "cls", "[CLS]", "mask", "[MASK]"),
			markAll: true, post: bertAround(), postIf: postIfGiven,
			build: unigramParts(byPrefix, false, func(c *classConfig) any {
				steps := append(quotes(), spaces...)
				if !c.flag("keep_accents", true) {
					steps = append(steps, ofType("NFKD"), ofType("StripAccents"))
				}
				if c.flag("do_lower_case", false) {
					steps = append(steps, ofType("Lowercase"))
				}
				return withCharsmap(steps, nil)(c)
			}, fixed(2)),
		},
		"MBartTokenizer": {
			model: "Unigram", tokens: robertaTokens(), maskTakesSpace: true,
			build: unigramParts(always, true, func(*classConfig) any { return nil }, fixed(3)),
			post: func(c *classConfig) ([]string, []string) {
				return nil, []string{c.text("eos_token"), c.word("src_lang", "en_XX")}
			},
		},
		"MBart50Tokenizer": {
			model: "Unigram", tokens: named("eos", "</s>", "sep", "</s>", "cls", "<s>", "unk", "<unk>", "pad", "<pad>", "mask", "<mask>"), maskTakesSpace: true,
			build: unigramParts(always, false, withCharsmap(nil, spaces), fixed(3)),
			post: func(c *classConfig) ([]string, []string) {
				return []string{c.word("src_lang", "en_XX")}, []string{c.text("eos_token")}
			},
		},
		"NllbTokenizer": {
			model: "BPE", tokens: robertaTokens(), maskTakesSpace: true,
			build: func(c *classConfig, p *hfParts) {
				if c.charsmap != nil {
					p.normalizer = withCharsmap(nil, spaces)(c)
				}
				p.pre, p.decoder = metaspace("always", true), metaspace("always", true)
				p.unknown, p.fuse = c.text("unk_token"), true
			},
			post: func(c *classConfig) ([]string, []string) {
				lang := c.word("src_lang", "eng_Latn")
				if c.flag("legacy_behaviour", false) {
					return nil, []string{c.text("eos_token"), lang}
				}
				return []string{lang}, []string{c.text("eos_token")}
			},
		},
		"ReformerTokenizer": {
			model: "BPE", tokens: named("eos", "</s>", "unk", "<unk>"), markAll: true,
			build: func(c *classConfig, p *hfParts) {
				if c.charsmap != nil {
					p.normalizer = withCharsmap(nil, spaces)(c)
				}
				p.pre, p.decoder = metaspace("always", true), metaspace("always", true)
				p.unknown, p.fuse = c.text("unk_token"), true
			},
		},
		"Tipsv2Tokenizer": {
			model: "BPE", tokens: named("unk", "<unk>", "pad", "<pad>"),
			build: func(c *classConfig, p *hfParts) {
				var lower []any
				if c.flag("do_lower_case", true) {
					lower = append(lower, ofType("Lowercase"))
				}
				p.normalizer = withCharsmap(lower, nil)(c)
				p.pre = preTokenizers(ofType("WhitespaceSplit"), metaspace("always", true))
				p.decoder = decoders(metaspace("always", true), ofType("ByteFallback"), ofType("Fuse"))
				p.fuse, p.fallback = true, true
			},
		},
		"PegasusTokenizer": {
			model: "Unigram", tokens: named("pad", "<pad>", "eos", "</s>", "unk", "<unk>", "mask", "<mask_2>"),
			extra: func(c *folderConfig) []string {
				return append([]string{c.word("mask_token_sent", "<mask_1>")}, numbered("<unk_%d>", 2, min(c.number("offset", 103), 4096))...)
			},
			build: unigramParts(always, false, func(c *classConfig) any {
				if c.charsmap == nil {
					return normalizers(replacePattern(`\n`, " "), spaces[0])
				}
				return withCharsmap(nil, spaces)(c)
			}, unknownByText(true, fixed(-1))),
			post: eosAfter(),
		},
		"BarthezTokenizer": {model: "Unigram", tokens: robertaTokens(), maskTakesSpace: true, build: unigramParts(byPrefix, false, cleaned, fixed(3))},
		"BigBirdTokenizer": {
			model: "Unigram", maskTakesSpace: true, post: bertAround(),
			tokens: named("unk", "<unk>", "bos", "<s>", "eos", "</s>", "pad", "<pad>", "sep", "[SEP]", "mask", "[MASK]", "cls", "[CLS]"),
			build: unigramParts(byPrefix, false, func(*classConfig) any {
				return normalizers(stripEnds(false, false), replacePattern(` {2,}`, blank))
			}, unknownByText(true, fixed(100))),
		},
		"DebertaV2Tokenizer": {
			model: "Unigram", post: bertAround(),
			tokens: named("bos", "[CLS]", "eos", "[SEP]", "unk", "[UNK]", "sep", "[SEP]", "pad", "[PAD]", "cls", "[CLS]", "mask", "[MASK]"),
			build: func(c *classConfig, p *hfParts) {
				unigramParts(func(c *classConfig) string {
					if c.flag("add_prefix_space", true) {
						return "always"
					}
					return "first"
				}, false, func(c *classConfig) any {
					steps := []any{}
					if c.flag("do_lower_case", false) {
						steps = append(steps, ofType("Lowercase"))
					}
					return normalizers(append(steps, cleaned(c))...)
				}, unknownByText(true, func(c *classConfig) int64 { return c.number("unk_id", 1) }))(c, p)
				if c.flag("split_by_punct", false) {
					p.pre = preTokenizers(object{"type": "Punctuation", "behavior": "Isolated"}, p.pre)
				}
			},
		},
		"LayoutXLMTokenizer": {
			model: "Unigram", tokens: robertaTokens(), maskTakesSpace: true, post: bertAround(),
			build: unigramParts(func(c *classConfig) string { return byLegacy(c, true) }, false, func(*classConfig) any {
				return normalizers(stripEnds(false, true), replacePattern(` {2,}`, blank))
			}, fixed(3)),
		},
		"MLukeTokenizer": {
			model: "Unigram", tokens: robertaTokens(), maskTakesSpace: true, markAll: true, post: bertAround(),
			build: unigramParts(always, false, func(*classConfig) any { return normalizers(quotes()...) }, fixed(0)),
		},
		"XGLMTokenizer": {
			model: "Unigram", tokens: named("bos", "<s>", "eos", "</s>", "sep", "</s>", "cls", "<s>", "unk", "<unk>", "pad", "<pad>"),
			extra: func(*folderConfig) []string { return numbered("<madeupword%d>", 0, 7) },
			build: unigramParts(byPrefix, false, withCharsmap(nil, spaces), fixed(3)),
			post:  around([]string{"eos_token"}, nil),
		},
	}
}
