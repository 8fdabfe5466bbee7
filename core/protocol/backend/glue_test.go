package backend_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/test/bufconn"

	"edged/core/protocol"
	"edged/core/protocol/backend"
)

// dial serves impl over gRPC, in memory, and returns the client's side of it.
func dial(t *testing.T, impl backend.Backend) backend.Backend {
	t.Helper()
	b, _ := dialServer(t, impl)
	return b
}

func dialServer(t *testing.T, impl backend.Backend) (backend.Backend, *grpc.Server) {
	t.Helper()
	l := bufconn.Listen(1 << 20)
	s := grpc.NewServer(append(protocol.ServerOptions(), grpc.StatsHandler(watch{t}))...)
	backend.RegisterServer(s, impl)
	go s.Serve(l)
	t.Cleanup(s.Stop)
	conn, err := grpc.NewClient("passthrough:bufconn", append(
		protocol.DialOptions(),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) }),
	)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return backend.NewClient(conn), s
}

// watch fails the test when a message comes near gRPC's default limit of 4 MiB.
type watch struct{ t *testing.T }

const nearLimit = 3 << 19

func (w watch) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context   { return ctx }
func (w watch) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }
func (w watch) HandleConn(context.Context, stats.ConnStats)                       {}
func (w watch) HandleRPC(_ context.Context, s stats.RPCStats) {
	switch s := s.(type) {
	case *stats.InPayload:
		if s.Length > nearLimit {
			w.t.Errorf("the plugin received a message of %d bytes", s.Length)
		}
	case *stats.OutPayload:
		if s.Length > nearLimit {
			w.t.Errorf("the plugin sent a message of %d bytes", s.Length)
		}
	}
}

func ids(n int) []int32 {
	out := make([]int32, n)
	for i := range out {
		out[i] = int32(i*7919) & math.MaxInt32
	}
	return out
}

func logprobs(n, alternatives int) []backend.TokenLogprob {
	out := make([]backend.TokenLogprob, n)
	for i := range out {
		out[i] = backend.TokenLogprob{ID: int32(i), Logprob: -float32(i) / 8}
		for j := range alternatives {
			out[i].Top = append(out[i].Top, backend.Alternative{ID: int32(j), Logprob: -float32(j)})
		}
	}
	return out
}

// aPenalty and aScore are set where a nil would mean none.
var aPenalty, aScore = 0.6, float32(-1.25)

// fullRequest has every field set, so that one that is forgotten in the glue shows.
func fullRequest() backend.Request {
	return backend.Request{
		ID: "r1", PromptIDs: []int32{1, 2, 3}, Borders: []int32{1, 2}, GeneratedIDs: []int32{4, 5}, ForcedIDs: []int32{6},
		Adapters: []backend.AdapterUse{{ID: "a", Scale: 0.5}, {ID: "b", Scale: -1}},
		Sampling: backend.Sampling{
			Temperature: 0.7, TopK: 40, TopP: 0.9, MinP: 0.05, TypicalP: 0.8, RepeatPenalty: 1.1, PresencePenalty: 0.2,
			FrequencyPenalty: 0.3, PenaltyLastN: -1, LogitBias: map[int32]float32{7: float32(math.Inf(-1)), 9: 2}, Seed: math.MaxUint64,
		},
		MaxTokens: 99, Stop: []string{"\n\n", "\xff not UTF-8"}, StopIDs: []int32{2, 11}, IgnoreEOS: true,
		Grammar: `root ::= "yes"`, N: 2, BestOf: 3, Logprobs: true, TopLogprobs: 5, Priority: -4, Client: "kitchen", Stream: true,
		Search: backend.Search{Beams: 4, LengthPenalty: &aPenalty, EarlyStopping: "never"},
	}
}

