package transformer

import (
	"context"
	"time"
)

// Tuning bounds. A round runs every candidate once, so that a machine that is busy for a moment spoils a
// round and not a candidate; of each the fastest round counts.
const (
	tuneRounds    = 5
	minTuneRounds = 2
	tuneFor       = 2 * time.Second // a kind of work takes no longer, but for minTuneRounds
	tuneRows      = 16              // of a piece of a prompt: half a second of a Pi 4 with a 1B model
	// tuneSlack is the factor by which a smaller number of threads may be slower and is still taken: where one or two
	// cores keep the memory busy, the others are better left to the rest of the machine.
	tuneSlack = 1.03
)

// Tune finds by measurement how many threads are best for prompts and for decoding and computes with these
// from now on. Where decode or prefill is false, that number stays as it is. It changes no bit of any result.
// No sequence may be part of a batch meanwhile; the pool of pages must have room for one page more. ctx ends
// it between two steps.
func (m *Model) Tune(ctx context.Context, prefill, decode bool) error {
	most := m.pool.Threads()
	if most < 2 {
		return nil
	}
	seq := m.NewSeq()
	defer seq.Free()
	rows := make([]Row, min(tuneRows, m.opt.MaxRows, m.opt.Context))
	for i := range rows {
		rows[i] = Row{Seq: seq, Token: int32(i % m.spec.Vocab)}
	}
	one := []Row{{Seq: seq, Logits: make([]float32, m.spec.Vocab)}}
	try := func(batch []Row, threads *int, n int) (time.Duration, error) {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		seq.Truncate(0)
		*threads = n
		began := time.Now()
		err := m.Forward(batch)
		return time.Since(began), err
	}
	for _, kind := range []struct {
		wanted  bool
		rows    []Row
		from    int // the smallest number of threads that is tried: prompts are limited by arithmetic, which more cores do faster
		threads *int
	}{
		{prefill && len(rows) >= DecodeRows, rows, (most + 1) / 2, &m.info.ThreadsPrefill},
		{decode, one, 1, &m.info.ThreadsDecode},
	} {
		if !kind.wanted {
			continue
		}
		n, err := fastest(candidates(kind.from, most), func(n int) (time.Duration, error) { return try(kind.rows, kind.threads, n) })
		if err != nil {
			*kind.threads = most
			return err
		}
		*kind.threads = n
	}
	return nil
}

// SetThreads sets the threads of prompts and of decoding, up to those that the model was made with.
func (m *Model) SetThreads(prefill, decode int) {
	m.info.ThreadsPrefill = max(1, min(prefill, m.pool.Threads()))
	m.info.ThreadsDecode = max(1, min(decode, m.pool.Threads()))
}

// candidates are the numbers of threads that are tried: all up to 8, then some.
func candidates(from, most int) []int {
	var out []int
	for n := from; n < most; n += max(1, n/4) {
		out = append(out, n)
	}
	return append(out, most)
}

// fastest is the smallest candidate that is nearly as fast as the fastest. Each is run once before the clock counts.
func fastest(threads []int, run func(n int) (time.Duration, error)) (int, error) {
	best := make([]time.Duration, len(threads))
	began := time.Now()
	for round := range tuneRounds + 1 {
		if round > minTuneRounds && time.Since(began) > tuneFor {
			break
		}
		for i, n := range threads {
			d, err := run(n)
			if err != nil {
				return 0, err
			}
			if round == 1 || round > 1 && d < best[i] {
				best[i] = d
			}
		}
	}
	least := best[0]
	for _, d := range best {
		least = min(least, d)
	}
	for i, d := range best {
		if float64(d) <= tuneSlack*float64(least) {
			return threads[i], nil
		}
	}
	return threads[len(threads)-1], nil
}
