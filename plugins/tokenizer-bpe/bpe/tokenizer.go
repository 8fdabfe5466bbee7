package bpe

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"

	"edged/plugins/tokenizer-bpe/bpe/split"
)

// Errors that callers can act on.
var (
	// ErrModel means that the file cannot be served: damaged, or of a kind that this plugin does not know.
	ErrModel = errors.New("cannot read the tokenizer")
	// ErrText means that a text cannot be encoded, or ids cannot be decoded.
	ErrText = errors.New("cannot encode")
)

// The kinds of tokenizers.
const (
	KindBPE       = "bpe"       // byte-level BPE
	KindSPM       = "spm"       // SentencePiece BPE
	KindWordPiece = "wordpiece" // WordPiece
	KindUnigram   = "unigram"   // SentencePiece's unigram model
	KindWordLevel = "wordlevel" // whole words
	KindRWKV      = "rwkv"      // the longest token at each place
)

// Info describes a tokenizer. Ids are -1 where there is no such token.
type Info struct {
	Kind         string
	Pre          string // the pre-tokenizer's name; "" where there is none, or it has no name
	Tokens       int
	BOS          int32
	EOS          int32
	EOT          int32
	Unknown      int32
	Pad          int32
	EOG          []int32 // sorted
	AddBOS       bool
	AddEOS       bool
	ChatTemplate string
	// NamedTemplates are the model's other chat templates: "tool_use" is for conversations with tools.
	NamedTemplates map[string]string
	Hash           string // sha256 over pieces, control flags, EOG and BOS
	Mask           int32  // that stands for one to be guessed
	Pairs          bool   // EncodePair knows how
	// Of a folder with sentence-transformers' files: tokens that a text may have (0: not said), what stands before it by the name of
	// a task, and which of them where none is named.
	MaxTokens int
	Prompts   map[string]string
	Prompt    string
}

// Options of Encode. The zero value takes the text as typed text: no tokens around it, none parsed in it.
type Options struct {
	AddSpecial   bool // what the model wants around a text: BOS, EOS, [CLS] and [SEP]
	ParseSpecial bool // control tokens that are written in the text are those tokens
	// written says that a template wrote the text, rendered that what was typed in it is guarded: see EncodeRendered.
	written, rendered bool
	marks             *marks // places of the text that are counted; nil: none
}

// Tokenizer turns text into ids and back.
type Tokenizer struct {
	info      Info
	vocab     *vocabulary
	pieces    [][]byte // what each token decodes to
	added     *matcher // tokens found in the text as it is
	late      *matcher // tokens found in the normalised text; nil: none
	parseAll  *matcher // added with all control tokens of late, for rendered texts; nil: added
	byLength  bool     // llama.cpp's order of added tokens
	rawBytes  bool     // the model takes invalid UTF-8 as it is
	normalize normalizer
	// firstMatters: the model treats the start of a text otherwise than what follows.
	firstMatters bool
	model        model
	prefix       []int32    // what AddSpecial puts before a text
	suffix       []int32    // and after it
	pair         []pairPart // two texts; nil: not known
	// stripSpace: the space before a text is the tokenizer's own, and decoding takes it away.
	stripSpace bool
	guard      *guard
	scratch    sync.Pool

	// typedOnly: control tokens are found in what a template wrote only, whatever Options say (Mistral's tekken.json).
	typedOnly bool

	// What only folders have.
	class    string          // of transformers; "" where the file is taken as it is
	notes    []string        // where class and file disagree, in sentences
	decoder  *hfDecoder      // nil: Decode joins the pieces
	shown    []string        // texts by id that the decoder reads
	skipped  map[string]bool // texts of the tokens that Decode leaves out unless it is told to show them
	cleanUp  bool            // clean_up_tokenization_spaces
	grouped  bool            // Decode drops padding and what repeats the token before
	trimWord string          // the end of a word that becomes a space, after which the ends are trimmed: CLIP
}

// model turns a text without added tokens into ids.
type model interface {
	// encode appends the ids of s, which is not empty, to w.out. first says that s is at the start of the whole text,
	// joined that no token stands before it.
	encode(w *work, s string, first, afterToken bool) error
}

// work is the scratch of one call of Encode.
type work struct {
	out []int32
	merger
	buf []byte
	wordCache
	lattice  lattice
	patterns split.Budget // of the text
	// strict: no model may choose a control token, whatever the text looks like.
	strict bool
}

// Class is the class of transformers that a folder's tokenizer follows, "" where it takes tokenizer.json as it is, and for
// GGUF files.
func (t *Tokenizer) Class() string { return t.class }

// Notes say in sentences where the files of a folder disagree, and which counts.
func (t *Tokenizer) Notes() []string { return slices.Clone(t.notes) }

// Info describes the tokenizer.
func (t *Tokenizer) Info() Info {
	i := t.info
	i.EOG = slices.Clone(i.EOG)
	return i
}

