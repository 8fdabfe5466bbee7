package transformers

import (
	"strings"

	"edged/plugins/tokenizer-bpe/bpe/tokenizerjson"
)

// tokenNames are the special tokens of transformers in its order.
func tokenNames() []string {
	return []string{"bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"}
}

// NamedTokens are the special tokens that the configuration names, and those of the class (nil: none) where
// it says nothing.
func (c *Config) NamedTokens(spec *Class) []tokenizerjson.AddedToken {
	var out []tokenizerjson.AddedToken
	add := func(t *tokenizerjson.AddedToken) {
		if t != nil && t.Content != "" {
			out = append(out, *t)
		}
	}
	for _, name := range tokenNames() {
		add(c.named(name, spec))
	}
	for _, name := range c.otherNames {
		add(c.Tokens[name])
	}
	return out
}

// named is the special token of a key such as bos_token; nil where there is none.
func (c *Config) named(name string, spec *Class) *tokenizerjson.AddedToken {
	if t, ok := c.Tokens[name]; ok {
		return t // may be nil: the configuration says null
	}
	if spec == nil {
		return nil
	}
	text := spec.Tokens[name]
	if text == "" {
		return nil
	}
	return &tokenizerjson.AddedToken{Content: text, Special: true, LStrip: name == "mask_token" && spec.maskLStrip}
}

// NamesToken reports whether the configuration itself names a special token.
func (c *Config) NamesToken(text string) bool {
	for _, t := range c.Tokens {
		if t != nil && t.Content == text {
			return true
		}
	}
	return false
}

// ExtraTokens are the special tokens without a key of their own.
func (c *Config) ExtraTokens(spec *Class) []tokenizerjson.AddedToken {
	if len(c.Extra) > 0 || spec == nil || spec.Extra == nil {
		return c.Extra
	}
	var out []tokenizerjson.AddedToken
	for _, s := range spec.Extra(c) {
		out = append(out, tokenizerjson.AddedToken{Content: s, Special: true})
	}
	return out
}

// TokenText is the text of the special token of a key such as bos_token; "" where there is none.
func (c *Config) TokenText(name string, spec *Class) string {
	if t := c.named(name, spec); t != nil {
		return t.Content
	}
	return ""
}

// isTokenKey reports whether a key of tokenizer_config.json names a special token.
func isTokenKey(key string) bool { return strings.HasSuffix(key, "_token") }
