package transformers

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"edged/core/model/mmap"
	"edged/plugins/tokenizer-bpe/bpe/tokenizerjson"
)

// Config holds the settings of the files beside a tokenizer: tokenizer_config.json, special_tokens_map.json,
// generation_config.json, config.json and the chat templates. A reader of a file that names its own special
// tokens may complete Tokens and Extra.
type Config struct {
	BOSID              *int64                               // nil: not said
	EOSIDs             []*int64                             // all that the files name, the first one first
	Template           string                               // the chat template; "": there is none
	NamedTemplates     map[string]string                    // other chat templates by their names
	Tokens             map[string]*tokenizerjson.AddedToken // special tokens by their key; nil: the file says that there is none
	otherNames         []string                             // keys of special tokens beyond tokenNames, in the file's order
	Extra              []tokenizerjson.AddedToken           // extra_special_tokens
	AddedTokensDecoder map[int64]tokenizerjson.AddedToken   // added_tokens_decoder
	Settings           map[string]json.RawMessage           // all of tokenizer_config.json
	class              string                               // tokenizer_class of tokenizer_config.json
	modelClass         string                               // tokenizer_class of config.json
	modelType          string                               // model_type of config.json
	modelName          string                               // model_name of config.json
	remoteCode         bool                                 // the folder names code of its own for the tokenizer
}

// ValidID is an id of a file, or -1 where that is nil or not in a vocabulary of n tokens.
func (c *Config) ValidID(id *int64, n int) int32 {
	if id == nil || *id < 0 || *id >= int64(n) {
		return -1
	}
	return int32(*id)
}

// FirstEOS is the first EOS id that the files name; nil where they name none.
func (c *Config) FirstEOS() *int64 {
	if len(c.EOSIDs) == 0 {
		return nil
	}
	return c.EOSIDs[0]
}

// ReadConfig reads the files of a folder; all are optional. A file that is damaged, too big or a link to
// nowhere is an error that names it.
func ReadConfig(dir string) (*Config, error) {
	c := &Config{Tokens: map[string]*tokenizerjson.AddedToken{}}
	var config struct {
		Class    string                 `json:"tokenizer_class"`
		Template templateText           `json:"chat_template"`
		Added    map[string]configToken `json:"added_tokens_decoder"`
		Extra    extraList              `json:"extra_special_tokens"`
		More     extraList              `json:"additional_special_tokens"`
		AutoMap  autoMap                `json:"auto_map"`
	}
	var generation, model struct {
		BOS   *int64 `json:"bos_token_id"`
		EOS   idList `json:"eos_token_id"`
		Type  string `json:"model_type"`
		Name  any    `json:"model_name"`
		Class any    `json:"tokenizer_class"`
	}
	var template struct {
		Template templateText `json:"chat_template"`
	}
	special := map[string]json.RawMessage{}
	for _, f := range []struct {
		name string
		into []any
	}{
		{"special_tokens_map.json", []any{&special}},
		{"tokenizer_config.json", []any{&config, &c.Settings}},
		{"generation_config.json", []any{&generation}},
		{"config.json", []any{&model}},
		{"chat_template.json", []any{&template}},
	} {
		data, err := ReadFile(filepath.Join(dir, f.name), MaxConfigFile)
		if mmap.Absent(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		data = FiniteJSON(tokenizerjson.TrimBOM(data))
		for _, into := range f.into {
			if err := json.Unmarshal(data, into); err != nil {
				return nil, fmt.Errorf("%s: %w", filepath.Join(dir, f.name), err)
			}
		}
	}
	c.class, c.modelType = config.Class, model.Type
	c.modelName, _ = model.Name.(string)
	c.modelClass, _ = model.Class.(string)
	c.remoteCode = config.AutoMap.tokenizer
	if len(config.Added) > 0 {
		c.AddedTokensDecoder = map[int64]tokenizerjson.AddedToken{}
		for key, t := range config.Added {
			id, err := strconv.ParseInt(key, 10, 64)
			if err != nil {
				return nil, fmt.Errorf("%s: added_tokens_decoder: %q is not an id", filepath.Join(dir, "tokenizer_config.json"), key)
			}
			c.AddedTokensDecoder[id] = t.AddedToken
		}
	}
	c.Extra = config.Extra.list
	if len(c.Extra) == 0 && len(config.Extra.named) == 0 {
		c.Extra = config.More.list
	}
	if err := c.readTokens(c.Settings, config.Extra.named); err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(dir, "tokenizer_config.json"), err)
	}
	if _, given := c.Settings["added_tokens_decoder"]; !given {
		if err := c.readTokens(special, nil); err != nil {
			return nil, fmt.Errorf("%s: %w", filepath.Join(dir, "special_tokens_map.json"), err)
		}
	}
	c.BOSID = generation.BOS
	if c.BOSID == nil {
		c.BOSID = model.BOS
	}
	c.EOSIDs = append(append(c.EOSIDs, generation.EOS...), model.EOS...)
	if err := c.readTemplates(dir, template.Template, config.Template); err != nil {
		return nil, err
	}
	return c, nil
}

