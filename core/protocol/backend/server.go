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

// server serves a Backend over gRPC; client is its mirror, method for method.
type server struct {
	edgedpb.UnimplementedBackendServer
	impl Backend
}

var _ edgedpb.BackendServer = (*server)(nil)

func (s *server) Describe(ctx context.Context, _ *edgedpb.DescribeRequest) (*edgedpb.Description, error) {
	d, err := s.impl.Describe(ctx)
	if err != nil {
		return nil, protocol.ToStatus(err)
	}
	return descriptionTo(d), nil
}

func (s *server) Plan(ctx context.Context, req *edgedpb.LoadRequest) (*edgedpb.MemoryPlan, error) {
	p, err := s.impl.Plan(ctx, loadRequestFrom(req))
	if err != nil {
		return nil, protocol.ToStatus(err)
	}
	return planTo(p), nil
}

func (s *server) Load(req *edgedpb.LoadRequest, stream grpc.ServerStreamingServer[edgedpb.LoadEvent]) error {
	info, err := s.impl.Load(stream.Context(), loadRequestFrom(req), func(p LoadProgress) {
		// A lost progress event is no reason to stop a load; a lost connection ends stream's context.
		_ = stream.Send(&edgedpb.LoadEvent{Event: &edgedpb.LoadEvent_Progress{
			Progress: &edgedpb.LoadProgress{Stage: p.Stage, Done: p.Done, Total: p.Total},
		}})
	})
	if err != nil {
		return protocol.ToStatus(err)
	}
	return stream.Send(&edgedpb.LoadEvent{Event: &edgedpb.LoadEvent_Info{Info: infoTo(info)}})
}

func (s *server) SetVocabulary(stream grpc.ClientStreamingServer[edgedpb.VocabularyPart, edgedpb.SetVocabularyResponse]) error {
	v, err := parts.ReceiveVocabulary(stream.Recv)
	if errors.Is(err, io.EOF) {
		err = fmt.Errorf("backend: %w: the vocabulary has no last part", protocol.ErrInvalid)
	}
	if err != nil {
		return protocol.ToStatus(err)
	}
	if err := s.impl.SetVocabulary(stream.Context(), Vocabulary(v)); err != nil {
		return protocol.ToStatus(err)
	}
	return stream.SendAndClose(&edgedpb.SetVocabularyResponse{})
}

func (s *server) LoadAdapter(ctx context.Context, req *edgedpb.AdapterRequest) (*edgedpb.AdapterInfo, error) {
	a, err := s.impl.LoadAdapter(ctx, AdapterRequest{Path: req.Path, SHA256: req.Sha256, Name: req.Name})
	if err != nil {
		return nil, protocol.ToStatus(err)
	}
	return &edgedpb.AdapterInfo{
		Id:            a.ID,
		Sha256:        a.SHA256,
		Rank:          narrow(a.Rank),
		Targets:       a.Targets,
		Bytes:         a.Bytes,
		Kind:          a.Kind,
		VirtualTokens: narrow(a.Virtual),
		Base:          a.Base,
	}, nil
}

func (s *server) UnloadAdapter(ctx context.Context, req *edgedpb.UnloadAdapterRequest) (*edgedpb.UnloadAdapterResponse, error) {
	if err := s.impl.UnloadAdapter(ctx, req.Id); err != nil {
		return nil, protocol.ToStatus(err)
	}
	return &edgedpb.UnloadAdapterResponse{}, nil
}

func (s *server) Generate(stream grpc.BidiStreamingServer[edgedpb.GenerateRequest, edgedpb.GenerateEvent]) error {
	req, err := receiveRequest(stream.Recv)
	if err != nil {
		return protocol.ToStatus(err)
	}
	done := false
	err = s.impl.Generate(stream.Context(), req, func(e Event) error {
		if done {
			return errors.New("backend: an event after the last one")
		}
		done = e.Done
		return sendEvent(e, stream.Send)
	})
	if err == nil && !done {
		err = errors.New("backend: the generation ended without a last event")
	}
	return protocol.ToStatus(err)
}

func (s *server) Score(stream grpc.BidiStreamingServer[edgedpb.ScoreRequest, edgedpb.FloatsPart]) error {
	var req ScoreRequest
	lists, err := receiveLists(stream.Recv, func(part *edgedpb.ScoreRequest, first bool) []*edgedpb.IdList {
		if first {
			req.Adapters = usesFrom(part.Adapters)
		}
		return part.Lists
	})
	if err != nil {
		return protocol.ToStatus(err)
	}
	req.Lists = lists
	results, err := s.impl.Score(stream.Context(), req)
	if err != nil {
		return protocol.ToStatus(err)
	}
	out := make([][]float32, len(results))
	for i, r := range results {
		out[i] = r.Logprobs
	}
	return sendFloats(out, stream.Send)
}

