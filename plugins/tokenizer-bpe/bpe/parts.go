package bpe

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"slices"

	"edged/plugins/tokenizer-bpe/bpe/model"
	"edged/plugins/tokenizer-bpe/bpe/split"
	"edged/plugins/tokenizer-bpe/bpe/vocab"
)

// Parts holds what a reader found in a model's files, for New. The zero value of each optional part is what
// most models want.
type Parts struct {
	// Info has what the files say; Tokens, AddBOS, AddEOS, Pairs and Hash are New's to fill.
	Info       Info
	Vocabulary *vocab.Vocabulary
	Pieces     [][]byte // by id: what each token decodes to alone
	Model      model.Model
	// Normalize changes a text before it is cut into words; nil: it stays as it is. The error is that of a
	// pattern which took too long.
	Normalize func(s string, patterns *split.Budget) (string, error)

	// Added are the tokens that are found in a text as it is, AddedNormalized those that are found in what
	// Normalize made of it, with their texts normalised too. AddedWritten takes the place of Added for texts
	// that a template wrote, in which the control tokens of both lists are found; it counts only with
	// AddedNormalized.
	Added, AddedNormalized, AddedWritten []AddedToken
	// WordClasses say what a word is, for tokens that stand alone; nil where there are none.
	WordClasses *split.Classes
	// LongestFirst looks for added tokens in llama.cpp's order: the longest in the whole text first.
	LongestFirst bool
	// WrittenOnly finds control tokens only in what a template wrote, whatever Options say (Mistral's tekken.json).
	WrittenOnly bool
	// RawBytes passes invalid UTF-8 on to the model.
	RawBytes bool
	// StartMatters: the model treats the start of a text otherwise than what follows.
	StartMatters bool

	Prefix, Suffix []int32    // what Options.AddSpecial puts around a text; -1: a token that the files do not name
	Pair           []PairPart // how the model wants two texts; nil: as transformers' classes put them together, where that is known

	// StripSpace: the space before a text is the tokenizer's own, and decoding takes it away.
	StripSpace bool
	// Decoder makes a text of the Texts of all ids together; nil: Decode joins the Pieces. With a Decoder,
	// Skipped are the Texts of the tokens that Decode leaves out unless it is told to show them, and Grouped
	// drops padding and tokens that repeat the one before.
	Decoder Decoder
	Texts   []string // by id
	Skipped map[string]bool
	Grouped bool

	Class string   // of transformers, which a folder's tokenizer follows; "" where the file is taken as it is
	Notes []string // where the files disagree or lack something, in sentences
}

// Decoder turns the texts of tokens into one text. The error is that of a pattern which took too long.
type Decoder interface {
	Text(tokens []string) (string, error)
}

// New makes a tokenizer of its parts, which it takes over. A token around a text that is -1 is left out, and
// a note says so.
func New(p Parts) *Tokenizer {
	missing := func(id int32) bool { return id < 0 }
	if slices.ContainsFunc(p.Prefix, missing) {
		p.Prefix = slices.DeleteFunc(slices.Clone(p.Prefix), missing)
		p.Notes = append(p.Notes, "the model wants a token before every text and does not say which, since there is no BOS id: none is added")
	}
	if slices.ContainsFunc(p.Suffix, missing) {
		p.Suffix = slices.DeleteFunc(slices.Clone(p.Suffix), missing)
		p.Notes = append(p.Notes, "the model wants a token after every text and does not say which, since there is no EOS id: none is added")
	}
	p.pairsAsClasses()
	i := &p.Info
	i.Pairs = len(p.Pair) > 0
	i.Tokens = len(p.Vocabulary.Text)
	i.AddBOS, i.AddEOS = len(p.Prefix) > 0, len(p.Suffix) > 0
	slices.Sort(i.EOG)
	i.EOG = slices.Compact(i.EOG)
	i.Hash = p.hash()
	t := &Tokenizer{parts: p, guard: newGuard(p.Vocabulary), added: newMatcher(p.Added, p.WordClasses)}
	if len(p.AddedNormalized) > 0 {
		t.late = newMatcher(p.AddedNormalized, p.WordClasses)
		t.written = newMatcher(p.AddedWritten, p.WordClasses)
	}
	return t
}

// hash identifies the vocabulary: two models with equal hashes encode to ids that mean the same.
func (p *Parts) hash() string {
	h := sha256.New()
	var b []byte
	number := func(n int) { b = binary.LittleEndian.AppendUint32(b, uint32(n)) }
	number(len(p.Pieces))
	for id, piece := range p.Pieces {
		number(len(piece))
		b = append(append(b, piece...), byte(p.Vocabulary.Types[id]))
		if len(b) > 1<<14 {
			h.Write(b)
			b = b[:0]
		}
	}
	number(len(p.Info.EOG))
	for _, id := range p.Info.EOG {
		number(int(id))
	}
	number(int(p.Info.BOS))
	h.Write(b)
	return hex.EncodeToString(h.Sum(nil))
}