// maxTemplates bounds how many files with chat templates are read.
const maxTemplates = 32

// readTemplates takes the chat templates of the JSON files or, where there are any, those that are files of their own:
// chat_template.jinja and the named ones of additional_chat_templates.
func (c *Config) readTemplates(dir string, lists ...templateText) error {
	for _, l := range lists {
		if c.Template == "" {
			c.Template, c.NamedTemplates = l.text, l.named
		}
	}
	data, err := ReadFile(filepath.Join(dir, "chat_template.jinja"), MaxConfigFile)
	switch {
	case err == nil:
		c.Template, c.NamedTemplates = string(data), nil
	case !mmap.Absent(err):
		return err
	}
	files, err := filepath.Glob(filepath.Join(dir, "additional_chat_templates", "*.jinja"))
	if err != nil || len(files) > maxTemplates {
		return fmt.Errorf("%s: more than %d chat templates", filepath.Join(dir, "additional_chat_templates"), maxTemplates)
	}
	for _, f := range files {
		data, err := ReadFile(f, MaxConfigFile)
		if err != nil {
			return err
		}
		if c.NamedTemplates == nil {
			c.NamedTemplates = map[string]string{}
		}
		c.NamedTemplates[strings.TrimSuffix(filepath.Base(f), ".jinja")] = string(data)
	}
	return nil
}

// FiniteJSON puts null for the bare Infinity and NaN that Python writes where JSON has no number, none of
// which is asked for here.
func FiniteJSON(data []byte) []byte {
	if !bytes.Contains(data, []byte("Infinity")) && !bytes.Contains(data, []byte("NaN")) {
		return data
	}
	var out []byte
	text := false
	for i := 0; i < len(data); i++ {
		if !text {
			word := 0
			for _, w := range []string{"-Infinity", "Infinity", "NaN"} {
				if bytes.HasPrefix(data[i:], []byte(w)) {
					word = len(w)
					break
				}
			}
			if word > 0 {
				out = append(out, "null"...)
				i += word - 1
				continue
			}
		} else if data[i] == '\\' && i+1 < len(data) {
			out = append(out, data[i])
			i++
			out = append(out, data[i])
			continue
		}
		text = text != (data[i] == '"')
		out = append(out, data[i])
	}
	return out
}

