// Package adapters is the catalogue of LoRA adapters: a folder into which files are dropped while the service
// runs, what was proved of each drop, and which bytes a request that names an adapter is pinned to.
//
// The folder is the truth, and it is read again as a whole: file system events are hints, a ticker makes up
// for those that get lost. A drop that nothing has changed for a while is copied to a store of its own;
// signature, proof and loading use that copy, so that what was proved is what is served, whatever happens to
// the folder. A good drop becomes the next generation of its name; a request keeps the generation that it was
// admitted with, and a bad drop changes nothing.
//
//	Dir/NAME/ or Dir/NAME.gguf ──settled──▶ Store/SHA256/ ──proved──▶ generation k+1 of NAME ──last request ended──▶ freed
//
// It must not know MQTT or how an adapter is applied: what needs the model is behind Prover. A Folder may be used
// concurrently; Run is called once.
package adapters

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"edged/core/protocol"
	"edged/core/protocol/backend"
)

// Loader is the part of a backend that keeps adapters beside its model.
type Loader interface {
	LoadAdapter(ctx context.Context, req backend.AdapterRequest) (backend.AdapterInfo, error)
	UnloadAdapter(ctx context.Context, id string) error
}

// Prover is a life of the backend that adapters are proved in.
type Prover interface {
	Loader
	// Try generates one token with a loaded adapter.
	Try(ctx context.Context, id string) error
	// Score returns the sum of -ln p over the tokens of the samples' references, and their number. id "" is
	// the bare model.
	Score(ctx context.Context, id string, samples []Sample) (nats float64, tokens int, err error)
}

// The states of a name. Each is about the latest drop, and none but Draining says that an earlier one is not served.
const (
	Settling  = "settling"  // it changes, or waits for its turn, or is not whole: Error says what is missing
	Verifying = "verifying" // it is being copied and proved
	Active    = "active"
	Rejected  = "rejected" // Error says why
	Draining  = "draining" // it was removed, and requests that were admitted before still use it
)

// State describes one adapter name. Generation to Bytes are those of the served generation.
type State struct {
	Name       string
	State      string
	Generation int // from 1; 0: none is served
	SHA256     string
	Kind       string // of backend.AdapterInfo
	Rank       int
	Virtual    int // virtual tokens, of a soft prompt
	Targets    []string
	Bytes      int64
	Error      string
	Stray      string // the entry of the folder that cannot be an adapter, of which Name is made; "": it is none of those
}

// Served tells whether a request that names it is taken.
func (s *State) Served() bool { return s.Generation > 0 && s.State != Draining }

// Options configure a Folder.
type Options struct {
	Dir    string        // "": no adapters, for ever
	Store  string        // of the copies; nobody else writes there
	Settle time.Duration // a drop, and a removal, counts when nothing changed for so long
	Rescan time.Duration // the folder is read at least this often; 0: 30 s
	Keys   []string      // minisign public keys; none: signatures are not asked for
	Limits Limits
	Gate   Gate
	// Backend returns the present life of the backend if it is a later one than after, and waits for one that
	// is starting.
	Backend func(ctx context.Context, after uint64) (Prover, uint64, error)
	// Hold keeps the model loaded while a drop is proved; nil: it always is.
	Hold   func(ctx context.Context) (release func(), err error)
	Log    *slog.Logger
	Notify func() // told, without a lock held, that a state changed; nil: nobody is
}

// Limits bound a Folder. Zero values are the defaults that are named at each field.
type Limits struct {
	Names  int   // adapters in the folder; 256
	Bytes  int64 // of the files of one; 1 GiB
	Memory int64 // of adapters in the backend at once, those in use apart; 1 GiB
}

func (l Limits) withDefaults() Limits {
	if l.Names <= 0 {
		l.Names = 256
	}
	if l.Bytes <= 0 {
		l.Bytes = 1 << 30
	}
	if l.Memory <= 0 {
		l.Memory = 1 << 30
	}
	return l
}

// patience is how many times Settle a drop that is not whole may be quiet before it is rejected: a copy over a slow
// network stalls for seconds.
const patience = 5

// maxRefused bounds the entries that cannot be adapters and are told as rejected ones all the same.
const maxRefused = 32

