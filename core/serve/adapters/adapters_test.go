package adapters

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"edged/core/protocol"
	"edged/core/protocol/backend"
)

// peft writes an adapter of rank 2 on one matrix whose values all are x.
func peft(t *testing.T, dir string, x float32) {
	t.Helper()
	must(t, os.MkdirAll(dir, 0o700))
	must(t, os.WriteFile(filepath.Join(dir, "adapter_config.json"), []byte(`{"peft_type":"LORA","r":2,"lora_alpha":4,"target_modules":["q_proj"]}`), 0o600))
	must(t, os.WriteFile(filepath.Join(dir, "adapter_model.safetensors"), tensors(t, x), 0o600))
}

func tensors(t *testing.T, x float32) []byte {
	t.Helper()
	type tensor struct {
		DType   string `json:"dtype"`
		Shape   []int  `json:"shape"`
		Offsets []int  `json:"data_offsets"`
	}
	const name = "base_model.model.model.layers.0.self_attn.q_proj.lora_"
	header, err := json.Marshal(map[string]tensor{
		name + "A.weight": {"F32", []int{2, 8}, []int{0, 64}},
		name + "B.weight": {"F32", []int{8, 2}, []int{64, 128}},
	})
	must(t, err)
	out := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
	out = append(out, header...)
	for range 32 {
		var b [4]byte
		_, err := binary.Encode(b[:], binary.LittleEndian, x)
		must(t, err)
		out = append(out, b[:]...)
	}
	return out
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// fake is a backend that takes everything that is not named in refuses. It counts what it holds.
type fake struct {
	mu       sync.Mutex
	life     uint64
	loaded   map[string]string // path by id
	loads    int
	refuses  map[string]error // by name
	dies     int              // the next so many loads
	tries    error
	quality  map[string]float64 // nats a token, by content
	together int                // the most that were loaded at once
}

func (b *fake) LoadAdapter(_ context.Context, req backend.AdapterRequest) (backend.AdapterInfo, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.loads++
	if b.dies > 0 {
		b.dies--
		b.life++
		b.loaded = map[string]string{}
		return backend.AdapterInfo{}, protocol.ErrPluginDied
	}
	if err := b.refuses[req.Name]; err != nil {
		return backend.AdapterInfo{}, fmt.Errorf("%s: %w", req.Path, err)
	}
	if got, err := hashOf(req.Path); err != nil || got != req.SHA256 {
		return backend.AdapterInfo{}, fmt.Errorf("%s: %w: hash %s: %w", req.Path, protocol.ErrModel, got, errors.Join(err, errors.New("not what was proved")))
	}
	if b.loaded == nil {
		b.loaded = map[string]string{}
	}
	id := "id-" + req.SHA256
	b.loaded[id] = req.Path
	b.together = max(b.together, len(b.loaded))
	return backend.AdapterInfo{ID: id, SHA256: req.SHA256, Rank: 2, Targets: []string{"q_proj"}, Bytes: 100}, nil
}

func (b *fake) UnloadAdapter(_ context.Context, id string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, ok := b.loaded[id]; !ok {
		return protocol.ErrAdapterNotFound
	}
	delete(b.loaded, id)
	return nil
}

func (b *fake) Try(_ context.Context, id string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, ok := b.loaded[id]; !ok {
		return fmt.Errorf("%w: %q", protocol.ErrAdapterNotFound, id)
	}
	return b.tries
}

func (b *fake) Score(_ context.Context, id string, samples []Sample) (float64, int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.quality[strings.TrimPrefix(id, "id-")] * float64(len(samples)), len(samples), nil
}

func (b *fake) now(context.Context, uint64) (Prover, uint64, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b, b.life + 1, nil
}

func (b *fake) count() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.loaded)
}

// blind gives the hints that a test makes.
type blind chan struct{}

func (b blind) Hints() <-chan struct{}  { return b }
func (b blind) Follow(string, []string) {}

