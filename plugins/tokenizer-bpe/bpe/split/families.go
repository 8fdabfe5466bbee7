package split

import (
	"fmt"
	"slices"
	"strings"
)

// Family holds the meaning of a value of tokenizer.ggml.pre in GGUF files: the splitter, and what else llama.cpp
// derives from the name (src/llama-vocab.cpp).
type Family struct {
	Splitter     Splitter
	IgnoreMerges bool // a word that is a token as a whole is that token
	AddBOS       bool // unless the file says otherwise
	Raw          bool // merges run on characters with spaces as U+2581, not on GPT-2's byte characters
	Lines        bool // a run of line feeds that is a token is that token (Gemma 4)
}

// ByName builds the family of a pre-tokenizer name. The error lists the names there are.
func ByName(name string, c *Classes) (Family, error) {
	for _, f := range families() {
		if slices.Contains(f.names, name) {
			fam := Family{IgnoreMerges: f.ignoreMerges, AddBOS: f.addBOS, Raw: f.raw, Lines: f.raw && !f.noLines}
			var err error
			fam.Splitter, err = f.build(c)
			return fam, err
		}
	}
	return Family{}, fmt.Errorf("unknown pre-tokenizer %q: known are %s", name, strings.Join(Names(), ", "))
}

// Names lists the pre-tokenizer names, sorted.
func Names() []string {
	var all []string
	for _, f := range families() {
		all = append(all, f.names...)
	}
	slices.Sort(all)
	return all
}

type family struct {
	names                     []string
	build                     func(c *Classes) (Splitter, error)
	ignoreMerges, addBOS, raw bool
	noLines                   bool
}