// readTokens reads the special tokens that keys like bos_token name. A token that was added keeps the flags
// it was added with.
func (c *Config) readTokens(settings map[string]json.RawMessage, named map[string]tokenizerjson.AddedToken) error {
	keys := make([]string, 0, len(settings))
	for key := range settings {
		if isTokenKey(key) {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	for _, key := range keys {
		raw := settings[key]
		switch bytes.TrimSpace(raw)[0] {
		case 'n':
			if slices.Contains(tokenNames(), key) {
				c.Tokens[key] = nil
			}
			continue
		case '"', '{':
		default:
			continue // add_bos_token and its like
		}
		var t configToken
		if err := json.Unmarshal(raw, &t); err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
		c.Tokens[key] = &t.AddedToken
		if !slices.Contains(tokenNames(), key) && !slices.Contains(c.otherNames, key) {
			c.otherNames = append(c.otherNames, key)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(named)) {
		t := named[key]
		c.Tokens[key] = &t
		if !slices.Contains(tokenNames(), key) && !slices.Contains(c.otherNames, key) {
			c.otherNames = append(c.otherNames, key)
		}
	}
	return nil
}

// Bool reads a setting of tokenizer_config.json that is true or false; null counts as absent.
func (c *Config) Bool(key string, otherwise bool) bool {
	var b *bool
	if json.Unmarshal(c.Settings[key], &b) == nil && b != nil {
		return *b
	}
	return otherwise
}

// String reads a setting that is a text.
func (c *Config) String(key, otherwise string) string {
	var s *string
	if json.Unmarshal(c.Settings[key], &s) == nil && s != nil {
		return *s
	}
	return otherwise
}

// Int reads a setting that is a whole number.
func (c *Config) Int(key string, otherwise int64) int64 {
	var n *int64
	if json.Unmarshal(c.Settings[key], &n) == nil && n != nil {
		return *n
	}
	return otherwise
}

// configToken is a token as configurations write it: "</s>" or {"content": "</s>", …}.
type configToken struct{ tokenizerjson.AddedToken }

// UnmarshalJSON implements json.Unmarshaler.
func (t *configToken) UnmarshalJSON(data []byte) error {
	var s string
	if json.Unmarshal(data, &s) == nil {
		t.AddedToken = tokenizerjson.AddedToken{Content: s, Special: true}
		return nil
	}
	var o struct {
		Content    string `json:"content"`
		SingleWord bool   `json:"single_word"`
		LStrip     bool   `json:"lstrip"`
		RStrip     bool   `json:"rstrip"`
		Normalized *bool  `json:"normalized"`
		Special    *bool  `json:"special"`
	}
	if err := json.Unmarshal(data, &o); err != nil {
		return errors.New("a special token is neither a text nor an object with a content")
	}
	t.AddedToken = tokenizerjson.AddedToken{
		Content:    o.Content,
		SingleWord: o.SingleWord,
		LStrip:     o.LStrip,
		RStrip:     o.RStrip,
		Special:    tokenizerjson.Or(o.Special, false),
	}
	t.Normalized = tokenizerjson.Or(o.Normalized, !t.Special)
	return nil
}

// extraList is a list of tokens, or tokens by name.
type extraList struct {
	list  []tokenizerjson.AddedToken
	named map[string]tokenizerjson.AddedToken
}

// UnmarshalJSON implements json.Unmarshaler.
func (l *extraList) UnmarshalJSON(data []byte) error {
	var list []configToken
	if json.Unmarshal(data, &list) == nil {
		for _, t := range list {
			t.Special = true
			l.list = append(l.list, t.AddedToken)
		}
		return nil
	}
	var named map[string]configToken
	if err := json.Unmarshal(data, &named); err != nil {
		return errors.New("extra_special_tokens is neither a list of tokens nor an object of them")
	}
	l.named = map[string]tokenizerjson.AddedToken{}
	for k, t := range named {
		l.named[k] = t.AddedToken
	}
	return nil
}

// autoMap says whether a folder names code of its own for the tokenizer.
type autoMap struct{ tokenizer bool }

// UnmarshalJSON implements json.Unmarshaler.
func (a *autoMap) UnmarshalJSON(data []byte) error {
	var list []any
	if json.Unmarshal(data, &list) == nil {
		a.tokenizer = len(list) > 0
		return nil
	}
	var o map[string]any
	if json.Unmarshal(data, &o) == nil {
		a.tokenizer = o["AutoTokenizer"] != nil
	}
	return nil
}

// templateText is a chat template: a text, or a list of named ones, of which "default" (or else the first) is the text.
type templateText struct {
	text  string
	named map[string]string
}

// UnmarshalJSON implements json.Unmarshaler.
func (t *templateText) UnmarshalJSON(data []byte) error {
	var s *string
	if json.Unmarshal(data, &s) == nil {
		if s != nil {
			*t = templateText{text: *s}
		}
		return nil
	}
	var list []struct {
		Name     string `json:"name"`
		Template string `json:"template"`
	}
	if err := json.Unmarshal(data, &list); err != nil {
		return errors.New("chat_template is neither a text nor a list of named texts")
	}
	t.named = map[string]string{}
	for i, n := range list {
		if i == 0 || n.Name == "default" {
			t.text = n.Template
		}
		if n.Name != "default" {
			t.named[n.Name] = n.Template
		}
	}
	return nil
}

// idList is an id, a list of ids, or null.
type idList []*int64

// UnmarshalJSON implements json.Unmarshaler.
func (l *idList) UnmarshalJSON(data []byte) error {
	var one *int64
	if json.Unmarshal(data, &one) == nil {
		if one != nil {
			*l = idList{one}
		}
		return nil
	}
	var many []*int64
	if err := json.Unmarshal(data, &many); err != nil {
		return errors.New("a token id is neither a number nor a list of numbers")
	}
	*l = many
	return nil
}
