package engine

import (
	"context"
	"fmt"
	"slices"

	"edged/core/infer/engine/compute"
	"edged/core/protocol"
)

// proof is a token that a new adapter computes before any request may use it: tensors that are numbers, each for itself, can
// still multiply to what is none. Its rows go along with the next batch, so that who decodes meanwhile waits for a row more
// and not for a pass of its own.
type proof struct {
	a      *adapter
	tokens []int32
	seq    compute.Seq
	bound  any
	logits []float32
	rows   int        // in this turn's batch
	done   chan error // takes one
}

// proofVirtual is how many virtual tokens of a soft prompt are computed: all of them were found to be numbers.
const proofVirtual = 8

// proved computes a token with an adapter and takes the adapter in. The caller keeps it where that fails.
func (l *loop) proved(ctx context.Context, a *adapter) error {
	p := &proof{a: a, done: make(chan error, 1), logits: make([]float32, l.size.Rows)}
	for i := range min(a.info.Virtual, proofVirtual) {
		p.tokens = append(p.tokens, int32(-1-i))
	}
	p.tokens = append(p.tokens, 0)
	// Once the loop has it, only the loop gives it back.
	if err := l.do(context.WithoutCancel(ctx), func() {
		p.seq, p.bound = l.model.NewSeq(), l.model.Bind([]compute.Use{{Adapter: a.bound, Scale: 1}})
		l.proofs = append(l.proofs, p)
	}); err != nil {
		return err
	}
	select {
	case err := <-p.done:
		return err
	case <-ctx.Done():
	case <-l.done:
	}
	// It may have come to its end meanwhile, and the adapter in; then it is left there.
	_ = l.do(context.WithoutCancel(ctx), func() { l.end(p, ctx.Err()) })
	select {
	case err := <-p.done:
		return err
	default:
		return errClosed
	}
}

// end takes a proof out of the loop, and where it succeeded its adapter in. Later calls do nothing.
func (l *loop) end(p *proof, err error) {
	if p.seq == nil {
		return
	}
	l.proofs = slices.DeleteFunc(l.proofs, func(other *proof) bool { return other == p })
	p.seq.Free()
	p.seq = nil
	if err == nil {
		l.adapters[p.a.info.ID] = p.a
	}
	p.done <- err
}

// addProofs appends the rows of proofs to the batch, where there is room for them.
func (l *loop) addProofs() {
	b := &l.batch
	for _, p := range l.proofs {
		p.rows = 0
		if l.crowded || len(b.rows)+len(p.tokens) > l.size.Batch {
			continue
		}
		p.rows = len(p.tokens)
		for i, id := range p.tokens {
			r := compute.Row{Seq: p.seq, Adapters: p.bound, Token: id}
			if i == len(p.tokens)-1 {
				r.Logits = p.logits
			}
			b.rows = append(b.rows, r)
		}
	}
	l.crowded = false
}

// expected is how many rows the first of the proofs wants, so that prompts leave them free.
func (l *loop) expected() int {
	if len(l.proofs) == 0 {
		return 0
	}
	return len(l.proofs[0].tokens)
}

// proving is the number of rows of proofs in the batch.
func (l *loop) proving() int {
	n := 0
	for _, p := range l.proofs {
		n += p.rows
	}
	return n
}

// leaveOut keeps proofs out of the next batch, since pages are short. False: there were none in the batch, or nothing else.
func (l *loop) leaveOut() bool {
	if l.proving() == 0 {
		return false
	}
	if len(l.running) > 0 {
		l.crowded = true
		return true
	}
	for _, p := range slices.Clone(l.proofs) {
		l.end(p, fmt.Errorf("%w: no free KV page for the token that proves it", protocol.ErrNoMemory))
	}
	return true
}

// judge ends the proofs that were in the batch.
func (l *loop) judge(err error) {
	for _, p := range slices.Clone(l.proofs) {
		switch {
		case p.rows == 0:
		case err != nil:
			l.end(p, fmt.Errorf("%w: %w", protocol.ErrModel, err))
		default:
			l.end(p, finite(p.logits))
		}
	}
}

// finite refuses logits that are no numbers.
func finite(logits []float32) error {
	for i, v := range logits {
		if v-v != 0 {
			return fmt.Errorf("%w: the logit of token %d is %v after one token with it: its values are too large, or it was trained on another model", protocol.ErrModel, i, v)
		}
	}
	return nil
}