func families() []family {
	plain := func(s func(c *Classes) Splitter) func(c *Classes) (Splitter, error) {
		return func(c *Classes) (Splitter, error) { return s(c), nil }
	}
	gpt2 := plain(func(c *Classes) Splitter { return GPT2{C: c} })
	llama3 := plain(func(c *Classes) Splitter { return Modern{C: c, MaxDigits: 3} })
	qwen2 := plain(func(c *Classes) Splitter { return Modern{C: c, MaxDigits: 1} })
	digits := plain(func(c *Classes) Splitter { return Chain{newRuns(c, kind{in: number, most: 1}), GPT2{C: c}} })
	return []family{
		{
			names: []string{
				"llama-bpe",
				"llama3",
				"llama-v3",
				"falcon3",
				"falcon-h1",
				"pixtral",
				"midm-2.0",
				"lfm2",
				"jina-v5-nano",
			},
			build:        llama3,
			ignoreMerges: true,
			addBOS:       true,
		},
		{names: []string{"dbrx", "smaug-bpe", "chatglm-bpe", "glm4"}, build: llama3},
		{
			names: []string{"qwen2", "deepseek-r1-qwen", "kormo", "f2llmv2", "megrez", "stablelm2", "hunyuan", "solar-open", "grok-2"},
			build: qwen2,
		},
		{names: []string{"qwen35"}, build: plain(func(c *Classes) Splitter { return Modern{C: c, MaxDigits: 1, Marks: true} })},
		{
			names: []string{
				"gpt-2", "phi-2", "jina-es", "jina-de", "jina-v1-en", "jina-v2-es", "jina-v2-de", "jina-v2-code", "roberta-bpe",
				"gigachat", "a.x-4.0", "mellum", "modern-bert", "exaone4", "gpt-neox", "mpt", "olmo", "jais", "trillion", "granite-docling",
			},
			build: gpt2,
		},
		{names: []string{"starcoder", "refact", "command-r", "smollm", "codeshell", "exaone", "minerva-7b", "mellum2"}, build: digits},
		{names: []string{"falcon"}, build: plain(falcon)},
		{names: []string{"", "default"}, build: plain(fallback)},
		{names: []string{"deepseek-llm"}, build: plain(deepseekLLM)},
		{names: []string{"deepseek-coder"}, build: plain(deepseekCoder)},
		{names: []string{"deepseek-v3", "hunyuan-dense", "joyai-llm", "hy_v4"}, build: deepseek3},
		{
			names: []string{"gpt-4o", "llama4", "kanana2", "minimax-m2", "talkie"},
			build: plain(func(c *Classes) Splitter { return Cased{C: c, MaxDigits: 3, Contractions: true, Loose: true} }),
		},
		{
			names:        []string{"minicpm5"},
			build:        plain(func(c *Classes) Splitter { return Chain{newRuns(c, kind{in: number, most: 3}), Modern{C: c}} }),
			ignoreMerges: true,
		},
		{names: []string{"laguna"}, build: plain(func(c *Classes) Splitter { return Chain{Lines{}, Modern{C: c, MaxDigits: 1}} })},
		{
			names: []string{"seed-coder"},
			build: byPattern(contractions + `[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+`),
		},
		{
			names: []string{"ufakzeka"},
			build: byPattern(`[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`),
		},
		{
			names: []string{"bailingmoe", "bailingmoe2", "llada-moe"},
			build: byPattern(
				`'(?:[sSdDmMtT]|[lL][lL]|[vV][eE]|[rR][eE])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+`,
			),
		},
		{
			names:        []string{"tekken"},
			build:        plain(func(c *Classes) Splitter { return Cased{C: c, MaxDigits: 1, Loose: true} }),
			ignoreMerges: true,
			addBOS:       true,
		},
		{
			names: []string{"jais-2"},
			build: byPattern(contractions + `[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+` + cascade),
		},
		{names: []string{"spark2_5"}, build: byPatterns(`\p{N}{1,3}`, "[一-龥\u3040-ゟ゠-ヿ]+", sparkWords, `\p{N}`)},
		{
			names: []string{"youtu"},
			build: byPatterns(
				youtuScripts,
				anyLetters+contracted+"|"+anyLetters+contracted+`|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+`,
			),
			ignoreMerges: true,
		},
		{
			names:        []string{"granite-embed-multi-97m"},
			build:        byPattern(markedWords + `|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+`),
			ignoreMerges: true,
		},
		{names: []string{"poro-chat", "bloom", "gpt3-finnish"}, build: byPattern(bloomWords)},
		{names: []string{"viking"}, build: byPatterns(bloomWords, `\p{N}`)},
		{
			names: []string{"exaone-moe"},
			build: byPattern(
				contractions + `[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]|\s+(?!\S)|\s+`,
			),
		},
		{names: []string{"chameleon"}, build: chameleon, addBOS: true},
		{names: []string{"tiny_aya", "cohere2moe"}, build: byPatterns(
			`[0-9]{1,3}(?=(?:[0-9]{3})*(?![0-9A-Za-z_]))`,
			anyLetters+contracted+`|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+`,
		)},
		{names: []string{"superbpe"}, build: byPatterns(`\p{N}+`, `(?=(?:[0-9]{3})+(?![0-9]))`)},
		{names: []string{"kimi-k2"}, build: byPattern(`[` + hanRanges + `]+|[^\r\n\p{L}\p{N}]?[\p{L}&&[^` + hanRanges + `]]+` + contracted +
			`|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`)},
		{names: []string{"afmoe"}, build: afmoe},
		{names: []string{"granite-embed-multi-311m"}, build: plain(func(*Classes) Splitter { return Lines{} }), addBOS: true, raw: true},
		{names: []string{"sarvam-moe"}, build: plain(func(*Classes) Splitter { return Lines{} }), raw: true, noLines: true},
		{names: []string{"gemma4"}, build: plain(func(*Classes) Splitter { return Lines{} }), addBOS: true, raw: true},
	}
}

// The patterns of this file run through package regexp2.
const (
	contractions   = `(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|`
	deepseek3Words = "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
)

// More patterns of llama.cpp, which reads the letters' subcategories (\p{Lu}, \p{Ll} and so on) as \p{L}.
const (
	contracted   = `(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])?`
	anyLetters   = `[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+`
	cascade      = `|\s{512}(?!\S)|\s{256}(?!\S)|\s{128}(?!\S)|\s{64}(?!\S)|\s{32}(?!\S)|\s{16}(?!\S)|\s{8}(?!\S)|\s{4}(?!\S)|\s{1,2}(?!\S)|\s{1}`
	bloomWords   = ` ?[^(\s|.,!?…。，、।۔،)]+`
	youtuScripts = "[가-힣ㄱ-ㆎ]+|[！…“”‘’—：；，、-〿︰-﹏]+|[ㄅ-ㄯ]+|[一-龥\u3040-ゟ゠-ヿ]+"
	sparkWords   = "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+|[\\r\\n]|\\s+(?!\\S)|\\s+"
	asianScripts = "[一-鿿㐀-䶿豈-\uFAFF\u3040-ゟ゠-ヿ･-ﾟ⼀-\u2FDFเ-\u0E7F\u0E80-\u0EFFក-\u17FFက-႟ꩠ-ꩿꧠ-\uA9FF가-\uD7AFᄀ-ᇿ]+"
	hanRanges    = "\u4E00-\u9FFF\u3400-\u4DBF\U00020000-\U0002A6DF\U0002A700-\U0002B73F\U0002B740-\U0002B81F\U0002B820-\U0002CEAF\U0002CEB0-\U0002EBEF\uF900-\uFAFF\U0002F800-\U0002FA1F"
	markedWords  = `[^\r\n\p{L}\p{N}]?(?:(?=[\p{L}\p{M}])[^a-z])*(?:(?=[\p{L}\p{M}])[^A-Z])+` + contracted +
		`|[^\r\n\p{L}\p{N}]?(?:(?=[\p{L}\p{M}])[^a-z])+(?:(?=[\p{L}\p{M}])[^A-Z])*` + contracted
)

