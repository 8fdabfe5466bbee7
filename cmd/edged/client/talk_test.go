package client

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"edged/cmd/edged/cli"
	"edged/core/serve/door/mqtt"
	"edged/core/serve/door/mqtt/askclient"
)

// parrot answers every conversation with its messages as JSON, unless it is told to refuse.
type parrot struct{ asked []askclient.Request }

func (p *parrot) Ask(ctx context.Context, r askclient.Request, f askclient.Follow) (askclient.Answer, error) {
	p.asked = append(p.asked, r)
	last := r.Messages[len(r.Messages)-1].Content
	switch last {
	case "refuse":
		return askclient.Answer{}, &askclient.RequestError{Reason: mqtt.Error{Code: "queue_full", Message: "3 requests wait already", RetryMS: 1500}}
	case "wait":
		f.Delta("I am thin")
		<-ctx.Done()
		return askclient.Answer{}, ctx.Err()
	case "crash":
		f.Delta("one two")
		f.Restart("attempt 2")
		f.Delta("one ")
		f.Delta("two three")
	case "die":
		f.Delta("half of")
		f.Restart("attempt 2")
		f.Delta("another ")
		f.Delta("answer")
	default:
		f.Delta("you said " + last)
	}
	return askclient.Answer{}, nil
}

func TestChat(t *testing.T) {
	var out, errs bytes.Buffer
	interrupts := make(chan os.Signal, 1)
	p := &parrot{}
	a := &app{&cli.App{Streams: cli.Streams{In: strings.NewReader("/system be kind\nhello\nrefuse\n/adapter pirate\n\n/nonsense\ncrash\n/reset\nagain\n/quit\nnever\n"), Out: &out, Err: &errs}}}
	talk := &talk{a: a, client: p, interrupts: interrupts}
	if err := talk.run(t.Context()); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range p.asked {
		text, err := json.Marshal(r.Messages)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, r.Adapter+string(text))
	}
	system := `{"role":"system","content":"be kind"}`
	hello := `{"role":"user","content":"hello"},{"role":"assistant","content":"you said hello"}`
	want := []string{
		`[` + system + `,{"role":"user","content":"hello"}]`,
		`[` + system + `,` + hello + `,{"role":"user","content":"refuse"}]`,
		`pirate[` + system + `,` + hello + `,{"role":"user","content":"crash"}]`,
		`pirate[` + system + `,{"role":"user","content":"again"}]`,
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if want := "you said hello\none two three\nyou said again\n"; out.String() != want {
		t.Errorf("out %q, want %q", out.String(), want)
	}
	if !strings.Contains(errs.String(), "queue_full: 3 requests wait already; try again in 2 s") || !strings.Contains(errs.String(), "/nonsense is no command") {
		t.Errorf("err %q", errs.String())
	}
}

func TestChatInterrupted(t *testing.T) {
	var out, errs bytes.Buffer
	interrupts := make(chan os.Signal, 1)
	interrupts <- os.Interrupt
	talk := &talk{a: &app{&cli.App{Streams: cli.Streams{Out: &out, Err: &errs}}}, client: &parrot{}, interrupts: interrupts}
	if err := talk.ask(t.Context(), "wait"); err != nil {
		t.Fatal(err)
	}
	if out.String() != "I am thin\n" || !strings.Contains(errs.String(), "(cancelled)") {
		t.Errorf("out %q, err %q", out.String(), errs.String())
	}
	if len(talk.said) != 2 || talk.said[1].Content != "I am thin" {
		t.Errorf("said %+v", talk.said)
	}
}
