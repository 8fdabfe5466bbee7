package speculate

import (
	"math/rand/v2"
	"slices"
	"testing"
)

func TestLookup(t *testing.T) {
	for _, c := range []struct {
		name        string
		prompt, ids []int32
		n           int
		want        []int32
		match       int
	}{
		{"nothing", nil, nil, 4, nil, 0},
		{"too short", []int32{1, 1}, nil, 4, nil, 0},
		{"no repeat", []int32{1, 2, 3, 4}, []int32{5, 6}, 4, nil, 0},
		{"one token is no match", []int32{1, 2, 3, 9, 2}, nil, 4, nil, 0},
		{"prompt alone", []int32{1, 2, 3, 4, 1, 2}, nil, 2, []int32{3, 4}, 2},
		{"across", []int32{1, 2, 3, 4, 5}, []int32{9, 2, 3}, 3, []int32{4, 5, 9}, 2},
		{"the longest", []int32{1, 2, 3, 7, 0, 2, 3, 8, 0}, []int32{1, 2, 3}, 1, []int32{7}, 3},
		{"the latest of equals", []int32{2, 3, 7, 9, 2, 3, 8, 0}, []int32{2, 3}, 1, []int32{8}, 2},
		{"over the border", []int32{4, 5}, []int32{6, 0, 4, 5}, 2, []int32{6, 0}, 2},
		{"in the answer", []int32{0}, []int32{4, 5, 6, 4, 5}, 9, []int32{6, 4, 5, 6, 4, 5, 6, 4, 5}, 2},
		{"a run", []int32{7, 7, 7}, nil, 3, []int32{7, 7, 7}, 2},
		{"at the beginning", []int32{5, 6, 1, 0, 5, 6}, nil, 1, []int32{1}, 2},
		{"none wanted", []int32{5, 6, 1, 0, 5, 6}, nil, 0, nil, 0},
	} {
		got, match := lookup(nil, c.prompt, c.ids, c.n)
		if !slices.Equal(got, c.want) || match != c.match {
			t.Errorf("%s: %v after %d, want %v after %d", c.name, got, match, c.want, c.match)
		}
	}
}

// TestLookupAtRandom compares with the definition.
func TestLookupAtRandom(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	found := 0
	for range 3000 {
		all := make([]int32, 3+rng.IntN(60))
		for i := range all {
			all[i] = rng.Int32N(4)
		}
		split, n := rng.IntN(len(all)+1), 1+rng.IntN(8)
		best, where := 0, -1
		for i := len(all) - 2; i > 0; i-- {
			k := 0
			for k < maxMatch && k <= i && all[i-k] == all[len(all)-1-k] {
				k++
			}
			if k >= minMatch && k > best {
				best, where = k, i
			}
		}
		long := slices.Clone(all)
		for k := 0; where >= 0 && k < n; k++ {
			long = append(long, long[where+1+k])
		}
		got, match := lookup(nil, all[:split], all[split:], n)
		if match != best || !slices.Equal(got, long[len(all):]) && where >= 0 {
			t.Fatalf("%v split at %d: %v after %d, want %v after %d", all, split, got, match, long[len(all):], best)
		}
		if where >= 0 {
			found++
		}
	}
	if found < 1000 {
		t.Errorf("only %d histories had a match", found)
	}
}
