package tokenizer

import (
	"context"
	"errors"
	"fmt"
	"io"

	"edged/core/protocol"
	"edged/core/protocol/backend"
	"edged/core/protocol/edgedpb"
	"edged/core/protocol/internal/parts"
)

// client is a Tokenizer over gRPC; server is its mirror, method for method.
type client struct{ rpc edgedpb.TokenizerClient }

var (
	_ Tokenizer   = (*client)(nil)
	_ PairEncoder = (*client)(nil)
)

func (c *client) Load(ctx context.Context, path string) (Info, error) {
	i, err := c.rpc.Load(ctx, &edgedpb.TokenizerLoadRequest{Path: path})
	if err != nil {
		return Info{}, protocol.FromStatus(ctx, err)
	}
	return infoFrom(i), nil
}

func (c *client) Encode(ctx context.Context, texts []string, flags Flags) ([][]int32, error) {
	call, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.rpc.Encode(call)
	if err != nil {
		return nil, protocol.FromStatus(ctx, err)
	}
	var j parts.Joiner[int32]
	err = exchange(ctx, stream, func() error {
		return sendTexts(texts, flags, stream.Send)
	}, func(part *edgedpb.IdsPart) error {
		for _, l := range part.Lists {
			if err := j.Add(l.Ids, l.Last, 4); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	lists, err := j.Lists()
	if err == nil && len(lists) != len(texts) {
		err = fmt.Errorf("tokenizer: %d answers to %d texts", len(lists), len(texts))
	}
	return lists, err
}

func (c *client) EncodeChat(ctx context.Context, chat Chat) (ChatIDs, error) {
	call, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.rpc.EncodeChat(call)
	if err != nil {
		return ChatIDs{}, protocol.FromStatus(ctx, err)
	}
	var out ChatIDs
	var text, grammar []byte
	err = exchange(ctx, stream, func() error {
		return sendChat(chat, stream.Send)
	}, func(part *edgedpb.ChatIdsPart) (err error) {
		if 4*(len(out.IDs)+len(part.Ids)+len(out.Borders)+len(part.Borders)) > protocol.MaxValue {
			return parts.TooLarge()
		}
		out.IDs, out.Borders = append(out.IDs, part.Ids...), append(out.Borders, part.Borders...)
		if text, err = parts.Append(text, part.Text); err != nil {
			return err
		}
		grammar, err = parts.Append(grammar, part.Grammar)
		return err
	})
	if err != nil {
		return ChatIDs{}, err
	}
	out.Text, out.Grammar = string(text), string(grammar)
	return out, nil
}

func (c *client) Render(ctx context.Context, chat Chat) (string, error) {
	call, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.rpc.Render(call)
	if err != nil {
		return "", protocol.FromStatus(ctx, err)
	}
	text, err := receiveBytes(ctx, stream, func() error { return sendChat(chat, stream.Send) })
	return string(text), err
}

func (c *client) ParseTools(ctx context.Context, text string) (ToolText, error) {
	call, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.rpc.ParseTools(call)
	if err != nil {
		return ToolText{}, protocol.FromStatus(ctx, err)
	}
	var out ToolText
	var rest []byte
	open := false
	err = exchange(ctx, stream, func() error {
		return sendBytes([]byte(text), stream.Send)
	}, func(part *edgedpb.ToolTextPart) (err error) {
		if rest, err = parts.Append(rest, part.Text); err != nil {
			return err
		}
		for _, p := range part.Calls {
			if !open {
				out.Calls = append(out.Calls, ToolCall{Name: p.Name})
			}
			call := &out.Calls[len(out.Calls)-1]
			if call.Arguments, err = parts.Append(call.Arguments, p.Arguments); err != nil {
				return err
			}
			open = !p.Last
		}
		return nil
	})
	if err == nil && open {
		err = errors.New("tokenizer: the last tool call is not ended")
	}
	if err != nil {
		return ToolText{}, err
	}
	out.Text = string(rest)
	return out, nil
}

func (c *client) Decode(ctx context.Context, ids []int32, special bool) ([]byte, error) {
	call, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.rpc.Decode(call)
	if err != nil {
		return nil, protocol.FromStatus(ctx, err)
	}
	return receiveBytes(ctx, stream, func() error {
		first := true
		return parts.Split([][]int32{ids}, idBytes, func(batch []parts.Piece[int32]) error {
			part := &edgedpb.DecodePart{Special: special && first}
			first = false
			for _, p := range batch {
				part.Ids = append(part.Ids, p.Items...)
			}
			return stream.Send(part)
		})
	})
}

func (c *client) Vocabulary(ctx context.Context) (backend.Vocabulary, error) {
	call, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.rpc.Vocabulary(call, &edgedpb.VocabularyRequest{})
	if err != nil {
		return backend.Vocabulary{}, protocol.FromStatus(ctx, err)
	}
	v, err := parts.ReceiveVocabulary(stream.Recv)
	if err != nil {
		return backend.Vocabulary{}, protocol.FromStatus(ctx, err)
	}
	return backend.Vocabulary(v), nil
}

// exchange sends a request with send, ends it, and gives every message of the answer to take.
func exchange[T any](ctx context.Context, stream interface {
	CloseSend() error
	Recv() (T, error)
}, send func() error, take func(T) error,
) error {
	// io.EOF from a send means that the server has answered already: the answer says why.
	if err := send(); err != nil && !errors.Is(err, io.EOF) {
		return protocol.FromStatus(ctx, err)
	}
	if err := stream.CloseSend(); err != nil {
		return protocol.FromStatus(ctx, err)
	}
	for {
		part, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return protocol.FromStatus(ctx, err)
		}
		if err := take(part); err != nil {
			return err
		}
	}
}

func receiveBytes(ctx context.Context, stream interface {
	CloseSend() error
	Recv() (*edgedpb.BytesPart, error)
}, send func() error,
) ([]byte, error) {
	var out []byte
	err := exchange(ctx, stream, send, func(part *edgedpb.BytesPart) (err error) {
		out, err = parts.Append(out, part.Data)
		return err
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}
