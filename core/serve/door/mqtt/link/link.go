// Package link makes connections to a broker: settings to client options, dialling by TCP, TLS and WebSocket, a
// connection that protects the client library from what it would choke on, and errors in plain words.
//
// It must not know edged's topics or messages. Settings are plain data; a Conn belongs to one client.
package link

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"

	"edged/core/config"
)

// Settings say where the broker is and who asks.
type Settings struct {
	URL          string // tcp, tls, ws or wss
	Username     string
	PasswordFile string
	Secret       string // of the embedded broker, for the node's own client id; "": none
	CAFile       string
	CertFile     string
	KeyFile      string
	KeepAlive    time.Duration // default 30 s
	MaxPayload   int           // of an incoming message; larger ones are swallowed; default 1 MiB
	Version      string        // VersionAuto ("" too), Version5 or Version311

	old *memory // shared by the copies of what From has made; nil: nothing is remembered
}

// From takes the settings out of a configuration. embedded is the address of the embedded broker, for configurations
// that have one.
func From(c *config.MQTT, embedded string) Settings {
	s := Settings{
		URL: c.Broker, Username: c.Username, PasswordFile: c.PasswordFile,
		CAFile: c.CAFile, CertFile: c.CertFile, KeyFile: c.KeyFile,
		KeepAlive: c.KeepAlive, MaxPayload: int(c.MaxPayload), Version: c.Version, old: &memory{},
	}
	if c.Embedded() {
		s.URL = "tcp://" + reachable(embedded)
	}
	return s
}

// reachable turns an address that is listened on into one that can be dialled: 0.0.0.0 is no destination.
func reachable(address string) string {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return address
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
		if ip != nil && ip.To4() == nil {
			host = "::1"
		}
	}
	return net.JoinHostPort(host, port)
}

// Times that have no setting.
const (
	DialTimeout  = 10 * time.Second // until CONNACK
	WriteTimeout = 15 * time.Second // of one packet
)

// options makes the options of the library of MQTT 3.1.1 for one connection under a client id. dialled, if
// not nil, is called with the connection before CONNECT is sent.
//
// The library's own reconnecting is off: on a reconnect it completes the tokens of what it had sent before as if they
// had been acknowledged (seen with 1.5.1). A new connection needs a new client.
func (s Settings) options(ctx context.Context, id string, dialled func(*Conn)) (*paho.ClientOptions, error) {
	u, err := url.Parse(s.URL)
	if err != nil {
		return nil, fmt.Errorf("mqtt: broker %q is no URL", s.URL)
	}
	u.Host = withPort(u) // for the library's eyes alone
	o := paho.NewClientOptions().AddBroker(u.String()).SetClientID(id).
		SetProtocolVersion(4). // 3.1.1; otherwise a refusal is asked for twice, once in 3.1
		SetAutoReconnect(false).SetConnectRetry(false).
		SetKeepAlive(s.KeepAlive).
		// Conn notices a silent broker; the library's ping timeout would give up while a large packet is swallowed.
		SetPingTimeout(time.Hour).
		SetConnectTimeout(DialTimeout).SetWriteTimeout(WriteTimeout)
	user, password, err := s.credentials()
	if err != nil {
		return nil, err
	}
	if user != "" {
		o.SetUsername(user)
	}
	if password != nil {
		o.SetPassword(string(password))
	}
	o.SetCustomOpenConnectionFn(func(*url.URL, paho.ClientOptions) (net.Conn, error) {
		raw, err := s.open(ctx, u)
		if err != nil {
			return nil, err
		}
		c := newConn(raw, s.KeepAlive, s.MaxPayload)
		if dialled != nil {
			dialled(c)
		}
		return c, nil
	})
	return o, nil
}

// readable says what is wrong with the files that the settings name, which is no fault of the broker.
func (s Settings) readable() error {
	u, err := url.Parse(s.URL)
	if err != nil {
		return fmt.Errorf("mqtt: broker %q is no URL", s.URL)
	}
	if _, _, err := s.credentials(); err != nil {
		return err
	}
	if u.Scheme == "tls" || u.Scheme == "wss" {
		_, err = s.tlsConfig(u.Hostname())
	}
	return err
}

// open makes the line, with TLS where the URL wants it. Secrets and certificates are read anew, so that a
// renewed file needs no restart.
func (s Settings) open(ctx context.Context, u *url.URL) (net.Conn, error) {
	to := *u
	to.Host = withPort(u)
	var tlsConfig *tls.Config
	if to.Scheme == "tls" || to.Scheme == "wss" {
		var err error
		if tlsConfig, err = s.tlsConfig(to.Hostname()); err != nil {
			return nil, err
		}
	}
	return dial(ctx, &to, tlsConfig)
}

// withPort adds the scheme's usual port where the URL has none.
func withPort(u *url.URL) string {
	if u.Port() != "" {
		return u.Host
	}
	port := map[string]string{"tcp": "1883", "tls": "8883", "ws": "80", "wss": "443"}[u.Scheme]
	return net.JoinHostPort(u.Hostname(), port)
}

func (s Settings) tlsConfig(host string) (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: host}
	if s.CAFile != "" {
		pem, err := os.ReadFile(s.CAFile)
		if err != nil {
			return nil, fmt.Errorf("mqtt: ca_file: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("mqtt: ca_file: %s holds no certificate in PEM form", s.CAFile)
		}
	}
	if s.CertFile != "" {
		pair, err := tls.LoadX509KeyPair(s.CertFile, s.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("mqtt: cert_file %s with key_file %s: %w", s.CertFile, s.KeyFile, err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}

// dial opens the connection below MQTT.
func dial(ctx context.Context, u *url.URL, tlsConfig *tls.Config) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, DialTimeout)
	defer cancel()
	// TCP's own keep-alive finds peers that are gone while nothing is written.
	dialer := &net.Dialer{KeepAlive: 30 * time.Second}
	switch u.Scheme {
	case "tcp":
		return dialer.DialContext(ctx, "tcp", u.Host)
	case "tls":
		return (&tls.Dialer{NetDialer: dialer, Config: tlsConfig}).DialContext(ctx, "tcp", u.Host)
	case "ws", "wss":
		return dialWebsocket(ctx, u, tlsConfig)
	}
	return nil, errors.New("mqtt: unknown scheme " + u.Scheme)
}

// dialWebsocket gives the library's function, which takes no context, one.
func dialWebsocket(ctx context.Context, u *url.URL, tlsConfig *tls.Config) (net.Conn, error) {
	type result struct {
		conn net.Conn
		err  error
	}
	done := make(chan result, 1)
	go func() { // ends within DialTimeout
		conn, err := paho.NewWebsocket(u.String(), tlsConfig, DialTimeout, nil,
			&paho.WebsocketOptions{ReadBufferSize: 2048, WriteBufferSize: 2048})
		done <- result{conn, err}
	}()
	select {
	case r := <-done:
		return r.conn, r.err
	case <-ctx.Done():
		go func() {
			if r := <-done; r.err == nil {
				_ = r.conn.Close()
			}
		}()
		return nil, ctx.Err()
	}
}
