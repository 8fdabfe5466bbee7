// Package wyoming is edged's door to voice assistants that speak the Wyoming protocol, such as Home Assistant: a handle
// service, which gets what a person said as text and answers with text, streamed.
//
// It must not know sound. The protocol has no credentials: beyond loopback only the addresses of
// wyoming.allow are served. A request lives as long as its connection, and is not journalled. The methods of
// Door may be called concurrently.
package wyoming

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"edged/core/config"
	"edged/core/serve/dispatch"
	"edged/core/serve/door/fields"
	"edged/core/serve/door/stream"
)

// DoorName is the Door of the requests that come from here.
const DoorName = "wyoming"

// Options configures a Door.
type Options struct {
	Config     config.Wyoming // section wyoming; Listen is not empty
	Name       string         // of the node
	Version    string         // of edged
	Dispatcher dispatch.Submitter
	Model      func() string // the name of the model that answers
	Log        *slog.Logger
}

// Bounds of connections.
const (
	maxConnections = 32
	idleTime       = time.Minute      // without a question
	writeTime      = 10 * time.Second // of an event
	farewell       = 2 * time.Second  // for answers that are on their way when the door closes
)

// Door is a listener and the requests that came through it.
type Door struct {
	o     Options
	log   *slog.Logger
	ln    net.Listener
	allow []netip.Prefix
	slots chan struct{}
}

// Listen opens the address.
func Listen(ctx context.Context, o Options) (*Door, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	d := &Door{o: o, log: o.Log, slots: make(chan struct{}, maxConnections)}
	for _, text := range o.Config.Allow {
		p, err := config.ParsePrefix(text)
		if err != nil {
			return nil, fmt.Errorf("wyoming.allow: %w", err)
		}
		d.allow = append(d.allow, p)
	}
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", o.Config.Listen)
	if err != nil {
		return nil, fmt.Errorf("wyoming.listen: %w", err)
	}
	d.ln = ln
	return d, nil
}

// Addr is the address that is listened on.
func (d *Door) Addr() string { return d.ln.Addr().String() }

// Run serves until ctx ends.
func (d *Door) Run(ctx context.Context) error {
	// Answers that are on their way may leave: they are complete by then.
	inner, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	stop := context.AfterFunc(ctx, func() {
		_ = d.ln.Close() // Accept says what is wrong
		time.AfterFunc(farewell, cancel)
	})
	defer stop()
	var conns sync.WaitGroup
	defer conns.Wait()
	for {
		conn, err := d.ln.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			if errors.Is(err, net.ErrClosed) {
				return fmt.Errorf("wyoming.listen: %w", err)
			}
			d.log.WarnContext(ctx, "the Wyoming door cannot accept", "err", err)
			select { // out of file descriptors: the loop must not spin
			case <-time.After(100 * time.Millisecond):
			case <-ctx.Done():
			}
			continue
		}
		if !d.allowed(conn) {
			d.log.WarnContext(
				ctx,
				"the Wyoming door was asked by an address that wyoming.allow does not hold",
				"remote",
				conn.RemoteAddr().String(),
			)
			_ = conn.Close()
			continue
		}
		select {
		case d.slots <- struct{}{}:
		default:
			_ = conn.Close()
			continue
		}
		conns.Go(func() {
			defer func() { <-d.slots }()
			d.serve(ctx, inner, conn)
		})
	}
}

// allowed tells whether an address is served: this machine's own, and those of wyoming.allow.
func (d *Door) allowed(conn net.Conn) bool {
	a, err := netip.ParseAddrPort(conn.RemoteAddr().String())
	if err != nil {
		return false
	}
	ip := a.Addr().Unmap().WithZone("")
	if ip.IsLoopback() {
		return true
	}
	for _, p := range d.allow {
		if p.Contains(ip) {
			return true
		}
	}
	return false
}

// serve answers one connection. When closing ends, it ends after the question that is being answered; when
// ctx ends, at once.
func (d *Door) serve(closing, ctx context.Context, conn net.Conn) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	events := make(chan event, 4)
	var reader sync.WaitGroup
	defer reader.Wait()
	defer conn.Close() //nolint:errcheck // it ends the reader
	reader.Go(func() {
		// Its end is the client's, also while a question is answered: nobody waits for the answer then.
		defer cancel()
		r := bufio.NewReaderSize(conn, maxLine)
		for {
			e, err := readEvent(r)
			if err != nil {
				d.log.DebugContext(ctx, "a Wyoming connection ended", "err", err)
				return
			}
			select {
			case events <- e:
			case <-ctx.Done():
				return
			}
		}
	})
	idle := time.NewTimer(idleTime)
	defer idle.Stop()
	for {
		select {
		case e := <-events:
			if err := d.handle(ctx, conn, e); err != nil {
				d.log.DebugContext(ctx, "a Wyoming connection ended", "err", err)
				return
			}
			idle.Reset(idleTime)
		case <-idle.C:
			return
		case <-closing.Done():
			return
		case <-ctx.Done():
			return
		}
	}
}

