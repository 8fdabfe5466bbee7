package tokenizer

import (
	"context"
	"errors"
	"io"

	"google.golang.org/grpc"

	"edged/core/protocol"
	"edged/core/protocol/edgedpb"
	"edged/core/protocol/internal/parts"
)

// server serves a Tokenizer over gRPC; client is its mirror, method for method.
type server struct {
	edgedpb.UnimplementedTokenizerServer
	impl Tokenizer
}

var _ edgedpb.TokenizerServer = (*server)(nil)

func (s *server) Load(ctx context.Context, req *edgedpb.TokenizerLoadRequest) (*edgedpb.TokenizerInfo, error) {
	i, err := s.impl.Load(ctx, req.Path)
	if err != nil {
		return nil, protocol.ToStatus(err)
	}
	return infoTo(i), nil
}

func (s *server) Encode(stream grpc.BidiStreamingServer[edgedpb.EncodePart, edgedpb.IdsPart]) error {
	texts, flags, err := receiveTexts(stream.Recv)
	if err != nil {
		return protocol.ToStatus(err)
	}
	lists, err := s.impl.Encode(stream.Context(), texts, flags)
	if err != nil {
		return protocol.ToStatus(err)
	}
	return parts.Split(lists, idBytes, func(batch []parts.Piece[int32]) error {
		part := &edgedpb.IdsPart{}
		for _, p := range batch {
			part.Lists = append(part.Lists, &edgedpb.IdList{Ids: p.Items, Last: p.Last})
		}
		return stream.Send(part)
	})
}

func (s *server) EncodeChat(stream grpc.BidiStreamingServer[edgedpb.ChatPart, edgedpb.ChatIdsPart]) error {
	chat, err := receiveChat(stream.Recv)
	if err != nil {
		return protocol.ToStatus(err)
	}
	out, err := s.impl.EncodeChat(stream.Context(), chat)
	if err != nil {
		return protocol.ToStatus(err)
	}
	err = parts.Split([][]int32{out.IDs}, idBytes, func(batch []parts.Piece[int32]) error {
		part := &edgedpb.ChatIdsPart{}
		for _, p := range batch {
			part.Ids = append(part.Ids, p.Items...)
		}
		return stream.Send(part)
	})
	if err != nil {
		return err
	}
	err = parts.Split([][]int32{out.Borders}, idBytes, func(batch []parts.Piece[int32]) error {
		part := &edgedpb.ChatIdsPart{}
		for _, p := range batch {
			part.Borders = append(part.Borders, p.Items...)
		}
		return stream.Send(part)
	})
	if err != nil {
		return err
	}
	err = parts.Bytes([]byte(out.Text), func(b []byte) error { return stream.Send(&edgedpb.ChatIdsPart{Text: b}) })
	if err != nil {
		return err
	}
	return parts.Bytes([]byte(out.Grammar), func(b []byte) error { return stream.Send(&edgedpb.ChatIdsPart{Grammar: b}) })
}

func (s *server) Render(stream grpc.BidiStreamingServer[edgedpb.ChatPart, edgedpb.BytesPart]) error {
	chat, err := receiveChat(stream.Recv)
	if err != nil {
		return protocol.ToStatus(err)
	}
	text, err := s.impl.Render(stream.Context(), chat)
	if err != nil {
		return protocol.ToStatus(err)
	}
	return sendBytes([]byte(text), stream.Send)
}

func (s *server) ParseTools(stream grpc.BidiStreamingServer[edgedpb.BytesPart, edgedpb.ToolTextPart]) error {
	var text []byte
	for {
		part, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if text, err = parts.Append(text, part.Data); err != nil {
			return protocol.ToStatus(err)
		}
	}
	out, err := s.impl.ParseTools(stream.Context(), string(text))
	if err != nil {
		return protocol.ToStatus(err)
	}
	err = parts.Bytes([]byte(out.Text), func(b []byte) error { return stream.Send(&edgedpb.ToolTextPart{Text: b}) })
	if err != nil {
		return err
	}
	for _, call := range out.Calls {
		name, left := call.Name, len(call.Arguments)
		err = parts.Bytes(call.Arguments, func(b []byte) error {
			left -= len(b)
			piece := &edgedpb.ToolCallPart{Name: name, Arguments: b, Last: left == 0}
			name = ""
			return stream.Send(&edgedpb.ToolTextPart{Calls: []*edgedpb.ToolCallPart{piece}})
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *server) Decode(stream grpc.BidiStreamingServer[edgedpb.DecodePart, edgedpb.BytesPart]) error {
	var ids []int32
	special := false
	for first := true; ; first = false {
		part, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if 4*(len(ids)+len(part.Ids)) > protocol.MaxValue {
			return protocol.ToStatus(parts.TooLarge())
		}
		ids = append(ids, part.Ids...)
		if first {
			special = part.Special
		}
	}
	out, err := s.impl.Decode(stream.Context(), ids, special)
	if err != nil {
		return protocol.ToStatus(err)
	}
	return sendBytes(out, stream.Send)
}

func (s *server) Vocabulary(_ *edgedpb.VocabularyRequest, stream grpc.ServerStreamingServer[edgedpb.VocabularyPart]) error {
	v, err := s.impl.Vocabulary(stream.Context())
	if err != nil {
		return protocol.ToStatus(err)
	}
	return protocol.ToStatus(parts.SendVocabulary(parts.Vocabulary(v), stream.Send))
}
