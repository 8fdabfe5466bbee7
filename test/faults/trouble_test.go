package faults

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"edged/test/brokers"
)

// soaking tells whether the long set runs.
func soaking() bool { return os.Getenv("EDGED_SOAK") == "1" }

// serves proves that the node is in service: a new request is answered as ever.
func (r *rig) serves() {
	r.t.Helper()
	r.mu.Lock()
	a := r.create(r.number%combos, 60)
	r.mu.Unlock()
	r.poke()
	r.idle()
	r.mu.Lock()
	defer r.mu.Unlock()
	if a.last.Error != nil || r.want[a.combo] != "" && a.last.Text != r.want[a.combo] {
		r.t.Errorf("afterwards: %+v", a.last)
	}
}

// publish sends a payload as it is, on a topic below edged/test.
func (r *rig) publish(topic string, payload any) {
	r.t.Helper()
	if token := r.client.Publish("edged/test/"+topic, 1, false, payload); !token.WaitTimeout(patience) || token.Error() != nil {
		r.t.Fatalf("publish %s: %v", topic, token.Error())
	}
}

// reply waits for a last event on a topic below edged/test/response that no ask of the load has, or for a text on another.
func (r *rig) reply(topic string) (text string) {
	r.t.Helper()
	eventually(r.t, "an answer on "+topic, func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		all := r.texts["edged/test/"+topic]
		for _, text = range all {
			if !strings.HasPrefix(topic, "response/") || strings.Contains(text, `"done":true`) {
				return true
			}
		}
		return false
	})
	return text
}

// code asks a small thing under an id and returns the code of the error; "": it was answered.
func (r *rig) code(id string) string {
	r.t.Helper()
	r.publish("request/load", fmt.Sprintf(`{"id":%q,"prompt":"Hello","max_tokens":2}`, id))
	var e event
	if err := json.Unmarshal([]byte(r.reply("response/load/"+id)), &e); err != nil {
		r.t.Fatal(err)
	}
	if e.Error == nil {
		return ""
	}
	return e.Error.Code
}

