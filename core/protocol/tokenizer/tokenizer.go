// Package tokenizer is the contract between the daemon and a tokenizer plugin: a Go interface over plain structs, its
// gRPC client and server, and a fake for tests.
//
// It must not know how text is split. Methods may be called concurrently, after Load.
package tokenizer

import (
	"context"
	"encoding/json"

	"edged/core/protocol/backend"
)

// Tokenizer turns text and conversations into token ids and back.
type Tokenizer interface {
	// Load reads the tokenizer of a model: a GGUF file (a vocabulary-only one is enough) or a Hugging Face folder.
	Load(ctx context.Context, path string) (Info, error)
	// Encode gives the ids of each text.
	Encode(ctx context.Context, texts []string, flags Flags) ([][]int32, error)
	// EncodeChat renders a conversation with the model's template and encodes it. Special tokens are recognised in
	// what the template wrote, never in what a user typed.
	EncodeChat(ctx context.Context, chat Chat) (ChatIDs, error)
	// Render gives the text only; it works without a model when chat.Template is set.
	Render(ctx context.Context, chat Chat) (string, error)
	// ParseTools finds tool calls in a generated text, by the model's family.
	ParseTools(ctx context.Context, text string) (ToolText, error)
	// Decode gives the bytes of ids; they need not be whole UTF-8 sequences.
	Decode(ctx context.Context, ids []int32, special bool) ([]byte, error)
	// Vocabulary returns all pieces.
	Vocabulary(ctx context.Context) (backend.Vocabulary, error)
}

// Info describes a loaded tokenizer.
type Info struct {
	Kind         string // "bpe", "spm", "wordpiece"
	Pre          string // name of the pre-tokenizer, "" where there is none
	Tokens       int
	BOS          int32 // -1: none
	EOS          int32
	EOT          int32
	Unknown      int32
	Pad          int32
	EOG          []int32 // every end-of-generation id
	AddBOS       bool
	AddEOS       bool
	ChatTemplate string // "" where there is none
	Hash         string // of the vocabulary

	Mask      int32             // the token that stands for one to be guessed; -1: none
	MaxTokens int               // of a text, those around it included, that the model's files allow; 0: they do not say
	Prompts   map[string]string // what the files want before a text, by the name of its task; of an embedder
	Prompt    string            // the one of Prompts that counts where none is named; "": none
	Pairs     bool              // EncodePairs is served
}

// Flags of Encode.
type Flags struct {
	AddSpecial   bool // BOS and EOS where the model wants them
	ParseSpecial bool // recognise control tokens in the text
	MaxTokens    int  // a text is cut to so many tokens, those around it included, of a pair the longer text first; 0: it is not
}

// PairEncoder is an optional ability: two texts as a model wants them that compares texts.
type PairEncoder interface {
	// EncodePairs gives the ids of each pair, with what the model wants around and between its texts, and the
	// types of the tokens.
	EncodePairs(ctx context.Context, pairs [][2]string, flags Flags) ([]Pair, error)
}

// Pair is an encoded pair of texts.
type Pair struct{ IDs, Types []int32 }

// Chat is a conversation for a template. JSON values keep the order of their keys, since templates print them.
type Chat struct {
	Messages  json.RawMessage // array of objects with "role" and "content"
	Tools     json.RawMessage // array, or nil
	Variables json.RawMessage // object: any other template variable; "now" (RFC 3339 or seconds) fixes the clock
	Template  string          // overrides the model's; needed where no model is loaded
	NoPrompt  bool            // do not add the generation prompt
	Plain     bool            // trust the texts: parse special tokens everywhere (Render of a given template)
}

// ChatIDs is an encoded conversation.
type ChatIDs struct {
	IDs  []int32
	Text string // what the template wrote
	// Numbers of IDs, ascending, behind which prompts that begin alike may go on otherwise: where a message
	// ends, and before the time of day. nil: not told.
	Borders []int32
	Grammar string // of an answer that is nothing but tool calls, as backend.Request has it, where tools are offered
}

// ToolText is a generated text taken apart.
type ToolText struct {
	Text  string // what is not a call
	Calls []ToolCall
}

// ToolCall is one parsed call.
type ToolCall struct {
	Name      string
	Arguments json.RawMessage
}