// deaths is how often the backend may die over one content before that is rejected. A request beside it may
// have been the reason, so once is not enough.
const deaths = 3

// Folder is the catalogue of one folder.
type Folder struct {
	o     Options
	log   *slog.Logger
	keys  []publicKey
	store *store
	wake  chan struct{} // for the one who frees what nobody uses

	mu       sync.Mutex
	names    map[string]*entry
	contents map[string]*content // by sha256
	life     uint64              // of the backend, the latest that was seen
	clock    uint64              // counts uses, for the least recent one
	swaps    uint64
	numbers  map[string]int // of removed names, so that their generations count on
	dirty    bool           // the index on disk is older than names
	refused  []State        // entries of the folder that cannot be adapters, under names that no adapter has; sorted

	// The following belong to the goroutine that scans.
	strays  map[string]string // entries of the folder that are no adapters, and why
	trouble string            // why the folder could not be read the last time
	scores  map[string]score  // by sha256
}

// entry is one name.
type entry struct {
	name    string
	file    string    // in Dir
	print   string    // what the files looked like
	changed time.Time // when they began to
	missing time.Time // since when the file is gone; zero: it is there
	done    bool      // this print was dealt with
	retry   time.Time // of what was rejected for a reason that may pass; zero: never
	rival   string    // another file that claims the name
	told    string    // the reason that was logged
	state   string
	err     string
	current *Generation // nil: nothing to serve
	number  int         // of the latest generation
	old     int         // earlier generations that are still pinned
}

// Generation is one content of a name. Its fields belong to Folder.mu.
type Generation struct {
	name    string
	number  int // 0: of a request that was accepted by an earlier process
	content *content
	signer  string // public key that its files were signed with
	pins    int
	current bool
	counted bool // in entry.old
}

// New returns the catalogue of a folder that is not read yet. The error is about the keys.
func New(o Options) (*Folder, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Notify == nil {
		o.Notify = func() {}
	}
	if o.Rescan <= 0 {
		o.Rescan = 30 * time.Second
	}
	o.Limits = o.Limits.withDefaults()
	keys, err := parseKeys(o.Keys)
	if err != nil {
		return nil, err
	}
	return &Folder{
		o: o, log: o.Log, keys: keys, store: &store{dir: o.Store}, wake: make(chan struct{}, 1),
		names: map[string]*entry{}, contents: map[string]*content{}, numbers: map[string]int{}, scores: map[string]score{},
	}, nil
}

// Open reads what an earlier process knew, and the folder. What was served before is served again, without a
// new proof but that of its bytes, while the drops of the folder are looked at. Only a folder that is there
// and cannot be read is an error; no folder is an empty one.
func (f *Folder) Open(ctx context.Context) error {
	if f.o.Dir == "" {
		return nil
	}
	if err := f.store.open(); err != nil {
		return fmt.Errorf("adapters: copies: %w", err)
	}
	now := time.Now()
	seen, err := f.look(ctx)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		f.log.InfoContext(ctx, "there is no adapters folder", "path", f.o.Dir)
	case err != nil:
		return fmt.Errorf("adapters: %w", err)
	}
	known := f.store.readIndex()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.update(now, seen)
	for _, s := range seen {
		e := f.names[s.name]
		if e == nil {
			continue
		}
		if !s.newest.IsZero() && now.Sub(s.newest) > f.o.Settle {
			e.changed = now.Add(-f.o.Settle)
		}
		if k, ok := known[s.name]; ok && f.trusts(k.Signer) && f.store.has(k.SHA256) {
			e.number = k.Generation
			e.current = &Generation{name: s.name, number: k.Generation, signer: k.Signer, content: f.hold(k.SHA256), current: true}
		} else if ok {
			e.number = k.Generation
		}
	}
	return nil
}

// trusts tells whether an earlier proof of a signature still counts.
func (f *Folder) trusts(signer string) bool {
	return len(f.keys) == 0 || slices.ContainsFunc(f.keys, func(k publicKey) bool { return k.text == signer })
}

