package offline

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/spf13/cobra"

	"edged/cmd/edged/cli"
)

type detokenizeFlags struct {
	modelFlags
	noSpecial   bool
	file, batch string
}

func (a *app) detokenizeCommand() *cobra.Command {
	var f detokenizeFlags
	c := &cobra.Command{
		Use:     "detokenize --model PATH (IDS | --file FILE | --batch FILE.jsonl)",
		GroupID: "offline",
		Short:   "Show the text of token ids",
		Long: `Turns token ids into text as the model's tokenizer does: the way back from tokenize.

IDS are numbers with commas between them, as tokenize --ids prints them. The text is written as it is, without a line end
of its own. Control tokens are shown; with --no-special they are left out. What is no whole character comes out as U+FFFD where the
tokenizer is a folder's, and as the bytes that it is where it is a GGUF file's.

--batch reads JSON Lines, {"ids":[…]} with an optional "special", or lists of ids alone, and writes {"text":"…"} for each.`,
		Example: `  edged detokenize --model m.gguf 9707,1879
  edged tokenize --model folder --ids "Hello" | edged detokenize --model folder --file -`,
		Args: cobra.MaximumNArgs(1),
		RunE: a.Do(func(ctx context.Context, args []string) error { return a.detokenize(ctx, &f, args) }),
	}
	fl := c.Flags()
	f.RegisterModel(c)
	f.Flags.Register(c, false)
	fl.BoolVar(&f.noSpecial, "no-special", false, "leave control tokens out")
	fl.StringVar(&f.file, "file", "", "read the ids from a file; - is standard input")
	fl.StringVar(&f.batch, "batch", "", "read lists of ids from a JSON Lines file; - is standard input")
	c.MarkFlagsMutuallyExclusive("file", "batch")
	return c
}

func (a *app) detokenize(ctx context.Context, f *detokenizeFlags, args []string) error {
	given := len(args) + cli.CountSet(f.file, f.batch)
	switch {
	case f.Path == "":
		return cli.Usagef("--model is missing: name a .gguf file or a Hugging Face folder")
	case given != 1:
		return cli.Usagef("give one of IDS, --file and --batch")
	}
	var ids []int32
	if f.batch == "" {
		text := ""
		if len(args) == 1 {
			text = args[0]
		}
		if f.file != "" {
			data, err := a.ReadAll(f.file)
			if err != nil {
				return err
			}
			text = string(data)
		}
		var err error
		if ids, err = parseIDs(text); err != nil {
			return err
		}
	}
	s, err := f.startTokenizer(ctx, f.Log(a.Err), f.Path)
	if err != nil {
		return err
	}
	defer s.Close()
	if f.batch != "" {
		return a.detokenizeBatch(ctx, s, f)
	}
	text, err := s.Tokenizer.Decode(ctx, ids, !f.noSpecial)
	if err != nil {
		return s.Dead(err)
	}
	_, err = a.Out.Write(text)
	return err
}

func (a *app) detokenizeBatch(ctx context.Context, s *session, f *detokenizeFlags) error {
	return a.EachLine(f.batch, func(_ int, line []byte) error {
		special := !f.noSpecial
		in := struct {
			IDs     *[]int32 `json:"ids"`
			Special *bool    `json:"special"`
		}{Special: &special}
		var list []int32
		if json.Unmarshal(line, &list) == nil {
			in.IDs = &list
		} else if err := cli.Strict(line, &in); err != nil {
			return err
		}
		if in.IDs == nil {
			return errors.New(`"ids" is missing`)
		}
		text, err := s.Tokenizer.Decode(ctx, *in.IDs, special)
		if err != nil {
			return s.Dead(err)
		}
		return cli.Encoder(a.Out).Encode(struct {
			Text string `json:"text"`
		}{string(text)})
	})
}