// bench is a Folder that runs, over a fake backend.
type bench struct {
	*Folder
	t     *testing.T
	dir   string
	fake  *fake
	eyes  blind
	end   context.CancelFunc
	ended chan struct{}
}

func newBench(t *testing.T, change ...func(*Options)) *bench {
	t.Helper()
	b := &bench{t: t, dir: t.TempDir(), fake: &fake{}, eyes: make(blind, 1)}
	b.open(t.TempDir(), change...)
	return b
}

func (b *bench) open(store string, change ...func(*Options)) {
	b.t.Helper()
	o := Options{
		Dir: b.dir, Store: store, Settle: time.Second, Rescan: 30 * time.Second,
		Backend: b.fake.now, Log: slog.New(slog.NewTextHandler(b.t.Output(), nil)),
	}
	for _, c := range change {
		c(&o)
	}
	var err error
	b.Folder, err = New(o)
	must(b.t, err)
	must(b.t, b.Open(b.t.Context()))
}

// run runs the folder until the test's, or stop's, end.
func (b *bench) run() {
	ctx, cancel := context.WithCancel(b.t.Context())
	b.ended = make(chan struct{})
	go func() {
		defer close(b.ended)
		b.Folder.run(ctx, b.eyes)
	}()
	b.end = func() {
		cancel()
		<-b.ended
	}
}

// hint says that something changed and lets the folder work until it waits for time to pass.
func (b *bench) hint() {
	select {
	case b.eyes <- struct{}{}:
	default:
	}
	b.later(60 * time.Millisecond) // the throttle
}

