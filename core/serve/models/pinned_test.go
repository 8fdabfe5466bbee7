package models

import (
	"strings"
	"testing"
)

func TestCrowded(t *testing.T) {
	of := func(name string, needs int64) State { return State{Name: name, Facts: Facts{Needs: needs << 20}} }
	for name, c := range map[string]struct {
		budget int64
		main   State
		pinned []State
		want   string
	}{
		"nothing is pinned":        {10, of("m", 9), nil, ""},
		"nobody knows the memory":  {0, of("m", 9), []State{of("a", 9)}, ""},
		"there is room":            {10, of("m", 5), []State{of("a", 5)}, ""},
		"the default one is kept":  {10, of("m", 5), []State{of("a", 6)}, "a needs at least 6 MiB of memory, which of 10 MiB for models leaves too little for the default model, m, with 5 MiB"},
		"the default one is meant": {10, of("m", 5), []State{of("m", 5), of("a", 5)}, ""},
		"they keep each other out": {10, of("m", 5), []State{of("m", 5), of("a", 6)}, "m, a need at least 11 MiB of memory, and there are 10 MiB for models"},
	} {
		got := Crowded(c.budget<<20, c.main, c.pinned)
		if c.want == "" && got != "" || !strings.HasPrefix(strings.TrimPrefix(got, "models.pinned: "), c.want) {
			t.Errorf("%s: %q", name, got)
		}
	}
}

// TestPinnedLeavesRoom: a pinned model that could take all that is free leaves what the default model, and another pinned one, need.
func TestPinnedLeavesRoom(t *testing.T) {
	inPool(t, 20, []string{"a", "b"}, func(t *testing.T, r *rig) {
		r.o.Several = func() bool { return false }
		r.o.Keep = func() []State { return []State{r.want("c").State, r.want("a").State, r.want("b").State} }
		r.get(t, "a").Release()
		if got := r.pairs["a"].limit; got != 20-4-4 {
			t.Errorf("the first may take %d", got)
		}
		r.get(t, "b").Release()
		if got := r.pairs["b"].limit; got != 20-4-4 { // what the other was planned with, and the default one
			t.Errorf("the second may take %d", got)
		}
		r.get(t, "c").Release()
	})
}