func TestEveryFieldCrosses(t *testing.T) {
	t.Parallel()
	load := backend.LoadRequest{
		Path: "/m.gguf", Context: 1 << 20, KVType: "q8_0", Precision: backend.Exact, ThreadsPrefill: 4, ThreadsDecode: 3,
		Head: "q8_0", Quantize: "q4_0", CacheDir: "/c", MaxSequences: 6, KVBytes: 1 << 40, MemoryLimit: 1 << 41, IgnorePlan: true,
		NoPrefixCache: true, NoLookup: true, NoTiles: true, DraftModel: "/models/draft.gguf",
	}
	plan := backend.MemoryPlan{
		Weights: 1 << 33, Derived: 2, KV: 3, Scratch: 4, Adapters: 5, Total: 6, Available: 7, HeadBytes: 8, HeadSaves: 9, Fits: true, Draft: 10, OnDisk: 11,
	}
	info := backend.ModelInfo{
		Arch: "qwen3", Name: "q", Hash: "abc", Format: "Q4_K", Layers: 28, Width: 1024, VocabRows: 151936, Context: 4096,
		TrainContext: 1 << 20, Parameters: 6e8, WeightBytes: 4e8, HasTokenizer: true, Plan: plan, Precision: backend.Fast,
		KVType: "f16", ThreadsDecode: 3, ThreadsPrefill: 4, Kind: "encoder", Tasks: []string{"rank"}, VectorLen: 768,
	}
	description := backend.Description{
		Name: "neon", Version: "1.2.3", Kernels: []string{"dotprod", "portable"}, Features: []string{"asimd"}, Embeds: true, Benches: true,
	}
	adapter := backend.AdapterInfo{ID: "x", SHA256: "ff", Rank: 16, Targets: []string{"q_proj", "v_proj"}, Bytes: 1 << 20, Kind: "dora", Virtual: 7, Base: "somebody/base"}
	forecast := backend.Forecast{TokenBytes: 1 << 40, TokenProducts: 3, BytesPerSecond: 1.5e10, ProductsPerSecond: 2.5e11}
	bench := backend.BenchRequest{
		Streams: 8, PromptTokens: 1, GenTokens: 2, Repeats: 3, Context: 4, Transcript: []int32{5}, Adapters: []backend.AdapterUse{{ID: "x", Scale: 0.5}},
	}
	result := backend.BenchResult{
		PrefillTPS: []float64{1.5}, DecodeTPS: []float64{2.5, 3}, BandwidthGBps: 12, WeightBytesPerToken: 13, FirstTokenMS: 14, PlainDecodeTPS: []float64{4},
		SingleDecodeTPS: []float64{5}, Drafted: 6, Accepted: 7, StreamsTPS: []float64{8}, StreamsWait: []float64{9}, PlainStreamsTPS: []float64{10},
	}
	counters := backend.Stats{
		Running: 1, Waiting: 2, KVPages: 3, KVPagesUsed: 4, Adapters: 5, AdapterBytes: 6, PromptTokens: 7, DecodedTokens: 8,
		Steps: 9, ResidentBytes: 10, HeapBytes: 11, PrefillTime: 12, DecodeTime: 13,
		KVPagesCached: 14, PrefixHits: 15, PrefixTokens: 16,
		DraftedTokens: 17, AcceptedTokens: 18, ThreadsDecode: 70,
	}
	vocabulary := backend.Vocabulary{
		Pieces: [][]byte{[]byte("a"), {}, []byte("\xff\xfe")}, Control: []bool{false, true, false}, EOG: []int32{1}, BOS: -1, Hash: "00",
	}
	progress := []backend.LoadProgress{{Stage: "map", Done: 1, Total: 1 << 40}, {Stage: "ready"}}
	step := backend.Event{Index: 1, IDs: []int32{3}, Text: "ä", Logprobs: logprobs(1, 2)}
	last := backend.Event{
		Done:    true,
		Choices: []backend.Choice{{Index: 0, IDs: []int32{1}, Text: "x", Finish: backend.FinishStop, Logprobs: logprobs(1, 1)}, {Index: 1, Finish: backend.FinishLength, End: new(int32), Score: &aScore}},
		Usage:   backend.Usage{PromptTokens: 1, CachedTokens: 2, CompletionTokens: 3, VirtualTokens: 4},
		Timings: backend.Timings{Queue: 1, FirstToken: 2, Prefill: 3, Decode: time.Hour},
	}
	same := func(what string, got, want any) {
		t.Helper()
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", what, d)
		}
	}
	b := dial(t, &backend.Fake{
		DescribeFunc: func(context.Context) (backend.Description, error) { return description, nil },
		PlanFunc: func(_ context.Context, req backend.LoadRequest) (backend.MemoryPlan, error) {
			same("plan's request", req, load)
			return plan, nil
		},
		ForecastFunc: func(_ context.Context, req backend.LoadRequest) (backend.Forecast, error) {
			same("forecast's request", req, load)
			return forecast, nil
		},
		LoadFunc: func(_ context.Context, req backend.LoadRequest, report func(backend.LoadProgress)) (backend.ModelInfo, error) {
			same("load's request", req, load)
			for _, p := range progress {
				report(p)
			}
			return info, nil
		},
		SetVocabularyFunc: func(_ context.Context, v backend.Vocabulary) error { same("vocabulary", v, vocabulary); return nil },
		LoadAdapterFunc: func(_ context.Context, req backend.AdapterRequest) (backend.AdapterInfo, error) {
			same("adapter's request", req, backend.AdapterRequest{Path: "/a", SHA256: "ff", Name: "n"})
			return adapter, nil
		},
		UnloadAdapterFunc: func(_ context.Context, id string) error { same("id", id, "x"); return nil },
		GenerateFunc: func(_ context.Context, req backend.Request, emit func(backend.Event) error) error {
			same("request", req, fullRequest())
			return errors.Join(emit(backend.Event{Prefill: &backend.Prefill{Done: 1, Of: 2}}), emit(step), emit(last))
		},
		ScoreFunc: func(_ context.Context, req backend.ScoreRequest) ([]backend.ScoreResult, error) {
			same("score's request", req, backend.ScoreRequest{Lists: [][]int32{{1, 2, 3}, nil, {4}}, Adapters: []backend.AdapterUse{{ID: "a", Scale: 1}}})
			return []backend.ScoreResult{{Logprobs: []float32{-1, -2}}, {}, {}}, nil
		},
		EmbedFunc: func(_ context.Context, lists [][]int32) ([][]float32, error) {
			same("lists", lists, [][]int32{{1}, {2}})
			return [][]float32{{0.5, 1}, {2, 3}}, nil
		},
		BenchFunc: func(_ context.Context, req backend.BenchRequest, report func(done, total int)) (backend.BenchResult, error) {
			same("bench's request", req, bench)
			report(1, 3)
			return result, nil
		},
		StatsFunc: func(context.Context) (backend.Stats, error) { return counters, nil },
	})
	ctx := t.Context()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	d, err := b.Describe(ctx)
	must(err)
	same("description", d, description)
	p, err := b.Plan(ctx, load)
	must(err)
	same("plan", p, plan)
	speed, err := b.(backend.Forecaster).Forecast(ctx, load)
	must(err)
	same("forecast", speed, forecast)
	var seen []backend.LoadProgress
	i, err := b.Load(ctx, load, func(p backend.LoadProgress) { seen = append(seen, p) })
	must(err)
	same("info", i, info)
	same("progress", seen, progress)
	_, err = b.Load(ctx, load, nil)
	must(err)
	must(b.SetVocabulary(ctx, vocabulary))
	a, err := b.LoadAdapter(ctx, backend.AdapterRequest{Path: "/a", SHA256: "ff", Name: "n"})
	must(err)
	same("adapter", a, adapter)
	must(b.UnloadAdapter(ctx, "x"))
	var events []backend.Event
	must(b.Generate(ctx, fullRequest(), func(e backend.Event) error { events = append(events, e); return nil }))
	same("events", events, []backend.Event{{Prefill: &backend.Prefill{Done: 1, Of: 2}}, step, last})
	scores, err := b.Score(ctx, backend.ScoreRequest{Lists: [][]int32{{1, 2, 3}, nil, {4}}, Adapters: []backend.AdapterUse{{ID: "a", Scale: 1}}})
	must(err)
	same("scores", scores, []backend.ScoreResult{{Logprobs: []float32{-1, -2}}, {}, {}})
	vectors, err := b.(backend.Embedder).Embed(ctx, [][]int32{{1}, {2}})
	must(err)
	same("vectors", vectors, [][]float32{{0.5, 1}, {2, 3}})
	var steps []int
	r, err := b.(backend.Bencher).Bench(ctx, bench, func(done, total int) { steps = append(steps, done, total) })
	must(err)
	same("result", r, result)
	same("steps", steps, []int{1, 3})
	st, err := b.Stats(ctx)
	must(err)
	same("stats", st, counters)
}

