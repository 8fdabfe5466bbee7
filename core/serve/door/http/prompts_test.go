package http

import (
	"strings"
	"testing"

	"edged/core/serve/dispatch"
	"edged/core/serve/door/fields"
)

type oneShelf struct{}

func (oneShelf) Fill(req *dispatch.Request, name string, vars []byte) *fields.Error {
	if name != "greet" {
		return fields.NoPrompt("%q is not there; there are: greet", name)
	}
	req.Chat = []byte(`[{"role":"user","content":"` + strings.ReplaceAll(string(vars), `"`, "'") + `"}]`)
	return nil
}

// TestNamedPrompt: a chat and a response may name a prompt in the place of messages and input.
func TestNamedPrompt(t *testing.T) {
	d := &Door{o: Options{Node: oneModel{}, Prompts: oneShelf{}}}
	for body, want := range map[string]string{
		`{"prompt_name":"greet","prompt_vars":{"who":"Ada"}}`:           `[{"role":"user","content":"{'who':'Ada'}"}]`,
		`{"prompt_name":"meet"}`:                                        `prompt_name: "meet" is not there; there are: greet`,
		`{"prompt_vars":{},"messages":[{"role":"user","content":"y"}]}`: `prompt_vars: needs prompt_name`,
		`{}`: `messages: is missing`,
	} {
		var got string
		if a, err := d.chatBody([]byte(body)); err != nil {
			got = err.Message
		} else {
			got = string(a.req.Chat)
		}
		if !strings.HasPrefix(got, want) {
			t.Errorf("chat %s: %s", body, got)
		}
	}
	for body, want := range map[string]string{
		`{"prompt":{"id":"greet","variables":{"who":"Ada"}}}`: `[{"role":"user","content":"{'who':'Ada'}"}]`,
		`{"prompt":{"id":"greet","version":"2"}}`:             `prompt.version: is not served`,
		`{"prompt":{}}`: `prompt.id: is missing`,
		`{}`:            `input: is missing`,
	} {
		var got string
		if a, err := d.responsesBody([]byte(body)); err != nil {
			got = err.Message
		} else {
			got = string(a.req.Chat)
		}
		if !strings.HasPrefix(got, want) {
			t.Errorf("response %s: %s", body, got)
		}
	}
}

// oneModel is a Node of one model.
type oneModel struct{}

func (oneModel) Models() []Model { return []Model{{ID: "m"}} }

func (oneModel) Why(string) string { return "" }
