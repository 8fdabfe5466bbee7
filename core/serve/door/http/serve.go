package http

import (
	"context"
	"net"
	"net/http"
	"time"

	"edged/core/serve/dispatch"
	"edged/core/serve/door/stream"
)

// client returns the name that a request is counted for: the address that it comes from.
func client(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		host = r.RemoteAddr
	}
	return "http:" + host
}

// submit gives a request to the dispatcher. What it returns must be called when nobody waits any more: it
// cancels a request that has not ended.
func (d *Door) submit(w http.ResponseWriter, r *http.Request, req *dispatch.Request) (s *stream.Sink, leave func(), err *dispatch.Error) {
	req.Door, req.Fleeting = DoorName, true
	req.Client, req.ID = client(r), newID("http-")
	w.Header().Set("X-Request-Id", req.ID) // the log's request_id
	s = stream.New(req.Options.N)
	if err := d.o.Dispatcher.Submit(r.Context(), req, s); err != nil {
		return nil, func() {}, asError(err)
	}
	return s, func() {
		if s.Take().Last == nil {
			d.o.Dispatcher.Cancel(req.Client, req.ID)
		}
	}, nil
}

// wait runs a request to its last event. nil, nil: the client has gone.
func (d *Door) wait(w http.ResponseWriter, r *http.Request, req *dispatch.Request) (*dispatch.Last, *dispatch.Error) {
	s, leave, err := d.submit(w, r, req)
	if err != nil {
		return nil, err
	}
	defer leave()
	for {
		select {
		case <-s.Wake():
			if n := s.Take(); n.Last != nil {
				return n.Last, failure(n.Last)
			}
		case <-r.Context().Done():
			return nil, nil
		}
	}
}

// failure is the error of a last event. A cancel that did not come from here leaves half an answer, which
// nobody is to take for a whole one.
func failure(l *dispatch.Last) *dispatch.Error {
	switch {
	case l.Error != nil:
		return l.Error
	case l.Finish == finishCancelled:
		return &dispatch.Error{Code: codeCancelled, Message: "the request was cancelled on the node"}
	}
	return nil
}

const finishCancelled = "cancelled"

// shape writes one kind of stream.
type shape interface {
	// begin writes what comes before the first text.
	begin(o *out)
	// text writes a piece of a choice's text.
	text(o *out, choice int, text string)
	// end writes what comes after the last text.
	end(o *out, l *dispatch.Last)
	// fail writes an error after the beginning.
	fail(o *out, err *dispatch.Error)
}

// Times of a stream.
const (
	quiet = 10 * time.Second // without anything to say: then a sign of life
)

// stream runs a request and writes its answer as it comes. Until the backend has begun to read the prompt, an
// error is an answer of its own with a status; from then on, and after a sign of life, it is part of the
// stream.
func (d *Door) stream(w http.ResponseWriter, r *http.Request, f form, req *dispatch.Request, tools bool, sh shape) {
	s, leave, err := d.submit(w, r, req)
	if err != nil {
		refuseError(w, f, err)
		return
	}
	defer leave()
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	o := &out{w: w, control: http.NewResponseController(w), most: d.o.Config.WriteTimeout, form: f, gone: cancel}
	veils := make([]stream.Veil, max(req.Options.N, 1))
	for i := range veils {
		veils[i].Tools = tools
	}
	alive := time.NewTicker(quiet)
	defer alive.Stop()
	begun := false
	begin := func() {
		if !begun {
			begun = true
			o.open()
			sh.begin(o)
		}
	}
	for {
		select {
		case <-s.Wake():
			n := s.Take()
			if n.Last != nil {
				if err := failure(n.Last); err != nil {
					if !o.opened {
						refuseError(w, f, err)
						return
					}
					sh.fail(o, err)
					o.flush()
					return
				}
			}
			if n.Began || n.Last != nil {
				begin()
			}
			if th, ok := sh.(thinker); ok {
				for i, text := range n.Thoughts {
					if text != "" {
						th.thought(o, i, text)
					}
				}
			}
			for i, text := range n.Texts {
				if text = veils[i].Pass(text, n.Mark); text != "" {
					sh.text(o, i, text)
				}
			}
			if n.Last != nil {
				for i := range min(len(veils), len(n.Last.Choices)) {
					whole := n.Last.Choices[i].Text
					if i < len(n.Last.Beside) {
						whole = n.Last.Beside[i]
					}
					if text := veils[i].Rest(whole); text != "" {
						sh.text(o, i, text)
					}
				}
				sh.end(o, n.Last)
				o.flush()
				return
			}
			o.flush()
			alive.Reset(quiet)
		case <-alive.C:
			if f == openAI {
				o.open()
				o.comment()
				o.flush()
			}
		case <-ctx.Done():
			return
		}
	}
}

// contentOf returns the text of an answer beside its tool calls.
func contentOf(l *dispatch.Last, i int) string {
	if i < len(l.Beside) {
		return l.Beside[i]
	}
	return l.Choices[i].Text
}

// thinker is a shape that has a place for what a model thinks before it answers. The others leave it out.
type thinker interface {
	thought(o *out, choice int, text string)
}
