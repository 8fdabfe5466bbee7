package tokenizerjson

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
)

// File is a tokenizer.json.
type File struct {
	Added         []AddedToken    `json:"added_tokens"`
	Normalizer    json.RawMessage `json:"normalizer"`
	PreTokenizer  json.RawMessage `json:"pre_tokenizer"`
	PostProcessor json.RawMessage `json:"post_processor"`
	Decoder       json.RawMessage `json:"decoder"`
	Model         Model           `json:"model"`
}

// AddedToken is a token that is found in a text before it is cut into words. LStrip and RStrip take the white
// space on that side along; a SingleWord is found only where no word adjoins; Normalized ones are found in
// the normalised text.
type AddedToken struct {
	ID         int64  `json:"id"`
	Content    string `json:"content"`
	SingleWord bool   `json:"single_word"`
	LStrip     bool   `json:"lstrip"`
	RStrip     bool   `json:"rstrip"`
	Normalized bool   `json:"normalized"`
	Special    bool   `json:"special"`
}

// Model describes the model that turns words into ids. Which fields count depends on the type.
type Model struct {
	Type         string   `json:"type"`
	UnknownID    *int64   `json:"unk_id"` // Unigram
	Dropout      *float64 `json:"dropout"`
	Unknown      *string  `json:"unk_token"`
	Prefix       *string  `json:"continuing_subword_prefix"`
	Suffix       *string  `json:"end_of_word_suffix"`
	FuseUnknown  bool     `json:"fuse_unk"`
	ByteFallback bool     `json:"byte_fallback"`
	IgnoreMerges bool     `json:"ignore_merges"`
	MaxChars     *int     `json:"max_input_chars_per_word"`
	Vocab        Vocab    `json:"vocab"`
	Merges       Merges   `json:"merges"`
}

// ModelType is the model's type, for files from before 2021, which do not name it, by what they have; ""
// where that does not tell.
func (m *Model) ModelType() string {
	switch {
	case m.Type != "":
	case m.Vocab.IsList:
		return "Unigram"
	case len(m.Merges.Pairs) > 0:
		return "BPE"
	}
	return m.Type
}

// IsNull reports whether a part of the file is absent or null.
func IsNull(raw json.RawMessage) bool {
	return len(raw) == 0 || bytes.Equal(bytes.TrimSpace(raw), []byte("null"))
}

// maxNesting bounds how deep sequences of sequences go.
const maxNesting = 16

// PartType reads the type of a part and, for a Sequence, the parts in its list of the name nested. depth is
// how many sequences the part stands in: too many are an error.
func PartType(raw json.RawMessage, depth int, nested string) (string, []json.RawMessage, error) {
	if depth > maxNesting {
		return "", nil, fmt.Errorf("sequences are nested deeper than %d", maxNesting)
	}
	var head map[string]json.RawMessage
	if err := json.Unmarshal(raw, &head); err != nil {
		return "", nil, err
	}
	var kind string
	if err := json.Unmarshal(head["type"], &kind); err != nil {
		return "", nil, errors.New("a part has no type")
	}
	if kind != "Sequence" {
		return kind, nil, nil
	}
	var list []json.RawMessage
	if err := json.Unmarshal(head[nested], &list); err != nil {
		return "", nil, fmt.Errorf("a Sequence has no list %q", nested)
	}
	return kind, list, nil
}

// SameAs reports whether two tokens are equal but for their ids.
func (t AddedToken) SameAs(o AddedToken) bool {
	t.ID, o.ID = 0, 0
	return t == o
}

// Pattern is a text or a regular expression.
type Pattern struct {
	String *string `json:"String"`
	Regex  *string `json:"Regex"`
}

// Or is *p, or otherwise where the file does not say.
func Or[T any](p *T, otherwise T) T {
	if p == nil {
		return otherwise
	}
	return *p
}

// TrimBOM drops a byte order mark.
func TrimBOM(data []byte) []byte { return bytes.TrimPrefix(data, []byte("\xEF\xBB\xBF")) }
