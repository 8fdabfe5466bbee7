package engine

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"edged/core/protocol"
	"edged/core/protocol/backend"
)

// The defaults and bounds of a measurement.
const (
	benchPrompt     = 512
	benchGen        = 128
	benchRepeats    = 5
	maxBenchRepeats = 1000
	// warmGen is what is decoded before the clock runs.
	warmGen = 8
)

var _ backend.Bencher = (*Engine)(nil)

// streamer is what a model may add: reading all weights of a token and computing nothing.
type streamer interface{ stream() int64 }

func (c *computer) stream() int64 { return c.m.Stream() }

// Bench measures the loaded model as requests use it: prompts and answers go through the same queue, batches, forward
// pass and sampler, and the durations are those that a request's last event tells. Greedy decoding, no stops. What else
// runs meanwhile is measured with it.
//
// Each repeat is a prefill, a decode and a plain read of the weights, in turns, so that a machine that slows down slows all
// of them. Prompts differ from repeat to repeat, so that none is known already.
func (e *Engine) Bench(ctx context.Context, req backend.BenchRequest, progress func(done, total int)) (backend.BenchResult, error) {
	var out backend.BenchResult
	m, err := e.current()
	if err != nil {
		return out, err
	}
	v := m.vocab.Load()
	if v == nil {
		return out, fmt.Errorf("engine: %w: no vocabulary was set", protocol.ErrNotLoaded)
	}
	b := &bench{m: m, v: v, req: req}
	if err := b.resolve(); err != nil {
		return out, fmt.Errorf("engine: bench: %w: %w", protocol.ErrInvalid, err)
	}
	if progress == nil {
		progress = func(int, int) {}
	}
	out.WeightBytesPerToken = m.info.WeightBytes
	var rates, firsts []float64
	for i := range b.req.Repeats + 1 { // the first is not counted
		gen := b.req.GenTokens
		if i == 0 {
			gen = min(gen, warmGen)
		}
		progress(i, b.req.Repeats+1)
		prefill, first, err := b.prefill(ctx, i)
		if err != nil {
			return out, err
		}
		decode, err := b.decode(ctx, i, gen, b.req.Adapters)
		if err != nil {
			return out, err
		}
		plain := 0.0
		if len(b.req.Adapters) > 0 {
			if plain, err = b.decode(ctx, i, gen, nil); err != nil {
				return out, err
			}
		}
		rate, err := b.read(ctx)
		if err != nil {
			return out, err
		}
		if i == 0 {
			continue
		}
		out.PrefillTPS, out.DecodeTPS = append(out.PrefillTPS, prefill), append(out.DecodeTPS, decode)
		if len(b.req.Adapters) > 0 {
			out.PlainDecodeTPS = append(out.PlainDecodeTPS, plain)
		}
		rates, firsts = append(rates, rate), append(firsts, first)
	}
	out.BandwidthGBps, out.FirstTokenMS = median(rates), median(firsts)
	progress(b.req.Repeats+1, b.req.Repeats+1)
	return out, nil
}

// bench is one measurement.
type bench struct {
	m   *loaded
	v   *vocabulary
	req backend.BenchRequest // defaults filled in
}

