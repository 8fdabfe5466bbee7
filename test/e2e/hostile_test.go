package e2e

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	random "math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"aead.dev/minisign"
)

// TestHostileDrops throws rubbish into the folder, everything at once and over and over, while a good adapter is asked: what
// is served stays, every drop has its reason, and nothing is left of any of them. Once without keys and once with some:
// whoever signs may be hostile too, and what was damaged on the way is found out by its signature.
func TestHostileDrops(t *testing.T) {
	for _, signed := range []bool{false, true} {
		name := "without keys"
		if signed {
			name = "signed"
		}
		t.Run(name, func(t *testing.T) {
			h := newHostile(t, signed)
			kinds := h.kinds()
			if signed {
				kinds = append(h.signatures(), kinds[:soak(0, len(kinds))]...)
			}
			h.run(kinds, (soak(1, 500)+len(kinds)-1)/len(kinds))
		})
	}
}

// A hostile makes bad drops for a service that serves an adapter named x.
type hostile struct {
	t       *testing.T
	s       *service
	dir     string
	random  *random.Rand
	key     minisign.PrivateKey
	signed  bool
	config  []byte // of the good adapter
	tensors []byte
	good    map[string]string // what contents say, by sha256
	another string            // the sha256 of another good adapter
	drops   int
}

// A hostileKind is one way to be hostile.
type hostileKind struct {
	what string
	says string // part of the reason; "": any
	drop func(path string)
	told func(name string) (why string) // waits for the reason; nil: it stands on the drop's topic, and nothing of it is served
	then func(name string)              // what else is wanted of it; nil: nothing
}

func newHostile(t *testing.T, signed bool) *hostile {
	t.Helper()
	h := &hostile{t: t, dir: t.TempDir(), random: random.New(random.NewPCG(1, 2)), signed: signed, good: map[string]string{}} //nolint:gosec // the same drops every time
	h.config, h.tensors = h.read("pirate", "adapter_config.json"), h.read("pirate", "adapter_model.safetensors")
	settings := []string{
		"adapters.dir=" + h.dir, "adapters.settle=20ms", "adapters.max_count=64", "mqtt.stats_interval=1s", "inbox.dedupe_window=1s",
	}
	if signed {
		public, private, err := minisign.GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		h.key = private
		lines := strings.Split(strings.TrimSpace(public.String()), "\n")
		settings = append(settings, fmt.Sprintf("adapters.public_keys=[%q]", lines[len(lines)-1]))
	}
	h.write(filepath.Join(h.dir, "x"), h.config, h.tensors)
	h.s = serve(t, settings...)
	h.s.adapter("x", active)
	return h
}

func (h *hostile) read(adapter, file string) []byte {
	h.t.Helper()
	data, err := os.ReadFile(filepath.Join(demoAdapters(h.t), adapter, file))
	if err != nil {
		h.t.Fatal(err)
	}
	return data
}

// run drops every kind at once, waits for all the reasons, takes everything away again, and so on.
func (h *hostile) run(kinds []hostileKind, rounds int) {
	t, s := h.t, h.s
	answer, sum := s.greet("good", "x")
	h.good[sum] = answer.Text
	h.learn("deutsch")
	s.stats(func(a statsAdapters, _ int64) bool { return a.Loaded == 1 && a.Draining == 0 })
	before := h.holdings()
	served := s.latest("edged/test/adapters/x")
	asked := s.ask(2, h.good)
	var memory []int64
	for round := range rounds {
		names := make([]string, len(kinds))
		for i, kind := range kinds {
			names[i] = fmt.Sprintf("h%d-%d", round, i)
			kind.drop(filepath.Join(h.dir, names[i]))
			h.drops++
		}
		for i, kind := range kinds {
			var why string
			if kind.told != nil {
				why = kind.told(names[i])
			} else {
				why = h.rejected(names[i])
			}
			if !strings.Contains(why, kind.says) || why == "" {
				t.Errorf("%s: the reason is %q, want something with %q", kind.what, why, kind.says)
			}
			if round == 0 {
				t.Logf("%s: %s", kind.what, why)
			}
			if kind.then != nil {
				kind.then(names[i])
			}
		}
		h.clear(names)
		asked.check(t)
		memory = append(memory, resident(t, s.cmd.Process.Pid))
	}
	h.flood()
	total := asked.end(t)
	if total == 0 {
		t.Error("nothing was asked meanwhile")
	}
	if now := s.latest("edged/test/adapters/x"); now != served {
		t.Errorf("of x its topic says %s, and said %s", now, served)
	}
	h.replaceServed()
	h.nothingLeft(before)
	t.Logf("%d drops, %d requests meanwhile; nothing served has changed", h.drops, total)
	if len(memory) >= 10 {
		half := memory[len(memory)/2:]
		perDrop := slope(half) / float64(len(kinds))
		t.Logf("resident of daemon and plugins over the last half, in kB: least %d, most %d, slope %.2f a drop", slices.Min(half), slices.Max(half), perDrop)
		if perDrop > 40 { // a leaked adapter is 400
			t.Errorf("memory grows by %.1f kB a drop: %v", perDrop, memory)
		}
	}
}

