package wyoming

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"edged/core/config"
	"edged/core/protocol/backend"
	"edged/core/serve/dispatch"
)

// fake is a dispatcher whose answers a test scripts.
type fake struct {
	refuse    *dispatch.Error
	play      func(req *dispatch.Request, sink dispatch.Sink)
	cancelled chan string

	mu       sync.Mutex
	requests []*dispatch.Request
}

func (f *fake) Submit(_ context.Context, req *dispatch.Request, sink dispatch.Sink) error {
	if f.refuse != nil {
		return f.refuse
	}
	f.mu.Lock()
	f.requests = append(f.requests, req)
	f.mu.Unlock()
	go f.play(req, sink)
	return nil
}

func (f *fake) Cancel(_, id string) bool {
	f.cancelled <- id
	return true
}

func answers(texts ...string) func(*dispatch.Request, dispatch.Sink) {
	return func(req *dispatch.Request, s dispatch.Sink) {
		for _, text := range texts {
			s.Event(req, dispatch.Event{Attempt: 1, Delta: &dispatch.Delta{Text: text}})
		}
		s.Event(req, dispatch.Event{Attempt: 1, Last: &dispatch.Last{Finish: "stop", Choices: []backend.Choice{{Text: strings.Join(texts, ""), Finish: "stop"}}}})
	}
}

type house struct {
	t    *testing.T
	fake *fake
	door *Door
	stop func()
}

func open(t *testing.T) *house {
	t.Helper()
	f := &fake{play: answers("It is", " on."), cancelled: make(chan string, 8)}
	c := config.Default().Wyoming
	c.Listen, c.System = "127.0.0.1:0", "Be brief."
	d, err := Listen(t.Context(), Options{Config: c, Name: "pi", Version: "1", Dispatcher: f, Model: func() string { return "tiny" }})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	h := &house{t, f, d, sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})}
	t.Cleanup(h.stop)
	return h
}

// talk is a connection.
type talk struct {
	net.Conn

	t *testing.T
	r *bufio.Reader
}

func (h *house) dial() *talk {
	h.t.Helper()
	conn, err := net.Dial("tcp", h.door.Addr())
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		h.t.Fatal(err)
	}
	return &talk{conn, h.t, bufio.NewReader(conn)}
}

func (c *talk) say(text string) {
	c.t.Helper()
	if _, err := c.Write([]byte(text)); err != nil {
		c.t.Fatal(err)
	}
}

// hear reads an event, written as its type and data.
func (c *talk) hear() string {
	c.t.Helper()
	e, err := readEvent(c.r)
	if err != nil {
		return "end"
	}
	data, err := json.Marshal(e.data)
	if err != nil {
		c.t.Fatal(err)
	}
	return e.kind + " " + string(data)
}

func transcript(text string) string {
	data := fmt.Sprintf(`{"text":%q,"language":"en","context":{"conversation_id":"1"}}`, text)
	return fmt.Sprintf("{\"type\":\"transcript\",\"version\":\"1.10.2\",\"data_length\":%d}\n%s", len(data), data)
}

// TestConversation is what Home Assistant does: describe on a connection, and each question on one of its own.
func TestConversation(t *testing.T) {
	h := open(t)
	c := h.dial()
	c.say("{\"type\":\"describe\"}\n{\"type\":\"audio-chunk\",\"payload_length\":4}\nabcd{\"type\":\"ping\",\"data\":{\"text\":\"x\"}}\n")
	info := c.hear()
	for _, want := range []string{`"installed":true`, `"languages":["en"]`, `"supports_handled_streaming":true`, `"name":"tiny"`, `"attribution":{"name":"edged","url":""}`, `"asr":[]`} {
		if !strings.Contains(info, want) {
			t.Errorf("info lacks %s: %s", want, info)
		}
	}
	if got := c.hear(); got != `pong {"text":"x"}` {
		t.Errorf("%s", got)
	}
	c = h.dial()
	c.say(transcript("Is it on?"))
	var heard []string
	for len(heard) == 0 || heard[len(heard)-1] != "handled-stop null" {
		heard = append(heard, c.hear())
	}
	if heard[0] != "handled-start null" || heard[len(heard)-2] != `handled {"text":"It is on."}` || !strings.HasPrefix(heard[1], "handled-chunk ") {
		t.Errorf("%q", heard)
	}
	req := h.fake.requests[0]
	if string(req.Chat) != `[{"content":"Be brief.","role":"system"},{"content":"Is it on?","role":"user"}]` || !req.Fleeting || req.Client != "wyoming:127.0.0.1" {
		t.Errorf("%+v, %s", req, req.Chat)
	}
}

