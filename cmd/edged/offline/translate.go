package offline

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"edged/cmd/edged/cli"
)

type translateFlags struct {
	modelFlags
	settings settings
	text     string
	file     string
	batch    string
	parallel int
	beams    int
}

func (a *app) translateCommand() *cobra.Command {
	var f translateFlags
	var c *cobra.Command
	c = &cobra.Command{
		Use:     "translate --model PATH [--from LANGUAGE] [--to LANGUAGE] (--text TEXT | --file FILE | --batch FILE.jsonl)",
		GroupID: "offline",
		Short:   "Translate a text, without a service",
		Long: `Loads an encoder-decoder into plugins of its own and translates a text from one language into another.

Languages are called as the model's tokenizer calls them: deu_Latn (NLLB), de_DE (mBART), de (M2M-100, MADLAD-400), deu (OPUS-MT with several
targets), of T5 and Flan-T5 a code or an English word, de or German. One that the model does not know is refused with a list of those
that it knows. OPUS-MT and MADLAD-400 see by themselves what they read, and an OPUS-MT model of one pair of languages takes neither --from nor
--to. The search is that of the model's generation_config.json, with --num-beams other beams.

--batch reads JSON Lines, {"text":"…"} with "source_lang" and "target_lang" where they are not those of the flags, and writes one object for
each, in the order of the input: {"translation":"…","ids":[…],"finish_reason":"…"}, with beams a "score". A line that fails gives
{"error":"…"}, and the exit code is 1 at the end.`,
		Example: `  edged translate --model nllb-200-distilled-600M/ --from eng_Latn --to deu_Latn --text "The window is open."
  edged translate --model opus-mt-en-de/ --file letter.txt
  edged translate --model madlad400-3b-mt/ --to de --batch lines.jsonl > translated.jsonl`,
		Args: cobra.NoArgs,
		RunE: a.Do(func(ctx context.Context, _ []string) error {
			if c.Flags().Changed("num-beams") {
				f.settings.NumBeams = &f.beams
			}
			return a.translate(ctx, &f)
		}),
	}
	f.Register(c)
	fl := c.Flags()
	fl.StringVar(&f.settings.Source, "from", "", "language of the text (default: as the model's files say, or as it sees by itself)")
	fl.StringVar(&f.settings.Target, "to", "", "language of the translation (default: as the model's files say)")
	fl.StringVarP(&f.text, "text", "t", "", "the text to translate")
	fl.StringVar(&f.file, "file", "", "read the text from a file; - is standard input")
	fl.StringVar(&f.batch, "batch", "", "read texts from a JSON Lines file; - is standard input")
	fl.IntVar(&f.parallel, "parallel", 1, "lines of --batch that are computed at once")
	fl.IntVarP(&f.settings.MaxTokens, "max-tokens", "n", 0, "new tokens at most (default: as the model's files say)")
	fl.IntVar(&f.beams, "num-beams", 0, "beams of the search, 1 for none (default: as the model's files say)")
	return c
}

// translateLine is one line of --batch.
type translateLine struct {
	Text   *string `json:"text"`
	Source *string `json:"source_lang"`
	Target *string `json:"target_lang"`
}

// translation is one line of output.
type translation struct {
	Text   string  `json:"translation"`
	IDs    []int32 `json:"ids"`
	Finish string  `json:"finish_reason"`
	Score  *number `json:"score,omitempty"`
}

func (a *app) translate(ctx context.Context, f *translateFlags) error {
	f.settings.crossed, f.settings.RepeatPenalty, f.settings.TopP, f.settings.TypicalP, f.settings.PenaltyLastN = true, 1, 1, 1, 64
	switch {
	case cli.CountSet(f.text, f.file, f.batch) != 1:
		return cli.Usagef("give one of --text, --file and --batch")
	case f.parallel < 1 || f.parallel > 64:
		return cli.Usagef("--parallel %d is outside 1 to 64", f.parallel)
	case len(f.Adapters) > 0:
		return cli.Usagef("--adapter: translations are made without adapters")
	}
	if err := f.settings.check(); err != nil {
		return err
	}
	text := f.text
	if f.file != "" {
		data, err := a.ReadAll(f.file)
		if err != nil {
			return err
		}
		text = string(data)
	}
	s, err := f.open(ctx, f.Log(a.Err), f.parallel)
	if err != nil {
		return err
	}
	defer s.Close()
	if !s.Crossed() {
		return fmt.Errorf(
			"the model is no encoder-decoder, as those are that translate: ask a %s for a translation in words, with edged generate",
			s.Model.Kind,
		)
	}
	if f.batch != "" {
		return a.inOrder(ctx, s, f.batch, f.parallel, func(line []byte) (any, error) { return s.translateLine(ctx, f, line) })
	}
	last, err := s.translate(ctx, text, f.settings)
	if err != nil {
		return s.Dead(err)
	}
	_, err = fmt.Fprintln(a.Out, last.Text)
	return err
}

func (s *session) translateLine(ctx context.Context, f *translateFlags, line []byte) (any, error) {
	var in translateLine
	if err := cli.Strict(line, &in); err != nil {
		return nil, err
	}
	if in.Text == nil {
		return nil, errors.New(`"text" is missing`)
	}
	by := f.settings
	if in.Source != nil {
		by.Source = *in.Source
	}
	if in.Target != nil {
		by.Target = *in.Target
	}
	return s.translate(ctx, *in.Text, by)
}

// translate answers one text.
func (s *session) translate(ctx context.Context, text string, by settings) (*translation, error) {
	var ids, first []int32
	var err error
	if by.translates() {
		ids, first, err = s.translated(ctx, text, &by)
	} else {
		ids, err = s.promptIDs(ctx, text, false)
	}
	if err != nil {
		return nil, err
	}
	req := by.request(ids, nil)
	req.ForcedIDs = first
	last, err := s.Run(ctx, req, nil)
	if err != nil {
		return nil, err
	}
	out := result(last, req)
	return &translation{out.Text, out.IDs, out.FinishReason, out.Score}, nil
}
