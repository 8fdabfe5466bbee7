package mqtt_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"edged/core/serve/door/broker"
	real "edged/test/brokers"
)

// server is a broker under test that can be stopped and started again on the same address.
type server interface {
	address() string
	stop(t testing.TB)
	start(t testing.TB)
}

// brokers are the brokers that a test runs against: the embedded one and a real mosquitto, or the one that EDGED_TEST_BROKER
// names.
func brokers() map[string]func(*testing.T) server {
	if kind := os.Getenv("EDGED_TEST_BROKER"); kind != "" {
		return map[string]func(*testing.T) server{kind: func(t *testing.T) server {
			t.Helper()
			return foreign{real.Start(t, kind)}
		}}
	}
	return map[string]func(*testing.T) server{
		"embedded": func(t *testing.T) server {
			t.Helper()
			return startEmbedded(t)
		},
		"mosquitto": func(t *testing.T) server {
			t.Helper()
			return startMosquitto(t, "allow_anonymous true")
		},
	}
}

// foreign is any broker of package test/brokers.
type foreign struct{ *real.Broker }

func (f foreign) address() string  { return f.Address() }
func (f foreign) start(testing.TB) { f.Start() }
func (f foreign) stop(testing.TB)  { f.Kill() }

func startEmbedded(tb testing.TB) *embedded {
	tb.Helper()
	s := &embedded{}
	s.start(tb)
	tb.Cleanup(func() { s.stop(tb) })
	return s
}

type embedded struct {
	b  *broker.Broker
	at string
}

func (e *embedded) address() string { return e.at }

func (e *embedded) start(tb testing.TB) {
	tb.Helper()
	listen := e.at
	if listen == "" {
		listen = "127.0.0.1:0"
	}
	b, err := broker.Start(context.Background(), broker.Options{Listen: listen, Log: slog.New(slog.DiscardHandler), MaxPacket: 256 << 20})
	if err != nil {
		tb.Fatal(err)
	}
	e.b, e.at = b, b.Addr()
}

func (e *embedded) stop(testing.TB) {
	if e.b != nil {
		_ = e.b.Close()
		e.b = nil
	}
}

// mosquitto is a process of the real broker.
type mosquitto struct {
	dir, binary, listener string
	port                  int
	cmd                   *exec.Cmd
	log                   *lockedBuffer
}

// findMosquitto finds the binary, which Debian keeps out of an ordinary user's PATH.
func findMosquitto(tb testing.TB) string {
	tb.Helper()
	for _, name := range []string{"mosquitto", "/usr/sbin/mosquitto", "/usr/local/sbin/mosquitto"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	if os.Getenv("CI") == "true" {
		tb.Fatal("mosquitto is missing")
	}
	tb.Skip("mosquitto is not installed")
	return ""
}

// startMosquitto starts one on a free port of the loopback interface. settings follow its listener; DIR in them stands
// for its folder.
func startMosquitto(tb testing.TB, settings ...string) *mosquitto {
	tb.Helper()
	m := &mosquitto{binary: findMosquitto(tb), dir: tb.TempDir(), log: &lockedBuffer{}}
	m.port = freePort(tb)
	m.listener = strings.ReplaceAll(strings.Join(settings, "\n"), "DIR", m.dir)
	m.start(tb)
	tb.Cleanup(func() { m.stop(tb) })
	return m
}

func freePort(tb testing.TB) int {
	tb.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().(*net.TCPAddr).Port
}

func (m *mosquitto) address() string { return fmt.Sprintf("127.0.0.1:%d", m.port) }

func (m *mosquitto) start(tb testing.TB) {
	tb.Helper()
	conf := filepath.Join(m.dir, "mosquitto.conf")
	text := fmt.Sprintf("per_listener_settings true\npersistence false\nuser root\nlistener %d 127.0.0.1\n%s\n", m.port, m.listener)
	if strings.Contains(m.listener, "websockets") {
		// mosquitto 2.0.11 ends at once unless it has a listener of another kind too.
		text += fmt.Sprintf("listener %d 127.0.0.1\nallow_anonymous false\n", freePort(tb))
	}
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		tb.Fatal(err)
	}
	m.cmd = exec.Command(m.binary, "-c", conf, "-v")
	m.cmd.Stdout, m.cmd.Stderr = m.log, m.log
	if err := m.cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	deadline := time.Now().Add(10 * time.Second)
	for {
		conn, err := net.Dial("tcp", m.address())
		if err == nil {
			_ = conn.Close()
			return
		}
		if time.Now().After(deadline) {
			tb.Fatalf("mosquitto did not start: %v\n%s", err, m.log)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func (m *mosquitto) stop(testing.TB) {
	if m.cmd == nil {
		return
	}
	_ = m.cmd.Process.Kill()
	_ = m.cmd.Wait()
	m.cmd = nil
}

// lockedBuffer is a bytes.Buffer that several goroutines write to.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// authority makes certificates for a test.
type authority struct {
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	next int64
}

func newAuthority(tb testing.TB, dir string) *authority {
	tb.Helper()
	a := &authority{dir: dir, next: 2}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		tb.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		tb.Fatal(err)
	}
	a.key = key
	writePEM(tb, filepath.Join(dir, "ca.pem"), "CERTIFICATE", der)
	return a
}

// issue writes NAME.pem and NAME.key.
func (a *authority) issue(tb testing.TB, name string, change func(*x509.Certificate)) (cert, key string) {
	tb.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(a.next), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	a.next++
	if change != nil {
		change(template)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &private.PublicKey, a.key)
	if err != nil {
		tb.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		tb.Fatal(err)
	}
	cert, key = filepath.Join(a.dir, name+".pem"), filepath.Join(a.dir, name+".key")
	writePEM(tb, cert, "CERTIFICATE", der)
	writePEM(tb, key, "PRIVATE KEY", pkcs8)
	return cert, key
}

func writePEM(tb testing.TB, path, kind string, der []byte) {
	tb.Helper()
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		tb.Fatal(err)
	}
}

// passwords writes a mosquitto password file with one user.
func passwords(tb testing.TB, path, user, password string) {
	tb.Helper()
	tool, err := exec.LookPath("mosquitto_passwd")
	if err != nil {
		if os.Getenv("CI") == "true" {
			tb.Fatal("mosquitto_passwd is missing")
		}
		tb.Skip("mosquitto_passwd is not installed")
	}
	if out, err := exec.Command(tool, "-b", "-c", path, user, password).CombinedOutput(); err != nil {
		tb.Fatalf("%v: %s", err, out)
	}
}
