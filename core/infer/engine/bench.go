package engine

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"edged/core/infer/engine/answer"
	"edged/core/infer/engine/pace"
	"edged/core/protocol"
	"edged/core/protocol/backend"
)

// The defaults and bounds of a measurement.
const (
	benchPrompt     = 512
	benchGen        = 128
	benchRepeats    = 5
	maxBenchRepeats = 1000
	// warmGen is the number of tokens decoded before the clock runs.
	warmGen = 8
)

var _ backend.Bencher = (*Engine)(nil)

// streamer is implemented by models that can read all weights of a token without computing.
type streamer interface{ Stream() int64 }

// Bench measures the loaded model as requests use it: prompts and answers go through the same queue, batches, forward
// pass and sampler, and the durations are those that a request's last event tells. Greedy decoding, no stops. What else
// runs meanwhile is measured with it. Only a transcript is guessed at: what a model says after noise repeats itself.
//
// Each repeat is a prefill, a decode and a plain read of the weights, in turns, so that a machine that slows
// down slows all of them. Prompts differ from repeat to repeat, so that none is known already.
func (e *Engine) Bench(ctx context.Context, req backend.BenchRequest, progress func(done, total int)) (backend.BenchResult, error) {
	var out backend.BenchResult
	m, err := e.current()
	if err != nil {
		return out, err
	}
	if err := m.decodes("this measurement"); err != nil {
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
		single, _, err := b.decode(ctx, i, gen, b.req.Adapters, true)
		if err != nil {
			return out, err
		}
		decode := single
		if b.guesses() {
			var j *job
			if decode, j, err = b.decode(ctx, i, gen, b.req.Adapters, false); err != nil {
				return out, err
			}
			if i > 0 {
				out.SingleDecodeTPS = append(out.SingleDecodeTPS, single)
				out.Drafted, out.Accepted = out.Drafted+int64(j.drafted), out.Accepted+int64(j.accepted)
			}
		}
		plain := 0.0
		if len(b.req.Adapters) > 0 {
			if plain, _, err = b.decode(ctx, i, gen, nil, !b.guesses()); err != nil {
				return out, err
			}
		}
		if b.req.Streams > 0 {
			tps, wait, err := b.streams(ctx, i, gen)
			if err != nil {
				return out, err
			}
			if i > 0 {
				out.StreamsTPS, out.StreamsWait = append(out.StreamsTPS, tps), append(out.StreamsWait, wait)
			}
			if len(b.req.Adapters) > 0 {
				if tps, err = b.together(ctx, i, gen, nil); err != nil {
					return out, err
				}
				if i > 0 {
					out.PlainStreamsTPS = append(out.PlainStreamsTPS, tps)
				}
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
	v   *answer.Vocabulary
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
		{"streams", &r.Streams, 0},
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
	room := b.m.size.Context - 1 // the first token of an answer comes from the prompt
	switch {
	case r.Repeats > maxBenchRepeats:
		return fmt.Errorf("repeats: %d are more than %d", r.Repeats, maxBenchRepeats)
	case r.PromptTokens > room:
		return fmt.Errorf("prompt_tokens: %d and a token that follows do not fit into a context of %d", r.PromptTokens, room+1)
	case r.GenTokens > room || r.Context > room-r.GenTokens:
		return fmt.Errorf("gen_tokens: %d from position %d do not fit into a context of %d", r.GenTokens, r.Context, room+1)
	case r.Streams > b.m.size.Sequences-1:
		return fmt.Errorf("streams: %d beside one prompt are more than the %d sequences that run at once", r.Streams, b.m.size.Sequences)
	case len(r.Transcript) > 0 && len(r.Transcript) < r.Context+r.GenTokens:
		return fmt.Errorf("transcript: %d tokens: %d from position %d need %d", len(r.Transcript), r.GenTokens, r.Context, r.Context+r.GenTokens)
	}
	return nil
}

// prefill computes a prompt and draws one token: tokens per second, and milliseconds to that token.
func (b *bench) prefill(ctx context.Context, repeat int) (tps, first float64, err error) {
	t, _, err := b.run(ctx, backend.Request{PromptIDs: b.random(repeat, b.req.PromptTokens), MaxTokens: 1, Adapters: b.req.Adapters}, true)
	return float64(b.req.PromptTokens) / seconds(t.Prefill), float64(t.FirstToken) / float64(time.Millisecond), err
}

// guesses reports whether next tokens are guessed: those of a transcript, unless that was switched off, and
// all where there is a model for it.
func (b *bench) guesses() bool {
	return len(b.req.Transcript) > 0 && b.m.size.lookup || b.m.draft != nil
}

// decode measures gen tokens after the one that comes with the prompt, one at a time where single is set.
func (b *bench) decode(ctx context.Context, repeat, gen int, adapters []backend.AdapterUse, single bool) (tps float64, j *job, err error) {
	r := backend.Request{MaxTokens: gen + 1, Adapters: adapters}
	if text := b.req.Transcript; len(text) > 0 {
		r.PromptIDs, r.ForcedIDs = text[:b.req.Context], text[b.req.Context:b.req.Context+gen]
	} else {
		r.PromptIDs = b.random(-1-repeat, b.req.Context)
	}
	t, j, err := b.run(ctx, r, single)
	return float64(gen) / seconds(t.Decode), j, err
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
			n := s.Stream()
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
func (b *bench) run(ctx context.Context, r backend.Request, single bool) (backend.Timings, *job, error) {
	j, err := b.job(ctx, r)
	if err != nil {
		return backend.Timings{}, nil, err
	}
	j.single = single
	var last backend.Event
	err = b.m.loop.follow(ctx, j, func(ev backend.Event) error {
		if ev.Done {
			last = ev
		}
		return nil
	})
	return last.Timings, j, err
}

func (b *bench) job(ctx context.Context, r backend.Request) (*job, error) {
	r.ID, r.IgnoreEOS = "bench", true
	j, err := newJob(ctx, r, b.v, b.m.size)
	if err == nil {
		j.prompt.Private = true // a second measurement has the same prompts
	}
	return j, err
}

// together decodes gen tokens of each of Streams answers at once, which have the adapters in turns. The rate
// is that of all of them, from the last one's first token to the first one's last.
func (b *bench) together(ctx context.Context, repeat, gen int, adapters []backend.AdapterUse) (float64, error) {
	all, err := b.crowd(ctx, repeat, gen, 0, adapters)
	if err != nil {
		return 0, err
	}
	var from, to time.Time
	for _, j := range all {
		if first := j.times[0]; first.After(from) {
			from = first
		}
		if last := j.times[len(j.times)-1]; to.IsZero() || last.Before(to) {
			to = last
		}
	}
	tokens := 0
	for _, j := range all {
		for _, at := range j.times {
			if at.After(from) && !at.After(to) {
				tokens++
			}
		}
	}
	return float64(tokens) / seconds(to.Sub(from)), nil
}

// streams measures answers that are decoded at once, and has them wait for a prompt: the wait is the longest
// of any of them while the prompt is read, in gaps of the time before.
func (b *bench) streams(ctx context.Context, repeat, gen int) (tps, wait float64, err error) {
	if tps, err = b.together(ctx, repeat, gen, b.req.Adapters); err != nil {
		return 0, 0, err
	}

	// As many tokens as are decoded while the prompt is read, a tile of it in each turn, and those before it.
	all, err := b.crowd(ctx, repeat, usualGaps+b.req.PromptTokens/pace.MinChunk+1, b.req.PromptTokens, b.req.Adapters)
	if err != nil {
		return 0, 0, err
	}
	reader := all[len(all)-1]
	var usual []float64
	longest := 0.0
	for _, j := range all[:len(all)-1] {
		for i, at := range j.times[1:] {
			gap := seconds(at.Sub(j.times[i]))
			switch {
			case !at.After(reader.Times.Arrived):
				usual = append(usual, gap)
			case !j.times[i].After(reader.Times.First):
				longest = max(longest, gap)
			}
		}
	}
	if m := median(usual); m > 0 {
		wait = longest / m
	}
	return tps, wait, nil
}

// usualGaps is how many tokens of each stream come before the prompt that they wait for.
const usualGaps = 16

// crowd runs Streams answers of gen tokens at once and, where reads is set, a prompt of so many tokens as
// soon as the first of them has usualGaps. Of several adapters each answer has one, in turns. The jobs are
// returned when all have ended, that of the prompt last.
func (b *bench) crowd(ctx context.Context, repeat, gen, reads int, adapters []backend.AdapterUse) ([]*job, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	gen = min(gen, b.m.size.Context-b.req.Context)
	var all []*job
	for i := range b.req.Streams {
		j, err := b.job(ctx, backend.Request{PromptIDs: b.random(repeat*b.req.Streams+i, b.req.Context), MaxTokens: gen, Adapters: oneOf(adapters, i), Stream: true})
		if err != nil {
			return nil, err
		}
		j.single, j.watch = true, true
		all = append(all, j)
	}
	if reads > 0 {
		j, err := b.job(ctx, backend.Request{PromptIDs: b.random(-1-repeat, reads), MaxTokens: 1, Adapters: oneOf(adapters, b.req.Streams)})
		if err != nil {
			return nil, err
		}
		all = append(all, j)
	}
	errs := make(chan error, len(all))
	due := make(chan struct{})
	for i, j := range all {
		go func() {
			if i == b.req.Streams {
				select {
				case <-due:
				case <-ctx.Done():
				}
				j.Times.Arrived = time.Now()
			}
			tokens := 0
			errs <- b.m.loop.follow(ctx, j, func(ev backend.Event) error {
				if before := tokens; i == 0 {
					if tokens += len(ev.IDs); before < usualGaps && (tokens >= usualGaps || ev.Done) {
						close(due)
						tokens = max(tokens, usualGaps)
					}
				}
				return nil
			})
		}()
	}
	var failed error
	for range all {
		if err := <-errs; err != nil && failed == nil {
			failed = err
			cancel()
		}
	}
	return all, failed
}

// oneOf is the i-th of adapters, in turns; none of none.
func oneOf(adapters []backend.AdapterUse, i int) []backend.AdapterUse {
	if len(adapters) < 2 {
		return adapters
	}
	i %= len(adapters)
	return adapters[i : i+1]
}

// random is a prompt of n tokens; the same number gives the same one.
func (b *bench) random(number, n int) []int32 {
	r := rand.New(rand.NewPCG(uint64(number), 0x65646765642d6265)) //nolint:gosec // nothing is kept secret by it
	out := make([]int32, n)
	for i := range out {
		out[i] = r.Int32N(int32(b.v.Limit()))
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
