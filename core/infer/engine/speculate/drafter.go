package speculate

import (
	"time"

	"edged/core/infer/engine/compute"
	"edged/core/infer/engine/pace"
	"edged/core/infer/sample"
)

// drafter guesses next tokens with a smaller model of the same vocabulary: what that one would draw at the
// same step, with the same settings and the same random number, so that two models that agree on
// probabilities agree on tokens.
//
// It follows each branch with a sequence of its own, and reads what it lacks of the history in pieces.
// Adapters are unknown to it: its guesses are only worse then. Without pages it guesses nothing.
type drafter struct {
	model   compute.Model
	size    compute.Sizes
	logits  []float32 // (size.sequences, size.rows)
	sampler sample.Sampler
	rows    []compute.Row
	ready   []*Branch // that take part in the current step
	next    []*Branch
	ids     []int32       // scratch: an answer with what is guessed
	step    time.Duration // that guesses one token; 0: not known yet
}

const (
	// modelMatch is the match of a guess that the draft model made.
	modelMatch = 1 << 20
	// maxModelDraft bounds what it guesses in a row.
	maxModelDraft = 8
)

// DraftWith has a model of those sizes guess, where nothing is repeated.
func (s *Speculator) DraftWith(m compute.Model, size compute.Sizes) {
	s.drafter = &drafter{model: m, size: size, logits: make([]float32, size.Sequences*size.Rows)}
}

// worth is how many tokens the branches are to be given, so that the most come out for the time: rows are in
// the turn anyway.
func (d *drafter) worth(p *pace.Estimator, rows, branches int, usual time.Duration, chance float64) int {
	if d.step == 0 {
		return 1 // to be measured
	}
	best, most := 0, (1+margin)*float64(rows)/float64(usual)
	tokens, c := float64(rows), 1.0
	for k := 1; k <= maxModelDraft; k++ {
		c *= chance
		tokens += c * float64(branches)
		if r := tokens / float64(p.Turn(rows+k*branches)+time.Duration(k)*d.step); r > most {
			best, most = k, r
		}
	}
	return best
}

// guess appends up to n guesses to those of each branch.
func (d *drafter) guess(list []*Branch, n int) {
	began := time.Now()
	d.ready = d.ready[:0]
	d.rows = d.rows[:0]
	for _, b := range list {
		if d.read(b) {
			d.ready = append(d.ready, b)
		}
	}
	silent := len(d.rows) - len(d.ready)
	for i := 0; len(d.rows) > 0; i++ {
		if err := d.model.Forward(d.rows); err != nil {
			for _, b := range list {
				b.Draft.Forget()
			}
			break
		}
		if silent == 0 {
			d.step = pace.Blend(d.step, time.Since(began))
		}
		began, silent = time.Now(), 0
		d.rows, d.next = d.rows[:0], d.next[:0]
		for k, b := range d.ready {
			if d.draw(b, d.logits[k*d.size.Rows:(k+1)*d.size.Rows]) && i+1 < n {
				d.next = append(d.next, b)
			}
		}
		d.ready, d.next = d.next, d.ready
		for k, b := range d.ready {
			g := b.Draft
			if g.seq.Len() >= d.size.Context {
				d.rows = d.rows[:0]
				break
			}
			d.rows = append(d.rows, compute.Row{Seq: g.seq, Token: g.IDs[len(g.IDs)-1], Logits: d.logits[k*d.size.Rows : (k+1)*d.size.Rows]})
		}
	}
	clear(d.rows) // no sequence is kept alive by scratch
	clear(d.ready)
	clear(d.next)
}

// read adds what the branch's sequence lacks of the history to the batch, as much as fits, and reports
// whether that is all of it, so that the last row's logits tell the next token.
func (d *drafter) read(b *Branch) bool {
	g := b.Draft
	if g.seq == nil {
		g.seq = d.model.NewSeq()
	}
	// Virtual tokens of soft prompts are none of its own: its positions begin behind them.
	virtual := b.Of.Virtual
	to := b.History() - virtual
	if to > d.size.Context || len(d.ready) == d.size.Sequences {
		return false
	}
	g.seq.Truncate(to - 1) // what was guessed for a turn that found no pages
	for i := g.seq.Len(); i < to; i++ {
		if len(d.rows) == d.size.Batch || int(b.Token(virtual+i)) >= d.size.Rows {
			return false
		}
		d.rows = append(d.rows, compute.Row{Seq: g.seq, Token: b.Token(virtual + i)})
	}
	k := len(d.ready)
	d.rows[len(d.rows)-1].Logits = d.logits[k*d.size.Rows : (k+1)*d.size.Rows]
	return true
}

// draw adds a guess to those of a branch; false: nothing follows it.
func (d *drafter) draw(b *Branch, logits []float32) bool {
	g, j := b.Draft, b.Of
	d.ids = append(append(d.ids[:0], b.IDs...), g.IDs...)
	id, err := d.sampler.Next(&sample.Step{
		Logits: logits, Limit: min(j.Vocab.Limit(), d.size.Rows), Params: &j.Params,
		Prompt: j.Req.PromptIDs[j.Virtual:], Generated: d.ids, Choice: b.Index, Index: len(d.ids),
	})
	if err != nil || !j.Req.IgnoreEOS && j.Vocab.IsEOG(id) {
		return false
	}
	g.IDs = append(g.IDs, id)
	g.match = modelMatch
	return true
}
