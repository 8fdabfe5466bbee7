package tokenizer

import (
	"context"
	"fmt"

	"google.golang.org/grpc"

	"edged/core/protocol"
	"edged/core/protocol/edgedpb"
	"edged/core/protocol/internal/parts"
)

func (c *client) EncodePairs(ctx context.Context, pairs [][2]string, flags Flags) ([]Pair, error) {
	call, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.rpc.EncodePairs(call)
	if err != nil {
		return nil, protocol.FromStatus(ctx, err)
	}
	texts := make([]string, 0, 2*len(pairs))
	for _, p := range pairs {
		texts = append(texts, p[0], p[1])
	}
	var ids, types parts.Joiner[int32]
	err = exchange(ctx, stream, func() error {
		return sendTexts(texts, flags, stream.Send)
	}, func(part *edgedpb.PairsPart) error {
		for _, l := range part.Lists {
			if err := ids.Add(l.Ids, l.Last, 4); err != nil {
				return err
			}
		}
		for _, l := range part.Types {
			if err := types.Add(l.Ids, l.Last, 4); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	a, err := ids.Lists()
	if err != nil {
		return nil, err
	}
	b, err := types.Lists()
	if err != nil {
		return nil, err
	}
	if len(a) != len(pairs) || len(b) != len(pairs) {
		return nil, fmt.Errorf("tokenizer: %d answers with %d lists of types to %d pairs", len(a), len(b), len(pairs))
	}
	out := make([]Pair, len(pairs))
	for i := range out {
		if len(a[i]) != len(b[i]) {
			return nil, fmt.Errorf("tokenizer: pair %d has %d ids and %d types", i, len(a[i]), len(b[i]))
		}
		out[i] = Pair{IDs: a[i], Types: b[i]}
	}
	return out, nil
}

func (s *server) EncodePairs(stream grpc.BidiStreamingServer[edgedpb.EncodePart, edgedpb.PairsPart]) error {
	impl, ok := s.impl.(PairEncoder)
	if !ok {
		return protocol.ToStatus(fmt.Errorf("tokenizer: pairs of texts: %w by this plugin", protocol.ErrUnsupported))
	}
	texts, flags, err := receiveTexts(stream.Recv)
	if err == nil && len(texts)%2 != 0 {
		err = fmt.Errorf("tokenizer: %w: %d texts are no pairs", protocol.ErrInvalid, len(texts))
	}
	if err != nil {
		return protocol.ToStatus(err)
	}
	pairs := make([][2]string, len(texts)/2)
	for i := range pairs {
		pairs[i] = [2]string{texts[2*i], texts[2*i+1]}
	}
	out, err := impl.EncodePairs(stream.Context(), pairs, flags)
	if err != nil {
		return protocol.ToStatus(err)
	}
	ids, types := make([][]int32, len(out)), make([][]int32, len(out))
	for i, p := range out {
		ids[i], types[i] = p.IDs, p.Types
	}
	for _, side := range []struct {
		lists [][]int32
		part  func([]*edgedpb.IdList) *edgedpb.PairsPart
	}{
		{ids, func(l []*edgedpb.IdList) *edgedpb.PairsPart { return &edgedpb.PairsPart{Lists: l} }},
		{types, func(l []*edgedpb.IdList) *edgedpb.PairsPart { return &edgedpb.PairsPart{Types: l} }},
	} {
		err := parts.Split(side.lists, idBytes, func(batch []parts.Piece[int32]) error {
			var lists []*edgedpb.IdList
			for _, p := range batch {
				lists = append(lists, &edgedpb.IdList{Ids: p.Items, Last: p.Last})
			}
			return stream.Send(side.part(lists))
		})
		if err != nil {
			return err
		}
	}
	return nil
}
