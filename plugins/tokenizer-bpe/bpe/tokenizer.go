package bpe

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"

	"edged/plugins/tokenizer-bpe/bpe/model"
	"edged/plugins/tokenizer-bpe/bpe/split"
	"edged/plugins/tokenizer-bpe/bpe/vocab"
)

// Errors that callers can act on.
var (
	// ErrModel means that the file cannot be served: damaged, or of a kind that this plugin does not know.
	ErrModel = errors.New("cannot read the tokenizer")
	// ErrText means that a text cannot be encoded, or ids cannot be decoded.
	ErrText = errors.New("cannot encode")
)

// Options of Encode. The zero value takes the text as typed text: no tokens around it, none parsed in it.
type Options struct {
	AddSpecial   bool // what the model wants around a text: BOS, EOS, [CLS] and [SEP]
	ParseSpecial bool // control tokens that are written in the text are those tokens
	// written says that a template wrote the text, rendered that what was typed in it is guarded: see EncodeRendered.
	written, rendered bool
	marks             *marks // places of the text that are counted; nil: none
}

// Tokenizer turns text into ids and back. It is what New makes of the parts that a reader found in a model's
// files, and is never changed after that.
type Tokenizer struct {
	parts   Parts
	added   *matcher // of parts.Added
	late    *matcher // of parts.AddedNormalized; nil: there are none
	written *matcher // of parts.AddedWritten; nil: added serves
	guard   *guard
	scratch sync.Pool // of *model.Scratch
}

// Class is the class of transformers that a folder's tokenizer follows, "" where it takes tokenizer.json as
// it is, and for GGUF files.
func (t *Tokenizer) Class() string { return t.parts.Class }

// Notes say in sentences where the files of a folder disagree, and which counts.
func (t *Tokenizer) Notes() []string { return slices.Clone(t.parts.Notes) }

// Info describes the tokenizer.
func (t *Tokenizer) Info() Info {
	i := t.parts.Info
	i.EOG = slices.Clone(i.EOG)
	return i
}

// Pieces returns the bytes of every token, by id, and which tokens are never text. The slices are the tokenizer's own.
func (t *Tokenizer) Pieces() (pieces [][]byte, isControl []bool) {
	isControl = make([]bool, len(t.parts.Vocabulary.Types))
	for id, k := range t.parts.Vocabulary.Types {
		isControl[id] = k.IsSpecial() || k == vocab.Unused // the latter decode to nothing
	}
	return t.parts.Pieces, isControl
}

// Text returns what a token is written as in the model's file; "" for an id that the vocabulary does not have.
func (t *Tokenizer) Text(id int32) string {
	if id < 0 || int(id) >= len(t.parts.Vocabulary.Text) {
		return ""
	}
	return t.parts.Vocabulary.Text[id]
}

// Encode appends the ids of a text to dst.
func (t *Tokenizer) Encode(dst []int32, text string, o Options) ([]int32, error) {
	w, ok := t.scratch.Get().(*model.Scratch)
	if !ok {
		w = &model.Scratch{}
	}
	defer func() {
		w.Free()
		t.scratch.Put(w)
	}()
	w.Out, w.Strict, w.Patterns = dst, o.rendered, split.NewBudget(len(text))
	if o.AddSpecial {
		w.Out = append(w.Out, t.parts.Prefix...)
	}
	if err := t.encode(w, text, o); err != nil {
		return dst, err
	}
	if o.AddSpecial {
		w.Out = append(w.Out, t.parts.Suffix...)
	}
	return w.Out, nil
}

// EncodeRendered appends the ids of a text that a chat template wrote. With guarded set, typed text in it is
// guarded (see Guard): control tokens are found as the template wrote them, and then the guard is taken out
// of the text between them. A BOS that the model wants before every text is put before this one unless the
// template wrote it; an EOS after it makes no sense and is left out.
func (t *Tokenizer) EncodeRendered(dst []int32, text string, guarded bool) ([]int32, error) {
	return t.encodeRendered(dst, text, guarded, nil)
}

// EncodeMarked is EncodeRendered, and counts for each of places, bytes of the text, ascending, how many of
// the first ids stay as they are when the text goes on otherwise from there: at a control token with another
// one, else with other text. It may count fewer than there are, where that would cost much to find out.
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
	ids, err := t.Encode(append(dst, t.parts.Prefix...), text, Options{ParseSpecial: true, written: true, rendered: guarded, marks: m})
	if err != nil {
		return dst, err
	}
	n := len(t.parts.Prefix)
	if own := ids[start+n:]; n > 0 && len(own) > 0 && own[0] == t.parts.Prefix[0] {
		ids = append(ids[:start], own...)
		if m != nil {
			for i := range m.counts {
				m.counts[i] = max(0, m.counts[i]-n)
			}
		}
	}
	return ids, nil
}

