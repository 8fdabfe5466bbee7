// Package transformertest is the conformance suite of forward passes: whatever kernels compute them, a row's
// bits depend on its own inputs only. Kernel packages and the engine run it too.
//
// It must not know how a forward pass is computed.
package transformertest

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"

	"edged/core/infer/transformer"
	"edged/core/model/lora"
	"edged/quant"
)

// Case is one model under test.
type Case struct {
	// Open opens the model with these options; the suite sets threads, MaxRows and pages, the rest is the caller's.
	Open func(t *testing.T, o transformer.Options) *transformer.Model
	// Adapters are bound to each model that Open returns; two are enough to mix, none leaves adapters out.
	Adapters []*lora.Adapter
	// Positions is the length of the sequences; more than 512 tests that spans of attention are combined alike. 0: 80.
	Positions int
	// Threads are the thread counts to compare; nil: 1, 2 and 3.
	Threads []int
}

// RandomAdapter makes an adapter of random float32 factors of the given rank for the named layers, (rows, cols) each.
func RandomAdapter(seed uint64, rank int, shapes map[string][2]int) *lora.Adapter {
	rng := rand.New(rand.NewPCG(seed, 11))
	a := &lora.Adapter{Path: "random", Rank: rank, Mods: map[string]*lora.Delta{}}
	names := make([]string, 0, len(shapes))
	for name := range shapes {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		rows, cols := shapes[name][0], shapes[name][1]
		a.Mods[name] = &lora.Delta{
			A: random(rng, name+" a", rank, cols, 1/math.Sqrt(float64(cols))), B: random(rng, name+" b", rows, rank, 1/math.Sqrt(float64(rank))),
			Scale: 0.5,
		}
	}
	return a
}

func random(rng *rand.Rand, name string, rows, cols int, scale float64) *quant.Matrix {
	data := make([]byte, 0, 4*rows*cols)
	for range rows * cols {
		data = binary.LittleEndian.AppendUint32(data, math.Float32bits(float32(scale*rng.NormFloat64())))
	}
	return &quant.Matrix{Name: name, Format: quant.F32, Rows: rows, Cols: cols, Data: data}
}

// stream is one sequence of the test.
type stream struct {
	ids    []int32
	uses   func(b *bench) []transformer.Use
	golden []float32 // (Positions, VocabRows)
}

// bench is one open model with its adapters.
type bench struct {
	t        *testing.T
	m        *transformer.Model
	adapters []*transformer.Adapter
	vocab    int
}

// RowBits computes every logit of four sequences one token at a time on one thread, and then in chunks, in mixed
// batches, on more threads, after forks and truncations: all bits must be equal.
func RowBits(t *testing.T, c Case) {
	t.Helper()
	if c.Positions == 0 {
		c.Positions = 80
	}
	if c.Threads == nil {
		c.Threads = []int{1, 2, 3}
	}
	if old, want := runtime.GOMAXPROCS(0), slices.Max(c.Threads); old < want {
		runtime.GOMAXPROCS(want)
		defer runtime.GOMAXPROCS(old)
	}
	var streams []*stream
	b := c.open(t, 1)
	for i, uses := range c.uses() {
		s := &stream{ids: b.randomIDs(uint64(i), c.Positions), uses: uses}
		s.golden = b.alone(s, 1)
		streams = append(streams, s)
	}
	b.close()
	for _, threads := range c.Threads {
		b := c.open(t, threads)
		for i, chunk := range []int{c.Positions, 33, 31, 9, 8, 3, 2} {
			if c.Positions > 200 && i > 0 {
				break // enough
			}
			s := streams[i%len(streams)]
			b.compare(s, b.alone(s, chunk), "alone, chunks of %d, %d threads", chunk, threads)
		}
		for seed := range uint64(2) {
			b.mixed(streams, seed, threads)
		}
		b.close()
	}
}

// uses are the adapter sets of the sequences.
func (c *Case) uses() []func(b *bench) []transformer.Use {
	none := func(*bench) []transformer.Use { return nil }
	if len(c.Adapters) < 2 {
		return []func(b *bench) []transformer.Use{none, none, none, none}
	}
	return []func(b *bench) []transformer.Use{
		none,
		func(b *bench) []transformer.Use { return []transformer.Use{{Adapter: b.adapters[0], Scale: 1}} },
		func(b *bench) []transformer.Use {
			return []transformer.Use{{Adapter: b.adapters[1], Scale: 0.5}, {Adapter: b.adapters[0], Scale: -0.25}}
		},
		func(b *bench) []transformer.Use { return []transformer.Use{{Adapter: b.adapters[0], Scale: 1}} },
	}
}

