package engine

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"edged/core/infer/engine/encode"
	"edged/core/protocol"
	"edged/core/protocol/backend"
	"edged/test/oracle"
	"edged/test/race"
)

// meanOf is the plainest way to embed a list with the fake.
func meanOf(list []int32) []float32 {
	state, sum := uint64(0), make([]float32, fakeWidth)
	for _, id := range list {
		state = next(state, id, nil)
		fillHidden(sum, state)
	}
	encode.Normalize(sum)
	return sum
}

// TestEmbed: alone, beside requests, and set aside, an embedding is the same; it leaves no page and finds none.
func TestEmbed(t *testing.T) {
	for _, pages := range []int{1000, 34} {
		t.Run(fmt.Sprint(pages, " pages"), func(t *testing.T) {
			e, _ := serve(t, withPages(pages))
			lists := [][]int32{prompt(1, 1), prompt(7, 2), prompt(8, 3), prompt(200, 4), prompt(256, 5)}
			var wg sync.WaitGroup
			for range 2 {
				wg.Go(func() {
					got, err := e.Embed(t.Context(), lists)
					if err != nil {
						t.Error(err)
						return
					}
					for i, list := range lists {
						if !slices.Equal(got[i], meanOf(list)) {
							t.Errorf("list %d: %v, want %v", i, got[i], meanOf(list))
						}
					}
				})
			}
			for i := range 4 {
				req := backend.Request{ID: "beside", PromptIDs: prompt(100, i), MaxTokens: 60, IgnoreEOS: true}
				wg.Go(func() {
					if a := generate(t.Context(), e, req); a.err != nil {
						t.Error(a.err)
					} else {
						follows(t, req, a)
					}
				})
			}
			wg.Wait()
		})
	}
}

func TestEmbedRefuses(t *testing.T) {
	e, _ := serve(t)
	for _, c := range []struct {
		list []int32
		want error
	}{
		{nil, protocol.ErrInvalid},
		{[]int32{-1}, protocol.ErrInvalid},
		{[]int32{fakeRows}, protocol.ErrInvalid},
		{prompt(257, 1), protocol.ErrContextLength},
	} {
		if _, err := e.Embed(t.Context(), [][]int32{{1}, c.list}); !errors.Is(err, c.want) {
			t.Errorf("%d tokens: %v, want %v", len(c.list), err, c.want)
		}
	}
	if encode.Normalize(make([]float32, 3)) {
		t.Error("zeros have a direction")
	}
}

// TestDemoEmbeddings: the demo model gives vectors of length 1, the same with and without the prefix cache in use.
func TestDemoEmbeddings(t *testing.T) {
	race.SkipArithmetic(t)
	e, info := load(t, backend.LoadRequest{Path: filepath.Join(oracle.Repo(t), "demo/gguf/hearth-4m-q4_0.gguf"), Context: 128, MaxSequences: 2})
	lists := [][]int32{prompt(40, 1), prompt(40, 1), prompt(40, 2)}
	got, err := e.Embed(t.Context(), lists)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(got[0], got[1]) || slices.Equal(got[0], got[2]) {
		t.Error("equal lists give other vectors, or other lists equal ones")
	}
	for _, v := range got {
		length := 0.0
		for _, x := range v {
			length += float64(x) * float64(x)
		}
		if len(v) != info.Width || length < 0.9999 || length > 1.0001 {
			t.Errorf("%d values of squared length %v", len(v), length)
		}
	}
}