// later lets time pass.
func (b *bench) later(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func (b *bench) state(name string) State {
	for _, s := range b.States() {
		if s.Name == name {
			return s
		}
	}
	return State{}
}

func (b *bench) want(name, state string, generation int, says string) State {
	b.t.Helper()
	s := b.state(name)
	if s.State != state || s.Generation != generation || !strings.Contains(s.Error, says) || (says == "") != (s.Error == "") {
		b.t.Fatalf("%s: %+v, want %s, generation %d, error %q", name, s, state, generation, says)
	}
	return s
}

func (b *bench) put(name string, x float32) {
	b.t.Helper()
	peft(b.t, filepath.Join(b.dir, name), x)
}

func (b *bench) use(p *Pin) string {
	b.t.Helper()
	id, err := p.Use(b.t.Context(), b.fake, b.fake.life+1)
	must(b.t, err)
	return id
}

func (b *bench) resolve(name string) *Pin {
	b.t.Helper()
	p, err := b.Resolve(name, "")
	must(b.t, err)
	return p
}

func (b *bench) copies() []string {
	b.t.Helper()
	list, err := os.ReadDir(b.o.Store)
	must(b.t, err)
	var names []string
	for _, e := range list {
		if e.Name() != indexName {
			names = append(names, e.Name())
		}
	}
	return names
}

func TestDropSwapRemove(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.run()
		defer b.end()
		b.later(time.Minute)
		b.put("pirate", 1)
		b.hint()
		b.want("pirate", Settling, 0, "")
		if _, err := b.Resolve("pirate", ""); !errors.Is(err, protocol.ErrAdapterNotFound) || !strings.Contains(err.Error(), "not ready yet") {
			t.Errorf("while it settles: %v", err)
		}
		b.later(900 * time.Millisecond)
		b.put("pirate", 2) // still being written
		b.hint()
		b.later(900 * time.Millisecond)
		b.want("pirate", Settling, 0, "")
		b.later(200 * time.Millisecond)
		first := b.want("pirate", Active, 1, "")
		if first.Rank != 2 || first.Bytes != 100 || !slices.Equal(first.Targets, []string{"q_proj"}) || len(first.SHA256) != 64 {
			t.Errorf("%+v", first)
		}

		// A request keeps its generation; the next one is used by those that come after.
		running, waiting := b.resolve("pirate"), b.resolve("pirate")
		old := b.use(running)
		b.put("pirate", 3)
		b.hint()
		b.want("pirate", Settling, 1, "")
		b.later(time.Second)
		second := b.want("pirate", Active, 2, "")
		after := b.resolve("pirate")
		if id := b.use(after); id == old || after.g.number != 2 || b.use(waiting) != old || running.SHA256() != first.SHA256 || after.SHA256() != second.SHA256 {
			t.Error("generations are mixed up")
		}
		if n := b.Counts(); n.Draining != 1 || n.Loaded != 2 || n.Swaps != 2 || n.Served != 1 || len(b.copies()) != 2 {
			t.Errorf("%+v, copies %v", n, b.copies())
		}
		running.Release()
		synctest.Wait()
		if b.fake.count() != 2 {
			t.Error("a pinned generation was freed")
		}
		waiting.Release()
		waiting.Release() // once is enough
		synctest.Wait()
		if n := b.Counts(); b.fake.count() != 1 || n.Draining != 0 || len(b.copies()) != 1 {
			t.Errorf("%d loaded, %+v, copies %v: generation 1 was not freed", b.fake.count(), n, b.copies())
		}

		// A touch is no new generation, a bad drop leaves the old one.
		must(t, os.Chtimes(filepath.Join(b.dir, "pirate", "adapter_config.json"), time.Now(), time.Now()))
		b.hint()
		b.later(time.Second)
		b.want("pirate", Active, 2, "")
		b.fake.refuses = map[string]error{"pirate": fmt.Errorf("%w: q_proj is (4, 8) and the model's is (8, 8)", protocol.ErrModel)}
		b.put("pirate", 4)
		b.hint()
		b.later(time.Second)
		s := b.want("pirate", Rejected, 2, "q_proj is (4, 8)")
		if s.SHA256 != second.SHA256 || !strings.Contains(s.Error, filepath.Join(b.dir, "pirate")) || strings.Contains(s.Error, b.o.Store) {
			t.Errorf("%+v", s)
		}
		synctest.Wait()
		if b.fake.count() != 1 || len(b.copies()) != 1 {
			t.Errorf("a rejected drop left something: %d loaded, copies %v", b.fake.count(), b.copies())
		}

		// Away for less than settle is not removed; for longer, it drains.
		must(t, os.RemoveAll(filepath.Join(b.dir, "pirate")))
		b.hint()
		b.later(500 * time.Millisecond)
		b.want("pirate", Rejected, 2, "q_proj")
		b.fake.refuses = nil
		b.put("pirate", 3)
		b.hint()
		b.later(time.Second)
		b.want("pirate", Active, 2, "")
		must(t, os.RemoveAll(filepath.Join(b.dir, "pirate")))
		b.hint()
		b.later(time.Second)
		b.want("pirate", Draining, 0, "")
		b.put("other", 9)
		b.hint()
		b.later(time.Second)
		if _, err := b.Resolve("pirate", ""); !errors.Is(err, protocol.ErrAdapterNotFound) || !strings.Contains(err.Error(), "there are other") {
			t.Errorf("removed: %v", err)
		}
		if b.use(after) != "id-"+second.SHA256 {
			t.Error("a running request lost its adapter")
		}
		after.Release()
		synctest.Wait()
		if s := b.state("pirate"); s.State != "" || b.fake.count() != 1 || len(b.copies()) != 1 {
			t.Errorf("after the last request: %+v, %d loaded, copies %v", s, b.fake.count(), b.copies())
		}
	})
}

func TestUnfinishedDropsWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.run()
		defer b.end()
		whole := tensors(t, 1)
		dir := filepath.Join(b.dir, "slow")
		must(t, os.Mkdir(dir, 0o700))
		b.hint()
		b.later(1100 * time.Millisecond)
		b.want("slow", Settling, 0, "adapter_config.json is missing")
		must(t, os.WriteFile(filepath.Join(dir, "adapter_config.json"), []byte(`{"peft_type":"LORA","r":2,"lora_alpha":4,"target_modules":["q_proj"]}`), 0o600))
		b.hint()
		b.later(1100 * time.Millisecond)
		b.want("slow", Settling, 0, "adapter_model.safetensors is missing")
		must(t, os.WriteFile(filepath.Join(dir, "adapter_model.safetensors"), whole[:len(whole)-7], 0o600))
		b.hint()
		b.later(1100 * time.Millisecond)
		b.want("slow", Settling, 0, "cut off")
		must(t, os.WriteFile(filepath.Join(dir, "adapter_model.safetensors"), whole, 0o600))
		b.hint()
		b.later(1100 * time.Millisecond)
		b.want("slow", Active, 1, "")
		must(t, os.WriteFile(filepath.Join(dir, "adapter_model.safetensors"), whole[:len(whole)-7], 0o600))
		b.hint()
		b.later(2 * time.Second)
		b.want("slow", Settling, 1, "cut off")
		b.later(patience * time.Second)
		b.want("slow", Rejected, 1, "cut off")
		must(t, os.WriteFile(filepath.Join(dir, "adapter_model.safetensors"), whole, 0o600))
		b.later(32 * time.Second) // nobody hints: the rescan finds it
		b.want("slow", Active, 1, "")
	})
}

func TestWhatIsNoAdapter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, func(o *Options) { o.Limits = Limits{Names: 6, Bytes: 4 << 10} })
		b.put("pirate", 1)
		for _, name := range []string{"white space", ".hidden", "editing~", "half.part"} {
			b.put(name, 2)
		}
		for _, file := range []string{"README.txt", "my notes.txt", "adapter_config.json", "adapter_model.safetensors", "bad name.gguf", "bad-name.gguf.minisig"} {
			must(t, os.WriteFile(filepath.Join(b.dir, file), nil, 0o600))
		}
		must(t, os.Mkdir(filepath.Join(b.dir, "lost+found"), 0o700))
		must(t, os.Mkdir(filepath.Join(b.dir, "pir\nate"), 0o700))
		must(t, os.WriteFile(filepath.Join(b.dir, "pirate.gguf"), []byte("GGUF"), 0o600))
		must(t, os.WriteFile(filepath.Join(b.dir, "pirate.gguf.minisig"), nil, 0o600))
		must(t, os.Symlink("loop", filepath.Join(b.dir, "loop")))
		must(t, os.Symlink("/dev/zero", filepath.Join(b.dir, "zero.gguf")))
		must(t, os.WriteFile(filepath.Join(b.dir, "huge.gguf"), nil, 0o600))
		must(t, os.Truncate(filepath.Join(b.dir, "huge.gguf"), 10<<30))
		b.put("pickle", 1)
		must(t, os.Rename(filepath.Join(b.dir, "pickle", "adapter_model.safetensors"), filepath.Join(b.dir, "pickle", "adapter_model.bin")))
		must(t, os.Symlink("pirate", filepath.Join(b.dir, "current")))
		b.run()
		defer b.end()
		b.later(10 * time.Second)
		b.want("pirate", Active, 1, "pirate.gguf has the same name")
		b.want("current", Active, 1, "")
		b.want("loop", Rejected, 0, "symbolic links")
		b.want("zero", Rejected, 0, "not a regular file")
		b.want("huge", Rejected, 0, "adapters.max_size is 4096")
		b.want("pickle", Rejected, 0, "pickle")
		b.want("white-space", Rejected, 0, `"white space": its name must match`)
		b.want("bad-name", Rejected, 0, `"bad name.gguf": its name must match`)
		b.want("pir-ate", Rejected, 0, `"pir\nate": its name must match`)
		b.want("adapter_model.safetensors", Rejected, 0, "put both adapter_config.json and adapter_model.safetensors into a folder NAME/")
		if n := b.Counts().Rejected; n != 8 {
			t.Errorf("%d rejected", n)
		}
		if _, err := b.Resolve("white-space", ""); !errors.Is(err, protocol.ErrAdapterNotFound) || !strings.Contains(err.Error(), "its name must match") {
			t.Errorf("%v", err)
		}
		if len(b.States()) != 10 || b.fake.count() != 1 || len(b.copies()) != 1 {
			t.Errorf("%v; %d loaded, copies %v", b.States(), b.fake.count(), b.copies())
		}
		b.put("seventh", 3)
		b.hint()
		b.later(2 * time.Second)
		b.want("seventh", Rejected, 0, "there are 6 others already, and adapters.max_count is that")
		// The link leads elsewhere: a new generation of that name alone.
		b.put("pirate-v2/x", 7)
		must(t, os.RemoveAll(filepath.Join(b.dir, "loop")))
		must(t, os.RemoveAll(filepath.Join(b.dir, "seventh")))
		must(t, os.Symlink("pirate-v2/x", filepath.Join(b.dir, "new")))
		must(t, os.Rename(filepath.Join(b.dir, "new"), filepath.Join(b.dir, "current")))
		b.hint()
		b.later(10 * time.Second)
		b.want("current", Active, 2, "")
		b.want("pirate", Active, 1, "pirate.gguf has the same name")
		// The first of two rivals goes, the second is looked at.
		must(t, os.RemoveAll(filepath.Join(b.dir, "pirate")))
		b.hint()
		b.later(1100 * time.Millisecond)
		b.want("pirate", Settling, 1, "ends")
	})
}

func TestRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.run()
		b.put("a", 1)
		b.hint()
		b.later(time.Second)
		b.put("a", 2)
		b.hint()
		b.later(time.Second)
		first := b.want("a", Active, 2, "")
		pin := b.resolve("a")
		b.put("a", 3)
		b.hint()
		b.later(time.Second)
		second := b.want("a", Active, 3, "")
		b.end()
		pin.Release() // the dispatcher lets go at shutdown; the journal still holds the request
		if len(b.copies()) != 2 {
			t.Fatalf("copies %v", b.copies())
		}
		must(t, os.WriteFile(filepath.Join(b.dir, "a", "adapter_config.json"), []byte("{"), 0o600))

		// The next process: what was served is served, although the folder has become bad.
		b.fake = &fake{life: 7}
		b.open(b.o.Store)
		b.want("a", Settling, 3, "")
		must(t, b.Prove(t.Context(), b.fake, 8))
		if b.fake.count() != 1 {
			t.Errorf("%d loaded before the first request", b.fake.count())
		}
		must(t, b.First(t.Context()))
		if s := b.want("a", Rejected, 3, "JSON"); s.SHA256 != second.SHA256 {
			t.Errorf("%+v", s)
		}
		again, err := b.Resolve("a", first.SHA256)
		must(t, err)
		if b.use(again) != "id-"+first.SHA256 {
			t.Error("a journalled request got another content")
		}
		if _, err := b.Resolve("a", strings.Repeat("0", 64)); !errors.Is(err, protocol.ErrAdapterNotFound) {
			t.Errorf("a content that nobody has: %v", err)
		}
		b.Sweep(t.Context())
		b.run()
		defer b.end()
		synctest.Wait()
		if len(b.copies()) != 2 || !slices.Contains(b.copies(), first.SHA256) {
			t.Errorf("copies %v: want what is served and what is pinned", b.copies())
		}
		again.Release()
		synctest.Wait()
		if len(b.copies()) != 1 || b.fake.count() != 1 {
			t.Errorf("copies %v, %d loaded", b.copies(), b.fake.count())
		}
		b.put("a", 2)
		b.hint()
		b.later(time.Second)
		b.want("a", Active, 4, "")
	})
}

func TestDamagedCopyIsMadeAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.run()
		b.put("a", 1)
		b.hint()
		b.later(time.Second)
		s := b.want("a", Active, 1, "")
		b.end()
		file := filepath.Join(b.o.Store, s.SHA256, "adapter_model.safetensors")
		must(t, os.WriteFile(file, []byte("rot"), 0o600))
		must(t, os.WriteFile(filepath.Join(b.o.Store, ".in-left"), nil, 0o600))
		b.fake = &fake{}
		b.open(b.o.Store)
		must(t, b.First(t.Context()))
		if s := b.want("a", Active, 2, ""); !b.store.has(s.SHA256) || len(b.copies()) != 1 {
			t.Errorf("%+v, copies %v", s, b.copies())
		}
	})
}