// byPatterns cuts by one pattern after the other.
func byPatterns(patterns ...string) func(c *Classes) (Splitter, error) {
	return func(*Classes) (Splitter, error) {
		var chain Chain
		for _, p := range patterns {
			s, err := compileLlama(p)
			if err != nil {
				return nil, err
			}
			chain = append(chain, s)
		}
		return chain, nil
	}
}

func chameleon(c *Classes) (Splitter, error) {
	first, err := byPatterns(
		`<sentinel:[0-9]+>`,
		`(?:IMGIMG)(?:(?:A|B|C|D|E|F|G|H|I){1,4})Z`,
		`(?:[\t\n]|    |  )`,
		`\p{N}`,
		"[\\p{P}!-/:-@\\[-`{-~]",
	)(
		c,
	)
	return Chain{first, GPT2{C: c}}, err
}

func afmoe(c *Classes) (Splitter, error) {
	rest, err := byPatterns(asianScripts, deepseek3Words)(c)
	return Chain{digitGroups{c}, rest}, err
}

// digitGroups cuts numbers into groups of three from their end. What stands before a number belongs to its
// first group, as llama.cpp has it for AFMoE.
type digitGroups struct{ c *Classes }

// Split implements Splitter.
func (d digitGroups) Split(s string, to Sink, _ *Budget) error {
	done := 0
	for i := 0; i < len(s); {
		class, n := d.c.at(s, i)
		if class&number == 0 {
			i += n
			continue
		}
		count := 0
		for end := i; end < len(s); count++ {
			class, n := d.c.at(s, end)
			if class&number == 0 {
				break
			}
			end += n
		}
		for ; count > 0; count-- {
			_, n := d.c.at(s, i)
			i += n
			if (count-1)%3 == 0 {
				to.Word(s[done:i])
				done = i
			}
		}
	}
	if done < len(s) {
		to.Word(s[done:])
	}
	return nil
}

func byPattern(p string) func(c *Classes) (Splitter, error) {
	return func(*Classes) (Splitter, error) { return compileLlama(p) }
}

func falcon(c *Classes) Splitter {
	return Chain{
		newRuns(c, kind{in: punct, ascii: "$+<=>^~|`"}),
		GPT2{C: c},
		newRuns(c, kind{ascii: "0123456789", least: 3, most: 3}),
	}
}

// fallback returns the splitter that llama.cpp uses for files that name no pre-tokenizer.
func fallback(c *Classes) Splitter {
	return Chain{
		newRuns(c, kind{in: punct, ascii: "$+<=>^~|"}),
		GPT2{C: c},
		newRuns(c, kind{in: number}),
		newRuns(c, kind{ascii: "0123456789", least: 3, most: 3}),
	}
}

func deepseekLLM(c *Classes) Splitter {
	return Chain{
		newRuns(c, kind{ascii: "\r\n", most: 1}),
		newRuns(c, kind{ascii: asciiRange('A', 'Z') + asciiRange('a', 'z'), spans: casedLetters(), lead: true, dull: true}),
		newRuns(c, kind{
			ascii: asciiRange('!', '/') + asciiRange(':', '~'), lead: true, dull: true,
			spans: []span{{0x2018, 0x201F}, {0x3000, 0x3002}, {0xFF01, 0xFF0F}, {0xFF1A, 0xFF5E}},
		}),
		Tail{C: c},
		eastern(c),
		newRuns(c, kind{in: number}),
	}
}

