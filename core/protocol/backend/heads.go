package backend

import (
	"context"
	"errors"
	"fmt"
	"io"

	"google.golang.org/grpc"

	"edged/core/protocol"
	"edged/core/protocol/edgedpb"
	"edged/core/protocol/internal/parts"
)

// more are lists that stand beside others in the parts of a request.
type more struct {
	j     parts.Joiner[int32]
	given bool
}

func (m *more) add(lists []*edgedpb.IdList) error {
	for _, l := range lists {
		m.given = true
		if err := m.j.Add(l.Ids, l.Last, 4); err != nil {
			return err
		}
	}
	return nil
}

// lists are nil where there were none.
func (m *more) lists() ([][]int32, error) {
	if !m.given {
		return nil, nil
	}
	return m.j.Lists()
}

func (c *client) Rank(ctx context.Context, req RankRequest) ([]Rank, error) {
	call, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.rpc.Rank(call)
	if err != nil {
		return nil, protocol.FromStatus(ctx, err)
	}
	err = sendTyped(req.Lists, req.Types, func(lists, types []*edgedpb.IdList, first bool) error {
		part := &edgedpb.RankRequest{Lists: lists, Types: types}
		if first {
			part.YesId, part.NoId = req.Yes, req.No
		}
		return stream.Send(part)
	})
	if err := sent(err); err != nil {
		return nil, protocol.FromStatus(ctx, err)
	}
	if err := stream.CloseSend(); err != nil {
		return nil, protocol.FromStatus(ctx, err)
	}
	lists, err := receiveFloats(ctx, stream.Recv, len(req.Lists))
	if err != nil {
		return nil, err
	}
	out := make([]Rank, len(lists))
	for i, l := range lists {
		if len(l) != 2 {
			return nil, fmt.Errorf("backend: rank: %d values for a list: want a logit and a score", len(l))
		}
		out[i] = Rank{Logit: l[0], Score: l[1]}
	}
	return out, nil
}

func (s *server) Rank(stream grpc.BidiStreamingServer[edgedpb.RankRequest, edgedpb.FloatsPart]) error {
	impl, ok := s.impl.(Ranker)
	if !ok {
		return protocol.ToStatus(fmt.Errorf("backend: rank: %w by this backend", protocol.ErrUnsupported))
	}
	var req RankRequest
	var types more
	lists, err := receiveLists(stream.Recv, func(part *edgedpb.RankRequest, first bool) []*edgedpb.IdList {
		if first {
			req.Yes, req.No = part.YesId, part.NoId
		}
		return part.Lists
	}, func(part *edgedpb.RankRequest) error { return types.add(part.Types) })
	if err == nil {
		req.Lists = lists
		req.Types, err = types.lists()
	}
	if err != nil {
		return protocol.ToStatus(err)
	}
	ranks, err := impl.Rank(stream.Context(), req)
	if err != nil {
		return protocol.ToStatus(err)
	}
	out := make([][]float32, len(ranks))
	for i, r := range ranks {
		out[i] = []float32{r.Logit, r.Score}
	}
	return sendFloats(out, stream.Send)
}

func (c *client) Fill(ctx context.Context, req FillRequest) ([][][]Guess, error) {
	call, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.rpc.Fill(call)
	if err != nil {
		return nil, protocol.FromStatus(ctx, err)
	}
	err = sendTyped(req.Lists, req.Types, func(lists, types []*edgedpb.IdList, first bool) error {
		part := &edgedpb.FillRequest{Lists: lists, Types: types}
		if first {
			part.Top = narrow(req.Top)
		}
		return stream.Send(part)
	})
	if err == nil {
		err = sendLists(req.Positions, func(lists []*edgedpb.IdList, _ bool) error {
			return stream.Send(&edgedpb.FillRequest{Positions: lists})
		})
	}
	if err := sent(err); err != nil {
		return nil, protocol.FromStatus(ctx, err)
	}
	if err := stream.CloseSend(); err != nil {
		return nil, protocol.FromStatus(ctx, err)
	}
	want := 0
	for _, p := range req.Positions {
		want += len(p)
	}
	var all [][]Guess
	for {
		part, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, protocol.FromStatus(ctx, err)
		}
		for _, m := range part.Masks {
			if len(m.Ids) != len(m.Probs) || len(all) == want {
				return nil, fmt.Errorf("backend: fill: %d ids with %d probabilities at position %d of %d", len(m.Ids), len(m.Probs), len(all)+1, want)
			}
			guesses := make([]Guess, len(m.Ids))
			for i := range guesses {
				guesses[i] = Guess{ID: m.Ids[i], Prob: m.Probs[i]}
			}
			all = append(all, guesses)
		}
	}
	if len(all) != want {
		return nil, fmt.Errorf("backend: fill: %d answers to %d positions", len(all), want)
	}
	out := make([][][]Guess, len(req.Positions))
	for i, p := range req.Positions {
		out[i], all = all[:len(p):len(p)], all[len(p):]
	}
	return out, nil
}

// maskBatch is the number of positions in one message: of a thousand guesses each they are below parts' size.
const maskBatch = 16

func (s *server) Fill(stream grpc.BidiStreamingServer[edgedpb.FillRequest, edgedpb.FillPart]) error {
	impl, ok := s.impl.(Filler)
	if !ok {
		return protocol.ToStatus(fmt.Errorf("backend: fill: %w by this backend", protocol.ErrUnsupported))
	}
	var req FillRequest
	var types, positions more
	lists, err := receiveLists(stream.Recv, func(part *edgedpb.FillRequest, first bool) []*edgedpb.IdList {
		if first {
			req.Top = int(part.Top)
		}
		return part.Lists
	}, func(part *edgedpb.FillRequest) error {
		return errors.Join(types.add(part.Types), positions.add(part.Positions))
	})
	if err == nil {
		req.Lists = lists
		req.Types, err = types.lists()
	}
	if err == nil {
		req.Positions, err = positions.lists()
	}
	if err != nil {
		return protocol.ToStatus(err)
	}
	out, err := impl.Fill(stream.Context(), req)
	if err != nil {
		return protocol.ToStatus(err)
	}
	part := &edgedpb.FillPart{}
	for _, masks := range out {
		for _, guesses := range masks {
			m := &edgedpb.Guesses{}
			for _, g := range guesses {
				m.Ids, m.Probs = append(m.Ids, g.ID), append(m.Probs, g.Prob)
			}
			if part.Masks = append(part.Masks, m); len(part.Masks) == maskBatch {
				if err := stream.Send(part); err != nil {
					return err
				}
				part = &edgedpb.FillPart{}
			}
		}
	}
	if len(part.Masks) > 0 {
		return stream.Send(part)
	}
	return nil
}
