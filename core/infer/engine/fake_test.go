package engine

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/bits"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"edged/core/infer/engine/answer"
	"edged/core/infer/engine/compute"
	"edged/core/infer/kv"
	"edged/core/infer/sample"
	"edged/core/infer/transformer"
	"edged/core/model/lora"
	"edged/core/protocol/backend"
)

// fake is a model whose logits are a hash of the tokens and adapters so far: what a row gives depends on its own inputs
// only, as in a real one. It counts pages as the transformer does and fails the test where the engine breaks a rule.
type fake struct {
	t     *testing.T
	size  sizes
	total int
	used  int               // pages
	pages []*fakePage       // by number
	seqs  map[*fakeSeq]bool // that were not freed
	turn  time.Duration     // of forward
	hook  func(rows []compute.Row) error

	mu sync.Mutex // guards the list pages, not what stands in them

	content uint64 // of adapters that are loaded
	habits  bool   // only the last two tokens decide, so that texts repeat themselves
	eager   bool   // every guess is tried
	draft   *fake  // guesses
	salt    uint64 // makes some logits others
	border  int    // beyond it sequences are stretched; 0: none

	slots  int  // of fixed states; 0: what was computed of a sequence goes on at any position
	wide   int  // bytes of a fixed state, at least 16
	bare   bool // pages hold nothing: all that a sequence has is its state
	states []fakeState

	turns   atomic.Int64
	widest  atomic.Int64 // largest number of sequences in one batch
	refused atomic.Int64 // forwards without pages
	rows    atomic.Int64 // computed
	closed  bool
}

// fakePage holds what a sequence knows: no sequence knows more than its pages do.
type fakePage struct {
	number int32
	refs   int
	kept   bool
	states []uint64
}

type fakeSeq struct {
	m     *fake
	n     int
	pages []*fakePage
	freed bool
	how   int

	state  int32 // slot, see states_test.go
	points []kv.Checkpoint
}

func (f *fake) Stretch(n int) int {
	if f.border > 0 && n > f.border {
		return 1
	}
	return 0
}

func (s *fakeSeq) Stretched() int { return s.how }

func (s *fakeSeq) Stretch(how int) {
	if s.n > 0 && how != s.how {
		s.m.t.Error("a sequence that is not empty is stretched")
	}
	s.how = how
}

func (f *fake) NewSeq() compute.Seq {
	s := &fakeSeq{m: f, state: -1}
	if f.seqs == nil {
		f.seqs = map[*fakeSeq]bool{}
	}
	f.seqs[s] = true
	return s
}

func (f *fake) Keep(page int32) {
	if p := f.pages[page]; p.kept || p.refs == 0 {
		f.t.Errorf("page %d is kept: %v, holders %d", page, p.kept, p.refs)
	}
	f.pages[page].kept = true
	f.pages[page].refs++
}

func (f *fake) Forget(page int32) {
	if !f.pages[page].kept {
		f.t.Errorf("page %d is forgotten and was not kept", page)
	}
	f.pages[page].kept = false
	f.dropPage(f.pages[page])
}

func (f *fake) Idle(page int32) bool { return f.pages[page].kept && f.pages[page].refs == 1 }

func (f *fake) IdlePages() int {
	n := 0
	for i := range f.pages {
		if f.Idle(int32(i)) {
			n++
		}
	}
	return n
}

func (f *fake) FreePages() int  { return f.total - f.used }
func (f *fake) TotalPages() int { return f.total }
func (f *fake) Close() error    { f.closed = true; return nil }

type fakeAdapter struct {
	closed  bool
	content uint64
}

func (a *fakeAdapter) Bytes() int64 { return 100 }
func (a *fakeAdapter) Close()       { a.closed = true }

func (f *fake) LoadAdapter(*lora.Adapter) (compute.Adapter, error) {
	return &fakeAdapter{content: f.content}, nil
}

// adopt binds an adapter and takes it in without a proof.
func (l *loop) adopt(info backend.AdapterInfo, file *lora.Adapter, owner io.Closer) (backend.AdapterInfo, error) {
	b, err := l.model.LoadAdapter(file)
	if err != nil {
		return info, err
	}
	info.Bytes = b.Bytes()
	l.adapters[info.ID] = &adapter{info: info, file: owner, bound: b}
	return info, nil
}

