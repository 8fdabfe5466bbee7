package service

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"edged/core/protocol/backend"
)

// TestPublishedThinking: for each family whose template knows thoughts, off makes a prompt that ends within none and keeps one
// from beginning; an answer with a form and a budget is asked for within a thought, and what is written behind the family's own
// mark is the answer. Where a template knows none, thoughts are refused and off is nothing.
func TestPublishedThinking(t *testing.T) {
	n := newNode(t)
	n.switched = true
	thinking, plain := 0, 0
	for _, file := range familyTemplates(t) {
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		n.use(t, string(source))
		t.Run(strings.TrimSuffix(filepath.Base(file), ".jinja"), func(t *testing.T) {
			n.says = "Yes."
			off, status := n.ask(t, `"thinking":"off"`)
			if status != http.StatusOK {
				t.Skipf("a conversation of one question: %d", status) // its template wants tools, or another first message
			}
			if off.message.Content != "Yes." || off.message.Thought != "" {
				t.Errorf("off: %+v", off.message)
			}
			if th := off.request.Thinking; th != nil && !th.Never {
				t.Errorf("off: a thought may begin: %+v", th)
			} else if th != nil {
				tail := off.prompt[max(0, strings.LastIndex(off.prompt, th.Open)):]
				if strings.HasPrefix(tail, th.Open) && strings.TrimSpace(strings.TrimPrefix(tail, th.Open)) == "" {
					t.Errorf("off: the prompt ends with %q", tail)
				}
			}
			on, status := n.ask(t, `"thinking":"on"`)
			if status != http.StatusOK {
				plain++
				if off.request.Thinking != nil || strings.Contains(string(source), "</think>") {
					t.Errorf("on: %d, with %+v off", status, off.request.Thinking)
				}
				return
			}
			thinking++
			th := on.request.Thinking
			if th == nil {
				t.Logf("it has a switch, and its marks are not known")
				return
			}
			if th.Never || th.Budget != 0 || !strings.Contains(string(source), th.Open) && !strings.Contains(string(source), th.Close) {
				t.Errorf("on: %+v", th)
			}
			n.says = ""
			held, status := n.ask(t, `"thinking":{"budget":7},"response_format":{"type":"json_object"}`)
			if th = held.request.Thinking; status != http.StatusOK || th == nil || !th.Begun || th.Budget != 7 || held.request.Grammar == "" {
				t.Fatalf("a form: %d, %+v", status, th)
			}
			if tail := strings.TrimSpace(held.prompt); !strings.HasSuffix(tail, th.Open) && !strings.HasSuffix(tail, th.Open+"<|message|>") {
				t.Errorf("the prompt ends with %.80q, and not within a thought that begins with %q", tail[max(0, len(tail)-80):], th.Open)
			}
			end, err := n.service.Decode(t.Context(), th.CloseIDs, true)
			then, wrong := n.service.Decode(t.Context(), th.ThenIDs, true)
			if err != nil || wrong != nil || strings.TrimSpace(string(end)) != strings.TrimSpace(th.Close+string(then)) {
				t.Errorf("the thought is ended with %q and answered behind %q: %v %v", end, then, err, wrong)
			}
			n.says = "It is dark." + string(end) + `{"on":true}`
			held, _ = n.ask(t, `"thinking":{"budget":7},"response_format":{"type":"json_object"}`)
			if m := held.message; m.Thought != "It is dark." || m.Content != `{"on":true}` {
				t.Errorf("%q became %+v", n.says, m)
			}
			n.says = "Yes."
		})
	}
	if thinking < 20 || plain < 20 {
		t.Errorf("%d families think and %d do not: too few to test anything", thinking, plain)
	}
}

// asked is what became of a request: what the backend was asked, and what was answered.
type asked struct {
	request backend.Request
	prompt  string // as it was read, control tokens included
	message struct {
		Content string
		Thought string `json:"reasoning_content"`
	}
}

func (n *node) ask(t *testing.T, fields string) (a asked, status int) {
	t.Helper()
	body := `{"model":"m","messages":[` + string(userSays("Is it dark?")) + `],` + fields + `}`
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, n.url+"/v1/chat/completions", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK {
		if !bytes.Contains(got, []byte("does not think")) && !bytes.Contains(got, []byte("template")) {
			t.Errorf("%s: %s", body, got)
		}
		return a, resp.StatusCode
	}
	var whole struct {
		Choices []struct{ Message json.RawMessage }
	}
	if err := json.Unmarshal(got, &whole); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(whole.Choices[0].Message, &a.message); err != nil {
		t.Fatal(err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	a.request = n.request
	text, err := n.service.Decode(t.Context(), a.request.PromptIDs, true)
	if err != nil {
		t.Fatal(err)
	}
	a.prompt = string(text)
	return a, resp.StatusCode
}
