package decode

import (
	"encoding/json"
	"fmt"
	"strings"
	"unicode/utf8"

	"edged/plugins/tokenizer-bpe/bpe/normalize"
	"edged/plugins/tokenizer-bpe/bpe/split"
	"edged/plugins/tokenizer-bpe/bpe/tokenizerjson"
	"edged/plugins/tokenizer-bpe/bpe/vocab"
)

// Decoder is the decoder of a tokenizer.json. Text turns a list of tokens into a text exactly as the
// tokenizers library does. Pieces says what each token is alone, for answers that are streamed token by
// token: what depends on a token's neighbours (a clean-up, the space that is dropped at the start) is left
// out there.
type Decoder struct {
	ByteFallback bool // tokens such as <0x0A> are bytes

	steps     []Step
	byteLevel bool
	perToken  []normalize.Func // what becomes of each token alone
	prefix    string           // WordPiece: of tokens that go on a word
	suffix    string           // BPEDecoder
	wordPiece bool
	chars     *vocab.ByteChars
	given     bool   // there is a decoder
	TrimWord  string // the end of a word that becomes a space, after which the ends are trimmed: CLIP
	CleanUp   bool   // clean_up_tokenization_spaces
}

// Step is one step of a decoder: it turns a list of tokens into another. The last step's tokens are joined.
type Step func(tokens []string, patterns *split.Budget) ([]string, error)

// New makes a decoder of one step.
func New(step Step) *Decoder {
	return &Decoder{steps: []Step{step}, given: true}
}

// Read reads the decoder of a tokenizer.json.
func Read(raw json.RawMessage) (*Decoder, error) {
	d := &Decoder{chars: vocab.NewByteChars(), given: !tokenizerjson.IsNull(raw)}
	return d, d.read(raw, 0)
}

// part holds the fields of every type of decoder.
type part struct {
	Pattern     tokenizerjson.Pattern `json:"pattern"` // Replace
	Content     string                `json:"content"`
	Replacement string                `json:"replacement"` // Metaspace
	Scheme      string                `json:"prepend_scheme"`
	AddPrefix   *bool                 `json:"add_prefix_space"`
	Start       int                   `json:"start"` // Strip
	Stop        int                   `json:"stop"`
	Prefix      *string               `json:"prefix"` // WordPiece
	Cleanup     *bool                 `json:"cleanup"`
	Suffix      *string               `json:"suffix"`    // BPEDecoder
	Pad         *string               `json:"pad_token"` // CTC
	Delimiter   *string               `json:"word_delimiter_token"`
}

func (d *Decoder) read(raw json.RawMessage, depth int) error {
	if tokenizerjson.IsNull(raw) {
		return nil
	}
	kind, parts, err := tokenizerjson.PartType(raw, depth, "decoders")
	if err != nil {
		return err
	}
	for _, part := range parts {
		if err := d.read(part, depth+1); err != nil {
			return err
		}
	}
	var f part
	if err := json.Unmarshal(raw, &f); err != nil {
		return fmt.Errorf("%s: %w", kind, err)
	}
	switch kind {
	case "Sequence":
	case "Fuse":
		d.add(func(tokens []string, _ *split.Budget) ([]string, error) {
			return []string{strings.Join(tokens, "")}, nil
		})
	case "ByteLevel":
		d.byteLevel = true
		d.add(d.joinBytes)
	case "ByteFallback":
		d.ByteFallback = true
		d.add(fallbackBytes)
	case "Replace":
		by, err := normalize.Replacement(f.Pattern, f.Content)
		if err != nil {
			return err
		}
		d.perToken = append(d.perToken, by)
		d.add(func(tokens []string, patterns *split.Budget) (_ []string, err error) {
			for i, s := range tokens {
				if tokens[i], err = by(s, patterns); err != nil {
					return nil, err
				}
			}
			return tokens, nil
		})
	case "Metaspace":
		return d.metaspace(f)
	case "Strip":
		if utf8.RuneCountInString(f.Content) != 1 {
			return fmt.Errorf("a Strip has the content %q, which is not one character", f.Content)
		}
		d.add(each(func(s string, _ int) string { return stripped(s, f.Content, f.Start, f.Stop) }))
	case "WordPiece":
		d.wordPiece, d.prefix = true, tokenizerjson.Or(f.Prefix, "##")
		cleanup, prefix := tokenizerjson.Or(f.Cleanup, true), d.prefix
		d.add(each(func(s string, i int) string {
			if i > 0 {
				if rest, ok := strings.CutPrefix(s, prefix); ok {
					s = rest
				} else {
					s = " " + s
				}
			}
			if cleanup {
				s = cleanPunctuation(s, true)
			}
			return s
		}))
	case "BPEDecoder":
		suffix := tokenizerjson.Or(f.Suffix, "</w>")
		d.suffix = suffix
		d.add(func(tokens []string, _ *split.Budget) ([]string, error) {
			for i, s := range tokens {
				by := " "
				if i == len(tokens)-1 {
					by = ""
				}
				if suffix != "" {
					tokens[i] = strings.ReplaceAll(s, suffix, by)
				}
			}
			return tokens, nil
		})
	case "CTC":
		pad, delimiter, cleanup := tokenizerjson.Or(f.Pad, "<pad>"), tokenizerjson.Or(f.Delimiter, "|"), tokenizerjson.Or(f.Cleanup, true)
		one := func(s string) string { return ctc(s, pad, delimiter, cleanup) }
		d.perToken = append(d.perToken, normalize.Infallible(one))
		d.add(func(tokens []string, _ *split.Budget) ([]string, error) {
			out := tokens[:0]
			last, any := "", false
			for _, s := range tokens {
				same := any && s == last
				last, any = s, true
				if same {
					continue
				}
				if s = one(s); s != "" {
					out = append(out, s)
				}
			}
			return out, nil
		})
	default:
		return fmt.Errorf("type %q is not supported", kind)
	}
	return nil
}