func (f *fake) Bind(uses []compute.Use) any {
	if len(uses) == 0 {
		return nil
	}
	return slices.Clone(uses)
}

func (s *fakeSeq) Len() int         { return s.n }
func (s *fakeSeq) Pages() int       { return len(s.pages) }
func (s *fakeSeq) Page(i int) int32 { return s.pages[i].number }

func (s *fakeSeq) Need(n int) int {
	need := (s.n+n+s.m.size.Page-1)/s.m.size.Page - len(s.pages)
	if s.shared() {
		need++
	}
	return need
}

func (s *fakeSeq) Adopt(page int32) {
	p := s.m.pages[page]
	if s.n%s.m.size.Page != 0 || !p.kept || len(p.states) != s.m.size.Page || s.n+s.m.size.Page > s.m.size.Context {
		s.m.t.Errorf("page %d of %d positions, kept: %v, is adopted at %d", page, len(p.states), p.kept, s.n)
	}
	p.refs++
	s.pages = append(s.pages, p)
	s.n += s.m.size.Page
}

func (s *fakeSeq) Copy(page int32, n int) {
	p := s.m.pages[page]
	if s.n%s.m.size.Page != 0 || !p.kept || n < 1 || n >= s.m.size.Page || s.n+n > s.m.size.Context || s.m.FreePages() < 1 {
		s.m.t.Errorf("%d positions of page %d, kept: %v, are copied at %d", n, page, p.kept, s.n)
	}
	own := s.m.takePage()
	own.states = slices.Clone(p.states)
	s.pages = append(s.pages, own)
	s.n += n
}

func (s *fakeSeq) Swap(i int, page int32) {
	p := s.m.pages[page]
	if !p.kept || !s.m.bare && !slices.Equal(p.states, s.pages[i].states) || len(p.states) != s.m.size.Page {
		s.m.t.Errorf("page %d, kept: %v, does not hold what the one holds whose place it takes", page, p.kept)
	}
	p.refs++
	s.m.dropPage(s.pages[i])
	s.pages[i] = p
}

func (s *fakeSeq) Truncate(n int) int {
	if n >= s.n {
		return s.n
	}
	n = s.rewind(n)
	s.n = n
	keep := (n + s.m.size.Page - 1) / s.m.size.Page
	for _, p := range s.pages[keep:] {
		s.m.dropPage(p)
	}
	s.pages = s.pages[:keep]
	return n
}

func (f *fake) dropPage(p *fakePage) {
	if p.refs--; p.refs == 0 {
		f.used--
	}
}

