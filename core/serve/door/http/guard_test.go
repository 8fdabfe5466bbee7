package http

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"edged/core/serve/dispatch"
)

func TestHosts(t *testing.T) {
	h := open(t, func(o *Options) { o.Config.Hosts = []string{"edge.example"} })
	for host, status := range map[string]int{
		"localhost": 200, "LOCALHOST:80": 200, "127.0.0.1:1": 200, "192.168.1.2": 200, "[::1]:80": 200, "[fe80::1%25eth0]": 200, "pi": 200, "pi.local:80": 200, "pi.local.": 200,
		"edge.example": 200, "evil.example": 403, "localhost.evil.example": 403, "127.0.0.1.evil.example": 403, "edge.example.evil": 403,
	} {
		if resp, _ := h.do(http.MethodGet, "/v1/models", "", "Host", host); resp.StatusCode != status {
			t.Errorf("Host %s: %d, want %d", host, resp.StatusCode, status)
		}
	}
}

// TestOrigins proves that no page of another origin gets an answer, nor leave to read one.
func TestOrigins(t *testing.T) {
	h := open(t, nil)
	own := strings.TrimPrefix(h.url, "http://")
	for _, test := range []struct {
		method, key, value string
		status             int
	}{
		{"POST", "Origin", "http://" + own, 200},
		{"POST", "Origin", "http://evil.example", 403},
		{"POST", "Origin", "null", 403},
		{"OPTIONS", "Origin", "http://evil.example", 403},
		{"POST", "Sec-Fetch-Site", "cross-site", 403},
		{"POST", "Sec-Fetch-Site", "same-origin", 200},
	} {
		resp, _ := h.do(test.method, "/v1/chat/completions", `{`+hello+`}`, test.key, test.value)
		if resp.StatusCode != test.status {
			t.Errorf("%s with %s %s: %d, want %d", test.method, test.key, test.value, resp.StatusCode, test.status)
		}
		for name := range resp.Header {
			if strings.HasPrefix(name, "Access-Control-") {
				t.Errorf("the answer has the header %s", name)
			}
		}
	}
}

func TestToken(t *testing.T) {
	h := open(t, func(o *Options) { o.Config.TokenFile = write(t, "secret-of-tests\n") })
	for header, status := range map[string]int{
		"": 401, "Bearer": 401, "Bearer ": 401, "Bearer secret-of-test": 401, "Basic secret-of-tests": 401, "Bearer secret-of-tests": 200, "bearer secret-of-tests": 200,
	} {
		for _, path := range []string{"/v1/models", "/api/tags"} {
			resp, text := h.do(http.MethodGet, path, "", "Authorization", header)
			if resp.StatusCode != status || (status == 401) != (resp.Header.Get("WWW-Authenticate") != "") || strings.Contains(text, "secret-of-tests") {
				t.Errorf("%q: %d %s", header, resp.StatusCode, text)
			}
		}
	}
	if resp, _ := h.do(http.MethodGet, "/health", ""); resp.StatusCode != http.StatusOK {
		t.Errorf("/health: %d", resp.StatusCode)
	}
	o := Options{Config: h.door.o.Config, Node: models()}
	o.Config.TokenFile = write(t, "")
	if _, err := Listen(t.Context(), o); err == nil || !strings.Contains(err.Error(), "is empty") {
		t.Errorf("an empty token file: %v", err)
	}
}

func TestMethods(t *testing.T) {
	h := open(t, nil)
	for _, test := range []struct {
		method, path string
		status       int
		allow        string
	}{
		{"GET", "/v1/chat/completions", 405, "POST, OPTIONS"},
		{"DELETE", "/v1/models", 405, "GET, HEAD, OPTIONS"},
		{"OPTIONS", "/v1/chat/completions", 204, "POST, OPTIONS"},
		{"HEAD", "/", 200, ""},
		{"HEAD", "/v1/models", 200, ""},
		{"GET", "/v1/models/pirate", 200, ""},
		{"GET", "/v1/models/nobody", 404, ""},
		{"GET", "/models", 200, ""},
		{"GET", "/health", 200, ""},
		{"GET", "/v1/nothing", 404, ""},
	} {
		if resp, _ := h.do(test.method, test.path, ""); resp.StatusCode != test.status || resp.Header.Get("Allow") != test.allow {
			t.Errorf("%s %s: %d, Allow %q", test.method, test.path, resp.StatusCode, resp.Header.Get("Allow"))
		}
	}
}

