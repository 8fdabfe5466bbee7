package client

import (
	"context"
	"errors"
	"strings"

	"github.com/spf13/cobra"

	"edged/cmd/edged/cli"
	"edged/cmd/edged/reply"
	"edged/core/config"
	"edged/core/serve/door/mqtt"
	"edged/core/serve/door/mqtt/askclient"
)

func (a *app) askCommand() *cobra.Command {
	var f clientFlags
	var preset presetFlags
	var asJSON, stats bool
	c := &cobra.Command{
		Use:     "ask [--model NAME] [--adapter NAME] [--prompt-name NAME [--var NAME=VALUE]...] TEXT",
		GroupID: "client",
		Short:   "Send a prompt to a running service",
		Long: `Publishes a prompt over MQTT and writes the answer: on a terminal as it comes, elsewhere when it is complete, so that what reads it
never gets a half that a node took back when it began anew. Without TEXT, or with -, the prompt is read from standard input; a line end
behind it is cut. With --prompt-name one of the node's prompts asks (docs/prompts.md), whose variables --var fills; TEXT may be left out
then, and is read from standard input only for -.
Ctrl-C cancels the request at the node.

The broker and the node's name are those of the configuration; --broker and --node name others. --node @GROUP asks a group of nodes
(mqtt.share_group), of which one answers.
With --json the last event of the answer is printed as one JSON object instead, also where it is an error.`,
		Example: `  edged ask "Is the kitchen window open?"
  edged ask --node attic --broker tcp://192.168.1.2:1883 --adapter pirate "Good morning!"
  edged ask --node @house --model qwen3-0.6b "Which windows are open?"
  edged ask --prompt-name translation --var language=German "Good morning!"
  journalctl -n 20 | edged ask --system "Summarise what the user sends."`,
	}
	c.RunE = a.Do(func(ctx context.Context, args []string) error {
		text := strings.Join(args, " ")
		r := f.request(c.Flags().Changed)
		if err := preset.fill(&r); err != nil {
			return err
		}
		if text == "" && r.PromptName == "" || text == "-" {
			data, err := a.ReadAll("-")
			if err != nil {
				return err
			}
			text = string(data)
		}
		text = withoutLineEnd(text)
		blank := strings.TrimSpace(text) == ""
		if blank && r.PromptName == "" {
			return cli.Usagef("the prompt is empty")
		}
		switch {
		case f.system != "":
			r.Messages = append(r.Messages, askclient.Message{Role: "system", Content: f.system})
			if !blank {
				r.Messages = append(r.Messages, askclient.Message{Role: "user", Content: text})
			}
		case !blank:
			r.Prompt = text
		}
		client, err := f.dial(ctx)
		if err != nil {
			return err
		}
		defer client.Close()
		if asJSON {
			return a.askJSON(ctx, client, r)
		}
		return a.ask(ctx, client, r, stats)
	})
	f.register(c)
	preset.register(c)
	c.Flags().BoolVar(&asJSON, "json", false, "print the last event as one JSON object")
	c.Flags().BoolVar(&stats, "stats", false, "tell on standard error how fast the answer came")
	return c
}

// ask writes the answer of a request.
func (a *app) ask(ctx context.Context, client asker, r askclient.Request, stats bool) error {
	k := &reply.Ink{W: a.Out, Hold: !cli.Terminal(a.Out), Note: a.Note}
	answer, err := client.Ask(ctx, r, askclient.Follow{Delta: k.Delta, Restart: k.Restart})
	k.End(err)
	if err != nil {
		return reply.Why(err)
	}
	if stats {
		a.Note(reply.Speed(answer.Timings, answer.Usage))
	}
	return k.Err
}

// presetFlags name a prompt of the node's prompts.dir, and fill its variables.
type presetFlags struct {
	name string
	vars []string
}

func (f *presetFlags) register(c *cobra.Command) {
	c.Flags().StringVar(&f.name, "prompt-name", "", "prompt of the node's prompts.dir that asks")
	c.Flags().StringArrayVar(&f.vars, "var", nil, "NAME=VALUE of one of its variables; may be repeated")
}

// fill puts them into a request.
func (f *presetFlags) fill(r *askclient.Request) error {
	if f.name == "" {
		if len(f.vars) > 0 {
			return cli.Usagef("--var: belongs to --prompt-name")
		}
		return nil
	}
	if !config.ValidName(f.name) {
		return cli.Usagef("--prompt-name %q must match "+config.NamePattern, f.name)
	}
	r.PromptName = f.name
	for _, v := range f.vars {
		name, value, ok := strings.Cut(v, "=")
		if !ok || name == "" {
			return cli.Usagef("--var %q is not NAME=VALUE", v)
		}
		if _, twice := r.PromptVars[name]; twice {
			return cli.Usagef("--var %s: is given twice", name)
		}
		if r.PromptVars == nil {
			r.PromptVars = map[string]string{}
		}
		r.PromptVars[name] = value
	}
	return nil
}

// withoutLineEnd cuts the one line end that echo and editors put behind a text: it is no part of the
// question, as on the topic ask.
func withoutLineEnd(text string) string {
	cut, ok := strings.CutSuffix(text, "\n")
	if !ok {
		return text
	}
	return strings.TrimSuffix(cut, "\r")
}

func (a *app) askJSON(ctx context.Context, client *askclient.Client, r askclient.Request) error {
	answer, err := client.Ask(ctx, r, askclient.Follow{})
	var refused *askclient.RequestError
	switch {
	case errors.As(err, &refused):
		if err := cli.Encoder(a.Out).Encode(struct {
			Error mqtt.Error `json:"error"`
		}{refused.Reason}); err != nil {
			return err
		}
		return cli.ErrReported
	case err != nil:
		return err
	}
	return cli.Encoder(a.Out).Encode(struct {
		ID string `json:"id"`
		mqtt.Result
	}{answer.ID, answer.Result})
}
