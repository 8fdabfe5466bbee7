// Package brokers runs real MQTT brokers for tests: mosquitto, RabbitMQ with its MQTT plugin, and
// nats-server, each from a folder and on ports of its own, on loopback alone, until its test ends.
//
// It must not know what is tested with them.
package brokers

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"edged/test/oracle"
)

// The brokers.
const (
	Mosquitto = "mosquitto"
	RabbitMQ  = "rabbitmq"
	NATS      = "nats"
)

// Kind is the broker that tests of the whole run against: what EDGED_TEST_BROKER says, or mosquitto.
func Kind() string {
	if kind := os.Getenv("EDGED_TEST_BROKER"); kind != "" {
		return kind
	}
	return Mosquitto
}

// up bounds a start: RabbitMQ's virtual machine takes 20 s on a busy machine.
const up = 5 * time.Minute

// Broker is a broker process that can be killed and started again at the same address, with what it keeps on disk.
type Broker struct {
	Kind string
	Port int // of MQTT

	tb    testing.TB
	dir   string
	log   string
	cmd   *exec.Cmd
	other [3]int // ports beside MQTT's
}

// Start starts a broker that takes anybody, or skips the test where it is not installed; with CI=true
// mosquitto must be.
func Start(tb testing.TB, kind string) *Broker {
	tb.Helper()
	b := &Broker{Kind: kind, tb: tb, dir: tb.TempDir(), Port: FreePort(tb)}
	b.log = filepath.Join(b.dir, "log")
	for i := range b.other {
		b.other[i] = FreePort(tb)
	}
	switch kind {
	case Mosquitto:
		b.write(
			"mosquitto.conf",
			fmt.Sprintf("listener %d 127.0.0.1\nallow_anonymous true\nmax_inflight_messages 20\nmax_queued_messages 10000\n", b.Port),
		)
	case RabbitMQ:
		b.write("enabled_plugins", "[rabbitmq_mqtt].\n")
		b.write(
			"rabbitmq.conf",
			fmt.Sprintf(
				"listeners.tcp.1 = 127.0.0.1:%d\nmqtt.listeners.tcp.1 = 127.0.0.1:%d\nmqtt.allow_anonymous = true\nmqtt.default_user = guest\nmqtt.default_pass = guest\n",
				b.other[0],
				b.Port,
			),
		)
		b.mapper()
	case NATS:
		b.write(
			"nats.conf",
			fmt.Sprintf(
				"listen: 127.0.0.1:%d\nserver_name: test\njetstream { store_dir: %q }\nmqtt { listen: \"127.0.0.1:%d\" }\n",
				b.other[0],
				filepath.Join(b.dir, "store"),
				b.Port,
			),
		)
	default:
		tb.Fatalf("brokers: %q is none of %s, %s, %s", kind, Mosquitto, RabbitMQ, NATS)
	}
	tb.Cleanup(func() {
		b.Kill()
		if tb.Failed() {
			text, _ := os.ReadFile(b.log)
			tb.Logf("%s:\n%s", kind, text[max(0, len(text)-4000):])
		}
	})
	b.Start()
	return b
}

// Address returns the address on which it listens for MQTT.
func (b *Broker) Address() string { return fmt.Sprintf("127.0.0.1:%d", b.Port) }

// URL is Address as a client wants it.
func (b *Broker) URL() string { return "tcp://" + b.Address() }

