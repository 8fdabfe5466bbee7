package monitor_test

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"edged/core/machine"
	"edged/core/protocol/backend"
	"edged/core/serve/dispatch"
	"edged/core/serve/monitor"
)

// serve starts a listener on a free port and returns how to ask it.
func serve(t *testing.T, pprof bool, f monitor.Figures) func(path, host string) (int, string) {
	t.Helper()
	l, err := monitor.Listen(t.Context(), monitor.Options{
		Listen: "127.0.0.1:0", PProf: pprof, Version: "1.2", Figures: func(context.Context) monitor.Figures { return f },
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- l.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return func(path, host string) (int, string) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+l.Addr()+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = host
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(body)
	}
}

func TestMetrics(t *testing.T) {
	temp := 61.5
	f := monitor.Figures{
		Ready: true, Online: true, CPUTempC: &temp, Power: &machine.Power{UnderVoltage: true}, StartedAt: time.Unix(1000, 0),
		Lives: map[string]int{"backend": 2}, Resident: map[string]int64{"daemon": 7}, Adapters: 3,
		Backend: &backend.Stats{KVPages: 10, KVPagesUsed: 2, KVPagesCached: 3, PrefixHits: 4, PrefixTokens: 50, ThreadsDecode: 2, DecodeTime: time.Second},
	}
	f.Requests = dispatch.Stats{Waiting: 1, Finished: 9, Tokens: 100}
	f.Requests.FirstTokens.Counts[1], f.Requests.FirstTokens.Counts[len(dispatch.FirstTokenBounds)] = 2, 1
	get := serve(t, false, f)
	code, body := get("/metrics", "localhost")
	if code != http.StatusOK {
		t.Fatalf("%d: %s", code, body)
	}
	for _, want := range []string{
		`edged_build_info{version="1.2"} 1`, "edged_ready 1", "edged_requests_waiting 1", `edged_requests_total{result="answered"} 9`,
		`edged_tokens_total{kind="generated"} 100`, `edged_first_token_seconds_bucket{le="0.05"} 0`, `edged_first_token_seconds_bucket{le="0.1"} 2`,
		`edged_first_token_seconds_bucket{le="300"} 2`, "edged_first_token_seconds_count 3", `edged_backend_kv_pages{state="free"} 5`,
		"edged_backend_prefix_hits_total 4", "edged_backend_prefix_tokens_total 50", "edged_backend_decode_threads 2",
		"edged_cpu_temperature_celsius 61.5", `edged_cpu_limited{reason="under_voltage"} 1`, `edged_cpu_limited{reason="throttled"} 0`,
		`edged_plugin_starts_total{plugin="backend"} 2`, `edged_resident_memory_bytes{process="daemon"} 7`, "edged_adapters 3",
		"edged_start_time_seconds 1000", "go_goroutines", "process_open_fds",
	} {
		if !strings.Contains(body, want+"\n") && !strings.Contains(body, "\n"+want+" ") {
			t.Errorf("no line %q", want)
		}
	}
	if t.Failed() {
		t.Log(body)
	}
	if code, _ := get("/debug/pprof/", "localhost"); code != http.StatusNotFound {
		t.Errorf("profiles that nobody asked for: %d", code)
	}
	if code, _ := get("/metrics", "evil.example"); code != http.StatusForbidden {
		t.Errorf("a page of another host reads the metrics: %d", code)
	}
}

func TestHealth(t *testing.T) {
	get := serve(t, true, monitor.Figures{Reason: "the backend is starting"})
	if code, body := get("/healthz", "127.0.0.1:1"); code != http.StatusOK || body != "ok\n" {
		t.Errorf("healthz: %d %q", code, body)
	}
	if code, body := get("/readyz", "[::1]:1"); code != http.StatusServiceUnavailable || body != "the backend is starting\n" {
		t.Errorf("readyz: %d %q", code, body)
	}
	if code, body := get("/debug/pprof/", "localhost"); code != http.StatusOK || !strings.Contains(body, "goroutine") {
		t.Errorf("profiles: %d %q", code, body)
	}
	if code, body := serve(t, false, monitor.Figures{Ready: true})("/readyz", "localhost"); code != http.StatusOK || body != "ready\n" {
		t.Errorf("readyz: %d %q", code, body)
	}
}
