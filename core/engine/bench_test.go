package engine

import (
	"context"
	"errors"
	"math"
	"testing"
	"testing/synctest"
	"time"

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
		f.hook = func(rows []row) error {
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

func TestBenchTranscript(t *testing.T) {
	t.Parallel()
	e, f := serve(t)
	transcript := prompt(30, 1)
	var seen []int32
	f.hook = func(rows []row) error {
		for _, r := range rows {
			seen = append(seen, r.token)
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
