package backend

import (
	"context"
	"errors"
	"fmt"
	"io"

	"edged/core/protocol"
	"edged/core/protocol/edgedpb"
	"edged/core/protocol/internal/parts"
)

// client is a Backend over gRPC; server is its mirror, method for method.
type client struct{ rpc edgedpb.BackendClient }

var (
	_ Backend     = (*client)(nil)
	_ Embedder    = (*client)(nil)
	_ TextEncoder = (*client)(nil)
	_ Bencher     = (*client)(nil)
	_ Forecaster  = (*client)(nil)
	_ Observer    = (*client)(nil)
	_ Ranker      = (*client)(nil)
	_ Filler      = (*client)(nil)
)

func (c *client) Describe(ctx context.Context) (Description, error) {
	d, err := c.rpc.Describe(ctx, &edgedpb.DescribeRequest{})
	if err != nil {
		return Description{}, protocol.FromStatus(ctx, err)
	}
	return descriptionFrom(d), nil
}

func (c *client) Plan(ctx context.Context, req LoadRequest) (MemoryPlan, error) {
	p, err := c.rpc.Plan(ctx, loadRequestTo(req))
	if err != nil {
		return MemoryPlan{}, protocol.FromStatus(ctx, err)
	}
	return planFrom(p), nil
}

func (c *client) Load(ctx context.Context, req LoadRequest, progress func(LoadProgress)) (ModelInfo, error) {
	call, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.rpc.Load(call, loadRequestTo(req))
	if err != nil {
		return ModelInfo{}, protocol.FromStatus(ctx, err)
	}
	for {
		e, err := stream.Recv()
		if err != nil {
			return ModelInfo{}, protocol.FromStatus(ctx, err)
		}
		switch e := e.Event.(type) {
		case *edgedpb.LoadEvent_Progress:
			if progress != nil {
				progress(LoadProgress{e.Progress.GetStage(), e.Progress.GetDone(), e.Progress.GetTotal()})
			}
		case *edgedpb.LoadEvent_Info:
			return infoFrom(e.Info), finish(ctx, stream)
		}
	}
}

func (c *client) SetVocabulary(ctx context.Context, v Vocabulary) error {
	call, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.rpc.SetVocabulary(call)
	if err != nil {
		return protocol.FromStatus(ctx, err)
	}
	if err := sent(parts.SendVocabulary(parts.Vocabulary(v), stream.Send)); err != nil {
		return protocol.FromStatus(ctx, err)
	}
	_, err = stream.CloseAndRecv()
	return protocol.FromStatus(ctx, err)
}

func (c *client) LoadAdapter(ctx context.Context, req AdapterRequest) (AdapterInfo, error) {
	a, err := c.rpc.LoadAdapter(ctx, &edgedpb.AdapterRequest{Path: req.Path, Sha256: req.SHA256, Name: req.Name})
	if err != nil {
		return AdapterInfo{}, protocol.FromStatus(ctx, err)
	}
	return AdapterInfo{
		ID:      a.Id,
		SHA256:  a.Sha256,
		Rank:    int(a.Rank),
		Targets: a.Targets,
		Bytes:   a.Bytes,
		Kind:    a.Kind,
		Virtual: int(a.VirtualTokens),
		Base:    a.Base,
	}, nil
}

func (c *client) UnloadAdapter(ctx context.Context, id string) error {
	_, err := c.rpc.UnloadAdapter(ctx, &edgedpb.UnloadAdapterRequest{Id: id})
	return protocol.FromStatus(ctx, err)
}

func (c *client) Generate(ctx context.Context, req Request, emit func(Event) error) error {
	// The plugin stops when its call is cancelled, so it is when emit refuses an event, too.
	call, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.rpc.Generate(call)
	if err != nil {
		return protocol.FromStatus(ctx, err)
	}
	if err := sent(sendRequest(req, stream.Send)); err != nil {
		return protocol.FromStatus(ctx, err)
	}
	if err := stream.CloseSend(); err != nil {
		return protocol.FromStatus(ctx, err)
	}
	var a assembler
	for {
		message, err := stream.Recv()
		if err != nil {
			return protocol.FromStatus(ctx, err)
		}
		event, whole, err := a.add(message)
		if err != nil {
			return err
		}
		if !whole {
			continue
		}
		// gRPC still hands out what had come when ctx ended; a caller that cancelled gets no event after that.
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := emit(event); err != nil {
			return err
		}
		if event.Done {
			return finish(ctx, stream)
		}
	}
}

