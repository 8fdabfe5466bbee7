package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

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
		f.Restart()
		f.Delta("one ")
		f.Delta("two three")
	default:
		f.Delta("you said " + last)
	}
	return askclient.Answer{}, nil
}

func TestChat(t *testing.T) {
	var out, errs bytes.Buffer
	interrupts := make(chan os.Signal, 1)
	p := &parrot{}
	a := &app{streams: streams{in: strings.NewReader("/system be kind\nhello\nrefuse\n/adapter pirate\n\n/nonsense\ncrash\n/reset\nagain\n/quit\nnever\n"), out: &out, err: &errs}}
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
	talk := &talk{a: &app{streams: streams{out: &out, err: &errs}}, client: &parrot{}, interrupts: interrupts}
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

func TestInk(t *testing.T) {
	for _, c := range []struct {
		name   string
		pieces []string // "!" restarts
		want   string
	}{
		{"plain", []string{"a", "b"}, "ab"},
		{"same again", []string{"ab", "!", "a", "b", "c"}, "abc"},
		{"same in one piece", []string{"ab", "!", "abcd"}, "abcd"},
		{"ends within", []string{"abc", "!", "ab"}, "abc"},
		{"another text", []string{"ab", "!", "a", "x", "y"}, "ab\naxy"},
		{"twice", []string{"ab", "!", "a", "!", "abc"}, "abc"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var out bytes.Buffer
			k := &ink{w: &out}
			for _, p := range c.pieces {
				if p == "!" {
					k.restart()
				} else {
					k.delta(p)
				}
			}
			if out.String() != c.want {
				t.Errorf("%q, want %q", out.String(), c.want)
			}
		})
	}
}
