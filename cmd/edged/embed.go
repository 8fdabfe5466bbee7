package main

import (
	"context"
	"errors"
	"slices"

	"github.com/spf13/cobra"

	"edged/core/protocol/backend"
	"edged/core/protocol/tokenizer"
)

type embedFlags struct {
	modelFlags
	batch     string
	pooling   string
	normalize string
}

func (a *app) embedCommand() *cobra.Command {
	var f embedFlags
	c := &cobra.Command{
		Use:     "embed --model PATH --batch FILE.jsonl",
		GroupID: "offline",
		Short:   "Give the embeddings of texts, without a service",
		Long: `Loads a model into plugins of its own and gives a vector for each text: texts of like sense have vectors of like direction.

An encoder (BERT and its kin) pools and normalises as its files say: modules.json and 1_Pooling of a folder, pooling_type of a GGUF
file. Of a decoder it is the mean over all tokens, or the first or last token's state where these files say so, scaled to length 1.

--batch reads JSON Lines, {"text":"…"} or {"ids":[…],"type_ids":[…]} (the types of the tokens, for models that tell two texts apart by
them; without: 0), and writes one object for each, in the order of the input: {"embedding":[…],"tokens":n}. With --pooling none the
embedding is a list of vectors, one for each token, not normalised unless --normalize=true is given. What the model puts around a text (CLS and SEP, BOS) is added to a text, never to ids. A line that fails
gives {"error":"…"}, and the exit code is 1 at the end.`,
		Example: `  edged embed --model all-MiniLM-L6-v2/ --batch notes.jsonl > vectors.jsonl`,
		Args:    cobra.NoArgs,
		RunE:    a.do(func(ctx context.Context, _ []string) error { return a.embed(ctx, &f) }),
	}
	f.register(c)
	c.Flags().StringVar(&f.batch, "batch", "", "read texts from a JSON Lines file; - is standard input")
	c.Flags().StringVar(&f.pooling, "pooling", "", "how an encoder's states become a vector: mean, cls, last or none (default: as the model's files say)")
	c.Flags().StringVar(&f.normalize, "normalize", "", "scale vectors to length 1: true or false (default: as the model's files say)")
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
		return usagef("--batch is missing: name a JSON Lines file, or - for standard input")
	case len(f.adapters) > 0:
		return usagef("--adapter: embeddings are made without adapters")
	}
	for _, x := range []struct {
		name, value string
		allowed     []string
	}{{"pooling", f.pooling, []string{"", "mean", "cls", "last", backend.PoolNone}}, {"normalize", f.normalize, []string{"", "true", "false"}}} {
		if err := oneOf(x.name, x.value, x.allowed); err != nil {
			return err
		}
	}
	s, err := f.open(ctx, f.log(a.streams), 1)
	if err != nil {
		return err
	}
	defer s.Close()
	e, ok := s.Backend.(backend.TextEncoder)
	if !ok {
		return errors.New("this backend makes no embeddings")
	}
	out, failed := encoder(a.out), false
	err = a.eachLine(f.batch, func(_ int, line []byte) error {
		v, n, err := s.embedLine(ctx, e, f, line)
		switch {
		case err == nil:
			return out.Encode(struct {
				Embedding any `json:"embedding"`
				Tokens    int `json:"tokens"`
			}{f.shape(v, s.Model.Width), n})
		case fatal(ctx, err):
			return s.dead(err)
		}
		failed = true
		return out.Encode(struct {
			Error string `json:"error"`
		}{oneSentence(err)})
	})
	switch {
	case err != nil:
		return err
	case failed:
		return errSomeLines
	}
	return nil
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

// embedLine answers one line: the vector and the number of tokens.
func (s *session) embedLine(ctx context.Context, e backend.TextEncoder, f *embedFlags, line []byte) ([]float32, int, error) {
	var in embedLine
	if err := strict(line, &in); err != nil {
		return nil, 0, err
	}
	ids := in.IDs
	switch {
	case (in.Text != nil) == (len(ids) > 0):
		return nil, 0, errors.New(`give one of "text" and "ids"`)
	case in.Text != nil && in.Types != nil:
		return nil, 0, errors.New(`"type_ids" belong to "ids"`)
	case in.Text != nil:
		var err error
		if ids, err = encodeOne(ctx, s, *in.Text, tokenizer.Flags{AddSpecial: true, ParseSpecial: true}); err != nil {
			return nil, 0, err
		}
	}
	req := backend.EmbedRequest{Lists: [][]int32{ids}, Pooling: f.pooling}
	if in.Types != nil {
		req.Types = [][]int32{in.Types}
	}
	if f.normalize != "" {
		yes := f.normalize == "true"
		req.Normalize = &yes
	}
	out, err := e.EmbedTexts(ctx, req)
	if err != nil {
		return nil, 0, err
	}
	if len(out) != 1 {
		return nil, 0, errors.New("the backend gave no vector for a text")
	}
	return out[0], len(ids), nil
}
