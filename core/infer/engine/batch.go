package engine

import (
	"slices"

	"edged/core/infer/engine/compute"
)

// batch is the work of one turn: rows for the forward pass, first one for each sequence that decodes, each
// followed by its drafted tokens, then chunks of prompts, then proofs of adapters; and the rows whose logits
// are wanted. All of it is scratch of the next turn.
type batch struct {
	rows     []compute.Row
	wants    []want
	decoding int // rows of branches that have only their next token to compute
	prefill  int // the other rows
	units    []unit
	prompts  []unit // scratch
}

// want is a row whose logits are wanted: those after token pos of b's history, which is id unless that was a
// wrong guess.
type want struct {
	b      *branch
	pos    int
	id     int32
	logits []float32
	peaks  []float32 // of logits; nil: the model does not look for them
}

// unit is a sequence that has tokens to compute: that of a branch, or that of a job's prompt before its
// branches fork it (the root), whose branch is nil.
type unit struct {
	job      *job
	b        *branch
	seq      compute.Seq
	from, to int // tokens of the history
}

// jobs are those with a row in the batch.
func (b *batch) jobs() []*job {
	var out []*job
	for _, u := range b.units {
		if !slices.Contains(out, u.job) {
			out = append(out, u.job)
		}
	}
	return out
}

// formBatch makes the next batch: every running branch contributes its next token, prompts share the rows
// that are left, clients in turns (see byTurns), and lists that are scored come last. False: there is nothing
// to compute.
func (l *loop) formBatch() bool {
	b := &l.batch
	for _, u := range b.units {
		if u.b != nil {
			u.b.draft.Taken = 0 // also where the turn found no pages
		}
	}
	clear(b.rows) // no finished sequence is kept alive by scratch
	clear(b.wants)
	clear(b.units)
	b.rows, b.wants, b.units = b.rows[:0], b.wants[:0], b.units[:0]
	b.decoding, b.prefill = 0, 0
	l.rescale()
	l.reuse()
	l.pending(func(u unit) {
		if u.b != nil && u.to-u.from == 1 && !u.job.prompt.Waits {
			b.units = append(b.units, u)
		}
	})
	// More branches than rows of logits take turns, and clients beside each other, see deal.
	n := min(len(b.units), l.size.Logits, l.size.Batch)
	if severalClients(b.units) {
		n = min(n, l.size.Sequences)
	}
	if n < len(b.units) || len(l.debts) > 0 {
		b.units = l.deal(b.units, n)
		n = len(b.units)
	}
	for _, u := range b.units {
		u.b.served = l.count.Steps + 1
	}
	// Beside a chunk of a prompt nobody guesses: such a turn is long enough for those who wait for their next token.
	left := 0
	if l.prompts() {
		left = l.pace.Chunk(n, max(l.size.Batch-n-l.prover.expected(), 0))
	}
	l.speculate(b.units, left == 0)
	for _, u := range b.units {
		u.b.draft.Taken = l.withinBorder(u.job, u.b.History(), u.b.draft.Taken)
		l.add(u, 1)
		l.addDraft(u.b)
	}
	b.decoding = n
	// Lists that are scored come last: each of their rows wants logits, and a prompt's last one must find some left.
	for _, scoring := range [2]bool{false, true} {
		b.prompts = b.prompts[:0]
		l.pending(func(u unit) {
			if left > 0 && !u.job.prompt.Waits && u.job.scoring == scoring && (u.b == nil || u.to-u.from > 1) {
				b.prompts = append(b.prompts, u)
			}
		})
		l.byTurns(b.prompts)
		for _, u := range b.prompts {
			if left <= 0 {
				break
			}
			if rows := l.add(u, min(left, u.to-u.from)); rows > 0 {
				b.units = append(b.units, u)
				left -= rows
				b.prefill += rows
				u.job.read = l.count.Steps + 1
			}
		}
	}
	clear(b.prompts) // no finished sequence is kept alive by scratch
	l.prover.addTo(b)
	return len(b.rows) > 0
}

// add appends up to n rows of u, fewer where the rows of logits run out or a checkpoint is due, and returns how many.
func (l *loop) add(u unit, n int) int {
	b := &l.batch
	n = min(n, l.cache.UntilCheckpoint(&u.job.prompt, u.from, u.to))
	for i := u.from; i < u.from+n; i++ {
		r := compute.Row{Seq: u.seq, Adapters: u.job.boundAt(i)}
		if u.job.pools(i) {
			r.Sum = u.job.sum
		}
		if u.b == nil {
			r.Token = u.job.Req.PromptIDs[i]
		} else {
			r.Token = u.b.Token(i)
			if u.b.wanted(i) {
				if len(b.wants) == l.size.Logits {
					return i - u.from
				}
				r.Logits, r.Peaks = l.want(u.b, i, r.Token)
			}
		}
		b.rows = append(b.rows, r)
	}
	return n
}

// addDraft appends the rows of a branch's guesses, behind the one of its last token.
func (l *loop) addDraft(b *branch) {
	g := &b.draft
	for i, id := range g.IDs[:g.Taken] {
		r := compute.Row{Seq: b.seq, Adapters: b.job.boundAt(g.At + i), Token: id}
		r.Logits, r.Peaks = l.want(b, g.At+i, id)
		l.batch.rows = append(l.batch.rows, r)
	}
}

// want gives a row its logits and their peaks.
func (l *loop) want(b *branch, pos int, id int32) (logits, peaks []float32) {
	k := len(l.batch.wants)
	logits = l.logits[k*l.size.Rows : (k+1)*l.size.Rows]
	if n := l.size.Peaks; n > 0 {
		peaks = l.peaks[k*n : (k+1)*n]
	}
	l.batch.wants = append(l.batch.wants, want{b: b, pos: pos, id: id, logits: logits, peaks: peaks})
	return logits, peaks
}
