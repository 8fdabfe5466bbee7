package http

import (
	"crypto/sha256"
	"crypto/subtle"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"edged/core/serve/dispatch"
)

// admitted tells whether a request may be looked at, and refuses it otherwise. What is open needs no credential.
//
// A web page of somebody else reaches this door through a visitor's browser in two ways. With a name of its
// own that it lets point here (DNS rebinding): then Host is that name, so names that are not this node's are
// refused; an address is nobody's name. Or openly, across origins: a browser then says Origin, which must be
// this door. No answer ever carries an Access-Control header, so that no page may read one.
func (d *Door) admitted(w http.ResponseWriter, r *http.Request, f form, open bool) bool {
	if !d.named(r.Host) {
		refuse(w, f, http.StatusForbidden, &dispatch.Error{Code: codeForbidden, Message: "Host: name this node by its address, as localhost, by node.name, or by a name of http.hosts"})
		return false
	}
	if foreign(r) {
		refuse(w, f, http.StatusForbidden, &dispatch.Error{Code: codeForbidden, Message: "Origin: pages of other origins have no access"})
		return false
	}
	if d.guarded && !open && !d.known(r.Header.Get("Authorization")) {
		w.Header().Set("WWW-Authenticate", `Bearer realm="edged"`)
		refuse(w, f, http.StatusUnauthorized, &dispatch.Error{Code: codeUnauthorized, Message: "Authorization: want the header \"Bearer TOKEN\" with the token of http.token_file"})
		return false
	}
	return true
}

// named tells whether a Host header names this node.
func (d *Door) named(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	if zone := strings.IndexByte(host, '%'); zone >= 0 {
		host = host[:zone]
	}
	return net.ParseIP(host) != nil || d.hosts[hostKey(host)]
}

func hostKey(name string) string { return strings.ToLower(strings.TrimSuffix(name, ".")) }

// foreign tells whether a browser sends a request for a page that is not this door's.
func foreign(r *http.Request) bool {
	// Looking changes nothing, and nobody can read the answer: links to the page work.
	if site := r.Header.Get("Sec-Fetch-Site"); (site == "cross-site" || site == "same-site") && r.Method != http.MethodGet && r.Method != http.MethodHead {
		return true
	}
	origin := r.Header.Get("Origin")
	if origin == "" {
		return false
	}
	u, err := url.Parse(origin)
	return err != nil || !strings.EqualFold(u.Host, r.Host)
}

// known compares a credential in a time that does not depend on it.
func (d *Door) known(header string) bool {
	const scheme = "bearer "
	if len(header) < len(scheme) || !strings.EqualFold(header[:len(scheme)], scheme) {
		return false
	}
	sum := sha256.Sum256([]byte(strings.TrimSpace(header[len(scheme):])))
	return subtle.ConstantTimeCompare(sum[:], d.token[:]) == 1
}

// budget bounds the bytes of all bodies that are read at the same time.
type budget struct {
	mu   sync.Mutex
	used int64
	most int64
}

func (b *budget) take(n int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.used+n > b.most {
		return false
	}
	b.used += n
	return true
}

func (b *budget) give(n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.used -= n
}

// body reads the body of a request, within its size, its time, and what all bodies may take together. It refuses what is
// beyond; nil then.
func (d *Door) body(w http.ResponseWriter, r *http.Request, f form) []byte {
	most := int64(d.o.Config.MaxBody)
	if e := r.Header.Get("Content-Encoding"); e != "" && e != "identity" {
		refuse(w, f, http.StatusUnsupportedMediaType, &dispatch.Error{Code: dispatch.CodeUnsupported, Message: "Content-Encoding: bodies are read as they are; send this one uncompressed"})
		return nil
	}
	size := r.ContentLength
	if size > most {
		refuse(w, f, http.StatusRequestEntityTooLarge, tooLarge(most))
		return nil
	}
	if size < 0 {
		size = most
	}
	if !d.bodies.take(size) {
		refuse(w, f, http.StatusServiceUnavailable, &dispatch.Error{Code: dispatch.CodeQueueFull, Message: "too many requests arrive at once", Retry: time.Second})
		return nil
	}
	defer d.bodies.give(size)
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Now().Add(d.o.Config.ReadTimeout)) // a connection that has none is a test's
	data, err := io.ReadAll(http.MaxBytesReader(w, r.Body, most))
	// Without a deadline again: its end would look as if the client had gone.
	_ = control.SetReadDeadline(time.Time{})
	switch {
	case err == nil:
		if data == nil {
			data = []byte{}
		}
		return data
	case isTooLarge(err):
		refuse(w, f, http.StatusRequestEntityTooLarge, tooLarge(most))
	default:
		w.Header().Set("Connection", "close")
		refuse(w, f, http.StatusRequestTimeout, &dispatch.Error{Code: dispatch.CodeInvalidRequest, Message: "the body did not come whole within " + d.o.Config.ReadTimeout.String()})
	}
	return nil
}

func tooLarge(most int64) *dispatch.Error {
	return &dispatch.Error{Code: dispatch.CodeInvalidRequest, Message: "the body is larger than http.max_body, " + strconv.FormatInt(most, 10) + " bytes"}
}

// limited is a listener that serves so many connections at once, and tells the others to come again.
type limited struct {
	net.Listener

	slots chan struct{}
}

func limit(ln net.Listener, most int) net.Listener {
	return &limited{Listener: ln, slots: make(chan struct{}, most)}
}

// full returns the answer to a connection beyond the limit.
func full() []byte {
	const body = `{"error":{"message":"too many connections","type":"server_error","code":"queue_full","param":null}}`
	return []byte("HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nRetry-After: 1\r\nConnection: close\r\nContent-Length: " +
		strconv.Itoa(len(body)) + "\r\n\r\n" + body)
}

// Accept waits for a connection that there is room for.
func (l *limited) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		select {
		case l.slots <- struct{}{}:
			return &limitedConn{Conn: conn, slots: l.slots}, nil
		default:
			_ = conn.SetDeadline(time.Now().Add(100 * time.Millisecond))
			_, _ = conn.Write(full()) // it fits into the socket's buffer
			_ = conn.Close()
		}
	}
}

type limitedConn struct {
	net.Conn

	once  sync.Once
	slots chan struct{}
}

// Close gives the place back, once.
func (c *limitedConn) Close() error {
	err := c.Conn.Close()
	c.once.Do(func() { <-c.slots })
	return err
}
