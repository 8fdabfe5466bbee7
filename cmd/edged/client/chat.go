package client

import (
	"bufio"
	"context"
	"errors"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"edged/cmd/edged/cli"
	"edged/cmd/edged/reply"
	"edged/core/serve/door/mqtt/askclient"
)

const chatHelp = `/adapter NAME   answer with this adapter from now on (without a name: the node's default)
/system TEXT    set the system message and begin anew
/reset          begin anew
/quit           leave (or Ctrl-D)`

func (a *app) chatCommand() *cobra.Command {
	var f clientFlags
	c := &cobra.Command{
		Use:     "chat",
		GroupID: "client",
		Short:   "Talk with a running service",
		Long: `A conversation over MQTT: what was said goes along with each prompt. Ctrl-C cancels an answer, and leaves where none is coming.

` + chatHelp,
		Args: cobra.NoArgs,
	}
	c.RunE = func(c *cobra.Command, _ []string) error {
		a.Started = true
		return a.chat(c.Context(), &f, c.Flags().Changed)
	}
	f.register(c)
	return c
}

// asker is the part of askclient.Client that a chat uses.
type asker interface {
	Ask(ctx context.Context, r askclient.Request, f askclient.Follow) (askclient.Answer, error)
}

func (a *app) chat(ctx context.Context, f *clientFlags, changed func(string) bool) error {
	client, err := f.dial(ctx)
	if err != nil {
		return err
	}
	defer client.Close()
	interrupts := make(chan os.Signal, 1)
	signal.Notify(interrupts, os.Interrupt)
	defer signal.Stop(interrupts)
	t := &talk{a: a, client: client, base: f.request(changed), system: f.system, interrupts: interrupts, prompt: cli.Terminal(a.In)}
	return t.run(ctx)
}

// talk is a conversation.
type talk struct {
	a          *app
	client     asker
	base       askclient.Request
	system     string
	said       []askclient.Message
	interrupts <-chan os.Signal
	prompt     bool // somebody types
}

func (t *talk) run(ctx context.Context) error {
	if t.prompt {
		t.a.Note("/help lists the commands; Ctrl-D leaves")
	}
	lines := make(chan string)
	failed := make(chan error, 1)
	go func() {
		defer close(lines)
		s := bufio.NewScanner(t.a.In)
		s.Buffer(make([]byte, 64<<10), 1<<20)
		for s.Scan() {
			select {
			case lines <- s.Text():
			case <-ctx.Done():
				return
			}
		}
		failed <- s.Err()
	}()
	for {
		if t.prompt {
			_, _ = io.WriteString(t.a.Err, "> ")
		}
		select {
		case line, more := <-lines:
			if !more {
				if t.prompt {
					t.a.Note("")
				}
				return <-failed
			}
			leave, err := t.line(ctx, strings.TrimSpace(line))
			if leave || err != nil {
				return err
			}
		case <-t.interrupts:
			t.a.Note("")
			return nil
		}
	}
}

// line takes what was typed and reports whether to leave.
func (t *talk) line(ctx context.Context, line string) (leave bool, err error) {
	word, rest, _ := strings.Cut(line, " ")
	switch {
	case line == "":
	case word == "/quit", word == "/exit":
		return true, nil
	case word == "/reset":
		t.said = nil
	case word == "/adapter":
		t.base.Adapter = strings.TrimSpace(rest)
	case word == "/system":
		t.system, t.said = strings.TrimSpace(rest), nil
	case strings.HasPrefix(line, "/") && !strings.Contains(word[1:], "/"):
		if word != "/help" {
			t.a.Notef("%s is no command", word)
		}
		t.a.Note(chatHelp)
	default:
		return false, t.ask(ctx, line)
	}
	return false, nil
}

// ask sends the conversation with a new message. What the node refuses ends nothing, and the message is forgotten.
func (t *talk) ask(ctx context.Context, text string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan struct{})
	defer close(done)
	go func() {
		select {
		case <-t.interrupts:
			cancel()
		case <-done:
		}
	}()
	r := t.base
	if t.system != "" {
		r.Messages = append(r.Messages, askclient.Message{Role: "system", Content: t.system})
	}
	said := slices.Concat(t.said, []askclient.Message{{Role: "user", Content: text}})
	r.Messages = append(r.Messages, said...)
	k := &reply.Ink{W: t.a.Out, Hold: !cli.Terminal(t.a.Out), Note: t.a.Note}
	answer, err := t.client.Ask(ctx, r, askclient.Follow{Delta: k.Delta, Restart: k.Restart})
	k.End(err)
	var refused *askclient.RequestError
	switch {
	case errors.As(err, &refused):
		t.a.Notef("edged: %v", reply.Why(err))
		return nil
	case errors.Is(err, context.Canceled):
		t.a.Note("(cancelled)")
	case err != nil:
		return err
	}
	got := k.Written()
	if answer.Text != nil {
		got = *answer.Text
	}
	if got != "" {
		said = append(said, askclient.Message{Role: "assistant", Content: got})
		t.said = said
	}
	return k.Err
}
