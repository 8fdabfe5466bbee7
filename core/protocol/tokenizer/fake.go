package tokenizer

import (
	"context"
	"fmt"

	"edged/core/protocol"
	"edged/core/protocol/backend"
)

// Fake is a Tokenizer for tests: each method calls the field of its name, and without one refuses with
// protocol.ErrUnsupported.
type Fake struct {
	LoadFunc        func(ctx context.Context, path string) (Info, error)
	EncodeFunc      func(ctx context.Context, texts []string, flags Flags) ([][]int32, error)
	EncodePairsFunc func(ctx context.Context, pairs [][2]string, flags Flags) ([]Pair, error)
	EncodeChatFunc  func(ctx context.Context, chat Chat) (ChatIDs, error)
	RenderFunc      func(ctx context.Context, chat Chat) (string, error)
	ParseToolsFunc  func(ctx context.Context, text string) (ToolText, error)
	DecodeFunc      func(ctx context.Context, ids []int32, special bool) ([]byte, error)
	VocabularyFunc  func(ctx context.Context) (backend.Vocabulary, error)
}

var (
	_ Tokenizer   = (*Fake)(nil)
	_ PairEncoder = (*Fake)(nil)
)

func unset(method string) error {
	return fmt.Errorf("tokenizer: fake: %s: %w", method, protocol.ErrUnsupported)
}

// Load calls LoadFunc.
func (f *Fake) Load(ctx context.Context, path string) (Info, error) {
	if f.LoadFunc == nil {
		return Info{}, unset("load")
	}
	return f.LoadFunc(ctx, path)
}

// Encode calls EncodeFunc.
func (f *Fake) Encode(ctx context.Context, texts []string, flags Flags) ([][]int32, error) {
	if f.EncodeFunc == nil {
		return nil, unset("encode")
	}
	return f.EncodeFunc(ctx, texts, flags)
}

// EncodePairs calls EncodePairsFunc.
func (f *Fake) EncodePairs(ctx context.Context, pairs [][2]string, flags Flags) ([]Pair, error) {
	if f.EncodePairsFunc == nil {
		return nil, unset("encode pairs")
	}
	return f.EncodePairsFunc(ctx, pairs, flags)
}

// EncodeChat calls EncodeChatFunc.
func (f *Fake) EncodeChat(ctx context.Context, chat Chat) (ChatIDs, error) {
	if f.EncodeChatFunc == nil {
		return ChatIDs{}, unset("encode chat")
	}
	return f.EncodeChatFunc(ctx, chat)
}

// Render calls RenderFunc.
func (f *Fake) Render(ctx context.Context, chat Chat) (string, error) {
	if f.RenderFunc == nil {
		return "", unset("render")
	}
	return f.RenderFunc(ctx, chat)
}

// ParseTools calls ParseToolsFunc.
func (f *Fake) ParseTools(ctx context.Context, text string) (ToolText, error) {
	if f.ParseToolsFunc == nil {
		return ToolText{}, unset("parse tools")
	}
	return f.ParseToolsFunc(ctx, text)
}

// Decode calls DecodeFunc.
func (f *Fake) Decode(ctx context.Context, ids []int32, special bool) ([]byte, error) {
	if f.DecodeFunc == nil {
		return nil, unset("decode")
	}
	return f.DecodeFunc(ctx, ids, special)
}

// Vocabulary calls VocabularyFunc.
func (f *Fake) Vocabulary(ctx context.Context) (backend.Vocabulary, error) {
	if f.VocabularyFunc == nil {
		return backend.Vocabulary{}, unset("vocabulary")
	}
	return f.VocabularyFunc(ctx)
}
