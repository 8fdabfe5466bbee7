package main

import (
	"context"
	"errors"
	"strings"

	"github.com/spf13/cobra"

	"edged/core/serve/door/mqtt"
	"edged/core/serve/door/mqtt/askclient"
)

func (a *app) askCommand() *cobra.Command {
	var f clientFlags
	var asJSON, stats bool
	c := &cobra.Command{
		Use:     "ask [--adapter NAME] TEXT",
		GroupID: "client",
		Short:   "Send a prompt to a running service",
		Long: `Publishes a prompt over MQTT and writes the answer as it comes. Without TEXT, or with -, the prompt is read from standard input;
a line end behind it is cut.
Ctrl-C cancels the request at the node.

The broker and the node's name are those of the configuration; --broker and --node name others.
With --json the last event of the answer is printed as one JSON object instead, also where it is an error.`,
		Example: `  edged ask "Is the kitchen window open?"
  edged ask --node attic --broker tcp://192.168.1.2:1883 --adapter pirate "Good morning!"
  journalctl -n 20 | edged ask --system "Summarise what the user sends."`,
	}
	c.RunE = a.do(func(ctx context.Context, args []string) error {
		text := strings.Join(args, " ")
		if text == "" || text == "-" {
			data, err := a.readAll("-")
			if err != nil {
				return err
			}
			text = string(data)
		}
		text = withoutLineEnd(text)
		if strings.TrimSpace(text) == "" {
			return usagef("the prompt is empty")
		}
		r := f.request(c.Flags().Changed)
		if f.system != "" {
			r.Messages = append(r.Messages, askclient.Message{Role: "system", Content: f.system}, askclient.Message{Role: "user", Content: text})
		} else {
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
		k := &ink{w: a.out}
		answer, err := client.Ask(ctx, r, askclient.Follow{Delta: k.delta, Restart: k.restart})
		k.end()
		if err != nil {
			return why(err)
		}
		if stats {
			a.note(speed(answer.Timings, answer.Usage))
		}
		return k.err
	})
	f.register(c)
	c.Flags().BoolVar(&asJSON, "json", false, "print the last event as one JSON object")
	c.Flags().BoolVar(&stats, "stats", false, "tell on standard error how fast the answer came")
	return c
}

// withoutLineEnd cuts the one line end that echo and editors put behind a text: it is no part of the question, as on the topic ask.
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
		if err := encoder(a.out).Encode(struct {
			Error mqtt.Error `json:"error"`
		}{refused.Reason}); err != nil {
			return err
		}
		return errReported
	case err != nil:
		return err
	}
	return encoder(a.out).Encode(struct {
		ID string `json:"id"`
		mqtt.Result
	}{answer.ID, answer.Result})
}
