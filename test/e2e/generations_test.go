package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestGenerationsOutliveTheBackend kills the backend over and over, each time while three generations of one adapter are in
// use: two that long requests began with, and the one that has replaced them. Each request ends on its own, and says what
// that says alone.
func TestGenerationsOutliveTheBackend(t *testing.T) {
	g := newGenerations(t)
	kills := soak(2, 20)
	asked := g.s.ask(2, g.greetings)
	pinned, swaps := 0, 0
	for round := 0; pinned < kills; round++ {
		if round == 10*kills {
			t.Fatalf("%d kills of %d hit requests of two replaced generations", pinned, round)
		}
		ids := []string{fmt.Sprintf("a%d", round), fmt.Sprintf("b%d", round)}
		var began []adapterState
		for i, id := range ids {
			began = append(began, g.turn(round+i))
			g.tell(id)
		}
		// Half of the kills hit a backend that has the third generation, half of them one that is being asked about it.
		g.turnTo(round + 2)
		if round%2 == 0 {
			g.now()
		}
		swaps += 3
		if err := syscall.Kill(g.backend(), syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		both := true
		for i, id := range ids {
			last, sum, attempts := g.told(id)
			if last.Error != nil || sum != began[i].SHA256 || last.Text != g.stories[sum] {
				t.Fatalf("round %d: a request that began on %+v ended so: %+v with content %s, want %q", round, began[i], last, sum, g.stories[began[i].SHA256])
			}
			both = both && attempts > 1
		}
		if both {
			pinned++
		}
		g.now()
		asked.check(t)
	}
	total := asked.end(t)
	if total == 0 {
		t.Error("nothing was asked meanwhile")
	}
	g.s.stats(func(a statsAdapters, _ int64) bool { return a.Loaded == 1 && a.Draining == 0 && a.Served == 1 })
	t.Logf("%d kills of the backend took two replaced generations along; %d swaps, %d short requests beside them: none failed, none mixed", pinned, swaps, total)
}

// generations turns one adapter from content to content.
type generations struct {
	t         *testing.T
	s         *service
	dir, side string
	number    int
	greetings map[string]string // what contents say, by sha256
	stories   map[string]string
}

// contents are what the adapter is turned to.
var contents = []string{"pirate", "deutsch", "json"}

func newGenerations(t *testing.T) *generations {
	t.Helper()
	g := &generations{t: t, dir: t.TempDir(), side: t.TempDir(), greetings: map[string]string{}, stories: map[string]string{}}
	g.turnTo(0)
	// The slowest way to compute: a long request has to be there still when two swaps are done and the kill comes.
	t.Setenv("EDGED_KERNELS", "portable")
	g.s = serve(t, "adapters.dir="+g.dir, "adapters.settle=20ms", "mqtt.stats_interval=1s", "backend.precision=exact", "draft.lookup=false") // what was said before would be said in no time
	for i := range contents {
		if i > 0 {
			g.turnTo(i)
		}
		g.now()
		answer, sum := g.s.greet(fmt.Sprintf("alone-%d", i), "x")
		id := fmt.Sprintf("story-%d", i)
		g.tell(id)
		story, same, _ := g.told(id)
		if answer.Error != nil || story.Error != nil || sum != same || story.Usage.Completion != storyTokens {
			t.Fatalf("alone: %+v with content %s, %+v with content %s", answer, sum, story, same)
		}
		g.greetings[sum], g.stories[sum] = answer.Text, story.Text
	}
	if len(g.stories) != len(contents) {
		t.Fatalf("%d adapters have %d contents", len(contents), len(g.stories))
	}
	return g
}

// turnTo turns the adapter's link.
func (g *generations) turnTo(i int) {
	g.t.Helper()
	link := filepath.Join(g.side, "link")
	err := errors.Join(os.Symlink(filepath.Join(demoAdapters(g.t), contents[i%len(contents)]), link), os.Rename(link, filepath.Join(g.dir, "x")))
	if err != nil {
		g.t.Fatal(err)
	}
	g.number++
}

// now waits until the adapter is what it was turned to last.
func (g *generations) now() adapterState {
	g.t.Helper()
	return g.s.adapter("x", func(a adapterState) bool { return a.State == "active" && a.Generation == g.number })
}

// turn is both.
func (g *generations) turn(i int) adapterState {
	g.t.Helper()
	g.turnTo(i)
	return g.now()
}

// storyTokens is the length of a long request: longer than two swaps take.
const storyTokens = 200

// tell begins a long request, whose tokens are drawn, and returns when it has begun to answer.
func (g *generations) tell(id string) {
	g.t.Helper()
	g.s.publish("edged/test/request/dev", fmt.Sprintf(
		`{"id":%q,"adapter":"x","stream":true,"temperature":1.5,"seed":1,"ignore_eos":true,"max_tokens":%d,"prompt":"Tell me a story."}`, id, storyTokens))
	g.s.until("edged/test/response/dev/"+id, func(p string) bool { return strings.Contains(p, `"delta"`) || strings.Contains(p, `"done":true`) })
}

// told waits for the end of a long request.
func (g *generations) told(id string) (last event, sha256 string, attempts int) {
	g.t.Helper()
	topic := "edged/test/response/dev/" + id
	events := g.s.last(topic)
	var used struct {
		Adapters []struct{ SHA256 string }
	}
	if err := json.Unmarshal([]byte(g.s.latest(topic)), &used); err != nil {
		g.t.Fatal(err)
	}
	if len(used.Adapters) == 1 {
		sha256 = used.Adapters[0].SHA256
	}
	g.s.forget(topic)
	last = events[len(events)-1]
	return last, sha256, last.Attempt
}

// backend waits for the backend's process.
func (g *generations) backend() int {
	g.t.Helper()
	for deadline := time.Now().Add(wait); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		pids := children(g.t, g.s.cmd.Process.Pid)
		i := slices.IndexFunc(pids, func(pid int) bool {
			program, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
			return err == nil && strings.HasPrefix(filepath.Base(program), "backend-")
		})
		if i >= 0 {
			return pids[i]
		}
	}
	g.t.Fatal("there is no backend")
	return 0
}