// Start starts it and waits until it listens.
func (b *Broker) Start() {
	b.tb.Helper()
	var cmd *exec.Cmd
	switch b.Kind {
	case RabbitMQ:
		cmd = exec.Command(need(b.tb, "/usr/lib/rabbitmq/bin/rabbitmq-server"))
		cmd.Env = append(os.Environ(), b.erlang()...)
	case NATS:
		cmd = exec.Command(need(b.tb, filepath.Join(oracle.Repo(b.tb), ".cache/bin/nats-server")), "-c", filepath.Join(b.dir, "nats.conf"))
	default:
		cmd = exec.Command(need(b.tb, "mosquitto", "/usr/sbin/mosquitto"), "-c", filepath.Join(b.dir, "mosquitto.conf"))
	}
	b.cmd = cmd
	b.run(cmd)
	deadline := time.Now().Add(up)
	for !b.answers() {
		if time.Now().After(deadline) {
			text, _ := os.ReadFile(b.log)
			b.tb.Fatalf("%s does not listen after %v:\n%s", b.Kind, up, text)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// answers tells whether it takes a CONNECT: RabbitMQ listens before it does.
func (b *Broker) answers() bool {
	conn, err := net.DialTimeout("tcp", b.Address(), time.Second)
	if err != nil {
		return false
	}
	defer conn.Close() //nolint:errcheck // nothing is kept
	_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
	// CONNECT of MQTT 3.1.1 (section 3.1): clean session, keep alive 10 s, client id "up".
	if _, err := conn.Write([]byte{0x10, 14, 0, 4, 'M', 'Q', 'T', 'T', 4, 2, 0, 10, 0, 2, 'u', 'p'}); err != nil {
		return false
	}
	var ack [4]byte
	n, err := conn.Read(ack[:])
	return err == nil && n == 4 && ack[0] == 0x20 && ack[3] == 0
}

// Kill ends it without a word (SIGKILL), and whatever it started, and waits until it is gone.
func (b *Broker) Kill() {
	if b.cmd == nil || b.cmd.Process == nil {
		return
	}
	_ = syscall.Kill(-b.cmd.Process.Pid, syscall.SIGKILL)
	_ = b.cmd.Wait()
	b.cmd = nil
}

// run starts a command in a process group of its own that dies with this process, its output in the log.
func (b *Broker) run(cmd *exec.Cmd) {
	b.tb.Helper()
	log, err := os.OpenFile(b.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		b.tb.Fatal(err)
	}
	defer log.Close() //nolint:errcheck // the child has its own
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		b.tb.Fatal(err)
	}
}

// mapper runs Erlang's port mapper, which RabbitMQ would otherwise start as a daemon that stays.
func (b *Broker) mapper() {
	b.tb.Helper()
	cmd := exec.Command(need(b.tb, "epmd"), "-port", strconv.Itoa(b.other[1]), "-address", "127.0.0.1")
	cmd.Env = append(os.Environ(), b.erlang()...)
	b.run(cmd)
	b.tb.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
}

// erlang is the environment that keeps a RabbitMQ within its folder and on loopback.
func (b *Broker) erlang() []string {
	file := func(name string) string { return filepath.Join(b.dir, name) }
	return []string{
		"HOME=" + b.dir, "RABBITMQ_NODENAME=edged-test@localhost",
		"RABBITMQ_MNESIA_BASE=" + file("mnesia"), "RABBITMQ_LOG_BASE=" + file("logs"), "RABBITMQ_PID_FILE=" + file("pid"),
		"RABBITMQ_CONFIG_FILE=" + file("rabbitmq.conf"), "RABBITMQ_ENABLED_PLUGINS_FILE=" + file("enabled_plugins"),
		"RABBITMQ_CONF_ENV_FILE=" + file("env"), "RABBITMQ_ADVANCED_CONFIG_FILE=" + file("advanced.config"),
		fmt.Sprintf("RABBITMQ_DIST_PORT=%d", b.other[2]), fmt.Sprintf("ERL_EPMD_PORT=%d", b.other[1]), "ERL_EPMD_ADDRESS=127.0.0.1",
		"RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS=-kernel inet_dist_use_interface {127,0,0,1} +S 2:2",
	}
}

func (b *Broker) write(name, text string) {
	b.tb.Helper()
	if err := os.WriteFile(filepath.Join(b.dir, name), []byte(text), 0o600); err != nil {
		b.tb.Fatal(err)
	}
}

// need returns the first of the programs that is there.
func need(tb testing.TB, names ...string) string {
	tb.Helper()
	for _, name := range names {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	if os.Getenv("CI") == "true" || os.Getenv("EDGED_TEST_BROKER") != "" {
		tb.Fatalf("%s is not installed: run `make deps`, or `make test-brokers` for RabbitMQ and nats-server", names[0])
	}
	tb.Skipf("%s is not installed: run `make deps`", names[0])
	return ""
}

// FreePort is a port of loopback that nobody listens on.
func FreePort(tb testing.TB) int {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	defer l.Close() //nolint:errcheck // it is closed to be used by another
	addr, _ := l.Addr().(*net.TCPAddr)
	return addr.Port
}
