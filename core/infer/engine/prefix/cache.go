// Package prefix is the prefix cache of the engine: prompts and answers that were computed are found by
// requests that begin alike, in memory while they are not evicted, and on disk beyond the process.
// Checkpoints of fixed states are taken where such requests are expected to go on.
//
// Pages go into the tree as soon as they are full, those of answers too, so that a request finds what an
// earlier one is still computing, a later turn of a conversation finds the answer before it, and a request
// that was preempted finds itself again. They come back out of it when a batch needs more than are free:
// before anything that runs is preempted. Answers do not depend on it.
//
// The package knows prompts and sequences, and neither batches nor who runs. A Cache belongs to the goroutine
// that owns the model; what reads and writes files has goroutines of its own and sends its results there.
package prefix

import (
	"log/slog"
	"math"
	"strconv"

	"edged/core/infer/engine/compute"
	"edged/core/infer/kv"
	"edged/core/infer/kv/pagestore"
	"edged/core/protocol/backend"
)

// Prompt is a request as the cache knows it. What stands above the line is set before Start, the rest is the cache's.
type Prompt struct {
	IDs     []int32
	Borders []int32 // see backend.Request
	Pin     string  // the name under which the prompt is kept from eviction; "": none
	Set     string  // names the adapters by content
	Scaling int     // of RoPE, see compute.Model.Stretch
	Private bool    // it neither finds nor leaves anything
	// Front is the sequence that computes the prompt at present; nil: none, or several. alone says whether
	// what it finds is saved for all choices.
	Front     func() (s compute.Seq, alone bool)
	Preempted bool // it has been preempted: what it finds may be its own
	// ----
	Cached int  // tokens that it did not compute
	Waits  bool // for pages from the disk

	hit        bool             // it found something
	points     []int            // where checkpoints of it are due, see lay
	lasting    []int            // which of them are written to disk, where it is long
	found      int              // pages that were there
	names      []pagestore.Name // of the full pages; nil: not wanted
	used       int64            // when it named them
	saved      int              // pages that were looked at for the disk
	resumed    int              // where it went on from a state that was there; 0: nowhere
	stateSaved int              // up to where a state of it is on disk, or on its way
}

// Token makes the prompt a kv.History.
func (p *Prompt) Token(i int) int32 { return p.IDs[i] }

// set names what the pages of a sequence depend on beside its tokens: adapters, and the scaling of RoPE.
func (p *Prompt) set(scaling int) string {
	if scaling == 0 {
		return p.Set
	}
	return p.Set + "stretched " + strconv.Itoa(scaling) + "\n"
}

// Cache is the prefix cache of a model.
type Cache struct {
	model   compute.Model
	page    int // positions of a page
	context int // positions of a sequence
	log     *slog.Logger
	running func() int // sequences that run
	tree    *kv.Tree   // nil: the cache is off
	disk    *disk      // nil: nothing outlives the process
	pins    map[string]compute.Seq
	count   counters
}

type counters struct{ tokens, hits, fromDisk uint64 }

// New returns an empty cache over the pages and states of a model; where it is off, it finds nothing and
// keeps nothing. running is the number of sequences that run at present, whose states the disk leaves alone.
func New(m compute.Model, size compute.Sizes, off bool, running func() int, log *slog.Logger) *Cache {
	c := &Cache{model: m, page: size.Page, context: size.Context, log: log, running: running, pins: map[string]compute.Seq{}}
	if !off {
		c.tree = kv.NewTree(m, size.Page)
	}
	return c
}

// Tree returns the prefix tree, for consistency checks; nil: the cache is off.
func (c *Cache) Tree() *kv.Tree { return c.tree }

// Start begins a request: its checkpoints are laid down.
func (c *Cache) Start(p *Prompt) { c.lay(p) }

// Adopt lets a sequence of a request take over what is known of its tokens before limit. alone is as in
// Prompt.Front. Callers look again in every turn of a prefill, since another request may have computed the
// next page meanwhile.
func (c *Cache) Adopt(p *Prompt, s compute.Seq, h kv.History, limit int, alone bool) {
	if c.tree == nil || p.Private {
		return
	}
	from := s.Len()
	n := c.tree.Adopt(p.set(s.Stretched()), s, h, limit)
	if n == 0 {
		return
	}
	if p.found = max(p.found, s.Len()/c.page); c.model.Fixed() {
		p.resumed = max(p.resumed, s.Len())
		s.Checkpoint() // its own page with these tokens has it too, when that is full
	}
	c.count.tokens += uint64(n)
	if !p.hit {
		p.hit = true
		c.count.hits++
	}
	if prompt := len(p.IDs); !p.Preempted && alone && from < prompt {
		p.Cached += min(from+n, prompt) - from
	}
}

