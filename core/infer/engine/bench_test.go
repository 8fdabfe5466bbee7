package engine

import (
	"context"
	"errors"
	"math"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"edged/core/infer/engine/compute"
	"edged/core/protocol"
	"edged/core/protocol/backend"
)

// The fake takes a fixed time for a turn, and synctest's clock counts nothing else: the rates are exact.
func TestBench(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const turn = 10 * time.Millisecond
		prompts := 0
		e, f := serve(t, withTurn(turn))
		f.hook = func(rows []compute.Row) error {
			prompts += len(rows)
			return nil
		}
		steps := 0
		got, err := e.Bench(t.Context(), backend.BenchRequest{PromptTokens: 20, GenTokens: 10, Repeats: 3, Context: 5}, func(done, total int) {
			if steps++; total != 4 || done != steps-1 {
				t.Errorf("progress %d of %d", done, total)
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		if len(got.PrefillTPS) != 3 || len(got.DecodeTPS) != 3 || got.PlainDecodeTPS != nil {
			t.Fatalf("%+v", got)
		}
		for i := range 3 {
			if got.PrefillTPS[i] != 2000 || got.DecodeTPS[i] != 100 {
				t.Errorf("repeat %d: %v and %v tokens a second, want 2000 and 100", i, got.PrefillTPS[i], got.DecodeTPS[i])
			}
		}
		if got.FirstTokenMS != 10 {
			t.Errorf("first token after %v ms", got.FirstTokenMS)
		}
		if want := 4*(20+5) + 3*10 + warmGen; prompts != want {
			t.Errorf("%d rows were computed, want %d", prompts, want)
		}
		if steps != 5 {
			t.Errorf("%d steps", steps)
		}
	})
}

// TestBenchGuesses: a transcript that repeats itself is decoded with and without guesses.
func TestBenchGuesses(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e, _ := serve(t, withThrift, withTurn(10*time.Millisecond)) // whatever the number of rows
		line := prompt(30, 1)
		got, err := e.Bench(t.Context(), backend.BenchRequest{
			PromptTokens: 20, Repeats: 2, Context: 30, Transcript: slices.Repeat(line, 4),
		}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if len(got.SingleDecodeTPS) != 2 || got.SingleDecodeTPS[0] != 100 || got.DecodeTPS[0] < 300 {
			t.Errorf("%v with guesses, %v without", got.DecodeTPS, got.SingleDecodeTPS)
		}
		if got.Accepted < 2*60 || got.Drafted < got.Accepted {
			t.Errorf("%d guesses, %d right", got.Drafted, got.Accepted)
		}
	})
}

// TestBenchStreams: streams share their turns, and wait one turn with a chunk of the prompt.
func TestBenchStreams(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const turn = 10 * time.Millisecond
		e, f := serve(t, withTurn(turn))
		f.hook = func(rows []compute.Row) error {
			silent := 0
			for _, r := range rows {
				if r.Logits == nil {
					silent++
				}
			}
			time.Sleep(time.Duration(silent) * time.Millisecond / 2) // 8 of them: a turn of 14 ms
			return nil
		}
		got, err := e.Bench(t.Context(), backend.BenchRequest{PromptTokens: 100, GenTokens: 20, Repeats: 2, Streams: 5}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if len(got.StreamsTPS) != 2 || len(got.StreamsWait) != 2 {
			t.Fatalf("%+v", got)
		}
		for i := range 2 {
			if got.StreamsTPS[i] != 500 {
				t.Errorf("%v tokens a second of 5 streams, want 500", got.StreamsTPS[i])
			}
			if w := got.StreamsWait[i]; w < 1.2 || w > 3 {
				t.Errorf("a wait of %v usual gaps", w)
			}
		}
		if _, err := e.Bench(t.Context(), backend.BenchRequest{Streams: 8}, nil); !errors.Is(err, protocol.ErrInvalid) {
			t.Errorf("8 streams and a prompt in 8 sequences: %v", err)
		}
	})
}

// TestBenchStreamsOfAdapters: of several adapters each stream has one, and streams without any are measured in turns.
func TestBenchStreamsOfAdapters(t *testing.T) {
	t.Parallel()
	e, f := serve(t, withTurn(time.Millisecond))
	m, err := e.current()
	if err != nil {
		t.Fatal(err)
	}
	var uses []backend.AdapterUse
	for _, id := range []string{"a", "b"} {
		if err := m.loop.do(t.Context(), func() {
			f.content++
			if _, err := m.loop.adopt(backend.AdapterInfo{ID: id, SHA256: id}, nil, &closer{}); err != nil {
				t.Error(err)
			}
		}); err != nil {
			t.Fatal(err)
		}
		uses = append(uses, backend.AdapterUse{ID: id, Scale: 1})
	}
	mixed := 0
	f.hook = func(rows []compute.Row) error {
		seen := map[uint64]bool{}
		for _, r := range rows {
			if bound, ok := r.Adapters.([]compute.Use); ok && len(bound) == 1 {
				seen[bound[0].Adapter.(*fakeAdapter).content] = true
			}
		}
		if len(seen) == 2 {
			mixed++
		}
		return nil
	}
	got, err := e.Bench(t.Context(), backend.BenchRequest{PromptTokens: 40, GenTokens: 10, Repeats: 1, Streams: 4, Adapters: uses}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(got.StreamsTPS) != 1 || len(got.PlainStreamsTPS) != 1 || mixed == 0 {
		t.Errorf("%+v; %d turns with both adapters", got, mixed)
	}
}

func TestBenchTranscript(t *testing.T) {
	t.Parallel()
	e, f := serve(t)
	transcript := prompt(30, 1)
	var seen []int32
	f.hook = func(rows []compute.Row) error {
		for _, r := range rows {
			seen = append(seen, r.Token)
		}
		return nil
	}
	if _, err := e.Bench(t.Context(), backend.BenchRequest{PromptTokens: 1, Repeats: 1, Context: 4, Transcript: transcript}, nil); err != nil {
		t.Fatal(err)
	}
	seen = seen[len(seen)-len(transcript):]
	for i := range transcript {
		if seen[i] != transcript[i] {
			t.Fatalf("decoded %v of %v", seen, transcript)
		}
	}
}

func TestBenchRefuses(t *testing.T) {
	t.Parallel()
	e, _ := serve(t)
	for name, req := range map[string]backend.BenchRequest{
		"negative":         {PromptTokens: -1},
		"long prompt":      {PromptTokens: 256},
		"long answer":      {GenTokens: 250, Context: 10},
		"overflow":         {PromptTokens: 1, GenTokens: math.MaxInt, Context: math.MaxInt},
		"repeats":          {PromptTokens: 1, Repeats: 1 << 30},
		"short transcript": {PromptTokens: 1, GenTokens: 5, Context: 1, Transcript: []int32{1, 2}},
		"unknown token":    {PromptTokens: 1, Transcript: []int32{1, fakeRows}},
	} {
		if _, err := e.Bench(t.Context(), req, nil); !errors.Is(err, protocol.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := e.Bench(t.Context(), backend.BenchRequest{PromptTokens: 1, Adapters: []backend.AdapterUse{{ID: "none", Scale: 1}}}, nil); !errors.Is(err, protocol.ErrAdapterNotFound) {
		t.Errorf("unknown adapter: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := e.Bench(ctx, backend.BenchRequest{PromptTokens: 1}, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if _, err := New(Options{}).Bench(t.Context(), backend.BenchRequest{}, nil); !errors.Is(err, protocol.ErrNotLoaded) {
		t.Errorf("without a model: %v", err)
	}
}