// smallDisk mounts a file system of 2 MiB where the node keeps its state, or skips the test.
func smallDisk(t *testing.T, dir string) {
	t.Helper()
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=2m"); err != nil {
		t.Skipf("a small file system cannot be mounted here (that takes root): %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
}

// TestFullDisk: a full disk stops admission, with a clear error, and nothing else.
func TestFullDisk(t *testing.T) {
	r := prepare(t)
	state := filepath.Join(r.dir, "state")
	smallDisk(t, state)
	r.start()
	r.online()
	r.calibrate()
	r.mu.Lock()
	long := r.create(2, 400)
	r.mu.Unlock()
	r.poke()
	eventually(t, "the long one runs", func() bool { r.mu.Lock(); defer r.mu.Unlock(); return long.accepted })
	filler := filepath.Join(state, "filler")
	f, err := os.Create(filler)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(f, endless{}); err == nil {
		t.Fatal("the disk never was full")
	}
	if err := f.Close(); err != nil {
		t.Log(err)
	}
	// What a page of the journal still holds may take a request or two.
	codes := map[string]int{}
	for i := 0; codes["storage_unavailable"] == 0 && i < 200; i++ {
		codes[r.code(fmt.Sprint("full", i))]++
	}
	if codes["storage_unavailable"] == 0 {
		t.Errorf("on a full disk: %v", codes)
	}
	r.idle() // the long one
	if long.last.Error != nil || !strings.HasPrefix(long.last.Text, r.want[2]) {
		t.Errorf("what ran when the disk became full: %+v", long.last)
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	r.serves()
	r.stop()
	r.start()
	r.serves()
}

// endless is what fills a disk.
type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

// TestReadOnlyState: a node does not start, and promise, on a state folder that takes no writes; it names it and why, and its
// supervisor starts it until it does. (One that takes no writes any more is a full one.)
func TestReadOnlyState(t *testing.T) {
	r := prepare(t)
	state := filepath.Join(r.dir, "state")
	smallDisk(t, state)
	r.start()
	r.online()
	remount := func(flags uintptr) {
		t.Helper()
		// A process that was killed may not have closed its files yet.
		eventually(t, "nobody writes to the folder", func() bool {
			return !errors.Is(unix.Mount("", state, "", unix.MS_REMOUNT|unix.MS_BIND|flags, ""), unix.EBUSY)
		})
	}
	r.calibrate()
	r.kill()
	remount(unix.MS_RDONLY)
	r.start()
	if err := r.daemon.Wait(); err == nil {
		t.Error("it ended with code 0 on a read-only state folder")
	}
	r.daemon = nil
	if !r.logged("read-only file system") || !r.logged(state) {
		t.Error("the log does not name the folder, and why")
	}
	remount(0)
	r.start()
	r.serves()
}

// TestStoppedPlugins: SIGSTOP is no answer for so long that it is killed; what ran in it goes on.
func TestStoppedPlugins(t *testing.T) {
	settings := []string{"plugins.health_timeout=5s"}
	if soaking() {
		settings = nil // 60 s by the defaults
	}
	r := newRig(t, settings...)
	r.calibrate()
	for _, kind := range []string{"backend", "tokenizer"} {
		r.work(true)
		r.settle()
		pid := r.plugin(kind)
		_ = syscall.Kill(pid, syscall.SIGSTOP)
		if soaking() {
			time.Sleep(time.Minute)
			_ = syscall.Kill(pid, syscall.SIGCONT)
		}
		r.settle()
		r.work(false)
		r.idle()
	}
	t.Log(r.verify())
	r.serves()
}

// TestSilentBroker: one that accepts and never answers is left, and found again when it does.
func TestSilentBroker(t *testing.T) {
	b := brokers.Start(t, brokers.Kind())
	r := &rig{t: t, dir: t.TempDir(), broker: b, seen: map[int]bool{}}
	p := newProxy(t, b.Address())
	p.silent.Store(true)
	r.configure("tcp://" + p.Addr().String())
	r.load = newLoad(t, b.URL())
	r.start()
	eventually(t, "the silence is named", func() bool { return r.logged("does not answer in time") })
	p.silent.Store(false)
	r.online()
	r.serves()
	// Silence that begins later, with a request open: it is answered, once the broker is back.
	p.silent.Store(true)
	p.cut()
	eventually(t, "another connection is tried", func() bool { return p.tried.Load() > 0 })
	p.silent.Store(false)
	r.serves()
}

// proxy stands before a broker, and may take connections without an answer.
type proxy struct {
	net.Listener

	silent atomic.Bool
	tried  atomic.Int64 // connections while silent, since the last cut

	mu    sync.Mutex
	conns []net.Conn
}

func newProxy(t *testing.T, to string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{Listener: l}
	go func() { // ends with the listener
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			p.keep(conn)
			if p.silent.Load() {
				p.tried.Add(1)
				go func() { _, _ = io.Copy(io.Discard, conn) }()
				continue
			}
			other, err := net.Dial("tcp", to)
			if err != nil {
				_ = conn.Close()
				continue
			}
			p.keep(other)
			for _, pair := range [2][2]net.Conn{{conn, other}, {other, conn}} {
				go func() {
					_, _ = io.Copy(pair[0], pair[1])
					_ = pair[0].Close()
					_ = pair[1].Close()
				}()
			}
		}
	}()
	t.Cleanup(func() {
		_ = l.Close()
		p.cut()
	})
	return p
}

func (p *proxy) keep(c net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.conns = append(p.conns, c)
}

// cut closes every connection.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tried.Store(0)
	for _, c := range p.conns {
		_ = c.Close()
	}
	p.conns = nil
}

// heaviest is what a daemon may hold in memory after any of these, in kB.
const heaviest = 96 << 10

// light fails where the daemon holds more.
func (r *rig) light() {
	r.t.Helper()
	most := usage(r.t, r.daemon.Process.Pid).memory
	if most > heaviest {
		r.t.Errorf("the daemon holds %d kB", most)
	}
	r.t.Logf("the daemon holds %d kB", most)
}

