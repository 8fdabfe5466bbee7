package prefix

import (
	"log/slog"
	"slices"
	"testing"

	"edged/core/infer/engine/compute"
)

// stateful is the memory of a model with fixed states, of which nothing is used.
type stateful struct{ compute.Model }

func (stateful) Fixed() bool       { return true }
func (stateful) TotalPages() int   { return 100 }
func (stateful) TotalStates() int  { return 5 }
func (stateful) FreePages() int    { return 100 }
func (stateful) FreeStates() int   { return 5 }
func (stateful) ShareState(int32)  {}
func (stateful) DropState(_ int32) {}

// TestCheckpoints: by the definition of lay, for pages of 10 positions, so that the grid of long texts is 160.
func TestCheckpoints(t *testing.T) {
	for name, c := range map[string]struct {
		tokens          int
		borders         []int32
		pin             string
		points, lasting []int
	}{
		"short": {tokens: 8, points: []int{0, 7}, lasting: []int{0}},
		// The last page end before the last token, and the end itself.
		"no borders": {tokens: 95, points: []int{90, 94}, lasting: []int{90}},
		// Beyond the grid there is one for each 160 positions.
		"long": {tokens: 400, points: []int{160, 320, 390, 399}, lasting: []int{390}},
		// A border within a page of the last page end serves as well; the first and the last but one are lasting.
		"conversation": {tokens: 100, borders: []int32{30, 60, 95}, points: []int{30, 60, 95, 99}, lasting: []int{60, 30}},
		// The last message is long: its beginning is not worth what the end is.
		"long last message": {tokens: 300, borders: []int32{20, 40, 60}, points: []int{20, 40, 60, 160, 290, 299}, lasting: []int{290, 20}},
		"pinned":            {tokens: 100, borders: []int32{30, 60, 95}, pin: "house", points: []int{30, 60, 90, 95, 99}, lasting: []int{60, 30}},
		// What is no border of this prompt is passed over.
		"nonsense": {tokens: 50, borders: []int32{3, 20, 20, 10, 49, 70}, points: []int{20, 40, 49}, lasting: []int{40}},
	} {
		t.Run(name, func(t *testing.T) {
			cache := New(stateful{}, compute.Sizes{Page: 10, Context: 1000}, false, func() int { return 0 }, slog.New(slog.DiscardHandler))
			p := &Prompt{IDs: make([]int32, c.tokens), Borders: c.borders, Pin: c.pin}
			cache.Start(p)
			if !slices.Equal(p.points, c.points) || !slices.Equal(p.lasting, c.lasting) {
				t.Errorf("checkpoints at %v, lasting %v; want %v and %v", p.points, p.lasting, c.points, c.lasting)
			}
			// The rows of a turn end at each of them.
			at := 0
			for _, n := range c.points {
				if n == 0 {
					continue
				}
				if rows := cache.UntilCheckpoint(p, at, c.tokens); at+rows != n {
					t.Errorf("from %d on %d rows are computed, want up to %d", at, rows, n)
				}
				at = n
			}
		})
	}
}

// TestStatesFor: what is pinned keeps its state from those that run.
func TestStatesFor(t *testing.T) {
	cache := New(stateful{}, compute.Sizes{Page: 10, Context: 1000}, false, func() int { return 0 }, slog.New(slog.DiscardHandler))
	if !cache.StatesFor(5) || cache.StatesFor(6) {
		t.Error("five states are for five sequences")
	}
	cache.pins["house"] = nil
	if !cache.StatesFor(4) || cache.StatesFor(5) {
		t.Error("one of five states is pinned")
	}
}
