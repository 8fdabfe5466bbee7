package huggingface

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"edged/plugins/tokenizer-bpe/bpe/model"
	"edged/plugins/tokenizer-bpe/bpe/sentencepiece"
	"edged/plugins/tokenizer-bpe/bpe/tokenizerjson"
	"edged/plugins/tokenizer-bpe/bpe/transformers"
	"edged/plugins/tokenizer-bpe/bpe/vocab"
)

// spmFolder is the SentencePiece model of a folder without a tokenizer.json, put into that file's form.
type spmFolder struct{ *sentencepiece.Model }

// precompiledJSON is the character map as a tokenizer.json has it; nil: there is none.
func (m spmFolder) precompiledJSON() any {
	if len(m.Charsmap) == 0 {
		return nil
	}
	return tokenizerjson.Object{"type": "Precompiled", "precompiled_charsmap": base64.StdEncoding.EncodeToString(m.Charsmap)}
}

// file puts the model into the form of a tokenizer.json, as transformers 5.24 does: for a class that builds
// its own parts the vocabulary only, in that class's order; without a class all of it.
func (m spmFolder) file(c *transformers.Config, spec *transformers.Class, class string) (*tokenizerjson.File, error) {
	f := &tokenizerjson.File{}
	if spec != nil && (spec.Model == "BPE") != m.IsBPE {
		return nil, fmt.Errorf("%s is a class for a %s model, and the SentencePiece model is another", class, spec.Model)
	}
	text, score := slices.Clone(m.Texts), make([]float64, len(m.Texts))
	for i, s := range m.Scores {
		score[i] = float64(s)
	}
	if spec != nil {
		var err error
		if text, score, err = m.arranged(c, spec, class, text, score); err != nil {
			return nil, err
		}
		if f.Normalizer, err = json.Marshal(m.precompiledJSON()); err != nil {
			return nil, err
		}
	}
	f.Model = tokenizerjson.Model{
		Type:  "Unigram",
		Vocab: tokenizerjson.Vocab{IsList: !m.IsBPE, Texts: text, Scores: score, Count: len(text)},
	}
	if m.IsBPE {
		if err := m.bpeFile(f, spec); err != nil {
			return nil, err
		}
	} else {
		f.Model.UnknownID = &m.UnknownID
	}
	// Control and user-defined pieces are added tokens.
	var extra []tokenizerjson.AddedToken
	for id, k := range m.Types {
		if k == vocab.Control || k == vocab.UserDefined && spec != nil { // without a class those are cut out as words
			extra = append(extra, tokenizerjson.AddedToken{Content: m.Texts[id], Special: k == vocab.Control})
		}
	}
	switch class {
	case "T5Tokenizer", "LasrTokenizer", "VideoPrismTokenizer", "CodeLlamaTokenizer":
		for _, s := range spec.Extra(c) {
			extra = append(extra, tokenizerjson.AddedToken{Content: s, Special: true})
		}
	}
	if len(c.Extra) == 0 {
		c.Extra = extra
	}
	if spec == nil {
		return f, m.plainParts(f, c)
	}
	return f, nil
}

// bpeFile sets the merges.
func (m spmFolder) bpeFile(f *tokenizerjson.File, spec *transformers.Class) error {
	f.Model.Type = "BPE"
	count := func(id int) int { return utf8.RuneCountInString(m.Texts[id]) }
	may := func(int) bool { return true }
	less := func(a, b sentencepiece.Merge) int {
		return cmp.Or(cmp.Compare(a.Whole, b.Whole), cmp.Compare(count(a.Left), count(b.Left)))
	}
	if spec == nil {
		may = func(id int) bool { return m.Types[id] == vocab.Normal }
		less = func(a, b sentencepiece.Merge) int {
			return cmp.Or(cmp.Compare(m.Scores[b.Whole], m.Scores[a.Whole]), cmp.Compare(a.Whole, b.Whole),
				cmp.Compare(m.Texts[a.Left], m.Texts[b.Left]), cmp.Compare(m.Texts[a.Right], m.Texts[b.Right]))
		}
	}
	var err error
	f.Model.Merges.Pairs, err = m.Merges(may, less)
	f.Model.Unknown, f.Model.FuseUnknown, f.Model.ByteFallback = &m.UnknownPiece, true, m.ByteFallback
	f.Model.IgnoreMerges = slices.Contains(m.Types, vocab.UserDefined)
	return err
}