func TestBodyLimits(t *testing.T) {
	h := open(t, func(o *Options) { o.Config.MaxBody, o.Config.ReadTimeout = 1024, 200*time.Millisecond })
	long := `{"messages":[{"role":"user","content":"` + strings.Repeat("x", 2000) + `"}]}`
	if resp, text := h.do("POST", "/v1/chat/completions", long); resp.StatusCode != 413 {
		t.Errorf("%d %s", resp.StatusCode, text)
	}
	// Without a length.
	req, err := http.NewRequestWithContext(t.Context(), "POST", h.url+"/v1/chat/completions", io.MultiReader(strings.NewReader(long)))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 413 {
		t.Errorf("a body without a length: %d", resp.StatusCode)
	}
	if resp, _ := h.do("POST", "/v1/chat/completions", `{}`, "Content-Encoding", "gzip"); resp.StatusCode != 415 {
		t.Errorf("a packed body: %d", resp.StatusCode)
	}
	// One that does not come whole.
	conn := dial(t, h)
	fmt.Fprintf(conn, "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{")
	if status := readStatus(t, conn); status != 408 {
		t.Errorf("half a body: %d", status)
	}
	// Headers that do not end.
	conn = dial(t, h)
	fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: localhost\r\nX: ")
	if _, err := io.ReadAll(conn); err != nil {
		t.Errorf("half a header: %v", err)
	}
	conn = dial(t, h)
	fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: localhost\r\nX: %s\r\n\r\n", strings.Repeat("x", 64<<10))
	if status := readStatus(t, conn); status != 431 {
		t.Errorf("a long header: %d", status)
	}
}

func TestConnections(t *testing.T) {
	h := open(t, func(o *Options) { o.Config.MaxConnections = 2 })
	held := []net.Conn{dial(t, h), dial(t, h)}
	for _, c := range held { // so that they are accepted
		fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
		if status := readStatus(t, c); status != 200 {
			t.Fatalf("%d", status)
		}
	}
	if status := readStatus(t, dial(t, h)); status != 503 {
		t.Errorf("the third connection: %d", status)
	}
	held[0].Close()
	for try := 0; ; try++ { // until the server has noticed
		c := dial(t, h)
		fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
		if readStatus(t, c) == 200 {
			break
		}
		if try == 500 {
			t.Fatal("a place is not given back")
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// TestNotRead proves that nobody keeps a connection by asking and not reading, not even who has no token.
func TestNotRead(t *testing.T) {
	for _, path := range []string{"/page.js", "/"} {
		t.Run(path, func(t *testing.T) {
			h := open(t, func(o *Options) {
				o.Config.TokenFile, o.Config.Page = write(t, "secret"), true
				o.Config.MaxConnections, o.Config.WriteTimeout = 1, 100*time.Millisecond
			})
			c := dial(t, h)
			ask := []byte(strings.Repeat("GET "+path+" HTTP/1.1\r\nHost: localhost\r\n\r\n", 1024))
			for { // until the server closes: a full socket alone ends after the deadline of dial, which is long
				if _, err := c.Write(ask); err != nil {
					if ne := net.Error(nil); errors.As(err, &ne) && ne.Timeout() {
						t.Fatal("the connection is kept")
					}
					return
				}
			}
		})
	}
}

// TestGone proves that a request whose client has gone is cancelled, streamed or not, and that who reads an answer to its
// end cancels nothing.
func TestGone(t *testing.T) {
	h := open(t, nil)
	started := make(chan struct{}, 8)
	quick := h.fake.play
	h.fake.play = func(req *dispatch.Request, s dispatch.Sink) {
		s.Event(req, dispatch.Event{Attempt: 1, Delta: &dispatch.Delta{Text: "Hel"}})
		started <- struct{}{}
	}
	for _, path := range []string{"/v1/chat/completions", "/v1/responses", "/api/chat", "/v1/completions"} {
		for _, stream := range []string{"true", "false"} {
			body := map[string]string{"/v1/responses": `"input":"x"`, "/v1/completions": `"prompt":"x"`}[path]
			if body == "" {
				body = hello
			}
			ctx, cancel := context.WithCancel(t.Context())
			req, err := http.NewRequestWithContext(ctx, "POST", h.url+path, strings.NewReader(`{"model":"tiny","stream":`+stream+`,`+body+`}`))
			if err != nil {
				t.Fatal(err)
			}
			done := make(chan struct{})
			go func() {
				defer close(done)
				if resp, err := http.DefaultClient.Do(req); err == nil {
					_, _ = io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
				}
			}()
			<-started
			cancel()
			<-done
			if id := <-h.fake.cancelled; id != h.fake.last(t).ID {
				t.Errorf("%s: %s was cancelled", path, id)
			}
		}
	}
	h.fake.play = quick
	h.post("/v1/chat/completions", `{`+hello+`}`)
	h.do("POST", "/v1/chat/completions", `{`+hello+`,"stream":true}`)
	select {
	case id := <-h.fake.cancelled:
		t.Errorf("%s was cancelled after its end", id)
	default:
	}
}

func TestNothingLoaded(t *testing.T) {
	h := open(t, func(o *Options) { o.Node = offers{} })
	for _, path := range []string{"/health", "/v1/models/tiny"} {
		if resp, _ := h.do("GET", path, ""); resp.StatusCode != 503 || resp.Header.Get("Retry-After") == "" {
			t.Errorf("%s: %d", path, resp.StatusCode)
		}
	}
	if resp, text := h.do("GET", "/v1/models", ""); resp.StatusCode != 200 || !strings.Contains(text, `"data":[]`) {
		t.Errorf("%d %s", resp.StatusCode, text)
	}
}

func dial(t *testing.T, h *house) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(h.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	return conn
}

func readStatus(t *testing.T, conn net.Conn) int {
	t.Helper()
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return 0
	}
	resp.Body.Close()
	return resp.StatusCode
}
