// Package monitor is the optional HTTP listener on which a machine can be watched: /metrics for Prometheus,
// /healthz and /readyz, and Go's profiles under /debug/pprof/ where they are asked for. docs/observability.md
// lists the metrics.
//
// It must not know how figures come about: it asks for them at each scrape. It listens on loopback only, and
// everything may be called concurrently.
package monitor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"edged/core/machine"
	"edged/core/protocol/backend"
	"edged/core/serve/dispatch"
)

// Figures is a snapshot of the node.
type Figures struct {
	Ready  bool   // the model answers and the broker is connected
	Reason string // why it is not Ready
	Online bool   // the broker is connected

	Requests dispatch.Stats
	Backend  *backend.Stats   // nil: it does not answer
	Lives    map[string]int   // starts of each plugin
	Resident map[string]int64 // bytes of each process
	Adapters int              // that are served

	Power     *machine.Power // nil: the machine does not tell
	CPUTempC  *float64       // nil: likewise
	Threads   int            // that the model decodes with where nothing holds the clock down
	StartedAt time.Time
}

// Options say what is served.
type Options struct {
	Listen  string // host:port of the loopback interface
	PProf   bool   // Go's profiles too
	Version string // of edged
	// Figures gathers what there is to know, within ctx.
	Figures func(ctx context.Context) Figures
	Log     *slog.Logger
}

// Bounds of a listener that nobody but this machine reaches.
const (
	headerTime = 5 * time.Second
	scrapeTime = 10 * time.Second
	maxHeader  = 16 << 10
	maxScrapes = 4 // at the same time
)

// Listener serves until Run's ctx ends.
type Listener struct {
	o    Options
	ln   net.Listener
	http *http.Server
}

// Listen opens the address.
func Listen(ctx context.Context, o Options) (*Listener, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", o.Listen)
	if err != nil {
		return nil, fmt.Errorf("monitor: metrics.listen: %w", err)
	}
	l := &Listener{o: o, ln: ln}
	l.http = &http.Server{
		Handler: l.handler(), ReadHeaderTimeout: headerTime, ReadTimeout: headerTime, IdleTimeout: time.Minute,
		MaxHeaderBytes: maxHeader, ErrorLog: slog.NewLogLogger(o.Log.Handler(), slog.LevelDebug),
	}
	return l, nil
}

// Addr is the address that is listened on.
func (l *Listener) Addr() string { return l.ln.Addr().String() }

// Run serves until ctx ends.
func (l *Listener) Run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { _ = l.http.Close() }) // Serve says what is wrong
	defer stop()
	if err := l.http.Serve(l.ln); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("monitor: %w", err)
	}
	return nil
}

func (l *Listener) handler() http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		&collector{figures: l.o.Figures, version: l.o.Version},
	)
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{MaxRequestsInFlight: maxScrapes, Timeout: scrapeTime}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, r *http.Request) {
		l.figures(r.Context()) // takes the locks of the service: where these are stuck, there is no answer
		answer(w, http.StatusOK, "ok")
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		f := l.figures(r.Context())
		if !f.Ready {
			answer(w, http.StatusServiceUnavailable, f.Reason)
			return
		}
		answer(w, http.StatusOK, "ready")
	})
	if l.o.PProf {
		mux.HandleFunc("GET /debug/pprof/", pprof.Index)
		mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
		mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	}
	return local(mux)
}

func (l *Listener) figures(ctx context.Context) Figures {
	ctx, cancel := context.WithTimeout(ctx, scrapeTime)
	defer cancel()
	return l.o.Figures(ctx)
}

func answer(w http.ResponseWriter, code int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(code)
	_, _ = fmt.Fprintln(w, text) // the client may have gone
}

// local refuses what a browser was sent to by a page of somebody else: such a request names that page's host (DNS
// rebinding), while people and Prometheus name this machine by its address or as localhost.
func local(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, _, err := net.SplitHostPort(r.Host)
		if err != nil {
			host = r.Host
		}
		if host != "localhost" && net.ParseIP(host) == nil {
			answer(w, http.StatusForbidden, "name this listener by its address or as localhost")
			return
		}
		next.ServeHTTP(w, r)
	})
}