// handle answers one event. Events of other services are ignored.
func (d *Door) handle(ctx context.Context, conn net.Conn, e event) error {
	switch e.kind {
	case "describe":
		return send(conn, "info", d.info())
	case "ping":
		return send(conn, "pong", map[string]string{"text": e.text("text")})
	case "transcript":
		return d.answer(ctx, conn, e.text("text"))
	}
	return nil
}

func send(conn net.Conn, kind string, data any) error {
	b, err := encode(kind, data)
	if err != nil {
		return err
	}
	if err := conn.SetWriteDeadline(time.Now().Add(writeTime)); err != nil {
		return err
	}
	_, err = conn.Write(b)
	return err
}

// fail tells why there is no answer.
func fail(conn net.Conn, err *dispatch.Error) error {
	return send(conn, "error", map[string]string{"text": err.Message, "code": string(err.Code)})
}

// answer asks the model and sends its answer: as it comes, and then whole, since there are clients that wait
// for that alone.
func (d *Door) answer(ctx context.Context, conn net.Conn, question string) error {
	if question == "" {
		return send(conn, "not-handled", map[string]string{"text": ""})
	}
	chat := []map[string]string{{"role": "user", "content": question}}
	if d.o.Config.System != "" {
		chat = append([]map[string]string{{"role": "system", "content": d.o.Config.System}}, chat...)
	}
	messages, err := fields.Encode(chat)
	if err != nil {
		return err
	}
	host, _, _ := net.SplitHostPort(conn.RemoteAddr().String()) // "" is a client too
	req := &dispatch.Request{Door: DoorName, Fleeting: true, Client: "wyoming:" + host, ID: newID(), Chat: messages, Stream: true}
	s := stream.New(1)
	if err := d.o.Dispatcher.Submit(ctx, req, s); err != nil {
		e, ok := errors.AsType[*dispatch.Error](err)
		if !ok {
			e = &dispatch.Error{Code: dispatch.CodeInternal, Message: err.Error()}
		}
		return fail(conn, e)
	}
	defer func() {
		if s.Take().Last == nil {
			d.o.Dispatcher.Cancel(req.Client, req.ID)
		}
	}()
	begun := false
	for {
		select {
		case <-s.Wake():
		case <-ctx.Done():
			return ctx.Err()
		}
		n := s.Take()
		if n.Last != nil && n.Last.Error != nil {
			return fail(conn, n.Last.Error)
		}
		if !begun {
			begun = true
			if err := send(conn, "handled-start", nil); err != nil {
				return err
			}
		}
		if n.Texts[0] != "" {
			if err := send(conn, "handled-chunk", map[string]string{"text": n.Texts[0]}); err != nil {
				return err
			}
		}
		if n.Last == nil {
			continue
		}
		text := ""
		if len(n.Last.Choices) > 0 {
			text = n.Last.Choices[0].Text
		}
		if err := send(conn, "handled", map[string]string{"text": text}); err != nil {
			return err
		}
		return send(conn, "handled-stop", nil)
	}
}

// info describes the service.
func (d *Door) info() any {
	type attribution struct {
		Name string `json:"name"`
		URL  string `json:"url"`
	}
	type artifact struct {
		Name        string      `json:"name"`
		Attribution attribution `json:"attribution"`
		Installed   bool        `json:"installed"`
		Description string      `json:"description"`
		Version     string      `json:"version"`
		Languages   []string    `json:"languages,omitempty"`
		Models      []artifact  `json:"models,omitempty"`
		Streams     bool        `json:"supports_handled_streaming,omitempty"`
	}
	by := attribution{Name: "edged"}
	model := artifact{
		Name:        d.o.Model(),
		Attribution: by,
		Installed:   true,
		Description: "the model of " + d.o.Name,
		Version:     d.o.Version,
		Languages:   d.o.Config.Languages,
	}
	return map[string]any{"handle": []artifact{{
		Name: "edged " + d.o.Name, Attribution: by, Installed: true, Description: "a language model on " + d.o.Name, Version: d.o.Version,
		Models: []artifact{model}, Streams: true,
	}}, "asr": []any{}, "tts": []any{}, "intent": []any{}, "wake": []any{}, "mic": []any{}, "snd": []any{}}
}

// newID is an identifier that nobody can guess.
func newID() string {
	var b [12]byte
	_, _ = rand.Read(b[:]) // it never fails
	return "wyoming-" + hex.EncodeToString(b[:])
}
