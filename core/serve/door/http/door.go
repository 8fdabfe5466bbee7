// Package http is edged's door to programs that talk to OpenAI's or Ollama's servers: it turns their HTTP requests into
// requests for a dispatcher, and the dispatcher's events into answers and streams of the form that each asks for.
//
// It must not know how requests are queued or computed. What it cannot carry it refuses by the field's name;
// what clients always send, and what says nothing about the answer, it takes (docs/http.md lists both). A
// request lives as long as its connection: one whose client has gone is cancelled, and none is journalled.
//
// The methods of Door may be called concurrently.
package http

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"

	"edged/core/config"
	"edged/core/serve/dispatch"
	"edged/core/serve/door/fields"
	"edged/core/serve/door/http/upload"
)

// DoorName is the Door of the requests that come from here.
const DoorName = "http"

// Node tells what there is to talk to.
type Node interface {
	// Models lists what a request's model may name: the default first, then the adapters on it, then other
	// models. None: the default was not loaded yet.
	Models() []Model
	// Why says why a model that Models does not list is not served, as a sentence's end; "": there is none of
	// that name.
	Why(name string) string
}

// Model is one name that a request may ask for.
type Model struct {
	ID         string // as it stands in lists, and in requests
	Model      string // the model that it stands for, in requests; "": the default one
	Adapter    string // the adapter that the name stands for; "": the model itself
	Title      string // what the model's own files call it
	Arch       string
	Kind       string   // "decoder", "encoder" or "encoder-decoder"; "": not told
	Tasks      []string // what it is for: those of package backend; nil: not told
	Format     string   // of most weights, such as "Q4_0"
	Digest     string   // sha256 of its content, hexadecimal
	Loaded     bool
	Context    int // positions that are served, or that it was made for where it is not loaded
	Trained    int // positions that it was trained with
	Parameters int64
	Bytes      int64 // of its weights
	Template   string
	Since      time.Time // served since then
}

// Options configures a Door.
type Options struct {
	Config     config.HTTP // section http; Listen is not empty
	Name       string      // of the node
	Version    string      // of edged
	Dispatcher dispatch.Submitter
	Node       Node
	// State returns the node's state for the page, as a value that can be written as JSON; nil: there is no page.
	State func(ctx context.Context) any
	// Prompts are the presets that a request may name. Shown returns their description, as a value that can
	// be written as JSON; nil: there are none.
	Prompts fields.Prompts
	Shown   func() any
	// Upload takes adapters; nil: none are taken.
	Upload *upload.Receiver
	Log    *slog.Logger
}

// Door is a listener and the requests that came through it.
type Door struct {
	o       Options
	log     *slog.Logger
	ln      net.Listener
	server  *http.Server
	token   [sha256.Size]byte // hash of the credential
	guarded bool              // a credential is asked for
	hosts   map[string]bool   // names of this node
	bodies  budget
}

// Listen opens the address and reads the credential.
func Listen(ctx context.Context, o Options) (*Door, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	d := &Door{o: o, log: o.Log, hosts: map[string]bool{}, bodies: budget{most: max(4*int64(o.Config.MaxBody), 4<<20)}}
	if o.Config.TokenFile != "" {
		secret, err := config.ReadSecret(o.Config.TokenFile)
		if err != nil {
			return nil, fmt.Errorf("http.token_file: %w", err)
		}
		d.token, d.guarded = sha256.Sum256(secret), true
	}
	machine, _ := os.Hostname() // without a name there is one name less
	for _, name := range append([]string{"localhost", o.Name, machine}, o.Config.Hosts...) {
		d.hosts[hostKey(name)] = true
		d.hosts[hostKey(name+".local")] = true
	}
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", o.Config.Listen)
	if err != nil {
		return nil, fmt.Errorf("http.listen: %w", err)
	}
	d.ln = limit(ln, o.Config.MaxConnections)
	d.server = &http.Server{
		Handler: d, ReadHeaderTimeout: o.Config.ReadTimeout, IdleTimeout: o.Config.IdleTimeout,
		// For what sets no time of its own, the page's files and the ends of streams: an answer may begin
		// long after this has passed, and sets it anew for each of its writes.
		WriteTimeout:   o.Config.WriteTimeout,
		MaxHeaderBytes: maxHeader, ErrorLog: slog.NewLogLogger(o.Log.Handler(), slog.LevelDebug),
	}
	return d, nil
}

// maxHeader bounds a request's line and headers together.
const maxHeader = 32 << 10

// Addr is the address that is listened on.
func (d *Door) Addr() string { return d.ln.Addr().String() }

// farewell is how long answers may take to leave when the door closes: they are complete by then.
const farewell = 2 * time.Second

// Run serves until ctx ends.
func (d *Door) Run(ctx context.Context) error {
	closed := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(closed)
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), farewell)
		defer cancel()
		if d.server.Shutdown(ctx) != nil {
			_ = d.server.Close() // clients that have not read their answer by now will not
		}
	})
	err := d.server.Serve(d.ln)
	if !stop() {
		<-closed
	}
	if !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("http.listen: %w", err)
	}
	return nil
}