// TestFlood: 10,000 requests at once are answered or refused, and leave nothing behind.
func TestFlood(t *testing.T) {
	r := newRig(t)
	r.calibrate()
	const flood = 10_000
	for i := range flood {
		r.client.Publish("edged/test/request/load", byte(i%2), false, fmt.Sprintf(`{"id":"f%d","prompt":"Hello","max_tokens":1}`, i))
	}
	// Behind the flood a request may be dropped too, by a broker whose queue for the daemon is full: it is asked again, under
	// another id, until one is answered.
	asked, last := 0, time.Time{}
	eventually(t, "one behind the flood is answered", func() bool {
		if time.Since(last) > time.Second {
			asked, last = asked+1, time.Now()
			r.publish("request/load", fmt.Sprintf(`{"id":"after%d","prompt":"Hello","max_tokens":2}`, asked))
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		for i := range asked {
			for _, text := range r.texts[fmt.Sprintf("edged/test/response/load/after%d", i+1)] {
				if strings.Contains(text, `"done":true`) && !strings.Contains(text, `"error":`) {
					return true
				}
			}
		}
		return false
	})
	r.serves()
	r.light()
	answered, refused := 0, 0
	r.mu.Lock()
	for topic, all := range r.texts {
		lasts := map[string]bool{}
		for _, text := range all {
			if strings.Contains(text, `"done":true`) {
				lasts[text] = true
				if strings.Contains(text, `"queue_full"`) {
					refused++
				} else {
					answered++
				}
			}
		}
		if len(lasts) > 1 {
			t.Errorf("%s has different last events: %v", topic, lasts)
		}
	}
	r.mu.Unlock()
	if answered == 0 {
		t.Error("none of the flood was answered")
	}
	t.Logf("%d requests: %d answered, %d told queue_full by now, the others dropped by the broker or beyond what is told at once", flood, answered, refused)
}

// TestPayloads: of any size and content; what is too large is swallowed, acknowledged and not sent again.
func TestPayloads(t *testing.T) {
	r := newRig(t)
	r.calibrate()
	sizes := []int{0, 1, 100, 1 << 20, 1<<20 + 1, 20 << 20}
	if soaking() || brokers.Kind() == brokers.Mosquitto && !testing.Short() {
		sizes = append(sizes, 200<<20)
	}
	for i, size := range sizes {
		if brokers.Kind() == brokers.NATS && size > 1<<20 {
			continue // it closes the publisher's connection
		}
		r.publish("ask/size"+strconv.Itoa(i), make([]byte, size))
		text := r.reply("answer/size" + strconv.Itoa(i))
		if refused := strings.HasPrefix(text, "error: "); refused != (size != 1 && size != 100) {
			t.Errorf("%d bytes: %.200s", size, text)
		}
		r.publish("request/load", make([]byte, size))
	}
	r.light()
	for id, payload := range map[string]string{
		"invalid UTF-8": "\xff\xfe\xfd", "in a prompt": "{\"id\":\"u\",\"prompt\":\"\xff\"}", "an id with wildcards": `{"id":"a/+/#","prompt":"x"}`,
		"a reply_to with wildcards": `{"id":"w","prompt":"x","reply_to":"home/#"}`, "a NUL": "{\"id\":\"\x00\",\"prompt\":\"x\"}",
	} {
		before := r.complaints()
		r.publish("request/load", payload)
		eventually(t, id+" is refused", func() bool { return r.complaints() > before })
	}
	for _, topic := range []string{"request/ü", "request/a/b/c", "ask/" + strings.Repeat("x", 65), "request/.\u200b"} {
		before := r.complaints()
		r.publish(topic, `{"id":"t","prompt":"x"}`)
		eventually(t, topic+" is refused", func() bool { return r.complaints() > before })
	}
	r.serves()
}

// complaints counts what was refused.
func (r *rig) complaints() (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for topic, all := range r.texts {
		for _, text := range all {
			if strings.HasPrefix(topic, "edged/test/errors") || strings.Contains(text, `"error"`) || strings.HasPrefix(text, "error: ") {
				n++
			}
		}
	}
	return n
}
