package sample

import (
	"errors"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var (
	nan = float32(math.NaN())
	inf = float32(math.Inf(1))
)

func TestAddBias(t *testing.T) {
	for name, c := range map[string]struct {
		bias []Bias
		want []float32
	}{
		"none":    {nil, []float32{1, 2, 3}},
		"adds":    {[]Bias{{0, 2}, {2, -1}}, []float32{3, 2, 2}},
		"forbids": {[]Bias{{1, -inf}}, []float32{1, -inf, 3}},
		"outside": {[]Bias{{-1, 5}, {3, 5}}, []float32{1, 2, 3}},
	} {
		t.Run(name, func(t *testing.T) {
			got := []float32{1, 2, 3}
			addBias(got, c.bias)
			if d := cmp.Diff(c.want, got); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestPenalise(t *testing.T) {
	for name, c := range map[string]struct {
		p                 Params
		prompt, generated []int32
		want              []float32
	}{
		"repeat counts the prompt":                {Params{RepeatPenalty: 2}, []int32{0}, []int32{1}, []float32{2, -8, 2, 1}},
		"repeat counts a token once":              {Params{RepeatPenalty: 2}, []int32{0, 0}, []int32{0, 1, 1}, []float32{2, -8, 2, 1}},
		"presence passes the prompt over":         {Params{PresencePenalty: 0.5}, []int32{0}, []int32{1, 1}, []float32{4, -4.5, 2, 1}},
		"frequency passes the prompt over":        {Params{FrequencyPenalty: 0.5}, []int32{0, 1}, []int32{1, 1, 2}, []float32{4, -5, 1.5, 1}},
		"frequency and presence add":              {Params{FrequencyPenalty: 0.5, PresencePenalty: 1}, nil, []int32{3, 3}, []float32{4, -4, 2, -1}},
		"negative ones favour":                    {Params{PresencePenalty: -1}, nil, []int32{3}, []float32{4, -4, 2, 2}},
		"window takes the newest":                 {Params{RepeatPenalty: 2, PenaltyLastN: 2}, []int32{0}, []int32{1, 2, 3}, []float32{4, -4, 1, 0.5}},
		"window reaches into the prompt":          {Params{RepeatPenalty: 2, PenaltyLastN: 2}, []int32{0, 1}, []int32{2}, []float32{4, -8, 1, 1}},
		"window of all":                           {Params{RepeatPenalty: 2, PenaltyLastN: -1}, []int32{0, 1}, []int32{2}, []float32{2, -8, 1, 1}},
		"frequency counts inside the window only": {Params{FrequencyPenalty: 1, PenaltyLastN: 1}, nil, []int32{0, 0}, []float32{3, -4, 2, 1}},
		"ids outside are passed over":             {Params{RepeatPenalty: 2, PresencePenalty: 1}, []int32{-1, 4}, []int32{99, -7}, []float32{4, -4, 2, 1}},
		"off":                                     {Params{RepeatPenalty: 1}, []int32{0}, []int32{1}, []float32{4, -4, 2, 1}},
	} {
		t.Run(name, func(t *testing.T) {
			got := []float32{4, -4, 2, 1}
			count := make([]int32, 6)
			penalise(got, c.prompt, c.generated, &c.p, count)
			if d := cmp.Diff(c.want, got); d != "" {
				t.Error(d)
			}
			if slices.ContainsFunc(count, func(n int32) bool { return n != 0 }) {
				t.Errorf("scratch is left dirty: %v", count)
			}
		})
	}
}

func TestPenaltyDefaultWindow(t *testing.T) {
	prompt := append([]int32{0}, make([]int32, 63)...)
	for i := range prompt[1:] {
		prompt[i+1] = 1
	}
	logits := []float32{4, 4}
	penalise(logits, prompt, nil, &Params{RepeatPenalty: 2}, make([]int32, 2))
	if logits[0] != 2 {
		t.Error("64 tokens back is outside of the default window")
	}
	logits = []float32{4, 4}
	penalise(logits, prompt, []int32{1}, &Params{RepeatPenalty: 2}, make([]int32, 2))
	if logits[0] != 4 {
		t.Error("65 tokens back is inside of the default window")
	}
}

// TestMaskRuns: the runs of a mask are the ids that it allows.
func TestMaskRuns(t *testing.T) {
	rng := rand.New(rand.NewPCG(9, 1))
	masks := []Mask{nil, {}, {0, 0}, {math.MaxUint64, math.MaxUint64, math.MaxUint64}, {1 | 1<<63, math.MaxUint64}}
	for range 500 {
		m := make(Mask, rng.IntN(5))
		for i := range m {
			m[i] = []uint64{0, math.MaxUint64, rng.Uint64(), rng.Uint64() & rng.Uint64() & rng.Uint64(), rng.Uint64() | rng.Uint64()}[rng.IntN(5)]
		}
		masks = append(masks, m)
	}
	for _, m := range masks {
		for _, n := range []int{0, 1, 63, 64, 65, 130, 192, 300} {
			var got, want []int
			before := -1
			for lo, hi := m.run(0, n); lo < n; lo, hi = m.run(hi, n) {
				if lo <= before || hi <= lo {
					t.Fatalf("%b below %d: a run from %d to %d behind %d", m, n, lo, hi, before)
				}
				for i := lo; i < hi; i++ {
					got = append(got, i)
				}
				before = hi
			}
			for i := range n {
				if m.Has(int32(i)) {
					want = append(want, i)
				}
			}
			if !slices.Equal(got, want) {
				t.Fatalf("%b below %d: %v, want %v", m, n, got, want)
			}
		}
	}
}

// TestMaskIsMinusInfinity: what a mask forbids is as if it had a logit of minus infinity, whatever the settings.
func TestMaskIsMinusInfinity(t *testing.T) {
	rng := rand.New(rand.NewPCG(9, 2))
	var s Sampler
	for i := range 400 {
		p := Params{
			Temperature: float32(rng.IntN(3)), TopK: rng.IntN(3) * 20, TopP: float32(rng.IntN(2)) * 0.9, TypicalP: float32(rng.IntN(2)) * 0.9,
			RepeatPenalty: 1 + float32(rng.IntN(2)), PresencePenalty: float32(rng.IntN(2)), Seed: uint64(i),
		}
		masked := step(randomLogits(300), p)
		masked.Generated = []int32{1, 2, 299}
		masked.Mask = make(Mask, 5)
		for w := range masked.Mask {
			masked.Mask[w] = rng.Uint64() >> rng.IntN(60)
		}
		plain := *masked
		plain.Mask, plain.Logits = nil, slices.Clone(masked.Logits)
		for id := range plain.Logits {
			if !masked.Mask.Has(int32(id)) {
				plain.Logits[id] = -inf
			}
		}
		got, err1 := s.Next(masked)
		want, err2 := s.Next(&plain)
		if got != want || !errors.Is(err1, err2) && !errors.Is(err2, err1) {
			t.Fatalf("%+v: %d, %v; want %d, %v", p, got, err1, want, err2)
		}
	}
}

func peaksOf(logits []float32) []float32 {
	peaks := make([]float32, (len(logits)+PeakLen-1)/PeakLen)
	Peaks(peaks, logits)
	return peaks
}

func TestGreedy(t *testing.T) {
	for name, c := range map[string]struct {
		logits []float32
		want   int32
	}{
		"largest":             {[]float32{1, 3, 2}, 1},
		"lowest id of equals": {[]float32{1, 3, 3}, 1},
		"minus zero is zero":  {[]float32{float32(math.Copysign(0, -1)), 0}, 0},
		"one is left":         {[]float32{-inf, -inf, -5}, 2},
		"none is left":        {[]float32{-inf, -inf}, -1},
		"empty":               {nil, -1},
	} {
		t.Run(name, func(t *testing.T) {
			if got := greedy(c.logits, peaksOf(c.logits), nil); got != c.want {
				t.Errorf("got %d, want %d", got, c.want)
			}
		})
	}
}

func ids(c []candidate) []int32 {
	got := []int32{}
	for i := range c {
		got = append(got, c[i].id)
	}
	return got
}

func TestTopK(t *testing.T) {
	for name, c := range map[string]struct {
		logits []float32
		k      int
		want   []int32
	}{
		"two of four":         {[]float32{1, 4, 3, 2}, 2, []int32{1, 2}},
		"equals by id":        {[]float32{1, 2, 2, 2}, 2, []int32{1, 2}},
		"all":                 {[]float32{3, 1, 2}, 3, []int32{0, 1, 2}},
		"more than there are": {[]float32{3, 1, 2}, 9, []int32{0, 1, 2}},
		"never -Inf":          {[]float32{3, -inf, 2, -inf}, 3, []int32{0, 2}},
		"all but -Inf":        {[]float32{3, -inf, 2}, 3, []int32{0, 2}},
	} {
		t.Run(name, func(t *testing.T) {
			if d := cmp.Diff(c.want, ids(topK(nil, c.logits, peaksOf(c.logits), nil, c.k))); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestTopKAgainstSort(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	for range 500 {
		logits := make([]float32, 1+rng.IntN(5000))
		order := make([]int32, len(logits))
		for i := range logits {
			logits[i], order[i] = float32(rng.IntN(400)), int32(i) // many equals
		}
		slices.SortStableFunc(order, func(a, b int32) int { return int(logits[b] - logits[a]) })
		k := 1 + rng.IntN(len(logits))
		want := slices.Clone(order[:k])
		slices.Sort(want)
		if d := cmp.Diff(want, ids(topK(nil, logits, peaksOf(logits), nil, k))); d != "" {
			t.Fatalf("k = %d of %d: %s", k, len(logits), d)
		}
	}
}

// weighted makes candidates with the given probabilities, which are powers of two where exactness matters.
func weighted(p ...float64) []candidate {
	c := make([]candidate, len(p))
	for i := range p {
		c[i] = candidate{id: int32(i), logit: float32(math.Log(p[i])), weight: p[i] / slices.Max(p)}
	}
	return c
}

func TestTemper(t *testing.T) {
	c := []candidate{{logit: 1}, {logit: 3}, {logit: -1}}
	temper(c, 3, 2)
	for i, want := range []float64{math.Exp(-1), 1, math.Exp(-2)} {
		if math.Abs(c[i].weight-want) > 1e-15 {
			t.Errorf("weight %d is %v, want %v", i, c[i].weight, want)
		}
	}
	temper(c, 3, math.SmallestNonzeroFloat32)
	if c[0].weight != 0 || c[1].weight != 1 {
		t.Errorf("the smallest temperature gives %v", c)
	}
}

func TestTopP(t *testing.T) {
	for name, c := range map[string]struct {
		weights []float64
		p       float64
		want    []int32
	}{
		"reached exactly":    {[]float64{0.25, 0.5, 0.125, 0.125}, 0.75, []int32{0, 1}},
		"just above":         {[]float64{0.25, 0.5, 0.125, 0.125}, 0.76, []int32{0, 1, 2}},
		"at least one":       {[]float64{0.25, 0.5, 0.25}, 0.01, []int32{1}},
		"equals by id":       {[]float64{0.25, 0.25, 0.25, 0.25}, 0.5, []int32{0, 1}},
		"almost all":         {[]float64{0.25, 0.5, 0.25}, 0.999, []int32{0, 1, 2}},
		"a single candidate": {[]float64{1}, 0.5, []int32{0}},
	} {
		t.Run(name, func(t *testing.T) {
			got, _ := topP(weighted(c.weights...), c.p, nil)
			if d := cmp.Diff(c.want, ids(got)); d != "" {
				t.Error(d)
			}
		})
	}
}

// TestTopPAgainstSort checks that leaving the tail unsorted changes nothing.
func TestTopPAgainstSort(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 8))
	var scratch []ranked
	for range 300 {
		n := 1 + rng.IntN(2000)
		c := make([]candidate, n)
		for i := range c {
			c[i].id, c[i].logit = int32(i), float32(rng.NormFloat64()*5)
		}
		top := slices.MaxFunc(c, func(a, b candidate) int { return int(math.Copysign(1, float64(a.logit-b.logit))) })
		temper(c, top.logit, float32(0.2+rng.Float64()*2))
		p := rng.Float64()
		sorted := slices.Clone(c)
		slices.SortStableFunc(sorted, func(a, b candidate) int {
			switch {
			case a.weight > b.weight:
				return -1
			case a.weight < b.weight:
				return 1
			}
			return 0
		})
		total, have, want := sum(c), 0.0, []int32{}
		for i := range sorted {
			want = append(want, sorted[i].id)
			if have += sorted[i].weight; have >= p*total {
				break
			}
		}
		slices.Sort(want)
		var got []candidate
		if got, scratch = topP(c, p, scratch); !slices.Equal(want, ids(got)) {
			t.Fatalf("p = %v of %d: %s", p, n, cmp.Diff(want, ids(got)))
		}
	}
}

func TestPrefixAgainstSort(t *testing.T) {
	rng := rand.New(rand.NewPCG(10, 11))
	shapes := map[string]func(i, n int) float64{
		"random":     func(int, int) float64 { return rng.Float64() },
		"equal":      func(int, int) float64 { return 1 },
		"ascending":  func(i, _ int) float64 { return float64(i) },
		"descending": func(i, n int) float64 { return float64(n - i) },
		"organ pipe": func(i, n int) float64 { return float64(min(i, n-i)) },
		"few values": func(int, int) float64 { return float64(rng.IntN(3)) },
	}
	for name, key := range shapes {
		t.Run(name, func(t *testing.T) {
			for range 200 {
				n := 1 + rng.IntN(400)
				r := make([]ranked, n)
				for i := range r {
					r[i] = ranked{key: key(i, n), weight: float64(rng.IntN(16)), id: int32(i)} // whole: sums are exact
				}
				sorted := slices.Clone(r)
				slices.SortFunc(sorted, func(a, b ranked) int {
					if a.before(b.key, b.id) {
						return -1
					}
					return 1
				})
				total := 0.0
				for i := range r {
					total += r[i].weight
				}
				want := rng.Float64() * total * 1.01
				last, have := sorted[n-1], 0.0
				for i := range sorted {
					if have += sorted[i].weight; have >= want {
						last = sorted[i]
						break
					}
				}
				if got := prefix(r, want); got != last {
					t.Fatalf("of %d up to %v: got %+v, want %+v", n, want, got, last)
				}
			}
		})
	}
}

func TestMinP(t *testing.T) {
	for name, c := range map[string]struct {
		p    float64
		want []int32
	}{
		"half of the best": {0.5, []int32{0, 1}},
		"a quarter":        {0.25, []int32{0, 1, 2, 3}},
		"only the best":    {1, []int32{1}},
	} {
		t.Run(name, func(t *testing.T) {
			if d := cmp.Diff(c.want, ids(minP(weighted(0.25, 0.5, 0.125, 0.125), c.p))); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestTypicalP(t *testing.T) {
	// Entropy of (0.5, 0.25, 0.125, 0.125) is 1.75 bits, the surprises are 1, 2, 3 and 3 bits: nearest is token 1 (0.25
	// away), then 0 (0.75), then 2 and 3 (1.25).
	for name, c := range map[string]struct {
		p    float64
		want []int32
	}{
		"nearest to the entropy": {0.2, []int32{1}},
		"two":                    {0.7, []int32{0, 1}},
		"equals by id":           {0.8, []int32{0, 1, 2}},
		"all":                    {0.99, []int32{0, 1, 2, 3}},
	} {
		t.Run(name, func(t *testing.T) {
			got, _ := typicalP(weighted(0.5, 0.25, 0.125, 0.125), c.p, float32(math.Log(0.5)), 1, nil)
			if d := cmp.Diff(c.want, ids(got)); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestDraw(t *testing.T) {
	c := []candidate{{id: 3, weight: 0.5}, {id: 5, weight: 0}, {id: 7, weight: 1}, {id: 9, weight: 0.5}, {id: 11, weight: 0}}
	for _, want := range []struct {
		u  float64
		id int32
	}{{0, 3}, {0.2499, 3}, {0.25, 7}, {0.7499, 7}, {0.75, 9}, {1 - 0x1p-53, 9}} {
		if got := draw(c, want.u); got != want.id {
			t.Errorf("u = %v draws %d, want %d", want.u, got, want.id)
		}
	}
}

func step(logits []float32, p Params) *Step {
	return &Step{Logits: logits, Limit: len(logits), Params: &p}
}

// TestOrder gives settings for which another order of the steps would give another token.
func TestOrder(t *testing.T) {
	for name, c := range map[string]struct {
		st   Step
		want []int32 // the tokens that 200 seeds draw
	}{
		// 3 + 5 = 8 is halved to 4, below 4.5; halved first it would be 6.5.
		"bias before penalties": {Step{
			Logits: []float32{3, 4.5}, Prompt: []int32{0},
			Params: &Params{RepeatPenalty: 2, Bias: []Bias{{0, 5}}},
		}, []int32{1}},
		// The mask takes token 0 away before top-k counts.
		"mask before top-k": {Step{
			Logits: []float32{9, 2, 2}, Mask: Mask{6},
			Params: &Params{Temperature: 1, TopK: 2},
		}, []int32{1, 2}},
		// Probabilities 0.8, 0.1, 0.1 at temperature 1; flat at temperature 100, where 0.8 needs all three.
		"temperature before top-p": {Step{
			Logits: []float32{float32(math.Log(8)), 0, 0},
			Params: &Params{Temperature: 100, TopP: 0.7},
		}, []int32{0, 1, 2}},
		// Of 0.4, 0.3, 0.3 top-k leaves 4/7 and 3/7: the first is enough for 0.5.
		"top-k before top-p": {Step{
			Logits: []float32{float32(math.Log(4)), float32(math.Log(3)), float32(math.Log(3))},
			Params: &Params{Temperature: 1, TopK: 2, TopP: 0.5},
		}, []int32{0}},
		// Of 0.4, 0.3, 0.2, 0.1 top-p 0.75 takes three, and min-p leaves them; min-p first would take 0.1 away, and two of
		// the rest would be enough.
		"min-p after top-p": {Step{
			Logits: []float32{float32(math.Log(4)), float32(math.Log(3)), float32(math.Log(2)), 0},
			Params: &Params{Temperature: 1, TopP: 0.75, MinP: 0.4},
		}, []int32{0, 1, 2}},
		// Typical-p alone would take token 1; behind min-p it has only token 0.
		"typical-p last": {Step{
			Logits: []float32{float32(math.Log(4)), float32(math.Log(2)), 0, 0},
			Params: &Params{Temperature: 1, MinP: 0.9, TypicalP: 0.2},
		}, []int32{0}},
	} {
		t.Run(name, func(t *testing.T) {
			var s Sampler
			got := map[int32]bool{}
			for seed := range uint64(200) {
				st := c.st
				p := *st.Params
				p.Seed = seed
				st.Params, st.Limit = &p, len(st.Logits)
				id, err := s.Next(&st)
				if err != nil {
					t.Fatal(err)
				}
				got[id] = true
			}
			want := map[int32]bool{}
			for _, id := range c.want {
				want[id] = true
			}
			if d := cmp.Diff(want, got); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestNextErrors(t *testing.T) {
	for name, st := range map[string]*Step{
		"NaN":           step([]float32{1, nan, 2}, Params{}),
		"+Inf":          step([]float32{1, inf, 2}, Params{Temperature: 1}),
		"all forbidden": {Logits: []float32{1, 2}, Limit: 2, Params: &Params{Temperature: 1}, Mask: Mask{0}},
		"bias forbids":  step([]float32{1}, Params{Bias: []Bias{{0, -inf}}}),
		"empty":         step(nil, Params{}),
	} {
		t.Run(name, func(t *testing.T) {
			var s Sampler
			if _, err := s.Next(st); !errors.Is(err, ErrLogits) {
				t.Errorf("got %v, want ErrLogits", err)
			}
		})
	}
	t.Run("NaN in a surplus row is not looked at", func(t *testing.T) {
		var s Sampler
		if id, err := s.Next(&Step{Logits: []float32{1, 2, nan}, Limit: 2, Params: &Params{}}); err != nil || id != 1 {
			t.Errorf("got %d, %v", id, err)
		}
	})
}

func TestSurplusRowsAreNeverChosen(t *testing.T) {
	var s Sampler
	for seed := range uint64(100) {
		for _, p := range []Params{{}, {Temperature: 5}, {Temperature: 5, TopK: 3}, {Temperature: 2, TopP: 0.9}} {
			p.Seed = seed
			id, err := s.Next(&Step{Logits: []float32{0, 1, 50, 60}, Limit: 2, Params: &p})
			if err != nil || id > 1 {
				t.Fatalf("%+v chose %d, %v", p, id, err)
			}
		}
	}
	top := s.Top(nil, []float32{0, 1, 50, 60}, 2, 5, 0)
	if d := cmp.Diff([]Alternative{{1, 1}, {0, 0}}, top); d != "" {
		t.Error(d)
	}
}

// TestDistribution compares 40,000 draws with the probabilities, by chi-squared with 4 degrees of freedom (18.5 has
// p = 0.001; the seeds are fixed, so the test cannot flicker).
func TestDistribution(t *testing.T) {
	logits := []float32{0, 1, -1, 2, 0.5}
	norm, err := LogNorm(logits)
	if err != nil {
		t.Fatal(err)
	}
	const n = 40_000
	var count [5]float64
	var s Sampler
	for i := range n {
		st := step(logits, Params{Temperature: 1, Seed: 11})
		st.Index, st.Choice = i/4, i%4
		id, err := s.Next(st)
		if err != nil {
			t.Fatal(err)
		}
		count[id]++
	}
	chi := 0.0
	for i, l := range logits {
		want := n * math.Exp(float64(Logprob(l, norm)))
		chi += (count[i] - want) * (count[i] - want) / want
	}
	if chi > 18.5 {
		t.Errorf("chi-squared is %.1f: %v", chi, count)
	}
}

// TestSameSetSameToken: which filter cut the set does not matter to the draw.
func TestSameSetSameToken(t *testing.T) {
	logits := []float32{5, -20, 4, -21, 3, -22}
	var s Sampler
	for seed := range uint64(500) {
		var want int32
		for i, p := range []Params{{TopK: 3}, {TopP: 0.9999999}, {MinP: 0.1}, {TypicalP: 0.9999999}, {TopK: 4, TopP: 0.9999999, MinP: 0.05}} {
			p.Temperature, p.Seed = 1, seed
			got, err := s.Next(step(logits, p))
			if err != nil {
				t.Fatal(err)
			}
			if i == 0 {
				want = got
			} else if got != want {
				t.Fatalf("seed %d: %+v draws %d, want %d", seed, p, got, want)
			}
		}
	}
}

func TestLogNorm(t *testing.T) {
	for name, c := range map[string]struct {
		logits []float32
		want   float64
	}{
		"one":         {[]float32{3}, 3},
		"equal":       {[]float32{2, 2, 2, 2}, 2 + math.Log(4)},
		"with -Inf":   {[]float32{2, -inf, 2}, 2 + math.Log(2)},
		"large":       {[]float32{3e38, 0}, float64(float32(3e38))},
		"very spread": {[]float32{-3e38, 1}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := LogNorm(c.logits)
			if err != nil || math.Abs(got-c.want) > 1e-14*max(1, math.Abs(c.want)) {
				t.Errorf("got %v, %v, want %v", got, err, c.want)
			}
		})
	}
	for name, logits := range map[string][]float32{"NaN": {1, nan}, "+Inf": {inf}, "all -Inf": {-inf, -inf}, "empty": nil} {
		t.Run(name, func(t *testing.T) {
			if _, err := LogNorm(logits); !errors.Is(err, ErrLogits) {
				t.Errorf("got %v, want ErrLogits", err)
			}
		})
	}
}

func TestTopOrder(t *testing.T) {
	var s Sampler
	logits := []float32{1, 3, -inf, 3, 2}
	got := s.Top(nil, logits, 5, 3, 1)
	if d := cmp.Diff([]Alternative{{1, 2}, {3, 2}, {4, 1}}, got); d != "" {
		t.Error(d)
	}
	if got := s.Top(nil, logits, 5, 99, 0); len(got) != 4 {
		t.Errorf("asked for more than there are: %v", got)
	}
	if got := s.Top(nil, logits, 5, 0, 0); len(got) != 0 {
		t.Errorf("asked for none: %v", got)
	}
}

func TestValidate(t *testing.T) {
	for field, p := range map[string]Params{
		"temperature":       {Temperature: nan},
		"top_p":             {TopP: -0.1},
		"min_p":             {MinP: 1.5},
		"typical_p":         {TypicalP: nan},
		"repeat_penalty":    {RepeatPenalty: -1},
		"presence_penalty":  {PresencePenalty: inf},
		"frequency_penalty": {FrequencyPenalty: nan},
		"top_k":             {TopK: -1},
		"penalty_last_n":    {PenaltyLastN: -2},
		"logit_bias":        {Bias: []Bias{{100, 1}}},
		"logit_bias: token": {Bias: []Bias{{-1, 1}}},
		"3: NaN":            {Bias: []Bias{{3, nan}}},
	} {
		if err := p.Validate(100); err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("%+v: got %v, want an error that names %s", p, err, field)
		}
	}
	good := Params{Temperature: -1, TopK: 40, TopP: 2, MinP: 1, RepeatPenalty: 1.1, PenaltyLastN: -1, Bias: []Bias{{99, -inf}}}
	if err := good.Validate(100); err != nil {
		t.Error(err)
	}
}

func randomLogits(n int) []float32 {
	rng := rand.New(rand.NewPCG(9, uint64(n)))
	l := make([]float32, n)
	for i := range l {
		l[i] = float32(rng.NormFloat64() * 3)
	}
	return l
}

func heavy() Params {
	return Params{
		Temperature: 0.8, TopK: 200, TopP: 0.95, MinP: 0.01, TypicalP: 0.9, RepeatPenalty: 1.1,
		PresencePenalty: 0.1, FrequencyPenalty: 0.1, PenaltyLastN: -1, Bias: []Bias{{3, 1}},
	}
}

// TestSameIDsEverywhere holds whole steps to the same ids on every architecture; computed on amd64 (Go 1.26).
func TestSameIDsEverywhere(t *testing.T) {
	rng := rand.New(rand.NewPCG(12, 13))
	logits := make([]float32, 3000)
	for i := range logits {
		logits[i] = float32(rng.IntN(1<<20)) / (1 << 16) // uniform: flat enough for every filter to have work
	}
	h := fnv.New64a()
	var s Sampler
	wide := heavy()
	wide.TopK = 0
	for _, p := range []Params{{}, {Temperature: 1}, {Temperature: 1.3, TopP: 0.9}, {Temperature: 0.7, TypicalP: 0.8}, heavy(), wide} {
		st := step(logits, p)
		for range 200 {
			st.Index++
			id, err := s.Next(st)
			if err != nil {
				t.Fatal(err)
			}
			st.Generated = append(st.Generated, id)
			h.Write([]byte{byte(id), byte(id >> 8)})
		}
	}
	if got, want := h.Sum64(), uint64(0x65d45d8b2d8b5fd); got != want {
		t.Errorf("hash %#x, want %#x", got, want)
	}
}

func TestStepsAllocateNothing(t *testing.T) {
	logits := randomLogits(5000)
	mask := make(Mask, 5000/64+1)
	for i := range mask {
		mask[i] = math.MaxUint64
	}
	var s Sampler
	top := make([]Alternative, 0, 20)
	all := heavy()
	all.TopK = 0
	for name, p := range map[string]Params{"greedy": {}, "everything": heavy(), "no top-k": all, "plain": {Temperature: 1}} {
		st := &Step{Logits: logits, Limit: len(logits), Params: &p, Prompt: []int32{1, 2}, Generated: []int32{4, 5}, Mask: mask}
		run := func() {
			st.Index++
			if _, err := s.Next(st); err != nil {
				t.Fatal(err)
			}
			norm, err := LogNorm(logits)
			if err != nil {
				t.Fatal(err)
			}
			top = s.Top(top[:0], logits, len(logits), 20, norm)
		}
		run()
		if n := testing.AllocsPerRun(20, run); n != 0 {
			t.Errorf("%s: %v allocations a step", name, n)
		}
	}
}

func FuzzNext(f *testing.F) {
	f.Add([]byte{1, 2, 3, 250, 0, 9}, float32(0.7), 3, float32(0.9), float32(0.05), float32(0.8), float32(1.1), uint64(1))
	f.Add([]byte{0}, float32(0), 0, float32(0), float32(0), float32(0), float32(0), uint64(0))
	f.Fuzz(func(t *testing.T, raw []byte, temperature float32, k int, topP, minP, typical, repeat float32, seed uint64) {
		logits := make([]float32, len(raw))
		for i, b := range raw {
			switch b {
			case 255:
				logits[i] = -inf
			case 254:
				logits[i] = nan
			default:
				logits[i] = float32(b)/8 - 16
			}
		}
		p := Params{Temperature: temperature, TopK: k, TopP: topP, MinP: minP, TypicalP: typical, RepeatPenalty: repeat, Seed: seed}
		if p.Validate(len(logits)) != nil {
			t.Skip()
		}
		var s Sampler
		st := step(logits, p)
		st.Prompt = []int32{0, 1, 2}
		id, err := s.Next(st)
		if err != nil {
			return
		}
		if id < 0 || int(id) >= len(logits) || logits[id] == -inf || logits[id] != logits[id] {
			t.Fatalf("chose %d of %v", id, logits)
		}
	})
}

func BenchmarkNext(b *testing.B) {
	logits := randomLogits(152_064)
	for _, c := range []struct {
		name string
		p    Params
	}{
		{"greedy", Params{}},
		{"top-k", Params{Temperature: 0.8, TopK: 40, TopP: 0.95}},
		{"top-p", Params{Temperature: 0.8, TopP: 0.95}},
		{"top-p/hot", Params{Temperature: 1.5, TopP: 0.95}},
		{"plain", Params{Temperature: 1}},
		{"typical", Params{Temperature: 1, TypicalP: 0.9}},
	} {
		b.Run(c.name, func(b *testing.B) {
			var s Sampler
			st := step(logits, c.p)
			if _, err := s.Next(st); err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				st.Index++
				if _, err := s.Next(st); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("lognorm", func(b *testing.B) {
		for b.Loop() {
			if _, err := LogNorm(logits); err != nil {
				b.Fatal(err)
			}
		}
	})
}
