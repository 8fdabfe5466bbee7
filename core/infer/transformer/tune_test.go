package transformer

import (
	"errors"
	"slices"
	"testing"
	"time"
)

func TestFastest(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		times []time.Duration // of 1, 2, 3, 4 threads
		want  int
	}{
		"more is faster":          {[]time.Duration{400, 210, 150, 110}, 4},
		"memory is the limit":     {[]time.Duration{400, 201, 199, 200}, 2},
		"one core saturates":      {[]time.Duration{101, 100, 105, 150}, 1},
		"more is slower":          {[]time.Duration{100, 200, 300, 400}, 1},
		"a coarse clock sees all": {[]time.Duration{0, 0, 0, 0}, 1},
	} {
		calls := 0
		got, err := fastest([]int{1, 2, 3, 4}, func(n int) (time.Duration, error) {
			calls++
			if calls <= 4 {
				return time.Hour, nil // not counted
			}
			if calls == 5 || calls == 10 {
				return 100 * time.Hour, nil // somebody else had the core
			}
			return c.times[n-1], nil
		})
		if err != nil || got != c.want || calls != 4*(tuneRounds+1) {
			t.Errorf("%s: %d threads after %d runs, %v; want %d", name, got, calls, err, c.want)
		}
	}
	broken := errors.New("broken")
	if _, err := fastest([]int{1, 2}, func(int) (time.Duration, error) { return 0, broken }); !errors.Is(err, broken) {
		t.Errorf("%v", err)
	}
}

func TestCandidates(t *testing.T) {
	t.Parallel()
	for most, want := range map[int][]int{
		2: {1, 2}, 4: {1, 2, 3, 4}, 8: {1, 2, 3, 4, 5, 6, 7, 8}, 16: {1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 15, 16},
	} {
		if got := candidates(1, most); !slices.Equal(got, want) {
			t.Errorf("%d: %v, want %v", most, got, want)
		}
	}
}
