package huggingface

import (
	"fmt"
	"maps"
	"slices"

	"edged/plugins/tokenizer-bpe/bpe"
	"edged/plugins/tokenizer-bpe/bpe/tokenizerjson"
	"edged/plugins/tokenizer-bpe/bpe/vocab"
)

// addedTokens are the tokens that are found in a text before it is cut into words, with the rules of the
// tokenizers library: a token that is added again with other flags has those from then on; a token can become
// special later and stays so; tokens that the model does not know get ids in the order in which they are
// added.
type addedTokens struct {
	model     *vocab.Index // ids of the model's tokens by text
	size      int64        // of the model's vocabulary
	isSpecial map[string]bool
	ids       map[string]int64
	byID      map[int64]tokenizerjson.AddedToken
	top       int64 // the greatest id among added tokens; -1: there is none
}

func newAddedTokens(model *vocab.Index, size int) *addedTokens {
	return &addedTokens{
		model:     model,
		size:      int64(size),
		isSpecial: map[string]bool{},
		ids:       map[string]int64{},
		byID:      map[int64]tokenizerjson.AddedToken{},
		top:       -1,
	}
}

// id is the id of an added token or of one of the model's.
func (a *addedTokens) id(text string) (int64, bool) {
	if id, ok := a.ids[text]; ok {
		return id, true
	}
	id, ok := a.model.Find(text)
	return int64(id), ok
}

// add adds tokens in order.
func (a *addedTokens) add(list []tokenizerjson.AddedToken) {
	for _, t := range list {
		if t.Special && t.Content != "" {
			a.isSpecial[t.Content] = true
		}
	}
	for _, t := range list {
		id, ok := a.id(t.Content)
		if old, known := a.byID[id]; t.Content == "" || ok && known && old.SameAs(t) {
			continue
		}
		if !ok {
			id = a.size
			if a.top >= a.size {
				id = a.top + 1
			}
		}
		t.ID = id
		a.ids[t.Content] = id
		a.byID[id] = t
		a.top = max(a.top, id)
	}
}

// markSpecial adds tokens as special ones.
func (a *addedTokens) markSpecial(list []tokenizerjson.AddedToken) {
	list = slices.Clone(list)
	for i := range list {
		list[i].Special = true
	}
	a.add(list)
}

// extend adds the added tokens to the model's texts.
func (a *addedTokens) extend(text []string) ([]string, error) {
	if len(a.ids) > vocab.MaxTokens {
		return nil, fmt.Errorf("there are %d added tokens: at most %d are supported", len(a.ids), vocab.MaxTokens)
	}
	for content, id := range a.ids {
		if len(content) > vocab.MaxAddedLength {
			return nil, fmt.Errorf(
				"the added token %.40q has %d bytes: at most %d are supported",
				content,
				len(content),
				vocab.MaxAddedLength,
			)
		}
		if id >= vocab.MaxTokens {
			return nil, fmt.Errorf("the added token %q has the id %d: at most %d are supported", content, id, vocab.MaxTokens-1)
		}
		for int64(len(text)) <= id {
			text = append(text, "")
		}
	}
	for id, t := range a.byID {
		if text[id] == "" {
			text[id] = t.Content
		}
	}
	return text, nil
}

// lists are the tokens that are searched in the text as it is, and those that are searched in the normalised text.
func (a *addedTokens) lists(isControl func(id int64) bool) (raw, normalized []bpe.AddedToken) {
	for _, id := range slices.Sorted(maps.Keys(a.byID)) {
		t := a.byID[id]
		x := bpe.AddedToken{
			ID: int32(id), Text: t.Content, Special: a.isSpecial[t.Content] || isControl(id),
			LStrip: t.LStrip, RStrip: t.RStrip, SingleWord: t.SingleWord,
		}
		if t.Normalized {
			normalized = append(normalized, x)
		} else {
			raw = append(raw, x)
		}
	}
	return raw, normalized
}

// folderTokens puts together what tokenizer.json and the files beside it say of added tokens, as transformers
// 5.24 does. Where a class builds its own tokenizer, the file's tokens are added in the order of their ids.
func (b *builder) folderTokens(a *addedTokens) {
	c, spec := b.config, b.class
	if spec == nil || spec.FileAsIs {
		a.add(b.file.Added)
	}
	decoder := map[int64]tokenizerjson.AddedToken{}
	maps.Copy(decoder, c.AddedTokensDecoder)
	for _, t := range b.file.Added {
		decoder[t.ID] = t
	}
	ids := make([]int64, 0, len(decoder))
	for id := range decoder {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	byText := map[string]tokenizerjson.AddedToken{}
	for _, list := range []map[int64]tokenizerjson.AddedToken{c.AddedTokensDecoder, decoder} {
		for _, id := range slices.Sorted(maps.Keys(list)) {
			byText[list[id].Content] = list[id]
		}
	}
	named := c.NamedTokens(spec)
	for i, t := range named { // one that the configuration names keeps the flags it was added with
		if a, ok := byText[t.Content]; ok && c.NamesToken(t.Content) {
			named[i] = a
		}
	}
	isNamed := map[string]bool{}
	for _, t := range named {
		isNamed[t.Content] = true
	}
	var list []tokenizerjson.AddedToken
	known := map[string]bool{}
	for text := range a.ids {
		known[text] = true
	}
	for _, id := range ids {
		t := decoder[id]
		t.Special = t.Special || isNamed[t.Content]
		list = append(list, t)
		known[t.Content] = true
	}
	extra := c.ExtraTokens(spec)
	for _, group := range [][]tokenizerjson.AddedToken{named, extra} {
		for _, t := range group {
			if !known[t.Content] {
				list = append(list, t)
				known[t.Content] = true
			}
		}
	}
	a.add(list)
	if spec != nil && spec.MarkSpecial {
		a.markSpecial(append(slices.Clone(named), extra...))
	}
}