func deepseekCoder(c *Classes) Splitter {
	return Chain{
		newRuns(c, kind{ascii: "\r\n", most: 1}),
		newRuns(c, kind{in: letter, lead: true}),
		newRuns(c, kind{in: punct, lead: true}),
		eastern(c),
		newRuns(c, kind{in: number, most: 1}),
	}
}

func deepseek3(c *Classes) (Splitter, error) {
	words, err := compileLlama(deepseek3Words)
	return Chain{
		newRuns(c, kind{in: number, most: 3}),
		newRuns(c, kind{spans: []span{{0x3040, 0x30FF}, {0x4E00, 0x9FA5}}, dull: true}),
		words,
	}, err
}

// eastern is [一-龥ࠀ-一가-퟿]+ .
func eastern(c *Classes) Splitter {
	return newRuns(c, kind{spans: []span{{0x0800, 0x9FA5}, {0xAC00, 0xD7FF}}, dull: true})
}

func asciiRange(lo, hi byte) string {
	var b strings.Builder
	for c := lo; c <= hi; c++ {
		b.WriteByte(c)
	}
	return b.String()
}

// casedLetters are the letters above ASCII that DeepSeek LLM's second pattern spells out: those of Unicode 11 that have
// case, without mathematical ones.
func casedLetters() []span {
	return []span{
		{0xB5, 0xB5},
		{0xC0, 0xD6},
		{0xD8, 0xF6},
		{0xF8, 0x1BA},
		{0x1BC, 0x1BF},
		{0x1C4, 0x293},
		{0x295, 0x2AF},
		{0x370, 0x373},
		{0x376, 0x377},
		{0x37B, 0x37D},
		{0x37F, 0x37F},
		{0x386, 0x386},
		{0x388, 0x38A},
		{0x38C, 0x38C},
		{0x38E, 0x3A1},
		{0x3A3, 0x3F5},
		{0x3F7, 0x481},
		{0x48A, 0x52F},
		{0x531, 0x556},
		{0x10A0, 0x10C5},
		{0x13A0, 0x13F5},
		{0x13F8, 0x13FD},
		{0x1C90, 0x1CBA},
		{0x1CBD, 0x1CBF},
		{0x1D00, 0x1D2B},
		{0x1D6B, 0x1D77},
		{0x1D79, 0x1D9A},
		{0x1E00, 0x1F15},
		{0x1F18, 0x1F1D},
		{0x1F20, 0x1F45},
		{0x1F48, 0x1F4D},
		{0x1F50, 0x1F57},
		{0x1F59, 0x1F59},
		{0x1F5B, 0x1F5B},
		{0x1F5D, 0x1F5D},
		{0x1F5F, 0x1F7D},
		{0x1F80, 0x1FB4},
		{0x1FB6, 0x1FBC},
		{0x1FBE, 0x1FBE},
		{0x1FC2, 0x1FC4},
		{0x1FC6, 0x1FCC},
		{0x1FD0, 0x1FD3},
		{0x1FD6, 0x1FDB},
		{0x1FE0, 0x1FEC},
		{0x1FF2, 0x1FF4},
		{0x1FF6, 0x1FFC},
		{0x2102, 0x2102},
		{0x2107, 0x2107},
		{0x210A, 0x2113},
		{0x2115, 0x2115},
		{0x2119, 0x211D},
		{0x2124, 0x2124},
		{0x2126, 0x2126},
		{0x2128, 0x2128},
		{0x212A, 0x212D},
		{0x212F, 0x2134},
		{0x2139, 0x2139},
		{0x213C, 0x213F},
		{0x2145, 0x2149},
		{0x214E, 0x214E},
		{0x2183, 0x2184},
		{0x2C00, 0x2C7B},
		{0x2C7E, 0x2CE4},
		{0x2CEB, 0x2CEE},
		{0x2CF2, 0x2CF3},
		{0xA640, 0xA66D},
		{0xA680, 0xA69B},
		{0xA722, 0xA76F},
		{0xA771, 0xA787},
		{0xA78B, 0xA78E},
		{0xAB70, 0xABBF},
		{0xFB00, 0xFB06},
		{0xFB13, 0xFB17},
		{0xFF21, 0xFF3A},
		{0xFF41, 0xFF5A},
		{0x10400, 0x1044F},
		{0x104B0, 0x104D3},
		{0x104D8, 0x104FB},
		{0x10C80, 0x10CB2},
		{0x10CC0, 0x10CF2},
		{0x118A0, 0x118DF},
		{0x1E900, 0x1E943},
	}
}
