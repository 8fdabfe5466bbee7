package engine

import (
	"context"
	"fmt"
	"slices"

	"edged/core/infer/engine/compute"
	"edged/core/protocol"
)

// proof is a token that a new adapter computes before any request may use it: tensors of which each holds
// finite numbers can still multiply to what is none. Its rows are appended to the next batch, which costs
// running requests less than a forward pass of its own.
type proof struct {
	a      *adapter
	tokens []int32
	seq    compute.Seq
	bound  any
	logits []float32
	rows   int        // in this turn's batch
	done   chan error // takes one
}

// prover has adapters compute their proofs, and decides when these are part of a batch. What it accepts it
// hands to accept.
type prover struct {
	proofs   []*proof // that are not computed yet
	deferred bool     // they are kept out of the next batch, since pages were short
	limit    int      // rows of a batch
	accept   func(a *adapter)
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
		l.prover.proofs = append(l.prover.proofs, p)
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
	_ = l.do(context.WithoutCancel(ctx), func() { l.prover.end(p, ctx.Err()) })
	select {
	case err := <-p.done:
		return err
	default:
		return errClosed
	}
}

// end ends a proof, and accepts its adapter where it succeeded. Later calls do nothing.
func (v *prover) end(p *proof, err error) {
	if p.seq == nil {
		return
	}
	v.proofs = slices.DeleteFunc(v.proofs, func(other *proof) bool { return other == p })
	p.seq.Free()
	p.seq = nil
	if err == nil {
		v.accept(p.a)
	}
	p.done <- err
}

// addTo appends the rows of proofs to the batch, where there is room for them.
func (v *prover) addTo(b *batch) {
	for _, p := range v.proofs {
		p.rows = 0
		if v.deferred || len(b.rows)+len(p.tokens) > v.limit {
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
	v.deferred = false
}

// expected is how many rows the first of the proofs wants, so that prompts leave them free.
func (v *prover) expected() int {
	if len(v.proofs) == 0 {
		return 0
	}
	return len(v.proofs[0].tokens)
}

// rows is the number of rows of proofs in the batch.
func (v *prover) rows() int {
	n := 0
	for _, p := range v.proofs {
		n += p.rows
	}
	return n
}

// putOff keeps proofs out of the next batch, since pages were short for this one; where they were alone in
// it, they fail. It reports whether any were in it.
func (v *prover) putOff(alone bool) bool {
	if v.rows() == 0 {
		return false
	}
	if !alone {
		v.deferred = true
		return true
	}
	for _, p := range slices.Clone(v.proofs) {
		v.end(p, fmt.Errorf("%w: no free KV page for the token that proves it", protocol.ErrNoMemory))
	}
	return true
}

// conclude ends the proofs that were in the batch; err is that of its forward pass.
func (v *prover) conclude(err error) {
	for _, p := range slices.Clone(v.proofs) {
		switch {
		case p.rows == 0:
		case err != nil:
			v.end(p, fmt.Errorf("%w: %w", protocol.ErrModel, err))
		default:
			v.end(p, finite(p.logits))
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
