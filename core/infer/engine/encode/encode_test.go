package encode

import (
	"errors"
	"math"
	"slices"
	"testing"

	"edged/core/model/arch"
	"edged/core/protocol"
	"edged/core/protocol/backend"
)

func TestNormalize(t *testing.T) {
	v := []float32{3, 0, -4}
	if !Normalize(v) || !slices.Equal(v, []float32{0.6, 0, -0.8}) {
		t.Errorf("got %v", v)
	}
	for name, v := range map[string][]float32{
		"zeros": {0, 0}, "no number": {1, float32(math.NaN())}, "infinite": {float32(math.Inf(1))}, "nothing": {},
	} {
		if Normalize(v) {
			t.Errorf("%s: it has a direction", name)
		}
	}
}

func TestCheckList(t *testing.T) {
	for name, c := range map[string]struct {
		list []int32
		want error
	}{
		"empty":            {nil, protocol.ErrInvalid},
		"full":             {[]int32{0, 9, 5}, nil},
		"too long":         {[]int32{1, 2, 3, 4}, protocol.ErrContextLength},
		"unknown token":    {[]int32{10}, protocol.ErrInvalid},
		"negative token":   {[]int32{-1}, protocol.ErrInvalid},
		"unknown and long": {[]int32{1, 2, 3, 10}, protocol.ErrInvalid},
	} {
		if err := CheckList(c.list, 10, 3); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

// TestGuesses: the likeliest come first, of equal ones the first, with their probabilities among all tokens.
func TestGuesses(t *testing.T) {
	logits := []float32{0, float32(math.Log(4)), 0, float32(math.Log(2)), 0} // of 9 parts: 1 4 1 2 1
	got, err := guesses(logits, 3)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []struct {
		id   int32
		part float64
	}{{1, 4}, {3, 2}, {0, 1}} {
		if got[i].ID != want.id || math.Abs(float64(got[i].Prob)-want.part/9) > 1e-6 {
			t.Errorf("place %d: %+v, want token %d with %v ninths", i, got[i], want.id, want.part)
		}
	}
	if got, err := guesses(logits, 9); err != nil || len(got) != 5 {
		t.Errorf("%d of 5 tokens, %v", len(got), err)
	}
	if _, err := guesses([]float32{0, float32(math.NaN())}, 1); err == nil {
		t.Error("what is no number is guessed")
	}
}

func TestPoolOf(t *testing.T) {
	yes := true
	for name, c := range map[string]struct {
		own  arch.Pool
		req  backend.EmbedRequest
		want arch.Pool
		err  error
	}{
		"the files'":       {arch.Pool{Kind: arch.PoolCLS, Normalize: true}, backend.EmbedRequest{}, arch.Pool{Kind: arch.PoolCLS, Normalize: true}, nil},
		"another":          {arch.Pool{Kind: arch.PoolCLS, Normalize: true}, backend.EmbedRequest{Pooling: "mean"}, arch.Pool{Kind: arch.PoolMean, Normalize: true}, nil},
		"rows of tokens":   {arch.Pool{Kind: arch.PoolCLS, Normalize: true}, backend.EmbedRequest{Pooling: backend.PoolNone}, arch.Pool{Kind: arch.PoolNone}, nil},
		"rows of length 1": {arch.Pool{Kind: arch.PoolCLS}, backend.EmbedRequest{Pooling: backend.PoolNone, Normalize: &yes}, arch.Pool{Kind: arch.PoolNone, Normalize: true}, nil},
		"none is named":    {arch.Pool{Kind: arch.PoolNone}, backend.EmbedRequest{}, arch.Pool{}, protocol.ErrUnsupported},
		"no such":          {arch.Pool{Kind: arch.PoolCLS}, backend.EmbedRequest{Pooling: "median"}, arch.Pool{}, protocol.ErrInvalid},
	} {
		n := &Network{Spec: &arch.Spec{Pool: c.own}}
		got, err := n.poolOf(&c.req)
		if !errors.Is(err, c.err) || err == nil && (got.Kind != c.want.Kind || got.Normalize != c.want.Normalize) {
			t.Errorf("%s: %+v, %v; want %+v, %v", name, got, err, c.want, c.err)
		}
	}
}