func (c *client) Score(ctx context.Context, req ScoreRequest) ([]ScoreResult, error) {
	call, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.rpc.Score(call)
	if err != nil {
		return nil, protocol.FromStatus(ctx, err)
	}
	err = sendLists(req.Lists, func(lists []*edgedpb.IdList, first bool) error {
		part := &edgedpb.ScoreRequest{Lists: lists}
		if first {
			part.Adapters = usesTo(req.Adapters)
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
	out := make([]ScoreResult, len(lists))
	for i, l := range lists {
		if want := max(0, len(req.Lists[i])-1); len(l) != want {
			return nil, fmt.Errorf("backend: score: %d values for a list of %d ids", len(l), len(req.Lists[i]))
		}
		out[i].Logprobs = l
	}
	return out, nil
}

func (c *client) Embed(ctx context.Context, lists [][]int32) ([][]float32, error) {
	return c.EmbedTexts(ctx, EmbedRequest{Lists: lists})
}

func (c *client) EmbedTexts(ctx context.Context, req EmbedRequest) ([][]float32, error) {
	call, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.rpc.Embed(call)
	if err != nil {
		return nil, protocol.FromStatus(ctx, err)
	}
	err = sendTyped(req.Lists, req.Types, func(lists, types []*edgedpb.IdList, first bool) error {
		part := &edgedpb.EmbedRequest{Lists: lists, Types: types}
		if first {
			part.Pooling, part.Normalize = req.Pooling, req.Normalize
		}
		return stream.Send(part)
	})
	if err := sent(err); err != nil {
		return nil, protocol.FromStatus(ctx, err)
	}
	if err := stream.CloseSend(); err != nil {
		return nil, protocol.FromStatus(ctx, err)
	}
	return receiveFloats(ctx, stream.Recv, len(req.Lists))
}

func (c *client) Forecast(ctx context.Context, req LoadRequest) (Forecast, error) {
	f, err := c.rpc.Forecast(ctx, loadRequestTo(req))
	if err != nil {
		return Forecast{}, protocol.FromStatus(ctx, err)
	}
	return Forecast{
		TokenBytes:        f.GetTokenBytes(),
		TokenProducts:     f.GetTokenProducts(),
		BytesPerSecond:    f.GetBytesPerSecond(),
		ProductsPerSecond: f.GetProductsPerSecond(),
	}, nil
}

func (c *client) Bench(ctx context.Context, req BenchRequest, progress func(done, total int)) (BenchResult, error) {
	call, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.rpc.Bench(call, benchRequestTo(req))
	if err != nil {
		return BenchResult{}, protocol.FromStatus(ctx, err)
	}
	for {
		e, err := stream.Recv()
		if err != nil {
			return BenchResult{}, protocol.FromStatus(ctx, err)
		}
		switch e := e.Event.(type) {
		case *edgedpb.BenchEvent_Progress:
			if progress != nil {
				progress(int(e.Progress.GetDone()), int(e.Progress.GetTotal()))
			}
		case *edgedpb.BenchEvent_Result:
			return benchResultFrom(e.Result), finish(ctx, stream)
		}
	}
}

func (c *client) Stats(ctx context.Context) (Stats, error) {
	s, err := c.rpc.Stats(ctx, &edgedpb.StatsRequest{})
	if err != nil {
		return Stats{}, protocol.FromStatus(ctx, err)
	}
	return statsFrom(s), nil
}

// sent forgives the io.EOF that a send gives when the server has already answered: the answer says why.
func sent(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// finish reads the end of a stream whose last message has come.
func finish[T any](ctx context.Context, stream interface{ Recv() (T, error) }) error {
	_, err := stream.Recv()
	switch {
	case errors.Is(err, io.EOF):
		return nil
	case err == nil:
		return errors.New("backend: a message after the last one")
	}
	return protocol.FromStatus(ctx, err)
}

// receiveFloats puts the answer to n lists together.
func receiveFloats(ctx context.Context, recv func() (*edgedpb.FloatsPart, error), n int) ([][]float32, error) {
	var j parts.Joiner[float32]
	for {
		part, err := recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, protocol.FromStatus(ctx, err)
		}
		for _, l := range part.Lists {
			if err := j.Add(l.Values, l.Last, 4); err != nil {
				return nil, err
			}
		}
	}
	lists, err := j.Lists()
	if err != nil {
		return nil, err
	}
	if len(lists) != n {
		return nil, fmt.Errorf("backend: %d answers to %d lists", len(lists), n)
	}
	return lists, nil
}