// learn asks what another good adapter says.
func (h *hostile) learn(adapter string) {
	h.write(filepath.Join(h.dir, adapter), h.read(adapter, "adapter_config.json"), h.read(adapter, "adapter_model.safetensors"))
	h.another = h.s.adapter(adapter, active).SHA256
	answer, sum := h.s.greet("learn", adapter)
	h.good[sum] = answer.Text
	if answer.Error != nil || sum != h.another || len(h.good) != 2 {
		h.t.Fatalf("%s answers %+v with content %s", adapter, answer, sum)
	}
	h.clear([]string{adapter})
}

// rejected waits for the reason on the topic of a drop of which nothing may be served.
func (h *hostile) rejected(name string) string {
	h.t.Helper()
	a := h.s.adapter(name, func(a adapterState) bool { return a.State == "rejected" })
	if a.Generation != 0 || a.SHA256 != "" {
		h.t.Errorf("%s: %+v: something of it is served", name, a)
	}
	return a.Error
}

// logged waits for a line of the log that has all of some texts.
func (h *hostile) logged(texts ...string) string {
	h.t.Helper()
	file, ok := h.s.cmd.Stdout.(*os.File)
	if !ok {
		h.t.Fatal("the log is no file")
	}
	for deadline := time.Now().Add(wait); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		log, err := os.ReadFile(file.Name())
		if err != nil {
			h.t.Fatal(err)
		}
	lines:
		for line := range strings.Lines(string(log)) {
			for _, text := range texts {
				if !strings.Contains(line, text) {
					continue lines
				}
			}
			return strings.TrimSpace(line)
		}
	}
	h.t.Errorf("the log has no line with all of %q", texts)
	return ""
}

// clear takes what was dropped away, and waits until the topics are cleared too.
func (h *hostile) clear(names []string) {
	h.t.Helper()
	entries, err := os.ReadDir(h.dir)
	if err != nil {
		h.t.Fatal(err)
	}
	for _, e := range entries {
		if e.Name() != "x" {
			if err := os.RemoveAll(filepath.Join(h.dir, e.Name())); err != nil {
				h.t.Fatal(err)
			}
		}
	}
	for _, name := range names {
		if h.s.latest("edged/test/adapters/"+name) != "" {
			h.s.adapter(name, func(a adapterState) bool { return a.State == "" })
			h.s.forget("edged/test/adapters/" + name)
		}
	}
	h.s.adapter("x", func(a adapterState) bool { return a.State == "active" && a.Error == "" })
}

// flood drops more names than there may be.
func (h *hostile) flood() {
	const names = 80
	for i := range names {
		if err := os.MkdirAll(filepath.Join(h.dir, fmt.Sprintf("flood%02d", i)), 0o700); err != nil {
			h.t.Fatal(err)
		}
		h.drops++
	}
	h.logged("flood79", "adapters.max_count")
	var known []string
	for i := range names {
		name := fmt.Sprintf("flood%02d", i)
		if h.s.latest("edged/test/adapters/"+name) != "" {
			known = append(known, name)
			h.rejected(name)
		}
	}
	h.clear(known)
}

// replaceServed replaces what is served by rubbish: it stays.
func (h *hostile) replaceServed() {
	h.t.Helper()
	first := h.s.adapter("x", active)
	h.write(filepath.Join(h.dir, "x"), h.config, h.tensors[:1000])
	h.s.adapter("x", func(a adapterState) bool {
		return a.State == "rejected" && a.Generation == first.Generation && a.SHA256 == first.SHA256 && a.Error != ""
	})
	if last, sum := h.s.greet("end", "x"); last.Error != nil || h.good[sum] != last.Text || sum != first.SHA256 {
		h.t.Errorf("x says %+v, and said %q", last, h.good[first.SHA256])
	}
}

