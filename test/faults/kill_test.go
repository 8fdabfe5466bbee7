package faults

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"edged/core/serve/inbox"
)

// number reads a number from the environment.
func number(name string, otherwise int) int {
	if n, err := strconv.Atoi(os.Getenv(name)); err == nil && n > 0 {
		return n
	}
	return otherwise
}

// rounds is how often a thing is done: a few times in the short set, many in the long one.
func rounds(few, many int) int {
	if os.Getenv("EDGED_SOAK") == "1" {
		few = many
	}
	return number("EDGED_FAULT_ROUNDS", few)
}

func dice(stream uint64) *rand.Rand {
	return rand.New(rand.NewPCG(uint64(number("EDGED_FAULT_SEED", 1)), stream)) //nolint:gosec // moments of kills, and the same again
}

// spread prints durations.
func spread(all []time.Duration) string {
	if len(all) == 0 {
		return "none"
	}
	slices.Sort(all)
	return fmt.Sprintf("median %v, longest %v of %d", all[len(all)/2].Round(time.Millisecond), all[len(all)-1].Round(time.Millisecond), len(all))
}

// TestKills kills each process of a node at random moments under load. -run TestKills/broker kills only that one.
func TestKills(t *testing.T) {
	r := newRig(t)
	r.calibrate()
	r.work(true)
	r.settle()
	r.work(false)
	r.idle()
	n, deaths := rounds(5, 1000), 0

	before := usage(t, r.daemon.Process.Pid)
	plugin := map[string]use{"backend": usage(t, r.plugin("backend")), "tokenizer": usage(t, r.plugin("tokenizer"))}
	for stream, kind := range []string{"backend", "tokenizer"} {
		r.part(kind, func(t *testing.T) {
			back := r.killPlugin(kind, n, dice(uint64(stream)))
			deaths += n
			t.Logf("%s: %d times kill -9; so far %s", kind, n, r.verify())
			if kind == "backend" {
				t.Logf("from a death of the backend to the next token of what it took along: %s", spread(back))
			}
		})
	}
	r.part("broker", func(t *testing.T) {
		back := r.killBroker(n, dice(2))
		deaths += n
		t.Logf("broker: %d times kill -9; so far %s", n, r.verify())
		t.Logf("from the broker's return to online, every subscription granted: %s", spread(back))
	})

	// What the daemon has been through must not show.
	eventually(t, "descriptors and memory are what they were", func() bool {
		u := usage(t, r.daemon.Process.Pid)
		return u.files <= before.files+2 && u.memory <= before.memory+24<<10
	})
	after := usage(t, r.daemon.Process.Pid)
	t.Logf("daemon: %d descriptors and %d kB before, %d and %d kB after %d deaths around it",
		before.files, before.memory, after.files, after.memory, deaths)
	for kind, was := range plugin {
		is := usage(t, r.plugin(kind))
		if is.files > was.files+4 {
			t.Errorf("%s: %d descriptors, %d before", kind, is.files, was.files)
		}
	}
	used := r.goroutines()
	r.start()
	r.part("daemon", func(t *testing.T) {
		rng := dice(3)
		r.work(true)
		for range n {
			r.settle()
			moment(rng, 200*time.Millisecond)
			r.kill()
			r.start()
			r.settle()
		}
		r.work(false)
		r.idle()
		t.Logf("daemon: %d times kill -9; in all %s", n, r.verify())
	})
	r.orphans()
	r.work(true)
	r.settle()
	r.work(false)
	r.idle()
	if unused := r.goroutines(); used > unused+n/2+4 {
		t.Errorf("%d goroutines after %d deaths, %d in a fresh daemon", used, deaths, unused)
	} else {
		t.Logf("goroutines: %d after %d deaths, %d in a fresh daemon", used, deaths, unused)
	}
}

// part is a sub-test on the node of a test.
func (r *rig) part(name string, do func(t *testing.T)) {
	whole := r.t
	whole.Run(name, func(t *testing.T) {
		r.t, r.load.t = t, t
		defer func() { r.t, r.load.t = whole, whole }()
		do(t)
	})
}

// killPlugin kills a plugin n times under load, and returns how long each time its death kept tokens away.
func (r *rig) killPlugin(kind string, n int, rng *rand.Rand) (back []time.Duration) {
	r.t.Helper()
	r.work(true)
	for range n {
		r.settle()
		moment(rng, 200*time.Millisecond)
		pid := r.plugin(kind)
		r.mu.Lock()
		r.fresh = time.Time{}
		r.mu.Unlock()
		killed := time.Now()
		_ = syscall.Kill(pid, syscall.SIGKILL)
		r.settle()
		r.mu.Lock()
		if next := r.fresh.Sub(killed); next > 0 {
			back = append(back, next)
		}
		r.mu.Unlock()
	}
	r.work(false)
	r.idle()
	return back
}

// killBroker kills the broker n times under load, and returns how long each time the node took to be back at it.
func (r *rig) killBroker(n int, rng *rand.Rand) (back []time.Duration) {
	r.t.Helper()
	r.work(true)
	for range n {
		r.settle()
		moment(rng, 200*time.Millisecond)
		r.broker.Kill()
		r.mu.Lock()
		r.state = ""
		r.mu.Unlock()
		r.broker.Start()
		up := time.Now()
		r.online()
		back = append(back, time.Since(up))
		r.settle()
	}
	r.work(false)
	r.idle()
	return back
}

