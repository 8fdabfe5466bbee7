package http

import (
	"bytes"
	"net/http"
	"time"

	"edged/core/serve/door/fields"
)

// out writes a stream: server-sent events for OpenAI's clients, lines of JSON for Ollama's. A write that does not get
// through within its time ends the request: who reads that slowly holds memory that others wait for.
type out struct {
	w       http.ResponseWriter
	control *http.ResponseController
	most    time.Duration
	form    form
	gone    func() // ends the request
	opened  bool
	buffer  bytes.Buffer
}

// open writes the headers, once.
func (o *out) open() {
	if o.opened {
		return
	}
	o.opened = true
	h := o.w.Header()
	if o.form == openAI {
		h.Set("Content-Type", "text/event-stream; charset=utf-8")
	} else {
		h.Set("Content-Type", "application/x-ndjson")
	}
	h.Set("X-Accel-Buffering", "no") // proxies that gather would make one piece of it
	o.w.WriteHeader(http.StatusOK)
}

// json adds a value: an event without a name, or a line.
func (o *out) json(v any) { o.event("", v) }

// event adds an event with a name.
func (o *out) event(name string, v any) {
	data, err := fields.Encode(v)
	if err != nil {
		o.gone() // the values are this package's own: it does not happen
		return
	}
	if o.form == openAI {
		if name != "" {
			o.buffer.WriteString("event: " + name + "\n")
		}
		o.buffer.WriteString("data: ")
	}
	o.buffer.Write(data)
	o.buffer.WriteByte('\n')
	if o.form == openAI {
		o.buffer.WriteByte('\n')
	}
}

// done adds the end mark of OpenAI's chunks.
func (o *out) done() { o.buffer.WriteString("data: [DONE]\n\n") }

// comment adds a line that no client looks at.
func (o *out) comment() { o.buffer.WriteString(": waiting\n\n") }

// flush sends what was added.
func (o *out) flush() {
	if o.buffer.Len() == 0 {
		return
	}
	_ = o.control.SetWriteDeadline(time.Now().Add(o.most)) // a connection that has none is a test's
	_, err := o.w.Write(o.buffer.Bytes())
	if err == nil {
		err = o.control.Flush()
	}
	o.buffer.Reset()
	if err != nil {
		o.gone()
	}
}