// holdings are the files that each process of the service has open.
func (h *hostile) holdings() map[int]int {
	h.t.Helper()
	out := map[int]int{}
	for _, pid := range append(children(h.t, h.s.cmd.Process.Pid), h.s.cmd.Process.Pid) {
		entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
		if err != nil {
			h.t.Fatal(err)
		}
		out[pid] = len(entries)
	}
	return out
}

// nothingLeft holds the service against what it was: its processes, their files and memory, its copies and topics.
func (h *hostile) nothingLeft(before map[int]int) {
	h.t.Helper()
	h.s.stats(func(a statsAdapters, _ int64) bool {
		return a.Loaded == 1 && a.Served == 1 && a.Rejected == 1 && a.Draining == 0
	})
	for deadline := time.Now().Add(wait); ; time.Sleep(50 * time.Millisecond) {
		now := h.holdings()
		grown := false
		for pid, n := range now {
			was, same := before[pid]
			if !same {
				h.t.Fatalf("process %d is new: a plugin crashed", pid)
			}
			grown = grown || n > was+2 // a connection or a poller that was lazily made
		}
		if !grown && len(now) == len(before) {
			break
		}
		if time.Now().After(deadline) {
			h.t.Errorf("open files by process: %v, and were %v", now, before)
			break
		}
	}
	for pid := range before {
		if peak := highWater(pid); peak > 400<<10 {
			h.t.Errorf("process %d once held %d kB: a length that was declared was believed", pid, peak)
		}
	}
	store := filepath.Join(h.s.dir, "state/adapters")
	for deadline := time.Now().Add(wait); ; time.Sleep(50 * time.Millisecond) {
		entries, err := os.ReadDir(store)
		if err != nil {
			h.t.Fatal(err)
		}
		if len(entries) == 2 { // the copy that is served, and the index
			break
		}
		if time.Now().After(deadline) {
			h.t.Errorf("%s holds %v", store, entries)
			break
		}
	}
	h.s.mu.Lock()
	defer h.s.mu.Unlock()
	for topic, all := range h.s.got {
		if strings.HasPrefix(topic, "edged/test/adapters/") && topic != "edged/test/adapters/x" && all[len(all)-1] != "" {
			h.t.Errorf("%s still says %s", topic, all[len(all)-1])
		}
	}
}

// highWater is the most memory that a process ever held, in kB; 0: it is gone.
func highWater(pid int) int64 {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(data), "VmHWM:")
	kb, _ := strconv.ParseInt(strings.Fields(rest + " 0")[0], 10, 64)
	return kb
}

// write makes a PEFT folder, signed where the service asks for signatures.
func (h *hostile) write(path string, config, tensors []byte) {
	h.t.Helper()
	h.must(os.MkdirAll(path, 0o700))
	h.file(filepath.Join(path, "adapter_config.json"), config)
	h.file(filepath.Join(path, "adapter_model.safetensors"), tensors)
}

// file writes a file, and its signature first.
func (h *hostile) file(path string, data []byte) {
	h.t.Helper()
	if h.signed {
		h.must(os.WriteFile(path+".minisig", minisign.Sign(h.key, data), 0o600))
	}
	h.must(os.WriteFile(path, data, 0o600))
}

func (h *hostile) must(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
}

// flip inverts a bit of a byte in [from, to).
func (h *hostile) flip(data []byte, from, to int) []byte {
	data = slices.Clone(data)
	data[from+h.random.IntN(to-from)] ^= 1 << h.random.IntN(8)
	return data
}

// value puts an F16 value somewhere among the good tensors.
func (h *hostile) value(bits uint16) []byte {
	data := slices.Clone(h.tensors)
	binary.LittleEndian.PutUint16(data[len(data)-2*(1+h.random.IntN(1000)):], bits)
	return data
}

// header changes the header of the good tensors.
func (h *hostile) header(change func(map[string]any)) []byte {
	h.t.Helper()
	size := binary.LittleEndian.Uint64(h.tensors)
	var fields map[string]any
	h.must(json.Unmarshal(h.tensors[8:8+size], &fields))
	change(fields)
	text, err := json.Marshal(fields)
	h.must(err)
	return slices.Concat(binary.LittleEndian.AppendUint64(nil, uint64(len(text))), text, h.tensors[8+size:])
}

