package main

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"edged/core/protocol/backend"
	"edged/core/protocol/tokenizer"
)

type embedFlags struct {
	modelFlags
	batch string
}

func (a *app) embedCommand() *cobra.Command {
	var f embedFlags
	c := &cobra.Command{
		Use:     "embed --model PATH --batch FILE.jsonl",
		GroupID: "offline",
		Short:   "Give the embeddings of texts, without a service",
		Long: `Loads a model into plugins of its own and gives a vector for each text: texts of like sense have vectors of like direction.

An encoder (BERT and its kin) pools and normalises as its files say: modules.json and 1_Pooling of a folder, pooling_type of a GGUF
file. Of a decoder it is the mean over all tokens, scaled to length 1.

--batch reads JSON Lines, {"text":"…"} or {"ids":[…]}, and writes one object for each, in the order of the input:
{"embedding":[…],"tokens":n}. What the model puts around a text (CLS and SEP, BOS) is added to a text, never to ids. A line that fails
gives {"error":"…"}, and the exit code is 1 at the end.`,
		Example: `  edged embed --model all-MiniLM-L6-v2/ --batch notes.jsonl > vectors.jsonl`,
		Args:    cobra.NoArgs,
		RunE:    a.do(func(ctx context.Context, _ []string) error { return a.embed(ctx, &f) }),
	}
	f.register(c)
	c.Flags().StringVar(&f.batch, "batch", "", "read texts from a JSON Lines file; - is standard input")
	return c
}

// embedLine is one line of --batch.
type embedLine struct {
	Text *string `json:"text"`
	IDs  []int32 `json:"ids"`
}

func (a *app) embed(ctx context.Context, f *embedFlags) error {
	switch {
	case f.batch == "":
		return usagef("--batch is missing: name a JSON Lines file, or - for standard input")
	case len(f.adapters) > 0:
		return usagef("--adapter: embeddings are made without adapters")
	}
	s, err := f.open(ctx, f.log(a.streams), 1)
	if err != nil {
		return err
	}
	defer s.Close()
	e, ok := s.Backend.(backend.Embedder)
	if !ok {
		return errors.New("this backend makes no embeddings")
	}
	out, failed := encoder(a.out), false
	err = a.eachLine(f.batch, func(_ int, line []byte) error {
		v, n, err := s.embedLine(ctx, e, line)
		switch {
		case err == nil:
			numbers := make([]number, len(v))
			for i, x := range v {
				numbers[i] = number(x)
			}
			return out.Encode(struct {
				Embedding []number `json:"embedding"`
				Tokens    int      `json:"tokens"`
			}{numbers, n})
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

// embedLine answers one line: the vector and the number of tokens.
func (s *session) embedLine(ctx context.Context, e backend.Embedder, line []byte) ([]float32, int, error) {
	var in embedLine
	if err := strict(line, &in); err != nil {
		return nil, 0, err
	}
	ids := in.IDs
	switch {
	case (in.Text != nil) == (len(ids) > 0):
		return nil, 0, errors.New(`give one of "text" and "ids"`)
	case in.Text != nil:
		var err error
		if ids, err = encodeOne(ctx, s, *in.Text, tokenizer.Flags{AddSpecial: true, ParseSpecial: true}); err != nil {
			return nil, 0, err
		}
	}
	out, err := e.Embed(ctx, [][]int32{ids})
	if err != nil {
		return nil, 0, err
	}
	if len(out) != 1 {
		return nil, 0, errors.New("the backend gave no vector for a text")
	}
	return out[0], len(ids), nil
}
