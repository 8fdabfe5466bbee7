package client

import (
	"bytes"
	"encoding/json"
	"testing"

	"edged/cmd/edged/cli"
	"edged/core/serve/door/mqtt/askclient"
)

func TestWithoutLineEnd(t *testing.T) {
	for in, want := range map[string]string{
		"a\n": "a", "a\r\n": "a", "a\n\n": "a\n", "a": "a", "a\r": "a\r", "a\nb": "a\nb", "\n": "", "": "",
	} {
		if got := withoutLineEnd(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

// TestPresetFlags: a prompt by name and its variables travel as requests have them.
func TestPresetFlags(t *testing.T) {
	var r askclient.Request
	f := presetFlags{name: "translation", vars: []string{"language=German", "text=a=b"}}
	if err := f.fill(&r); err != nil {
		t.Fatal(err)
	}
	client := clientFlags{model: "big"}
	r.Model = client.request(func(string) bool { return false }).Model
	data, err := json.Marshal(r)
	if want := `{"id":"","model":"big","prompt_name":"translation","prompt_vars":{"language":"German","text":"a=b"},"stream":false}`; err != nil || string(data) != want {
		t.Errorf("%s, %v", data, err)
	}
}

// TestAskBegunAnew: a program that reads the answer gets that of the last attempt alone, and nothing of what was withdrawn.
func TestAskBegunAnew(t *testing.T) {
	var out, errs bytes.Buffer
	a := &app{&cli.App{Streams: cli.Streams{Out: &out, Err: &errs}}}
	r := askclient.Request{Messages: []askclient.Message{{Role: "user", Content: "die"}}}
	if err := a.ask(t.Context(), &parrot{}, r, false); err != nil || out.String() != "another answer\n" || errs.Len() > 0 {
		t.Errorf("out %q, err %q, %v", out.String(), errs.String(), err)
	}
	out.Reset()
	r.Messages[0].Content = "refuse"
	if err := a.ask(t.Context(), &parrot{}, r, false); err == nil || out.Len() > 0 {
		t.Errorf("out %q, %v", out.String(), err)
	}
}