// A ggufAdapter is a small LoRA adapter in GGUF, to be got wrong.
type ggufAdapter struct {
	rows    uint64 // of A: its inputs
	more    uint64 // claimed, on top of the rows
	tensors uint64
}

func (h *hostile) gguf(a ggufAdapter) []byte {
	const rank, outs = 2, 64
	text := func(b []byte, s string) []byte {
		return append(binary.LittleEndian.AppendUint64(b, uint64(len(s))), s...)
	}
	out := append([]byte("GGUF"), 3, 0, 0, 0)
	out = binary.LittleEndian.AppendUint64(out, a.tensors)
	pairs := [][2]string{{"general.type", "adapter"}, {"adapter.type", "lora"}, {"general.architecture", "llama"}}
	out = binary.LittleEndian.AppendUint64(out, uint64(len(pairs)))
	for _, p := range pairs {
		out = text(append(text(out, p[0]), 8, 0, 0, 0), p[1])
	}
	at := uint64(0)
	for _, t := range []struct {
		name string
		dims [2]uint64
	}{{"blk.0.attn_v.weight.lora_a", [2]uint64{a.rows, rank}}, {"blk.0.attn_v.weight.lora_b", [2]uint64{rank, outs}}} {
		out = append(text(out, t.name), 2, 0, 0, 0)
		size := 4 * t.dims[0] * t.dims[1]
		if t.dims[0] == a.rows {
			t.dims[0] += a.more
		}
		out = binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(out, t.dims[0]), t.dims[1])
		out = binary.LittleEndian.AppendUint64(append(out, 0, 0, 0, 0), at)
		at += (size + 31) / 32 * 32
	}
	for len(out)%32 != 0 {
		out = append(out, 0)
	}
	return append(out, make([]byte, at)...)
}