func TestFailures(t *testing.T) {
	h := open(t)
	c := h.dial()
	h.fake.refuse = &dispatch.Error{Code: dispatch.CodeQueueFull, Message: "64 requests wait already"}
	c.say(transcript("x"))
	if got := c.hear(); got != `error {"code":"queue_full","text":"64 requests wait already"}` {
		t.Errorf("%s", got)
	}
	h.fake.refuse = nil
	h.fake.play = func(req *dispatch.Request, s dispatch.Sink) {
		s.Event(req, dispatch.Event{Attempt: 1, Last: &dispatch.Last{Error: &dispatch.Error{Code: dispatch.CodeInternal, Message: "broken"}}})
	}
	c.say(transcript("x"))
	if got := c.hear(); got != `error {"code":"internal","text":"broken"}` {
		t.Errorf("%s", got)
	}
	c.say(transcript(""))
	if got := c.hear(); got != `not-handled {"text":""}` {
		t.Errorf("%s", got)
	}
	for _, bad := range []string{"GET / HTTP/1.1\r\n", "{\"type\":\"describe\",\"data_length\":99999999}\n", "{\"type\":\"x\",\"payload_length\":-1}\n", "{\"type\":\"x\",\"data_length\":2}\n[]", strings.Repeat("x", 32<<10)} {
		c := h.dial()
		c.say(bad)
		if got := c.hear(); got != "end" {
			t.Errorf("%.40q: %s", bad, got)
		}
	}
}

// TestGone proves that a question is dropped whose asker has gone.
func TestGone(t *testing.T) {
	h := open(t)
	started := make(chan string, 1)
	h.fake.play = func(req *dispatch.Request, s dispatch.Sink) {
		s.Event(req, dispatch.Event{Attempt: 1, Delta: &dispatch.Delta{Text: "It"}})
		started <- req.ID
	}
	c := h.dial()
	c.say(transcript("x"))
	id := <-started
	c.Close()
	if got := <-h.fake.cancelled; got != id {
		t.Errorf("%s was cancelled, want %s", got, id)
	}
}

// TestEnd proves that a door that closes lets an answer out that is on its way.
func TestEnd(t *testing.T) {
	h := open(t)
	started, go1 := make(chan struct{}), make(chan struct{})
	h.fake.play = func(req *dispatch.Request, s dispatch.Sink) {
		close(started)
		<-go1
		answers("done")(req, s)
	}
	c := h.dial()
	c.say(transcript("x"))
	<-started
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		h.stop()
	}()
	close(go1)
	heard := ""
	for got := c.hear(); got != "end"; got = c.hear() {
		heard += got + "\n"
	}
	<-ended
	if !strings.Contains(heard, `handled {"text":"done"}`) {
		t.Errorf("%s", heard)
	}
}

func TestAllowed(t *testing.T) {
	d := &Door{}
	for _, text := range []string{"192.168.1.0/24", "10.0.0.7", "fd00::/8"} {
		p, err := config.ParsePrefix(text)
		if err != nil {
			t.Fatal(err)
		}
		d.allow = append(d.allow, p)
	}
	for address, want := range map[string]bool{
		"127.0.0.1:1": true, "[::1]:1": true, "192.168.1.9:1": true, "[::ffff:192.168.1.9]:1": true, "192.168.2.9:1": false, "10.0.0.7:1": true, "10.0.0.8:1": false,
		"[fd12::1]:1": true, "[fe80::1%eth0]:1": false, "nonsense": false,
	} {
		if got := d.allowed(from(address)); got != want {
			t.Errorf("%s: %v", address, got)
		}
	}
}

// from is a connection from an address.
type from string

func (f from) RemoteAddr() net.Addr               { return f }
func (f from) Network() string                    { return "tcp" }
func (f from) String() string                     { return string(f) }
func (f from) Read([]byte) (int, error)           { return 0, net.ErrClosed }
func (f from) Write([]byte) (int, error)          { return 0, net.ErrClosed }
func (f from) Close() error                       { return nil }
func (f from) LocalAddr() net.Addr                { return f }
func (f from) SetDeadline(time.Time) error        { return nil }
func (f from) SetReadDeadline(time.Time) error    { return nil }
func (f from) SetWriteDeadline(t time.Time) error { return nil }

// FuzzEvent: any bytes are events or an end, within bounds.
func FuzzEvent(f *testing.F) {
	f.Add([]byte("{\"type\":\"describe\"}\n"))
	f.Add([]byte(transcript("x")))
	f.Add([]byte("{\"type\":\"a\",\"data\":{\"text\":\"x\"},\"data_length\":2,\"payload_length\":1}\n{}x"))
	f.Add([]byte("{\"type\":1}\n{\"data\":null}\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		r := bufio.NewReaderSize(strings.NewReader(string(in)), maxLine)
		for {
			e, err := readEvent(r)
			if err != nil {
				return
			}
			if _, err := encode(e.kind, e.data); err != nil {
				t.Errorf("%q cannot be written: %v", e.kind, err)
			}
		}
	})
}
