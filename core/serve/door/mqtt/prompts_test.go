package mqtt

import (
	"strings"
	"testing"

	"edged/core/serve/dispatch"
	"edged/core/serve/door/fields"
)

// oneShelf has one prompt, "greet", which says its variables.
type oneShelf struct{}

func (oneShelf) Fill(req *dispatch.Request, name string, vars []byte) *fields.Error {
	if name != "greet" {
		return fields.NoPrompt("%q is not there; there are: greet", name)
	}
	req.Chat = []byte(`[{"role":"user","content":"` + strings.ReplaceAll(string(vars), `"`, "'") + `"}]`)
	return nil
}

// TestNamedPrompt: a request that names a prompt needs no question of its own, and is filled before it is handed on, so that what is
// journalled holds all of it.
func TestNamedPrompt(t *testing.T) {
	for payload, want := range map[string]string{
		`{"id":"a","prompt_name":"greet","prompt_vars":{"who":"Ada"}}`:                             `[{"role":"user","content":"{'who':'Ada'}"}]`,
		`{"id":"a","prompt_name":"greet","prompt":"Hi"}`:                                           `[{"role":"user","content":""}]`,
		`{"id":"a","prompt_name":"meet"}`:                                                          `prompt_name: "meet" is not there; there are: greet`,
		`{"id":"a","prompt_vars":{}, "prompt":"x"}`:                                                `prompt_vars: needs prompt_name`,
		`{"id":"a","prompt_name":""}`:                                                              `prompt_name: is empty`,
		`{"id":"a","prompt_name":"greet","prompt_vars":[]}`:                                        `prompt_vars: wants an object`,
		`{"id":"a","prompt_name":"greet","prompt":"x","messages":[{"role":"user","content":"y"}]}`: `prompt: cannot stand beside messages`,
		`{"id":"a"}`: `messages: is missing`,
	} {
		in, topic := input{level: levelRequest}, "edged/n/request"
		req, p := testTopics.parseRequest(in, topic, []byte(payload), limits{prompts: oneShelf{}})
		var got string
		if p != nil {
			got = p.err.Message
		} else {
			got = string(req.Chat)
		}
		if !strings.HasPrefix(got, want) {
			t.Errorf("%s: %s", payload, got)
		}
	}
	_, p := testTopics.parseRequest(input{level: levelRequest}, "edged/n/request", []byte(`{"id":"a","prompt_name":"greet"}`), limits{})
	if p == nil || p.err.Code != dispatch.CodePromptNotFound || !strings.Contains(p.err.Message, "prompts.dir is not set") {
		t.Errorf("%+v", p)
	}
}