func (d *Decoder) add(s Step) { d.steps = append(d.steps, s) }

// each makes a step of a function of one token and its place.
func each(f func(s string, i int) string) Step {
	return func(tokens []string, _ *split.Budget) ([]string, error) {
		for i, s := range tokens {
			tokens[i] = f(s, i)
		}
		return tokens, nil
	}
}

func (d *Decoder) metaspace(f part) error {
	if utf8.RuneCountInString(f.Replacement) != 1 {
		return fmt.Errorf("a Metaspace has the replacement %q, which is not one character", f.Replacement)
	}
	prepends := f.Scheme != "never" && tokenizerjson.Or(f.AddPrefix, true)
	d.perToken = append(d.perToken, normalize.Infallible(func(s string) string { return strings.ReplaceAll(s, f.Replacement, " ") }))
	d.add(each(func(s string, i int) string {
		by := " "
		if i == 0 && prepends {
			by = "" // all of them go, not the first alone
		}
		return strings.ReplaceAll(s, f.Replacement, by)
	}))
	return nil
}

// joinBytes reads the characters of ByteLevel as bytes: one text, in which what is no UTF-8 is U+FFFD. A token with
// characters that stand for no byte counts as it is written.
func (d *Decoder) joinBytes(tokens []string, _ *split.Budget) ([]string, error) {
	var all, buf []byte
	for _, s := range tokens {
		var ok bool
		if buf, ok = d.chars.Decode(buf[:0], s); ok {
			all = append(all, buf...)
		} else {
			all = append(all, s...)
		}
	}
	return []string{lossy(all)}, nil
}

// fallbackBytes joins runs of byte tokens where they are characters; the bytes of a run that is none become
// one U+FFFD each.
func fallbackBytes(tokens []string, _ *split.Budget) ([]string, error) {
	var out []string
	var run []byte
	flush := func() {
		if len(run) == 0 {
			return
		}
		if utf8.Valid(run) {
			out = append(out, string(run))
		} else {
			for range run {
				out = append(out, string(utf8.RuneError))
			}
		}
		run = run[:0]
	}
	for _, s := range tokens {
		if b, ok := vocab.ParseByte(s); ok {
			run = append(run, b)
			continue
		}
		flush()
		out = append(out, s)
	}
	flush()
	return out, nil
}

// stripped takes up to start and stop repetitions of a character off the ends of a text.
func stripped(s, content string, start, stop int) string {
	for ; start > 0 && strings.HasPrefix(s, content); start-- {
		s = s[len(content):]
	}
	for ; stop > 0 && strings.HasSuffix(s, content); stop-- {
		s = s[:len(s)-len(content)]
	}
	return s
}

func ctc(s, pad, delimiter string, cleanup bool) string {
	if pad != "" {
		s = strings.ReplaceAll(s, pad, "")
	}
	if cleanup {
		s = cleanPunctuation(s, true)
		if delimiter != "" {
			s = strings.ReplaceAll(s, delimiter, " ")
		}
	}
	return s
}

