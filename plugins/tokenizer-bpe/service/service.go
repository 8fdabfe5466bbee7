// Package service answers the tokenizer contract: it loads a model's tokenizer, encodes texts and
// conversations, renders chat templates and finds tool calls in what a model wrote.
//
// It is the border at which typed text is kept apart from control tokens (see Service.EncodeChat). It must
// not know gRPC, and not how text is split (package bpe does). All methods may be called concurrently.
package service

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"runtime/debug"
	"sync"
	"sync/atomic"

	"edged/core/chat"
	"edged/core/model/gguf"
	"edged/core/model/mmap"
	"edged/core/protocol"
	"edged/core/protocol/backend"
	"edged/core/protocol/tokenizer"
	"edged/plugins/tokenizer-bpe/bpe"
	"edged/plugins/tokenizer-bpe/bpe/ggufvocab"
	"edged/plugins/tokenizer-bpe/bpe/huggingface"
)

// MaxText is how many bytes the texts of one call may have together, a conversation counting as one. A
// context of 128 000 tokens is half a megabyte of English.
const MaxText = 16 << 20

// Service implements tokenizer.Tokenizer. The zero value is ready to use once Log is set.
type Service struct {
	Log *slog.Logger

	loaded atomic.Pointer[model]
	given  templateCache
}

var (
	_ tokenizer.Tokenizer   = (*Service)(nil)
	_ tokenizer.PairEncoder = (*Service)(nil)
)

// model holds the tokenizer and templates that Load read.
type model struct {
	tok      *bpe.Tokenizer
	info     bpe.Info
	template compiled // of conversations
	tools    compiled // of those with tools; without a source: the same
	controls controls // what its control tokens are written as
}

// compiled is a template of a model.
type compiled struct {
	source string         // empty: there is none
	t      *chat.Template // nil: there is none, or it cannot be used
	why    error          // why it cannot be used
}

func (s *Service) compile(ctx context.Context, path, source string) compiled {
	c := compiled{source: source}
	if source == "" {
		return c
	}
	if c.t, c.why = chat.Compile(source); c.why != nil {
		s.Log.WarnContext(ctx, "chat template cannot be used", "path", path, "err", c.why)
	}
	return c
}

// failure is an error with a sentinel of the protocol, and a sentence that needs no second one.
type failure struct {
	error
	kind error
}

func (f *failure) Unwrap() []error { return []error{f.error, f.kind} }

func invalid(err error) error { return &failure{err, protocol.ErrInvalid} }

func invalidf(format string, args ...any) error { return invalid(fmt.Errorf(format, args...)) }

// Load reads a GGUF file or a Hugging Face folder. What was loaded before stays in use until the new one is ready, and
// after an error.
func (s *Service) Load(ctx context.Context, path string) (tokenizer.Info, error) {
	tok, err := read(path)
	if err != nil {
		return tokenizer.Info{}, &failure{err, protocol.ErrModel}
	}
	if err := ctx.Err(); err != nil {
		return tokenizer.Info{}, err
	}
	m := &model{tok: tok, info: tok.Info(), controls: controls{}}
	_, isControl := tok.Pieces()
	for id, is := range isControl {
		if is {
			m.controls[tok.Text(int32(id))] = true
		}
	}
	m.template = s.compile(ctx, path, m.info.ChatTemplate)
	m.tools = s.compile(ctx, path, m.info.NamedTemplates["tool_use"])
	for _, note := range tok.Notes() {
		s.Log.WarnContext(ctx, "tokenizer files disagree", "path", path, "note", note)
	}
	s.loaded.Store(m)
	// Reading Gemma's 33 MB of JSON takes 200 MB for a moment; a board of 4 GB has better use for them.
	debug.FreeOSMemory()
	s.Log.InfoContext(ctx, "tokenizer loaded", "path", path, "kind", m.info.Kind, "pre", m.info.Pre, "tokens", m.info.Tokens)
	i := m.info
	return tokenizer.Info{
		Kind: i.Kind, Pre: i.Pre, Tokens: i.Tokens, BOS: i.BOS, EOS: i.EOS, EOT: i.EOT, Unknown: i.Unknown, Pad: i.Pad,
		EOG: i.EOG, AddBOS: i.AddBOS, AddEOS: i.AddEOS, ChatTemplate: i.ChatTemplate, Hash: i.Hash,
		Mask: i.Mask, MaxTokens: i.MaxTokens, Prompts: i.Prompts, Prompt: i.Prompt, Pairs: i.Pairs,
	}, nil
}

