package offline

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"edged/cmd/edged/cli"
	"edged/core/protocol/backend"
)

type fillFlags struct {
	modelFlags
	batch string
	top   int
}

func (a *app) fillCommand() *cobra.Command {
	var f fillFlags
	c := &cobra.Command{
		Use:     "fill --model PATH --batch FILE.jsonl",
		GroupID: "offline",
		Short:   "Guess the masked words of texts, without a service",
		Long: `Loads an encoder that was trained to fill masks (BERT, RoBERTa, ModernBERT, DistilBERT and their kin, from the folder of a class
…ForMaskedLM) into plugins of its own, and says what is likeliest at each mask.

--batch reads JSON Lines, {"text":"…"} with the model's mask in the text ([MASK], <mask>: edged tokenize --parse-special shows it) or
{"ids":[…],"type_ids":[…]}, and writes one object for each, in the order of the input:
{"masks":[{"position","top":[{"id","text","prob"},…]},…]}, the likeliest first; position counts the tokens from 0, those around the text
included. What the model puts around a text is added to a text, never to ids. A line that fails gives {"error":"…"}, and the exit code
is 1 at the end.`,
		Example: `  echo '{"text":"The capital of France is [MASK]."}' | edged fill --model bert-base-uncased/ --batch -`,
		Args:    cobra.NoArgs,
		RunE:    a.Do(func(ctx context.Context, _ []string) error { return a.fill(ctx, &f) }),
	}
	f.Register(c)
	c.Flags().StringVar(&f.batch, "batch", "", "read texts from a JSON Lines file; - is standard input")
	c.Flags().IntVar(&f.top, "top", 10, "guesses of each mask")
	return c
}

// filled is the JSON result of one line.
type filled struct {
	Masks []filledMask `json:"masks"`
}

type filledMask struct {
	Position int          `json:"position"`
	Top      []filledWord `json:"top"`
}

type filledWord struct {
	ID   int32  `json:"id"`
	Text string `json:"text"`
	Prob number `json:"prob"`
}

func (a *app) fill(ctx context.Context, f *fillFlags) error {
	switch {
	case f.batch == "":
		return cli.Usagef("--batch is missing: name a JSON Lines file, or - for standard input")
	case f.top < 1:
		return cli.Usagef("--top %d: want 1 or more", f.top)
	case len(f.Adapters) > 0:
		return cli.Usagef("--adapter: masks are filled without adapters")
	}
	s, err := f.open(ctx, f.Log(a.Err), 1)
	if err != nil {
		return err
	}
	defer s.Close()
	filler, ok := s.Backend.(backend.Filler)
	switch {
	case !ok:
		return errors.New("this backend fills no masks")
	case s.Model.Tasks != nil && !s.Model.Does(backend.TaskFill):
		return fmt.Errorf(
			"the model, of the kind %s, has no head that guesses masked words: name the folder of a class …ForMaskedLM",
			s.Model.Kind,
		)
	case s.Text.Mask < 0:
		return errors.New("the model's tokenizer names no mask token")
	}
	words := map[int32]string{}
	return batchOf(ctx, a, s, f.batch, func(line []byte) (typedIDs, error) {
		l, err := s.embedLine(ctx, "", line)
		if err == nil && len(masks(l.ids, s.Text.Mask)) == 0 {
			err = fmt.Errorf("there is no mask in it: the model's is token %d", s.Text.Mask)
		}
		return l, err
	}, func(lines []typedIDs) ([]any, error) {
		req := backend.FillRequest{Top: f.top}
		req.Lists, req.Types = apart(lines)
		for _, ids := range req.Lists {
			req.Positions = append(req.Positions, masks(ids, s.Text.Mask))
		}
		guesses, err := filler.Fill(ctx, req)
		if err != nil {
			return nil, err
		}
		var out []any
		for i, list := range guesses {
			var one filled
			for k, top := range list {
				m := filledMask{Position: int(req.Positions[i][k])}
				for _, g := range top {
					text, err := s.word(ctx, words, g.ID)
					if err != nil {
						return nil, err
					}
					m.Top = append(m.Top, filledWord{g.ID, text, number(g.Prob)})
				}
				one.Masks = append(one.Masks, m)
			}
			out = append(out, one)
		}
		return out, nil
	})
}

// masks are the positions of a token.
func masks(ids []int32, mask int32) []int32 {
	var out []int32
	for i, id := range ids {
		if id == mask {
			out = append(out, int32(i))
		}
	}
	return out
}

// word returns the text of a token and caches it in known.
func (s *session) word(ctx context.Context, known map[int32]string, id int32) (string, error) {
	if w, ok := known[id]; ok {
		return w, nil
	}
	if int(id) >= s.Text.Tokens { // a row of the embedding beyond the vocabulary
		return "", nil
	}
	b, err := s.Tokenizer.Decode(ctx, []int32{id}, true)
	if err != nil {
		return "", err
	}
	known[id] = string(b)
	return known[id], nil
}