// Pieces returns the bytes of every token, by id, and which tokens are never text. The slices are the tokenizer's own.
func (t *Tokenizer) Pieces() (pieces [][]byte, isControl []bool) {
	isControl = make([]bool, len(t.vocab.kind))
	for id, k := range t.vocab.kind {
		isControl[id] = k.special() || k == unused // the latter decode to nothing
	}
	return t.pieces, isControl
}

// Text returns what a token is written as in the model's file; "" for an id that the vocabulary does not have.
func (t *Tokenizer) Text(id int32) string {
	if id < 0 || int(id) >= len(t.vocab.text) {
		return ""
	}
	return t.vocab.text[id]
}

// Encode appends the ids of a text to dst.
func (t *Tokenizer) Encode(dst []int32, text string, o Options) ([]int32, error) {
	w, ok := t.scratch.Get().(*work)
	if !ok {
		w = &work{}
	}
	defer func() {
		w.out = nil
		w.release()
		w.lattice.release()
		if cap(w.buf) > 1<<18 {
			w.buf = nil
		}
		t.scratch.Put(w)
	}()
	w.out, w.strict, w.patterns = dst, o.rendered, split.NewBudget(len(text))
	if o.AddSpecial {
		w.out = append(w.out, t.prefix...)
	}
	if err := t.encode(w, text, o); err != nil {
		return dst, err
	}
	if o.AddSpecial {
		w.out = append(w.out, t.suffix...)
	}
	return w.out, nil
}

// EncodeRendered appends the ids of a text that a chat template wrote. With guarded set, typed text in it is guarded (see
// Guard): control tokens are found as the template wrote them, and then the guard is taken out of the text between them.
// A BOS that the model wants before every text is put before this one unless the template wrote it; an EOS after it makes
// no sense and is left out.
func (t *Tokenizer) EncodeRendered(dst []int32, text string, guarded bool) ([]int32, error) {
	return t.encodeRendered(dst, text, guarded, nil)
}

// EncodeMarked is EncodeRendered, and counts for each of places, bytes of the text, ascending, how many of the first ids stay as they are
// when the text goes on otherwise from there: at a control token with another one, else with other text. It may count fewer than there are,
// where that would cost much to find out.
func (t *Tokenizer) EncodeMarked(text string, guarded bool, places []int) (ids []int32, counts []int, err error) {
	m := &marks{at: places}
	ids, err = t.encodeRendered(nil, text, guarded, m)
	if err != nil {
		return nil, nil, err
	}
	return ids, m.counts, nil
}

func (t *Tokenizer) encodeRendered(dst []int32, text string, guarded bool, m *marks) ([]int32, error) {
	start := len(dst)
	ids, err := t.Encode(append(dst, t.prefix...), text, Options{ParseSpecial: true, written: true, rendered: guarded, marks: m})
	if err != nil {
		return dst, err
	}
	n := len(t.prefix)
	if own := ids[start+n:]; n > 0 && len(own) > 0 && own[0] == t.prefix[0] {
		ids = append(ids[:start], own...)
		if m != nil {
			for i := range m.counts {
				m.counts[i] = max(0, m.counts[i]-n)
			}
		}
	}
	return ids, nil
}

func (t *Tokenizer) encode(w *work, text string, o Options) error {
	if !t.rawBytes {
		n := len(text)
		if text = validUTF8(text); len(text) != n {
			o.marks = nil // they are places of another text
		}
	}
	parse := o.ParseSpecial && (o.written || !t.typedOnly) || o.rendered
	found := t.split(t.matcherFor(o), text, parse)
	afterToken := true
	for i, f := range found {
		o.marks.upTo(f.from, len(w.out))
		if f.token >= 0 {
			w.out = append(w.out, f.token)
			afterToken = true
			o.marks.before(f.to, len(w.out)-1)
			continue
		}
		began := len(w.out)
		part := text[f.from:f.to]
		if o.rendered {
			// The tokens that are written in a normalised text must not be found in what the guard protected, so they
			// were looked for before.
			part = t.guard.remove(part)
			parse = false
		}
		if err := t.encodeText(w, part, i == 0, afterToken, parse); err != nil {
			return err
		}
		for mark, ok := o.marks.within(f.to); ok; mark, ok = o.marks.within(f.to) {
			n := began
			if o.marks.looks++; o.marks.looks <= maxLooks {
				n += t.stays(w, began, text[f.from:mark], i == 0, afterToken, parse, o.rendered)
			}
			o.marks.count(n)
		}
		afterToken = false
	}
	o.marks.upTo(len(text), len(w.out))
	return nil
}

func (t *Tokenizer) matcherFor(o Options) *matcher {
	if o.rendered && t.parseAll != nil {
		return t.parseAll
	}
	return t.added
}

func (t *Tokenizer) split(m *matcher, s string, parse bool) []fragment {
	if s == "" {
		return nil
	}
	counts := func(a *added) bool { return parse || !a.special }
	if t.byLength {
		return m.byLength(s, counts)
	}
	return m.leftmost(s, counts)
}

