package offline

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"edged/cmd/edged/cli"
	"edged/core/protocol/tokenizer"
)

type tokenizeFlags struct {
	modelFlags
	noSpecial, parseSpecial bool
	file, batch             string
	ids, pieces             bool
}

func (a *app) tokenizeCommand() *cobra.Command {
	var f tokenizeFlags
	c := &cobra.Command{
		Use:     "tokenize --model PATH (TEXT | --file FILE | --batch FILE.jsonl)",
		GroupID: "offline",
		Short:   "Show the tokens of a text",
		Long: `Splits a text as the model does. The model may be a GGUF file that holds a vocabulary only.

Without --ids or --pieces every line shows an id and its piece. Pieces are quoted as in Go: bytes that are no UTF-8 appear as \x escapes.
Special tokens such as BOS are added where the model wants them (--no-special: never). Text that looks like a control token
stays text, unless --parse-special is given.

--batch reads JSON Lines, {"text":"…"} with optional "add_special" and "parse_special", and writes one line of ids for each.`,
		Example: `  edged tokenize --model m.gguf --ids "Hello"
  edged tokenize --model folder --file letter.txt --pieces`,
		Args: cobra.MaximumNArgs(1),
		RunE: a.Do(func(ctx context.Context, args []string) error { return a.tokenize(ctx, &f, args) }),
	}
	fl := c.Flags()
	f.RegisterModel(c)
	f.Flags.Register(c, false)
	fl.BoolVar(&f.noSpecial, "no-special", false, "do not add BOS and EOS")
	fl.BoolVar(&f.parseSpecial, "parse-special", false, "recognise control tokens in the text")
	fl.StringVar(&f.file, "file", "", "read the text from a file; - is standard input")
	fl.StringVar(&f.batch, "batch", "", "read texts from a JSON Lines file; - is standard input")
	fl.BoolVar(&f.ids, "ids", false, "print the ids only, separated by commas, on one line")
	fl.BoolVar(&f.pieces, "pieces", false, "print the pieces only, one a line")
	c.MarkFlagsMutuallyExclusive("ids", "pieces")
	c.MarkFlagsMutuallyExclusive("file", "batch")
	return c
}

func (a *app) tokenize(ctx context.Context, f *tokenizeFlags, args []string) error {
	given := len(args) + cli.CountSet(f.file, f.batch)
	switch {
	case f.Path == "":
		return cli.Usagef("--model is missing: name a .gguf file or a Hugging Face folder")
	case given != 1:
		return cli.Usagef("give one of TEXT, --file and --batch")
	case f.batch != "" && f.pieces:
		return cli.Usagef("--batch writes ids, not pieces")
	}
	var text []byte
	switch {
	case f.file != "":
		var err error
		if text, err = a.ReadAll(f.file); err != nil {
			return err
		}
	case len(args) == 1:
		text = []byte(args[0])
	}
	s, err := f.startTokenizer(ctx, f.Log(a.Err), f.Path)
	if err != nil {
		return err
	}
	defer s.Close()
	flags := tokenizer.Flags{AddSpecial: !f.noSpecial, ParseSpecial: f.parseSpecial}
	if f.batch != "" {
		return a.tokenizeBatch(ctx, s, f, flags)
	}
	ids, err := s.EncodeOne(ctx, string(text), flags)
	if err != nil {
		return s.Dead(err)
	}
	if f.ids {
		_, err := fmt.Fprintln(a.Out, joinIDs(ids))
		return err
	}
	return a.printPieces(ctx, s, ids, f.pieces)
}

func (a *app) tokenizeBatch(ctx context.Context, s *session, f *tokenizeFlags, flags tokenizer.Flags) error {
	return a.EachLine(f.batch, func(_ int, line []byte) error {
		in := struct {
			Text         *string `json:"text"`
			AddSpecial   *bool   `json:"add_special"`
			ParseSpecial *bool   `json:"parse_special"`
		}{}
		each := flags
		in.AddSpecial, in.ParseSpecial = &each.AddSpecial, &each.ParseSpecial
		if err := cli.Strict(line, &in); err != nil {
			return err
		}
		if in.Text == nil {
			return errors.New(`"text" is missing`)
		}
		ids, err := s.EncodeOne(ctx, *in.Text, each)
		if err != nil {
			return s.Dead(err)
		}
		_, err = fmt.Fprintln(a.Out, joinIDs(ids))
		return err
	})
}

// printPieces prints a line for each id.
func (a *app) printPieces(ctx context.Context, s *session, ids []int32, only bool) error {
	vocab, err := s.Tokenizer.Vocabulary(ctx)
	if err != nil {
		return s.Dead(err)
	}
	for _, id := range ids {
		if int(id) >= len(vocab.Pieces) || id < 0 {
			return fmt.Errorf("the tokenizer gave id %d, and its vocabulary has %d pieces", id, len(vocab.Pieces))
		}
		piece := strconv.Quote(string(vocab.Pieces[id]))
		if !only {
			piece = fmt.Sprintf("%7d  %s", id, piece)
			if vocab.Control[id] {
				piece += "  (control)"
			}
		}
		if _, err := fmt.Fprintln(a.Out, piece); err != nil {
			return err
		}
	}
	return nil
}
