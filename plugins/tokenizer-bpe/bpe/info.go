package bpe

// The kinds of tokenizers.
const (
	KindBPE       = "bpe"       // byte-level BPE
	KindSPM       = "spm"       // SentencePiece BPE
	KindWordPiece = "wordpiece" // WordPiece
	KindUnigram   = "unigram"   // SentencePiece's unigram model
	KindWordLevel = "wordlevel" // whole words
	KindRWKV      = "rwkv"      // the longest token at each place
)

// Info describes a tokenizer. Ids are -1 where there is no such token.
type Info struct {
	Kind         string
	Pre          string // the pre-tokenizer's name; "" where there is none, or it has no name
	Tokens       int
	BOS          int32
	EOS          int32
	EOT          int32
	Unknown      int32
	Pad          int32
	EOG          []int32 // sorted
	AddBOS       bool
	AddEOS       bool
	ChatTemplate string
	// NamedTemplates are the model's other chat templates: "tool_use" is for conversations with tools.
	NamedTemplates map[string]string
	Hash           string // sha256 over pieces, control flags, EOG and BOS
	Mask           int32  // that stands for one to be guessed
	Pairs          bool   // EncodePair knows how
	// Of a folder with sentence-transformers' files: tokens that a text may have (0: not said), what stands
	// before it by the name of a task, and which of them where none is named.
	MaxTokens int
	Prompts   map[string]string
	Prompt    string
}