func (f *fake) takePage() *fakePage {
	f.used++
	for _, p := range f.pages {
		if p.refs == 0 {
			*p = fakePage{number: p.number, refs: 1}
			return p
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	p := &fakePage{number: int32(len(f.pages)), refs: 1}
	f.pages = append(f.pages, p)
	return p
}

func (f *fake) PageBytes() int {
	if f.bare {
		return 0
	}
	return 8 * f.size.Page
}

func (f *fake) Take() int32 {
	if f.FreePages() == 0 {
		f.t.Error("a page is taken and none is free")
	}
	return f.takePage().number
}

func (f *fake) Drop(page int32) { f.dropPage(f.pages[page]) }

func (f *fake) ReadPage(page int32, dst []byte) {
	p := f.pages[page]
	if p.refs == 0 || len(p.states) != f.size.Page && f.slots == 0 || len(dst) != f.PageBytes() {
		f.t.Errorf("page %d with %d positions is read", page, len(p.states))
	}
	clear(dst)
	if f.bare {
		return
	}
	for i, s := range p.states {
		binary.LittleEndian.PutUint64(dst[8*i:], s)
	}
}

// fill runs beside forward, as the transformer's may.
func (f *fake) WritePage(page int32, src []byte) {
	f.mu.Lock()
	p := f.pages[page]
	f.mu.Unlock()
	if p.refs != 1 || p.kept || len(src) != f.PageBytes() {
		f.t.Errorf("page %d is filled: holders %d, kept: %v", page, p.refs, p.kept)
	}
	p.states = p.states[:0]
	for i := range f.size.Page {
		if f.bare {
			p.states = append(p.states, 0)
			continue
		}
		p.states = append(p.states, binary.LittleEndian.Uint64(src[8*i:]))
	}
}

func (s *fakeSeq) Fork() compute.Seq {
	n := s.m.NewSeq().(*fakeSeq)
	n.n, n.how, n.pages = s.n, s.how, slices.Clone(s.pages)
	for _, p := range n.pages {
		p.refs++
	}
	n.state, n.points = s.state, slices.Clone(s.points)
	for _, slot := range append(slotsOf(n.points), n.state) {
		s.m.ShareState(slot)
	}
	return n
}

func (s *fakeSeq) Free() {
	s.Cut(0)
	s.freed = true
	delete(s.m.seqs, s)
}

func (s *fakeSeq) shared() bool {
	return s.n%s.m.size.Page != 0 && s.pages[len(s.pages)-1].refs > 1
}

// splitmix64 of Steele, Lea and Flood.
func mix(z uint64) uint64 {
	z += 0x9e3779b97f4a7c15
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

func next(state uint64, token int32, bound any) uint64 {
	state = mix(state ^ uint64(token) + 1)
	if uses, ok := bound.([]compute.Use); ok {
		for _, u := range uses {
			if u.Adapter.(*fakeAdapter).closed {
				panic("a closed adapter computes")
			}
			state = mix(state ^ uint64(u.Scale*1000) ^ u.Adapter.(*fakeAdapter).content<<32)
		}
	}
	return state
}

func fill(logits []float32, state uint64) {
	for i := range logits {
		logits[i] = float32(mix(state^bits.Reverse64(uint64(i)+1))>>40)/(1<<21) - 4 // in [-4, 4)
	}
}

// fakeWidth is the length of a hidden state.
const fakeWidth = 6

func fillHidden(sum []float32, state uint64) {
	for i := range sum {
		sum[i] += float32(mix(state+uint64(i))>>40)/(1<<20) - 8
	}
}

func (f *fake) Forward(rows []compute.Row) error {
	f.turns.Add(1)
	if f.turn > 0 {
		time.Sleep(f.turn)
	}
	if f.hook != nil {
		if err := f.hook(rows); err != nil {
			return err
		}
	}
	if len(rows) == 0 || len(rows) > f.size.Batch {
		f.t.Errorf("a batch of %d rows, limit %d", len(rows), f.size.Batch)
	}
	counts := map[*fakeSeq]int{}
	var order []*fakeSeq
	for i, r := range rows {
		s := r.Seq.(*fakeSeq)
		if s.freed {
			f.t.Error("a freed sequence computes")
		}
		if counts[s] > 0 && rows[i-1].Seq != r.Seq {
			f.t.Error("rows of one sequence are not consecutive")
		}
		if counts[s] == 0 {
			order = append(order, s)
		}
		counts[s]++
		if s.Len()+counts[s] > f.size.Context {
			f.t.Errorf("position %d is beyond the context", s.Len()+counts[s])
		}
	}
	need := 0
	for _, s := range order {
		need += s.Need(counts[s])
	}
	states := 0
	for i, s := range order {
		others := 0
		for _, o := range order[:i] {
			if s.state >= 0 && o.state == s.state {
				others++
			}
		}
		if s.NeedState() && (s.state < 0 || f.states[s.state].refs-others > 1) {
			states++
		}
	}
	if need > f.FreePages() || states > f.FreeStates() {
		f.refused.Add(1)
		return transformer.ErrNoPages
	}
	f.rows.Add(int64(len(rows)))
	f.widest.Store(max(f.widest.Load(), int64(len(order))))
	for _, s := range order {
		s.ownState()
		if s.shared() {
			last := &s.pages[len(s.pages)-1]
			own := f.takePage()
			own.states = slices.Clone((*last).states)
			f.dropPage(*last)
			*last = own
		}
		for len(s.pages)*f.size.Page < s.Len()+counts[s] {
			s.pages = append(s.pages, f.takePage())
		}
	}
	for _, r := range rows {
		s := r.Seq.(*fakeSeq)
		state := uint64(0)
		if n := s.n - 1; n >= 0 {
			state = s.pages[n/f.size.Page].states[n%f.size.Page]
		}
		if f.slots > 0 {
			state = f.states[s.state].at(f.t, s.n)
		}
		if f.habits {
			state = next(state>>56, r.Token, r.Adapters)>>8 | uint64(r.Token)<<56
		} else {
			state = next(state, r.Token, r.Adapters)
		}
		if f.border > 0 && s.n >= f.border && s.how == 0 {
			f.t.Errorf("position %d of a sequence that is not stretched", s.n)
		}
		if s.how != 0 && s.n == 0 {
			state ^= uint64(s.how) << 32
		}
		p := s.pages[s.n/f.size.Page]
		if p.refs > 1 {
			f.t.Errorf("page %d is written to and has %d holders", p.number, p.refs)
		}
		p.states = append(p.states[:s.n%f.size.Page], state)
		s.n++
		if f.slots > 0 {
			f.states[s.state].set(s.n, state)
		}
		if r.Logits != nil {
			if state%4 == 0 {
				state ^= f.salt
			}
			fill(r.Logits, state)
		}
		if r.Sum != nil {
			fillHidden(r.Sum, state)
		}
	}
	return nil
}

const (
	fakeRows = 96
	fakeEOG  = 95
	fakeBell = 94 // control, no end
)

// fakeVocabulary: printable characters, words, pieces of UTF-8 sequences, a control token, and an end of generation.
func fakeVocabulary() backend.Vocabulary {
	v := backend.Vocabulary{BOS: -1, EOG: []int32{fakeEOG}, Hash: "fake"}
	for i := range fakeRows {
		switch {
		case i < 26:
			v.Pieces = append(v.Pieces, []byte{byte('a' + i)})
		case i < 52:
			v.Pieces = append(v.Pieces, []byte(" "+string(rune('A'+i-26))))
		case i < 60:
			v.Pieces = append(v.Pieces, []byte(fmt.Sprintf("w%dx", i-52)))
		case i < 64:
			v.Pieces = append(v.Pieces, []byte{"\xF0\x9F\x98\x80"[i-60]})
		case i < 70:
			v.Pieces = append(v.Pieces, []byte("é"))
		case i < 76:
			v.Pieces = append(v.Pieces, []byte{0x80 + byte(i)})
		default:
			v.Pieces = append(v.Pieces, []byte(strings.Repeat("=", i-75)))
		}
		v.Control = append(v.Control, i == fakeBell || i == fakeEOG)
	}
	return v
}

type option func(*fake)

func withSize(change func(*sizes)) option { return func(f *fake) { change(&f.size) } }
func withPages(n int) option              { return func(f *fake) { f.total = n } }
func withTurn(d time.Duration) option     { return func(f *fake) { f.turn = d } }

// serve returns an engine over a fake. When the test ends, everything must have been given back.
func serve(t *testing.T, options ...option) (*Engine, *fake) {
	t.Helper()
	f := &fake{t: t, total: 1000, size: sizes{Sizes: compute.Sizes{Rows: fakeRows, Context: 256, Page: 8, Batch: 64, Logits: 16, Sequences: 8}, waiting: 100}}
	for _, o := range options {
		o(f)
	}
	f.makeStates()
	e := New(Options{Name: "fake", Kernels: nil, Log: slog.New(slog.DiscardHandler)})
	m := &loaded{size: f.size, model: f}
	m.info.Width = fakeWidth
	m.loop = newLoop(f, f.size, make([]float32, f.size.Logits*f.size.Rows), e.opt.Log)
	m.loop.drafts.Eager = f.eager
	if d := f.draft; d != nil {
		m.draft = d
		m.loop.drafts.DraftWith(d, d.size.Sizes)
		t.Cleanup(func() {
			if d.used != 0 || !d.closed {
				t.Errorf("the draft model has lost %d pages; closed: %v", d.used, d.closed)
			}
		})
	}
	go m.loop.run()
	e.loaded = m
	if err := e.SetVocabulary(t.Context(), fakeVocabulary()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
		if f.used != 0 {
			t.Errorf("%d pages are lost", f.used)
		}
		if f.FreeStates() != f.slots {
			t.Errorf("%d of %d states are free at the end", f.FreeStates(), f.slots)
		}
		if !f.closed {
			t.Error("the model is not closed")
		}
	})
	return e, f
}

// reply is all that came of a request.
type reply struct {
	events []backend.Event
	last   backend.Event
	err    error
}

func generate(ctx context.Context, e *Engine, req backend.Request) reply {
	var a reply
	a.err = e.Generate(ctx, req, func(ev backend.Event) error {
		a.events = append(a.events, ev)
		if ev.Done {
			a.last = ev
		}
		return nil
	})
	return a
}

// must is generate where nothing may go wrong; it checks what every answer has to keep.
func must(t *testing.T, e *Engine, req backend.Request) reply {
	t.Helper()
	a := generate(t.Context(), e, req)
	if a.err != nil {
		t.Fatalf("%s: %v", req.ID, a.err)
	}
	check(t, req, a)
	return a
}

func check(t *testing.T, req backend.Request, a reply) {
	t.Helper()
	if len(a.last.Choices) != max(req.N, 1) {
		t.Fatalf("%s: %d choices", req.ID, len(a.last.Choices))
	}
	text := make([]string, len(a.last.Choices))
	ids := make([][]int32, len(a.last.Choices))
	logprobs := make([]int, len(a.last.Choices))
	tokens, done := false, 0
	for i, ev := range a.events {
		switch {
		case ev.Done:
			done++
			if i != len(a.events)-1 {
				t.Errorf("%s: an event after the last one", req.ID)
			}
		case ev.Prefill != nil:
			if tokens {
				t.Errorf("%s: prefill progress after text", req.ID)
			}
			if done = ev.Prefill.Done; done > ev.Prefill.Of || ev.Prefill.Of != len(req.PromptIDs) {
				t.Errorf("%s: progress %+v of %d", req.ID, *ev.Prefill, len(req.PromptIDs))
			}
			done = 0
		default:
			tokens = true
			text[ev.Index] += ev.Text
			ids[ev.Index] = append(ids[ev.Index], ev.IDs...)
			logprobs[ev.Index] += len(ev.Logprobs)
			if !req.Stream {
				t.Errorf("%s: text, but no stream was asked for", req.ID)
			}
		}
	}
	if done != 1 {
		t.Errorf("%s: %d last events", req.ID, done)
	}
	for i, c := range a.last.Choices {
		if c.Index != i || c.Finish == "" {
			t.Errorf("%s: choice %d is %+v", req.ID, i, c)
		}
		if req.Logprobs && len(c.Logprobs) != len(c.IDs) {
			t.Errorf("%s: %d log-probabilities for %d ids", req.ID, len(c.Logprobs), len(c.IDs))
		}
		if !req.Stream || req.BestOf > max(req.N, 1) || len(req.GeneratedIDs) > 0 {
			continue
		}
		if text[i] != c.Text || !slices.Equal(ids[i], c.IDs) {
			t.Errorf("%s: events join to %q %v, the choice is %q %v", req.ID, text[i], ids[i], c.Text, c.IDs)
		}
		if req.Logprobs && logprobs[i] != len(c.IDs) {
			t.Errorf("%s: %d log-probabilities in events for %d ids", req.ID, logprobs[i], len(c.IDs))
		}
	}
}

// reference computes a choice in the plainest way: no batch, no chunks, no loop. It stops at limit tokens or at an end of
// generation, and knows no stop strings. total is the sum of the log-probabilities, the end's included.
func reference(t *testing.T, req backend.Request, choice, limit int) (ids []int32, logprobs []float32, total float64) {
	t.Helper()
	var s sample.Sampler
	p := answer.SamplingParams(req.Sampling)
	state := uint64(0)
	for _, id := range req.PromptIDs {
		state = next(state, id, nil)
	}
	logits := make([]float32, fakeRows)
	for len(ids) < limit {
		fill(logits, state)
		id, err := s.Next(&sample.Step{
			Logits: logits, Limit: fakeRows, Params: &p, Prompt: req.PromptIDs, Generated: ids, Choice: choice, Index: len(ids),
		})
		if err != nil {
			t.Fatal(err)
		}
		norm, err := sample.LogNorm(logits)
		if err != nil {
			t.Fatal(err)
		}
		lp := sample.Logprob(logits[id], norm)
		total += float64(lp)
		if id == fakeEOG && !req.IgnoreEOS {
			break
		}
		ids, logprobs = append(ids, id), append(logprobs, lp)
		state = next(state, id, nil)
	}
	return ids, logprobs, total
}

func prompt(n, salt int) []int32 {
	ids := make([]int32, n)
	for i := range ids {
		ids[i] = int32(mix(uint64(salt*1000+i)) % 90)
	}
	return ids
}

var errTest = errors.New("test")
