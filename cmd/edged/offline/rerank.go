package offline

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"edged/cmd/edged/cli"
	"edged/core/protocol/backend"
	"edged/core/serve/pairs"
)

type rerankFlags struct {
	modelFlags
	batch    string
	instruct string
}

func (a *app) rerankCommand() *cobra.Command {
	var f rerankFlags
	c := &cobra.Command{
		Use:     "rerank --model PATH --batch FILE.jsonl",
		GroupID: "offline",
		Short:   "Say how well documents fit a query, without a service",
		Long: `Loads a model into plugins of its own and gives a score for each pair of a query and a document.

A cross-encoder (bge-reranker, ms-marco-MiniLM and the like: a folder of a class …ForSequenceClassification with one label, or a GGUF file
with its head) reads both texts at once. A decoder (Qwen3-Reranker) is asked whether the document fits, in the form that Qwen3-Reranker
was trained with, and the logits of its answers yes and no are compared; --instruct says in other words what fits.

--batch reads JSON Lines, {"query":"…","documents":["…",…]} or {"pairs":[{"ids":[…],"type_ids":[…]},…]} with both texts in one list of
ids, and writes one object for each, in the order of the input: {"results":[{"index","score","logit"},…]}, the best first; index counts
the documents or pairs from 0. The score is what the function that the model's files name makes of the logit; where they name none,
1/(1+exp(-logit)). For a cross-encoder a pair that is longer than the model's files allow is cut, the longer text first. A line that fails
gives {"error":"…"}, and the exit code is 1 at the end.`,
		Example: `  echo '{"query":"Is the window open?","documents":["It rains.","The window is shut."]}' | edged rerank --model bge-reranker-base/ --batch -`,
		Args:    cobra.NoArgs,
		RunE:    a.Do(func(ctx context.Context, _ []string) error { return a.rerank(ctx, &f) }),
	}
	f.Register(c)
	c.Flags().StringVar(&f.batch, "batch", "", "read queries from a JSON Lines file; - is standard input")
	c.Flags().StringVar(&f.instruct, "instruct", "", "of a decoder: what makes a document fit")
	return c
}

// rerankLine is one line of --batch.
type rerankLine struct {
	Query     *string  `json:"query"`
	Documents []string `json:"documents"`
	Pairs     []struct {
		IDs   []int32 `json:"ids"`
		Types []int32 `json:"type_ids"`
	} `json:"pairs"`
}

// ranked is one result.
type ranked struct {
	Index int    `json:"index"`
	Score number `json:"score"`
	Logit number `json:"logit"`
}

func (a *app) rerank(ctx context.Context, f *rerankFlags) error {
	switch {
	case f.batch == "":
		return cli.Usagef("--batch is missing: name a JSON Lines file, or - for standard input")
	case len(f.Adapters) > 0:
		return cli.Usagef("--adapter: scores are made without adapters")
	}
	s, err := f.open(ctx, f.Log(a.Err), 1)
	if err != nil {
		return err
	}
	defer s.Close()
	r, ok := s.Backend.(backend.Ranker)
	if !ok {
		return errors.New("this backend ranks nothing")
	}
	e, err := pairs.New(ctx, s.Tokenizer, &s.Model, &s.Text)
	if err != nil {
		return s.Dead(err)
	}
	return batchOf(ctx, a, s, f.batch, func(line []byte) (backend.RankRequest, error) {
		var in rerankLine
		if err := cli.Strict(line, &in); err != nil {
			return backend.RankRequest{}, err
		}
		return in.request(ctx, e, f.instruct)
	}, func(reqs []backend.RankRequest) ([]any, error) {
		var out []any
		for _, req := range reqs {
			ranks, err := r.Rank(ctx, req)
			if err != nil {
				return nil, err
			}
			results := make([]ranked, len(ranks))
			for i, x := range ranks {
				results[i] = ranked{i, number(x.Score), number(x.Logit)}
			}
			slices.SortStableFunc(results, func(x, y ranked) int { return cmp.Compare(y.Logit, x.Logit) })
			out = append(out, struct {
				Results []ranked `json:"results"`
			}{results})
		}
		return out, nil
	})
}

// request reads one line.
func (in *rerankLine) request(ctx context.Context, e *pairs.Encoder, instruct string) (backend.RankRequest, error) {
	var req backend.RankRequest
	switch {
	case (in.Query != nil) == (in.Pairs != nil):
		return req, errors.New(`give "query" with "documents", or "pairs"`)
	case (in.Query != nil) != (in.Documents != nil):
		return req, errors.New(`"query" and "documents" belong together`)
	case in.Query != nil:
		return e.Encode(ctx, instruct, *in.Query, in.Documents, true)
	}
	var lists []typedIDs
	for i, p := range in.Pairs {
		switch {
		case len(p.IDs) == 0:
			return req, fmt.Errorf(`pair %d has no "ids"`, i)
		case p.Types != nil && len(p.Types) != len(p.IDs):
			return req, fmt.Errorf(`pair %d: "type_ids" has %d entries for %d ids`, i, len(p.Types), len(p.IDs))
		}
		lists = append(lists, typedIDs{p.IDs, p.Types})
	}
	req.Lists, req.Types = apart(lists)
	if !e.Typed() {
		req.Types = nil
		e.Answers(&req)
	}
	return req, nil
}