func read(path string) (*bpe.Tokenizer, error) {
	st, err := os.Stat(path)
	if err != nil {
		if link, ok := errors.AsType[*mmap.DanglingLinkError](mmap.Explain(path, err)); ok {
			return nil, fmt.Errorf("tokenizer: %w", link)
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("tokenizer: %s: there is no such file or folder", path)
		}
		return nil, fmt.Errorf("tokenizer: %w", err)
	}
	if st.IsDir() {
		return huggingface.Read(path)
	}
	f, err := gguf.Open(path)
	if err != nil {
		return nil, fmt.Errorf("tokenizer: %w", err)
	}
	tok, err := ggufvocab.Read(path, f)
	return tok, errors.Join(err, f.Close())
}

// current returns the loaded model.
func (s *Service) current() (*model, error) {
	m := s.loaded.Load()
	if m == nil {
		return nil, fmt.Errorf("tokenizer: %w", protocol.ErrNotLoaded)
	}
	return m, nil
}

// Encode gives the ids of each text.
func (s *Service) Encode(ctx context.Context, texts []string, flags tokenizer.Flags) ([][]int32, error) {
	m, err := s.current()
	if err != nil {
		return nil, err
	}
	if err := bounded(texts, flags); err != nil {
		return nil, err
	}
	out := make([][]int32, len(texts))
	for i, t := range texts {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		out[i], err = m.tok.EncodeCut(t, bpe.Options{AddSpecial: flags.AddSpecial, ParseSpecial: flags.ParseSpecial}, flags.MaxTokens)
		if err != nil {
			return nil, invalid(err)
		}
	}
	return out, nil
}

// bounded refuses more text than is encoded in one call.
func bounded(texts []string, flags tokenizer.Flags) error {
	total := 0
	for _, t := range texts {
		total += len(t)
	}
	switch {
	case total > MaxText:
		return invalidf("tokenizer: the texts have %d bytes together: at most %d are encoded in one call", total, MaxText)
	case flags.MaxTokens < 0:
		return invalidf("tokenizer: max_tokens: %d is negative", flags.MaxTokens)
	}
	return nil
}

// EncodePairs gives the ids and types of pairs of texts.
func (s *Service) EncodePairs(ctx context.Context, pairs [][2]string, flags tokenizer.Flags) ([]tokenizer.Pair, error) {
	m, err := s.current()
	if err != nil {
		return nil, err
	}
	texts := make([]string, 0, 2*len(pairs))
	for _, p := range pairs {
		texts = append(texts, p[0], p[1])
	}
	if err := bounded(texts, flags); err != nil {
		return nil, err
	}
	if !m.info.Pairs {
		return nil, &failure{fmt.Errorf("tokenizer: %w", bpe.ErrPairs), protocol.ErrUnsupported}
	}
	out := make([]tokenizer.Pair, len(pairs))
	for i, p := range pairs {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if out[i].IDs, out[i].Types, err = m.tok.EncodePair(
			p[0],
			p[1],
			bpe.Options{ParseSpecial: flags.ParseSpecial},
			flags.MaxTokens,
		); err != nil {
			return nil, invalid(err)
		}
	}
	return out, nil
}

// Decode gives the bytes of ids.
func (s *Service) Decode(_ context.Context, ids []int32, special bool) ([]byte, error) {
	m, err := s.current()
	if err != nil {
		return nil, err
	}
	b, err := m.tok.Decode(ids, special)
	if err != nil {
		return nil, invalid(err)
	}
	return b, nil
}

// Vocabulary returns all pieces.
func (s *Service) Vocabulary(context.Context) (backend.Vocabulary, error) {
	m, err := s.current()
	if err != nil {
		return backend.Vocabulary{}, err
	}
	pieces, control := m.tok.Pieces()
	return backend.Vocabulary{Pieces: pieces, Control: control, EOG: m.info.EOG, BOS: m.info.BOS, Hash: m.info.Hash}, nil
}

// templateCache keeps the template that callers gave last: rendering a file of conversations compiles it once.
type templateCache struct {
	mu     sync.Mutex
	source string
	t      *chat.Template
}

func (c *templateCache) get(source string) (*chat.Template, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.t != nil && c.source == source {
		return c.t, nil
	}
	t, err := chat.Compile(source)
	if err != nil {
		return nil, invalid(err)
	}
	c.source, c.t = source, t
	return t, nil
}
