package bpe

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
)

// folderConfig is what the files beside tokenizer.json say.
type folderConfig struct {
	bos, eos, pad  string // texts; "" where there is none
	bosID          *int64
	eosIDs         []*int64
	addBOS, addEOS *bool
	class          string // tokenizer_class
	template       string
}

// id checks an id against the vocabulary's size; -1 where it is none.
func (c *folderConfig) id(id *int64, n int) int32 {
	if id == nil || *id < 0 || *id >= int64(n) {
		return -1
	}
	return int32(*id)
}

func (c *folderConfig) firstEOS() *int64 {
	if len(c.eosIDs) == 0 {
		return nil
	}
	return c.eosIDs[0]
}

// readFolderConfig reads what there is; every file but tokenizer.json is optional.
func readFolderConfig(dir string) (*folderConfig, error) {
	c := &folderConfig{}
	var special, config struct {
		BOS      tokenText    `json:"bos_token"`
		EOS      tokenText    `json:"eos_token"`
		Pad      tokenText    `json:"pad_token"`
		AddBOS   *bool        `json:"add_bos_token"`
		AddEOS   *bool        `json:"add_eos_token"`
		Class    string       `json:"tokenizer_class"`
		Template templateText `json:"chat_template"`
	}
	var generation, model struct {
		BOS *int64 `json:"bos_token_id"`
		EOS idList `json:"eos_token_id"`
	}
	var template struct {
		Template templateText `json:"chat_template"`
	}
	for _, f := range []struct {
		name string
		into any
	}{
		{"special_tokens_map.json", &special},
		{"tokenizer_config.json", &config},
		{"generation_config.json", &generation},
		{"config.json", &model},
		{"chat_template.json", &template},
	} {
		data, err := readFile(filepath.Join(dir, f.name), maxConfigFile)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if err := json.Unmarshal(data, f.into); err != nil {
			return nil, fmt.Errorf("%s: %w", filepath.Join(dir, f.name), err)
		}
	}
	c.bos, c.eos, c.pad = either(config.BOS, special.BOS), either(config.EOS, special.EOS), either(config.Pad, special.Pad)
	c.bosID = generation.BOS
	if c.bosID == nil {
		c.bosID = model.BOS
	}
	c.eosIDs = append(append(c.eosIDs, generation.EOS...), model.EOS...)
	c.addBOS, c.addEOS, c.class = config.AddBOS, config.AddEOS, config.Class
	c.template = either(template.Template, config.Template)
	data, err := readFile(filepath.Join(dir, "chat_template.jinja"), maxConfigFile)
	switch {
	case err == nil:
		c.template = string(data)
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	return c, nil
}

func either[T ~string](a, b T) string {
	if a != "" {
		return string(a)
	}
	return string(b)
}

// tokenText is a token's text: "</s>", {"content": "</s>", …}, or null.
type tokenText string

// UnmarshalJSON implements json.Unmarshaler.
func (t *tokenText) UnmarshalJSON(data []byte) error {
	var s *string
	if json.Unmarshal(data, &s) == nil {
		if s != nil {
			*t = tokenText(*s)
		}
		return nil
	}
	var o struct {
		Content string `json:"content"`
	}
	if err := json.Unmarshal(data, &o); err != nil {
		return errors.New("a special token is neither a text nor an object with a content")
	}
	*t = tokenText(o.Content)
	return nil
}

// templateText is a chat template: a text, or a list of named ones, of which "default" counts.
type templateText string

// UnmarshalJSON implements json.Unmarshaler.
func (t *templateText) UnmarshalJSON(data []byte) error {
	var s *string
	if json.Unmarshal(data, &s) == nil {
		if s != nil {
			*t = templateText(*s)
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
	for i, n := range list {
		if i == 0 || n.Name == "default" {
			*t = templateText(n.Template)
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