// What a model or a user makes large comes through whole, in messages that stay far below gRPC's limit (see watch).
func TestLargeValuesCross(t *testing.T) {
	t.Parallel()
	request := backend.Request{
		PromptIDs: ids(1 << 20), GeneratedIDs: ids(300_000), ForcedIDs: ids(70_001),
		Grammar: strings.Repeat("root ::= x\n", 100_000),
	}
	delta := backend.Event{Index: 2, IDs: ids(10_000), Text: strings.Repeat("ä€", 200_000), Logprobs: logprobs(10_000, 20)}
	last := backend.Event{Done: true}
	for i := range 8 {
		last.Choices = append(last.Choices, backend.Choice{
			Index: i, IDs: ids(20_000 + i), Text: strings.Repeat("x", i*100_000), Logprobs: logprobs(5_000, 20), Finish: backend.FinishLength,
		})
	}
	vocabulary := backend.Vocabulary{BOS: 1, EOG: []int32{2, 299_999}, Hash: "h"}
	for i := range 300_000 {
		vocabulary.Pieces = append(vocabulary.Pieces, []byte(fmt.Sprint("piece", i)))
		vocabulary.Control = append(vocabulary.Control, i%1000 == 3)
	}
	vocabulary.Pieces[17] = bytes.Repeat([]byte{'w'}, 700_000)
	lists := [][]int32{ids(400_000), {}, {5}, ids(131_072)}
	b := dial(t, &backend.Fake{
		GenerateFunc: func(_ context.Context, req backend.Request, emit func(backend.Event) error) error {
			if !reflect.DeepEqual(request, req) {
				t.Error("the request differs")
			}
			return errors.Join(emit(delta), emit(last))
		},
		SetVocabularyFunc: func(_ context.Context, v backend.Vocabulary) error {
			if !reflect.DeepEqual(vocabulary, v) {
				t.Error("the vocabulary differs")
			}
			return nil
		},
		ScoreFunc: func(_ context.Context, req backend.ScoreRequest) ([]backend.ScoreResult, error) {
			out := make([]backend.ScoreResult, len(req.Lists))
			for i, l := range req.Lists {
				for range max(0, len(l)-1) {
					out[i].Logprobs = append(out[i].Logprobs, -0.25)
				}
			}
			return out, nil
		},
	})
	var events []backend.Event
	if err := b.Generate(t.Context(), request, func(e backend.Event) error { events = append(events, e); return nil }); err != nil {
		t.Fatal(err)
	}
	// reflect: go-cmp needs 20 s for lists of this length.
	if !reflect.DeepEqual([]backend.Event{delta, last}, events) {
		t.Error("the events differ")
	}
	if err := b.SetVocabulary(t.Context(), vocabulary); err != nil {
		t.Error(err)
	}
	scores, err := b.Score(t.Context(), backend.ScoreRequest{Lists: lists})
	if err != nil {
		t.Fatal(err)
	}
	for i, s := range scores {
		if want := max(0, len(lists[i])-1); len(s.Logprobs) != want {
			t.Errorf("list %d: %d values, want %d", i, len(s.Logprobs), want)
		}
	}
}