// Insert takes the full pages of a sequence into the cache, up to n tokens.
func (c *Cache) Insert(p *Prompt, s compute.Seq, h kv.History, n int) {
	if c.tree != nil && !p.Private {
		p.Private = !c.tree.Keep(p.set(s.Stretched()), s, h, n)
	}
}

// Retire takes in a sequence that has come to its end: n tokens, those that stop strings cut away included.
// guessed says that it ended with a token that was guessed: its last pages are not in the cache yet then. The
// last one of all, which is not full, goes there in any case.
func (c *Cache) Retire(p *Prompt, s compute.Seq, h kv.History, n int, guessed bool) {
	if c.tree == nil || p.Private {
		return
	}
	s.Checkpoint()
	if guessed || c.model.Fixed() {
		n = s.Truncate(n) // of a sequence with a fixed state to its last checkpoint
		p.Private = !c.tree.Keep(p.set(s.Stretched()), s, h, n)
	}
	if p.Private {
		return
	}
	last := c.tree.KeepRest(p.set(s.Stretched()), s, h, n)
	if d := c.disk; d != nil && last >= 0 {
		c.enqueueStates(p, last, n/c.page)
		c.pump()
	}
}

// Reserve evicts what a batch needs beyond the free pages and states, and reports whether there are states enough.
func (c *Cache) Reserve(rows []compute.Row) bool {
	enough := c.reserveStates(rows)
	if c.tree == nil {
		return enough
	}
	need := 0
	for i := 0; i < len(rows); {
		n := 1
		for i+n < len(rows) && rows[i+n].Seq == rows[i].Seq {
			n++
		}
		need += rows[i].Seq.Need(n)
		i += n
	}
	if short := need - c.model.FreePages(); short > 0 {
		c.tree.Evict(short)
	}
	return enough
}

// Clear empties the cache in memory, pinned prefixes included: one of its pages may have spoilt a request.
func (c *Cache) Clear() {
	if c.tree != nil {
		c.unpin()
		c.tree.Clear()
		c.tree.EvictStates(math.MaxInt)
	}
}

// Close waits for the disk and gives everything back.
func (c *Cache) Close() {
	if c.disk != nil {
		c.disk.close()
	}
	c.unpin()
	if c.tree != nil {
		c.tree.Clear()
	}
}

// Pin keeps the full pages of a finished request's prompt from eviction where it asked for it: an empty
// sequence adopts them and computes nothing, so that they are no more idle than those of a request that runs.
// newSeq makes that sequence.
func (c *Cache) Pin(p *Prompt, id string, newSeq func() compute.Seq) {
	if p.Pin == "" || p.Private || c.tree == nil {
		return
	}
	if old := c.pins[p.Pin]; old != nil {
		old.Free()
		delete(c.pins, p.Pin)
	}
	s := newSeq()
	full := len(p.IDs) / c.page * c.page
	if c.model.Fixed() {
		full = c.lastPage(p)
	}
	c.tree.Adopt(p.set(s.Stretched()), s, p, full)
	s.Truncate(s.Len() / c.page * c.page)
	n := s.Pages()
	for _, other := range c.pins {
		n += other.Pages()
	}
	if most := c.model.TotalPages() - (c.context+c.page-1)/c.page; n > most || s.Len() < full || !c.StatesFor(compute.MinStates) {
		s.Free()
		c.log.Warn("a prefix is not pinned: one whole conversation has to fit beside all that are", "request_id", id,
			"tokens", len(p.IDs), "pages", n, "pages_left", max(most, 0))
		return
	}
	c.pins[p.Pin] = s
}

// unpin gives all pinned prefixes back.
func (c *Cache) unpin() {
	for name, s := range c.pins {
		s.Free()
		delete(c.pins, name)
	}
}

// Shared is the number of pages that a new sequence with that scaling of RoPE would share with those that run.
func (c *Cache) Shared(p *Prompt, scaling int, h kv.History, limit int) int {
	if c.tree == nil || p.Private {
		return 0
	}
	return c.tree.Held(p.set(scaling), h, limit)
}

// Count adds the cache's counters to st.
func (c *Cache) Count(st *backend.Stats) {
	st.PrefixTokens, st.PrefixHits, st.PrefixDiskTokens = c.count.tokens, c.count.hits, c.count.fromDisk
	if c.disk != nil {
		c.disk.count(st)
	}
	for _, s := range c.pins {
		st.PrefixPinnedPages += s.Pages()
	}
}