func TestBackendDies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.run()
		defer b.end()
		b.put("a", 1)
		b.fake.dies = deaths - 1
		b.hint()
		b.later(time.Second)
		b.want("a", Active, 1, "")
		pin := b.resolve("a")
		b.put("a", 2)
		b.hint()
		b.later(time.Second)
		b.want("a", Active, 2, "")
		// A new life: what is served is there before the first request, what is pinned comes on demand, byte for byte.
		b.fake.life, b.fake.loaded = b.fake.life+1, nil
		must(t, b.Prove(t.Context(), b.fake, b.fake.life+1))
		if b.fake.count() != 1 || b.use(pin) != "id-"+pin.SHA256() || b.fake.count() != 2 {
			t.Errorf("%d loaded", b.fake.count())
		}
		pin.Release()
		b.fake.dies = 100
		b.put("a", 3)
		b.hint()
		b.later(time.Second)
		b.want("a", Rejected, 2, "died 3 times")
		// What kills every life is taken out of the way.
		b.fake.dies = 100
		for range deaths {
			if err := b.Prove(t.Context(), b.fake, b.fake.life+1); !errors.Is(err, protocol.ErrPluginDied) {
				t.Fatal(err)
			}
		}
		must(t, b.Prove(t.Context(), b.fake, b.fake.life+1))
		b.want("a", Rejected, 0, "died 3 times")
	})
}

func TestLeastRecentlyUsedLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, func(o *Options) { o.Limits.Memory = 250 }) // two of 100
		b.run()
		defer b.end()
		for i, name := range []string{"a", "b", "c", "d"} {
			b.put(name, float32(i+1))
		}
		b.hint()
		b.later(2 * time.Second)
		for _, name := range []string{"a", "b", "c", "d", "a", "b"} {
			b.want(name, Active, 1, "")
			p := b.resolve(name)
			b.use(p)
			if n := b.fake.count(); n > 2 {
				t.Errorf("%s: %d loaded", name, n)
			}
			p.Release()
		}
		// Those in use stay, whatever else is asked for.
		var pins []*Pin
		for _, name := range []string{"a", "b", "c"} {
			p := b.resolve(name)
			b.use(p)
			pins = append(pins, p)
		}
		if n := b.Counts(); n.Loaded != 3 || n.Bytes != 300 {
			t.Errorf("%+v", n)
		}
		for _, p := range pins {
			if got, err := p.Use(t.Context(), b.fake, 1); err != nil || b.fake.loaded[got] == "" {
				t.Errorf("%q: %v", got, err)
			}
			p.Release()
		}
		p := b.resolve("d")
		b.use(p)
		p.Release()
		if n := b.Counts(); n.Loaded != 2 || b.fake.count() != 2 {
			t.Errorf("%+v", n)
		}
	})
}

func TestGate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := filepath.Join(t.TempDir(), "gate.jsonl")
		b := newBench(t, func(o *Options) { o.Gate = Gate{Path: gate, Margin: 0.1} })
		b.run()
		defer b.end()
		b.fake.quality = map[string]float64{}
		put := func(x float32, nats float64) {
			b.put("a", x)
			sum, err := hashOf(filepath.Join(b.dir, "a"))
			must(t, err)
			b.fake.quality[sum] = nats
			b.hint()
			b.later(time.Second)
		}
		put(1, 1)
		b.want("a", Active, 1, "")
		put(2, 1)
		b.want("a", Rejected, 1, "no such file")
		must(t, os.WriteFile(gate, []byte(`{"prompt":"x","reference":"y"}`+"\n"), 0o600))
		put(3, 1.05)
		b.want("a", Active, 2, "")
		put(4, 2)
		b.want("a", Rejected, 2, "perplexity on gate.jsonl is 7.389, and that of generation 2, which stays, is 2.858")
		put(5, 0.5)
		b.want("a", Active, 3, "")
	})
}