func TestErrorsCross(t *testing.T) {
	t.Parallel()
	for _, kind := range []error{
		protocol.ErrInvalid, protocol.ErrAdapterNotFound, protocol.ErrContextLength, protocol.ErrQueueFull, protocol.ErrNotLoaded,
		protocol.ErrUnsupported, protocol.ErrModel, protocol.ErrNoMemory,
	} {
		t.Run(kind.Error(), func(t *testing.T) {
			t.Parallel()
			sent := fmt.Errorf("weights: /m.gguf: tensor output.weight: %w: it is cut off", kind)
			b := dial(t, &backend.Fake{
				LoadFunc: func(context.Context, backend.LoadRequest, func(backend.LoadProgress)) (backend.ModelInfo, error) {
					return backend.ModelInfo{}, sent
				},
				GenerateFunc:      func(context.Context, backend.Request, func(backend.Event) error) error { return sent },
				UnloadAdapterFunc: func(context.Context, string) error { return sent },
				SetVocabularyFunc: func(context.Context, backend.Vocabulary) error { return sent },
				ScoreFunc:         func(context.Context, backend.ScoreRequest) ([]backend.ScoreResult, error) { return nil, sent },
			})
			ctx := t.Context()
			_, loadErr := b.Load(ctx, backend.LoadRequest{}, nil)
			_, scoreErr := b.Score(ctx, backend.ScoreRequest{Lists: [][]int32{{1}}})
			for method, err := range map[string]error{
				"load": loadErr, "score": scoreErr, "unload": b.UnloadAdapter(ctx, "x"),
				"generate":   b.Generate(ctx, backend.Request{}, func(backend.Event) error { return nil }),
				"vocabulary": b.SetVocabulary(ctx, backend.Vocabulary{BOS: -1}),
			} {
				if !errors.Is(err, kind) || err.Error() != sent.Error() {
					t.Errorf("%s: %v, want %v", method, err, sent)
				}
			}
		})
	}
}