// encodeText encodes what stands between added tokens.
func (t *Tokenizer) encodeText(w *work, s string, first, afterToken, parse bool) error {
	if t.normalize != nil {
		if first && t.firstMatters { // what the normalizer drops at the start moves the rest from there
			_, n := utf8.DecodeRuneInString(s)
			start, err := t.normalize(s[:n], &w.patterns)
			if err != nil {
				return fmt.Errorf("bpe: %w: %w", ErrText, err)
			}
			first = start != ""
		}
		var err error
		if s, err = t.normalize(s, &w.patterns); err != nil {
			return fmt.Errorf("bpe: %w: %w", ErrText, err)
		}
	}
	if s == "" {
		return nil
	}
	if t.late == nil {
		return t.model.encode(w, s, first, afterToken)
	}
	for i, f := range t.split(t.late, s, parse) {
		if f.token >= 0 {
			w.out = append(w.out, f.token)
			afterToken = true
			continue
		}
		if err := t.model.encode(w, s[f.from:f.to], first && i == 0, afterToken); err != nil {
			return err
		}
		afterToken = false
	}
	return nil
}

// Decode returns the bytes of ids; they need not be whole characters. Control tokens are left out unless special is set.
// For a folder they are the text that its decoder makes of all of them together, with U+FFFD for what is no character.
//
// The space that a SentencePiece tokenizer puts before a text is taken away where the ids start with text; WordPiece's
// likewise.
func (t *Tokenizer) Decode(ids []int32, special bool) ([]byte, error) {
	for i, id := range ids {
		if id < 0 || int(id) >= len(t.pieces) {
			return nil, fmt.Errorf("bpe: %w: id %d at place %d is not in the vocabulary of %d tokens", ErrText, id, i, len(t.pieces))
		}
	}
	if t.decoder != nil {
		return t.decodeAll(ids, special)
	}
	var out []byte
	strip := t.stripSpace
	for _, id := range ids {
		if k := t.vocab.kind[id]; (k.special() || k == unused) && !special {
			continue
		}
		piece := t.pieces[id]
		if strip && len(piece) > 0 {
			if !t.vocab.kind[id].special() {
				piece = []byte(strings.TrimPrefix(string(piece), " "))
				strip = false
			}
		}
		out = append(out, piece...)
	}
	return out, nil
}

// decodeAll runs the decoder of a folder on all ids.
func (t *Tokenizer) decodeAll(ids []int32, special bool) ([]byte, error) {
	tokens := make([]string, 0, len(ids))
	for i, id := range ids {
		if t.grouped && (i > 0 && id == ids[i-1] || id == t.info.Pad) {
			continue
		}
		s := t.shown[id]
		if s == "" && t.vocab.kind[id] == unused || !special && t.skipped[s] {
			continue
		}
		tokens = append(tokens, s)
	}
	text, err := t.decoder.text(tokens)
	if err != nil {
		return nil, err
	}
	if t.trimWord != "" {
		text = strings.TrimSpace(strings.ReplaceAll(text, t.trimWord, " "))
	}
	if t.cleanUp {
		text = cleanPunctuation(text, false)
	}
	return []byte(text), nil
}

// finish completes a tokenizer whose vocabulary, pieces, ids and matchers are set.
func (t *Tokenizer) finish() {
	missing := func(id int32) bool { return id < 0 }
	if slices.ContainsFunc(t.prefix, missing) {
		t.prefix = slices.DeleteFunc(slices.Clone(t.prefix), missing)
		t.notes = append(t.notes, "the model wants a token before every text and does not say which, since there is no BOS id: none is added")
	}
	if slices.ContainsFunc(t.suffix, missing) {
		t.suffix = slices.DeleteFunc(slices.Clone(t.suffix), missing)
		t.notes = append(t.notes, "the model wants a token after every text and does not say which, since there is no EOS id: none is added")
	}
	t.pairsAsClasses()
	t.info.Pairs = len(t.pair) > 0
	t.info.Tokens = len(t.vocab.text)
	t.info.AddBOS, t.info.AddEOS = len(t.prefix) > 0, len(t.suffix) > 0
	slices.Sort(t.info.EOG)
	t.info.EOG = slices.Compact(t.info.EOG)
	t.guard = newGuard(t)
	t.info.Hash = t.hash()
}

// hash identifies the vocabulary: two models with equal hashes encode to ids that mean the same.
func (t *Tokenizer) hash() string {
	h := sha256.New()
	var b []byte
	number := func(n int) { b = binary.LittleEndian.AppendUint32(b, uint32(n)) }
	number(len(t.pieces))
	for id, p := range t.pieces {
		number(len(p))
		b = append(append(b, p...), byte(t.vocab.kind[id]))
		if len(b) > 1<<14 {
			h.Write(b)
			b = b[:0]
		}
	}
	number(len(t.info.EOG))
	for _, id := range t.info.EOG {
		number(int(id))
	}
	number(int(t.info.BOS))
	h.Write(b)
	return hex.EncodeToString(h.Sum(nil))
}

// validUTF8 replaces every byte that starts no valid character by U+FFFD, as llama.cpp does; strings.ToValidUTF8 would
// make one of a run of them.
func validUTF8(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		b.WriteRune(r)
	}
	return b.String()
}