// receiveEmbed reads the parts of an EmbedRequest: ids and their types are joined each by themselves.
func receiveEmbed(recv func() (*edgedpb.EmbedRequest, error)) (req EmbedRequest, err error) {
	var types more
	req.Lists, err = receiveLists(recv, func(part *edgedpb.EmbedRequest, first bool) []*edgedpb.IdList {
		if first {
			req.Pooling, req.Normalize = part.Pooling, part.Normalize
		}
		return part.Lists
	}, func(part *edgedpb.EmbedRequest) error { return types.add(part.Types) })
	if err == nil {
		req.Types, err = types.lists()
	}
	return req, err
}

func (s *server) Embed(stream grpc.BidiStreamingServer[edgedpb.EmbedRequest, edgedpb.FloatsPart]) error {
	impl, ok := s.impl.(Embedder)
	if !ok {
		return protocol.ToStatus(fmt.Errorf("backend: embed: %w by this backend", protocol.ErrUnsupported))
	}
	req, err := receiveEmbed(stream.Recv)
	if err != nil {
		return protocol.ToStatus(err)
	}
	var vectors [][]float32
	if texts, ok := s.impl.(TextEncoder); ok {
		vectors, err = texts.EmbedTexts(stream.Context(), req)
	} else if req.plain() {
		vectors, err = impl.Embed(stream.Context(), req.Lists)
	} else {
		err = fmt.Errorf("backend: embed: types, pooling and normalize: %w by this backend", protocol.ErrUnsupported)
	}
	if err != nil {
		return protocol.ToStatus(err)
	}
	return sendFloats(vectors, stream.Send)
}

func (s *server) Forecast(ctx context.Context, req *edgedpb.LoadRequest) (*edgedpb.ForecastResponse, error) {
	impl, ok := s.impl.(Forecaster)
	if !ok {
		return nil, protocol.ToStatus(fmt.Errorf("backend: forecast: %w by this backend", protocol.ErrUnsupported))
	}
	f, err := impl.Forecast(ctx, loadRequestFrom(req))
	if err != nil {
		return nil, protocol.ToStatus(err)
	}
	return &edgedpb.ForecastResponse{
		TokenBytes: f.TokenBytes, TokenProducts: f.TokenProducts, BytesPerSecond: f.BytesPerSecond, ProductsPerSecond: f.ProductsPerSecond,
	}, nil
}

func (s *server) Bench(req *edgedpb.BenchRequest, stream grpc.ServerStreamingServer[edgedpb.BenchEvent]) error {
	impl, ok := s.impl.(Bencher)
	if !ok {
		return protocol.ToStatus(fmt.Errorf("backend: bench: %w by this backend", protocol.ErrUnsupported))
	}
	result, err := impl.Bench(stream.Context(), benchRequestFrom(req), func(done, total int) {
		_ = stream.Send(&edgedpb.BenchEvent{Event: &edgedpb.BenchEvent_Progress{
			Progress: &edgedpb.BenchProgress{Done: narrow(done), Total: narrow(total)},
		}})
	})
	if err != nil {
		return protocol.ToStatus(err)
	}
	return stream.Send(&edgedpb.BenchEvent{Event: &edgedpb.BenchEvent_Result{Result: benchResultTo(result)}})
}

func (s *server) Stats(ctx context.Context, _ *edgedpb.StatsRequest) (*edgedpb.StatsResponse, error) {
	st, err := s.impl.Stats(ctx)
	if err != nil {
		return nil, protocol.ToStatus(err)
	}
	return statsTo(st), nil
}

// receiveLists reads all parts of a request; lists takes what it needs from each and gives the lists in it.
func receiveLists[T any](
	recv func() (T, error),
	lists func(part T, first bool) []*edgedpb.IdList,
	also ...func(part T) error,
) ([][]int32, error) {
	var j parts.Joiner[int32]
	for first := true; ; first = false {
		part, err := recv()
		if errors.Is(err, io.EOF) {
			return j.Lists()
		}
		if err != nil {
			return nil, err
		}
		for _, f := range also {
			if err := f(part); err != nil {
				return nil, err
			}
		}
		for _, l := range lists(part, first) {
			if err := j.Add(l.Ids, l.Last, 4); err != nil {
				return nil, err
			}
		}
	}
}

func sendFloats(lists [][]float32, send func(*edgedpb.FloatsPart) error) error {
	return parts.Split(lists, 4, func(batch []parts.Piece[float32]) error {
		part := &edgedpb.FloatsPart{}
		for _, p := range batch {
			part.Lists = append(part.Lists, &edgedpb.FloatList{Values: p.Items, Last: p.Last})
		}
		return send(part)
	})
}