// Resolve pins the generation of a name that is served now or, with a hash, the one of that content. It stays until the
// pin's Release. The error wraps protocol.ErrAdapterNotFound and says which names there are.
func (f *Folder) Resolve(name, sha256 string) (*Pin, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	e := f.names[name]
	switch {
	case e != nil && e.current != nil && (sha256 == "" || e.current.content.sha256 == sha256):
		return f.pin(e.current), nil
	case sha256 != "":
		// Accepted by an earlier process: its bytes are still there, since nothing is swept before such requests are
		// taken up again.
		if !validSum(sha256) || f.contents[sha256] == nil && !f.store.has(sha256) {
			return nil, fmt.Errorf("%w: %q with the content that it had when the request was accepted", protocol.ErrAdapterNotFound, name)
		}
		g := &Generation{name: name, content: f.hold(sha256)}
		if e != nil {
			e.old++
			g.counted = true
		}
		return f.pin(g), nil
	case e == nil && f.refusal(name) != "":
		return nil, fmt.Errorf("%w: %q cannot be served: %s", protocol.ErrAdapterNotFound, name, f.refusal(name))
	case e == nil || e.state == Draining:
		return nil, fmt.Errorf("%w: %q; %s", protocol.ErrAdapterNotFound, name, f.offer())
	case e.state == Rejected:
		return nil, fmt.Errorf("%w: %q was rejected: %s", protocol.ErrAdapterNotFound, name, e.err)
	default:
		return nil, fmt.Errorf("%w: %q is not ready yet: it is %s", protocol.ErrAdapterNotFound, name, e.state)
	}
}

// offer lists what is served. f.mu is held.
func (f *Folder) offer() string {
	var names []string
	for name, e := range f.names {
		if e.current != nil {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return "this node serves no adapters"
	}
	slices.Sort(names)
	const most = 20
	if len(names) > most {
		names = append(names[:most], "…")
	}
	return "there are " + strings.Join(names, ", ")
}

// refusal is why an entry of the folder cannot be an adapter; "": none is told under that name. f.mu is held.
func (f *Folder) refusal(name string) string {
	for i := range f.refused {
		if f.refused[i].Name == name {
			return f.refused[i].Error
		}
	}
	return ""
}

// States returns what is known of every name, sorted, and then what of the folder cannot be an adapter, as
// rejected ones.
func (f *Folder) States() []State {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := make([]State, 0, len(f.names))
	for _, e := range f.names {
		out = append(out, e.snapshot())
	}
	slices.SortFunc(out, func(a, b State) int { return strings.Compare(a.Name, b.Name) })
	return append(out, f.refused...)
}

func (e *entry) snapshot() State {
	s := State{Name: e.name, State: e.state, Error: e.err}
	if e.rival != "" && s.Error == "" {
		s.Error = e.rival + " has the same name and is not taken"
	}
	if g := e.current; g != nil {
		info := &g.content.info
		s.Generation, s.SHA256, s.Kind, s.Rank, s.Virtual = g.number, g.content.sha256, info.Kind, info.Rank, info.Virtual
		s.Targets, s.Bytes = info.Targets, info.Bytes
	}
	return s
}

// Counts are figures of the moment.
type Counts struct {
	Served   int // names
	Rejected int
	Draining int // generations that only running requests use
	Loaded   int // contents in the backend
	Bytes    int64
	Swaps    uint64 // generations that became served, since the start
}

// Counts returns the figures.
func (f *Folder) Counts() Counts {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := Counts{Swaps: f.swaps, Rejected: len(f.refused)}
	for _, e := range f.names {
		if e.current != nil {
			n.Served++
		}
		if e.state == Rejected {
			n.Rejected++
		}
		n.Draining += e.old
	}
	for _, c := range f.contents {
		if c.loaded(f.life) {
			n.Loaded++
			n.Bytes += c.info.Bytes
		}
	}
	return n
}

// set changes a state and tells whether that was news. f.mu is held.
func (e *entry) set(state, why string) bool {
	why = sentence(why)
	news := e.state != state || e.err != why
	e.state, e.err = state, why
	return news
}

// maxReason bounds the text of a reason: a tensor's name comes from the file, and may be long.
const maxReason = 600

// sentence puts a reason on one line of bounded length.
func sentence(why string) string {
	why = strings.ToValidUTF8(strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, why), "?")
	if len(why) > maxReason {
		why = strings.ToValidUTF8(why[:maxReason], "") + "…"
	}
	return why
}