// cleanPunctuation takes the space before English punctuation and contractions away. The decoders of
// tokenizer.json also know "do not"; clean_up_tokenization_spaces of tokenizer_config.json does not.
func cleanPunctuation(s string, doNot bool) string {
	if !strings.Contains(s, " ") {
		return s
	}
	pairs := [][2]string{{" .", "."}, {" ?", "?"}, {" !", "!"}, {" ,", ","}, {" ' ", "'"}, {" n't", "n't"}, {" 'm", "'m"}}
	for _, p := range pairs {
		s = strings.ReplaceAll(s, p[0], p[1])
	}
	if doNot {
		s = strings.ReplaceAll(s, " do not", " don't")
	}
	for _, p := range [][2]string{{" 's", "'s"}, {" 've", "'ve"}, {" 're", "'re"}} {
		s = strings.ReplaceAll(s, p[0], p[1])
	}
	return s
}

// lossy reads bytes as UTF-8 as Rust's from_utf8_lossy does: each longest beginning of a character that is
// cut off is one U+FFFD.
func lossy(b []byte) string {
	if utf8.Valid(b) {
		return string(b)
	}
	var out strings.Builder
	for len(b) > 0 {
		r, n := utf8.DecodeRune(b)
		if r != utf8.RuneError || n > 1 {
			out.Write(b[:n])
			b = b[n:]
			continue
		}
		out.WriteRune(utf8.RuneError)
		b = b[brokenLength(b):]
	}
	return out.String()
}

// brokenLength is how many bytes at the start of b are the beginning of a character and do not complete it;
// at least one.
func brokenLength(b []byte) int {
	in := func(i int, lo, hi byte) bool { return i < len(b) && b[i] >= lo && b[i] <= hi }
	lo, hi, more := byte(0x80), byte(0xBF), 0
	switch c := b[0]; {
	case c >= 0xC2 && c <= 0xDF:
		more = 1
	case c >= 0xE0 && c <= 0xEF:
		more = 2
		if c == 0xE0 {
			lo = 0xA0
		}
		if c == 0xED {
			hi = 0x9F
		}
	case c >= 0xF0 && c <= 0xF4:
		more = 3
		if c == 0xF0 {
			lo = 0x90
		}
		if c == 0xF4 {
			hi = 0x8F
		}
	}
	n := 1
	for ; n <= more && in(n, lo, hi); n++ {
		lo, hi = 0x80, 0xBF
	}
	return n
}

// Text turns a list of tokens into what the library makes of it. The error is that of a pattern which took too long.
func (d *Decoder) Text(tokens []string) (string, error) {
	text, err := d.joined(tokens)
	if err != nil {
		return "", err
	}
	if d.TrimWord != "" {
		text = strings.TrimSpace(strings.ReplaceAll(text, d.TrimWord, " "))
	}
	if d.CleanUp {
		text = cleanPunctuation(text, false)
	}
	return text, nil
}

func (d *Decoder) joined(tokens []string) (string, error) {
	if !d.given {
		return strings.Join(tokens, " "), nil
	}
	size := 0
	for _, s := range tokens {
		size += len(s)
	}
	patterns := split.NewBudget(size)
	for _, step := range d.steps {
		var err error
		if tokens, err = step(tokens, &patterns); err != nil {
			return "", err
		}
	}
	return strings.Join(tokens, ""), nil
}

// Pieces returns what every token of a vocabulary decodes to alone.
func (d *Decoder) Pieces(v *vocab.Vocabulary) ([][]byte, error) {
	size := 0
	for _, s := range v.Text {
		size += len(s)
	}
	patterns := split.NewBudget(size)
	var failed error
	all := vocab.Pieces(v, func(dst []byte, s string) []byte {
		if failed != nil {
			return dst
		}
		dst, failed = d.piece(dst, s, &patterns)
		return dst
	})
	return all, failed
}

// piece appends what a token that is text decodes to.
func (d *Decoder) piece(dst []byte, s string, patterns *split.Budget) ([]byte, error) {
	if d.byteLevel {
		if b, ok := d.chars.Decode(dst, s); ok {
			return b, nil
		}
		return append(dst, s...), nil
	}
	for _, by := range d.perToken {
		var err error
		if s, err = by(s, patterns); err != nil {
			return dst, err
		}
	}
	if d.wordPiece {
		if rest, ok := strings.CutPrefix(s, d.prefix); ok && d.prefix != "" {
			return append(dst, rest...), nil
		}
		dst = append(dst, ' ')
	}
	if d.suffix != "" {
		if rest, ok := strings.CutSuffix(s, d.suffix); ok {
			return append(append(dst, rest...), ' '), nil
		}
	}
	return append(dst, s...), nil
}
