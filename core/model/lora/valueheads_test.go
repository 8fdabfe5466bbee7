package lora

import (
	"slices"
	"testing"

	"edged/core/model/arch"
)

// TestValueHeads: with three value heads of each of two key heads, side by side they are 0 1 2 of the first and 3 4 5 of the second.
func TestValueHeads(t *testing.T) {
	tiled := valueHeads(&arch.ByHead{KeyHeads: 2, Heads: 6, Tiled: true})
	if want := []int{0, 3, 1, 4, 2, 5}; !slices.Equal(tiled, want) {
		t.Errorf("%v, want %v", tiled, want)
	}
	back := valueHeads(&arch.ByHead{KeyHeads: 2, Heads: 6})
	for i, j := range back {
		if tiled[j] != i {
			t.Errorf("head %d comes from %d, which goes to %d", i, j, tiled[j])
		}
	}
}
