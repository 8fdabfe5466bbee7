package offline

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"edged/cmd/edged/cli"
	"edged/core/protocol"
	"edged/core/protocol/tokenizer"
)

type renderFlags struct {
	modelFlags
	template     string
	input, batch string
	ids          bool
}

func (a *app) renderCommand() *cobra.Command {
	var f renderFlags
	c := &cobra.Command{
		Use:     "render (--model PATH | --template FILE.jinja) (--input FILE.json | --batch FILE.jsonl)",
		GroupID: "offline",
		Short:   "Show a conversation as the model would see it",
		Long: `Puts a conversation through a chat template: the model's own, or one from a file.

The input is a JSON object with "messages", optionally "tools", and any other variable of the template. "now" (RFC 3339, with or without
a zone, or seconds since 1970) fixes what strftime_now formats; "add_generation_prompt": false leaves the opening of the answer out.

The output is the text exactly, without a line break after it, or with --ids the token ids on one line. --batch reads one object a line
and writes one: {"text":"…"}, with --ids {"ids":[…]}, or {"error":"…"} where the template refuses a conversation.`,
		Example: `  edged render --model m.gguf --input talk.json
  edged render --template chatml.jinja --batch talks.jsonl`,
		Args: cobra.NoArgs,
		RunE: a.Do(func(ctx context.Context, _ []string) error { return a.render(ctx, &f) }),
	}
	fl := c.Flags()
	f.RegisterModel(c)
	f.Flags.Register(c, false)
	fl.StringVar(&f.template, "template", "", "Jinja template to use instead of the model's own")
	fl.StringVar(&f.input, "input", "", "JSON file with the conversation; - is standard input")
	fl.StringVar(&f.batch, "batch", "", "JSON Lines file with one conversation a line; - is standard input")
	fl.BoolVar(&f.ids, "ids", false, "print token ids instead of the text (needs --model)")
	return c
}

func (a *app) render(ctx context.Context, f *renderFlags) error {
	switch {
	case f.Path == "" && f.template == "":
		return cli.Usagef("give --model or --template")
	case (f.input == "") == (f.batch == ""):
		return cli.Usagef("give one of --input and --batch")
	case f.ids && f.Path == "":
		return cli.Usagef("--ids needs --model")
	}
	template := ""
	if f.template != "" {
		data, err := a.ReadAll(f.template)
		if err != nil {
			return err
		}
		if len(data) == 0 {
			return fmt.Errorf("%s: the template is empty", f.template)
		}
		template = string(data)
	}
	s, err := f.startTokenizer(ctx, f.Log(a.Err), f.Path)
	if err != nil {
		return err
	}
	defer s.Close()
	if f.input != "" {
		data, err := a.ReadAll(f.input)
		if err != nil {
			return err
		}
		out, err := s.render(ctx, data, template, f.ids)
		if err != nil {
			return s.Dead(err)
		}
		if f.ids {
			_, err = fmt.Fprintln(a.Out, joinIDs(out.IDs))
		} else {
			_, err = io.WriteString(a.Out, out.Text)
		}
		return err
	}
	enc := cli.Encoder(a.Out)
	return a.EachLine(f.batch, func(_ int, line []byte) error {
		out, err := s.render(ctx, line, template, f.ids)
		switch {
		case ctx.Err() != nil || errors.Is(err, protocol.ErrPluginDied):
			return s.Dead(err)
		case err != nil:
			return enc.Encode(struct {
				Error string `json:"error"`
			}{err.Error()})
		case f.ids:
			return enc.Encode(struct {
				IDs []int32 `json:"ids"`
			}{out.IDs})
		default:
			return enc.Encode(struct {
				Text string `json:"text"`
			}{out.Text})
		}
	})
}

// render puts one conversation through the template.
func (s *session) render(ctx context.Context, data []byte, template string, ids bool) (tokenizer.ChatIDs, error) {
	chat, err := conversation(data)
	if err != nil {
		return tokenizer.ChatIDs{}, err
	}
	chat.Template = template
	if ids {
		return s.Tokenizer.EncodeChat(ctx, chat)
	}
	text, err := s.Tokenizer.Render(ctx, chat)
	return tokenizer.ChatIDs{Text: text}, err
}

// conversation takes an input object apart: messages, tools, and the template's other variables in their order.
func conversation(data []byte) (tokenizer.Chat, error) {
	fields, err := ordered(data)
	if err != nil {
		return tokenizer.Chat{}, fmt.Errorf("the input is no conversation: %w", err)
	}
	var c tokenizer.Chat
	var rest []field
	for _, f := range fields {
		switch f.key {
		case "messages":
			c.Messages = f.value
		case "tools":
			if string(f.value) != "null" {
				c.Tools = f.value
			}
		case "add_generation_prompt":
			var add bool
			if err := json.Unmarshal(f.value, &add); err != nil {
				return c, errors.New("add_generation_prompt: is neither true nor false")
			}
			c.NoPrompt = !add
		case "now":
			rest = append(rest, field{f.key, zoned(f.value)})
		default:
			rest = append(rest, f)
		}
	}
	if c.Messages == nil {
		return c, errors.New(`the input is no conversation: "messages" is missing`)
	}
	if len(rest) > 0 {
		if c.Variables, err = object(rest); err != nil {
			return c, err
		}
	}
	return c, nil
}

// zoned gives a time without a zone, which is what Python's isoformat writes, the zone that leaves it as it
// is. Anything else is for the tokenizer to judge.
func zoned(now json.RawMessage) json.RawMessage {
	var text string
	if json.Unmarshal(now, &text) != nil {
		return now
	}
	for _, layout := range []string{"2006-01-02T15:04:05", "2006-01-02 15:04:05", "2006-01-02T15:04", "2006-01-02"} {
		if t, err := time.Parse(layout, text); err == nil {
			return json.RawMessage(strconv.Quote(t.Format(time.RFC3339Nano)))
		}
	}
	return now
}