// TestObserved: rows of logits and values of matrices that are larger than a message come whole and in their places, and an
// answer that lacks some, or has others, is an error.
func TestObserved(t *testing.T) {
	t.Parallel()
	want := backend.ObserveRequest{Lists: [][]int32{{1, 2, 3}, {4}, {5, 6}}, Inputs: true, Logits: true, From: 1}
	row := make([]float32, 1<<20+3)
	for i := range row {
		row[i] = float32(i)
	}
	matrices := []backend.MatrixInputs{
		{Name: "blk.0.ffn_up_exps.weight", Squares: row[:2<<18], Counts: []int64{1 << 40, 0}}, {Name: "blk.0.attn_q.weight", Squares: row[:3], Counts: []int64{7}},
	}
	places := [][2]int{{0, 1}, {0, 2}, {2, 1}}
	send := len(places)
	b := dial(t, &backend.Fake{ObserveFunc: func(_ context.Context, req backend.ObserveRequest, emit func(list, position int, logits []float32) error) ([]backend.MatrixInputs, error) {
		if d := cmp.Diff(want, req); d != "" {
			t.Error(d)
		}
		for i := range send {
			p := places[i%len(places)]
			if err := emit(p[0], p[1], row); err != nil {
				return nil, err
			}
		}
		return matrices, nil
	}})
	for _, send = range []int{3, 2, 4} {
		var got [][2]int
		out, err := b.(backend.Observer).Observe(t.Context(), want, func(list, position int, logits []float32) error {
			if !slices.Equal(logits, row) {
				t.Error("another row")
			}
			got = append(got, [2]int{list, position})
			return nil
		})
		if send != len(places) {
			if err == nil {
				t.Errorf("%d rows for %d positions are no error", send, len(places))
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(places, got); d != "" {
			t.Error(d)
		}
		if d := cmp.Diff(matrices, out); d != "" {
			t.Error("the matrices differ")
		}
	}
}

func TestOptionalAbilities(t *testing.T) {
	t.Parallel()
	// A backend that has only the ten methods: the embedded interface hides the fake's others.
	b := dial(t, struct{ backend.Backend }{&backend.Fake{}})
	if _, err := b.(backend.Embedder).Embed(t.Context(), [][]int32{{1}}); !errors.Is(err, protocol.ErrUnsupported) {
		t.Errorf("embed: %v", err)
	}
	if _, err := b.(backend.Forecaster).Forecast(t.Context(), backend.LoadRequest{}); !errors.Is(err, protocol.ErrUnsupported) {
		t.Errorf("forecast: %v", err)
	}
	if _, err := b.(backend.Observer).Observe(t.Context(), backend.ObserveRequest{}, nil); !errors.Is(err, protocol.ErrUnsupported) {
		t.Errorf("observe: %v", err)
	}
	if _, err := b.(backend.Bencher).Bench(t.Context(), backend.BenchRequest{}, nil); !errors.Is(err, protocol.ErrUnsupported) {
		t.Errorf("bench: %v", err)
	}
	if _, err := b.Describe(t.Context()); !errors.Is(err, protocol.ErrUnsupported) {
		t.Errorf("an unset method of the fake: %v", err)
	}
}

func TestGenerateEnds(t *testing.T) {
	t.Parallel()
	t.Run("cancel reaches the plugin", func(t *testing.T) {
		t.Parallel()
		stopped := make(chan error, 1)
		b := dial(t, &backend.Fake{GenerateFunc: func(ctx context.Context, _ backend.Request, emit func(backend.Event) error) error {
			err := emit(backend.Event{Text: "x", IDs: []int32{1}})
			<-ctx.Done()
			stopped <- ctx.Err()
			return errors.Join(err, ctx.Err())
		}})
		ctx, cancel := context.WithCancel(t.Context())
		err := b.Generate(ctx, backend.Request{}, func(backend.Event) error { cancel(); return nil })
		if !errors.Is(err, context.Canceled) || errors.Is(err, protocol.ErrPluginDied) {
			t.Errorf("generate: %v", err)
		}
		if err := <-stopped; err == nil {
			t.Error("the plugin was not cancelled")
		}
	})
	t.Run("deadline", func(t *testing.T) {
		t.Parallel()
		b := dial(t, &backend.Fake{GenerateFunc: func(ctx context.Context, _ backend.Request, _ func(backend.Event) error) error {
			<-ctx.Done()
			return ctx.Err()
		}})
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		if err := b.Generate(ctx, backend.Request{}, nil); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("generate: %v", err)
		}
	})
	t.Run("the caller refuses an event", func(t *testing.T) {
		t.Parallel()
		stopped := make(chan struct{})
		b := dial(t, &backend.Fake{GenerateFunc: func(ctx context.Context, _ backend.Request, emit func(backend.Event) error) error {
			defer close(stopped)
			for {
				if err := emit(backend.Event{Text: "x"}); err != nil {
					return err
				}
			}
		}})
		refusal := errors.New("enough")
		if err := b.Generate(t.Context(), backend.Request{}, func(backend.Event) error { return refusal }); !errors.Is(err, refusal) {
			t.Errorf("generate: %v", err)
		}
		<-stopped
	})
	t.Run("without a last event", func(t *testing.T) {
		t.Parallel()
		b := dial(t, &backend.Fake{GenerateFunc: func(context.Context, backend.Request, func(backend.Event) error) error { return nil }})
		err := b.Generate(t.Context(), backend.Request{}, nil)
		if err == nil || !strings.Contains(err.Error(), "without a last event") {
			t.Errorf("generate: %v", err)
		}
	})
	t.Run("an event after the last", func(t *testing.T) {
		t.Parallel()
		b := dial(t, &backend.Fake{GenerateFunc: func(_ context.Context, _ backend.Request, emit func(backend.Event) error) error {
			return errors.Join(emit(backend.Event{Done: true}), emit(backend.Event{Text: "x"}))
		}})
		err := b.Generate(t.Context(), backend.Request{}, func(backend.Event) error { return nil })
		if err == nil || !strings.Contains(err.Error(), "after the last") {
			t.Errorf("generate: %v", err)
		}
	})
	t.Run("the connection breaks", func(t *testing.T) {
		t.Parallel()
		started := make(chan struct{})
		b, s := dialServer(t, &backend.Fake{GenerateFunc: func(ctx context.Context, _ backend.Request, _ func(backend.Event) error) error {
			close(started)
			<-ctx.Done()
			return ctx.Err()
		}})
		go func() { <-started; s.Stop() }()
		if err := b.Generate(t.Context(), backend.Request{}, nil); !errors.Is(err, protocol.ErrPluginDied) {
			t.Errorf("generate: %v", err)
		}
		if _, err := b.Stats(t.Context()); !errors.Is(err, protocol.ErrPluginDied) {
			t.Errorf("stats: %v", err)
		}
	})
}

func TestWrongAnswersAreRefused(t *testing.T) {
	t.Parallel()
	b := dial(t, &backend.Fake{
		ScoreFunc: func(context.Context, backend.ScoreRequest) ([]backend.ScoreResult, error) {
			return []backend.ScoreResult{{Logprobs: []float32{1}}}, nil
		},
		EmbedFunc: func(context.Context, [][]int32) ([][]float32, error) { return nil, nil },
	})
	if _, err := b.Score(t.Context(), backend.ScoreRequest{Lists: [][]int32{{1, 2, 3}}}); err == nil {
		t.Error("one value for three ids was taken")
	}
	if _, err := b.(backend.Embedder).Embed(t.Context(), [][]int32{{1}}); err == nil {
		t.Error("no vector for a list was taken")
	}
}

func TestVocabularyBounds(t *testing.T) {
	t.Parallel()
	b := dial(t, &backend.Fake{SetVocabularyFunc: func(context.Context, backend.Vocabulary) error { return nil }})
	for name, v := range map[string]backend.Vocabulary{
		"eog outside": {Pieces: [][]byte{{1}}, EOG: []int32{1}, BOS: -1},
		"bos outside": {Pieces: [][]byte{{1}}, BOS: 5},
		"flags":       {Control: []bool{true}, BOS: -1},
		"long piece":  {Pieces: [][]byte{make([]byte, 2<<20)}, BOS: -1},
		"too large":   {Pieces: slices.Repeat([][]byte{make([]byte, 1<<20)}, 65), BOS: -1},
	} {
		err := b.SetVocabulary(t.Context(), v)
		if !errors.Is(err, protocol.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// texts is a Fake that embeds as a request says.
type texts struct {
	backend.Fake
	got backend.EmbedRequest
}

func (e *texts) EmbedTexts(_ context.Context, req backend.EmbedRequest) ([][]float32, error) {
	e.got = req
	out := make([][]float32, len(req.Lists))
	for i, list := range req.Lists {
		out[i] = make([]float32, len(list))
	}
	return out, nil
}

// TestEmbedTexts: what an EmbedRequest says comes through, and a backend that cannot hear it refuses it.
func TestEmbedTexts(t *testing.T) {
	t.Parallel()
	impl, yes, no := &texts{}, true, false
	b := dial(t, impl)
	large := slices.Repeat([]int32{1}, 1<<18) // several messages
	for _, want := range []backend.EmbedRequest{
		{Lists: [][]int32{{1, 2}, {3}}},
		{Lists: [][]int32{{1, 2}, {3}}, Types: [][]int32{{0, 1}, {1}}, Pooling: "cls", Normalize: &yes},
		{Lists: [][]int32{large, {3}}, Types: [][]int32{large, {1}}, Pooling: backend.PoolNone, Normalize: &no},
	} {
		vectors, err := b.(backend.TextEncoder).EmbedTexts(t.Context(), want)
		if err != nil || len(vectors) != 2 || len(vectors[0]) != len(want.Lists[0]) {
			t.Fatalf("%d vectors, %v", len(vectors), err)
		}
		if !reflect.DeepEqual(want, impl.got) { // a diff of so many ids takes seconds
			t.Errorf("%d lists of pooling %q came otherwise", len(want.Lists), want.Pooling)
		}
	}
	plain := dial(t, &backend.Fake{EmbedFunc: func(context.Context, [][]int32) ([][]float32, error) { return [][]float32{{1}}, nil }})
	if _, err := plain.(backend.TextEncoder).EmbedTexts(t.Context(), backend.EmbedRequest{Lists: [][]int32{{1}}}); err != nil {
		t.Error(err)
	}
	if _, err := plain.(backend.TextEncoder).EmbedTexts(t.Context(), backend.EmbedRequest{Lists: [][]int32{{1}}, Pooling: "cls"}); !errors.Is(err, protocol.ErrUnsupported) {
		t.Errorf("%v, want unsupported", err)
	}
}

// TestHeads: ranks and guesses survive the wire, whatever their sizes.
func TestHeads(t *testing.T) {
	long := make([]int32, 200_000)
	rank := backend.RankRequest{Lists: [][]int32{{1, 2}, long, {3}}, Types: [][]int32{{0, 1}, long, {0}}, Yes: 5, No: 6}
	fill := backend.FillRequest{Lists: [][]int32{{1, 2, 3}, long}, Types: [][]int32{{0, 0, 1}, long}, Positions: [][]int32{{0, 2}, {}}, Top: 700}
	want := [][][]backend.Guess{make([][]backend.Guess, 2), {}}
	for k := range want[0] {
		for i := range 700 {
			want[0][k] = append(want[0][k], backend.Guess{ID: int32(i + k), Prob: float32(i) / 700})
		}
	}
	ranks := []backend.Rank{{Logit: 1, Score: 0.5}, {Logit: -2}, {Score: 3}}
	fake := &backend.Fake{
		RankFunc: func(_ context.Context, req backend.RankRequest) ([]backend.Rank, error) {
			if !reflect.DeepEqual(req, rank) {
				t.Error("the request to rank came over changed")
			}
			return ranks, nil
		},
		FillFunc: func(_ context.Context, req backend.FillRequest) ([][][]backend.Guess, error) {
			if len(req.Positions) != 2 || len(req.Positions[1]) != 0 || !reflect.DeepEqual(req.Lists, fill.Lists) || !reflect.DeepEqual(req.Types, fill.Types) || req.Top != 700 {
				t.Error("the request to fill came over changed")
			}
			return want, nil
		},
	}
	c := dial(t, fake)
	got, err := c.(backend.Ranker).Rank(t.Context(), rank)
	if err != nil || !reflect.DeepEqual(got, ranks) {
		t.Errorf("%v, %v", got, err)
	}
	filled, err := c.(backend.Filler).Fill(t.Context(), fill)
	if err != nil || len(filled) != 2 || !reflect.DeepEqual(filled[0], want[0]) || len(filled[1]) != 0 {
		t.Errorf("%v", err)
	}
	fake.RankFunc = func(context.Context, backend.RankRequest) ([]backend.Rank, error) { return ranks[:1], nil }
	if _, err := c.(backend.Ranker).Rank(t.Context(), rank); err == nil {
		t.Error("fewer ranks than lists")
	}
	fake.FillFunc = func(context.Context, backend.FillRequest) ([][][]backend.Guess, error) { return want[1:], nil }
	if _, err := c.(backend.Filler).Fill(t.Context(), fill); err == nil {
		t.Error("fewer guesses than positions")
	}
}
