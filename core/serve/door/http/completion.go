package http

import (
	"net/http"

	"edged/core/protocol/backend"
	"edged/core/serve/dispatch"
)

// textAnswer is a completion of a text, or a chunk of one.
type textAnswer struct {
	ID      string       `json:"id"`
	Object  string       `json:"object"` // "text_completion"
	Created int64        `json:"created"`
	Model   string       `json:"model"`
	Choices []textChoice `json:"choices"`
	Usage   *usage       `json:"usage,omitempty"`
}

type textChoice struct {
	Index    int           `json:"index"`
	Text     string        `json:"text"`
	Finish   *string       `json:"finish_reason"`
	Logprobs *textLogprobs `json:"logprobs"`
}

type textLogprobs struct {
	Tokens   []string             `json:"tokens"`
	Logprobs []float32            `json:"token_logprobs"`
	Top      []map[string]float32 `json:"top_logprobs"`
	Offsets  []int                `json:"text_offset"` // in characters
}

// completion answers POST /v1/completions.
func (d *Door) completion(w http.ResponseWriter, r *http.Request) {
	a := post(d, w, r, openAI, d.completionBody)
	if a == nil {
		return
	}
	if a.stream {
		d.stream(w, r, openAI, a.req, false, &textStream{a: a})
		return
	}
	l, err := d.wait(w, r, a.req)
	switch {
	case err != nil:
		refuseError(w, openAI, err)
	case l != nil:
		out := &textAnswer{ID: a.id, Object: "text_completion", Created: a.created, Model: a.model.ID, Usage: usageOf(l.Usage)}
		for i, c := range l.Choices {
			out.Choices = append(out.Choices, textChoice{Index: i, Text: c.Text, Finish: finishOf(c, nil), Logprobs: textLogprobsOf(l, c)})
		}
		writeJSON(w, http.StatusOK, out)
	}
}

func textLogprobsOf(l *dispatch.Last, c backend.Choice) *textLogprobs {
	if !l.Logprobs {
		return nil
	}
	out := &textLogprobs{Tokens: []string{}, Logprobs: []float32{}, Top: []map[string]float32{}, Offsets: []int{}}
	at := 0
	for _, step := range c.Logprobs {
		text := tokenText(l.Pieces[step.ID])
		out.Tokens, out.Logprobs, out.Offsets = append(out.Tokens, text), append(out.Logprobs, step.Logprob), append(out.Offsets, at)
		at += len([]rune(text))
		top := map[string]float32{}
		for _, t := range step.Top {
			top[tokenText(l.Pieces[t.ID])] = t.Logprob
		}
		out.Top = append(out.Top, top)
	}
	return out
}

// textStream writes chunks of a completion.
type textStream struct{ a *asked }

func (s *textStream) chunk(o *out, choices ...textChoice) {
	o.json(&textAnswer{ID: s.a.id, Object: "text_completion", Created: s.a.created, Model: s.a.model.ID, Choices: choices})
}

func (s *textStream) begin(*out) {}

func (s *textStream) text(o *out, choice int, text string) {
	s.chunk(o, textChoice{Index: choice, Text: text})
}

func (s *textStream) end(o *out, l *dispatch.Last) {
	for i, c := range l.Choices {
		s.chunk(o, textChoice{Index: i, Finish: finishOf(c, nil), Logprobs: textLogprobsOf(l, c)})
	}
	if s.a.usage {
		o.json(&textAnswer{ID: s.a.id, Object: "text_completion", Created: s.a.created, Model: s.a.model.ID, Choices: []textChoice{}, Usage: usageOf(l.Usage)})
	}
	o.done()
}

func (s *textStream) fail(o *out, err *dispatch.Error) {
	o.json(bodyOf(openAI, statusOf(err.Code), err))
}