// kinds are all ways to be hostile. Where the service asks for signatures, everything is signed unless the signature is what
// is wrong.
func (h *hostile) kinds() []hostileKind {
	end := 8 + int(binary.LittleEndian.Uint64(h.tensors)) // of the header
	folder := func(what, says string, config, tensors func() []byte) hostileKind {
		return hostileKind{what: what, says: says, drop: func(path string) { h.write(path, config(), tensors()) }}
	}
	same := func(b []byte) func() []byte { return func() []byte { return b } }
	config, tensors := same(h.config), same(h.tensors)
	words := func(b []byte, from, to string) func() []byte {
		if !strings.Contains(string(b), from) {
			h.t.Fatalf("there is no %s to be changed", from)
		}
		return same([]byte(strings.ReplaceAll(string(b), from, to)))
	}
	gguf := func(what, says string, data func() []byte) hostileKind {
		return hostileKind{what: what, says: says, drop: func(path string) { h.file(path+".gguf", data()) }}
	}
	whole := ggufAdapter{rows: 128, tensors: 2}
	onePart := func(what, says string, in func(path string)) hostileKind {
		return hostileKind{what: what, says: says, drop: func(path string) {
			h.write(path, h.config, h.tensors)
			part := filepath.Join(path, "adapter_model.safetensors")
			h.must(os.Remove(part))
			in(part)
		}}
	}
	kinds := []hostileKind{
		folder("tensors cut off", "cut off", config, func() []byte { return h.tensors[:end+h.random.IntN(len(h.tensors)-end)] }),
		folder("a header cut off", "adapter_model.safetensors", config, func() []byte { return h.tensors[:h.random.IntN(end)] }),
		folder("a config cut off", "adapter_config.json", func() []byte { return h.config[:h.random.IntN(len(h.config)-2)] }, tensors),
		folder("a byte of the header flipped", "adapter_model.safetensors", config, func() []byte {
			b := slices.Clone(h.tensors)
			b[8+h.random.IntN(12)] ^= 0x80
			return b
		}),
		folder("not a number", "is NaN", config, func() []byte { return h.value(0x7e00) }),
		folder("infinite", "Inf", config, func() []byte { return h.value(0xfc00) }),
		folder("a header of 10 GB declared", "10737418240", config, func() []byte {
			return append(binary.LittleEndian.AppendUint64(nil, 10<<30), h.tensors[8:]...)
		}),
		folder("tensors of 10 GB declared", "10737807360", config, func() []byte {
			return h.header(func(fields map[string]any) {
				last := fields[lastTensor(fields)].(map[string]any) //nolint:forcetypeassert // of a file that this repository ships
				last["shape"] = []int64{10 << 20, 512}              // of two bytes
				begin := last["data_offsets"].([]any)[0].(float64)  //nolint:forcetypeassert // as above
				last["data_offsets"] = []int64{int64(begin), int64(begin) + 10<<30}
			})
		}),
		folder("another rank", "gives its module rank 4", words(h.config, `"r": 8`, `"r": 4`), tensors),
		folder("a module that no model has", "w_proj", words(h.config, "q_proj", "w_proj"), func() []byte {
			return h.header(renamed("q_proj", "w_proj"))
		}),
		folder("a layer that the model has not", "layers.77", config, func() []byte { return h.header(renamed("layers.0.", "layers.77.")) }),
		folder("wrong shapes", "A is (8, 256)", config, func() []byte {
			return h.header(func(fields map[string]any) {
				const q, down = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight", "base_model.model.model.layers.0.mlp.down_proj.lora_A.weight"
				fields[q], fields[down] = fields[down], fields[q]
			})
		}),
		folder("tensors that overlap", "adapter_model.safetensors", config, func() []byte {
			return h.header(func(fields map[string]any) {
				var before any
				for _, name := range slices.Sorted(maps.Keys(fields)) {
					if f, ok := fields[name].(map[string]any); ok && f["data_offsets"] != nil {
						if before != nil {
							f["data_offsets"] = before
						}
						before = f["data_offsets"]
					}
				}
			})
		}),
		folder("rubbish in both", "adapter_config.json", same([]byte("rubbish")), same([]byte("rubbish"))),
		folder("a config a megabyte deep", "adapter_config.json", same([]byte(strings.Repeat("[", 1<<20))), tensors),
		gguf("a GGUF of zeros", "GGUF", same(make([]byte, 4096))),
		gguf("a GGUF cut off", "", func() []byte { b := h.gguf(whole); return b[:h.random.IntN(len(b))] }),
		gguf("a GGUF with a byte of its header flipped", "", func() []byte {
			b := h.gguf(whole)
			b[4+h.random.IntN(20)] ^= 0x80
			return b
		}),
		gguf("a GGUF with a tensor of 10 GB", "", func() []byte { return h.gguf(ggufAdapter{rows: 128, more: 5 << 30 / 4, tensors: 2}) }),
		gguf("a GGUF with 2^60 tensors", "", func() []byte { return h.gguf(ggufAdapter{rows: 128, tensors: 1 << 60}) }),
		gguf("a GGUF with wrong shapes", "attn_v", func() []byte { return h.gguf(ggufAdapter{rows: 96, tensors: 2}) }),
		gguf("a model instead of an adapter", "not an adapter", words(h.gguf(whole), "\x07\x00\x00\x00\x00\x00\x00\x00adapter", "\x07\x00\x00\x00\x00\x00\x00\x00modelll")),
		{what: "a sparse file of 10 GB", says: "adapters.max_size", drop: func(path string) {
			h.file(path+".gguf", nil)
			h.must(os.Truncate(path+".gguf", 10<<30))
		}},
		onePart("sparse tensors of 10 GB", "adapters.max_size", func(part string) { h.must(errors.Join(os.WriteFile(part, nil, 0o600), os.Truncate(part, 10<<30))) }),
		{what: "a link to itself", says: "symbolic links", drop: func(path string) { h.must(os.Symlink(filepath.Base(path), path)) }},
		{what: "two links to each other", says: "symbolic links", drop: func(path string) {
			inner := filepath.Join(h.dir, ".inner"+filepath.Base(path))
			h.must(errors.Join(os.Symlink(inner, path), os.Symlink(path, inner)))
		}},
		{what: "a link to a folder that is none", says: "adapter_config.json", drop: func(path string) { h.must(os.Symlink("/proc/self", path)) }},
		{what: "a link to the folder above", says: "adapter_config.json", drop: func(path string) { h.must(os.Symlink("..", path)) }},
		{what: "a link to nothing", says: "no such file", drop: func(path string) { h.must(os.Symlink("../../nothing", path)) }},
		{what: "a pipe", says: "not a regular file", drop: func(path string) { h.must(syscall.Mkfifo(path+".gguf", 0o600)) }},
		{what: "a device", says: "not a regular file", drop: func(path string) { h.must(os.Symlink("/dev/zero", path+".gguf")) }},
		onePart("tensors that are a folder", "not a regular file", func(part string) { h.must(os.Mkdir(part, 0o700)) }),
		onePart("tensors that are a link to nothing", "is a link to nothing", func(part string) { h.must(os.Symlink("nothing", part)) }),
		onePart("tensors that are a link to themselves", "adapter_model.safetensors", func(part string) { h.must(os.Symlink(filepath.Base(part), part)) }),
		onePart("tensors that cannot be read", "adapter_model.safetensors", h.unreadable),
		{what: "a folder full of rubbish", says: "adapter_config.json is missing", drop: func(path string) {
			h.must(os.Mkdir(path, 0o700))
			for i := range 100 {
				h.must(os.WriteFile(filepath.Join(path, strconv.Itoa(i)), []byte("rubbish"), 0o600))
			}
		}},
		{what: "a pickle", says: "pickle", drop: func(path string) {
			h.must(os.Mkdir(path, 0o700))
			h.file(filepath.Join(path, "adapter_config.json"), h.config)
			h.must(os.WriteFile(filepath.Join(path, "adapter_model.bin"), []byte("\x80\x02cos\nsystem\n."), 0o600))
		}},
		{
			what: "the served name once more", says: "same name", drop: func(string) { h.must(os.WriteFile(filepath.Join(h.dir, "x.gguf"), h.gguf(whole), 0o600)) },
			told: func(string) string {
				return h.s.adapter("x", func(a adapterState) bool { return a.State == "active" && a.Error != "" }).Error
			},
		},
		{what: "a name with a way up", says: "its name must match", drop: func(path string) {
			h.must(os.WriteFile(filepath.Join(h.dir, `..\..\`+filepath.Base(path)+".gguf"), h.gguf(whole), 0o600))
		}, told: func(name string) string { return h.logged(`..\..\`+name, "not taken as an adapter") }},
		{what: "a name with the broker's wildcards", says: "its name must match", drop: func(path string) {
			h.write(filepath.Join(h.dir, "+#"+filepath.Base(path)), h.config, h.tensors)
		}, told: func(name string) string { return h.logged("+#"+name, "not taken as an adapter") }},
		{what: "a name of two lines", says: "its name must match", drop: func(path string) {
			h.must(os.Mkdir(filepath.Join(h.dir, filepath.Base(path)+"\nlevel=ERROR"), 0o700))
		}, told: func(name string) string { return h.logged(name+`\nlevel=ERROR`, "not taken as an adapter") }},
		{what: "rubbish beside the adapters", says: "no .gguf", drop: func(path string) {
			for i := range 40 {
				h.must(os.WriteFile(fmt.Sprintf("%s-%d.txt", path, i), []byte("rubbish"), 0o600))
			}
		}, told: func(name string) string { return h.logged(name+"-39.txt", "not taken as an adapter") }},
		{what: "replaced again and again", says: "", drop: func(path string) {
			for range 20 {
				h.write(path, h.config, h.tensors[:h.random.IntN(len(h.tensors))])
			}
		}},
		h.replacedLater("replaced while it is proved", "verifying"),
		h.replacedLater("replaced as soon as it is served", "active"),
	}
	if h.signed {
		return kinds
	}
	return append(kinds, hostileKind{what: "any byte flipped, unsigned", drop: func(path string) {
		h.write(path, h.config, h.flip(h.tensors, 0, len(h.tensors)))
	}, told: func(name string) string {
		// Another value that is a number makes another adapter, under this name alone: that is what signatures are for.
		a := h.s.adapter(name, func(a adapterState) bool { return a.State == "rejected" || a.State == "active" })
		return a.State + " " + a.Error
	}})
}

// unreadable makes a file that nobody may read, or whose reading fails, which stops root too.
func (h *hostile) unreadable(path string) {
	if os.Geteuid() != 0 {
		h.must(os.WriteFile(path, h.tensors, 0o000))
		return
	}
	h.must(os.Symlink("/proc/self/mem", path))
}

// replacedLater drops a good adapter and puts another file in the place of its tensors when it has come to a state. What may
// be served of it is what was proved.
func (h *hostile) replacedLater(what, state string) hostileKind {
	good := [2][]byte{h.read("deutsch", "adapter_config.json"), h.read("deutsch", "adapter_model.safetensors")}
	return hostileKind{
		what: what, says: "cut off",
		drop: func(path string) { h.write(path, good[0], good[1]) },
		told: func(name string) string {
			passed := map[string]bool{"verifying": state == "verifying", "active": true}
			h.s.adapter(name, func(a adapterState) bool { return passed[a.State] })
			part := filepath.Join(h.dir, name, "adapter_model.safetensors")
			h.file(part+".part", good[1][:len(good[1])-4])
			h.must(os.Rename(part+".part", part))
			if h.signed {
				h.must(os.Rename(part+".part.minisig", part+".minisig"))
			}
			return h.s.adapter(name, func(a adapterState) bool { return a.State == "rejected" }).Error
		},
		then: func(name string) {
			a := h.s.adapter(name, func(a adapterState) bool { return a.State == "rejected" })
			if a.Generation > 1 || a.Generation == 1 && a.SHA256 != h.another {
				h.t.Errorf("%s: %+v: want the content %s, or none", what, a, h.another)
			}
			if a.Generation == 1 {
				if last, sum := h.s.greet("ask-"+name, name); last.Error != nil || sum != h.another || last.Text != h.good[sum] {
					h.t.Errorf("%s: it says %+v with content %s, want %q", what, last, sum, h.good[h.another])
				}
			}
		},
	}
}

// signatures are the ways to be hostile that a signature is there for.
func (h *hostile) signatures() []hostileKind {
	_, foreign, err := minisign.GenerateKey(rand.Reader)
	h.must(err)
	changed := func(what, says string, change func(path string)) hostileKind {
		return hostileKind{what: what, says: says, drop: func(path string) {
			h.write(path, h.config, h.tensors)
			change(path)
		}}
	}
	const config, tensors = "adapter_config.json", "adapter_model.safetensors"
	end := 8 + int(binary.LittleEndian.Uint64(h.tensors)) // of the header
	put := func(path, file string, data []byte) { h.must(os.WriteFile(filepath.Join(path, file), data, 0o600)) }
	return []hostileKind{
		changed("any byte of the tensors flipped", "does not match its signature", func(path string) { put(path, tensors, h.flip(h.tensors, end, len(h.tensors))) }),
		changed("any byte of the header flipped", "", func(path string) { put(path, tensors, h.flip(h.tensors, 0, end)) }),
		changed("any byte of the config flipped", "", func(path string) { put(path, config, h.flip(h.config, 0, len(h.config))) }),
		changed("another adapter's tensors", "does not match its signature", func(path string) { put(path, tensors, h.read("json", tensors)) }),
		changed("a foreign signature", "none of adapters.public_keys", func(path string) {
			put(path, config+".minisig", minisign.Sign(foreign, h.config))
		}),
		changed("a byte of a signature flipped", "", func(path string) {
			sig := minisign.Sign(h.key, h.config)
			put(path, config+".minisig", h.flip(sig, len("untrusted comment: signature from private key: 0123456789ABCDEF")+1, len(sig)-1))
		}),
		changed("no signature", "is not signed", func(path string) { h.must(os.Remove(filepath.Join(path, config+".minisig"))) }),
		changed("a signature that is a folder", "minisig", func(path string) {
			sig := filepath.Join(path, tensors+".minisig")
			h.must(errors.Join(os.Remove(sig), os.Mkdir(sig, 0o700)))
		}),
	}
}

func renamed(from, to string) func(map[string]any) {
	return func(fields map[string]any) {
		for name, field := range maps.Clone(fields) {
			if next := strings.ReplaceAll(name, from, to); next != name {
				delete(fields, name)
				fields[next] = field
			}
		}
	}
}

// lastTensor is the one whose data end the file.
func lastTensor(fields map[string]any) string {
	last, most := "", -1.0
	for name, field := range fields {
		if f, ok := field.(map[string]any); ok {
			if at, ok := f["data_offsets"].([]any); ok && at[1].(float64) > most { //nolint:forcetypeassert // of a file that this repository ships
				last, most = name, at[1].(float64) //nolint:forcetypeassert // as above
			}
		}
	}
	return last
}
