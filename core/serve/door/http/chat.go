package http

import (
	"net/http"
	"unicode/utf8"

	"edged/core/protocol/backend"
	"edged/core/serve/dispatch"
)

// The structs of this file are OpenAI's forms of answers. Fields that some client cannot do without are always there,
// null or empty where there is nothing to say.

// chatAnswer is a chat completion, or a chunk of one.
type chatAnswer struct {
	ID      string       `json:"id"`
	Object  string       `json:"object"`
	Created int64        `json:"created"`
	Model   string       `json:"model"`
	Choices []chatChoice `json:"choices"`
	Usage   *usage       `json:"usage,omitempty"`
}

type chatChoice struct {
	Index    int           `json:"index"`
	Message  *chatMessage  `json:"message,omitempty"`
	Delta    *chatDelta    `json:"delta,omitempty"`
	Finish   *string       `json:"finish_reason"`
	Logprobs *chatLogprobs `json:"logprobs"`
}

type chatMessage struct {
	Role    string     `json:"role"`
	Content *string    `json:"content"`
	Thought string     `json:"reasoning_content,omitempty"` // as DeepSeek named it, and most clients know it
	Refusal *string    `json:"refusal"`
	Calls   []chatCall `json:"tool_calls,omitempty"`
}

type chatDelta struct {
	Role    string     `json:"role,omitempty"`
	Content *string    `json:"content,omitempty"`
	Thought string     `json:"reasoning_content,omitempty"`
	Calls   []chatCall `json:"tool_calls,omitempty"`
}

// chatCall is a call: whole, or its beginning (with an id), or more of its arguments (without).
type chatCall struct {
	Index    *int         `json:"index,omitempty"`
	ID       string       `json:"id,omitempty"`
	Type     string       `json:"type,omitempty"`
	Function chatFunction `json:"function"`
}

type chatFunction struct {
	Name      string `json:"name,omitempty"`
	Arguments string `json:"arguments"`
}

type chatLogprobs struct {
	Content []chatLogprob `json:"content"`
	Refusal *string       `json:"refusal"`
}

type chatLogprob struct {
	Token   string        `json:"token"`
	Logprob float32       `json:"logprob"`
	Bytes   []int         `json:"bytes"`
	Top     []chatLogprob `json:"top_logprobs,omitempty"`
}

// usage counts tokens.
type usage struct {
	Prompt     int          `json:"prompt_tokens"`
	Completion int          `json:"completion_tokens"`
	Total      int          `json:"total_tokens"`
	Details    usageDetails `json:"prompt_tokens_details"`
	Parts      *usageParts  `json:"completion_tokens_details,omitempty"`
}

type usageParts struct {
	Reasoning int `json:"reasoning_tokens"`
}

type usageDetails struct {
	Cached int `json:"cached_tokens"`
}

func usageOf(u backend.Usage) *usage {
	return &usage{u.PromptTokens, u.CompletionTokens, u.PromptTokens + u.CompletionTokens, usageDetails{u.CachedTokens}, nil}
}

// chatUsageOf is that of a conversation, in which a model may have thought.
func chatUsageOf(l *dispatch.Last) *usage {
	u := usageOf(l.Usage)
	if l.Thought > 0 {
		u.Parts = &usageParts{l.Thought}
	}
	return u
}

// thoughtOf returns the thought of a choice.
func thoughtOf(l *dispatch.Last, i int) string {
	if i < len(l.Thoughts) {
		return l.Thoughts[i]
	}
	return ""
}

// chat answers POST /v1/chat/completions.
func (d *Door) chat(w http.ResponseWriter, r *http.Request) {
	a := post(d, w, r, openAI, d.chatBody)
	if a == nil {
		return
	}
	if a.stream {
		d.stream(w, r, openAI, a.req, mayCall(a.req), &chatStream{a: a})
		return
	}
	l, err := d.wait(w, r, a.req)
	switch {
	case err != nil:
		refuseError(w, openAI, err)
	case l != nil:
		writeJSON(w, http.StatusOK, chatOf(a, l))
	}
}

// callsOf are the calls of a choice, in the order that they were written.
func (a *asked) callsOf(l *dispatch.Last, i int) []dispatch.ToolCall {
	if i >= len(l.Tools) {
		return nil
	}
	calls := l.Tools[i]
	if a.single && len(calls) > 1 {
		calls = calls[:1]
	}
	return calls
}

// finishOf is why a choice ended.
func finishOf(c backend.Choice, calls []dispatch.ToolCall) *string {
	reason := string(c.Finish)
	switch {
	case len(calls) > 0:
		reason = "tool_calls"
	case reason != "length":
		reason = "stop"
	}
	return &reason
}

