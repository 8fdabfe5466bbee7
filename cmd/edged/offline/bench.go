package offline

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"edged/cmd/edged/cli"
	"edged/core/protocol/backend"
	"edged/core/protocol/tokenizer"
)

type benchFlags struct {
	modelFlags
	request    backend.BenchRequest
	transcript string
	json       bool
}

func (a *app) benchCommand() *cobra.Command {
	var f benchFlags
	c := &cobra.Command{
		Use:     "bench --model PATH [--prompt-tokens 512] [--gen-tokens 128] [--repeats 5] [--json]",
		GroupID: "offline",
		Short:   "Measure how fast a model runs here, and how much of this machine's memory speed that is",
		Long: `Loads a model into plugins of its own and measures, --repeats times in turns: a prompt of --prompt-tokens (prefill), then
--gen-tokens that follow one token (decode), then a plain sum over the same mapped weights with the same threads. The way is that of
a request: queue, batches, forward pass, sampler. One round that is not counted comes first.

A decoded token reads every weight once, so that the plain sum is the limit of decode: "decode_percent_of_bandwidth" says how much
of it is reached. The medians are shown; --json gives one object with every repeat:

  prefill_tps, decode_tps        tokens a second, one value a repeat
  bandwidth_gbps                 10^9 bytes a second of the plain sum (median)
  weight_bytes_per_token         bytes that a decoded token reads
  decode_percent_of_bandwidth    of the medians
  first_token_ms                 of the prompt, from its arrival (median)
  plain_decode_tps               with --adapter: decoding without it, in turns
  single_decode_tps              with --transcript: one token at a time, in turns; decode_tps then guesses what is repeated
  drafted, accepted              with --transcript: guessed tokens that were computed, and those that were right
  streams_tps                    with --streams: tokens a second of all streams together
  plain_streams_tps              with --adapter as well: the same without, in turns
  streams_wait                   the longest wait for a token while a prompt of --prompt-tokens is read, in usual gaps
  machine, model, threads, …     what it was measured on

--transcript decodes a real text as if it were sampled, as much of it as the context holds unless --gen-tokens says less. What of it
repeats what came before (--context says how much of it is the prompt) is guessed as it is for requests; "accepted" is real then.
--streams N decodes N answers at once, too, and then has them wait for a prompt. Of several --adapter each of these answers has one, in
turns; a single answer has all of them.
--context N decodes from position N on: --context 4000 shows what a long conversation costs.`,
		Example: `  edged bench --model m.gguf
  edged bench --model m.gguf --threads 2 --json >> docs/benchmarks/mine.jsonl
  edged bench --model m.gguf --context 4096 --gen-tokens 64`,
		Args: cobra.NoArgs,
		RunE: a.Do(func(ctx context.Context, _ []string) error { return a.bench(ctx, &f) }),
	}
	f.Register(c)
	fl := c.Flags()
	fl.Lookup("context").Usage = "position at which decoding starts (default: after one token)"
	fl.IntVar(&f.request.PromptTokens, "prompt-tokens", 512, "tokens of a measured prompt")
	fl.IntVar(&f.request.GenTokens, "gen-tokens", 0, "tokens of a measured answer (default: 128, or the transcript)")
	fl.IntVar(&f.request.Repeats, "repeats", 5, "how often each is measured")
	fl.IntVar(&f.request.Streams, "streams", 0, "also decode so many answers at once")
	fl.StringVar(&f.transcript, "transcript", "", "decode this text file instead of what the model gives; - is standard input")
	fl.BoolVar(&f.json, "json", false, "print one JSON object")
	return c
}

// The bounds of a transcript, unless the flags say otherwise.
const (
	usualContext = 4096
	usualGen     = 128
	streamTokens = 32
)

func (a *app) bench(ctx context.Context, f *benchFlags) error {
	r := &f.request
	for _, v := range []struct {
		name  string
		value int
		least int
	}{{"prompt-tokens", r.PromptTokens, 1}, {"gen-tokens", r.GenTokens, 0}, {"repeats", r.Repeats, 1}, {"streams", r.Streams, 0}} {
		if v.value < v.least || v.value > 1<<20 {
			return cli.Usagef("--%s %d is outside %d to %d", v.name, v.value, v.least, 1<<20)
		}
	}
	if err := f.Check(); err != nil {
		return err
	}
	r.Context = max(f.Context, 1)
	var text string
	if f.transcript != "" {
		data, err := a.ReadAll(f.transcript)
		if err != nil {
			return err
		}
		text = string(data)
	}
	// The context that is loaded holds what is measured, and no more: its cache is memory that the weights may want.
	gen := r.GenTokens
	switch {
	case gen > 0:
	case text != "":
		gen = max(usualContext-r.Context, 1)
	default:
		gen = usualGen
	}
	f.Context = max(r.PromptTokens, r.Context+gen) + 1
	if r.Streams > 0 {
		f.Context = max(f.Context, r.Context+streamTokens+r.PromptTokens/8) // what a stream says while the prompt is read
	}
	began := time.Now()
	s, err := f.open(ctx, f.Log(a.Err), r.Streams+1)
	if err != nil {
		return err
	}
	defer s.Close()
	out := benchReport{Load: float64(time.Since(began)) / float64(time.Millisecond)}
	bencher, ok := s.Backend.(backend.Bencher)
	if !ok {
		return errors.New("this backend does not measure itself")
	}
	d, err := s.Backend.Describe(ctx)
	if err != nil {
		return s.Dead(err)
	}
	if text != "" {
		ids, err := s.EncodeOne(ctx, text, tokenizer.Flags{AddSpecial: true})
		if err != nil {
			return s.Dead(err)
		}
		r.Transcript = ids[:min(len(ids), r.Context+gen)]
	}
	r.Adapters = s.Adapters
	bar := cli.NewProgress(a.Err, "measuring")
	res, err := bencher.Bench(ctx, *r, bar.Show)
	bar.End()
	if err != nil {
		return s.Dead(err)
	}
	out.fill(f, s.Model, d, res)
	if f.json {
		return cli.Encoder(a.Out).Encode(out)
	}
	_, err = fmt.Fprint(a.Out, out.picture())
	return err
}