// TestKillsOverOneMessage: a message that the broker brings again, because the node ended while it read it, is refused unread and
// acknowledged after the eighth time. One end is real; the others are noted as the node notes them.
func TestKillsOverOneMessage(t *testing.T) {
	r := newRig(t)
	r.calibrate()
	told := func(topic string) string {
		r.mu.Lock()
		defer r.mu.Unlock()
		return strings.Join(r.texts["edged/test/"+topic], "\n")
	}
	// Reading it takes some milliseconds, so that the kill mostly comes in time; if not, it is answered, and another one follows.
	var wide strings.Builder
	for i := range 60_000 {
		fmt.Fprintf(&wide, `"k%d":%d,`, i, i)
	}
	folder := filepath.Join(r.dir, "state", "inbox")
	var digest [32]byte
	for i := 0; ; i++ {
		id := fmt.Sprint("slow", i)
		r.publish("request/slow", `{"id":"`+id+`","max_tokens":1,"prompt":"x","template_vars":{`+wide.String()+`"z":1}}`)
		eventually(t, "it is read", func() bool { return taken(t, folder) != digest || told("response/slow/"+id) != "" })
		r.kill()
		if digest = taken(t, folder); digest != [32]byte{} {
			break
		}
		r.start()
		r.reply("response/slow/" + id)
	}
	taking, err := inbox.OpenTaking(folder, 8)
	if err != nil {
		t.Fatal(err)
	}
	for range 7 {
		if _, ok := taking.Begin(digest); !ok {
			t.Fatal("the message has met more than one end")
		}
	}
	if err := taking.Close(); err != nil {
		t.Fatal(err)
	}
	r.start()
	eventually(t, "it is refused", func() bool { return told("errors/slow") != "" })
	if text := told("errors/slow"); !strings.Contains(text, "quarantined") || !strings.Contains(text, "ended 8 times") {
		t.Error(text)
	}
	// It is acknowledged: it does not come to the next life, before what comes later.
	r.serves()
	r.stop()
	r.start()
	r.serves()
	if n := strings.Count(told("errors/slow"), "quarantined"); n != 1 {
		t.Errorf("refused %d times", n)
	}
}

// taken is the digest of the message that the file of an inbox.Taking says is being read, or was when the node ended; zero: none.
func taken(t *testing.T, folder string) (digest [32]byte) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(folder, "taking"))
	if err != nil {
		t.Fatal(err)
	}
	for slot := range slices.Chunk(data, 48) {
		if len(slot) == 48 && binary.LittleEndian.Uint32(slot[32:]) > 0 {
			return [32]byte(slot)
		}
	}
	return digest
}

// TestPowerCut kills broker and node together. The client publishes an id again only until it was accepted.
func TestPowerCut(t *testing.T) {
	r := newRig(t)
	r.calibrate()
	n := rounds(5, 100)
	rng := dice(4)
	r.mu.Lock()
	r.patient = true
	r.mu.Unlock()
	r.work(true)
	lost := 0
	for range n {
		moment(rng, 400*time.Millisecond)
		both := []func(){r.kill, r.broker.Kill}
		if rng.IntN(2) == 0 {
			slices.Reverse(both)
		}
		sessions := r.connections()
		both[0]()
		both[1]()
		r.broker.Start()
		// The broker forgets what it held. Who is subscribed before the node is back misses nothing that the node has.
		eventually(t, "the client is back", func() bool { return r.connections() > sessions })
		r.start()
		lost += r.settleAccepted()
	}
	r.work(false)
	lost += r.settleAccepted()
	r.idle()
	c := r.verify()
	t.Logf("power cut: %d times; %s; %d that were accepted were asked for again after %v, and found", n, c, lost, onTheWay)
}

// onTheWay is how long a client waits before it takes an answer for lost with the broker.
const onTheWay = 10 * time.Second

// settleAccepted waits until everything that is open now has its last event. What was accepted gets it without a repeat,
// unless the broker, or the client's own connection, died between acknowledging it and passing it on: then a repeat is
// answered from the journal, or joins what still runs, and nothing is accepted a second time.
func (r *rig) settleAccepted() (lost int) {
	r.t.Helper()
	r.mu.Lock()
	waiting := slices.Clone(r.open)
	r.mu.Unlock()
	asked := map[*ask]int{}
	ended := func(a *ask) bool { return len(a.lasts) > 0 }
	begin := time.Now()
	eventually(r.t, "what was accepted is answered without being asked again", func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		left := 0
		for _, a := range waiting {
			if ended(a) {
				continue
			}
			left++
			if _, did := asked[a]; a.accepted && !did && time.Since(begin) > onTheWay {
				asked[a] = a.announced
				r.client.Publish("edged/test/request/load", 1, false, a.payload)
			}
		}
		return left == 0
	})
	r.mu.Lock()
	defer r.mu.Unlock()
	for a, announced := range asked {
		if a.announced > announced {
			r.t.Errorf("%s was accepted, and computed anew when it was asked again", a.id)
		}
	}
	return len(asked)
}
