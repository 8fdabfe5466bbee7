package http

import (
	"encoding/json"
	"maps"
	"net/http"

	"edged/core/serve/dispatch"
)

// responseAnswer is a response in OpenAI's form.
type responseAnswer map[string]any

// responses answers POST /v1/responses.
func (d *Door) responses(w http.ResponseWriter, r *http.Request) {
	a := post(d, w, r, openAI, d.responsesBody)
	if a == nil {
		return
	}
	if a.stream {
		d.stream(w, r, openAI, a.req, mayCall(a.req), &responseStream{a: a, item: newID("msg_")})
		return
	}
	l, err := d.wait(w, r, a.req)
	switch {
	case err != nil:
		refuseError(w, openAI, err)
	case l != nil && len(l.Choices) > 0:
		var output []any
		if text := contentOf(l, 0); text != "" || len(a.callsOf(l, 0)) == 0 {
			output = append(output, messageItem(newID("msg_"), "completed", text))
		}
		for _, c := range a.callsOf(l, 0) {
			output = append(output, callItem(newID("fc_"), newCallID(), "completed", c.Name, string(c.Arguments)))
		}
		writeJSON(w, http.StatusOK, a.ended(l, output))
	}
}

// frame is a response in a state.
func (a *responsesAsked) frame(status string, output []any) responseAnswer {
	if output == nil {
		output = []any{}
	}
	out := responseAnswer{
		"id": a.id, "object": "response", "created_at": a.created, "status": status, "model": a.model.ID, "output": output,
		"error": nil, "incomplete_details": nil, "previous_response_id": nil, "store": false, "usage": nil,
		"reasoning": map[string]any{"effort": nil, "summary": nil},
	}
	for _, r := range repeated {
		out[r.key] = json.RawMessage(r.value)
		if given, ok := a.echo[r.key]; ok {
			out[r.key] = given
		}
	}
	return out
}

// ended is a response that is complete, or was cut by its limit.
func (a *responsesAsked) ended(l *dispatch.Last, output []any) responseAnswer {
	status := "completed"
	if l.Finish == "length" {
		status = "incomplete"
	}
	out := a.frame(status, output)
	if status == "incomplete" {
		out["incomplete_details"] = map[string]string{"reason": "max_output_tokens"}
	}
	u := l.Usage
	out["usage"] = map[string]any{
		"input_tokens": u.PromptTokens, "input_tokens_details": map[string]int{"cached_tokens": u.CachedTokens},
		"output_tokens": u.CompletionTokens, "output_tokens_details": map[string]int{"reasoning_tokens": 0},
		"total_tokens": u.PromptTokens + u.CompletionTokens,
	}
	return out
}

func textPart(text string) map[string]any {
	return map[string]any{"type": "output_text", "text": text, "annotations": []any{}, "logprobs": []any{}}
}

func messageItem(id, status, text string) map[string]any {
	item := map[string]any{"type": "message", "id": id, "status": status, "role": "assistant", "content": []any{}}
	if status == "completed" {
		item["content"] = []any{textPart(text)}
	}
	return item
}

func callItem(id, call, status, name, arguments string) map[string]any {
	return map[string]any{"type": "function_call", "id": id, "call_id": call, "status": status, "name": name, "arguments": arguments}
}

// responseStream writes the events of a response. Each has its type as its name too.
type responseStream struct {
	a      *responsesAsked
	item   string // of the message
	number int
	said   []byte // text so far
	open   bool   // the message has begun
	output []any
}

func (s *responseStream) event(o *out, kind string, more map[string]any) {
	v := map[string]any{"type": kind, "sequence_number": s.number}
	s.number++
	maps.Copy(v, more)
	o.event(kind, v)
}

func (s *responseStream) begin(o *out) {
	s.event(o, "response.created", map[string]any{"response": s.a.frame("in_progress", nil)})
	s.event(o, "response.in_progress", map[string]any{"response": s.a.frame("in_progress", nil)})
}

func (s *responseStream) text(o *out, _ int, text string) {
	if !s.open {
		s.open = true
		s.event(o, "response.output_item.added", map[string]any{"output_index": 0, "item": messageItem(s.item, "in_progress", "")})
		s.event(o, "response.content_part.added", map[string]any{"item_id": s.item, "output_index": 0, "content_index": 0, "part": textPart("")})
	}
	s.said = append(s.said, text...)
	s.event(o, "response.output_text.delta", map[string]any{"item_id": s.item, "output_index": 0, "content_index": 0, "delta": text, "logprobs": []any{}})
}

func (s *responseStream) end(o *out, l *dispatch.Last) {
	calls := s.a.callsOf(l, 0)
	if !s.open && len(calls) == 0 {
		s.text(o, 0, "") // an empty answer is a message too
	}
	if s.open {
		text := string(s.said)
		at := map[string]any{"item_id": s.item, "output_index": 0, "content_index": 0}
		at["text"], at["logprobs"] = text, []any{}
		s.event(o, "response.output_text.done", at)
		s.event(o, "response.content_part.done", map[string]any{"item_id": s.item, "output_index": 0, "content_index": 0, "part": textPart(text)})
		item := messageItem(s.item, "completed", text)
		s.output = append(s.output, item)
		s.event(o, "response.output_item.done", map[string]any{"output_index": 0, "item": item})
	}
	for _, c := range calls {
		id, call, index, arguments := newID("fc_"), newCallID(), len(s.output), string(c.Arguments)
		s.event(o, "response.output_item.added", map[string]any{"output_index": index, "item": callItem(id, call, "in_progress", c.Name, "")})
		s.event(o, "response.function_call_arguments.delta", map[string]any{"item_id": id, "output_index": index, "delta": arguments})
		s.event(o, "response.function_call_arguments.done", map[string]any{"item_id": id, "output_index": index, "name": c.Name, "arguments": arguments})
		item := callItem(id, call, "completed", c.Name, arguments)
		s.output = append(s.output, item)
		s.event(o, "response.output_item.done", map[string]any{"output_index": index, "item": item})
	}
	last := s.a.ended(l, s.output)
	kind := "response.completed"
	if last["status"] == "incomplete" {
		kind = "response.incomplete"
	}
	s.event(o, kind, map[string]any{"response": last})
}

func (s *responseStream) fail(o *out, err *dispatch.Error) {
	failed := s.a.frame("failed", s.output)
	failed["error"] = map[string]any{"code": err.Code, "message": err.Message}
	s.event(o, "response.failed", map[string]any{"response": failed})
}