func (t *Tokenizer) encode(w *model.Scratch, text string, o Options) error {
	if !t.parts.RawBytes {
		n := len(text)
		if text = validUTF8(text); len(text) != n {
			o.marks = nil // they are places of another text
		}
	}
	parse := o.ParseSpecial && (o.written || !t.parts.WrittenOnly) || o.rendered
	found := t.split(t.matcherFor(o), text, parse)
	afterToken := true
	for i, f := range found {
		o.marks.upTo(f.from, len(w.Out))
		if f.token >= 0 {
			w.Out = append(w.Out, f.token)
			afterToken = true
			o.marks.before(f.to, len(w.Out)-1)
			continue
		}
		began := len(w.Out)
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
			if o.marks.measured++; o.marks.measured <= maxMeasured {
				n += t.unchangedIDs(w, began, text[f.from:mark], i == 0, afterToken, parse, o.rendered)
			}
			o.marks.count(n)
		}
		afterToken = false
	}
	o.marks.upTo(len(text), len(w.Out))
	return nil
}

func (t *Tokenizer) matcherFor(o Options) *matcher {
	if o.rendered && t.written != nil {
		return t.written
	}
	return t.added
}

func (t *Tokenizer) split(m *matcher, s string, parse bool) []fragment {
	if s == "" {
		return nil
	}
	counts := func(a *AddedToken) bool { return parse || !a.Special }
	if t.parts.LongestFirst {
		return m.byLength(s, counts)
	}
	return m.leftmost(s, counts)
}

// textError says that err is what is wrong with a text; nil stays nil.
func textError(err error) error {
	if err == nil || errors.Is(err, ErrText) {
		return err
	}
	return fmt.Errorf("bpe: %w: %w", ErrText, err)
}

// encodeText encodes what stands between added tokens.
func (t *Tokenizer) encodeText(w *model.Scratch, s string, first, afterToken, parse bool) error {
	if t.parts.Normalize != nil {
		if first && t.parts.StartMatters { // what the normalizer drops at the start moves the rest from there
			_, n := utf8.DecodeRuneInString(s)
			start, err := t.parts.Normalize(s[:n], &w.Patterns)
			if err != nil {
				return textError(err)
			}
			first = start != ""
		}
		var err error
		if s, err = t.parts.Normalize(s, &w.Patterns); err != nil {
			return textError(err)
		}
	}
	if s == "" {
		return nil
	}
	if t.late == nil {
		return textError(t.parts.Model.Encode(w, s, first, afterToken))
	}
	for i, f := range t.split(t.late, s, parse) {
		if f.token >= 0 {
			w.Out = append(w.Out, f.token)
			afterToken = true
			continue
		}
		if err := t.parts.Model.Encode(w, s[f.from:f.to], first && i == 0, afterToken); err != nil {
			return textError(err)
		}
		afterToken = false
	}
	return nil
}

// Decode returns the bytes of ids; they need not be whole characters. Control tokens are left out unless
// special is set. For a folder they are the text that its decoder makes of all of them together, with U+FFFD
// for what is no character.
//
// The space that a SentencePiece tokenizer puts before a text is taken away where the ids start with text; WordPiece's
// likewise.
func (t *Tokenizer) Decode(ids []int32, special bool) ([]byte, error) {
	for i, id := range ids {
		if id < 0 || int(id) >= len(t.parts.Pieces) {
			return nil, fmt.Errorf("bpe: %w: id %d at place %d is not in the vocabulary of %d tokens", ErrText, id, i, len(t.parts.Pieces))
		}
	}
	if t.parts.Decoder != nil {
		return t.decodeAll(ids, special)
	}
	var out []byte
	strip := t.parts.StripSpace
	for _, id := range ids {
		if k := t.parts.Vocabulary.Types[id]; (k.IsSpecial() || k == vocab.Unused) && !special {
			continue
		}
		piece := t.parts.Pieces[id]
		if strip && len(piece) > 0 {
			if !t.parts.Vocabulary.Types[id].IsSpecial() {
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
		if t.parts.Grouped && (i > 0 && id == ids[i-1] || id == t.parts.Info.Pad) {
			continue
		}
		s := t.parts.Texts[id]
		if s == "" && t.parts.Vocabulary.Types[id] == vocab.Unused || !special && t.parts.Skipped[s] {
			continue
		}
		tokens = append(tokens, s)
	}
	text, err := t.parts.Decoder.Text(tokens)
	if err != nil {
		return nil, textError(err)
	}
	return []byte(text), nil
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
