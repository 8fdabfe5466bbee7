package engine

import (
	"slices"
	"testing"

	"edged/core/infer/engine/answer"
	"edged/core/infer/engine/compute"
	"edged/core/infer/sample"
	"edged/core/protocol/backend"
)

// TestActivated: an adapter that a text calls changes the rows from there on, whether they are computed or found; what calls it
// later, or not at all, finds nothing of that.
func TestActivated(t *testing.T) {
	e, f := serve(t, withSize(func(s *sizes) { s.lookup = true }))
	m, err := e.current()
	if err != nil {
		t.Fatal(err)
	}
	var on []compute.Use
	if err := m.loop.do(t.Context(), func() {
		f.content = 1
		if _, err := m.loop.adopt(backend.AdapterInfo{ID: "a", SHA256: "sum"}, nil, &closer{}); err != nil {
			t.Error(err)
		}
		a := m.loop.adapters["a"]
		a.invocation = []int32{7, 8}
		on = []compute.Use{{Adapter: a.bound, Scale: 1}}
	}); err != nil {
		t.Fatal(err)
	}
	text := prompt(80, 1)
	for i, id := range text {
		if id == 7 {
			text[i] = 9
		}
	}
	calls := func(at ...int) []int32 {
		out := slices.Clone(text)
		for _, i := range at {
			out[i], out[i+1] = 7, 8
		}
		return out
	}
	for _, c := range []struct {
		name string
		ids  []int32
		from int
	}{
		{"first", calls(40), 40}, {"again", calls(40), 40}, {"twice", calls(40, 70), 70}, {"never", text, 1 << 30}, {"at the end", calls(78), 78}, {"at once", calls(0), 0},
	} {
		req := backend.Request{
			ID: c.name, PromptIDs: c.ids, MaxTokens: 12, IgnoreEOS: true, Adapters: []backend.AdapterUse{{ID: "a", Scale: 1}},
			Sampling: backend.Sampling{Temperature: 0.8, Seed: 5},
		}
		var s sample.Sampler
		p := answer.SamplingParams(req.Sampling)
		state := uint64(0)
		for i, id := range c.ids {
			var carries any
			if i >= c.from {
				carries = on
			}
			state = next(state, id, carries)
		}
		var want []int32
		logits := make([]float32, fakeRows)
		for len(want) < 12 {
			fill(logits, state)
			id, err := s.Next(&sample.Step{Logits: logits, Limit: fakeRows, Params: &p, Prompt: c.ids, Generated: want, Index: len(want)})
			if err != nil {
				t.Fatal(err)
			}
			want = append(want, id)
			var carries any
			if c.from < 1<<30 {
				carries = on
			}
			state = next(state, id, carries)
		}
		got := generate(t.Context(), e, req)
		if got.err != nil || !slices.Equal(got.last.Choices[0].IDs, want) {
			t.Errorf("%s: %+v, %v, want %v", c.name, got.last.Choices, got.err, want)
		}
		if cached := got.last.Usage.CachedTokens; (cached > 0) != (c.name == "again") {
			t.Errorf("%s: %d tokens were found", c.name, cached)
		}
	}
}