// chatOf is a whole answer.
func chatOf(a *asked, l *dispatch.Last) *chatAnswer {
	out := &chatAnswer{ID: a.id, Object: "chat.completion", Created: a.created, Model: a.model.ID, Usage: chatUsageOf(l)}
	for i, c := range l.Choices {
		calls := a.callsOf(l, i)
		m := &chatMessage{Role: "assistant", Thought: thoughtOf(l, i)}
		if text := contentOf(l, i); text != "" || len(calls) == 0 {
			m.Content = &text
		}
		for _, call := range calls {
			m.Calls = append(m.Calls, chatCall{ID: newCallID(), Type: "function", Function: chatFunction{call.Name, string(call.Arguments)}})
		}
		out.Choices = append(out.Choices, chatChoice{Index: i, Message: m, Finish: finishOf(c, calls), Logprobs: chatLogprobsOf(l, c)})
	}
	return out
}

func chatLogprobsOf(l *dispatch.Last, c backend.Choice) *chatLogprobs {
	if !l.Logprobs {
		return nil
	}
	out := &chatLogprobs{Content: []chatLogprob{}}
	for _, step := range c.Logprobs {
		p := chatLogprobOf(l, step.ID, step.Logprob)
		p.Top = []chatLogprob{}
		for _, t := range step.Top {
			p.Top = append(p.Top, chatLogprobOf(l, t.ID, t.Logprob))
		}
		out.Content = append(out.Content, p)
	}
	return out
}

func chatLogprobOf(l *dispatch.Last, id int32, logprob float32) chatLogprob {
	piece := l.Pieces[id]
	p := chatLogprob{Token: tokenText(piece), Logprob: logprob, Bytes: make([]int, len(piece))}
	for i, b := range piece {
		p.Bytes[i] = int(b)
	}
	return p
}

// tokenText is a token's bytes as text. Parts of a character have the form that OpenAI's server gives them.
func tokenText(piece []byte) string {
	if utf8.Valid(piece) {
		return string(piece)
	}
	const digits = "0123456789abcdef"
	text := []byte("bytes:")
	for _, b := range piece {
		text = append(text, '\\', 'x', digits[b>>4], digits[b&15])
	}
	return string(text)
}

// chatStream writes chunks of a chat completion: a first one with the role, texts, each call in two pieces,
// the reason of the end, usage where it was asked for, and the end mark. No field that identifies a call is
// there twice: clients that join pieces would join it too.
type chatStream struct{ a *asked }

func (s *chatStream) chunk(o *out, choices ...chatChoice) {
	o.json(&chatAnswer{ID: s.a.id, Object: "chat.completion.chunk", Created: s.a.created, Model: s.a.model.ID, Choices: choices})
}

func (s *chatStream) begin(o *out) {
	for i := range max(s.a.req.Options.N, 1) {
		empty := ""
		s.chunk(o, chatChoice{Index: i, Delta: &chatDelta{Role: "assistant", Content: &empty}})
	}
}

func (s *chatStream) text(o *out, choice int, text string) {
	s.chunk(o, chatChoice{Index: choice, Delta: &chatDelta{Content: &text}})
}

func (s *chatStream) thought(o *out, choice int, text string) {
	s.chunk(o, chatChoice{Index: choice, Delta: &chatDelta{Thought: text}})
}

func (s *chatStream) end(o *out, l *dispatch.Last) {
	for i, c := range l.Choices {
		calls := s.a.callsOf(l, i)
		for k, call := range calls {
			// One call a chunk: there is a client that reads the first of each only.
			s.chunk(o, chatChoice{Index: i, Delta: &chatDelta{Calls: []chatCall{{Index: &k, ID: newCallID(), Type: "function", Function: chatFunction{Name: call.Name}}}}})
			s.chunk(o, chatChoice{Index: i, Delta: &chatDelta{Calls: []chatCall{{Index: &k, Function: chatFunction{Arguments: string(call.Arguments)}}}}})
		}
		if p := chatLogprobsOf(l, c); p != nil {
			empty := ""
			s.chunk(o, chatChoice{Index: i, Delta: &chatDelta{Content: &empty}, Logprobs: p})
		}
		s.chunk(o, chatChoice{Index: i, Delta: &chatDelta{}, Finish: finishOf(c, calls)})
	}
	if s.a.usage {
		o.json(&chatAnswer{ID: s.a.id, Object: "chat.completion.chunk", Created: s.a.created, Model: s.a.model.ID, Choices: []chatChoice{}, Usage: chatUsageOf(l)})
	}
	o.done()
}

func (s *chatStream) fail(o *out, err *dispatch.Error) {
	o.json(bodyOf(openAI, statusOf(err.Code), err))
}
