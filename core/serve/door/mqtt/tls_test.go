package mqtt_test

import (
	"crypto/x509"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"edged/core/config"
	"edged/core/serve/door/mqtt"
)

// probe tries a configuration and compares the sentence.
func probe(t *testing.T, c config.MQTT, want string) {
	t.Helper()
	_, err := mqtt.Probe(t.Context(), mqtt.Options{Node: "pi", Config: c})
	got := ""
	if err != nil {
		got = strings.TrimPrefix(err.Error(), "mqtt: broker "+c.Broker+": ")
	}
	if got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

// TestTLS: certificates on both sides, and what is said when one does not fit.
func TestTLS(t *testing.T) {
	dir := t.TempDir()
	ca := newAuthority(t, dir)
	cert, key := ca.issue(t, "server", nil)
	clientCert, clientKey := ca.issue(t, "client", nil)
	elsewhere := newAuthority(t, t.TempDir())
	strangeCert, strangeKey := elsewhere.issue(t, "stranger", nil)
	caFile := filepath.Join(dir, "ca.pem")
	serve := "allow_anonymous true\ncafile " + caFile + "\n"
	m := startMosquitto(t, serve+"certfile "+cert+"\nkeyfile "+key+"\nrequire_certificate true")

	good := settings(m.address())
	good.Broker = "tls://" + m.address()
	good.CAFile, good.CertFile, good.KeyFile = caFile, clientCert, clientKey

	t.Run("both sides", func(t *testing.T) {
		probe(t, good, "")
		open(t, good, &fake{}, true).stop()
	})
	t.Run("unknown authority", func(t *testing.T) {
		c := good
		c.CAFile = ""
		probe(t, c, "its certificate is signed by an authority that is not trusted here: set mqtt.ca_file to the authority's certificate")
	})
	t.Run("no client certificate", func(t *testing.T) {
		c := good
		c.CertFile, c.KeyFile = "", ""
		_, err := mqtt.Probe(t.Context(), mqtt.Options{Node: "pi", Config: c})
		if err == nil || !strings.Contains(err.Error(), "for a client certificate") || !strings.Contains(err.Error(), "mqtt.cert_file") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("a stranger's client certificate", func(t *testing.T) {
		c := good
		c.CertFile, c.KeyFile = strangeCert, strangeKey
		_, err := mqtt.Probe(t.Context(), mqtt.Options{Node: "pi", Config: c})
		if err == nil || !strings.Contains(err.Error(), "refuse") || !strings.Contains(err.Error(), "mqtt.cert_file") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("another name", func(t *testing.T) {
		c := good
		c.Broker = strings.Replace(c.Broker, "127.0.0.1", "localhost", 1)
		probe(t, c, `its certificate is for 127.0.0.1, and mqtt.broker says "localhost"`)
	})
	t.Run("no TLS there", func(t *testing.T) {
		plain := startMosquitto(t, "allow_anonymous true")
		c := good
		c.Broker = "tls://" + plain.address()
		_, err := mqtt.Probe(t.Context(), mqtt.Options{Node: "pi", Config: c})
		if err == nil || !strings.Contains(err.Error(), "it does not speak TLS on this port") && !strings.Contains(err.Error(), "it closed the connection") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("no plain text there", func(t *testing.T) {
		c := settings(m.address())
		probe(t, c, "it closed the connection: does that port want TLS, or another protocol, or is a limit of the broker reached?")
	})
	t.Run("expired", func(t *testing.T) {
		cert, key := ca.issue(t, "expired", func(c *x509.Certificate) {
			c.NotBefore, c.NotAfter = time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(2021, 1, 1, 0, 0, 0, 0, time.UTC)
		})
		m := startMosquitto(t, serve+"certfile "+cert+"\nkeyfile "+key)
		c := good
		c.Broker = "tls://" + m.address()
		probe(t, c, "its certificate is valid from 2020-01-01 to 2021-01-01: renew it, or set this machine's clock")
	})
	t.Run("files", func(t *testing.T) {
		c := good
		c.CAFile = filepath.Join(dir, "none.pem")
		probe(t, c, "mqtt: ca_file: open "+c.CAFile+": no such file or directory")
		c.CAFile = filepath.Join(dir, "empty.pem")
		if err := os.WriteFile(c.CAFile, []byte("nothing"), 0o600); err != nil {
			t.Fatal(err)
		}
		probe(t, c, "mqtt: ca_file: "+c.CAFile+" holds no certificate in PEM form")
		c = good
		c.KeyFile = strangeKey
		_, err := mqtt.Probe(t.Context(), mqtt.Options{Node: "pi", Config: c})
		if err == nil || !strings.Contains(err.Error(), "private key does not match") {
			t.Errorf("got %v", err)
		}
	})
}

// TestWebsocket: the same over ws and wss.
func TestWebsocket(t *testing.T) {
	m := startMosquitto(t, "protocol websockets\nallow_anonymous true")
	c := settings(m.address())
	c.Broker = "ws://" + m.address()
	probe(t, c, "")
	c.Broker += "/mqtt"
	probe(t, c, "")
	f := &fake{}
	d := open(t, c, f, true)
	if !d.Online() {
		t.Error("not online")
	}
	d.stop()

	dir := t.TempDir()
	ca := newAuthority(t, dir)
	cert, key := ca.issue(t, "server", nil)
	s := startMosquitto(t, "protocol websockets\nallow_anonymous true\ncertfile "+cert+"\nkeyfile "+key)
	c.Broker, c.CAFile = "wss://"+s.address(), filepath.Join(dir, "ca.pem")
	probe(t, c, "")

	plain := startMosquitto(t, "allow_anonymous true")
	c = settings(plain.address())
	c.Broker = "ws://" + plain.address()
	_, err := mqtt.Probe(t.Context(), mqtt.Options{Node: "pi", Config: c})
	if err == nil {
		t.Error("a WebSocket to plain MQTT works")
	}
	t.Log(err)
}

// TestNoBroker: what is said when nothing is there.
func TestNoBroker(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := ln.Addr().String()
	_ = ln.Close()
	c := settings(address)
	probe(t, c, "nothing listens there: is the broker running, and is the port right?")
	c.Broker = "tcp://no-such-host.invalid:1883"
	probe(t, c, "the name no-such-host.invalid cannot be resolved")
}
