package client

import (
	"encoding/json"
	"testing"

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