func (c *Case) open(t *testing.T, threads int) *bench {
	t.Helper()
	pages := 8 * ((c.Positions + 31) / 32)
	m := c.Open(t, transformer.Options{
		ThreadsPrefill: threads, ThreadsDecode: threads, MaxRows: max(96, c.Positions), KVPages: pages, Context: c.Positions,
	})
	b := &bench{t: t, m: m, vocab: m.Info().VocabRows}
	for _, a := range c.Adapters {
		x, err := m.LoadAdapter(a)
		if err != nil {
			t.Fatal(err)
		}
		b.adapters = append(b.adapters, x)
	}
	return b
}

func (b *bench) randomIDs(seed uint64, n int) []int32 {
	rng := rand.New(rand.NewPCG(seed, 5))
	ids := make([]int32, n)
	for i := range ids {
		ids[i] = int32(rng.IntN(b.vocab))
	}
	return ids
}

func (b *bench) close() {
	b.t.Helper()
	if b.m.Cache().FreePages() != b.m.Cache().TotalPages() {
		b.t.Errorf("%d of %d pages are free at the end", b.m.Cache().FreePages(), b.m.Cache().TotalPages())
	}
	for _, a := range b.adapters {
		a.Close()
	}
	if err := b.m.Close(); err != nil {
		b.t.Error(err)
	}
}

// alone runs one sequence by itself in chunks.
func (b *bench) alone(s *stream, chunk int) []float32 {
	b.t.Helper()
	seq, uses := b.m.NewSeq(), s.uses(b)
	defer seq.Free()
	out := make([]float32, len(s.ids)*b.vocab)
	for lo := 0; lo < len(s.ids); lo += chunk {
		var rows []transformer.Row
		for i := lo; i < min(lo+chunk, len(s.ids)); i++ {
			rows = append(rows, transformer.Row{Seq: seq, Token: s.ids[i], Adapters: uses, Logits: out[i*b.vocab : (i+1)*b.vocab]})
		}
		b.forward(rows)
	}
	return out
}

func (b *bench) forward(rows []transformer.Row) {
	b.t.Helper()
	if err := b.m.Forward(rows); err != nil {
		b.t.Fatal(err)
	}
}

// mixed runs all sequences together in random pieces, with random wishes for logits. Now and then a sequence
// is cut back and goes on, or is replaced by a fork of itself whose original goes on elsewhere for a while.
func (b *bench) mixed(streams []*stream, seed uint64, threads int) {
	b.t.Helper()
	rng := rand.New(rand.NewPCG(seed, 99))
	type state struct {
		*stream
		seq  *transformer.Seq
		uses []transformer.Use
	}
	var live []*state
	for _, s := range streams {
		live = append(live, &state{stream: s, seq: b.m.NewSeq(), uses: s.uses(b)})
	}
	scratch := make([]float32, 96*b.vocab)
	type check struct {
		s        *state
		at, room int
	}
	for len(live) > 0 {
		rng.Shuffle(len(live), func(i, j int) { live[i], live[j] = live[j], live[i] })
		var rows []transformer.Row
		var checks []check
		for _, s := range live {
			n := min([]int{0, 1, 1, 1, 2, 7, 20, 24}[rng.IntN(8)], len(s.ids)-s.seq.Len())
			for i := range n {
				at := s.seq.Len() + i
				r := transformer.Row{Seq: s.seq, Token: s.ids[at], Adapters: s.uses}
				if rng.IntN(3) == 0 || n == 1 {
					room := len(checks) * b.vocab
					r.Logits = scratch[room : room+b.vocab]
					checks = append(checks, check{s, at, room})
				}
				rows = append(rows, r)
			}
		}
		b.forward(rows)
		for _, c := range checks {
			got, want := scratch[c.room:c.room+b.vocab], c.s.golden[c.at*b.vocab:(c.at+1)*b.vocab]
			for i := range want {
				if math.Float32bits(got[i]) != math.Float32bits(want[i]) {
					b.t.Fatalf("mixed batch, seed %d, %d threads: position %d, logit %d is %v, alone %v", seed, threads, c.at, i, got[i], want[i])
				}
			}
		}
		for _, s := range live {
			switch rng.IntN(12) {
			case 0:
				s.seq.Truncate(s.seq.Len() - rng.IntN(40))
			case 1:
				// The original writes other tokens to the page that both share.
				fork, n := s.seq.Fork(), s.seq.Len()
				if n < len(s.ids) {
					b.forward([]transformer.Row{{Seq: s.seq, Token: s.ids[0], Adapters: s.uses}})
				}
				s.seq.Free()
				s.seq = fork
			}
		}
		live = slices.DeleteFunc(live, func(s *state) bool {
			done := s.seq.Len() == len(s.ids)
			if done {
				s.seq.Free()
			}
			return done
		})
	}
}

func (b *bench) compare(s *stream, got []float32, format string, args ...any) {
	b.t.Helper()
	for i, want := range s.golden {
		if math.Float32bits(got[i]) != math.Float32bits(want) {
			b.t.Fatalf(format+": position %d, logit %d is %v, one by one %v", append(args, i/b.vocab, i%b.vocab, got[i], want)...)
		}
	}
}
