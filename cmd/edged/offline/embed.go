package offline

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"edged/cmd/edged/cli"
	"edged/core/protocol/backend"
	"edged/core/protocol/tokenizer"
	"edged/core/serve/pairs"
)

type embedFlags struct {
	modelFlags
	batch     string
	pooling   string
	normalize string
	prompt    string
}

func (a *app) embedCommand() *cobra.Command {
	var f embedFlags
	c := &cobra.Command{
		Use:     "embed --model PATH --batch FILE.jsonl",
		GroupID: "offline",
		Short:   "Give the embeddings of texts, without a service",
		Long: `Loads a model into plugins of its own and gives a vector for each text: texts of like sense have vectors of like direction.

An encoder (BERT and its kin) pools, goes through its dense layers and normalises as its files say: modules.json and the folders that it
lists, pooling_type of a GGUF file. Of a decoder it is the mean over all tokens, or the first or last token's state where these files
say so, scaled to length 1.

--batch reads JSON Lines, {"text":"…"} or {"ids":[…],"type_ids":[…]} (the types of the tokens, for models that tell two texts apart by
them; without: 0), and writes one object for each, in the order of the input: {"embedding":[…],"tokens":n}. With --pooling none the
embedding is a list of vectors, one for each token, as the network gives them: behind no dense layer, and not normalised unless
--normalize=true is given. What the model puts around a text (CLS and SEP, BOS) is added to a text, never to ids, and so is the prompt of
config_sentence_transformers.json that --prompt-name names, or the files' own default. A text that is longer than the model's files allow
is cut, as sentence-transformers cuts it. A line that fails gives {"error":"…"}, and the exit code is 1 at the end.`,
		Example: `  edged embed --model all-MiniLM-L6-v2/ --batch notes.jsonl > vectors.jsonl
  edged embed --model multilingual-e5-small/ --prompt-name query --batch questions.jsonl`,
		Args: cobra.NoArgs,
		RunE: a.Do(func(ctx context.Context, _ []string) error { return a.embed(ctx, &f) }),
	}
	f.Register(c)
	c.Flags().StringVar(&f.batch, "batch", "", "read texts from a JSON Lines file; - is standard input")
	c.Flags().StringVar(
		&f.pooling,
		"pooling",
		"",
		"how an encoder's states become a vector: mean, cls, last, max, mean_sqrt_len, weightedmean or none (default: as the model's files say)",
	)
	c.Flags().StringVar(&f.normalize, "normalize", "", "scale vectors to length 1: true or false (default: as the model's files say)")
	c.Flags().StringVar(&f.prompt, "prompt-name", "", "put the prompt of this name before each text, of those that the model's files have")
	c.Flags().Lookup("normalize").NoOptDefVal = "true"
	return c
}

// embedLine is one line of --batch.
type embedLine struct {
	Text  *string `json:"text"`
	IDs   []int32 `json:"ids"`
	Types []int32 `json:"type_ids"`
}

func (a *app) embed(ctx context.Context, f *embedFlags) error {
	switch {
	case f.batch == "":
		return cli.Usagef("--batch is missing: name a JSON Lines file, or - for standard input")
	case len(f.Adapters) > 0:
		return cli.Usagef("--adapter: embeddings are made without adapters")
	}
	for _, x := range []struct {
		name, value string
		allowed     []string
	}{
		{"pooling", f.pooling, []string{"", "mean", "cls", "last", "max", "mean_sqrt_len", "weightedmean", backend.PoolNone}},
		{"normalize", f.normalize, []string{"", "true", "false"}},
	} {
		if err := cli.OneOf(x.name, x.value, x.allowed); err != nil {
			return err
		}
	}
	s, err := f.open(ctx, f.Log(a.Err), 1)
	if err != nil {
		return err
	}
	defer s.Close()
	e, ok := s.Backend.(backend.TextEncoder)
	if !ok {
		return errors.New("this backend makes no embeddings")
	}
	prompt, err := s.prompt(f.prompt)
	if err != nil {
		return err
	}
	return batchOf(ctx, a, s, f.batch, func(line []byte) (typedIDs, error) {
		return s.embedLine(ctx, prompt, line)
	}, func(lists []typedIDs) ([]any, error) {
		req := backend.EmbedRequest{Pooling: f.pooling}
		req.Lists, req.Types = apart(lists)
		if f.normalize != "" {
			yes := f.normalize == "true"
			req.Normalize = &yes
		}
		vectors, err := e.EmbedTexts(ctx, req)
		if err != nil {
			return nil, err
		}
		out := make([]any, len(vectors))
		for i, v := range vectors {
			out[i] = struct {
				Embedding any `json:"embedding"`
				Tokens    int `json:"tokens"`
			}{f.shape(v, s.Model.Width), len(req.Lists[i])}
		}
		return out, nil
	})
}

// typedIDs are the tokens of a text and their types; nil: all 0.
type typedIDs struct{ ids, types []int32 }

// apart makes the lists of a request of them.
func apart(lists []typedIDs) (ids, types [][]int32) {
	typed := false
	for _, l := range lists {
		typed = typed || l.types != nil
	}
	for _, l := range lists {
		ids = append(ids, l.ids)
		if typed {
			if l.types == nil {
				l.types = make([]int32, len(l.ids))
			}
			types = append(types, l.types)
		}
	}
	return ids, types
}

// prompt returns the prefix that the model's files define for texts: the one called name, or the default for
// an empty name.
func (s *session) prompt(name string) (string, error) {
	if name == "" {
		return s.Text.Prompt, nil
	}
	text, ok := s.Text.Prompts[name]
	if !ok {
		names := slices.Sorted(maps.Keys(s.Text.Prompts))
		if len(names) == 0 {
			return "", fmt.Errorf("--prompt-name %q: the model's files have no prompts", name)
		}
		return "", fmt.Errorf("--prompt-name %q is none of the model's: %s", name, strings.Join(names, ", "))
	}
	return text, nil
}

// shape is a vector as JSON writes it, or those of all tokens.
func (f *embedFlags) shape(v []float32, width int) any {
	numbers := make([]number, len(v))
	for i, x := range v {
		numbers[i] = number(x)
	}
	if f.pooling != backend.PoolNone {
		return numbers
	}
	return slices.Collect(slices.Chunk(numbers, max(width, 1)))
}

// textFlags are how a text is encoded that a model reads whole: as the reference library does it, special
// tokens recognised.
func (s *session) textFlags() tokenizer.Flags {
	return tokenizer.Flags{AddSpecial: true, ParseSpecial: true, MaxTokens: pairs.Limit(&s.Model, &s.Text)}
}

// embedLine reads one line.
func (s *session) embedLine(ctx context.Context, prompt string, line []byte) (typedIDs, error) {
	var in embedLine
	if err := cli.Strict(line, &in); err != nil {
		return typedIDs{}, err
	}
	switch {
	case (in.Text != nil) == (len(in.IDs) > 0):
		return typedIDs{}, errors.New(`give one of "text" and "ids"`)
	case in.Text != nil && in.Types != nil:
		return typedIDs{}, errors.New(`"type_ids" belong to "ids"`)
	case in.Types != nil && len(in.Types) != len(in.IDs):
		return typedIDs{}, fmt.Errorf(`"type_ids" has %d entries for %d ids`, len(in.Types), len(in.IDs))
	case in.Text == nil:
		return typedIDs{ids: in.IDs, types: in.Types}, nil
	}
	ids, err := s.EncodeOne(ctx, prompt+*in.Text, s.textFlags())
	return typedIDs{ids: ids}, err
}