// arranged puts the pieces in the order of a class's ids.
func (m spmFolder) arranged(
	c *transformers.Config,
	spec *transformers.Class,
	class string,
	text []string,
	score []float64,
) ([]string, []float64, error) {
	at := func(first []string, skip int, last ...string) ([]string, []float64, error) {
		if len(text) < skip {
			return nil, nil, fmt.Errorf("it has %d pieces, which is too few for %s", len(text), class)
		}
		t := append(slices.Clone(first), text[skip:]...)
		s := append(make([]float64, len(first)), score[skip:]...)
		return append(t, last...), append(s, make([]float64, len(last))...), nil
	}
	word := func(name string) string { return c.TokenText(name, spec) }
	switch class {
	case "XLMRobertaTokenizer":
		return at([]string{word("bos_token"), word("pad_token"), word("eos_token"), word("unk_token")}, 3, word("mask_token"))
	case "CamembertTokenizer":
		t, s, err := at([]string{"<s>NOTUSED", word("pad_token"), "</s>NOTUSED", word("unk_token"), "<unk>NOTUSED"}, 1, word("mask_token"))
		if err == nil {
			s[4] = -100
		}
		return t, s, err
	case "T5Tokenizer", "VideoPrismTokenizer":
		list := transformers.Sentinels(c)
		slices.Reverse(list)
		return at(nil, 0, list...)
	case "NllbTokenizer":
		t := []string{word("bos_token"), word("pad_token"), word("eos_token"), word("unk_token")}
		for _, s := range text {
			if !slices.Contains(t[:4], s) {
				t = append(t, s)
			}
		}
		return t, make([]float64, len(t)), nil
	case "MBartTokenizer", "MBart50Tokenizer", "PegasusTokenizer":
		return nil, nil, fmt.Errorf(
			"%s arranges its pieces anew: the folder needs a tokenizer.json, which transformers' save_pretrained writes",
			class,
		)
	}
	return text, score, nil
}

// plainParts are the parts of a folder without a class of its own: what the model file itself says.
func (m spmFolder) plainParts(f *tokenizerjson.File, c *transformers.Config) error {
	legacy := c.Bool("legacy", true)
	var norms []any
	if p := m.precompiledJSON(); p != nil {
		norms = append(norms, p)
	}
	if m.Squeeze {
		norms = append(norms, tokenizerjson.ReplacePattern(`\A +| +\z`, ""), tokenizerjson.ReplacePattern(" {2,}", " "))
	}
	if m.Escape {
		norms = append(norms, tokenizerjson.ReplaceText(" ", vocab.Blank))
	}
	scheme := "first"
	if legacy {
		scheme = "always"
		if m.AddPrefix {
			norms = append(norms, tokenizerjson.ReplacePattern(`\A`+vocab.Blank, vocab.Blank+vocab.Blank))
		}
	}
	var pres []any
	if m.AddPrefix {
		pres = append(pres, tokenizerjson.Metaspace(scheme, false))
	}
	var defined []string
	for id, k := range m.Types {
		if k == vocab.UserDefined && m.Texts[id] != "" {
			defined = append(defined, m.Texts[id])
		}
	}
	if len(defined) > 0 {
		slices.SortStableFunc(defined, func(a, b string) int { return utf8.RuneCountInString(b) - utf8.RuneCountInString(a) })
		for i, s := range defined {
			defined[i] = regexp.QuoteMeta(s)
		}
		pres = append(
			pres,
			tokenizerjson.Object{
				"type":     "Split",
				"pattern":  tokenizerjson.Object{"Regex": strings.Join(defined, "|")},
				"behavior": "Isolated",
				"invert":   false,
			},
		)
	}
	steps := []any{tokenizerjson.ReplaceText(vocab.Blank, " ")}
	if m.ByteFallback {
		steps = append(steps, tokenizerjson.OfType("ByteFallback"))
	}
	if m.AddPrefix {
		steps = append(steps, tokenizerjson.OfType("Fuse"), tokenizerjson.Object{"type": "Strip", "content": " ", "start": 1, "stop": 0})
	} else if m.ByteFallback {
		steps = append(steps, tokenizerjson.OfType("Fuse"))
	}
	f.Model.ByteFallback = m.ByteFallback
	for _, part := range []struct {
		to  *json.RawMessage
		own any
	}{{&f.Normalizer, tokenizerjson.Normalizers(norms...)}, {&f.PreTokenizer, tokenizerjson.PreTokenizers(pres...)}, {&f.Decoder, tokenizerjson.Decoders(steps...)}} {
		raw, err := json.Marshal(part.own)
		if err != nil {
			return err
		}
		*part.to = raw
	}
	for name, id := range map[string]int64{"bos_token": m.BOSID, "eos_token": m.EOSID, "unk_token": m.UnknownID} {
		if _, given := c.Tokens[name]; !given && id >= 0 && id < int64(len(m.Texts)) {
			c.Tokens[name] = &tokenizerjson.AddedToken{Content: m.Texts[id], Special: true}
		}
	}
	return nil
}

// unigram is the model's search as SentencePiece runs it: in single precision, with user-defined pieces preferred.
func (m spmFolder) unigram() (*model.Unigram, error) {
	least, most := float32(0), float32(0)
	first := true
	for id, k := range m.Types {
		if k == vocab.Normal {
			if first {
				least, most, first = m.Scores[id], m.Scores[id], false
			}
			least, most = min(least, m.Scores[id]), max(most, m.Scores[id])
		}
	}
	text, score := make([]string, len(m.Texts)), make([]float64, len(m.Texts))
	for id, k := range m.Types {
		switch k {
		case vocab.Normal:
			text[id], score[id] = m.Texts[id], float64(m.Scores[id])
		case vocab.UserDefined:
			text[id], score[id] = m.Texts[id], float64(float32(len(m.Texts[id]))*most-0.1)
		}
	}
	u, err := model.NewUnigram(text, score, int32(max(m.UnknownID, 0)), make([]bool, len(text)))
	if err != nil {
		return nil, err
	}
	u.UnknownScore, u.SinglePrecision = float64(least-model.UnknownPenalty), true
	return u, nil
}
