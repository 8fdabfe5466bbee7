package offline

import (
	"context"
	"fmt"
	"math"

	"github.com/spf13/cobra"

	"edged/cmd/edged/cli"
	"edged/core/protocol/backend"
	"edged/core/protocol/tokenizer"
)

type scoreFlags struct {
	modelFlags
	file    string
	ids     string
	llama   bool
	asJSON  bool
	noStart bool
}

func (a *app) scoreCommand() *cobra.Command {
	var f scoreFlags
	c := &cobra.Command{
		Use:     "score --model PATH (--file TEXT | --ids 1,2,3)",
		GroupID: "offline",
		Short:   "Measure the perplexity of a text",
		Long: `Computes how surprised a model is by a text: exp of the mean negative log-probability of its tokens.

A text that fits the context is one window, and every token after the first is scored. A longer one is cut into windows of the
context's length, each half a window further than the one before; of each but the first only the tokens that the one before did not reach
are scored, so that every token after the first counts once and has at least half a window before it.

--llama-windows cuts as llama.cpp's perplexity tool does, to compare with its figures: windows side by side, each begun with BOS
where the model has one, only their second halves scored, an incomplete last window dropped.`,
		Example: `  edged score --model m.gguf --file wiki.txt --context 512
  edged score --model base/ --adapter pirate/ --file test.txt --json`,
		Args: cobra.NoArgs,
		RunE: a.Do(func(ctx context.Context, _ []string) error { return a.score(ctx, &f) }),
	}
	f.Register(c)
	fl := c.Flags()
	fl.StringVar(&f.file, "file", "", "the text; - is standard input")
	fl.StringVar(&f.ids, "ids", "", "token ids instead of a text, separated by commas")
	fl.BoolVar(&f.llama, "llama-windows", false, "cut windows as llama.cpp's perplexity tool does")
	fl.BoolVar(&f.noStart, "no-special", false, "do not add BOS to the text")
	fl.BoolVar(&f.asJSON, "json", false, "print one JSON object")
	return c
}

// window is a part of a text: list is what the model reads, and the log-probabilities from first on are
// counted (the one at index i is of list[i+1]).
type window struct {
	list  []int32
	first int
}

// windows cuts ids for a context of n positions: see the command's help.
func windows(ids []int32, n int) []window {
	if len(ids) <= n {
		return []window{{list: ids}}
	}
	half := max(n/2, 1)
	out := []window{{list: ids[:n]}}
	for reached := n; reached < len(ids); {
		start := reached - (n - half)
		end := min(start+n, len(ids))
		out = append(out, window{list: ids[start:end], first: reached - start - 1})
		reached = end
	}
	return out
}

// llamaWindows cuts as llama.cpp's perplexity does: the first id of each window is replaced with BOS where
// the model adds one.
func llamaWindows(ids []int32, n int, bos int32) []window {
	var out []window
	for start := 0; start+n <= len(ids); start += n {
		list := ids[start : start+n]
		if bos >= 0 {
			list = append([]int32{bos}, list[1:]...)
		}
		out = append(out, window{list: list, first: n / 2})
	}
	return out
}

func (a *app) score(ctx context.Context, f *scoreFlags) error {
	if (f.file == "") == (f.ids == "") {
		return cli.Usagef("give one of --file and --ids")
	}
	var text []byte
	var ids []int32
	var err error
	if f.file != "" {
		text, err = a.ReadAll(f.file)
	} else {
		ids, err = parseIDs(f.ids)
	}
	if err != nil {
		return err
	}
	s, err := f.open(ctx, f.Log(a.Err), 1)
	if err != nil {
		return err
	}
	defer s.Close()
	if f.file != "" {
		if ids, err = s.EncodeOne(ctx, string(text), tokenizer.Flags{AddSpecial: !f.noStart}); err != nil {
			return s.Dead(err)
		}
	}
	if len(ids) < 2 {
		return fmt.Errorf("the text has %d tokens: a score needs two", len(ids))
	}
	n := s.Model.Context
	parts := windows(ids, n)
	if f.llama {
		bos := int32(-1)
		if s.Text.AddBOS {
			bos = s.Text.BOS
		}
		if parts = llamaWindows(ids, n, bos); len(parts) == 0 {
			return fmt.Errorf(
				"--llama-windows: the text has %d tokens, fewer than one window of %d: choose a smaller --context",
				len(ids),
				n,
			)
		}
	}
	sum, squares, terms, err := s.scoreWindows(ctx, parts, cli.NewProgress(a.Err, "scoring"), s.Adapters)
	if err != nil {
		return s.Dead(err)
	}
	return a.printScore(f, s, len(ids), len(parts), sum, squares, terms)
}

// scoreWindows sums the negative log-probabilities that count, and their squares.
func (s *session) scoreWindows(
	ctx context.Context,
	parts []window,
	bar *cli.Progress,
	adapters []backend.AdapterUse,
) (sum, squares float64, terms int, err error) {
	defer bar.End()
	for i, w := range parts {
		bar.Show(i, len(parts))
		out, err := s.Backend.Score(ctx, backend.ScoreRequest{Lists: [][]int32{w.list}, Adapters: adapters})
		if err != nil {
			return 0, 0, 0, err
		}
		if len(out) != 1 || len(out[0].Logprobs) != len(w.list)-1 {
			return 0, 0, 0, fmt.Errorf("the backend gave %d results for a window of %d tokens", len(out), len(w.list))
		}
		for _, l := range out[0].Logprobs[w.first:] {
			sum -= float64(l)
			squares += float64(l) * float64(l)
			terms++
		}
	}
	return sum, squares, terms, nil
}

func (a *app) printScore(f *scoreFlags, s *session, tokens, parts int, sum, squares float64, terms int) error {
	mean := sum / float64(terms)
	ppl := math.Exp(mean)
	// The standard error of the mean, carried through exp.
	deviation := 0.0
	if terms > 1 {
		deviation = ppl * math.Sqrt(max(squares/float64(terms)-mean*mean, 0)/float64(terms-1))
	}
	if f.asJSON {
		return cli.Encoder(a.Out).Encode(struct {
			Perplexity float64 `json:"ppl"`
			Error      float64 `json:"ppl_error"`
			NLLSum     float64 `json:"nll_sum"`
			NLLTerms   int     `json:"nll_terms"`
			Tokens     int     `json:"tokens"`
			Windows    int     `json:"windows"`
			Context    int     `json:"context"`
			Model      string  `json:"model"`
			Format     string  `json:"format"`
		}{ppl, deviation, sum, terms, tokens, parts, s.Model.Context, s.Model.Name, s.Model.Format})
	}
	_, err := fmt.Fprintf(
		a.Out,
		"perplexity %.4f ± %.4f over %d of %d tokens, %d window(s) of %d\n",
		ppl,
		deviation,
		terms,
		tokens,
		parts,
		s.Model.Context,
	)
	return err
}