func TestReadGate(t *testing.T) {
	for text, says := range map[string]string{
		`{"prompt":"x"}`: "line 1 has no \"reference\"",
		"\n{":            "line 2",
		`{"prompt":"x","messages":[],"reference":"y"}`: "one of them",
		"": "no sample",
	} {
		if _, err := parseGate([]byte(text), true); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %v", text, err)
		}
	}
	if s, err := parseGate([]byte("Once upon a time"), false); err != nil || len(s) != 1 {
		t.Errorf("%v, %v", s, err)
	}
	if _, err := parseGate([]byte(" \n"), false); err == nil {
		t.Error("an empty text passed")
	}
}

func TestNoFolder(t *testing.T) {
	for _, dir := range []string{"", filepath.Join(t.TempDir(), "none")} {
		f, err := New(Options{Dir: dir, Store: t.TempDir()})
		must(t, err)
		must(t, f.Open(t.Context()))
		must(t, f.First(t.Context()))
		if _, err := f.Resolve("x", ""); err == nil || !strings.Contains(err.Error(), "serves no adapters") {
			t.Errorf("%q: %v", dir, err)
		}
	}
	file := filepath.Join(t.TempDir(), "file")
	must(t, os.WriteFile(file, nil, 0o600))
	f, err := New(Options{Dir: file, Store: t.TempDir()})
	must(t, err)
	if f.Open(t.Context()) == nil {
		t.Error("a file was read as a folder")
	}
}

// TestWatcher uses the real file system events: the rescan is far away.
func TestWatcher(t *testing.T) {
	b := newBench(t, func(o *Options) { o.Settle, o.Rescan = 20*time.Millisecond, time.Hour })
	told := make(chan struct{}, 1)
	b.o.Notify = func() {
		select {
		case told <- struct{}{}:
		default:
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- b.Run(ctx) }()
	until := func(what string, ok func(State) bool) {
		t.Helper()
		end := time.After(time.Minute)
		for !ok(b.state("a")) {
			select {
			case <-told:
			case <-end:
				t.Fatalf("%s: %+v", what, b.state("a"))
			}
		}
	}
	b.put("a", 1)
	until("a drop", func(s State) bool { return s.State == Active && s.Generation == 1 })
	must(t, os.WriteFile(filepath.Join(b.dir, "a", "adapter_model.safetensors"), tensors(t, 2), 0o600))
	until("a write inside of a folder", func(s State) bool { return s.State == Active && s.Generation == 2 })
	side := filepath.Join(t.TempDir(), "a")
	peft(t, side, 3)
	must(t, os.Rename(filepath.Join(b.dir, "a"), filepath.Join(b.dir, ".old")))
	must(t, os.Rename(side, filepath.Join(b.dir, "a")))
	until("a rename", func(s State) bool { return s.State == Active && s.Generation == 3 })
	must(t, os.WriteFile(filepath.Join(b.dir, "a", "adapter_model.safetensors"), tensors(t, 4), 0o600))
	until("a write inside of the folder that took its place", func(s State) bool { return s.State == Active && s.Generation == 4 })
	must(t, os.RemoveAll(filepath.Join(b.dir, "a")))
	until("a removal", func(s State) bool { return s.State == "" })
	versions := t.TempDir()
	for i := range 3 {
		version := filepath.Join(versions, strconv.Itoa(i))
		peft(t, version, float32(10*i+5))
		must(t, os.Symlink(version, filepath.Join(versions, "link")))
		must(t, os.Rename(filepath.Join(versions, "link"), filepath.Join(b.dir, "a")))
		must(t, os.RemoveAll(filepath.Join(versions, strconv.Itoa(i-1))))
		until("a turned link", func(s State) bool { return s.State == Active && s.Generation == 5+2*i })
		must(t, os.WriteFile(filepath.Join(version, "adapter_model.safetensors"), tensors(t, float32(10*i+6)), 0o600))
		until("a write behind a link", func(s State) bool { return s.State == Active && s.Generation == 6+2*i })
	}
	cancel()
	must(t, <-done)
}
