package bpe

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// addedTokens is the library's list of tokens that are found in a text before it is cut into words, kept as the library
// keeps it: a token that is added again with other flags has those from then on; being special can come later and never
// goes; ids of tokens that the model does not know are given in the order in which they are added.
type addedTokens struct {
	model  *index // ids of the model's tokens by text
	size   int64  // of the model's vocabulary
	isSpec map[string]bool
	ids    map[string]int64
	byID   map[int64]hfAdded
	top    int64 // the greatest id among added tokens; -1: there is none
}

func newAddedTokens(model *index, size int) *addedTokens {
	return &addedTokens{model: model, size: int64(size), isSpec: map[string]bool{}, ids: map[string]int64{}, byID: map[int64]hfAdded{}, top: -1}
}

// id finds a token of either kind.
func (a *addedTokens) id(text string) (int64, bool) {
	if id, ok := a.ids[text]; ok {
		return id, true
	}
	id, ok := a.model.find(text)
	return int64(id), ok
}

// add adds tokens in order.
func (a *addedTokens) add(list []hfAdded) {
	for _, t := range list {
		if t.Special && t.Content != "" {
			a.isSpec[t.Content] = true
		}
	}
	for _, t := range list {
		id, ok := a.id(t.Content)
		if old, known := a.byID[id]; t.Content == "" || ok && known && old.same(t) {
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

// same reports whether two tokens are equal but for their ids.
func (t hfAdded) same(o hfAdded) bool {
	t.ID, o.ID = 0, 0
	return t == o
}

// mark makes tokens special, and adds those that there are not yet.
func (a *addedTokens) mark(list []hfAdded) {
	list = slices.Clone(list)
	for i := range list {
		list[i].Special = true
	}
	a.add(list)
}

// extend adds the added tokens to the model's texts.
func (a *addedTokens) extend(text []string) ([]string, error) {
	if len(a.ids) > maxTokens {
		return nil, fmt.Errorf("there are %d added tokens: at most %d are supported", len(a.ids), maxTokens)
	}
	for content, id := range a.ids {
		if len(content) > maxAddedLength {
			return nil, fmt.Errorf("the added token %.40q has %d bytes: at most %d are supported", content, len(content), maxAddedLength)
		}
		if id >= maxTokens {
			return nil, fmt.Errorf("the added token %q has the id %d: at most %d are supported", content, id, maxTokens-1)
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
func (a *addedTokens) lists(isControl func(id int64) bool) (raw, late []AddedToken) {
	for _, id := range slices.Sorted(maps.Keys(a.byID)) {
		t := a.byID[id]
		x := AddedToken{
			ID: int32(id), Text: t.Content, Special: a.isSpec[t.Content] || isControl(id),
			LStrip: t.LStrip, RStrip: t.RStrip, SingleWord: t.SingleWord,
		}
		if t.Normalized {
			late = append(late, x)
		} else {
			raw = append(raw, x)
		}
	}
	return raw, late
}

// folderTokens puts together what tokenizer.json and the files beside it say of added tokens, as transformers 5.24 does.
// Where a class
// builds its own tokenizer, the file's tokens are added in the order of their ids.
func (b *hfBuilder) folderTokens(a *addedTokens) {
	c, spec := b.config, b.spec
	if spec == nil || spec.keepsFile {
		a.add(b.file.Added)
	}
	decoder := map[int64]hfAdded{}
	maps.Copy(decoder, c.addedDecoder)
	for _, t := range b.file.Added {
		decoder[t.ID] = t
	}
	ids := make([]int64, 0, len(decoder))
	for id := range decoder {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	byText := map[string]hfAdded{}
	for _, list := range []map[int64]hfAdded{c.addedDecoder, decoder} {
		for _, id := range slices.Sorted(maps.Keys(list)) {
			byText[list[id].Content] = list[id]
		}
	}
	named := c.namedTokens(spec)
	for i, t := range named { // one that the configuration names keeps the flags it was added with
		if a, ok := byText[t.Content]; ok && c.names(t.Content) {
			named[i] = a
		}
	}
	isNamed := map[string]bool{}
	for _, t := range named {
		isNamed[t.Content] = true
	}
	var list []hfAdded
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
	extra := c.extraTokens(spec)
	for _, group := range [][]hfAdded{named, extra} {
		for _, t := range group {
			if !known[t.Content] {
				list = append(list, t)
				known[t.Content] = true
			}
		}
	}
	a.add(list)
	if spec != nil && spec.markAll {
		a.mark(append(slices.Clone(named), extra...))
	}
}

// tokenNames are the special tokens of transformers in its order.
func tokenNames() []string {
	return []string{"bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"}
}

// namedTokens are the special tokens of the configuration, where it is silent those of the class.
func (c *folderConfig) namedTokens(spec *classSpec) []hfAdded {
	var out []hfAdded
	add := func(t *hfAdded) {
		if t != nil && t.Content != "" {
			out = append(out, *t)
		}
	}
	for _, name := range tokenNames() {
		add(c.named(name, spec))
	}
	for _, name := range c.otherNames {
		add(c.tokens[name])
	}
	return out
}

// named returns one special token, nil where there is none.
func (c *folderConfig) named(name string, spec *classSpec) *hfAdded {
	if t, ok := c.tokens[name]; ok {
		return t // may be nil: the configuration says null
	}
	if spec == nil {
		return nil
	}
	text := spec.tokens[name]
	if text == "" {
		return nil
	}
	return &hfAdded{Content: text, Special: true, LStrip: name == "mask_token" && spec.maskTakesSpace}
}

// names reports whether the configuration itself names a special token.
func (c *folderConfig) names(text string) bool {
	for _, t := range c.tokens {
		if t != nil && t.Content == text {
			return true
		}
	}
	return false
}

// extraTokens are further special tokens.
func (c *folderConfig) extraTokens(spec *classSpec) []hfAdded {
	if len(c.extra) > 0 || spec == nil || spec.extra == nil {
		return c.extra
	}
	var out []hfAdded
	for _, s := range spec.extra(c) {
		out = append(out, hfAdded{Content: s, Special: true})
	}
	return out
}

// tokenText is the text of a special token, "" where there is none.
func (c *folderConfig) tokenText(name string, spec *classSpec) string {
	if t := c.named(name, spec); t != nil {
		return t.Content
	}
	return ""
}

// isTokenKey reports whether a key of tokenizer_config.json names a special token.
func isTokenKey(key string) bool { return strings.HasSuffix(key, "_token") }