// resolve fills in the defaults and refuses what does not fit into the context.
func (b *bench) resolve() error {
	r := &b.req
	for _, f := range []struct {
		name  string
		value *int
		usual int
	}{
		{"prompt_tokens", &r.PromptTokens, benchPrompt},
		{"gen_tokens", &r.GenTokens, benchGen},
		{"repeats", &r.Repeats, benchRepeats},
		{"context", &r.Context, 1},
	} {
		if *f.value < 0 {
			return fmt.Errorf("%s: %d is negative", f.name, *f.value)
		}
		if f.name == "gen_tokens" && *f.value == 0 && len(r.Transcript) > 0 {
			*f.value = max(1, len(r.Transcript)-max(r.Context, 1))
		}
		if *f.value == 0 {
			*f.value = f.usual
		}
	}
	room := b.m.size.context - 1 // the first token of an answer comes from the prompt
	switch {
	case r.Repeats > maxBenchRepeats:
		return fmt.Errorf("repeats: %d are more than %d", r.Repeats, maxBenchRepeats)
	case r.PromptTokens > room:
		return fmt.Errorf("prompt_tokens: %d and a token that follows do not fit into a context of %d", r.PromptTokens, room+1)
	case r.GenTokens > room || r.Context > room-r.GenTokens:
		return fmt.Errorf("gen_tokens: %d from position %d do not fit into a context of %d", r.GenTokens, r.Context, room+1)
	case len(r.Transcript) > 0 && len(r.Transcript) < r.Context+r.GenTokens:
		return fmt.Errorf("transcript: %d tokens: %d from position %d need %d", len(r.Transcript), r.GenTokens, r.Context, r.Context+r.GenTokens)
	}
	return nil
}

// prefill computes a prompt and draws one token: tokens per second, and milliseconds to that token.
func (b *bench) prefill(ctx context.Context, repeat int) (tps, first float64, err error) {
	t, err := b.run(ctx, backend.Request{PromptIDs: b.random(repeat, b.req.PromptTokens), MaxTokens: 1, Adapters: b.req.Adapters})
	return float64(b.req.PromptTokens) / seconds(t.Prefill), float64(t.FirstToken) / float64(time.Millisecond), err
}

// decode measures gen tokens after the one that comes with the prompt.
func (b *bench) decode(ctx context.Context, repeat, gen int, adapters []backend.AdapterUse) (tps float64, err error) {
	r := backend.Request{MaxTokens: gen + 1, Adapters: adapters}
	if text := b.req.Transcript; len(text) > 0 {
		r.PromptIDs, r.ForcedIDs = text[:b.req.Context], text[b.req.Context:b.req.Context+gen]
	} else {
		r.PromptIDs = b.random(-1-repeat, b.req.Context)
	}
	t, err := b.run(ctx, r)
	return float64(gen) / seconds(t.Decode), err
}

// read adds up the weights of one token: 10⁹ bytes per second. 0: this model cannot.
func (b *bench) read(ctx context.Context) (float64, error) {
	s, ok := b.m.model.(streamer)
	if !ok {
		return 0, nil
	}
	rate := 0.0
	err := b.m.loop.do(ctx, func() {
		// As often as makes a tenth of a second: a short read is over before another core has come in.
		var bytes int64
		began := time.Now()
		for took := time.Duration(0); took < readFor; took = time.Since(began) {
			n := s.stream()
			if n == 0 {
				return
			}
			bytes += n
		}
		rate = float64(bytes) / 1e9 / seconds(time.Since(began))
	})
	return rate, err
}

const readFor = 200 * time.Millisecond

// run follows one request to its end.
func (b *bench) run(ctx context.Context, r backend.Request) (backend.Timings, error) {
	r.ID, r.IgnoreEOS = "bench", true
	j, err := newJob(r, b.v, b.m.size)
	if err != nil {
		return backend.Timings{}, err
	}
	j.private = true // a second measurement has the same prompts
	var last backend.Event
	err = b.m.loop.follow(ctx, j, func(ev backend.Event) error {
		if ev.Done {
			last = ev
		}
		return nil
	})
	return last.Timings, err
}

// random is a prompt of n tokens; the same number gives the same one.
func (b *bench) random(number, n int) []int32 {
	r := rand.New(rand.NewPCG(uint64(number), 0x65646765642d6265)) //nolint:gosec // nothing is kept secret by it
	out := make([]int32, n)
	for i := range out {
		out[i] = r.Int32N(int32(b.v.limit))
	}
	return out
}

// seconds of d, never 0: a rate is a number that JSON can hold.
func seconds(d time.Duration) float64 { return max(d, 1).Seconds() }

func median(x []float64) float64 {
	x = slices.Sorted(slices.Values(x))
	n := len(x)
	if n == 0 {
		return 0
	}
	return (x[(n-1)/2] + x[n/2]) / 2
}
